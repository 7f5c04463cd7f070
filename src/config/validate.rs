//! From what was written to what it means: every top-level key with its default and bounds.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use super::allow::{self, AllowList};
use super::raw::{Item, Section};
use super::{
    CacheConfig, Config, Discovery, HotKeyMode, HotKeys, KindRules, Poll, RedisMetrics, Shard, caches, planned,
};
use crate::detect::settings::Timing;
use crate::thresholds::{Threshold, Thresholds};

/// Where to serve unless told otherwise.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9736);

const SHARD_FORM: &str = "NUMBER/COUNT such as 1/4, counted from 1";

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Largest `discovery.max_nodes`: what one process can poll.
const NODES_MAX: u32 = 10_000;

const DAY: Duration = Duration::from_secs(86_400);

/// Reads the whole tree. A faulty value is noted, something stands in for it and reading goes on; the
/// caller discards the result if anything was noted. For a faulty number that is NaN: no comparison
/// holds, so no second fault is made of the first.
pub(super) fn config(root: &Item<'_>, environment: &BTreeMap<String, String>) -> Config {
    let mut section = root.section();
    let listen = section.get("listen").and_then(|item| listen(&item)).unwrap_or(LISTEN);
    let poll = poll(section.section("poll"));
    // Whether it can be written is not asked here: it may be created with the service, and its loss costs little.
    let state_file = section.get("state_file").and_then(|item| item.path());
    let thresholds = thresholds(section.section("thresholds"), &Arc::default());
    let timing = timing(section.section("detection"));
    let redis_metrics = metrics(section.section("metrics"));
    let hotkeys = hotkeys(section.section("hotkeys"));
    let discovery = discovery(section.section("discovery"));
    let (caches, planned) = (section.get("caches"), section.get("planned"));
    let shard = section.get("shard").and_then(|item| shard(&item));
    // A flag puts a cache in the place of those that the windows of the file are for.
    let replaced = caches.as_ref().is_some_and(Item::is_flag);
    let caches = caches::caches(caches, &thresholds, shard, environment);
    let planned = planned::planned(planned, |name| replaced || caches.iter().any(|cache| cache.name.as_str() == name));
    section.finish();
    // A cache that is shared by its groups is everybody's.
    let ours = |cache: &CacheConfig| cache.shard.is_some() || shard.is_none_or(|shard| shard.owns(&cache.name));
    let caches = caches.into_iter().filter(|cache| ours(cache)).collect();
    Config { listen, poll, timing, thresholds, redis_metrics, hotkeys, state_file, discovery, planned, caches }
}

fn shard(item: &Item<'_>) -> Option<Shard> {
    let shard = Shard::parse(item.text(SHARD_FORM)?);
    if shard.is_none() {
        item.reject(format!("is no shard, expected {SHARD_FORM}"));
    }
    shard
}

fn listen(item: &Item<'_>) -> Option<SocketAddr> {
    let address = listen_address(item.text("HOST:PORT such as 0.0.0.0:9736")?);
    if address.is_none() {
        item.reject("is no address, expected HOST:PORT such as 0.0.0.0:9736 or localhost:9736");
    }
    address
}

/// Where to serve: `HOST:PORT`, a host name by its first address, or `:PORT` on every address.
pub(crate) fn listen_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix(':') {
        Some(port) => Some(SocketAddr::from(([0, 0, 0, 0], port.parse().ok()?))),
        None => text.to_socket_addrs().ok()?.next(),
    }
}

fn poll(mut section: Section<'_>) -> Poll {
    let default = Poll::default();
    let range = (Duration::from_millis(100), Duration::from_secs(300));
    let interval = match section.get("interval") {
        Some(item) => item.duration(range.0, range.1).unwrap_or(Duration::MAX),
        None => default.interval,
    };
    let timeout = section.get("timeout").and_then(|item| item.duration(Duration::from_millis(10), range.1));
    if timeout.is_some_and(|timeout| timeout > interval) {
        section.blame(&["timeout"], format!("is longer than poll.interval, expected at most {interval:?}"));
    }
    section.finish();
    // Someone who only shortens the interval has not asked for a longer timeout.
    Poll { interval, timeout: timeout.unwrap_or(default.timeout.min(interval)) }
}

fn timing(mut section: Section<'_>) -> Timing {
    let default = Timing::default();
    let mut seconds = |key, min, max, default| {
        let duration = section.get(key).map(|item| item.duration(min, max));
        duration.map_or(default, |duration| duration.map_or(f64::NAN, |duration| duration.as_secs_f64()))
    };
    let mut timing = Timing {
        window: seconds("window", SECOND, HOUR, default.window),
        slice: seconds("slice", SECOND, HOUR, default.slice),
        baseline: seconds("baseline", SECOND, DAY, default.baseline),
        confirm: seconds("confirm", Duration::ZERO, HOUR, default.confirm),
        clear: seconds("clear", Duration::ZERO, HOUR, default.clear),
        hold: seconds("hold", Duration::ZERO, DAY, default.hold),
        cause_memory: seconds("cause_memory", Duration::ZERO, HOUR, default.cause_memory),
        time_scale: default.time_scale,
    };
    // A scale stretches time below 1 and compresses it above; past a thousand, windows end below any poll.
    if let Some(scale) = section.get("time_scale").and_then(|item| item.number(0.001, 1000.0, "divides every duration"))
    {
        timing.time_scale = scale;
    }
    if timing.slice > timing.window {
        let problem = format!("slice ({}s) is longer than window ({}s)", timing.slice, timing.window);
        section.blame(&["slice", "window"], problem + ", expected at most as long");
    }
    // A baseline is usable from three slices on.
    let baseline_min = timing.window.max(3.0 * timing.slice);
    if timing.baseline < baseline_min {
        let problem = format!("baseline ({}s) is too short for window and slice", timing.baseline);
        section.blame(&["baseline", "window", "slice"], format!("{problem}, expected at least {baseline_min}s"));
    }
    section.finish();
    timing
}

fn metrics(mut section: Section<'_>) -> RedisMetrics {
    let choices = [("off", RedisMetrics::Off), ("core", RedisMetrics::Core), ("full", RedisMetrics::Full)];
    let families = section.get("redis").and_then(|item| item.choice(&choices));
    section.finish();
    families.unwrap_or_default()
}

/// `auto` without `allow_monitor` samples only servers that count hot keys themselves; the start says so.
fn hotkeys(mut section: Section<'_>) -> HotKeys {
    let modes = [("off", HotKeyMode::Off), ("auto", HotKeyMode::Auto)];
    let mode = section.get("mode").and_then(|item| item.choice(&modes)).unwrap_or_default();
    let allow_monitor = section.get("allow_monitor").and_then(|item| item.flag()).unwrap_or_default();
    let kinds = kinds(section.section("kinds"));
    section.finish();
    HotKeys { mode, allow_monitor, kinds }
}

fn kinds(mut section: Section<'_>) -> KindRules {
    let mut rules = KindRules::default();
    let kinds = [
        ("session", &mut rules.session),
        ("counter", &mut rules.counter),
        ("config", &mut rules.config),
        ("content", &mut rules.content),
    ];
    for (name, globs) in kinds {
        if let Some(items) = section.get(name).and_then(|item| item.list("a list of globs such as [\"session:*\"]")) {
            *globs = items.iter().filter_map(|item| item.text("a glob such as session:*").map(str::to_owned)).collect();
        }
    }
    section.finish();
    rules
}

fn discovery(mut section: Section<'_>) -> Discovery {
    let default = Discovery::default();
    let refresh = section.get("refresh").and_then(|item| item.duration(SECOND, HOUR)).unwrap_or(default.refresh);
    let nodes = section.get("max_nodes").and_then(|item| item.whole(1, NODES_MAX, "nodes of one cache"));
    let networks = section.get("allow").and_then(|item| item.list("a list of networks such as [10.0.0.0/8]"));
    let network = |item: &Item<'_>| {
        let network = allow::network(item.text("a network such as 10.0.0.0/8")?);
        if network.is_none() {
            item.reject("is no network, expected one such as 10.0.0.0/8 or 2001:db8::/32, or an address");
        }
        network
    };
    let networks: Vec<_> = networks.iter().flatten().filter_map(network).collect();
    section.finish();
    Discovery {
        refresh,
        max_nodes: nodes.map_or(default.max_nodes, |nodes| nodes as usize),
        // An empty list asks for nothing.
        allow: if networks.is_empty() { default.allow } else { Arc::new(AllowList::new(networks)) },
    }
}

/// Pairs of which the first must not exceed the second.
const ORDERED: [(Threshold, Threshold); 3] = [
    (Threshold::SeverityMajorShare, Threshold::SeverityCriticalShare),
    (Threshold::CriticalHitRatio, Threshold::HealthyHitRatio),
    (Threshold::ReplicationLagWarningSeconds, Threshold::ReplicationLagSeconds),
];

/// The thresholds of a section over those it inherits; shared with them when it changes none.
pub(super) fn thresholds(mut section: Section<'_>, inherited: &Arc<Thresholds>) -> Arc<Thresholds> {
    let mut thresholds = Arc::clone(inherited);
    for &threshold in Threshold::ALL {
        let spec = threshold.spec();
        if let Some(item) = section.get(spec.name) {
            let value = item.number(spec.min, spec.max, spec.meaning).unwrap_or(f64::NAN);
            Arc::make_mut(&mut thresholds).set(threshold, value);
        }
    }
    for (low, high) in ORDERED {
        let (low_value, high_value) = (thresholds.get(low), thresholds.get(high));
        if low_value > high_value {
            let (low, high) = (low.spec().name, high.spec().name);
            let problem = format!("{low} ({low_value}) is above {high} ({high_value}), expected at most as high");
            section.blame(&[low, high], problem);
        }
    }
    section.finish();
    thresholds
}
