//! Every query of every dashboard against a real Prometheus that scraped storms.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::dashboards::{self, Question};
use crate::harness::exporter::Exporter;
use crate::harness::prometheus::Prometheus;
use crate::harness::unix_now;

/// Metrics whose questions may stay without an answer here, and why.
const EXCUSED: [(&str, &str); 5] = [
    ("cache_storm_sentinel_", "the demo has no Sentinels"),
    ("cache_storm_cluster_", "the demo has no Redis Cluster"),
    ("cache_storm_shards", "the demo's nodes are listed"),
    ("cache_storm_discovery_", "the demo's nodes are listed"),
    ("cache_storm_hot_key_", "the demo does not sample keys"),
];
/// Three storms of the demo's cycle, two of them over, take half of it.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Seconds that one look covers: looks overlap, nothing goes by unseen.
const LOOK_BACK: f64 = 40.0;

#[tokio::test]
async fn every_query_of_every_dashboard_finds_something() {
    let arguments = ["demo", "--first-storm", "12s", "--every", "25s", "--seed", "7"];
    let exporter = Exporter::start(tempfile::tempdir().unwrap(), &arguments, &[]).await;
    // The same exporter under two addresses is a pair for availability: everything comes twice.
    let pair = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{}", exporter.port));
    let prometheus = Prometheus::scraping(&pair).await;

    let (start, clock, all) = (unix_now(), Instant::now(), questions());
    assert!(all.len() > 100, "{} questions", all.len());
    let excused = |question: &&Question| EXCUSED.iter().any(|(metric, _)| question.expr.contains(metric));
    let (mut open, mut faults) = (all.iter().filter(|it| !excused(it)).collect::<Vec<_>>(), Vec::new());
    while !open.is_empty() && clock.elapsed() < PATIENCE {
        sleep(LOOK_EVERY).await;
        let mut still = Vec::new();
        for question in open {
            if answers(&prometheus, question, unix_now() - LOOK_BACK).await.is_empty() {
                still.push(question);
            }
        }
        open = still;
    }
    faults.extend(open.iter().map(|question| format!("{}: nothing by {}", question.place, question.expr)));
    for question in &all {
        let series = answers(&prometheus, question, start).await;
        faults.extend(unfit(&series, question).map(|what| format!("{}: {what} by {}", question.place, question.expr)));
    }
    for (series, label) in dashboards::variables() {
        if prometheus.label_values(&fill(&series), &label).await.is_empty() {
            faults.push(format!("a variable has nothing to choose from: {series} {label}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    // A pair counts nodes once: three of each cache.
    let watched = all.iter().find(|question| question.place.ends_with("Nodes watched A")).unwrap();
    let counted: BTreeSet<String> = answers(&prometheus, watched, start).await.iter().flat_map(values).collect();
    assert_eq!(counted.into_iter().collect::<Vec<_>>(), ["6"]);
}

/// Each expression once, however many panels ask it.
fn questions() -> Vec<Question> {
    let mut seen = BTreeSet::new();
    dashboards::questions().into_iter().filter(|question| seen.insert(question.expr.clone())).collect()
}

/// What Grafana fills in: everything chosen, a short time range.
fn fill(expr: &str) -> String {
    let values = [
        // Steps of a subquery are those of the clock: of five minutes there may be none in a look, or in all of them.
        ("[$__range:5m]", "[40s:5s]"),
        ("$__rate_interval", "10s"),
        ("$__range", "40s"),
        ("$__interval", "2s"),
        ("$job", ".+"),
        ("$cache_node", ".+"),
        ("$cache", ".+"),
        ("$role", ".+"),
    ];
    values.iter().fold(expr.to_owned(), |expr, (variable, value)| expr.replace(variable, value))
}

/// Series since `start`.
async fn answers(prometheus: &Prometheus, question: &Question, start: f64) -> Vec<Value> {
    prometheus.range(&fill(&question.expr), start, unix_now(), 2.0).await
}

fn values(series: &Value) -> impl Iterator<Item = String> + '_ {
    series["values"].as_array().unwrap().iter().map(|value| value[1].as_str().unwrap().to_owned())
}

/// What must not be on a screen: values that are no numbers, and names in a legend that the series do not have.
fn unfit(series: &[Value], question: &Question) -> impl Iterator<Item = String> {
    let mut faults = BTreeSet::new();
    for one in series {
        faults.extend(values(one).filter(|value| ["NaN", "+Inf", "-Inf"].contains(&value.as_str())));
        let missing = question.labels.iter().filter(|label| one["metric"].get(label.as_str()).is_none());
        faults.extend(missing.map(|label| format!("no label {label}")));
    }
    faults.into_iter()
}
