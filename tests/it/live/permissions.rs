//! The users that the documents propose, on real servers: each is enough for what is said of it, and never refused.

use std::time::Duration;

use super::discovery::cluster;
use super::topology::in_sync;
use crate::harness::eventually;
use crate::harness::exporter::{Exporter, run};
use crate::harness::redis::Redis;
use crate::harness::resp::Reply;
use crate::harness::sentinel::{MASTER, Sentinel};

const DISCOVERY: &str = include_str!("../../../docs/discovery.md");
const TOPOLOGY: &str = include_str!("../../../docs/topology.md");

/// Generous: the machine may be busy with other things.
const SOON: Duration = Duration::from_secs(40);

/// The first user that a document proposes below a heading, as words, with another name and a password of ours.
fn proposed(document: &str, heading: &str, name: &str) -> Vec<String> {
    let below = document.split_once(&format!("\n## {heading}\n")).expect(heading).1;
    // A block of its own or a part of a sentence: it goes on to the closing backtick.
    let (_, line) = below.split_once("ACL SETUSER ").expect(heading);
    let mut rules = line.split('`').next().unwrap().split_whitespace();
    rules.next().expect("a name");
    let rules = rules.map(|rule| if rule == ">PASSWORD" { ">pass" } else { rule });
    ["ACL", "SETUSER", name].into_iter().chain(rules).map(str::to_owned).collect()
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// What the log of refusals (`ACL LOG`) says of that user.
fn refused(log: &Reply, user: &str) -> Vec<String> {
    let Reply::Array(entries) = log else { panic!("ACL LOG gives a list") };
    let field = |entry: &Reply, name: &str| {
        let Reply::Array(fields) = entry else { panic!("an entry is a list") };
        fields.chunks(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].text()).unwrap()
    };
    let of_user = entries.iter().filter(|entry| field(entry, "username") == user);
    of_user.map(|entry| field(entry, "object")).collect()
}

const NOTHING: [&str; 0] = [];

#[tokio::test]
async fn the_users_for_sentinels_and_nodes_are_enough_and_a_lost_subscription_loses_no_failover() {
    let nodes = Redis::fleet(2, &["--repl-diskless-sync-delay", "0"]).await;
    nodes[1].run(&["REPLICAOF", "127.0.0.1", &nodes[0].port.to_string()]).await;
    in_sync(&nodes[1..]).await;
    let sentinel = Sentinel::group(1, &nodes[0], 1).await.remove(0);
    for node in &nodes {
        node.run(&words(&proposed(DISCOVERY, "nodes", "exporter"))).await;
    }
    sentinel.run(&words(&proposed(DISCOVERY, "sentinel", "finder"))).await;
    sentinel.run(&words(&proposed(TOPOLOGY, "Sentinels", "watcher"))).await;
    let deaf =
        proposed(TOPOLOGY, "Sentinels", "deaf").into_iter().filter(|rule| rule != "+subscribe").collect::<Vec<_>>();
    sentinel.run(&words(&deaf)).await;
    let cache = |user: &str| {
        format!(
            "  - name: {user}\n    sentinel: {{ sentinels: [{}], master: {MASTER}, username: {user}, password_env: PASS }}\n    \
             username: exporter\n    password_env: PASS\n",
            sentinel.url()
        )
    };
    let pass = [("PASS", "pass")];
    let check = run(&format!("caches:\n{}", cache("finder")), &["check"], &pass).await;
    assert_eq!(check.code, Some(0), "{}", check.output);
    assert!(check.output.contains("3 of 3 nodes usable"), "{}", check.output);

    let config = format!("poll: {{ interval: 500ms }}\ncaches:\n{}{}", cache("watcher"), cache("deaf"));
    let exporter = Exporter::serve(&config, &pass).await;
    let of = async |cache: &str, name: &str| exporter.metrics().await.sample(name, &[("cache", cache)]);
    for cache in ["watcher", "deaf"] {
        eventually("the Sentinel is watched", SOON, async || {
            of(cache, "cache_storm_sentinel_quorum_ok").await == Some(1.0)
                && of(cache, "cache_storm_discovery_nodes").await == Some(2.0)
        })
        .await;
    }
    sentinel.run(&["SENTINEL", "FAILOVER", MASTER]).await;
    let heard = async |cache: &str| {
        let switched = [("cache", cache), ("event", "switch_master")];
        exporter.metrics().await.sample("cache_storm_sentinel_events_total", &switched)
    };
    eventually("the failover is announced", SOON, async || heard("watcher").await == Some(1.0)).await;
    for cache in ["watcher", "deaf"] {
        eventually("the failover is counted", SOON, async || {
            of(cache, "cache_storm_failovers_total").await == Some(1.0)
        })
        .await;
    }
    assert_eq!(heard("deaf").await, Some(0.0));
    let log = sentinel.run(&["ACL", "LOG"]).await;
    let [finder, watcher, deaf] = ["finder", "watcher", "deaf"].map(|user| refused(&log, user));
    assert_eq!((finder, watcher), (Vec::new(), Vec::new()));
    assert_eq!(deaf, ["subscribe"]);
    for node in &nodes {
        assert_eq!(refused(&node.run(&["ACL", "LOG"]).await, "exporter"), NOTHING);
    }
}

#[tokio::test]
async fn the_user_for_a_cluster_finds_its_nodes_and_check_says_which_right_is_missing() {
    let nodes = cluster().await;
    for node in &nodes {
        node.redis.run(&words(&proposed(DISCOVERY, "cluster", "exporter"))).await;
    }
    let config = format!(
        "caches:\n  - {{ name: main, cluster: {{ seeds: [{}] }}, username: exporter, password_env: PASS }}\n",
        nodes[0].redis.url()
    );
    let pass = [("PASS", "pass")];
    let check = run(&config, &["check"], &pass).await;
    assert_eq!((check.code, check.output.contains("6 of 6 nodes usable")), (Some(0), true), "{}", check.output);
    let shards = check.output.lines().filter(|line| line.contains(": 2 of 2 nodes usable, 546")).count();
    assert_eq!(shards, 3, "{}", check.output);
    for node in &nodes {
        assert_eq!(refused(&node.redis.run(&["ACL", "LOG"]).await, "exporter"), NOTHING);
    }

    let without = ["ACL", "SETUSER", "exporter", "-cluster|shards", "-cluster|nodes"];
    nodes[0].redis.run(&without).await;
    let check = run(&config, &["check"], &pass).await;
    assert!(check.output.contains("MISSING: ") && check.output.contains("+cluster|shards"), "{}", check.output);
    assert_ne!(check.code, Some(0));
}
