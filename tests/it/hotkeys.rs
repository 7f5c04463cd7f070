//! The command `hotkeys` on captures: what people see, whatever way the capture comes in.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;

/// Runs the command with this standard input.
fn hotkeys(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cache-storm-exporter"));
    command.arg("hotkeys").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // The command may refuse before it has read all.
    drop(stdin.write_all(input));
    drop(stdin);
    process.wait_with_output().unwrap()
}

fn document(arguments: &[&str], input: &[u8]) -> Value {
    let output = hotkeys(&[arguments, &["--format", "json"]].concat(), input);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "no progress unless a terminal shows it");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Ten seconds of an application with one hot setting, a busy counter, and a client that hammers one session.
fn capture() -> Vec<u8> {
    let mut text = "OK\n".to_owned();
    for index in 0..1000 {
        let time = 1_700_000_000.0 + f64::from(index) / 100.0;
        let host = format!("10.0.{}.7:{}", index % 40, 5000 + index);
        let command = match index % 10 {
            0..=3 => r#""GET" "config:feature_flags""#.to_owned(),
            4..=5 => r#""incr" "stats:page_views:global""#.to_owned(),
            6 => format!(r#""SET" "cart:7\x00" "v{index}""#),
            7 => format!(r#""SETEX" "article:{index}" "300" "a secret value""#),
            _ => r#""GET" "session:user:12345""#.to_owned(),
        };
        let host = if index % 10 >= 8 { "10.9.9.9:77".to_owned() } else { host };
        writeln!(text, "{time:.6} [0 {host}] {command}").unwrap();
    }
    text.into_bytes()
}

#[test]
fn a_capture_shows_keys_patterns_and_advice() {
    let report = document(&["--from-file", "-"], &capture());
    assert_eq!(
        (&report["commands"], &report["accesses"], &report["exact"]),
        (&1000.into(), &1000.into(), &true.into())
    );
    assert!((report["seconds"].as_f64().unwrap() - 9.99).abs() < 1e-6);
    let hottest = &report["keys"][0];
    assert_eq!(hottest["key"], "config:feature_flags");
    assert_eq!((&hottest["accesses"], &hottest["reads"], &hottest["writes"]), (&400.into(), &400.into(), &0.into()));
    assert_eq!((&hottest["share"], &hottest["kind"]), (&0.4.into(), &"config".into()));
    assert!((hottest["clients"].as_f64().unwrap() - 16.0).abs() <= 1.0, "{hottest}");
    let keys = report["keys"].as_array().unwrap();
    let of = |name: &str| keys.iter().find(|key| key["key"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(
        (&of("stats:page_views:global")["writes"], &of("session:user:12345")["clients"]),
        (&200.into(), &1.into())
    );
    assert_eq!((&of("cart:7\\x00")["never_expires"], &of("article:107")["ttl_seconds"]), (&true.into(), &300.0.into()));
    let patterns: Vec<&str> =
        report["patterns"].as_array().unwrap().iter().map(|row| row["pattern"].as_str().unwrap()).collect();
    assert!(patterns.contains(&"article:*") && patterns.contains(&"session:user:*"), "{patterns:?}");
    let actions: Vec<(&str, &str)> = report["recommendations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|advice| (advice["key"].as_str().unwrap(), advice["action"].as_str().unwrap()))
        .collect();
    for expected in [
        ("config:feature_flags", "client_side_caching"),
        ("config:feature_flags", "replicate"),
        ("stats:page_views:global", "shard_counter"),
        ("session:user:12345", "find_client"),
    ] {
        assert!(actions.contains(&expected), "{expected:?} in {actions:?}");
    }
    assert!(!report.to_string().contains("secret"), "values stay in the parser");
}

/// What a production cache was asked for (`tests/fixtures/README.md`), as a whole and in pieces as long as those that the
/// sampler of `serve` takes. Every piece names more keys than the sketch can watch.
#[test]
fn real_traffic_gives_its_top_ten_within_the_bounds_printed() {
    let packed = std::fs::File::open("tests/fixtures/accesses/twitter_cluster52.txt.gz").unwrap();
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let accesses: Vec<&str> = text.lines().collect();
    assert_eq!(accesses.len(), 150_000);
    for piece in [&accesses[..]].into_iter().chain(accesses.chunks(5000).step_by(6)) {
        let (mut truth, mut capture) = (HashMap::new(), String::new());
        for (index, key) in piece.iter().enumerate() {
            *truth.entry(format!("object:{key}")).or_insert(0_u64) += 1;
            writeln!(capture, "1700000000.{index:06} [0 10.0.0.1:5000] \"GET\" \"object:{key}\"").unwrap();
        }
        let report = document(&["--from-file", "-"], capture.as_bytes());
        assert_eq!((&report["accesses"], &report["exact"]), (&piece.len().into(), &false.into()));
        let mut heaviest: Vec<u64> = truth.values().copied().collect();
        heaviest.sort_unstable_by(|a, b| b.cmp(a));
        let shown = report["keys"].as_array().unwrap();
        for (rank, key) in shown.iter().enumerate() {
            let times = truth[key["key"].as_str().unwrap()];
            // Keys as heavy as the tenth are as good as the tenth.
            assert!(rank >= 10 || times >= heaviest[9], "{key} was asked for {times} times, the tenth {}", heaviest[9]);
            let (share, error) = (key["share"].as_f64().unwrap(), key["share_error"].as_f64().unwrap());
            let true_share = times as f64 / piece.len() as f64;
            assert!((share - error - 1e-9..=share + 1e-9).contains(&true_share), "{key} was {true_share}");
        }
        // Nothing that was left out can be heavier than is said.
        let left_out = truth.iter().filter(|(name, _)| shown.iter().all(|key| key["key"] != name.as_str()));
        let (last, unseen) = (&shown[shown.len() - 1], report["unseen_share_max"].as_f64().unwrap());
        let most = last["share"].as_f64().unwrap().max(unseen) * piece.len() as f64 + 1e-6;
        assert!(
            left_out.clone().all(|(_, times)| *times as f64 <= most),
            "{:?}",
            left_out.max_by_key(|(_, times)| **times)
        );
    }
}

#[test]
fn a_capture_may_be_a_file_or_packed() {
    let text = capture();
    let expected = document(&["--from-file", "-"], &text);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&text).unwrap();
    let packed = encoder.finish().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &packed).unwrap();
    let path = file.path().to_str().unwrap();
    for (arguments, input) in [(["--from-file", "-"], &packed[..]), (["--from-file", path], &[])] {
        let mut report = document(&arguments, input);
        report["source"] = expected["source"].clone();
        assert_eq!(report, expected, "{arguments:?}");
    }
}

#[test]
fn tables_and_csv_show_the_same() {
    let table = hotkeys(&["--from-file", "-"], &capture());
    let table = String::from_utf8(table.stdout).unwrap();
    for part in [
        "config:feature_flags",
        "40.00%",
        "every count is exact",
        "PATTERN",
        "COMMANDS",
        "RECOMMENDATIONS",
        "never",
        "300s",
    ] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    let rows = hotkeys(&["--from-file", "-", "--format", "csv"], &capture());
    let mut reader = csv::Reader::from_reader(&rows.stdout[..]);
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    assert_eq!((&rows[0][0], &rows[0][1], &rows[0][4]), ("key", "config:feature_flags", "400"));
    assert!(rows.iter().any(|row| &row[0] == "command" && &row[1] == "INCR" && &row[4] == "200"));
}

#[test]
fn what_cannot_be_read_is_said_and_counted_out() {
    let missing = hotkeys(&["--from-file", "no/such/file"], &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no/such/file"));
    let nothing = document(&["--from-file", "-"], b"");
    assert_eq!((&nothing["accesses"], &nothing["keys"]), (&0.into(), &Value::Array(Vec::new())));
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&capture()).unwrap();
    let mut packed = encoder.finish().unwrap();
    packed.truncate(packed.len() / 2);
    let broken = hotkeys(&["--from-file", "-"], &packed);
    assert_eq!(broken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("breaks off"), "what was read is shown");
    assert_eq!(hotkeys(&["--node", "not-configured:1"], &[]).status.code(), Some(64));
    assert_eq!(hotkeys(&["--node", "redis://127.0.0.1:1"], &[]).status.code(), Some(69));
}

#[test]
fn a_node_may_be_one_that_is_discovered() {
    let folder = tempfile::tempdir().unwrap();
    let (config, targets) = (folder.path().join("config.yaml"), folder.path().join("targets.json"));
    std::fs::write(&targets, r#"[{ "targets": ["127.0.0.1:1"] }]"#).unwrap();
    std::fs::write(&config, format!("caches: [{{ name: a, file: '{}' }}]\n", targets.display())).unwrap();
    for (node, status) in [("127.0.0.1:1", 69), ("127.0.0.1:2", 64)] {
        let output = hotkeys(&["--config", config.to_str().unwrap(), "--node", node], &[]);
        assert_eq!(output.status.code(), Some(status), "{node}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
