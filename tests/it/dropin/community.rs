//! What published dashboards and rules for redis_exporter ask for: each metric and label of theirs is there, on
//! `/scrape` and, with `metrics: { redis: full }`, on `/metrics`.

use std::time::Duration;

use super::{Servers, shown};
use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::metrics::Metrics;

/// Whose, and what they select, group by or put into a legend: `metric`, or `metric label label …`, as their files
/// read in 2026. Labels that the scrape job gives (`instance`, `job`, those of Kubernetes and of Percona's agents) are
/// not ours to show; families that redis_exporter 1.86 does not have, or only with a flag that reads keys
/// (`redis_slave_resync_total`, `redis_key_size`), are not here.
const PUBLISHED: [(&str, &[&str]); 20] = [
    (
        "oliver006/redis_exporter contrib/grafana_prometheus_redis_dashboard.json, which is Grafana 763",
        &[
            "redis_commands_processed_total",
            "redis_commands_total cmd",
            "redis_connected_clients",
            "redis_db_keys db",
            "redis_db_keys_expiring",
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
        "oliver006/redis_exporter contrib/redis-mixin",
        &[
            "redis_blocked_clients",
            "redis_commands_duration_seconds_total cmd",
            "redis_connected_slaves",
            "redis_master_last_io_seconds_ago",
            "redis_memory_fragmentation_ratio",
            "redis_memory_used_rss_bytes",
            "redis_total_system_memory_bytes",
        ],
    ),
    (
        "samber/awesome-prometheus-alerts dist/rules/redis/oliver006-redis-exporter.yml",
        &[
            "redis_connected_slaves",
            "redis_instance_info role",
            "redis_rdb_last_save_timestamp_seconds",
            "redis_rejected_connections_total",
            "redis_total_system_memory_bytes",
        ],
    ),
    (
        "grafana/jsonnet-libs redis-mixin",
        &[
            "redis_aof_current_size_bytes",
            "redis_instance_info role redis_mode",
            "redis_master_link_up",
            "redis_master_repl_offset",
            "redis_master_sync_in_progress",
            "redis_sentinel_master_status master_name master_address",
            "redis_slave_info master_host",
            "redis_slave_repl_offset",
        ],
    ),
    (
        "GitLab's runbooks: redis_common_graphs.libsonnet, rules/redis.yml",
        &[
            "redis_cluster_known_nodes",
            "redis_cluster_size",
            "redis_cluster_slots_assigned",
            "redis_cluster_slots_fail",
            "redis_cluster_slots_ok",
            "redis_cluster_slots_pfail",
            "redis_connected_slave_offset_bytes slave_ip",
            "redis_connections_received_total",
            "redis_slowlog_last_id",
        ],
    ),
    (
        "percona/grafana-dashboards dashboards/Valkey: CommandDetails, Replication, Sentinel, Slowlog",
        &[
            "redis_commands_latencies_usec cmd",
            "redis_errors_total",
            "redis_latency_percentiles_usec",
            "redis_mem_not_counted_for_eviction_bytes",
            "redis_mem_total_replication_buffers_bytes",
            "redis_memory_used_dataset_bytes",
            "redis_memory_used_lua_bytes",
            "redis_memory_used_overhead_bytes",
            "redis_memory_used_peak_bytes",
            "redis_repl_backlog_first_byte_offset",
            "redis_repl_backlog_history_bytes",
            "redis_replica_partial_resync_accepted",
            "redis_replica_partial_resync_denied",
            "redis_replica_resyncs_full",
            "redis_replication_backlog_bytes",
            "redis_slowlog_length",
            "redis_total_reads_processed",
            "redis_total_writes_processed",
        ],
    ),
    (
        "percona/grafana-dashboards dashboards/Valkey: Clients, Cluster, ClusterDetails, Load, Memory, Network, Overview",
        &[
            "redis_blocked_clients",
            "redis_client_recent_max_input_buffer_bytes",
            "redis_client_recent_max_output_buffer_bytes",
            "redis_cluster_connections",
            "redis_cluster_known_nodes",
            "redis_cluster_messages_received_total",
            "redis_cluster_messages_sent_total",
            "redis_cluster_slots_fail",
            "redis_cluster_slots_ok",
            "redis_cluster_slots_pfail",
            "redis_cluster_state",
            "redis_commands_total cmd",
            "redis_config_io_threads",
            "redis_config_maxclients",
            "redis_connected_slave_offset_bytes slave_ip slave_port",
            "redis_connected_slaves",
            "redis_db_keys_expiring db",
            "redis_evicted_clients_total",
            "redis_instance_info role maxmemory_policy",
            "redis_io_threaded_reads_processed",
            "redis_io_threaded_writes_processed",
            "redis_io_threads_active",
            "redis_latency_percentiles_usec cmd",
            "redis_master_repl_offset",
        ],
    ),
    (
        "percona/grafana-dashboards dashboards/Valkey: PersistenceDetails, Slowlog",
        &[
            "redis_aof_base_size_bytes",
            "redis_aof_current_size_bytes",
            "redis_aof_delayed_fsync",
            "redis_aof_enabled",
            "redis_aof_last_cow_size_bytes",
            "redis_aof_last_write_status",
            "redis_async_loading",
            "redis_config_key_value key value",
            "redis_config_value key",
            "redis_loading_dump_file",
            "redis_rdb_changes_since_last_save",
            "redis_rdb_last_bgsave_status",
            "redis_rdb_last_cow_size_bytes",
            "redis_rdb_last_save_timestamp_seconds",
            "redis_rdb_saves_total",
        ],
    ),
    (
        "valkey-io/valkey-operator config/prometheus/alerts.yaml, docs/dashboards/valkey-operator.json",
        &[
            "redis_cluster_slots_fail",
            "redis_connected_slaves",
            "redis_mem_fragmentation_ratio",
            "redis_memory_max_bytes",
            "redis_rdb_last_save_timestamp_seconds",
            "redis_rejected_connections_total",
        ],
    ),
    (
        "a mixin's recording rules and alerts of clusters, a Sentinel's overview, both for Kubernetes",
        &[
            "redis_aof_last_bgrewrite_status",
            "redis_cluster_size",
            "redis_cluster_slots_assigned",
            "redis_commands_latencies_usec",
            "redis_connected_slave_offset_bytes",
            "redis_master_link_up master_host master_port",
            "redis_master_sync_in_progress",
            "redis_sentinel_master_status master_name master_address master_status",
            "redis_slave_info master_host",
        ],
    ),
    (
        "alauda/redis-operator: what its ServiceMonitor keeps",
        &[
            "redis_aof_last_bgrewrite_status",
            "redis_aof_last_cow_size_bytes",
            "redis_aof_last_rewrite_duration_sec",
            "redis_aof_rewrite_in_progress",
            "redis_config_maxmemory",
            "redis_cpu_sys_children_seconds_total",
            "redis_cpu_user_children_seconds_total",
            "redis_defrag_key_hits",
            "redis_defrag_key_misses",
            "redis_defrag_misses",
            "redis_latest_fork_seconds",
            "redis_lazyfree_pending_objects",
            "redis_mem_fragmentation_bytes",
            "redis_memory_used_peak_bytes",
            "redis_pubsub_channels",
            "redis_pubsub_patterns",
            "redis_rdb_bgsave_in_progress",
            "redis_rdb_last_bgsave_duration_sec",
            "redis_rdb_last_cow_size_bytes",
        ],
    ),
    (
        "OT-CONTAINER-KIT/redis-operator dashboards/redis-operator-cluster.json",
        &["redis_cluster_slots_fail", "redis_config_maxclients", "redis_rdb_changes_since_last_save"],
    ),
    (
        "a jsonnet library of targets, by pod: clients, memory, persistence, replication, stats",
        &[
            "redis_active_defrag_running",
            "redis_allocator_active_bytes",
            "redis_allocator_allocated_bytes",
            "redis_allocator_frag_bytes",
            "redis_allocator_frag_ratio",
            "redis_allocator_resident_bytes",
            "redis_allocator_rss_bytes",
            "redis_allocator_rss_ratio",
            "redis_aof_last_bgrewrite_status",
            "redis_aof_last_cow_size_bytes",
            "redis_aof_last_write_status",
            "redis_aof_rewrite_in_progress",
            "redis_aof_rewrite_scheduled",
            "redis_client_recent_max_input_buffer_bytes",
            "redis_client_recent_max_output_buffer_bytes",
            "redis_cluster_enabled",
            "redis_config_io_threads",
            "redis_config_maxclients",
            "redis_config_maxmemory",
            "redis_connected_slaves",
            "redis_connections_received_total",
            "redis_cpu_sys_children_seconds_total",
            "redis_cpu_sys_seconds_total",
            "redis_cpu_user_seconds_total",
            "redis_defrag_hits",
            "redis_defrag_key_hits",
            "redis_defrag_key_misses",
            "redis_defrag_misses",
            "redis_evicted_keys_total",
            "redis_expired_stale_percentage",
            "redis_expired_time_cap_reached_total",
            "redis_latest_fork_seconds",
            "redis_lazyfree_pending_objects",
            "redis_loading_dump_file",
            "redis_master_repl_offset",
            "redis_mem_clients_normal",
            "redis_mem_clients_slaves",
            "redis_mem_fragmentation_bytes",
            "redis_mem_fragmentation_ratio",
            "redis_mem_not_counted_for_eviction_bytes",
            "redis_memory_used_bytes",
            "redis_memory_used_dataset_bytes",
            "redis_memory_used_lua_bytes",
            "redis_memory_used_overhead_bytes",
            "redis_memory_used_peak_bytes",
            "redis_memory_used_rss_bytes",
            "redis_memory_used_scripts_bytes",
            "redis_memory_used_startup_bytes",
            "redis_migrate_cached_sockets_total",
            "redis_module_fork_in_progress",
            "redis_module_fork_last_cow_size",
            "redis_pubsub_channels",
            "redis_pubsub_patterns",
            "redis_rdb_bgsave_in_progress",
            "redis_rdb_changes_since_last_save",
            "redis_rdb_last_bgsave_status",
            "redis_rejected_connections_total",
            "redis_repl_backlog_first_byte_offset",
            "redis_repl_backlog_is_active",
            "redis_replication_backlog_bytes",
            "redis_tracking_clients",
        ],
    ),
    (
        "GoogleCloudPlatform: prometheus-engine examples/redis, monitoring-dashboard-samples dashboards/redis/redis-prometheus.json",
        &[
            "redis_blocked_clients",
            "redis_client_recent_max_input_buffer_bytes",
            "redis_cluster_slots_fail",
            "redis_cluster_slots_pfail",
            "redis_cluster_state",
            "redis_commands_total cmd",
            "redis_connected_clients",
            "redis_db_keys",
            "redis_evicted_keys_total",
            "redis_latency_percentiles_usec",
            "redis_mem_fragmentation_ratio",
            "redis_memory_used_rss_bytes",
            "redis_slowlog_length",
            "redis_total_system_memory_bytes",
        ],
    ),
    (
        "harmonycloud/redis-operator chart: redis-alert.yaml, dashboards/Redis.json, which is Grafana 13782",
        &[
            "redis_cluster_known_nodes",
            "redis_cluster_messages_received_total",
            "redis_cluster_messages_sent_total",
            "redis_cluster_slots_assigned",
            "redis_commands_duration_seconds_total cmd",
            "redis_commands_processed_total",
            "redis_config_maxclients",
            "redis_instance_info redis_mode role redis_version",
            "redis_last_slow_execution_duration_seconds",
            "redis_memory_used_rss_bytes",
            "redis_rdb_last_save_timestamp_seconds",
            "redis_sentinel_master_sentinels master_name master_address",
            "redis_sentinel_master_status",
        ],
    ),
    (
        "cprobe/cprobe conf.d/redis/doc: alerts, dashboards",
        &[
            "redis_commands_duration_seconds_total cmd",
            "redis_commands_total cmd",
            "redis_config_maxclients",
            "redis_config_maxmemory",
            "redis_connected_slaves",
            "redis_db_keys db",
            "redis_db_keys_expiring",
            "redis_instance_info role",
            "redis_memory_max_bytes",
            "redis_rejected_connections_total",
        ],
    ),
    (
        "bitnami/charts redis-cluster; bdossantos/prometheus-alert-rules; BaritoLog/prometheus-runbooks; Grafana 10819",
        &[
            "redis_commands_duration_seconds_total cmd",
            "redis_connected_slaves",
            "redis_evicted_keys_total",
            "redis_instance_info role redis_version",
            "redis_rejected_connections_total",
            "redis_total_system_memory_bytes",
            "redis_uptime_in_seconds",
        ],
    ),
    (
        "dashboards and rules that come with other software: AppDynamics, Coroot, Dokploy, FalkorDB",
        &[
            "redis_commands_duration_seconds_total cmd",
            "redis_connected_slave_lag_seconds",
            "redis_exporter_last_scrape_error",
            "redis_instance_info role redis_mode",
            "redis_loading_dump_file",
            "redis_master_sync_in_progress",
            "redis_mem_fragmentation_ratio",
            "redis_memory_used_scripts_bytes",
            "redis_pubsub_channels",
            "redis_slave_info",
        ],
    ),
    (
        "handbooks and dashboards of single teams, mostly of 2026",
        &[
            "redis_allocator_frag_ratio",
            "redis_aof_pending_bio_fsync",
            "redis_client_recent_max_output_buffer_bytes",
            "redis_commands_failed_calls_total cmd",
            "redis_commands_latencies_usec cmd",
            "redis_commands_rejected_calls_total",
            "redis_lazyfree_pending_objects",
            "redis_max_clients",
            "redis_replica_partial_resync_denied",
            "redis_sentinel_master_ckquorum_status master_name",
            "redis_sentinel_master_ok_sentinels master_name",
            "redis_sentinel_master_status master_name master_status",
            "redis_total_error_replies",
        ],
    ),
    (
        "rules and dashboards of single teams",
        &[
            "redis_aof_last_bgrewrite_status",
            "redis_aof_last_write_status",
            "redis_cluster_messages_received_total",
            "redis_cluster_messages_sent_total",
            "redis_cluster_state",
            "redis_config_maxmemory",
            "redis_connected_slave_lag_seconds slave_ip slave_port slave_state",
            "redis_cpu_sys_seconds_total",
            "redis_cpu_user_seconds_total",
            "redis_exporter_last_scrape_duration_seconds",
            "redis_exporter_last_scrape_error",
            "redis_instance_info redis_version os maxmemory_policy tcp_port run_id",
            "redis_last_slow_execution_duration_seconds",
            "redis_latency_percentiles_usec cmd",
            "redis_latency_spike_duration_seconds event_name",
            "redis_latest_fork_seconds",
            "redis_master_link_up master_host master_port",
            "redis_mem_fragmentation_ratio",
            "redis_rdb_last_bgsave_status",
            "redis_sentinel_master_ckquorum_status master_name message",
            "redis_sentinel_master_config_epoch master_name",
            "redis_sentinel_master_ok_sentinels master_name master_address",
            "redis_sentinel_master_ok_slaves master_name master_address",
            "redis_sentinel_master_sentinels master_name master_address",
            "redis_sentinel_master_slaves master_name master_address",
            "redis_sentinel_masters",
            "redis_sentinel_tilt",
            "redis_start_time_seconds",
            "redis_tracking_clients",
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
