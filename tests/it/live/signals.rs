//! What the exporter says, against what the clients and the server themselves count.

use std::time::Duration;

use crate::harness::exporter::{Exporter, config};
use crate::harness::load::{Load, Traffic};
use crate::harness::redis::Redis;
use crate::harness::{eventually, throughout, unix_now};

/// 30 s ÷ `time_scale` 3.
const WINDOW: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_hit_ratio_is_the_clients_own_over_the_same_window() {
    let nodes = Redis::fleet(1, &[]).await;
    nodes[0].fill(5_000).await;
    let load = Load::start(nodes[0].port, Traffic { absent_share: 0.10, ..Traffic::default() });
    let exporter = Exporter::serve(&config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 3"), &[]).await;
    exporter.polled_for(&nodes[0].node(), WINDOW).await;

    // A lifetime ratio would lag behind this change; a windowed one has left the past behind after one window.
    load.change(|traffic| traffic.absent_share = 0.40);
    exporter.polled_for(&nodes[0].node(), WINDOW + Duration::from_secs(1)).await;

    throughout("within 0.01 of the clients' count", Duration::from_secs(3), async || {
        let metrics = exporter.metrics().await;
        let node = nodes[0].node();
        let to = metrics.node("cache_storm_node_last_poll_timestamp_seconds", &node).unwrap();
        let counted = load.hit_ratio(to - WINDOW.as_secs_f64(), to);
        let shown = metrics.node("cache_storm_hit_ratio", &node).unwrap();
        let lookups = metrics.node("cache_storm_lookups_per_second", &node).unwrap();
        let misses = metrics.node("cache_storm_misses_per_second", &node).unwrap();
        (shown - counted).abs() <= 0.01
            && (0.55..0.65).contains(&counted)
            && (lookups - 500.0).abs() <= 25.0
            && (misses - 200.0).abs() <= 15.0
    })
    .await;
}

#[tokio::test]
async fn evictions_per_second_are_the_servers_own() {
    let nodes = Redis::fleet(1, &["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let redis = &nodes[0];
    let _load = Load::start(redis.port, Traffic { inserts_per_second: 1_000.0, ..Traffic::default() });
    let exporter = Exporter::serve(&config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 3"), &[]).await;
    eventually("keys are evicted", Duration::from_secs(20), async || redis.info("evicted_keys").await > 0.0).await;
    exporter.polled_for(&redis.node(), Duration::from_secs(2)).await;

    let (from, before) = (unix_now(), redis.info("evicted_keys").await);
    exporter.polled_for(&redis.node(), WINDOW).await;
    let (to, after) = (unix_now(), redis.info("evicted_keys").await);
    let counted = (after - before) / (to - from);

    let metrics = exporter.metrics().await;
    let shown = metrics.node("cache_storm_evicted_keys_per_second", &redis.node()).unwrap();
    assert!((shown - counted).abs() <= 0.05 * counted, "shown {shown}/s, counted {counted}/s");
    let memory = metrics.node("cache_storm_memory_used_ratio", &redis.node()).unwrap();
    assert!((0.9..1.1).contains(&memory), "full to the limit, shown {memory}");
}
