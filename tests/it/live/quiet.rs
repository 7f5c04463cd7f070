//! Nodes that give no ratio to judge: nothing must be made up for them.

use std::time::Duration;

use crate::harness::exporter::{Exporter, config};
use crate::harness::load::{Load, Traffic};
use crate::harness::redis::Redis;

#[tokio::test]
async fn no_limit_no_traffic_and_no_reads_are_absent_not_zero() {
    let master = Redis::start(&[]).await;
    master.fill(5_000).await;
    let idle = Redis::start(&["--maxmemory", "64mb"]).await;
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]).await;
    let _load = Load::start(master.port, Traffic::default());
    let nodes = [master, idle, replica];
    let [master, idle, replica] = &nodes;
    let mut exporter = Exporter::serve(&config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10"), &[]).await;
    exporter.polled_for(&master.node(), Duration::from_secs(6)).await;

    let metrics = exporter.metrics().await;
    assert!(metrics.node("cache_storm_hit_ratio", &master.node()).unwrap() > 0.9);
    for unread in [idle, replica] {
        assert_eq!(metrics.node("cache_storm_hit_ratio", &unread.node()), None);
        let unknown = [("cache_node", unread.node()), ("state", "unknown".to_owned())];
        let unknown = unknown.each_ref().map(|(label, value)| (*label, value.as_str()));
        assert_eq!(metrics.sample("cache_storm_node_state", &unknown), Some(1.0));
    }
    assert_eq!(metrics.node("cache_storm_memory_used_ratio", &master.node()), None, "maxmemory 0 has no ratio");
    assert!(metrics.node("cache_storm_memory_used_ratio", &idle.node()).unwrap() < 0.5);

    assert!(metrics.all("cache_storm_indicator", &[]).count() > 0);
    for indicator in metrics.all("cache_storm_indicator", &[]) {
        assert_eq!(indicator.value, 0.0, "{:?}", indicator.labels);
    }
    for line in metrics.text.lines().filter(|line| !line.starts_with('#')) {
        assert!(!line.ends_with("Inf") && !line.ends_with("NaN"), "{line}");
    }
    assert_eq!(exporter.severity().await, 0);

    let (code, took) = exporter.terminate().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(2), "ended after {took:?}");
}
