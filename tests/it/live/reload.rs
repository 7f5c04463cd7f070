//! Reload: what did not change lives on, what left is gone, what is wrong changes nothing.

use std::time::Duration;

use crate::harness::exporter::{Exporter, config};
use crate::harness::load::{Load, Traffic};
use crate::harness::redis::Redis;
use crate::harness::{eventually, throughout};

const POLL: &str = "interval: 500ms, timeout: 400ms";
const SUCCESS: &str = "cache_storm_exporter_config_last_reload_successful";

#[tokio::test]
async fn a_reload_keeps_what_did_not_change_and_refuses_what_is_wrong() {
    let mut nodes = Redis::fleet(2, &[]).await;
    nodes[0].fill(5_000).await;
    let _load = Load::start(nodes[0].port, Traffic::default());
    let exporter = Exporter::serve(&config(&nodes, POLL, "time_scale: 10"), &[]).await;
    exporter.polled_for(&nodes[0].node(), Duration::from_secs(4)).await;
    let leaving = nodes.pop().unwrap();
    let connection = connection_id(&nodes[0]).await;
    let kept = nodes[0].node();

    exporter.rewrite_config(&config(&nodes, POLL, "time_scale: 10"));
    exporter.hang_up();
    eventually("the node's series leave with it", Duration::from_secs(3), async || {
        !exporter.metrics().await.text.contains(&leaving.node())
    })
    .await;
    let metrics = exporter.metrics().await;
    assert!(metrics.node("cache_storm_hit_ratio", &kept).is_some(), "the window of the other node lives on");
    assert_eq!(connection_id(&nodes[0]).await, connection, "and so does its connection");
    assert_eq!(metrics.sample(SUCCESS, &[]), Some(1.0));

    exporter.rewrite_config("caches: [{ name: main, nodes: ['redis://127.0.0.1:1'], typo: 1 }]");
    exporter.hang_up();
    eventually("a bad file is told", Duration::from_secs(3), async || {
        exporter.metrics().await.sample(SUCCESS, &[]) == Some(0.0)
    })
    .await;
    throughout("the old configuration stays", Duration::from_secs(2), async || {
        exporter.metrics().await.node("cache_storm_node_up", &kept) == Some(1.0)
    })
    .await;
    assert!(exporter.log().contains("typo"), "the log names the key");
}

/// The server's own number of our connection.
async fn connection_id(redis: &Redis) -> String {
    let clients = redis.run(&["CLIENT", "LIST"]).await.text();
    let ours = clients.lines().find(|line| line.contains("name=cache-storm-exporter")).expect("our connection");
    ours.split(' ').next().unwrap().to_owned()
}
