//! Nodes that are found: a real Redis Cluster through a failover and a change of its nodes, a file, a name, a stranger.

use std::time::Duration;

use tokio::net::TcpListener;

use crate::harness::exporter::{Exporter, run};
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::redis::Redis;
use crate::harness::{eventually, free_port, throughout};

/// Generous: the machine may be busy with other things.
const SOON: Duration = Duration::from_secs(30);

pub(super) struct Node {
    pub(super) redis: Redis,
    bus: u16,
    id: String,
}

impl Node {
    async fn start() -> Self {
        let bus = free_port();
        let options =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--cluster-port", &bus.to_string()];
        let redis = Redis::start(&options).await;
        let id = redis.run(&["CLUSTER", "MYID"]).await.text();
        Self { redis, bus, id }
    }

    async fn meet(&self, other: &Node) {
        let (port, bus) = (other.redis.port.to_string(), other.bus.to_string());
        self.redis.run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
    }

    async fn cluster_says(&self, line: &str) -> bool {
        self.redis.run(&["CLUSTER", "INFO"]).await.text().lines().any(|said| said.trim_end() == line)
    }
}

/// Three masters, then their three replicas.
pub(super) async fn cluster() -> Vec<Node> {
    let mut nodes = Vec::new();
    for epoch in 1..=6 {
        let node = Node::start().await;
        node.redis.run(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]).await;
        nodes.push(node);
    }
    for (node, [first, last]) in nodes.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]]) {
        node.redis.run(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
    }
    for other in &nodes[1..] {
        nodes[0].meet(other).await;
    }
    for node in &nodes {
        eventually("everybody has met", SOON, async || node.cluster_says("cluster_known_nodes:6").await).await;
    }
    for (master, replica) in nodes.iter().zip(&nodes[3..]) {
        replica.redis.run(&["CLUSTER", "REPLICATE", &master.id]).await;
    }
    for node in &nodes {
        eventually("the cluster is fine", SOON, async || node.cluster_says("cluster_state:ok").await).await;
    }
    for replica in &nodes[3..] {
        let linked =
            async || replica.redis.run(&["INFO", "replication"]).await.text().contains("master_link_status:up");
        eventually("replicas are linked", SOON, linked).await;
    }
    nodes
}

async fn role(exporter: &Exporter, node: &str) -> Vec<String> {
    let metrics = exporter.metrics().await;
    let labels = [("cache_node", node)];
    metrics.all("cache_storm_node_info", &labels).map(|sample| sample.labels["role"].clone()).collect()
}

/// The cluster's own promotion, and the exporter's word of it at most this much later.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_cluster_is_found_by_one_live_seed_and_followed() {
    let mut nodes = cluster().await;
    // Each serves its third of the lookups and turns the others away; the replica of the first all of them, until it
    // is promoted.
    let traffic = Traffic { keys: Keys::Uniform(1_500), ..Traffic::default() };
    let _loads: Vec<Load> = nodes[..4].iter().map(|node| Load::start(node.redis.port, traffic.clone())).collect();
    let seeds = [free_port(), free_port(), nodes[1].redis.port].map(|port| format!("redis://127.0.0.1:{port}"));
    let config = format!(
        "poll: {{ interval: 500ms }}\ndetection: {{ time_scale: 5 }}\ndiscovery: {{ refresh: 2s }}\ncaches:\n  - {{ name: main, cluster: {{ seeds: [{}] }} }}\n",
        seeds.join(", ")
    );
    let exporter = Exporter::serve(&config, &[]).await;
    eventually("all six are found, in their roles", SOON, async || {
        let mut right = 0;
        for (index, node) in nodes.iter().enumerate() {
            right += usize::from(role(&exporter, &node.redis.node()).await == [["master", "replica"][index / 3]]);
        }
        right == 6
    })
    .await;
    let main = [("cache", "main")];
    let metrics = exporter.metrics().await;
    assert_eq!(metrics.sample("cache_storm_discovery_up", &main), Some(1.0));
    assert_eq!(metrics.sample("cache_storm_discovery_nodes", &main), Some(6.0));

    let failed = nodes[0].redis.node();
    eventually("the first master has a usual hit ratio", SOON, async || {
        exporter.metrics().await.node("cache_storm_hit_ratio_baseline", &failed).is_some()
    })
    .await;
    assert_eq!(exporter.severity().await, 0);
    let heir = nodes[3].redis.node();
    let [role_before, shard] = target(&exporter, &heir).await;
    assert_eq!((role_before.as_str(), &shard), ("replica", &target(&exporter, &failed).await[1]));
    let check = run(&config, &["check"], &[]).await.output;
    let shard_of_both = format!("  shard {shard}: 2 of 2 nodes usable, 5461 slots\n    {failed}  ok: master");
    assert!(check.contains(&shard_of_both), "{shard_of_both}\n\n{check}");
    nodes[0].redis.kill();
    let promoted = async || nodes[3].redis.run(&["INFO", "replication"]).await.text().contains("role:master");
    eventually("the cluster promotes the replica", SOON, promoted).await;
    // Only that: no trace of the role it had.
    eventually("the exporter follows", FOLLOWED_WITHIN, async || role(&exporter, &heir).await == ["master"]).await;
    eventually("the storm is one of a failover", SOON, async || {
        let leads = [("cache", "main"), ("storm_type", "failover_cascade")];
        exporter.metrics().await.sample("cache_storm_active", &leads) == Some(1.0)
    })
    .await;
    let metrics = exporter.metrics().await;
    assert_eq!(metrics.node("cache_storm_node_up", &failed), Some(0.0), "listed, and down");
    for (state, count) in [("ok", 2.0), ("no_replica", 1.0), ("no_master", 0.0)] {
        let shards = metrics.sample("cache_storm_shards", &[("cache", "main"), ("state", state)]);
        assert_eq!(shards, Some(count), "shards {state}");
    }
    assert_eq!(metrics.sample("cache_storm_failovers_total", &main), Some(1.0));

    let fresh = Node::start().await;
    nodes[1].meet(&fresh).await;
    for node in &nodes[1..] {
        node.redis.run(&["CLUSTER", "FORGET", &nodes[0].id]).await;
    }
    for node in &nodes[1..] {
        eventually("the new node is known", SOON, async || {
            let known = node.redis.run(&["CLUSTER", "NODES"]).await.text();
            known.lines().any(|line| line.starts_with(&fresh.id) && !line.contains("handshake"))
        })
        .await;
    }
    // One refresh, and the round after it; the rest is for a busy machine.
    eventually("the set follows", Duration::from_secs(10), async || {
        let metrics = exporter.metrics().await;
        metrics.node("cache_storm_node_up", &failed).is_none()
            && metrics.node("cache_storm_node_up", &fresh.redis.node()) == Some(1.0)
    })
    .await;
    assert_eq!(exporter.metrics().await.sample("cache_storm_discovery_nodes", &main), Some(6.0));
    let [role, after] = target(&exporter, &heir).await;
    assert_eq!((role.as_str(), after), ("master", shard), "the shard keeps its name");
}

/// Role and shard of a node, as `/sd` says them.
async fn target(exporter: &Exporter, node: &str) -> [String; 2] {
    let (_, targets) = exporter.get("/sd").await;
    let targets: serde_json::Value = serde_json::from_str(&targets).unwrap();
    let group = targets.as_array().unwrap().iter().find(|group| group["targets"][0] == node).unwrap();
    ["role", "shard"].map(|name| group["labels"][format!("__meta_cache_storm_{name}")].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_file_is_followed_a_name_resolved_and_a_stranger_never_dialled() {
    let nodes = Redis::fleet(2, &[]).await;
    // Loopback is allowed only as far as 127.0.0.1.
    let stranger = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("targets.json");
    let write = |targets: &[String]| {
        std::fs::write(&file, serde_json::json!([{ "targets": targets, "labels": { "env": "test" } }]).to_string())
            .unwrap();
    };
    let third = stranger.local_addr().unwrap().to_string();
    write(&[nodes[0].node(), third.clone()]);
    let config = format!(
        "poll: {{ interval: 500ms }}\ndiscovery: {{ allow: [127.0.0.1, \"::1\"] }}\ncaches:\n  - {{ name: file, file: {} }}\n  - {{ name: name, dns: {{ name: localhost, port: {} }} }}\n",
        file.display(),
        nodes[0].port
    );
    let exporter = Exporter::serve(&config, &[]).await;
    let up = async |cache: &str, node: &str| {
        exporter.metrics().await.sample("cache_storm_node_up", &[("cache", cache), ("cache_node", node)])
    };
    for cache in ["file", "name"] {
        eventually("the node is found", SOON, async || up(cache, &nodes[0].node()).await == Some(1.0)).await;
    }
    write(&[nodes[1].node(), third.clone()]);
    eventually("the file's new node is polled, its old one gone", SOON, async || {
        up("file", &nodes[1].node()).await == Some(1.0) && up("file", &nodes[0].node()).await.is_none()
    })
    .await;
    let refused = exporter.metrics().await;
    let refused =
        refused.sample("cache_storm_discovery_rejected_total", &[("cache", "file"), ("reason", "not_allowed")]);
    assert!(refused >= Some(2.0), "{refused:?}");
    throughout("nobody calls the stranger", Duration::from_secs(2), async || {
        tokio::time::timeout(Duration::from_millis(1), stranger.accept()).await.is_err()
    })
    .await;
    assert_eq!(up("file", &third).await, None);
}
