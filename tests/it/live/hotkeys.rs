//! The sampler of hot keys on real servers: what it sees, and that it does no harm.

use std::sync::Arc;
use std::time::Duration;

use cache_storm_exporter::config::{Overrides, load};
use cache_storm_exporter::detect::verdict::Observation;
use cache_storm_exporter::hotkeys::{self, HotKeySlots};
use cache_storm_exporter::poll::FleetPoller;
use cache_storm_exporter::publish::Publisher;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::harness::exporter::{Exporter, config};
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::redis::Redis;
use crate::harness::resp::{Reply, encode};
use crate::harness::{eventually, throughout};
use crate::readme::acl_line;

const ALLOWED: &str = "hotkeys: { mode: auto, allow_monitor: true }\n";

/// A cache that would evict at once if a client's buffer took its memory, and its load.
async fn small_cache() -> (Redis, Load) {
    let redis = Redis::start(&["--maxmemory", "14mb", "--maxmemory-policy", "allkeys-lru"]).await;
    // Until it is full enough: how much a key takes differs between servers.
    let (mut keys, mut share) = (0, 0.0);
    while share < 0.6 {
        keys += 10_000;
        assert!(keys <= 200_000, "{share} of the memory after {keys} keys");
        redis.fill(keys).await;
        share = redis.info("used_memory").await / redis.info("maxmemory").await;
    }
    assert!(share < 0.85, "not past what the sampler accepts: {share}");
    let traffic = Traffic { lookups_per_second: 4_000.0, keys: Keys::Uniform(keys), ..Traffic::default() };
    let load = Load::start(redis.port, traffic);
    (redis, load)
}

/// Whether a `MONITOR` feed is open: flag `O`, and not `c`, which is closing.
async fn is_monitored(redis: &Redis) -> bool {
    let clients = redis.run(&["CLIENT", "LIST"]).await.text();
    let flags = clients.lines().filter_map(|line| line.split(" flags=").nth(1)?.split(' ').next());
    flags.clone().any(|flags| flags.contains('O') && !flags.contains('c'))
}

fn samples(metrics: &crate::harness::metrics::Metrics, result: &str) -> f64 {
    metrics.sample("cache_storm_exporter_hot_key_samples_total", &[("result", result)]).expect("the counter")
}

/// The design's promise: three commands in one write, a reader that never reads.
#[tokio::test]
async fn the_server_ends_the_feed_of_a_reader_that_never_reads() {
    let (redis, _load) = small_cache().await;
    let before = redis.info("used_memory").await;
    let mut request = Vec::new();
    for command in [&["MONITOR"][..], &["WAIT", "2147483647", "1000"], &["QUIT"]] {
        encode(&mut request, command);
    }
    let mut frozen = redis.client().await;
    frozen.send(&request).await.unwrap();
    eventually("the feed begins", Duration::from_millis(900), async || is_monitored(&redis).await).await;
    let mut most = before;
    eventually("the feed has ended", Duration::from_secs(3), async || {
        most = most.max(redis.info("used_memory").await);
        !is_monitored(&redis).await
    })
    .await;
    assert!(most - before < 2e6, "{} bytes more than before", most - before);
    assert_eq!(redis.info("evicted_keys").await, 0.0);
    drop(frozen);
}

#[tokio::test]
async fn an_exporter_that_freezes_while_it_samples_harms_nobody() {
    let (redis, _load) = small_cache().await;
    let nodes = [redis];
    let text = ALLOWED.to_owned() + &config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10");
    let exporter = Exporter::serve(&text, &[]).await;
    eventually("a sample is under way", Duration::from_secs(15), async || is_monitored(&nodes[0]).await).await;
    exporter.signal("STOP");
    let before = nodes[0].info("used_memory").await;
    eventually("the feed has ended", Duration::from_secs(3), async || !is_monitored(&nodes[0]).await).await;
    assert!(nodes[0].info("used_memory").await - before < 2e6);
    assert_eq!(nodes[0].info("evicted_keys").await, 0.0);
    exporter.signal("CONT");
}

#[tokio::test]
async fn the_share_is_that_of_the_hottest_key() {
    let nodes = Redis::fleet(1, &[]).await;
    nodes[0].fill(5_000).await;
    let traffic = Traffic { lookups_per_second: 1_000.0, keys: hot(0.8), absent_share: 0.0, ..Traffic::default() };
    let _load = Load::start(nodes[0].port, traffic);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, ALLOWED.to_owned() + &config(&nodes, "interval: 500ms, timeout: 400ms", "")).unwrap();
    let config = Arc::new(load(Some(&file), &Overrides::default(), []).unwrap());
    let (publisher, stop, slots) = (Arc::new(Publisher::default()), CancellationToken::new(), Arc::default());
    let poller = FleetPoller::start(&config, Arc::clone(&publisher), &stop);
    let (_keep, configs) = watch::channel(config);
    let sampler = hotkeys::run(configs, publisher, Arc::clone(&slots), poller.directory());
    tokio::spawn(stop.clone().run_until_cancelled_owned(sampler));

    let slots: Arc<HotKeySlots> = slots;
    let mut seen = None;
    eventually("a sample", Duration::from_secs(10), async || {
        let mut round = [(nodes[0].node().into(), Observation::Up { sample: Box::default(), hot_key: None })];
        slots.attach(&"main".into(), &mut round);
        if let Observation::Up { hot_key, .. } = round[0].1 {
            seen = hot_key;
        }
        seen.is_some()
    })
    .await;
    let seen = seen.unwrap();
    assert!((seen.share - 0.8).abs() <= 0.05 && seen.accesses >= 500, "{seen:?}");
    stop.cancel();
    poller.stop().await;
}

#[tokio::test]
async fn a_hot_key_is_named_as_the_cause_of_an_overload() {
    let nodes = Redis::fleet(1, &[]).await;
    nodes[0].fill(5_000).await;
    let load = Load::start(nodes[0].port, Traffic { lookups_per_second: 300.0, ..Traffic::default() });
    let text = ALLOWED.to_owned() + &config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10");
    let exporter = Exporter::serve(&text, &[]).await;
    throughout("quiet", Duration::from_secs(12), async || exporter.severity().await == 0).await;
    assert!(samples(&exporter.metrics().await, "taken") >= 1.0, "it knows what is usual");

    load.change(|traffic| {
        traffic.lookups_per_second = 2_400.0;
        traffic.keys = hot(0.8);
    });
    eventually("hot_key", Duration::from_secs(10), async || {
        let active = [("cache", "main"), ("storm_type", "hot_key")];
        exporter.metrics().await.sample("cache_storm_active", &active) == Some(1.0)
    })
    .await;
    assert!(!exporter.log().contains("k:"), "no key shows in the log");
}

#[tokio::test]
async fn without_permission_nothing_is_sampled_and_the_log_says_what_to_grant() {
    let nodes = Redis::fleet(1, &[]).await;
    nodes[0].fill(5_000).await;
    let line = acl_line("s3cret-of-the-user");
    nodes[0].run(&line.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let _load = Load::start(nodes[0].port, Traffic::default());
    let text = ALLOWED.to_owned() + &config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10");
    let text = text + "    username: exporter\n    password_env: PASSWORD\n";
    let exporter = Exporter::serve(&text, &[("PASSWORD", "s3cret-of-the-user")]).await;
    eventually("it is refused", Duration::from_secs(15), async || samples(&exporter.metrics().await, "refused") >= 1.0)
        .await;
    assert_eq!(samples(&exporter.metrics().await, "taken"), 0.0);
    let log = exporter.log();
    assert!(log.contains("+monitor +wait +quit") && !log.contains("s3cret-of-the-user"), "{log}");

    nodes[0].run(&["ACL", "SETUSER", "exporter", "+monitor", "+wait", "+quit"]).await;
    eventually("it is sampled", Duration::from_secs(20), async || samples(&exporter.metrics().await, "taken") >= 1.0)
        .await;
}

#[tokio::test]
async fn a_replica_is_sampled_only_under_a_limit() {
    let master = Redis::start(&[]).await;
    master.fill(5_000).await;
    let nodes = Redis::fleet(1, &["--replicaof", "127.0.0.1", &master.port.to_string()]).await;
    eventually("it follows", Duration::from_secs(10), async || {
        matches!(nodes[0].run(&["ROLE"]).await, Reply::Array(role) if role[3] == Reply::Bulk(b"connected".to_vec()))
    })
    .await;
    let _load = Load::start(nodes[0].port, Traffic { refill: false, ..Traffic::default() });
    let text = ALLOWED.to_owned() + &config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10");
    let exporter = Exporter::serve(&text, &[]).await;
    eventually("without one it is not", Duration::from_secs(15), async || {
        samples(&exporter.metrics().await, "unsafe") >= 1.0
    })
    .await;
    assert_eq!(samples(&exporter.metrics().await, "taken"), 0.0);

    nodes[0].run(&["CONFIG", "SET", "client-output-buffer-limit", "normal 16mb 0 0"]).await;
    eventually("with one it is", Duration::from_secs(20), async || samples(&exporter.metrics().await, "taken") >= 1.0)
        .await;
}

#[tokio::test]
async fn patterns_are_measured_and_keys_are_not_shown() {
    let nodes = [Redis::start(&[]).await];
    nodes[0].fill(5_000).await;
    let _load = Load::start(nodes[0].port, Traffic { keys: hot(0.5), ..Traffic::default() });
    let text = ALLOWED.to_owned() + &config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10");
    let exporter = Exporter::serve(&text, &[]).await;
    let share = |metrics: &crate::harness::metrics::Metrics| {
        metrics.sample("cache_storm_hot_key_share_ratio", &[("cache", "main"), ("pattern", "k:*")])
    };
    eventually("a pattern is measured", Duration::from_secs(30), async || {
        share(&exporter.metrics().await).is_some_and(|share| share > 0.9)
    })
    .await;
    let metrics = exporter.metrics().await;
    let of = |name: &str| metrics.sample(name, &[("cache", "main"), ("pattern", "k:*")]).expect(name);
    assert!(of("cache_storm_hot_key_operations_per_second") > 100.0);
    assert!((0.0..0.5).contains(&of("cache_storm_hot_key_write_ratio")));
    assert!(metrics.sample("cache_storm_exporter_hot_key_sampled_seconds_total", &[]).unwrap() > 0.0);
    assert!(metrics.sample("cache_storm_exporter_hot_key_sampled_bytes_total", &[]).unwrap() > 1000.0);
    let (status, body) = exporter.get("/api/v1/hotkeys").await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    let sample = &document["samples"][0];
    assert_eq!((status, &document["version"], &sample["cache"]), (200, &1.into(), &"main".into()));
    assert!((0.3..0.7).contains(&sample["hottest_key_share"].as_f64().unwrap()), "{sample}");
    assert_eq!(sample["patterns"][0]["pattern"], "k:*");
    assert!(!body.contains("k:0") && !body.contains("k:1"), "{body}");
}

#[tokio::test]
async fn the_command_watches_a_node() {
    let nodes = [Redis::start(&[]).await];
    nodes[0].fill(5_000).await;
    let _load = Load::start(nodes[0].port, Traffic { keys: hot(0.5), ..Traffic::default() });
    let arguments = ["hotkeys", "--node", &nodes[0].node(), "--duration", "6s", "--format", "json"];
    let outcome =
        crate::harness::exporter::run(&config(&nodes, "interval: 1s", "time_scale: 1"), &arguments, &[]).await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.output);
    let report: serde_json::Value = serde_json::from_str(&outcome.output).unwrap();
    let hottest = &report["keys"][0];
    let share = hottest["share"].as_f64().unwrap();
    assert!((0.3..0.7).contains(&share), "{hottest}");
    assert!(hottest["memory_bytes"].as_u64().unwrap() > 10, "{hottest}");
    assert!(report["hits"]["hits"].as_u64().unwrap() > 0, "{report}");
    assert!(!is_monitored(&nodes[0]).await);
}

#[tokio::test]
async fn nothing_is_sampled_unless_monitor_is_allowed() {
    let nodes = Redis::fleet(1, &[]).await;
    nodes[0].fill(5_000).await;
    let _load = Load::start(nodes[0].port, Traffic::default());
    let text = config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10");
    let exporter = Exporter::serve(&format!("hotkeys: {{ mode: auto }}\n{text}"), &[]).await;
    assert!(exporter.log().contains("nothing is sampled"), "{}", exporter.log());
    throughout("no MONITOR", Duration::from_secs(4), async || !is_monitored(&nodes[0]).await).await;
    let calls = nodes[0].run(&["INFO", "commandstats"]).await.text();
    assert!(!calls.contains("cmdstat_monitor"), "{calls}");
}

/// How often the server carried a command out.
async fn calls(redis: &Redis, command: &str) -> u64 {
    let text = redis.run(&["INFO", "commandstats"]).await.text();
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    found.map_or(0, |figures| figures.split(',').next().unwrap().parse().unwrap())
}

/// Two nodes surge at once. It is not the turn of the one with a hot slot, yet that one is looked at first.
#[tokio::test]
#[ignore = "needs Redis 8.2 or Valkey 8.0: make test-slots SERVER=path"]
async fn the_node_with_the_hottest_slot_comes_first() {
    let nodes = Redis::fleet(2, &["--cluster-enabled", "yes", "--cluster-slot-stats-enabled", "yes"]).await;
    for node in &nodes {
        node.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        eventually("the cluster is fine", Duration::from_secs(10), async || {
            node.run(&["CLUSTER", "INFO"]).await.text().contains("cluster_state:ok")
        })
        .await;
        node.fill(5_000).await;
    }
    let traffic = Traffic { lookups_per_second: 300.0, absent_share: 0.0, ..Traffic::default() };
    let loads: Vec<Load> = nodes.iter().map(|node| Load::start(node.port, traffic.clone())).collect();
    let text = ALLOWED.to_owned() + &config(&nodes, "interval: 500ms, timeout: 400ms", "time_scale: 10");
    let _exporter = Exporter::serve(&text, &[]).await;

    // Three samples tell what is usual; then quiet nodes are left alone for longer than this test takes.
    let (mut seen, mut latest) = ([0; 2], 0);
    eventually("both are known", Duration::from_secs(60), async || {
        for (index, node) in nodes.iter().enumerate() {
            let samples = calls(node, "monitor").await;
            if samples > seen[index] {
                (seen[index], latest) = (samples, index);
            }
        }
        seen.iter().all(|samples| *samples >= 3)
    })
    .await;
    throughout("no node is looked at again", Duration::from_secs(8), async || {
        calls(&nodes[0], "monitor").await + calls(&nodes[1], "monitor").await == seen.iter().sum::<u64>()
    })
    .await;
    for node in &nodes {
        assert_eq!(calls(node, "cluster|slot-stats").await, 0, "no server is asked in quiet times");
    }

    for (index, load) in loads.iter().enumerate() {
        load.change(|traffic| {
            traffic.lookups_per_second = 2_000.0;
            if index == latest {
                traffic.keys = hot(0.8);
            }
        });
    }
    let mut now = seen;
    eventually("one is looked at", Duration::from_secs(30), async || {
        for (samples, node) in now.iter_mut().zip(&nodes) {
            *samples = calls(node, "monitor").await;
        }
        now != seen
    })
    .await;
    for node in &nodes {
        assert_eq!(calls(node, "cluster|slot-stats").await, 2, "both were asked for their slots");
    }
    assert_eq!(now[latest], seen[latest] + 1, "{now:?} after {seen:?}, the hot slot is in {latest}");
    assert_eq!(now[1 - latest], seen[1 - latest]);
}

/// One key takes this share of the lookups, 4,999 others the rest.
fn hot(share: f64) -> Keys {
    Keys::Weighted((0..5_000).map(|key| share + (1.0 - share) * f64::from(key) / 4_999.0).collect())
}
