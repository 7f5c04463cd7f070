//! From the storm on real servers to the right team's receiver, with the rules and routes that ship.

use std::time::Duration;

use crate::harness::exporter::Exporter;
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::pager::{Notice, Pager};
use crate::harness::redis::Redis;
use crate::harness::{eventually, throughout};

/// The one factor: the detector, polls, scrapes, rules, groups of notices and limits are this much shorter than in
/// production. Only a poll's deadline is not, for it is the machine's and not the storm's.
const SPEED: f64 = 10.0;
/// Evaluation interval of the rules.
const EVALUATION_SECONDS: f64 = 15.0 / SPEED;
/// So many do not come back by themselves while the test lasts.
const KEYS: usize = 100_000;

/// A storm on a cache of its own.
struct Storm {
    cache: &'static str,
    /// The notice; its escalation is called `…Escalated`.
    alert: &'static str,
    team: &'static str,
    /// As configured for production; none: the storm ends as soon as its notice is there.
    limit_seconds: Option<f64>,
    /// Nodes that take part, of two: one is major, both are critical.
    nodes: usize,
}

/// In the order of their limits.
const STORMS: [Storm; 5] = [
    Storm { cache: "brief", alert: INVALIDATION, team: "backend-team", limit_seconds: None, nodes: 1 },
    Storm { cache: "full", alert: PRESSURE, team: "incident-response", limit_seconds: Some(60.0), nodes: 1 },
    Storm { cache: "flushed", alert: INVALIDATION, team: "backend-team", limit_seconds: Some(120.0), nodes: 2 },
    Storm { cache: "expired", alert: EXPIRATION, team: "infrastructure-team", limit_seconds: Some(120.0), nodes: 1 },
    Storm { cache: "cold", alert: COLD_START, team: "backend-team", limit_seconds: Some(300.0), nodes: 1 },
];
const COLD_START: &str = "CacheStormColdStart";
const EXPIRATION: &str = "CacheStormMassExpiration";
const INVALIDATION: &str = "CacheStormMassInvalidation";
const PRESSURE: &str = "CacheStormMemoryPressure";

#[tokio::test]
async fn each_storm_calls_its_team_once_and_again_at_its_limit() {
    let (mut fleets, mut loads) = (Vec::new(), Vec::new());
    for _ in &STORMS {
        let (nodes, clients) = cache().await;
        fleets.push(nodes);
        loads.extend(clients);
    }
    let exporter = Exporter::serve(&config(&fleets), &[]).await;
    let pager = Pager::start(&exporter, SPEED).await;
    throughout("quiet", Duration::from_secs_f64(90.0 / SPEED), async || pager.told().is_empty()).await;

    for (storm, nodes) in STORMS.iter().zip(&mut fleets) {
        for node in &mut nodes[..storm.nodes] {
            strike(storm.alert, node).await;
        }
    }
    let mut expected =
        vec![("incident-response-page".to_owned(), "CacheStormCritical".to_owned(), "flushed".to_owned())];
    for (storm, nodes) in STORMS.iter().zip(&fleets) {
        let notice = arrives(&pager, storm.team, storm.alert, storm.cache).await;
        expected.push(key(&notice));
        if storm.limit_seconds.is_none() {
            end(nodes).await;
        }
    }
    for (storm, nodes) in STORMS.iter().zip(&fleets) {
        let Some(limit_seconds) = storm.limit_seconds else { continue };
        let (receiver, alert) = (format!("{}-page", storm.team), format!("{}Escalated", storm.alert));
        let page = arrives(&pager, &receiver, &alert, storm.cache).await;
        on_time(&exporter, &pager, &page, limit_seconds / SPEED).await;
        expected.push(key(&page));
        end(nodes).await;
    }

    expected.sort_unstable();
    let is_resolved = async || summary(&pager, true).len() >= expected.len();
    eventually("all is resolved", Duration::from_secs(45), is_resolved).await;
    assert_eq!(summary(&pager, false), expected, "told once each, and nobody else");
    assert_eq!(summary(&pager, true), expected, "resolved once each");
}

/// Two nodes with their keys and clients.
async fn cache() -> (Vec<Redis>, Vec<Load>) {
    let nodes = Redis::fleet(2, &[]).await;
    for node in &nodes {
        node.fill(KEYS).await;
    }
    let traffic = Traffic { lookups_per_second: 400.0, keys: Keys::Uniform(KEYS), ..Traffic::default() };
    let loads = nodes.iter().map(|node| Load::start(node.port, traffic.clone())).collect();
    (nodes, loads)
}

fn config(fleets: &[Vec<Redis>]) -> String {
    let mut text = format!("poll: {{ interval: 500ms, timeout: 400ms }}\ndetection: {{ time_scale: {SPEED} }}\n");
    text += "thresholds:\n";
    for (storm_type, seconds) in
        [("cold_start", 300.0), ("mass_expiration", 120.0), ("mass_invalidation", 120.0), ("memory_pressure", 60.0)]
    {
        text += &format!("  escalate_after_seconds_{storm_type}: {}\n", seconds / SPEED);
    }
    text += "caches:\n";
    for (storm, nodes) in STORMS.iter().zip(fleets) {
        let urls: Vec<String> = nodes.iter().map(Redis::url).collect();
        text += &format!("  - name: {}\n    nodes: [{}]\n", storm.cache, urls.join(", "));
    }
    text
}

/// Does to a node what the alert is about.
async fn strike(alert: &str, node: &mut Redis) {
    match alert {
        INVALIDATION => drop(node.run(&["FLUSHALL"]).await),
        EXPIRATION => {
            let script = "for i = 0, ARGV[1] - 1 do redis.call('PEXPIRE', 'k:' .. i, 1000) end";
            node.run(&["EVAL", script, "0", &KEYS.to_string()]).await;
        }
        PRESSURE => {
            let half = (node.info("used_memory").await / 2.0).to_string();
            node.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
            node.run(&["CONFIG", "SET", "maxmemory", &half]).await;
        }
        COLD_START => {
            // Nothing was saved: it comes back empty.
            node.kill();
            node.start_again().await;
        }
        _ => panic!("how is {alert} made?"),
    }
}

/// Takes away what any of the storms needs to go on.
async fn end(nodes: &[Redis]) {
    for node in nodes {
        node.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
        node.fill(KEYS).await;
    }
}

async fn arrives(pager: &Pager, receiver: &str, alert: &str, cache: &str) -> Notice {
    let find = || {
        let mut told = pager.told().into_iter();
        told.find(|notice| notice.receiver == receiver && notice.alert == alert && notice.cache == cache)
    };
    let what = format!("{receiver} is told of {alert} of {cache}");
    eventually(&what, Duration::from_secs(30), async || find().is_some()).await;
    find().unwrap()
}

/// The escalation began to hold at the storm's limit, give or take one evaluation, and was told by the next. One more
/// is allowed for: at a tenth of the time a pause of the test machine costs an evaluation.
async fn on_time(exporter: &Exporter, pager: &Pager, page: &Notice, limit_seconds: f64) {
    let metrics = exporter.metrics().await;
    let onset = metrics.sample("cache_storm_started_timestamp_seconds", &[("cache", &page.cache)]).expect("an onset");
    let late = pager.seconds(&page.starts_at).await - onset - limit_seconds;
    assert!(late.abs() <= 2.0 * EVALUATION_SECONDS, "{late} s after its limit: {page:?}");
    let told = page.at - onset - limit_seconds;
    assert!(told <= 3.0 * EVALUATION_SECONDS, "told {told} s after its limit: {page:?}");
}

fn key(notice: &Notice) -> (String, String, String) {
    (notice.receiver.clone(), notice.alert.clone(), notice.cache.clone())
}

/// Receiver, alert and cache of what was told, in order: of resolutions or of the others.
fn summary(pager: &Pager, resolved: bool) -> Vec<(String, String, String)> {
    let told = pager.told();
    let mut summary: Vec<_> = told.iter().filter(|notice| notice.resolved == resolved).map(key).collect();
    summary.sort_unstable();
    summary
}
