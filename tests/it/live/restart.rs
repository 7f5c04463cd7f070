//! The exporter itself is killed and started again: with a state file the storm goes on, without one it is found anew.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::exporter::{Exporter, config};
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::redis::Redis;
use crate::harness::{eventually, throughout};

const KEYS: usize = 200_000;
const TIME_SCALE: f64 = 10.0;

/// 200,000 keys do not come back by themselves while the test lasts.
async fn fleet() -> (Vec<Redis>, Vec<Load>) {
    let nodes = Redis::fleet(3, &[]).await;
    let traffic = Traffic { lookups_per_second: 1_000.0, keys: Keys::Uniform(KEYS), ..Traffic::default() };
    for node in &nodes {
        node.fill(KEYS).await;
    }
    let loads = nodes.iter().map(|node| Load::start(node.port, traffic.clone())).collect();
    (nodes, loads)
}

fn configuration(nodes: &[Redis], state_file: Option<&Path>) -> String {
    let state_file = state_file.map(|path| format!("state_file: {}\n", path.display())).unwrap_or_default();
    state_file + &config(nodes, "interval: 500ms, timeout: 400ms", &format!("time_scale: {TIME_SCALE}"))
}

/// Watches until a baseline has grown, then makes a storm of all nodes.
async fn storm(exporter: &Exporter, nodes: &[Redis]) {
    let span = Duration::from_secs_f64(80.0 / TIME_SCALE);
    throughout("severity 0", span, async || exporter.severity().await == 0).await;
    for node in nodes {
        node.run(&["FLUSHALL"]).await;
    }
    eventually("severity 3", Duration::from_secs(6), async || exporter.severity().await == 3).await;
}

async fn episodes(exporter: &Exporter) -> Vec<Value> {
    let (_, body) = exporter.get("/api/v1/episodes").await;
    let document: Value = serde_json::from_str(&body).unwrap();
    document["episodes"].as_array().unwrap().clone()
}

async fn started(exporter: &Exporter) -> f64 {
    exporter.metrics().await.sample("cache_storm_started_timestamp_seconds", &[("cache", "main")]).expect("a storm")
}

/// The newest episode of the state file; null while there is none.
fn saved_episode(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|_| "null".to_owned());
    let state: Value = serde_json::from_str(&text).expect("a whole document at any moment");
    state["caches"]["main"]["episodes"][0].clone()
}

#[tokio::test]
async fn with_a_state_file_a_killed_exporter_goes_on_with_the_same_episode() {
    let (nodes, _loads) = fleet().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let config = configuration(&nodes, Some(&path));
    let exporter = Exporter::serve(&config, &[]).await;
    storm(&exporter, &nodes).await;
    // All of it: the nodes may have joined in two rounds, and each change of severity is written.
    eventually("the storm is in the file", Duration::from_secs(10), async || {
        saved_episode(&path)["affected_nodes_max"] == nodes.len()
    })
    .await;
    let (onset, before) = (started(&exporter).await, episodes(&exporter).await);
    // Kills it with SIGKILL.
    drop(exporter);

    let mut exporter = Exporter::serve(&config, &[]).await;
    assert_eq!(exporter.severity().await, 3, "from the first round on");
    assert_eq!(started(&exporter).await, onset);
    for node in &nodes {
        node.fill(KEYS).await;
    }
    eventually("the storm is over", Duration::from_secs(30), async || exporter.severity().await == 0).await;
    let after = episodes(&exporter).await;
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!((&after[0]["id"], &after[0]["onset"]), (&before[0]["id"], &before[0]["onset"]));
    assert_eq!(after[0]["end_reason"], "recovered");

    assert_eq!(exporter.terminate().await.0, Some(0));
    assert_eq!(saved_episode(&path)["end_reason"], "recovered", "written at the end");
}

#[tokio::test]
async fn without_a_state_file_a_killed_exporter_finds_the_storm_again() {
    let (nodes, _loads) = fleet().await;
    // A life long enough to stand in for a baseline: 150,000 lookups, nineteen of twenty found.
    let script = "for i = 1, 150000 do redis.call('GET', i % 20 == 0 and 'absent' or 'k:' .. i) end";
    for node in &nodes {
        node.run(&["EVAL", script, "0"]).await;
    }
    let config = configuration(&nodes, None);
    let exporter = Exporter::serve(&config, &[]).await;
    storm(&exporter, &nodes).await;
    drop(exporter);

    let exporter = Exporter::serve(&config, &[]).await;
    let within = Duration::from_secs_f64(60.0 / TIME_SCALE);
    eventually("affected again", within, async || exporter.severity().await == 3).await;
    let (_, report) = exporter.get("/api/v1/report").await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["caches"][0]["provisional"], true, "judged by the servers' lives so far");
}

#[tokio::test]
async fn a_corrupt_state_file_costs_one_warning() {
    let nodes = Redis::fleet(1, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::fs::write(&path, "{\"version\":1,").unwrap();
    let mut exporter = Exporter::serve(&configuration(&nodes, Some(&path)), &[]).await;
    let log = exporter.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains(path.to_str().unwrap()) && warnings[0].contains("is corrupt"), "{log}");
    assert_eq!(exporter.terminate().await.0, Some(0));
    let state: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(state["caches"]["main"].is_object(), "replaced by a good one");
}
