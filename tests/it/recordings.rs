//! The same storms, polled every 1, 5, 10, 30 and 60 seconds: one episode each, under its true name, whatever the
//! pace; slow polls may miss a weak storm, none may invent one.

use std::process::Command;

use serde_json::Value;

/// What truly happened in each recording; `None` where nothing did.
const TRUTH: [(&str, Option<&str>); 12] = [
    ("cold_restart", Some("cold_start")),
    ("common_ttl_one", Some("mass_expiration")),
    ("failover", Some("failover_cascade")),
    ("flush_one", Some("mass_invalidation")),
    ("hot_reads", Some("hot_key")),
    ("penetration", Some("unknown")),
    ("replica_stalled", Some("replication_lag")),
    ("surge_2", None),
    ("unlink_prefix", Some("mass_invalidation")),
    ("version_bump", Some("mass_invalidation")),
    ("warm_restart", None),
    ("write_refusal", Some("memory_pressure")),
];

/// An episode of a replay: its rounds, and the type that stood first in most of those that named one.
#[derive(Debug, PartialEq)]
struct Episode {
    rounds: usize,
    storm_type: Option<String>,
}

fn episodes(recording: &str, every: &str) -> Vec<Episode> {
    let file = format!("{}/tests/fixtures/recordings/{recording}.csv.gz", env!("CARGO_MANIFEST_DIR"));
    let binary = env!("CARGO_BIN_EXE_cache-storm-exporter");
    let output = Command::new(binary).args(["replay", "--every", every, &file]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 3, "{recording} every {every} s: {} rounds", lines.len());
    let stormy = |line: &Value| line["severity"].as_u64().unwrap() > 0;
    lines.chunk_by(|a, b| stormy(a) == stormy(b)).filter(|chunk| stormy(&chunk[0])).map(episode).collect()
}

fn episode(rounds: &[Value]) -> Episode {
    let named: Vec<&str> = rounds.iter().filter_map(|line| line["storm_types"][0].as_str()).collect();
    let votes = |name: &str| named.iter().filter(|other| **other == name).count();
    let storm_type = named.iter().max_by_key(|name| votes(name)).map(|name| (*name).to_owned());
    Episode { rounds: rounds.len(), storm_type }
}

#[test]
fn the_pace_of_polls_does_not_change_the_story() {
    let mut wrong = Vec::new();
    for (recording, truth) in TRUTH {
        for every in ["1", "5", "10", "30", "60"] {
            let found = episodes(recording, every);
            let slow = ["30", "60"].contains(&every);
            let right = match (truth, found.as_slice()) {
                (None, []) => true,
                // Two windows of a minute may be all there is of it: unnamed is not misnamed.
                (Some(_), []) => slow,
                (Some(truth), [one]) => one.storm_type.as_deref() == Some(truth) || slow && one.storm_type.is_none(),
                _ => false,
            };
            if !right {
                wrong.push(format!("{recording} every {every} s: {truth:?}, found {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
