//! Several exporters that share one cache: a real Redis Cluster, dealt out by its replication groups.

use std::time::Duration;

use super::discovery::cluster;
use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::metrics::Metrics;

/// Generous: the machine may be busy with other things.
const SOON: Duration = Duration::from_secs(40);

/// Which of the exporters polls each node.
fn owners(scrapes: &[Metrics], nodes: &[String]) -> Vec<Vec<usize>> {
    let polls = |node: &String, scrape: &usize| scrapes[*scrape].node("cache_storm_node_up", node).is_some();
    nodes.iter().map(|node| (0..scrapes.len()).filter(|scrape| polls(node, scrape)).collect()).collect()
}

/// What the recording rules make of several exporters: each node once, then added up.
fn fleet(scrapes: &[Metrics], name: &str, nodes: &[String]) -> f64 {
    nodes.iter().filter_map(|node| scrapes.iter().filter_map(|scrape| scrape.node(name, node)).reduce(f64::max)).sum()
}

#[tokio::test]
async fn two_exporters_share_a_cluster_by_its_groups_and_add_up_to_one() {
    let mut cluster = cluster().await;
    let nodes: Vec<String> = cluster.iter().map(|node| node.redis.node()).collect();
    let traffic = Traffic { keys: Keys::Uniform(1_500), ..Traffic::default() };
    let _loads: Vec<Load> = cluster[..3].iter().map(|node| Load::start(node.redis.port, traffic.clone())).collect();
    let seeds: Vec<String> = cluster[1..3].iter().map(|node| node.redis.url()).collect();
    let config = format!(
        "poll: {{ interval: 500ms }}\ndetection: {{ time_scale: 5 }}\ndiscovery: {{ refresh: 1s }}\ncaches:\n  - {{ name: \
         main, cluster: {{ seeds: [{}] }}, shard_by: group }}\n",
        seeds.join(", ")
    );
    let whole = Exporter::serve(&config, &[]).await;
    let halves = [
        Exporter::serve(&config, &[("CACHE_STORM__SHARD", "1/2")]).await,
        Exporter::serve(&config, &[("CACHE_STORM__SHARD", "2/2")]).await,
    ];
    let scrapes = async || [halves[0].metrics().await, halves[1].metrics().await];
    let mut owned = Vec::new();
    eventually("each node is polled by one of the two", SOON, async || {
        owned = owners(&scrapes().await, &nodes);
        owned.iter().all(|owners| owners.len() == 1)
    })
    .await;
    assert_eq!(owned[..3], owned[3..], "a replica is where its master is");
    eventually("both together see as many nodes to judge as one", SOON, async || {
        let one = whole.metrics().await.sample("cache_storm_node_eligible", &[("cache_node", &nodes[0])]);
        let (name, halves) = ("cache_storm_node_eligible", scrapes().await);
        one == Some(1.0) && fleet(&halves, name, &nodes) == fleet(&[whole.metrics().await], name, &nodes)
    })
    .await;

    cluster[0].redis.kill();
    let promoted = async || cluster[3].redis.run(&["INFO", "replication"]).await.text().contains("role:master");
    eventually("the cluster promotes the replica", SOON, promoted).await;
    let (name, labels) = ("cache_storm_node_info", [("cache_node", nodes[3].as_str()), ("role", "master")]);
    eventually("its exporter follows", SOON, async || scrapes().await[owned[3][0]].sample(name, &labels).is_some())
        .await;
    eventually("nobody else has moved, and the failed master is down where it was", SOON, async || {
        let scrapes = scrapes().await;
        scrapes[owned[0][0]].node("cache_storm_node_up", &nodes[0]) == Some(0.0) && owners(&scrapes, &nodes) == owned
    })
    .await;
    let name = "cache_storm_node_affected";
    eventually("the storm is as large to both as to one", SOON, async || {
        let (halves, one) = (fleet(&scrapes().await, name, &nodes), fleet(&[whole.metrics().await], name, &nodes));
        halves == one && one > 0.0
    })
    .await;
}
