//! The newcomer's first minute.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::eventually;
use crate::harness::exporter::{Exporter, run};
use crate::live::rules::missing_in_a_demo;

const FAMILIES: &[&str] = &[
    "cache_storm_node_up",
    "cache_storm_node_state",
    "cache_storm_node_info",
    "cache_storm_hit_ratio",
    "cache_storm_lookups_per_second",
    "cache_storm_misses_per_second",
    "cache_storm_commands_per_second",
    "cache_storm_evicted_keys_per_second",
    "cache_storm_expired_keys_per_second",
    "cache_storm_memory_used_ratio",
    "cache_storm_indicator",
    "cache_storm_poll_duration_seconds_count",
    "cache_storm_poll_failures_total",
    "cache_storm_severity",
    "cache_storm_affected_nodes",
    "cache_storm_nodes",
    "cache_storm_threshold",
    "cache_storm_exporter_build_info",
    "redis_up",
    "redis_uptime_in_seconds",
    "redis_start_time_seconds",
    "redis_instance_info",
    "redis_connected_clients",
    "redis_memory_used_bytes",
    "redis_memory_max_bytes",
    "redis_commands_processed_total",
    "redis_keyspace_hits_total",
    "redis_keyspace_misses_total",
    "redis_expired_keys_total",
    "redis_evicted_keys_total",
    "redis_db_keys",
    "redis_net_input_bytes_total",
    "redis_net_output_bytes_total",
    "redis_cpu_sys_seconds_total",
    "redis_cpu_user_seconds_total",
    "redis_connected_slaves",
    "redis_master_link_up",
    "redis_master_last_io_seconds_ago",
    "redis_master_repl_offset",
    "redis_slave_repl_offset",
];

#[tokio::test]
async fn demo_shows_every_family_and_a_storm_that_comes_and_goes() {
    let arguments = ["demo", "--first-storm", "15s", "--every", "60s", "--seed", "7"];
    let exporter = Exporter::start(tempfile::tempdir().unwrap(), &arguments, &[]).await;

    let mut missing = FAMILIES.to_vec();
    // Families are looked for over a while: a windowed one needs a window.
    let wait = async || {
        let metrics = exporter.metrics().await;
        missing.retain(|family| metrics.all(family, &[]).next().is_none());
        missing.is_empty()
    };
    let watched = tokio::time::timeout(Duration::from_secs(15), eventually("families", Duration::MAX, wait)).await;
    assert!(watched.is_ok(), "still missing after 15 s: {missing:?}");
    let metrics = exporter.metrics().await;
    assert!(metrics.all("cache_storm_node_up", &[]).count() >= 4, "several nodes");
    assert_eq!(promtool_check(&metrics.text), "", "promtool has nothing to say");

    // What a container's health check asks.
    let address = format!("http://127.0.0.1:{}", exporter.port);
    let asked = run("", &["check", "--url", &address], &[]).await;
    assert_eq!((asked.code, asked.output.as_str()), (Some(0), "ready\n"));
    let nobody = run("", &["check", "--url", "http://127.0.0.1:1"], &[]).await;
    assert_eq!(nobody.code, Some(69), "{}", nobody.output);

    let worst = async || {
        let metrics = exporter.metrics().await;
        metrics.all("cache_storm_severity", &[]).map(|sample| sample.value).fold(0.0, f64::max)
    };
    eventually("a storm", Duration::from_secs(45), async || worst().await > 0.0).await;
    let storm = exporter.metrics().await;
    eventually("its end", Duration::from_secs(60), async || worst().await == 0.0).await;
    let missing = missing_in_a_demo(&[metrics, storm, exporter.metrics().await]);
    assert!(missing.is_empty(), "alerting rules read what is not there: {missing:#?}");
}

/// What `promtool check metrics` says, errors and warnings alike.
fn promtool_check(text: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool must be installed (`make test` does that): {error}"));
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}
