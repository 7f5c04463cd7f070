//! What the alerting rules read is there: every name, label and value, on a real `/metrics`.

use std::time::Duration;

use crate::alerts::series::{Series, read_by_rules};
use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::load::{Load, Traffic};
use crate::harness::metrics::Metrics;
use crate::harness::redis::Redis;
use crate::harness::sentinel::{MASTER, Sentinel};

/// Series that need a Sentinel, a cluster or a discovered cache, which the demo has not.
const DISCOVERED: [&str; 3] = ["cache_storm_sentinel_", "cache_storm_cluster_", "cache_storm_discovery_"];

/// What rules read and none of the scrapes shows, of what a demo shows in the course of a storm.
pub(super) fn missing_in_a_demo(scrapes: &[Metrics]) -> Vec<Series> {
    missing(scrapes, |series| !DISCOVERED.iter().any(|start| series.name.starts_with(start)))
}

fn missing(scrapes: &[Metrics], of: impl Fn(&Series) -> bool) -> Vec<Series> {
    let unseen = |series: &Series| !scrapes.iter().any(|scrape| series.is_in(scrape));
    read_by_rules().into_iter().filter(of).filter(unseen).collect()
}

#[tokio::test]
async fn rules_about_sentinels_clusters_and_discovery_find_their_series() {
    let nodes = Redis::fleet(2, &[]).await;
    let ring = Redis::fleet(1, &["--cluster-enabled", "yes"]).await;
    nodes[1].run(&["REPLICAOF", "127.0.0.1", &nodes[0].port.to_string()]).await;
    let _load = Load::start(nodes[0].port, Traffic::default());
    let sentinels = Sentinel::group(1, &nodes[0], 1).await;
    let config = format!(
        "poll: {{ interval: 500ms, timeout: 400ms }}\ncaches:\n  - name: main\n    sentinel: {{ sentinels: [{}], master: \
         {MASTER} }}\n  - name: ring\n    nodes: [{}]\n",
        sentinels[0].url(),
        ring[0].url()
    );
    let exporter = Exporter::serve(&config, &[]).await;
    let mut scrapes = Vec::new();
    let of = |series: &Series| DISCOVERED.iter().any(|start| series.name.starts_with(start));
    let found = async || {
        scrapes = vec![exporter.metrics().await];
        missing(&scrapes, of).is_empty()
    };
    let patience = Duration::from_secs(40);
    let all = tokio::time::timeout(patience, eventually("all series", Duration::MAX, found)).await;
    assert!(all.is_ok(), "rules read what is not there: {:#?}", missing(&scrapes, of));
}
