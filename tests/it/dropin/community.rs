//! What published dashboards and rules for redis_exporter ask for: each metric and label of theirs is there, on
//! `/scrape` and, with `metrics: { redis: full }`, on `/metrics`.

use std::time::Duration;

use super::{Servers, shown};
use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::metrics::Metrics;

/// Whose, and what they select, group by or put into a legend: `metric`, or `metric label label …`. Labels that the
/// scrape job gives (`instance`, `job`, those of Kubernetes) are not ours to show.
const PUBLISHED: [(&str, &[&str]); 7] = [
    (
        "Grafana 763 and 11835, the dashboards of redis_exporter and of its Helm charts",
        &[
            "redis_commands_processed_total",
            "redis_commands_total cmd",
            "redis_connected_clients",
            "redis_db_keys db",
            "redis_db_keys_expiring db",
            "redis_evicted_keys_total",
            "redis_expired_keys_total",
            "redis_keyspace_hits_total",
            "redis_keyspace_misses_total",
            "redis_memory_max_bytes",
            "redis_memory_used_bytes",
            "redis_net_input_bytes_total",
            "redis_net_output_bytes_total",
            "redis_up",
            "redis_uptime_in_seconds",
        ],
    ),
    (
        "Grafana 14091, the quickstart",
        &[
            "redis_commands_duration_seconds_total cmd",
            "redis_memory_fragmentation_ratio",
            "redis_rejected_connections_total",
            "redis_slowlog_length",
            "redis_start_time_seconds",
        ],
    ),
    (
        "redis-mixin of redis_exporter",
        &[
            "redis_aof_last_bgrewrite_status",
            "redis_cluster_known_nodes",
            "redis_cluster_messages_received_total",
            "redis_cluster_messages_sent_total",
            "redis_cluster_size",
            "redis_cluster_slots_assigned",
            "redis_cluster_slots_fail",
            "redis_cluster_slots_ok",
            "redis_cluster_slots_pfail",
            "redis_cluster_state",
            "redis_connected_slave_lag_seconds slave_ip slave_port slave_state",
            "redis_master_link_up master_host master_port",
            "redis_mem_fragmentation_ratio",
            "redis_memory_used_rss_bytes",
            "redis_rdb_last_bgsave_status",
            "redis_rdb_last_save_timestamp_seconds",
            "redis_total_system_memory_bytes",
        ],
    ),
    (
        "redis-mixin of jsonnet-libs",
        &[
            "redis_aof_current_size_bytes",
            "redis_blocked_clients",
            "redis_instance_info role redis_mode redis_version os maxmemory_policy tcp_port run_id",
            "redis_master_repl_offset",
            "redis_master_sync_in_progress master_host master_port",
            "redis_sentinel_master_status master_name master_address",
            "redis_slave_info master_host master_port read_only",
            "redis_slave_repl_offset master_host master_port",
        ],
    ),
    ("awesome-prometheus-alerts", &["redis_connected_slaves", "redis_instance_info role"]),
    (
        "dashboards of Percona's PMM and of GitLab",
        &[
            "redis_commands_latencies_usec cmd",
            "redis_config_maxclients",
            "redis_connected_slave_offset_bytes slave_ip slave_port slave_state",
            "redis_cpu_sys_seconds_total",
            "redis_cpu_user_seconds_total",
            "redis_errors_total err",
            "redis_last_slow_execution_duration_seconds",
            "redis_latency_percentiles_usec cmd",
            "redis_latest_fork_seconds",
            "redis_tracking_clients",
        ],
    ),
    (
        "rules for Sentinels and for persistence",
        &[
            "redis_aof_last_write_status",
            "redis_config_maxmemory",
            "redis_connections_received_total",
            "redis_exporter_last_scrape_error",
            "redis_exporter_scrape_duration_seconds",
            "redis_latency_spike_duration_seconds event_name",
            "redis_master_last_io_seconds_ago master_host master_port",
            "redis_sentinel_master_ckquorum_status master_name",
            "redis_sentinel_master_ok_sentinels master_name master_address",
            "redis_sentinel_master_ok_slaves master_name master_address",
            "redis_sentinel_master_sentinels master_name master_address",
            "redis_sentinel_master_slaves master_name master_address",
            "redis_sentinel_masters",
        ],
    ),
];

/// What is asked for and not shown by any of these.
fn lacking(scrapes: &[Metrics]) -> Vec<String> {
    let shown: Vec<_> = scrapes.iter().map(shown).collect();
    let mut lacking = Vec::new();
    for (source, wanted) in PUBLISHED {
        for wanted in wanted {
            let (name, labels) = wanted.split_once(' ').unwrap_or((wanted, ""));
            let mut labels = labels.split(' ').filter(|label| !label.is_empty());
            let families: Vec<_> = shown.iter().filter_map(|families| families.get(name)).collect();
            // Labels of different servers' series add up: only a Sentinel has no run_id of a replication.
            let has = |label: &str| families.iter().any(|(_, labels)| labels.contains(label));
            if families.is_empty() || !labels.all(has) {
                lacking.push(format!("{wanted} ({source})"));
            }
        }
    }
    lacking
}

#[tokio::test]
async fn published_dashboards_find_what_they_ask_for() {
    let servers = Servers::start().await;
    let exporter = Exporter::serve(&format!("metrics: {{ redis: full }}\n{}", servers.config()), &[]).await;
    let mut left = Vec::new();
    let within = Duration::from_secs(40);
    // A Sentinel finds replicas at its own pace.
    eventually("everything on /scrape and on /metrics", within, async || {
        let mut scrapes = Vec::new();
        for (_, node) in servers.nodes() {
            scrapes.push(Metrics::parse(exporter.get(&format!("/scrape?target={node}")).await.1));
        }
        left = lacking(&scrapes);
        left.extend(lacking(&[exporter.metrics().await]));
        if !left.is_empty() {
            eprintln!("lacking: {}", left.join(", "));
        }
        left.is_empty()
    })
    .await;
    // On /metrics a series says of which node it is.
    let metrics = exporter.metrics().await;
    let calls: Vec<_> = metrics.all("redis_commands_total", &[("cmd", "get"), ("cache", "main")]).collect();
    assert!(calls.len() >= 2 && calls.iter().all(|sample| sample.labels.contains_key("cache_node")), "{calls:?}");
}
