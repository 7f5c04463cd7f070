//! `docs/faults.md`: its first table row by row, then the faults that take no server's help. What a fault shows as,
//! and that it ends with its cause.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_storm_exporter::sim::fleet::Fleet;
use cache_storm_exporter::sim::mode::Mode;
use cache_storm_exporter::sim::node::Node;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::harness::exporter::{Exporter, config};
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::{eventually, throughout, unix_now};

const FAULTS: &str = include_str!("../../../docs/faults.md");

/// Long enough for the pause after repeated failures and for a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

async fn start(count: usize) -> (Fleet, Vec<Arc<Node>>, Exporter) {
    start_limited(count, None).await
}

/// With that limit of open files.
async fn start_limited(count: usize, descriptors: Option<u32>) -> (Fleet, Vec<Arc<Node>>, Exporter) {
    let fleet = Fleet::plain(count, 3).await.unwrap();
    let nodes = fleet.caches()[0].nodes().to_vec();
    let urls: Vec<String> = nodes.iter().map(|node| format!("redis://{}", node.name())).collect();
    let config = format!(
        "poll: {{ interval: 500ms, timeout: 400ms }}\ncaches: [{{ name: main, nodes: [{}] }}]\n",
        urls.join(", ")
    );
    let exporter = match descriptors {
        None => Exporter::serve(&config, &[]).await,
        Some(limit) => Exporter::serve_limited(&config, limit).await,
    };
    (fleet, nodes, exporter)
}

/// Why each node is down, in their order; empty for one that is up.
async fn reasons(exporter: &Exporter, nodes: &[Arc<Node>]) -> Vec<String> {
    let (_, body) = exporter.get("/api/v1/report").await;
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    let told = report["caches"][0]["nodes"].as_array().unwrap();
    let reason = |node: &Arc<Node>| {
        let told = told.iter().find(|told| told["node"] == node.name().as_str()).unwrap();
        told["down_reason"].as_str().unwrap_or_default().to_owned()
    };
    nodes.iter().map(reason).collect()
}

#[tokio::test]
async fn every_fault_has_its_reason_and_ends_with_its_cause() {
    let faults = [
        ("hang", Mode::Hang, "timeout"),
        ("slow answer", Mode::Slow(Duration::from_secs(3)), "timeout"),
        ("slow drip", Mode::Drip(Duration::from_millis(50)), "timeout"),
        ("reset in mid-reply", Mode::Reset, "io"),
        ("garbage", Mode::Garbage, "protocol"),
        ("reply past 4 MiB", Mode::Huge(10 << 20), "too_large"),
        ("loading", Mode::Loading, "loading"),
        ("wrong password", Mode::WrongPass, "auth"),
        ("missing permission", Mode::NoPerm, "noperm"),
        ("endless script", Mode::Busy, "busy"),
        ("no room for clients", Mode::MaxClients, "maxclients"),
    ];
    let (_fleet, nodes, exporter) = start(faults.len() + 5).await;
    let memory = async || exporter.metrics().await.sample("process_resident_memory_bytes", &[]).unwrap();
    let (before, expected): (f64, Vec<&str>) =
        (memory().await, faults.iter().map(|(_, _, reason)| *reason).chain([""; 5]).collect());
    // Twice: what was mended may break again, a password that was right be wrong again.
    for _ in 0..2 {
        for ((_, mode, _), node) in faults.iter().zip(&nodes) {
            node.set_mode(mode.clone());
            // Connections that stand are not asked again for room.
            if matches!(mode, Mode::MaxClients) {
                node.cut_connections();
            }
        }
        let mut seen = Vec::new();
        eventually("every node is down for its own reason", PATIENCE, async || {
            seen = reasons(&exporter, &nodes).await;
            seen == expected
        })
        .await;
        let healthy = exporter.metrics().await.node("cache_storm_node_up", nodes[nodes.len() - 1].name().as_str());
        assert_eq!(healthy, Some(1.0));
        for node in &nodes {
            node.set_mode(Mode::Normal);
        }
        eventually("all nodes are up again", PATIENCE, async || {
            reasons(&exporter, &nodes).await.iter().all(String::is_empty)
        })
        .await;
    }
    let grown = memory().await - before;
    assert!(grown < 64e6, "the faults left {grown} bytes behind");
    for (name, _, reason) in faults {
        assert!(FAULTS.contains(&format!("| {name} |")), "docs/faults.md has no row for {name}");
        assert!(FAULTS.contains(&format!("`{reason}`")), "docs/faults.md has no reason {reason}");
    }
}

#[tokio::test]
async fn a_third_dead_and_flapping_leave_the_rest_its_pace() {
    let (_fleet, nodes, exporter) = start(30).await;
    let (dead, alive) = nodes.split_at(9);
    for flap in 0..6 {
        for node in dead {
            node.set_mode(if flap % 2 == 0 { Mode::Refuse } else { Mode::Normal });
        }
        let before: Vec<u64> = alive.iter().map(|node| node.info_calls()).collect();
        eventually("every healthy node is polled twice more", PATIENCE, async || {
            alive.iter().zip(&before).all(|(node, before)| node.info_calls() >= before + 4)
        })
        .await;
    }
    eventually("the flapping nodes are up when they have stopped", PATIENCE, async || {
        reasons(&exporter, &nodes).await.iter().all(String::is_empty)
    })
    .await;
    // One connection each, and one more for each time it was cut.
    assert!(nodes.iter().all(|node| node.connections() < 30), "reconnects in a storm of our own");
}

#[tokio::test]
async fn clients_that_never_read_or_never_ask_do_not_keep_the_others_out() {
    let (_fleet, _nodes, exporter) = start(10).await;
    let mut clients = Vec::new();
    for index in 0..1000 {
        let Ok(mut client) = TcpStream::connect(("127.0.0.1", exporter.port)).await else { continue };
        // One half asks and never reads, the other never asks. Those past the limit are hung up on.
        if index % 2 == 0 {
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap_or_default();
        }
        clients.push(client);
    }
    let limits = async || {
        let mut stream = TcpStream::connect(("127.0.0.1", exporter.port)).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        answer.starts_with("HTTP/1.0 200").then_some(())
    };
    eventually("a scrape is answered while they are still there", PATIENCE, async || limits().await.is_some()).await;
    assert_eq!(clients.len(), 1000);
    let descriptors = exporter.metrics().await.sample("process_open_fds", &[]).unwrap();
    assert!(descriptors < 600.0, "{descriptors} descriptors");
}

#[tokio::test]
async fn a_flood_of_requests_is_answered_from_the_same_bytes() {
    let (_fleet, nodes, exporter) = start(10).await;
    let before = exporter.metrics().await.sample("process_resident_memory_bytes", &[]).unwrap();
    let floods = (0..8).map(|_| async {
        for _ in 0..100 {
            assert_eq!(exporter.get("/metrics").await.0, 200);
        }
    });
    let (floods, polled) = (futures_util::future::join_all(floods), nodes[0].info_calls());
    floods.await;
    let grown = exporter.metrics().await.sample("process_resident_memory_bytes", &[]).unwrap() - before;
    assert!(grown < 64e6, "{grown} bytes more");
    // Two INFO in half a second, whatever the scrapers do.
    eventually("polls go on", PATIENCE, async || nodes[0].info_calls() > polled + 2).await;
}

#[tokio::test]
async fn nodes_without_a_descriptor_are_down_and_scrapes_are_answered() {
    let (_fleet, nodes, exporter) = start_limited(80, Some(100)).await;
    // Half of the limit is the nodes'. Whoever got one keeps it.
    let up = async || reasons(&exporter, &nodes).await.iter().filter(|reason| reason.is_empty()).count();
    eventually("half of the descriptors are the nodes'", PATIENCE, async || up().await == 50).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(TcpStream::connect(("127.0.0.1", exporter.port)).await.unwrap());
    }
    assert_eq!(exporter.get("/metrics").await.0, 200);
    let reasons = reasons(&exporter, &nodes).await;
    assert_eq!(reasons.iter().filter(|reason| *reason == "io").count(), 30, "{reasons:?}");
    assert!(exporter.log().contains("too few open files are allowed for so many nodes"));
}

#[tokio::test]
async fn ticks_that_are_missed_are_not_made_up_for() {
    let (_fleet, nodes, exporter) = start(1).await;
    exporter.signal("STOP");
    let polled = nodes[0].info_calls();
    // Eight ticks.
    sleep(Duration::from_secs(4)).await;
    exporter.signal("CONT");
    eventually("the pace is kept again", PATIENCE, async || exporter.log().contains("rounds start on time again"))
        .await;
    assert!(exporter.log().contains("rounds start late"));
    // Two INFO each: of the round that was under way, a late one, and what came since.
    let polled = nodes[0].info_calls() - polled;
    assert!(polled <= 10, "{polled}");
}

#[tokio::test]
async fn a_half_open_connection_is_a_hang_and_then_another_connection() {
    let nodes = Redis::fleet(2, &[]).await;
    let proxy = Proxy::start(nodes[0].port).await;
    let (lost, near) = (format!("127.0.0.1:{}", proxy.port), nodes[1].node());
    let config = format!(
        "poll: {{ interval: 500ms, timeout: 400ms }}\n\
         caches: [{{ name: main, nodes: [redis://{lost}, redis://{near}] }}]\n"
    );
    let exporter = Exporter::serve(&config, &[]).await;
    let timeouts = async |node: &str| {
        let labels = [("cache_node", node), ("reason", "timeout")];
        exporter.metrics().await.sample("cache_storm_poll_failures_total", &labels).unwrap_or_default()
    };
    let up = async || exporter.metrics().await.node("cache_storm_node_up", &lost) == Some(1.0);
    eventually("the node is up", PATIENCE, up).await;
    let before = [timeouts(&lost).await, timeouts(&near).await];

    proxy.lose_connections();
    eventually("nothing comes any more", PATIENCE, async || timeouts(&lost).await > before[0]).await;
    eventually("a new connection is made and carries", PATIENCE, up).await;
    assert_eq!(timeouts(&near).await, before[1], "nobody else is harmed");
}

/// Addresses of names for one process alone, as a file that may change (libnss-wrapper).
struct Hosts {
    file: NamedTempFile,
    written: SystemTime,
}

impl Hosts {
    fn new() -> Self {
        Self { file: NamedTempFile::new().unwrap(), written: SystemTime::now() }
    }

    /// From now on this is the address of `cache.test`; `None`: it has none.
    fn point(&mut self, address: Option<IpAddr>) {
        let line = address.map(|address| format!("{address} cache.test\n")).unwrap_or_default();
        std::fs::write(self.file.path(), line).unwrap();
        // A file is read again when its time, in whole seconds, has changed.
        self.written += Duration::from_secs(1);
        self.file.as_file().set_modified(self.written).unwrap();
    }
}

#[tokio::test]
async fn a_name_that_points_elsewhere_is_followed_and_one_that_is_gone_harms_no_connection() {
    let fleet = Fleet::plain(2, 3).await.unwrap();
    let [old, new] = fleet.caches()[0].nodes() else { panic!("two nodes") };
    let (mut hosts, port) = (Hosts::new(), old.address().port());
    hosts.point(Some(old.address().ip()));
    let config = format!(
        "poll: {{ interval: 500ms }}\ndiscovery: {{ refresh: 1s }}\ncaches:\n  \
         - {{ name: listed, nodes: [redis://cache.test:{port}] }}\n  \
         - {{ name: found, dns: {{ name: cache.test, port: {port} }} }}\n"
    );
    let file = hosts.file.path().to_str().unwrap().to_owned();
    let env = [("LD_PRELOAD", &*library("libnss_wrapper.so")), ("NSS_WRAPPER_HOSTS", &*file)];
    let exporter = Exporter::serve(&config, &env).await;
    let of = async |cache: &str, name: &str, label: (&str, &str)| {
        exporter.metrics().await.sample(name, &[("cache", cache), label])
    };
    let up = async |cache: &str, node: &str| of(cache, "cache_storm_node_up", ("cache_node", node)).await;
    let named = format!("cache.test:{port}");
    let (old_name, new_name) = (old.name().as_str(), new.name().as_str());
    eventually("both caches have the node", PATIENCE, async || {
        up("listed", &named).await == Some(1.0) && up("found", old_name).await == Some(1.0)
    })
    .await;

    hosts.point(Some(new.address().ip()));
    eventually("discovery follows the name", PATIENCE, async || {
        up("found", new_name).await == Some(1.0) && up("found", old_name).await.is_none()
    })
    .await;
    let (polled, connections) = (old.info_calls(), new.connections());
    eventually("a connection that stands is kept", PATIENCE, async || old.info_calls() > polled + 2).await;
    assert_eq!(new.connections(), connections);
    old.cut_connections();
    eventually("the next one goes where the name points", PATIENCE, async || {
        new.connections() > connections && up("listed", &named).await == Some(1.0)
    })
    .await;

    hosts.point(None);
    eventually("discovery fails", PATIENCE, async || {
        exporter.metrics().await.sample("cache_storm_discovery_up", &[("cache", "found")]) == Some(0.0)
    })
    .await;
    assert_eq!([up("found", new_name).await, up("listed", &named).await], [Some(1.0); 2], "what stands is kept");
    new.cut_connections();
    let unresolved = async || of("listed", "cache_storm_poll_failures_total", ("reason", "dns")).await > Some(0.0);
    eventually("no new connection without an address", PATIENCE, unresolved).await;
    eventually("an address needs no name", PATIENCE, async || up("found", new_name).await == Some(1.0)).await;
    hosts.point(Some(new.address().ip()));
    eventually("the name is back, and the node", PATIENCE, async || up("listed", &named).await == Some(1.0)).await;
}

/// The path of a library that goes before the system's own.
fn library(name: &str) -> String {
    let folders = ["", "faketime/"].map(|below| format!("/usr/lib/{}-linux-gnu/{below}{name}", std::env::consts::ARCH));
    let found = folders.into_iter().find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| panic!("{name} must be installed (`make test` installs it)"))
}

#[tokio::test]
async fn a_wall_clock_that_is_set_bends_no_window_and_shown_times_follow_it() {
    const KEYS: usize = 500;
    let redis = Redis::start(&[]).await;
    redis.fill(KEYS).await;
    let _load = Load::start(redis.port, Traffic { keys: Keys::Uniform(KEYS), ..Traffic::default() });
    let offset = NamedTempFile::new().unwrap();
    let set = |hours: i32| std::fs::write(offset.path(), format!("{:+}", hours * 3600)).unwrap();
    set(0);
    let env = [
        ("LD_PRELOAD", &*library("libfaketimeMT.so.1")),
        ("FAKETIME_TIMESTAMP_FILE", offset.path().to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let config = config(std::slice::from_ref(&redis), "interval: 250ms, timeout: 200ms", "time_scale: 20");
    let exporter = Exporter::serve(&config, &env).await;
    let near = |shown: f64, hours: i32| (shown - unix_now() - f64::from(hours) * 3600.0).abs() < 600.0;
    let follows = async |hours: i32| {
        let main = [("cache", "main")];
        let shown = exporter.metrics().await.sample("cache_storm_last_round_timestamp_seconds", &main).unwrap();
        near(shown, hours)
    };
    for hours in [0, 1, -1] {
        set(hours);
        eventually("shown times are those of the wall clock", PATIENCE, async || follows(hours).await).await;
        // A window lasts one and a half seconds.
        throughout("rates and severity are as ever", Duration::from_secs(2), async || {
            let metrics = exporter.metrics().await;
            let rate = metrics.sample("cache_storm_lookups_per_second", &[("cache", "main")]);
            rate.is_none_or(|rate| (100.0..2_000.0).contains(&rate)) && exporter.severity().await == 0
        })
        .await;
    }
    let baseline = async || exporter.metrics().await.sample("cache_storm_hit_ratio_baseline", &[("cache", "main")]);
    eventually("there is a baseline", PATIENCE, async || baseline().await.is_some()).await;

    redis.run(&["FLUSHALL"]).await;
    eventually("a storm begins", PATIENCE, async || exporter.severity().await > 0).await;
    let onset = episode(&exporter).await;
    assert!(near(onset["onset"].as_f64().unwrap(), -1), "{onset}");
    set(2);
    eventually("the storm ends", PATIENCE, async || exporter.severity().await == 0).await;
    let end = episode(&exporter).await;
    assert_eq!((&end["id"], &end["end_reason"]), (&onset["id"], &"recovered".into()), "{end}");
    assert!(near(end["onset"].as_f64().unwrap(), 2) && near(end["ended"].as_f64().unwrap(), 2), "{end}");
    assert!(end["duration_seconds"].as_f64().unwrap() < 60.0, "{end}");
}

/// The only one there is.
async fn episode(exporter: &Exporter) -> serde_json::Value {
    let (_, body) = exporter.get("/api/v1/episodes").await;
    let mut told: serde_json::Value = serde_json::from_str(&body).unwrap();
    let episodes = told["episodes"].as_array_mut().unwrap();
    assert_eq!(episodes.len(), 1, "{body}");
    episodes.remove(0)
}
