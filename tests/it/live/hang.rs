//! One node that accepts connections and never answers, among fifty.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::harness::eventually;
use crate::harness::exporter::{Exporter, config};
use crate::harness::redis::Redis;

const INTERVAL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_stopped_node_costs_neither_the_rounds_nor_the_scrapes_their_pace() {
    let nodes = Redis::fleet(50, &[]).await;
    let exporter = Exporter::serve(&config(&nodes, "interval: 1s, timeout: 800ms", ""), &[]).await;
    let stopped = nodes[17].node();
    let (_, before) = scrape_for(&exporter, 4 * INTERVAL).await;
    nodes[17].signal("STOP");
    let (rounds, answers) = scrape_for(&exporter, 12 * INTERVAL).await;

    assert!(rounds.len() >= 11, "rounds closed in twelve intervals: {rounds:?}");
    // A closing round may come as late as its deadline, so two of them lie apart an interval and a timeout at most.
    assert!(rounds.windows(2).all(|pair| pair[1] - pair[0] < 1.9), "{rounds:?}");
    // The bar is 50 ms; a busy test machine shows in the scrapes before, and they then are the yardstick. Answers
    // that waited for the hung node would be spread over its 800 ms.
    let (usual, typical) = (most(before), most(answers));
    let limit = Duration::from_millis(50).max(2 * usual);
    assert!(typical < limit, "95 % of the scrapes within {typical:?}, before the hang within {usual:?}");

    let metrics = exporter.metrics().await;
    assert_eq!(exporter.node_report(&stopped).await["down_reason"], "timeout");
    for node in &nodes {
        let up = if node.node() == stopped { 0.0 } else { 1.0 };
        assert_eq!(metrics.node("cache_storm_node_up", &node.node()), Some(up), "{}", node.node());
    }

    nodes[17].signal("CONT");
    eventually("the node is back", Duration::from_secs(20), async || {
        exporter.metrics().await.node("cache_storm_node_up", &stopped) == Some(1.0)
    })
    .await;
}

/// Scrapes every 50 ms: when rounds closed, and how long each answer took.
async fn scrape_for(exporter: &Exporter, span: Duration) -> (Vec<f64>, Vec<Duration>) {
    let start = Instant::now();
    let (mut rounds, mut answers) = (Vec::new(), Vec::new());
    while start.elapsed() < span {
        let asked = Instant::now();
        let metrics = exporter.metrics().await;
        answers.push(asked.elapsed());
        let round = metrics.sample("cache_storm_last_round_timestamp_seconds", &[("cache", "main")]).unwrap();
        if rounds.last() != Some(&round) {
            rounds.push(round);
        }
        sleep(Duration::from_millis(50)).await;
    }
    (rounds, answers)
}

/// What 95 % of the answers stayed within.
fn most(mut answers: Vec<Duration>) -> Duration {
    answers.sort();
    answers[answers.len() * 95 / 100]
}
