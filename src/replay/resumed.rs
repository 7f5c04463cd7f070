//! A detector that was written down and read back says what the one that ran on says: every recorded trace, cut
//! at every third round.

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::detect::settings::Timing;
use crate::detect::verdict::Episode;
use crate::detect::{CacheDetector, CacheState};

const TRACES: &str = "tests/fixtures/traces";

/// Verdicts on the rounds from `first` on, and the episodes at the end.
fn go_on(mut detector: CacheDetector, rounds: &[(f64, Round)], first: usize) -> (Vec<Arc<CacheVerdict>>, Vec<Episode>) {
    let verdicts = rounds[first..].iter().map(|(t, round)| detector.observe(*t, false, round.clone())).collect();
    (verdicts, detector.episodes().to_vec())
}

fn through_json(state: &CacheState) -> CacheState {
    serde_json::from_slice(&serde_json::to_vec(state).unwrap()).unwrap()
}

fn check(file: &Path) -> usize {
    let recording = Recording::open(file).unwrap();
    let settings = Settings {
        timing: Timing { time_scale: 10.0, ..Timing::default() },
        poll_interval: recording.poll_interval(),
        ..Settings::default()
    };
    let rounds = &recording.rounds;
    let (verdicts, episodes) = go_on(CacheDetector::new(settings.clone()), rounds, 0);
    let mut running = CacheDetector::new(settings.clone());
    for (cut, (t, round)) in rounds.iter().enumerate() {
        if cut % 3 == 0 {
            let state = through_json(&running.export());
            let resumed = CacheDetector::restore(settings.clone(), state, *t);
            let (after, all) = go_on(resumed, rounds, cut);
            for (uncut, resumed) in verdicts[cut..].iter().zip(&after) {
                assert_eq!(resumed, uncut, "{} cut at {t}", file.display());
            }
            assert_eq!(all, episodes, "{} cut at {t}", file.display());
        }
        running.observe(*t, false, round.clone());
    }
    episodes.len()
}

#[test]
fn a_cut_changes_no_verdict_and_no_episode() {
    let entries = std::fs::read_dir(TRACES).unwrap().map(|entry| entry.unwrap().path());
    let mut traces: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "csv")).collect();
    traces.sort();
    assert!(traces.len() >= 19, "{traces:?}");
    let storms: usize = traces.iter().map(|file| check(file)).sum();
    assert!(storms >= 13, "storms were cut too: {storms}");
}
