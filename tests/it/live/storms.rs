//! Storms made on real servers, and what severity says to them.

use std::time::Duration;

use crate::harness::exporter::{Exporter, config};
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::redis::Redis;
use crate::harness::{eventually, throughout};

/// Room for one more round and one more look.
const SLACK: Duration = Duration::from_millis(700);

#[tokio::test]
async fn a_dead_node_is_down_as_refused_and_dead_nodes_are_a_storm() {
    let mut nodes = Redis::fleet(3, &[]).await;
    let loads = loads(&nodes, &Traffic::default()).await;
    let interval = Duration::from_secs(1);
    let exporter = Exporter::serve(&config(&nodes, "interval: 1s, timeout: 800ms", ""), &[]).await;
    calm(&exporter, Duration::from_secs(8)).await;

    nodes[0].kill();
    let dead = nodes[0].node();
    eventually("cache_storm_node_up 0 within two intervals", 2 * interval + SLACK, async || {
        exporter.metrics().await.node("cache_storm_node_up", &dead) == Some(0.0)
    })
    .await;
    assert_eq!(exporter.node_report(&dead).await["down_reason"], "refused");
    let failures = [("cache_node", dead.as_str()), ("reason", "refused")];
    assert!(exporter.metrics().await.sample("cache_storm_poll_failures_total", &failures).unwrap() >= 1.0);

    eventually("one of three dead: major", Duration::from_secs(30), async || exporter.severity().await == 2).await;
    let metrics = exporter.metrics().await;
    for (alive, load) in nodes.iter().zip(&loads).skip(1) {
        assert_eq!(metrics.node("cache_storm_node_up", &alive.node()), Some(1.0));
        assert_eq!(metrics.node("cache_storm_node_affected", &alive.node()), Some(0.0));
        let shown = metrics.node("cache_storm_hit_ratio", &alive.node()).unwrap();
        assert!((shown - load.hit_ratio(0.0, f64::MAX)).abs() < 0.02, "its ratio is its own: {shown}");
    }

    nodes[1].kill();
    nodes[2].kill();
    eventually("all dead: critical", Duration::from_secs(30), async || exporter.severity().await == 3).await;
}

#[tokio::test]
async fn a_flush_under_uniform_lookups_is_critical_and_over_after_a_reload_of_the_keys() {
    let keys = 200_000;
    let traffic = Traffic { lookups_per_second: 1_000.0, keys: Keys::Uniform(keys), ..Traffic::default() };
    let nodes = Redis::fleet(3, &[]).await;
    for node in &nodes {
        node.fill(keys).await;
    }
    let _loads = loads(&nodes, &traffic).await;
    let exporter = Exporter::serve(&config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 5"), &[]).await;
    quiet_past(&exporter, 5.0).await;

    flush(&nodes).await;
    // 30 s and 90 s, divided by the time scale.
    let announced = eventually("severity 3", Duration::from_secs(6), async || exporter.severity().await == 3).await;
    let report = exporter.node_report(&nodes[0].node()).await;
    assert!(!report["indicators"].as_array().unwrap().is_empty(), "after {announced:?}: {report}");
    let lasts = async || exporter.severity().await == 3;
    throughout("200,000 keys do not come back by themselves in seconds", Duration::from_secs(4), lasts).await;

    for node in &nodes {
        node.fill(keys).await;
    }
    eventually("severity falls", Duration::from_secs(18), async || exporter.severity().await < 3).await;
    eventually("the storm is over", Duration::from_secs(30), async || exporter.severity().await == 0).await;
}

/// A small hot cache refills within a poll or two: the ratio alone would miss it, the seen cause does not.
#[tokio::test]
async fn a_flush_of_a_small_hot_cache_is_seen_although_it_refills_at_once() {
    let keys = 3_000;
    let traffic = Traffic { lookups_per_second: 1_000.0, keys: Keys::zipf(keys, 0.9), ..Traffic::default() };
    let (nodes, _loads, exporter) = quiet_fleet(keys, &traffic).await;

    flush(&nodes).await;
    eventually("severity 3", Duration::from_secs(3), async || exporter.severity().await == 3).await;
}

#[tokio::test]
async fn resetstat_and_a_warm_restart_raise_nothing() {
    let (mut nodes, _loads, exporter) = quiet_fleet(5_000, &Traffic::default()).await;

    nodes[0].run(&["CONFIG", "RESETSTAT"]).await;
    calm(&exporter, Duration::from_secs(5)).await;
    nodes[1].restart_warm().await;
    calm(&exporter, Duration::from_secs(5)).await;
    assert_eq!(exporter.metrics().await.node("cache_storm_node_up", &nodes[1].node()), Some(1.0));
}

/// It answers `INFO` all the while, and refuses everybody else.
#[tokio::test]
async fn a_master_that_loads_its_data_set_is_a_cold_start_until_it_serves() {
    let (mut nodes, _loads, exporter) = quiet_fleet(5_000, &Traffic::default()).await;

    nodes[0].restart_loading(Duration::from_millis(1)).await;
    eventually("one of three: major", Duration::from_secs(5), async || exporter.severity().await == 2).await;
    let report = exporter.node_report(&nodes[0].node()).await;
    assert_eq!((&report["up"], &report["indicators"]), (&true.into(), &["unreachable"][..].into()), "{report}");
    assert_eq!(report["evidence"]["restart_keys_before"], 5_000.0, "{report}");
    let (_, body) = exporter.get("/api/v1/report").await;
    let named = serde_json::from_str::<serde_json::Value>(&body).unwrap()["caches"][0]["storm_types"][0].clone();
    assert_eq!((&named["storm_type"], &named["sub_reason"]), (&"cold_start".into(), &"loading".into()), "{named}");
    eventually("its keys are there", Duration::from_secs(30), async || exporter.severity().await == 0).await;
    let (_, episodes) = exporter.get("/api/v1/episodes").await;
    assert_eq!(episodes.matches("\"onset").count(), 1, "{episodes}");
}

/// Three masters with so many keys under that traffic, watched at ten times the pace until they have a baseline.
async fn quiet_fleet(keys: usize, traffic: &Traffic) -> (Vec<Redis>, Vec<Load>, Exporter) {
    let nodes = Redis::fleet(3, &[]).await;
    for node in &nodes {
        node.fill(keys).await;
    }
    let loads = loads(&nodes, traffic).await;
    let exporter = Exporter::serve(&config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10"), &[]).await;
    quiet_past(&exporter, 10.0).await;
    (nodes, loads, exporter)
}

async fn loads(nodes: &[Redis], traffic: &Traffic) -> Vec<Load> {
    nodes.iter().map(|node| Load::start(node.port, traffic.clone())).collect()
}

async fn flush(nodes: &[Redis]) {
    for node in nodes {
        node.run(&["FLUSHALL"]).await;
    }
}

/// Lets a baseline grow: three slices of 10 s that lie a window of 30 s back, and a little more.
async fn quiet_past(exporter: &Exporter, time_scale: f64) {
    calm(exporter, Duration::from_secs_f64(80.0 / time_scale)).await;
}

async fn calm(exporter: &Exporter, span: Duration) {
    throughout("severity 0", span, async || exporter.severity().await == 0).await;
}
