//! Nodes that are found over TLS, by the ports and host names that servers announce. The certificate is for a name
//! only: a node that is up was dialled by that name.

use std::time::Duration;

use super::topology::in_sync;
use crate::harness::certificates::{Certificates, HOST};
use crate::harness::exporter::Exporter;
use crate::harness::redis::Redis;
use crate::harness::sentinel::{MASTER, PATIENCE, Sentinel, Setup};
use crate::harness::{eventually, free_port};

/// Generous: the machine may be busy with other things.
const SOON: Duration = Duration::from_secs(30);

/// Where the name may lead; the sign lets one of them be missing.
const BOTH_FAMILIES: [&str; 3] = ["--bind", "127.0.0.1", "-::1"];

/// Servers with a plain port, and a second one for TLS.
async fn fleet(count: usize, certificates: &Certificates, options: &[&str]) -> Vec<(Redis, u16)> {
    let mut fleet = Vec::new();
    for _ in 0..count {
        let port = free_port();
        let mut all: Vec<String> = BOTH_FAMILIES.iter().chain(options).map(|option| (*option).to_owned()).collect();
        for (name, value) in certificates.settings(port) {
            all.extend([format!("--{name}"), value]);
        }
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        fleet.push((Redis::start(&all).await, port));
    }
    fleet
}

/// All of these are up, in these roles, and there are no others.
async fn found(exporter: &Exporter, cache: &str, nodes: &[(u16, &str)]) {
    eventually("all nodes are up", SOON, async || {
        let metrics = exporter.metrics().await;
        let of_cache = [("cache", cache)];
        let roles = metrics.all("cache_storm_node_info", &of_cache);
        let mut roles: Vec<_> =
            roles.map(|node| (node.labels["cache_node"].clone(), node.labels["role"].clone())).collect();
        let mut wanted: Vec<_> =
            nodes.iter().map(|(port, role)| (format!("{HOST}:{port}"), (*role).to_owned())).collect();
        roles.sort();
        wanted.sort();
        roles == wanted
    })
    .await;
}

#[tokio::test]
async fn a_cluster_is_found_at_its_announced_names_and_tls_ports() {
    let certificates = Certificates::issue();
    let options = [
        "--cluster-enabled",
        "yes",
        "--tls-cluster",
        "yes",
        "--cluster-announce-hostname",
        HOST,
        "--cluster-preferred-endpoint-type",
        "hostname",
    ];
    // The bus takes a port 10,000 above: one of its own keeps it below 65,536.
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = free_port();
        let bus_option = bus.to_string();
        let options = [&options[..], &["--cluster-port", &bus_option]].concat();
        let (redis, port) = fleet(1, &certificates, &options).await.remove(0);
        nodes.push((redis, port, bus));
    }
    nodes[0].0.run(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]).await;
    nodes[1].0.run(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]).await;
    for (_, port, bus) in &nodes[1..] {
        nodes[0].0.run(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus.to_string()]).await;
    }
    let says = async |node: &Redis, command: &str, text: &str| {
        eventually(text, SOON, async || node.run(&["CLUSTER", command]).await.text().contains(text)).await;
    };
    for (node, ..) in &nodes {
        says(node, "INFO", "cluster_known_nodes:3").await;
    }
    let id = nodes[0].0.run(&["CLUSTER", "MYID"]).await.text();
    nodes[2].0.run(&["CLUSTER", "REPLICATE", &id]).await;
    for (node, ..) in &nodes {
        says(node, "INFO", "cluster_state:ok").await;
        // One may not use CLUSTER SHARDS.
        let user = "ACL SETUSER old on >pw +info +client|setname +cluster|nodes +cluster|info";
        node.run(&user.split(' ').collect::<Vec<_>>()).await;
    }
    let seed = format!("cluster: {{ seeds: ['rediss://{HOST}:{}'] }}", nodes[1].1);
    let tls = format!("tls: {{ ca_file: '{}' }}", certificates.file("ca.pem"));
    let config = format!(
        "poll: {{ interval: 500ms }}\ndiscovery: {{ refresh: 2s }}\ncaches:\n  - {{ name: shards, {seed}, {tls} }}\n  - \
         {{ name: nodes, {seed}, {tls}, username: old, password_env: PASSWORD }}\n"
    );
    let exporter = Exporter::serve(&config, &[("PASSWORD", "pw")]).await;
    let all = [(nodes[0].1, "master"), (nodes[1].1, "master"), (nodes[2].1, "replica")];
    found(&exporter, "shards", &all).await;
    found(&exporter, "nodes", &all).await;
}

#[tokio::test]
async fn sentinels_and_the_nodes_they_name_are_asked_over_tls() {
    let certificates = Certificates::issue();
    let announced = ["--replica-announce-ip", HOST, "--repl-diskless-sync-delay", "0"];
    let mut nodes = fleet(2, &certificates, &announced).await;
    let (replica, replica_port) = nodes.pop().unwrap();
    let (_master, port) = nodes.pop().unwrap();
    replica.run(&["REPLICAOF", HOST, &port.to_string()]).await;
    in_sync(std::slice::from_ref(&replica)).await;
    let sentinel_port = free_port();
    let mut before =
        "bind 127.0.0.1 -::1\nsentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n".to_owned();
    for (name, value) in certificates.settings(sentinel_port) {
        before += &format!("{name} {value}\n");
    }
    let setup = Setup { master: (HOST, port), quorum: 1, patience: PATIENCE, password: None, further: [&before, ""] };
    let sentinel = Sentinel::set_up(free_port(), setup).await;
    sentinel.knows(0, 1).await;
    let tls = format!("tls: {{ ca_file: '{}' }}", certificates.file("ca.pem"));
    let source = format!("sentinel: {{ sentinels: ['rediss://{HOST}:{sentinel_port}'], master: {MASTER}, {tls} }}");
    let config = format!(
        "poll: {{ interval: 500ms }}\ndiscovery: {{ refresh: 2s }}\ncaches:\n  - {{ name: main, {source}, {tls} }}\n"
    );
    let exporter = Exporter::serve(&config, &[]).await;
    found(&exporter, "main", &[(port, "master"), (replica_port, "replica"), (sentinel_port, "sentinel")]).await;
    eventually("the Sentinel is heard", SOON, async || {
        let heard = [("cache", "main"), ("master_name", MASTER)];
        exporter.metrics().await.sample("cache_storm_sentinel_quorum_ok", &heard) == Some(1.0)
    })
    .await;
}
