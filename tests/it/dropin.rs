//! `/scrape`: every family that redis_exporter shows of the same server is there, of the same type and with the same
//! labels, but for those departures that `docs/compatibility.md` gives reasons for.
//!
//! `tests/fixtures/dropin/SERVER.txt` lists what redis_exporter 1.86.0 shows of such a server: name, type, labels.

mod asked;
mod community;
mod dashboards;
mod peer;
mod queries;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use cache_storm_exporter::parse::Info;
use cache_storm_exporter::publish::dropin::{self, ALL_DATABASES, ServerView};
use cache_storm_exporter::publish::table::Sink;

use crate::harness::exporter::Exporter;
use crate::harness::free_port;
use crate::harness::metrics::Metrics;
use crate::harness::redis::Redis;
use crate::harness::sentinel::Sentinel;

const COMPATIBILITY: &str = include_str!("../../docs/compatibility.md");

/// About its own work, which has no equal here.
const ITS_OWN: [&str; 3] = [
    "redis_exporter_last_scrape_connect_time_seconds",
    "redis_last_key_groups_scrape_duration_milliseconds",
    "redis_target_scrape_request_errors_total",
];
/// −1 there, absent here.
const ABSENT_AT_MINUS_ONE: [&str; 5] = [
    "redis_aof_current_rewrite_duration_sec",
    "redis_aof_last_rewrite_duration_sec",
    "redis_rdb_current_bgsave_duration_sec",
    "redis_rdb_last_bgsave_duration_sec",
    "redis_second_repl_offset",
];
/// Gauges there although they only grow.
const COUNTERS: [&str; 41] = [
    "redis_aof_delayed_fsync",
    "redis_cluster_messages_received_total",
    "redis_cluster_messages_sent_total",
    "redis_cluster_stats_bytes_received",
    "redis_cluster_stats_bytes_sent",
    "redis_cluster_stats_messages_auth_ack_received",
    "redis_cluster_stats_messages_auth_ack_sent",
    "redis_cluster_stats_messages_auth_req_received",
    "redis_cluster_stats_messages_auth_req_sent",
    "redis_cluster_stats_messages_fail_received",
    "redis_cluster_stats_messages_fail_sent",
    "redis_cluster_stats_messages_meet_received",
    "redis_cluster_stats_messages_meet_sent",
    "redis_cluster_stats_messages_mfstart_received",
    "redis_cluster_stats_messages_mfstart_sent",
    "redis_cluster_stats_messages_module_received",
    "redis_cluster_stats_messages_module_sent",
    "redis_cluster_stats_messages_ping_received",
    "redis_cluster_stats_messages_ping_sent",
    "redis_cluster_stats_messages_pong_received",
    "redis_cluster_stats_messages_pong_sent",
    "redis_cluster_stats_messages_publish_received",
    "redis_cluster_stats_messages_publish_sent",
    "redis_cluster_stats_messages_publishshard_received",
    "redis_cluster_stats_messages_publishshard_sent",
    "redis_cluster_stats_messages_update_received",
    "redis_cluster_stats_messages_update_sent",
    "redis_cluster_stats_module_bytes_received",
    "redis_cluster_stats_module_bytes_sent",
    "redis_cluster_stats_pubsub_bytes_received",
    "redis_cluster_stats_pubsub_bytes_sent",
    "redis_defrag_hits",
    "redis_defrag_key_hits",
    "redis_defrag_key_misses",
    "redis_defrag_misses",
    "redis_lazyfreed_objects",
    "redis_long_lock_waits_total",
    "redis_rdb_saves_total",
    "redis_replica_partial_resync_accepted",
    "redis_replica_partial_resync_denied",
    "redis_replica_resyncs_full",
];
/// Labels that are left out here.
const LABELS_LEFT_OUT: [(&str, &str); 3] = [
    ("redis_exporter_build_info", "build_date"),
    ("redis_exporter_build_info", "commit_sha"),
    ("redis_exporter_build_info", "golang_version"),
];
/// Asked for on top of `INFO`, or of what those servers had not seen when they were captured.
const NOT_CAPTURED: [&str; 10] = [
    "redis_cluster_",
    "redis_commands_latencies_usec",
    "redis_config_client_output_buffer_limit",
    "redis_config_io_threads",
    "redis_last_slow_execution_duration_seconds",
    "redis_latency_",
    "redis_sentinel_master_",
    "redis_slowlog_",
    "redis_connected_slave_",
    "redis_errors_total",
];

/// Of a family: its type and its labels.
type Shape = (String, BTreeSet<String>);

/// What redis_exporter shows of the server, but for what is left out here on purpose.
fn expected(server: &str) -> BTreeMap<String, Shape> {
    let path = format!("{}/tests/fixtures/dropin/{server}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let sentinel = server.ends_with("sentinel");
    let mut families = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        // A Sentinel holds no keys; the position of a part in dbN says nothing of its meaning.
        let wrong = name == "redis_db_keys_cached" || sentinel && name.starts_with("redis_db_");
        if wrong || ITS_OWN.contains(&name) || ABSENT_AT_MINUS_ONE.contains(&name) {
            continue;
        }
        let kind = if COUNTERS.contains(&name) { "counter" } else { kind };
        let labels = words.flat_map(|labels| labels.split(',')).filter(|label| !label.is_empty());
        // Empty, on a server that answers: no label.
        let empty = |label: &str| (name, label) == ("redis_exporter_last_scrape_error", "err");
        let labels = labels.filter(|label| !LABELS_LEFT_OUT.contains(&(name, label)) && !empty(label));
        let labels = labels.map(str::to_owned).collect();
        families.insert(name.to_owned(), (kind.to_owned(), labels));
    }
    families
}

/// Families of a scrape and their types.
fn kinds(metrics: &Metrics) -> BTreeMap<String, String> {
    let lines = metrics.text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    lines.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// What a scrape shows. A label that no series has a value for cannot be seen.
fn shown(metrics: &Metrics) -> BTreeMap<String, Shape> {
    kinds(metrics)
        .into_iter()
        .map(|(name, kind)| {
            let names = ["", "_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
            let labels = names.iter().flat_map(|name| metrics.all(name, &[])).flat_map(|sample| sample.labels.keys());
            let labels = labels.filter(|label| !["le", "quantile"].contains(&label.as_str())).cloned().collect();
            (name, (kind, labels))
        })
        .collect()
}

/// How a scrape differs from what is expected of such a server.
fn faults(server: &str, metrics: &Metrics) -> Vec<String> {
    let (shown, mut faults) = (shown(metrics), Vec::new());
    for (name, (kind, labels)) in expected(server) {
        match shown.get(&name) {
            None => faults.push(format!("{name} is missing")),
            Some(shape) if shape.0 != kind => faults.push(format!("{name} is a {}, expected a {kind}", shape.0)),
            // A part of the identity that a server does not give is an empty label there, none here.
            Some(shape) if name == "redis_instance_info" && shape.1.contains("run_id") => {}
            Some(shape) if shape.1 != labels => {
                faults.push(format!("{name} has the labels {:?}, expected {labels:?}", shape.1));
            }
            Some(_) => {}
        }
    }
    faults
}

/// One server of each kind, each with something to tell.
struct Servers {
    master: Redis,
    replica: Redis,
    cluster: Redis,
    /// For it to talk to.
    _other_of_cluster: Redis,
    append_only: Redis,
    sentinel: Sentinel,
}

impl Servers {
    async fn start() -> Self {
        let master = Redis::start(&["--maxmemory", "50mb"]).await;
        let replica = Redis::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]).await;
        let buses = [free_port(), free_port()].map(|port| port.to_string());
        let [cluster, other] = buses.each_ref().map(|bus| ["--cluster-enabled", "yes", "--cluster-port", bus]);
        let (cluster, other) = (Redis::start(&cluster).await, Redis::start(&other).await);
        cluster.run(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string(), &buses[1]]).await;
        let append_only =
            Redis::start(&["--appendonly", "yes", "--slowlog-log-slower-than", "0", "--enable-debug-command", "yes"])
                .await;
        cluster.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        append_only.run(&["CONFIG", "SET", "latency-monitor-threshold", "1"]).await;
        append_only.run(&["EVAL", "local t for i = 1, 4e6 do t = i end", "0"]).await;
        // The last is an error on every server; the cluster, which is down for a moment more, has others.
        for node in [&master, &append_only, &cluster] {
            let mut client = node.client().await;
            for command in [&["SET", "k", "v", "EX", "1000"][..], &["GET", "k"], &["LPUSH", "k", "v"]] {
                client.call(command).await.unwrap();
            }
        }
        append_only.run(&["BGREWRITEAOF"]).await;
        // Latencies of every size that slow commands have.
        for seconds in ["0.005", "0.012", "0.025", "0.05"] {
            append_only.run(&["DEBUG", "SLEEP", seconds]).await;
        }
        // More than one database, and a login that is refused.
        let mut client = master.client().await;
        for command in [&["SELECT", "3"][..], &["SET", "k", "v"], &["AUTH", "nobody", "x"]] {
            client.call(command).await.unwrap();
        }
        let sentinel = Sentinel::start(free_port(), master.port, 1, None).await;
        Self { master, replica, cluster, _other_of_cluster: other, append_only, sentinel }
    }

    /// What each is, and its address.
    fn nodes(&self) -> [(&'static str, String); 5] {
        [
            ("master", self.master.node()),
            ("replica", self.replica.node()),
            ("cluster", self.cluster.node()),
            ("append_only", self.append_only.node()),
            ("sentinel", self.sentinel.node()),
        ]
    }

    /// A configuration with one cache `main` of all of them.
    fn config(&self) -> String {
        let urls = self.nodes().map(|(_, node)| format!("redis://{node}"));
        format!("poll: {{ interval: 500ms }}\ncaches:\n  - name: main\n    nodes: [{}]\n", urls.join(", "))
    }
}

#[tokio::test]
async fn a_scrape_has_what_the_dashboards_know() {
    let servers = Servers::start().await;
    let exporter = Exporter::serve(&servers.config(), &[]).await;
    let scrape = async |node: &str| {
        let (status, body) = exporter.get(&format!("/scrape?target=redis://{node}")).await;
        assert_eq!(status, 200, "{node}: {body}");
        Metrics::parse(body)
    };
    for (role, node) in servers.nodes() {
        let server = format!("redis-7.0.15_{role}");
        // The first scrape says that somebody reads; what `INFO` lacks is there from the next poll on. A Sentinel
        // finds a master's replicas at its own pace.
        let begun = Instant::now();
        loop {
            let faults = faults(&server, &scrape(&node).await);
            if faults.is_empty() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{server}:\n{}", faults.join("\n"));
            sleep(Duration::from_millis(200)).await;
        }
    }

    // Values are the server's own, in base units.
    let metrics = scrape(&servers.master.node()).await;
    assert_eq!(metrics.sample("redis_memory_max_bytes", &[]), Some(50.0 * 1024.0 * 1024.0));
    assert_eq!(metrics.sample("redis_db_keys", &[("db", "db0")]), Some(1.0));
    assert_eq!(metrics.sample("redis_commands_failed_calls_total", &[("cmd", "lpush")]), Some(1.0));
    assert_eq!(metrics.sample("redis_errors_total", &[("err", "WRONGTYPE")]), Some(1.0));
    assert_eq!(metrics.sample("redis_exporter_last_scrape_error", &[]), Some(0.0));
    assert_eq!(metrics.sample("redis_commands_latencies_usec_count", &[("cmd", "lpush")]), Some(1.0));
    let slow = scrape(&servers.append_only.node())
        .await
        .sample("redis_latency_spike_duration_seconds", &[("event_name", "command")]);
    assert!(slow.is_some_and(|seconds| (0.001..10.0).contains(&seconds)), "{slow:?}");
    let cluster = scrape(&servers.cluster.node()).await;
    assert_eq!(cluster.sample("redis_cluster_state", &[]), Some(1.0));
    assert_eq!(cluster.sample("redis_cluster_stats_messages_meet_sent", &[]), Some(1.0), "by CLUSTER MEET");
    let usec = scrape(&servers.append_only.node())
        .await
        .sample("redis_latency_percentiles_usec", &[("cmd", "eval"), ("quantile", "99.9")]);
    assert!(usec.is_some_and(|usec| usec > 1000.0), "{usec:?}");

    // Whoever is not configured is not connected to.
    for target in ["127.0.0.1:1", "http://127.0.0.1:80", "redis://user:pass@127.0.0.1:6379", ""] {
        let (status, body) = exporter.get(&format!("/scrape?target={target}")).await;
        assert_eq!(status, 404, "{target}: {body}");
        assert!(!body.contains("pass"), "{body}");
    }
    assert_eq!(exporter.get("/scrape").await.0, 400);
}

#[tokio::test]
async fn a_node_that_is_down_says_so_and_nothing_else() {
    let port = free_port();
    let config = format!("caches:\n  - name: main\n    nodes: [redis://127.0.0.1:{port}]\n");
    let exporter = Exporter::serve(&config, &[]).await;
    let (status, body) = exporter.get(&format!("/scrape?target=127.0.0.1:{port}")).await;
    let metrics = Metrics::parse(body);
    assert_eq!((status, metrics.sample("redis_up", &[])), (200, Some(0.0)));
    assert_eq!(metrics.sample("redis_exporter_last_scrape_error", &[("err", "refused")]), Some(1.0));
    let names: Vec<&str> = metrics.text.lines().filter(|line| line.starts_with("redis_")).collect();
    assert!(names.iter().all(|line| line.starts_with("redis_up") || line.starts_with("redis_exporter_")), "{names:?}");
}

#[test]
fn newer_servers_have_all_of_theirs_too() {
    for (capture, server) in [
        ("redis-8.0.6_master", "redis-8.0.6_master"),
        ("redis-8.0.6_replica", "redis-8.0.6_replica"),
        ("redis-8.0.6_sentinel", "redis-8.0.6_sentinel"),
        ("valkey-9.1.2_master", "valkey-9.1.2_master"),
        ("valkey-9.1.2_cluster", "valkey-9.1.2_cluster"),
    ] {
        let text = std::fs::read_to_string(format!("{}/tests/fixtures/info/{capture}.txt", env!("CARGO_MANIFEST_DIR")));
        let text = text.unwrap();
        let info = Info::parse(&text);
        let view = ServerView { up: true, info, databases_max: ALL_DATABASES, ..ServerView::default() };
        let mut shown = BTreeMap::new();
        for row in dropin::rows() {
            row.read(
                &view,
                &mut Sink(&mut |_, _| {
                    shown.insert(row.family.name, row.family.kind.as_str());
                }),
            );
        }
        for (name, (kind, _)) in expected(server) {
            // Polls are counted, not captured.
            if NOT_CAPTURED.iter().any(|prefix| name.starts_with(prefix)) || name.starts_with("redis_exporter_") {
                continue;
            }
            assert_eq!(shown.get(name.as_str()), Some(&kind.as_str()), "{server}: {name}");
        }
    }
}

#[test]
fn every_departure_stands_in_the_documentation() {
    let departures = ITS_OWN.iter().chain(&ABSENT_AT_MINUS_ONE).chain(&COUNTERS).copied();
    for name in departures.chain(LABELS_LEFT_OUT.iter().map(|(name, _)| *name)).chain(["redis_db_keys_cached"]) {
        assert!(COMPATIBILITY.contains(&format!("`{name}`")), "docs/compatibility.md does not mention {name}");
    }
    let table = dropin::markdown();
    assert!(COMPATIBILITY.contains(&table), "docs/compatibility.md must hold this table\n{table}");
}
