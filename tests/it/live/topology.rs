//! Replicas, Sentinels and a cluster, as real processes.

use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::harness::exporter::Exporter;
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::resp::Reply;
use crate::harness::sentinel::{MASTER, Sentinel};
use crate::harness::{eventually, free_port, throughout, unix_now};

/// A busy machine may take this long to show what is bound to show.
const PATIENCE: Duration = Duration::from_secs(40);

/// A configuration with one cache `main` of these URLs.
fn config(urls: &[String], poll: &str, time_scale: u32) -> String {
    format!(
        "poll: {{ {poll} }}\ndetection: {{ time_scale: {time_scale} }}\ncaches:\n  - name: main\n    nodes: [{}]\n",
        urls.join(", ")
    )
}

/// A master with so many replicas, all in sync.
async fn replicated(replicas: usize) -> Vec<Redis> {
    let nodes = Redis::fleet(replicas + 1, &["--repl-diskless-sync-delay", "0"]).await;
    for replica in &nodes[1..] {
        replica.run(&["REPLICAOF", "127.0.0.1", &nodes[0].port.to_string()]).await;
    }
    in_sync(&nodes[1..]).await;
    nodes
}

pub(super) async fn in_sync(replicas: &[Redis]) {
    for replica in replicas {
        eventually("the replica is in sync", PATIENCE, async || {
            replica.run(&["INFO", "replication"]).await.text().contains("master_link_status:up")
        })
        .await;
    }
}

async fn quorum(sentinels: &[Sentinel], votes: &str) {
    for sentinel in sentinels {
        sentinel.run(&["SENTINEL", "SET", MASTER, "quorum", votes]).await;
    }
}

fn urls(nodes: &[Redis], sentinels: &[Sentinel]) -> Vec<String> {
    nodes.iter().map(Redis::url).chain(sentinels.iter().map(Sentinel::url)).collect()
}

fn of_cache(metrics: &Metrics, name: &str) -> f64 {
    metrics.sample(name, &[("cache", "main")]).unwrap_or(-1.0)
}

async fn shows(exporter: &Exporter, name: &str, wanted: impl Fn(f64) -> bool) {
    eventually(name, PATIENCE, async || wanted(of_cache(&exporter.metrics().await, name))).await;
}

async fn cache_report(exporter: &Exporter) -> serde_json::Value {
    let (_, body) = exporter.get("/api/v1/report").await;
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    report["caches"][0].clone()
}

async fn topology(exporter: &Exporter) -> serde_json::Value {
    cache_report(exporter).await["topology"].clone()
}

#[tokio::test]
async fn short_stops_are_flaps_and_a_long_one_is_one_failover() {
    let nodes = replicated(2).await;
    let sentinels = Sentinel::group(3, &nodes[0], 2).await;
    let load = Load::start(nodes[0].port, Traffic { keys: Keys::Uniform(500), ..Traffic::default() });
    // So seldom that only what the Sentinels and the nodes say can make discovery look again.
    let config = format!(
        "poll: {{ interval: 500ms, timeout: 400ms }}\ndetection: {{ time_scale: 5 }}\ndiscovery: {{ refresh: 1h }}\n\
         caches:\n  - name: main\n    sentinel: {{ sentinels: [{}], master: {MASTER} }}\n",
        sentinels.iter().map(Sentinel::url).collect::<Vec<_>>().join(", ")
    );
    let exporter = Exporter::serve(&config, &[]).await;
    let up = [("cache", "main")];
    eventually("all Sentinels are heard", PATIENCE, async || {
        exporter.metrics().await.all("cache_storm_sentinel_up", &up).filter(|sample| sample.value == 1.0).count() == 3
    })
    .await;
    shows(&exporter, "cache_storm_sentinel_quorum_ok", |ok| ok == 1.0).await;
    let metrics = exporter.metrics().await;
    for (name, value) in [
        ("cache_storm_sentinel_known_sentinels", 3.0),
        ("cache_storm_sentinel_known_replicas", 2.0),
        ("cache_storm_sentinel_master_disagreement", 0.0),
        ("cache_storm_split_brain", 0.0),
        ("cache_storm_partition_suspected", 0.0),
        ("cache_storm_failovers_total", 0.0),
    ] {
        assert_eq!(of_cache(&metrics, name), value, "{name}");
    }

    // As long as they do not agree that it is down, nobody takes its place.
    quorum(&sentinels, "4").await;
    for stop in 1..=3 {
        nodes[0].signal("STOP");
        eventually("the Sentinels call it down", PATIENCE, async || {
            let flags = [("cache", "main"), ("master_name", MASTER), ("flag", "s_down")];
            exporter.metrics().await.sample("cache_storm_sentinel_master_flags", &flags) == Some(3.0)
        })
        .await;
        nodes[0].signal("CONT");
        let turns = f64::from(stop);
        shows(&exporter, "cache_storm_master_flaps_last_hour", |flaps| flaps >= turns).await;
    }
    quorum(&sentinels, "2").await;
    // A machine that paused may have turned a short stop into a failover: from here on only differences count.
    let before = of_cache(&exporter.metrics().await, "cache_storm_failovers_total");
    let leader = leader(&nodes).await;
    drop(load);
    let _load = Load::start(nodes[leader].port, Traffic { keys: Keys::Uniform(500), ..Traffic::default() });
    // A baseline grows meanwhile, so that who is promoted inherits one.
    sleep(Duration::from_secs(12)).await;
    nodes[leader].signal("STOP");
    shows(&exporter, "cache_storm_failovers_total", |total| total == before + 1.0).await;
    let follows = async || discovered_role(&exporter, &nodes[leader].node()).await == "replica";
    eventually("discovery follows though the old master is silent", PATIENCE, follows).await;
    eventually("failover_cascade", PATIENCE, async || {
        let named = [("cache", "main"), ("storm_type", "failover_cascade")];
        exporter.metrics().await.sample("cache_storm_active", &named) == Some(1.0)
    })
    .await;
    nodes[leader].signal("CONT");
    eventually("the old master follows the new one", PATIENCE, async || {
        nodes[leader].run(&["INFO", "replication"]).await.text().contains("role:slave")
    })
    .await;
    shows(&exporter, "cache_storm_split_brain", |nodes| nodes == 0.0).await;
    let metrics = exporter.metrics().await;
    assert_eq!(
        of_cache(&metrics, "cache_storm_failovers_total"),
        before + 1.0,
        "announced, seen and polled: counted once"
    );
    assert_eq!(of_cache(&metrics, "cache_storm_failovers_last_hour"), before + 1.0);
    let announced = [("cache", "main"), ("event", "switch_master")];
    assert!(metrics.sample("cache_storm_sentinel_events_total", &announced).unwrap() >= 1.0, "heard by subscription");
    assert_eq!(topology(&exporter).await["masters"][0]["name"], MASTER);
}

/// What `/sd` says of a node that does not answer: the word of discovery.
async fn discovered_role(exporter: &Exporter, node: &str) -> String {
    let (_, targets) = exporter.get("/sd").await;
    let targets: serde_json::Value = serde_json::from_str(&targets).unwrap();
    let group = targets.as_array().unwrap().iter().find(|group| group["targets"][0] == node).unwrap();
    group["labels"]["__meta_cache_storm_role"].as_str().unwrap().to_owned()
}

/// Who leads now.
async fn leader(nodes: &[Redis]) -> usize {
    let mut leader = None;
    eventually("one leads", PATIENCE, async || {
        let mut masters = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if node.run(&["INFO", "replication"]).await.text().contains("role:master") {
                masters.push(index);
            }
        }
        leader = masters.first().copied();
        masters.len() == 1
    })
    .await;
    leader.unwrap()
}

#[tokio::test]
async fn a_master_that_came_back_empty_before_any_sentinel_noticed_is_named_so() {
    let mut nodes = replicated(1).await;
    let sentinels = Sentinel::group(1, &nodes[0], 1).await;
    // A busy machine may take longer to start a server than it otherwise takes to be called down.
    sentinels[0].run(&["SENTINEL", "SET", MASTER, "down-after-milliseconds", "30000"]).await;
    nodes[0].fill(2_000).await;
    let _load = Load::start(nodes[0].port, Traffic { keys: Keys::Uniform(2_000), ..Traffic::default() });
    let exporter =
        Exporter::serve(&config(&urls(&nodes, &sentinels), "interval: 500ms, timeout: 400ms", 10), &[]).await;
    let master = nodes[0].node();
    eventually("the master has a usual hit ratio", PATIENCE, async || {
        exporter.metrics().await.node("cache_storm_hit_ratio_baseline", &master).is_some()
    })
    .await;
    nodes[0].kill();
    nodes[0].start_again().await;
    eventually("the storm is named", PATIENCE, async || {
        let named = cache_report(&exporter).await["storm_types"][0].clone();
        (&named["storm_type"], &named["sub_reason"]) == (&"cold_start".into(), &"came_back_empty".into())
    })
    .await;
    let metrics = exporter.metrics().await;
    assert_eq!(of_cache(&metrics, "cache_storm_failovers_total"), 0.0);
    let noticed = [("cache", "main"), ("event", "sdown")];
    assert_eq!(metrics.sample("cache_storm_sentinel_events_total", &noticed), Some(0.0));
}

#[tokio::test]
async fn two_masters_for_one_name_are_a_split_brain_within_two_rounds() {
    let masters = Redis::fleet(2, &[]).await;
    let sentinels = [
        Sentinel::start(free_port(), masters[0].port, 1, None).await,
        Sentinel::start(free_port(), masters[0].port, 1, None).await,
    ];
    let interval = Duration::from_secs(1);
    let exporter = Exporter::serve(&config(&urls(&masters, &sentinels), "interval: 1s, timeout: 800ms", 1), &[]).await;
    shows(&exporter, "cache_storm_sentinel_quorum_ok", |ok| ok == 1.0).await;
    assert_eq!(of_cache(&exporter.metrics().await, "cache_storm_split_brain"), 0.0);

    sentinels[1].run(&["SENTINEL", "REMOVE", MASTER]).await;
    sentinels[1].run(&["SENTINEL", "MONITOR", MASTER, "127.0.0.1", &masters[1].port.to_string(), "1"]).await;
    // Two rounds, each up to one interval away, and one more look.
    eventually("split brain", 2 * interval + Duration::from_millis(700), async || {
        of_cache(&exporter.metrics().await, "cache_storm_split_brain") == 2.0
    })
    .await;
    assert_eq!(of_cache(&exporter.metrics().await, "cache_storm_sentinel_master_disagreement"), 1.0);
    let mut claims = masters.iter().map(Redis::node).collect::<Vec<_>>();
    claims.sort();
    assert_eq!(topology(&exporter).await["split_brain"], serde_json::json!(claims));
}

#[tokio::test]
async fn sentinels_that_are_cut_from_each_other_are_a_suspected_partition() {
    let nodes = replicated(1).await;
    let (mut sentinels, mut proxies) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        // The others reach it through a proxy, we do not.
        let port = free_port();
        let proxy = Proxy::start(port).await;
        sentinels.push(Sentinel::start(port, nodes[0].port, 2, Some(proxy.port)).await);
        proxies.push(proxy);
    }
    for sentinel in &sentinels {
        sentinel.knows(2, 1).await;
    }
    let exporter = Exporter::serve(&config(&urls(&nodes, &sentinels), "interval: 500ms, timeout: 400ms", 1), &[]).await;
    shows(&exporter, "cache_storm_sentinel_quorum_ok", |ok| ok == 1.0).await;
    assert_eq!(of_cache(&exporter.metrics().await, "cache_storm_partition_suspected"), 0.0);

    proxies[0].stall();
    shows(&exporter, "cache_storm_partition_suspected", |count| count == 1.0).await;
    assert_eq!(topology(&exporter).await["partition_suspected"], serde_json::json!([sentinels[0].node()]));
    // All three from each other: nobody could fail over.
    proxies.iter().for_each(Proxy::stall);
    shows(&exporter, "cache_storm_partition_suspected", |count| count == 3.0).await;
    shows(&exporter, "cache_storm_sentinel_quorum_ok", |ok| ok == 0.0).await;
    proxies.iter().for_each(Proxy::resume);
    shows(&exporter, "cache_storm_partition_suspected", |count| count == 0.0).await;
    shows(&exporter, "cache_storm_sentinel_quorum_ok", |ok| ok == 1.0).await;
}

#[tokio::test]
async fn the_lag_of_a_stalled_replica_is_the_truth_and_a_storm_only_where_it_is_read() {
    let nodes = Redis::fleet(3, &["--repl-diskless-sync-delay", "0"]).await;
    let master = &nodes[0];
    let mut proxies = Vec::new();
    for replica in &nodes[1..] {
        let proxy = Proxy::start(master.port).await;
        replica.run(&["REPLICAOF", "127.0.0.1", &proxy.port.to_string()]).await;
        proxies.push(proxy);
    }
    in_sync(&nodes[1..]).await;
    let writes = Traffic { inserts_per_second: 20.0, ..Traffic::default() };
    let _writer = Load::start(master.port, writes);
    let _reader = Load::start(nodes[1].port, Traffic { refill: false, lookups_per_second: 50.0, ..Traffic::default() });
    let cache =
        |name: &str, replica: &Redis| format!("  - name: {name}\n    nodes: [{}, {}]\n", master.url(), replica.url());
    let caches = cache("read", &nodes[1]) + &cache("idle", &nodes[2]);
    let exporter = Exporter::serve(&format!("poll: {{ interval: 1s, timeout: 800ms }}\ncaches:\n{caches}"), &[]).await;
    sleep(Duration::from_secs(6)).await;

    let stalled = unix_now();
    proxies.iter().for_each(Proxy::stall);
    // How far behind each was in truth when the alert's condition, and then the indicator, first held.
    let (mut warned, mut indicated_at) = ([None; 2], [None; 2]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(22) {
        let metrics = exporter.metrics().await;
        for (index, (name, replica)) in [("read", &nodes[1]), ("idle", &nodes[2])].into_iter().enumerate() {
            let of = |metric: &str| metrics.sample(metric, &[("cache", name)]).unwrap();
            let round = of("cache_storm_last_round_timestamp_seconds");
            let node = [("cache", name), ("cache_node", &*replica.node())];
            let lag = metrics.sample("cache_storm_replication_lag_seconds", &node).unwrap();
            let truth = (round - stalled).max(0.0);
            assert!((lag - truth).abs() <= 2.0, "{name}: {lag} s at {truth} s");
            let bytes = metrics.sample("cache_storm_replication_lag_bytes", &node).unwrap();
            assert!(truth < 2.0 || bytes > 10_000.0, "{name}: {bytes} bytes after {truth} s");
            let indicator = [node[0], node[1], ("indicator", "replication_lag")];
            let warning = [node[0], ("threshold", "replication_lag_warning_seconds")];
            let warning = metrics.sample("cache_storm_threshold", &warning).unwrap();
            // As CacheReplicationLagWarning asks.
            if lag >= warning {
                warned[index].get_or_insert(truth);
            }
            if metrics.sample("cache_storm_indicator", &indicator).unwrap() == 1.0 {
                indicated_at[index].get_or_insert(truth);
            }
        }
        sleep(Duration::from_millis(300)).await;
    }
    // A second of error and the next poll, for the indicator two; with reads and without.
    for (seen, from, until) in [(warned, 4.0, 7.0), (indicated_at, 14.0, 18.0)] {
        for truth in seen {
            assert!(
                truth.is_some_and(|truth| (from..=until).contains(&truth)),
                "{seen:?}, not within {from}–{until} s"
            );
        }
    }
    let indicated = |metrics: &Metrics, replica: &Redis| {
        let labels = [("cache_node", &*replica.node()), ("indicator", "replication_lag")];
        metrics.sample("cache_storm_indicator", &labels) == Some(1.0)
    };
    eventually("both are indicated, the one that is read is a storm", PATIENCE, async || {
        let metrics = exporter.metrics().await;
        let leads = [("cache", "read"), ("storm_type", "replication_lag")];
        indicated(&metrics, &nodes[1])
            && indicated(&metrics, &nodes[2])
            && metrics.sample("cache_storm_active", &leads) == Some(1.0)
    })
    .await;
    assert_eq!(exporter.metrics().await.sample("cache_storm_severity", &[("cache", "idle")]), Some(0.0));
    // The links stayed up all the time: it is the data that is old.
    for replica in &nodes[1..] {
        assert!(replica.run(&["INFO", "replication"]).await.text().contains("master_link_status:up"));
    }
}

#[tokio::test]
async fn resharding_a_thousand_slots_under_load_is_no_storm() {
    let nodes = Redis::fleet(3, &["--cluster-enabled", "yes"]).await;
    let addresses: Vec<String> = nodes.iter().map(Redis::node).collect();
    cluster(&[&["create"], &*addresses.iter().map(String::as_str).collect::<Vec<_>>(), &["--cluster-yes"]].concat());
    // Each node serves the third of the lookups that are for its slots, and turns the others away.
    let traffic = Traffic { keys: Keys::Uniform(1_500), absent_share: 0.02, ..Traffic::default() };
    let _loads: Vec<Load> = nodes.iter().map(|node| Load::start(node.port, traffic.clone())).collect();
    eventually("the keys are there", PATIENCE, async || {
        let mut keys = 0;
        for node in &nodes {
            if let Reply::Integer(count) = node.run(&["DBSIZE"]).await {
                keys += count;
            }
        }
        keys >= 1_450
    })
    .await;
    let urls: Vec<String> = nodes.iter().map(Redis::url).collect();
    let exporter = Exporter::serve(&config(&urls, "interval: 500ms, timeout: 400ms", 10), &[]).await;
    shows(&exporter, "cache_storm_cluster_state_ok", |ok| ok == 1.0).await;
    let calm = async || exporter.severity().await == 0;
    throughout("severity 0 before", Duration::from_secs(8), calm).await;
    let id = async |node: &Redis| node.run(&["CLUSTER", "MYID"]).await.text();
    let (from, to) = (id(&nodes[0]).await, id(&nodes[1]).await);
    let (target, slots) = (addresses[0].clone(), "1000");
    let resharding = tokio::task::spawn_blocking(move || {
        cluster(&[
            "reshard",
            &target,
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
            "--cluster-slots",
            slots,
            "--cluster-yes",
        ]);
    });
    while !resharding.is_finished() {
        throughout("severity 0 while slots move", Duration::from_secs(1), calm).await;
    }
    resharding.await.unwrap();
    throughout("severity 0 after", Duration::from_secs(6), calm).await;
    let ok = [("cache", "main"), ("state", "ok")];
    assert_eq!(exporter.metrics().await.sample("cache_storm_cluster_slots", &ok), Some(16_384.0));
}

/// Runs `redis-cli --cluster …`, which must succeed.
fn cluster(arguments: &[&str]) {
    let output = Command::new("redis-cli").arg("--cluster").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
}
