//! From the storm on real servers to the right team's receiver, with the rules and routes that ship: every type of
//! storm, on a cache of its own, at once.
//!
//! `make pager` runs it at the real pace (`PAGER_SPEED=1`, eleven minutes) and holds it to the minute that may pass
//! from impact to notice; `make test` runs it six times as fast.

use std::time::{Duration, SystemTime};

use cache_storm_exporter::sim::fleet::Fleet;
use cache_storm_exporter::sim::plain::Rates;
use futures_util::future::join_all;
use humantime_serde::re::humantime::format_rfc3339_seconds;
use tokio::time::sleep;

use crate::harness::exporter::Exporter;
use crate::harness::load::{Keys, Load, Traffic};
use crate::harness::pager::{Notice, Pager};
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::sentinel::{MASTER, Sentinel};
use crate::harness::{eventually, throughout, unix_now};

/// So many do not come back by themselves while the test lasts.
const KEYS: usize = 40_000;

/// Nominal seconds from impact to notice, at the real pace.
const NOTICE_SECONDS_MAX: f64 = 60.0;

/// Nominal seconds: a storm whose impact ends so long before its limit does not escalate.
const MARGIN_SECONDS: f64 = 30.0;

/// A storm on a cache of its own.
struct Storm {
    cache: &'static str,
    /// The notice; its escalation is called `…Escalated`.
    alert: &'static str,
    team: &'static str,
    /// Nominal seconds, as the exporter has them by default but for the failover.
    limit: f64,
    course: Course,
}

#[derive(PartialEq)]
enum Course {
    /// Goes on past its limit.
    Lasts,
    /// Its impact ends just in time.
    EndsInTime,
    /// Goes on past its limit, in planned maintenance.
    Planned,
}
use Course::{EndsInTime, Lasts, Planned};

const COLD_START: &str = "CacheStormColdStart";
const EXPIRATION: &str = "CacheStormMassExpiration";
const FAILOVER: &str = "CacheStormFailoverCascade";
const HOT_KEY: &str = "CacheStormHotKey";
const INVALIDATION: &str = "CacheStormMassInvalidation";
const LAG: &str = "CacheStormReplicationLag";
const PRESSURE: &str = "CacheStormMemoryPressure";

/// A failover that Sentinel brings to its end is a storm for about a minute, as long as its limit by default: whether
/// that escalates is chance. Its cache has half of it.
const FAILOVER_LIMIT: f64 = 30.0;

const STORMS: [Storm; 9] = [
    Storm { cache: "brief", alert: INVALIDATION, team: "backend-team", limit: 120.0, course: EndsInTime },
    Storm { cache: "planned", alert: INVALIDATION, team: "backend-team", limit: 120.0, course: Planned },
    Storm { cache: "flushed", alert: INVALIDATION, team: "backend-team", limit: 120.0, course: Lasts },
    Storm { cache: "cold", alert: COLD_START, team: "backend-team", limit: 300.0, course: Lasts },
    Storm { cache: "full", alert: PRESSURE, team: "incident-response", limit: 60.0, course: Lasts },
    Storm { cache: "failed", alert: FAILOVER, team: "incident-response", limit: FAILOVER_LIMIT, course: Lasts },
    Storm { cache: "expired", alert: EXPIRATION, team: "infrastructure-team", limit: 120.0, course: Lasts },
    Storm { cache: "stale", alert: LAG, team: "infrastructure-team", limit: 180.0, course: Lasts },
    Storm { cache: "hot", alert: HOT_KEY, team: "performance-team", limit: 180.0, course: Lasts },
];

/// Servers of a cache, the first of which is struck, and what is around them.
struct Cache {
    nodes: Vec<Redis>,
    loads: Vec<Load>,
    proxy: Option<Proxy>,
    sentinel: Option<Sentinel>,
}

/// Receiver, alert and cache of something told.
type Told = (String, String, String);

/// What came of one storm, in nominal seconds.
struct Outcome {
    cache: &'static str,
    told: Vec<Told>,
    /// From its impact to the notice.
    notice: Option<f64>,
    /// From its limit to the page: when the rule began to hold, and when the receiver knew.
    page: Option<(f64, f64)>,
}

fn told(receiver: &str, alert: &str, cache: &str) -> Told {
    (receiver.to_owned(), alert.to_owned(), cache.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_storm_calls_its_team_once_and_again_at_its_limit() {
    let stage = Stage::set(speed()).await;
    let mut caches = stage.caches;
    let Stage { pager, exporter, half, halves, mut quiet, large, speed, .. } = stage;
    throughout("quiet", Duration::from_secs_f64(90.0 / speed), async || pager.told().is_empty()).await;

    quiet.harmless_events().await;
    let one_by_one = STORMS.iter().zip(&mut caches).map(|(storm, cache)| storm.run(cache, &exporter, &pager, speed));
    let ((courses, shards), hundred) = tokio::join!(
        async { tokio::join!(join_all(one_by_one), halves_add_up(&halves, &exporter, &half, &pager, speed)) },
        a_hundred_nodes_are_one_message(&large, &pager, speed)
    );
    let outcomes: Vec<Outcome> = courses.into_iter().chain(shards).collect();
    let all = || outcomes.iter().chain([&hundred]);
    print(all());
    let mut expected: Vec<Told> = outcomes.iter().flat_map(|outcome| outcome.told.clone()).collect();

    expected.sort_unstable();
    let resolved = async || expected.iter().all(|key| summary(&pager, true).contains(key));
    eventually("all is resolved", Duration::from_secs_f64(45.0 + 300.0 / speed), resolved).await;
    assert_eq!(summary(&pager, false), expected, "told once each, and nobody else");
    assert_eq!(summary(&pager, true), expected, "resolved once each");
    for key in &hundred.told {
        let messages = pager.told().iter().filter(|notice| !notice.resolved && notice.key() == *key).count();
        assert_eq!(messages, 1, "{key:?}");
    }
    for late in all().filter(|outcome| outcome.notice.is_some_and(|seconds| seconds > NOTICE_SECONDS_MAX)) {
        // Faster, a pause of the machine is several times as long.
        assert!(speed > 1.0, "{}: told {:?} s after its impact", late.cache, late.notice);
    }
}

/// The figures, for who ran it by hand.
fn print<'a>(outcomes: impl Iterator<Item = &'a Outcome>) {
    let shown = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |seconds| format!("{seconds:.0}"));
    eprintln!("nominal seconds  impact to notice  limit to page holds  limit to page told");
    for Outcome { cache, notice, page, .. } in outcomes {
        let (holds, told) = (page.map(|page| page.0), page.map(|page| page.1));
        eprintln!("{cache:<15}  {:>16}  {:>19}  {:>18}", shown(*notice), shown(holds), shown(told));
    }
}

/// How many times faster than in production: the one factor by which the detector, polls, scrapes, rules, groups of
/// notices and limits are shortened. Only a poll's deadline is not scaled below, for it is the machine's.
fn speed() -> f64 {
    std::env::var("PAGER_SPEED").map_or(6.0, |speed| speed.parse().expect("PAGER_SPEED is a number"))
}

/// Everything that takes part.
struct Stage {
    speed: f64,
    caches: Vec<Cache>,
    /// Four nodes: all of them the cache `whole`, and the cache `split` between two exporters.
    halves: Cache,
    quiet: Cache,
    /// A hundred nodes, simulated.
    large: Fleet,
    exporter: Exporter,
    /// The exporter that has the other half of `split`.
    half: Exporter,
    pager: Pager,
}

impl Stage {
    async fn set(speed: f64) -> Self {
        let caches = join_all(STORMS.iter().map(|storm| cache(storm.alert, speed))).await;
        let halves = Cache::of(Redis::fleet(4, &[]).await, speed).await;
        let quiet = Cache::of(Redis::fleet(7, &[]).await, speed).await;
        quiet.loads[5].change(|traffic| traffic.absent_share = 0.6);
        quiet.loads[6].change(|traffic| traffic.lookups_per_second = 3.0);
        let large = Fleet::plain(100, 1).await.unwrap();
        set_hit_ratio(&large, 0.95);

        let half = general(speed)
            + &listed("split", &halves.nodes[2..])
            + &entry("large", large.caches()[0].nodes().iter().map(|node| format!("redis://{}", node.name())))
            // A hundred nodes' worth of what nobody looks at would only make its scrapes slow.
            + "metrics: { redis: off }\n";
        let start = format_rfc3339_seconds(SystemTime::now() - Duration::from_secs(60));
        let all = general(speed)
            + &listed("split", &halves.nodes[..2])
            + &listed("whole", &halves.nodes)
            + &listed("quiet", &quiet.nodes)
            + &STORMS.iter().zip(&caches).map(|(storm, cache)| storm.entry(cache, speed)).collect::<String>()
            + "hotkeys: { mode: auto, allow_monitor: true }\n"
            + &format!("planned: [{{ cache: planned, start: {start}, duration: 1h, causes: [mass_invalidation] }}]\n");
        let (exporter, half) = (Exporter::serve(&all, &[]).await, Exporter::serve(&half, &[]).await);
        let pager = Pager::start(&[&exporter, &half], speed).await;
        Self { speed, caches, halves, quiet, large, exporter, half, pager }
    }
}

fn general(speed: f64) -> String {
    let (interval, timeout) = ((5000.0 / speed).round(), (4000.0 / speed).round().min(1000.0));
    let mut text = format!("poll: {{ interval: {interval}ms, timeout: {timeout}ms }}\n");
    text += &format!("detection: {{ time_scale: {speed} }}\nthresholds:\n");
    for (storm_type, seconds) in [
        ("cold_start", 300.0),
        ("hot_key", 180.0),
        ("mass_expiration", 120.0),
        ("memory_pressure", 60.0),
        ("mass_invalidation", 120.0),
        ("replication_lag", 180.0),
        ("failover_cascade", 60.0),
        ("unknown", 300.0),
    ] {
        text += &format!("  escalate_after_seconds_{storm_type}: {}\n", seconds / speed);
    }
    text + "caches:\n"
}

fn listed(cache: &str, nodes: &[Redis]) -> String {
    entry(cache, nodes.iter().map(Redis::url))
}

fn entry(cache: &str, urls: impl Iterator<Item = String>) -> String {
    format!("  - name: {cache}\n    nodes: [{}]\n", urls.collect::<Vec<_>>().join(", "))
}

impl Cache {
    /// Masters of their own, with keys and clients: as many lookups in a window at any speed.
    async fn of(nodes: Vec<Redis>, speed: f64) -> Self {
        join_all(nodes.iter().map(|node| node.fill(KEYS))).await;
        let traffic = Traffic { lookups_per_second: 20.0 * speed, keys: Keys::Uniform(KEYS), ..Traffic::default() };
        let loads = nodes.iter().map(|node| Load::start(node.port, traffic.clone())).collect();
        Self { nodes, loads, proxy: None, sentinel: None }
    }

    /// What the lab's quiet scenarios do, each to a node of its own: nobody must hear of it. (Planned maintenance has a
    /// cache of its own; two further nodes here miss much, or are hardly asked, all the time.)
    async fn harmless_events(&mut self) {
        self.loads[0].change(|traffic| traffic.lookups_per_second *= 3.0);
        self.nodes[1].run(&["CONFIG", "RESETSTAT"]).await;
        self.nodes[2].restart_warm().await;
        // Every client comes again, as when what uses the cache is deployed anew.
        self.nodes[3].run(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        // Traffic that drifts: the first step of what the lab goes on with for minutes.
        self.loads[4].change(|traffic| {
            traffic.lookups_per_second *= 1.3;
            traffic.absent_share += 0.003;
        });
    }

    /// The second node follows the first, by way of `source`.
    async fn replicate(&self, source: u16) {
        self.nodes[1].run(&["REPLICAOF", "127.0.0.1", &source.to_string()]).await;
        // The master's clients fill for both.
        self.loads[1].change(|traffic| traffic.refill = false);
        eventually("the replica is in sync", Duration::from_secs(20), async || {
            self.nodes[1].run(&["INFO", "replication"]).await.text().contains("master_link_status:up")
        })
        .await;
    }
}

/// The cache that a storm needs.
async fn cache(alert: &str, speed: f64) -> Cache {
    let nodes = if alert == FAILOVER { 3 } else { 2 };
    let mut cache = Cache::of(Redis::fleet(nodes, &[]).await, speed).await;
    let master = cache.nodes[0].port;
    match alert {
        LAG => {
            let proxy = Proxy::start(master).await;
            cache.replicate(proxy.port).await;
            // A master that nobody writes to has no replica that is behind.
            cache.loads[0].change(|traffic| traffic.inserts_per_second = 2.0 * speed);
            cache.proxy = Some(proxy);
        }
        FAILOVER => {
            cache.replicate(master).await;
            let sentinel = Sentinel::group(1, &cache.nodes[0], 1).await.remove(0);
            sentinel.run(&["SENTINEL", "SET", MASTER, "down-after-milliseconds", "500"]).await;
            cache.sentinel = Some(sentinel);
        }
        _ => {}
    }
    cache
}

impl Storm {
    /// Its cache in the configuration.
    fn entry(&self, cache: &Cache, speed: f64) -> String {
        let mut text = listed(self.cache, &cache.nodes);
        if self.alert == FAILOVER {
            let limit = self.limit / speed;
            text += &format!("    thresholds: {{ escalate_after_seconds_failover_cascade: {limit} }}\n");
        }
        text
    }

    /// Runs its course; what is told on the way.
    async fn run(&self, cache: &mut Cache, exporter: &Exporter, pager: &Pager, speed: f64) -> Outcome {
        let impact = unix_now();
        self.strike(cache).await;
        let mut outcome = Outcome { cache: self.cache, told: Vec::new(), notice: None, page: None };
        let patience = Duration::from_secs_f64(30.0 + 150.0 / speed);
        if self.course == EndsInTime {
            just_before_its_limit(exporter, self.cache, self.limit, speed).await;
            self.end(cache).await;
        }
        if self.course != Planned {
            let notice = arrives(pager, self.team, self.alert, self.cache, patience).await;
            says_how_bad_it_is(&notice);
            outcome.notice = Some((notice.at - impact) * speed);
            outcome.told.push(notice.key());
        }
        if self.course == EndsInTime {
            return outcome;
        }
        let (receiver, alert) = (format!("{}-page", self.team), format!("{}Escalated", self.alert));
        let patience = patience + Duration::from_secs_f64(self.limit / speed);
        let page = arrives(pager, &receiver, &alert, self.cache, patience).await;
        outcome.page = Some(on_time(exporter, pager, &page, self.limit / speed, speed).await);
        outcome.told.push(page.key());
        self.end(cache).await;
        outcome
    }

    /// Does to the first node what the alert is about.
    async fn strike(&self, cache: &mut Cache) {
        let node = &mut cache.nodes[0];
        match self.alert {
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
            LAG => cache.proxy.as_ref().unwrap().stall(),
            FAILOVER => {
                // Its clients go over to the new master.
                drop(cache.loads.remove(0));
                node.kill();
            }
            HOT_KEY => cache.loads[0].change(|traffic| {
                traffic.lookups_per_second *= 5.0;
                traffic.keys = Keys::Weighted((0..1000).map(|rank| 0.8 + 0.2 * f64::from(rank) / 999.0).collect());
            }),
            alert => panic!("how is {alert} made?"),
        }
    }

    /// Takes away what the storm needs to go on.
    async fn end(&self, cache: &mut Cache) {
        match self.alert {
            LAG => cache.proxy.as_ref().unwrap().resume(),
            FAILOVER => {
                cache.nodes[0].start_again().await;
                let master = cache.nodes[1].port.to_string();
                cache.nodes[0].run(&["REPLICAOF", "127.0.0.1", &master]).await;
            }
            HOT_KEY => cache.loads[0].change(|traffic| {
                traffic.lookups_per_second /= 5.0;
                traffic.keys = Keys::Uniform(KEYS);
            }),
            _ => {
                cache.nodes[0].run(&["CONFIG", "SET", "maxmemory", "0"]).await;
                cache.nodes[0].fill(KEYS).await;
            }
        }
    }
}

/// Two of four nodes are flushed. The exporter that has just these calls its half critical; by the recorded severity
/// the cache is as bad as the one exporter with all four says: major, and nobody is paged.
async fn halves_add_up(cache: &Cache, exporter: &Exporter, half: &Exporter, pager: &Pager, speed: f64) -> [Outcome; 2] {
    let impact = unix_now();
    for node in &cache.nodes[..2] {
        node.run(&["FLUSHALL"]).await;
    }
    let severity = async |exporter: &Exporter, cache: &str| {
        exporter.metrics().await.sample("cache_storm_severity", &[("cache", cache)])
    };
    let recorded =
        async |cache: &str| pager.query(&format!("cache:cache_storm_severity:fleet{{cache='{cache}'}}")).await;
    let patience = Duration::from_secs_f64(30.0 + 60.0 / speed);
    eventually("halves add up to what one exporter says of the whole", patience, async || {
        (severity(exporter, "split").await, severity(half, "split").await) == (Some(3.0), Some(0.0))
            && severity(exporter, "whole").await == Some(2.0)
            && (recorded("split").await, recorded("whole").await) == (Some(2.0), Some(2.0))
    })
    .await;
    // Half a minute of a critical severity would be a page; the type's own limit, two minutes, is far.
    just_before_its_limit(exporter, "whole", 90.0, speed).await;
    assert_eq!((recorded("split").await, recorded("whole").await), (Some(2.0), Some(2.0)));
    join_all(cache.nodes[..2].iter().map(|node| node.fill(KEYS))).await;
    let told = async |cache: &'static str| {
        let notice = arrives(pager, "backend-team", INVALIDATION, cache, patience).await;
        says_how_bad_it_is(&notice);
        Outcome { cache, told: vec![notice.key()], notice: Some((notice.at - impact) * speed), page: None }
    };
    [told("split").await, told("whole").await]
}

/// Waits for the storm to be on, and then until an end of its impact is just in time.
async fn just_before_its_limit(exporter: &Exporter, cache: &str, limit: f64, speed: f64) {
    let on = async || onset(exporter, cache).await.is_some();
    eventually(&format!("a storm on {cache}"), Duration::from_secs_f64(20.0 + 60.0 / speed), on).await;
    let onset = onset(exporter, cache).await.expect("a storm");
    // A second of a machine that is busy with something else is several of them here.
    let end = onset + (limit - MARGIN_SECONDS) / speed - 1.0;
    sleep(Duration::from_secs_f64((end - unix_now()).max(0.0))).await;
}

/// However many nodes: one message to the team, one to whoever is called when most of a cache is lost.
async fn a_hundred_nodes_are_one_message(large: &Fleet, pager: &Pager, speed: f64) -> Outcome {
    let impact = unix_now();
    set_hit_ratio(large, 0.1);
    let patience = Duration::from_secs_f64(30.0 + 120.0 / speed);
    let mut outcome = Outcome { cache: "large", told: Vec::new(), notice: None, page: None };
    for (receiver, alert) in [("backend-team", "CacheStormUnknown"), ("incident-response-page", "CacheStormCritical")] {
        let notice = arrives(pager, receiver, alert, "large", patience).await;
        assert!(notice.text.contains("100 of 100 nodes affected"), "{notice:?}");
        assert_eq!(notice.alerts, 1, "{notice:?}");
        let delay = (notice.at - impact) * speed;
        outcome.notice = Some(outcome.notice.map_or(delay, |first| first.min(delay)));
        outcome.told.push(notice.key());
    }
    set_hit_ratio(large, 0.95);
    outcome
}

fn set_hit_ratio(large: &Fleet, hit_ratio: f64) {
    let rates = Rates { lookups_per_second: 200.0, hit_ratio, expired_per_second: 10.0, evicted_per_second: 0.0 };
    large.caches()[0].nodes().iter().for_each(|node| node.set_rates(rates));
}

async fn arrives(pager: &Pager, receiver: &str, alert: &str, cache: &str, patience: Duration) -> Notice {
    let key = told(receiver, alert, cache);
    let find = || pager.told().into_iter().find(|notice| notice.key() == key);
    eventually(&format!("{receiver} is told of {alert} of {cache}"), patience, async || find().is_some()).await;
    find().unwrap()
}

/// The first notice already has the numbers of the storm, not of the time before it.
fn says_how_bad_it_is(notice: &Notice) {
    assert!(!notice.text.starts_with(['0', '?']) && !notice.text.contains("severity 0"), "{notice:?}");
}

async fn onset(exporter: &Exporter, cache: &str) -> Option<f64> {
    exporter.metrics().await.sample("cache_storm_started_timestamp_seconds", &[("cache", cache)])
}

/// The escalation began to hold at the storm's limit, give or take one evaluation, and was told by the next. One more
/// is allowed for: at this pace a pause of the test machine costs an evaluation. Both in nominal seconds after the
/// limit.
async fn on_time(exporter: &Exporter, pager: &Pager, page: &Notice, limit_seconds: f64, speed: f64) -> (f64, f64) {
    let evaluation_seconds = 15.0 / speed;
    let onset = onset(exporter, &page.cache).await.expect("a storm that is paged for");
    let late = pager.seconds(&page.starts_at).await - onset - limit_seconds;
    assert!(late.abs() <= 2.0 * evaluation_seconds, "{late} s after its limit: {page:?}");
    let told = page.at - onset - limit_seconds;
    assert!(told <= 3.0 * evaluation_seconds, "told {told} s after its limit: {page:?}");
    (late * speed, told * speed)
}

/// What was told, in order: of what began, or of its resolutions. That a server is down is told beside its failover
/// where it is known first. The hundred nodes are judged by themselves: they live in this process, and seem to be down
/// whenever it is short of CPU.
fn summary(pager: &Pager, resolved: bool) -> Vec<Told> {
    let told = pager.told();
    // When a storm's message resolves, Alertmanager lists in it what the storm had inhibited and what ended with it.
    let began = |notice: &&Notice| told.iter().any(|other| !other.resolved && other.key() == notice.key());
    let counted = told.iter().filter(|notice| notice.resolved == resolved && notice.alert != "CacheNodeDown");
    let counted = counted.filter(|notice| notice.cache != "large").filter(began);
    let mut summary: Vec<Told> = counted.map(Notice::key).collect();
    summary.sort_unstable();
    summary
}
