//! What dashboards and rules for redis_exporter do with its series, done by a real Prometheus that scrapes `/scrape` by
//! the job of `docs/compatibility.md`: the queries find data, under the labels they find there.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::peer::Peer;
use super::{COMPATIBILITY, Servers};
use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::prometheus::Prometheus;

/// The ways in which published queries put series together, and the labels of what comes out, without `job`.
const QUERIES: [(&str, &str); 19] = [
    // Ratios match series by all of their labels.
    ("100 * redis_memory_used_bytes / (redis_memory_max_bytes > 0)", "instance"),
    ("redis_memory_used_bytes / redis_total_system_memory_bytes", "instance"),
    ("redis_connected_clients / redis_config_maxclients", "instance"),
    ("redis_config_value{key='slowlog-log-slower-than'} / 1000", "instance key"),
    ("redis_cluster_slots_ok / redis_cluster_slots_assigned", "instance"),
    // Joins tell nodes by instance.
    ("irate(redis_commands_total[1m]) and on (instance) redis_instance_info{role='master'}", "cmd instance"),
    (
        "redis_config_key_value{key='appendfsync'} and on (instance) redis_instance_info{role='master'}",
        "instance key value",
    ),
    (
        "redis_master_repl_offset - on (instance) group_right redis_connected_slave_offset_bytes",
        "instance slave_ip slave_port slave_state",
    ),
    ("scalar(max(redis_master_repl_offset)) - redis_slave_repl_offset", "instance master_host master_port"),
    // Sums by labels of the server's.
    ("sum by (db) (redis_db_keys) - sum by (db) (redis_db_keys_expiring)", "db"),
    ("topk(5, sum by (cmd) (rate(redis_commands_total[1m])))", "cmd"),
    ("sum by (err) (redis_errors_total)", "err"),
    ("histogram_quantile(0.99, sum by (le, cmd) (redis_commands_latencies_usec_bucket{cmd='get'}))", "cmd"),
    ("max by (cmd) (redis_latency_percentiles_usec{quantile='99.9'})", "cmd"),
    ("max by (master_name, master_status) (redis_sentinel_master_status)", "master_name master_status"),
    ("min by (master_name) (redis_sentinel_master_ok_slaves)", "master_name"),
    // Sums over what the scrape job adds, and differences to the clock.
    (
        "count without (instance, job) (redis_connected_slaves) - sum without (instance, job) (redis_connected_slaves)",
        "",
    ),
    ("time() - redis_rdb_last_save_timestamp_seconds", "instance"),
    ("max by (event_name) (redis_latency_spike_duration_seconds)", "event_name"),
];

/// A Prometheus with the job of the documentation.
async fn prometheus(scraped: u16, servers: &Servers) -> Prometheus {
    let (_, job) = COMPATIBILITY.split_once("scrape_configs:").expect("a scrape configuration");
    let (job, _) = job.split_once("```").unwrap();
    let targets = servers.nodes().map(|(_, node)| format!("redis://{node}")).join(", ");
    let job = job
        .replace("redis://10.0.0.1:6379, redis://10.0.0.2:6379", &targets)
        .replace("exporter:9736", &format!("127.0.0.1:{scraped}"));
    Prometheus::start(&format!("global: {{ scrape_interval: 1s }}\nscrape_configs:{job}")).await
}

/// What is wrong with the answer to a query that should give series with these labels.
async fn fault(prometheus: &Prometheus, query: &str, labels: &str) -> Option<String> {
    let answer = prometheus.instant(query).await;
    let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let expected: BTreeSet<&str> = labels.split(' ').filter(|label| !label.is_empty()).collect();
    let right = |series: &Value| {
        let labels = series["metric"].as_object().into_iter().flat_map(|labels| labels.keys());
        let labels: BTreeSet<&str> =
            labels.map(String::as_str).filter(|label| !["job", "__name__"].contains(label)).collect();
        let value = series["value"][1].as_str().and_then(|value| value.parse::<f64>().ok());
        labels == expected && value.is_some_and(f64::is_finite)
    };
    (series.is_empty() || !series.iter().all(right)).then(|| format!("{query}: {answer}"))
}

/// Every query finds its data in what a Prometheus scrapes from this port's `/scrape`.
async fn answered(scraped: u16, servers: &Servers) {
    let prometheus = prometheus(scraped, servers).await;
    let mut left = QUERIES.to_vec();
    eventually("data for every query", Duration::from_secs(60), async || {
        let mut faulty = Vec::new();
        for (query, labels) in &left {
            if let Some(fault) = fault(&prometheus, query, labels).await {
                eprintln!("{fault}");
                faulty.push((*query, *labels));
            }
        }
        left = faulty;
        left.is_empty()
    })
    .await;
}

#[tokio::test]
async fn published_ways_of_asking_find_data() {
    let servers = Servers::start().await;
    let exporter = Exporter::serve(&servers.config(), &[]).await;
    answered(exporter.port, &servers).await;
}

#[tokio::test]
#[ignore = "needs redis_exporter: make compare PEER=path"]
async fn redis_exporter_is_asked_alike() {
    let servers = Servers::start().await;
    let peer = Peer::from_environment().await;
    answered(peer.port, &servers).await;
}
