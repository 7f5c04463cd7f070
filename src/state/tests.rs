use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::detect::CacheDetector;
use crate::detect::settings::Settings;
use crate::detect::verdict::Observation;
use crate::parse::Sample;

const NOW: f64 = 1.7e9;

/// Of one cache with one node, taken at [`NOW`].
fn state() -> FleetState {
    let mut detector = CacheDetector::new(Settings::default());
    let sample = Box::new(Sample { hits: Some(u64::MAX), ..Sample::default() });
    detector.observe(NOW + 0.1, false, vec![("n0:1".into(), Observation::Up { sample, hot_key: None })]);
    FleetState::new(NOW, NOW + 0.123, BTreeMap::from([("a".into(), detector.export())]))
}

fn file(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("state")
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_is_written_is_read_by_its_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    assert!(read(&path, NOW).unwrap().is_none(), "no file yet: nothing to say");
    // Twice, over what a crash left behind.
    fs::write(beside(&path), "half").unwrap();
    for _ in 0..2 {
        write(&path, &state()).unwrap();
    }
    let read = read(&path, NOW + 60.0).unwrap().unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(state()).unwrap());
    assert_eq!(read.detector_now(NOW + 60.0), NOW + 60.123);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(&folder), ["state"]);
}

#[test]
fn detector_time_never_goes_back() {
    assert_eq!(state().detector_now(NOW - 30.0), NOW + 0.123);
}

#[test]
fn an_unusable_file_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    write(&path, &state()).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let refused = |content: &str, now: f64| {
        fs::write(&path, content).unwrap();
        read(&path, now).unwrap_err().to_string()
    };
    assert_eq!(refused(&whole, NOW + 901.0), "is 15 minutes old, expected at most 15");
    assert_eq!(refused(&whole, NOW - 61.0), "comes from 61 s in the future: was the clock set back?");
    let foreign = refused("{\"version\":2,\"caches\":[]}", NOW);
    assert_eq!(foreign, "is of version 2, expected 1: written by another release");
    for content in ["", "null", "{}", "[1,2", "\u{0}\u{0}", &whole[..whole.len() / 2], &whole.replace("\"a\"", "7")] {
        let error = refused(content, NOW);
        assert!(error.starts_with("is corrupt: "), "{content}: {error}");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(read(&path, NOW), Err(StateError::Io(_))));
    assert!(resume(&path, NOW).is_none());
}

#[test]
fn a_cut_anywhere_is_refused_and_never_a_panic() {
    let whole = serde_json::to_string(&state()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for end in (0..whole.len()).step_by(7) {
        fs::write(file(&folder), &whole[..end]).unwrap();
        assert!(matches!(read(&file(&folder), NOW), Err(StateError::Corrupt(_))), "cut at {end}");
    }
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder);
    write(&path, &state()).unwrap();
    // A folder in the way of the new file: even root is refused.
    fs::create_dir(beside(&path)).unwrap();
    assert!(matches!(write(&path, &state()), Err(StateError::Io(_))));
    assert!(probe(&path).is_err());
    assert!(read(&path, NOW).unwrap().is_some());
}

#[tokio::test]
async fn the_keeper_writes_soon_after_a_change_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (file(&folder), Arc::new(Notify::new()));
    let keeper = Keeper::start(path.clone(), Arc::clone(&moved), state);
    assert!(!path.exists());
    moved.notify_one();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        assert!(Instant::now() < deadline, "not written");
        sleep(Duration::from_millis(5)).await;
    }
    fs::remove_file(&path).unwrap();
    keeper.finish().await;
    assert!(path.exists(), "written at the end");
}

#[tokio::test]
async fn the_keeper_outlives_a_folder_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/state");
    let keeper = Keeper::start(path.clone(), Arc::default(), state);
    fs::create_dir(folder.path().join("later")).unwrap();
    keeper.finish().await;
    assert!(path.exists());
}
