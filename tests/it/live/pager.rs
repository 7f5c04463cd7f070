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
const INVALIDATION_LIMIT_SECONDS: f64 = 120.0 / SPEED;
const PRESSURE_LIMIT_SECONDS: f64 = 60.0 / SPEED;
/// They do not come back by themselves while the test lasts.
const KEYS: usize = 40_000;

const FLUSHED: &str = "flushed";
const BRIEF: &str = "brief";
const FULL: &str = "full";

#[tokio::test]
async fn each_storm_calls_its_team_once_and_again_at_its_limit() {
    // All of one cache, half of the others: only the first is critical.
    let (flushed, _first) = cache(2).await;
    let (brief, _second) = cache(2).await;
    let (full, _third) = cache(2).await;
    let exporter = Exporter::serve(&config(&[(FLUSHED, &flushed), (BRIEF, &brief), (FULL, &full)]), &[]).await;
    let pager = Pager::start(&exporter, SPEED).await;
    throughout("quiet", Duration::from_secs_f64(90.0 / SPEED), async || pager.told().is_empty()).await;

    for node in flushed.iter().chain(&brief[..1]) {
        node.run(&["FLUSHALL"]).await;
    }
    let fits_half = (full[0].info("used_memory").await / 2.0).to_string();
    full[0].run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    full[0].run(&["CONFIG", "SET", "maxmemory", &fits_half]).await;

    arrives(&pager, "backend-team", "CacheStormMassInvalidation", BRIEF).await;
    brief[0].fill(KEYS).await;
    arrives(&pager, "backend-team", "CacheStormMassInvalidation", FLUSHED).await;
    arrives(&pager, "incident-response", "CacheStormMemoryPressure", FULL).await;
    arrives(&pager, "incident-response-page", "CacheStormCritical", FLUSHED).await;
    let page = arrives(&pager, "incident-response-page", "CacheStormMemoryPressureEscalated", FULL).await;
    on_time(&exporter, &pager, &page, PRESSURE_LIMIT_SECONDS).await;
    full[0].run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    full[0].fill(KEYS).await;
    let page = arrives(&pager, "backend-team-page", "CacheStormMassInvalidationEscalated", FLUSHED).await;
    on_time(&exporter, &pager, &page, INVALIDATION_LIMIT_SECONDS).await;
    for node in &flushed {
        node.fill(KEYS).await;
    }

    let expected = [
        ("backend-team", "CacheStormMassInvalidation", BRIEF),
        ("backend-team", "CacheStormMassInvalidation", FLUSHED),
        ("backend-team-page", "CacheStormMassInvalidationEscalated", FLUSHED),
        ("incident-response", "CacheStormMemoryPressure", FULL),
        ("incident-response-page", "CacheStormCritical", FLUSHED),
        ("incident-response-page", "CacheStormMemoryPressureEscalated", FULL),
    ];
    let is_resolved = async || summary(&pager.told(), true).len() >= expected.len();
    eventually("all is resolved", Duration::from_secs(45), is_resolved).await;
    let told = pager.told();
    assert_eq!(summary(&told, false), expected, "told once each, and nobody else: {told:#?}");
    assert_eq!(summary(&told, true), expected, "resolved once each: {told:#?}");
}

/// Nodes with their keys and clients.
async fn cache(nodes: usize) -> (Vec<Redis>, Vec<Load>) {
    let nodes = Redis::fleet(nodes, &[]).await;
    for node in &nodes {
        node.fill(KEYS).await;
    }
    let traffic = Traffic { lookups_per_second: 600.0, keys: Keys::Uniform(KEYS), ..Traffic::default() };
    let loads = nodes.iter().map(|node| Load::start(node.port, traffic.clone())).collect();
    (nodes, loads)
}

fn config(caches: &[(&str, &[Redis])]) -> String {
    let mut text = format!(
        "poll: {{ interval: 500ms, timeout: 400ms }}\n\
         detection: {{ time_scale: {SPEED} }}\n\
         thresholds:\n  \
           escalate_after_seconds_mass_invalidation: {INVALIDATION_LIMIT_SECONDS}\n  \
           escalate_after_seconds_memory_pressure: {PRESSURE_LIMIT_SECONDS}\n\
         caches:\n"
    );
    for (name, nodes) in caches {
        let urls: Vec<String> = nodes.iter().map(Redis::url).collect();
        text += &format!("  - name: {name}\n    nodes: [{}]\n", urls.join(", "));
    }
    text
}

async fn arrives(pager: &Pager, receiver: &str, alert: &str, cache: &str) -> Notice {
    let find = || {
        let mut told = pager.told().into_iter();
        told.find(|notice| notice.receiver == receiver && notice.alert == alert && notice.cache == cache)
    };
    let what = format!("{receiver} is told of {alert} of {cache}");
    eventually(&what, Duration::from_secs(20), async || find().is_some()).await;
    find().unwrap()
}

/// The escalation began to hold at the storm's limit ± one evaluation, and was told by the next.
async fn on_time(exporter: &Exporter, pager: &Pager, page: &Notice, limit_seconds: f64) {
    let metrics = exporter.metrics().await;
    let onset = metrics.sample("cache_storm_started_timestamp_seconds", &[("cache", &page.cache)]).expect("an onset");
    let late = pager.seconds(&page.starts_at).await - onset - limit_seconds;
    assert!(late.abs() <= EVALUATION_SECONDS, "{late} s after its limit: {page:?}");
    let told = page.at - onset - limit_seconds;
    assert!(told <= 2.0 * EVALUATION_SECONDS, "told {told} s after its limit: {page:?}");
}

/// Receiver, alert and cache of what was told, in order: of resolutions or of the others.
fn summary(told: &[Notice], resolved: bool) -> Vec<(&str, &str, &str)> {
    let told = told.iter().filter(|notice| notice.resolved == resolved);
    let mut summary: Vec<_> =
        told.map(|notice| (notice.receiver.as_str(), notice.alert.as_str(), notice.cache.as_str())).collect();
    summary.sort_unstable();
    summary
}
