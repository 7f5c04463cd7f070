//! The table of `docs/faults.md`, row by row: what a fault shows as, and that it ends with its cause.

use std::sync::Arc;
use std::time::Duration;

use cache_storm_exporter::sim::fleet::Fleet;
use cache_storm_exporter::sim::mode::Mode;
use cache_storm_exporter::sim::node::Node;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::eventually;
use crate::harness::exporter::Exporter;

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
}
