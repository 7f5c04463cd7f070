//! The task of one cache: round after round at a steady pace.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep};

use super::clock::{Clock, wall_unix_seconds};
use super::depth::Depth;
use super::isolation::Isolation;
use super::memory::Memory;
use super::round::{Nodes, Standing};
use super::sentinels::Question;
use super::tally::Tally;
use super::topology::{TopologyWatch, sentinel_view};
use crate::config::{CacheConfig, Config, Planned, Poll, RedisMetrics};
use crate::detect::settings::Settings;
use crate::detect::verdict::{CacheVerdict, Episode, Round};
use crate::detect::{CacheDetector, CacheState};
use crate::discover::{Directory, NodeSet};
use crate::events;
use crate::hotkeys::HotKeySlots;
use crate::model::{CacheName, NodeName, Severity};
use crate::publish::{CacheSnapshot, Publisher};
use crate::topology::Topology;
use crate::wire::TlsStore;

/// What a cache's task has to do. Compared at a reload: equal plans disturb nothing.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    cache: Arc<CacheConfig>,
    poll: Poll,
    depth: Depth,
    settings: Settings,
    /// Planned maintenance of this cache.
    planned: Vec<Planned>,
}

impl Plan {
    pub(super) fn new(config: &Config, cache: &Arc<CacheConfig>) -> Self {
        Self {
            cache: Arc::clone(cache),
            poll: config.poll,
            depth: if config.redis_metrics == RedisMetrics::Full { Depth::Full } else { Depth::Core },
            settings: config.detector_settings(cache),
            planned: config.planned.iter().filter(|planned| planned.cache == cache.name).cloned().collect(),
        }
    }
}

/// What the tasks of all caches have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) publisher: Arc<Publisher>,
    pub(super) tls: Arc<TlsStore>,
    pub(super) clock: Clock,
    pub(super) isolation: Isolation,
    pub(super) memory: Arc<Memory>,
    pub(super) hot_keys: Arc<HotKeySlots>,
    pub(super) directory: Arc<Directory>,
}

/// Judges a cache's rounds: settings in force, time, isolated, what was seen. A function, so that a
/// test can put a judge of its own between collecting and publishing.
pub(super) type Judge = Box<dyn FnMut(&Settings, f64, bool, Round) -> (Arc<CacheVerdict>, Arc<[Episode]>) + Send>;

/// What a cache's task begins with: its judge, and what has been counted of the episodes it knows.
pub(super) type Beginning = (Judge, Tally);

/// The real beginning: a detector that goes on from what was saved of the cache, if anything was.
pub(super) fn detector(shared: &Shared, plan: &Plan, saved: Option<CacheState>) -> Beginning {
    let (now, mut known) = (shared.clock.seconds(Instant::now()), plan.settings.clone());
    let (detector, tally) = match saved {
        None => (CacheDetector::new(known.clone()), Tally::default()),
        Some(saved) => {
            let tally = Tally::resume(saved.time().unwrap_or(now), known.timing.time_scale, saved.episodes());
            (CacheDetector::restore(known.clone(), saved, now), tally)
        }
    };
    let detector = shared.memory.hold(&plan.cache.name, detector);
    let judge: Judge = Box::new(move |settings, now, isolated, round| {
        // Poisoned by a copy that failed: copying changes nothing.
        let mut detector = detector.lock().unwrap_or_else(PoisonError::into_inner);
        if known != *settings {
            known = settings.clone();
            detector.reconfigure(settings.clone());
        }
        let verdict = detector.observe(now, isolated, round);
        (verdict, detector.episodes())
    });
    (judge, tally)
}

/// Runs rounds for ever: the first after [`lead_in`], the others in time with the clock. Takes new plans
/// between rounds. May be dropped at any point.
pub(super) async fn run(shared: Arc<Shared>, Orders { mut plans, mut sets, moved }: Orders, (judge, tally): Beginning) {
    // No round before it is known of whom: a round without nodes would be told of a cache that lost them all.
    let Ok(Some(set)) = sets.wait_for(Option::is_some).await.map(|set| set.clone()) else { return };
    let plan = Arc::clone(&plans.borrow_and_update());
    sleep(lead_in(shared.publisher.fleet().expected.len(), &plan)).await;
    let mut ticks = ticks(&shared.clock, &plan);
    let (nodes, standing, topology) = (Nodes::new(&set), BTreeMap::new(), TopologyWatch::new(Arc::clone(&moved)));
    let mut cache = Cache { nodes, standing, moved, topology, plan, judge, tally, late: false, shared };
    cache.round().await;
    loop {
        tokio::select! {
            changed = plans.changed() => {
                if changed.is_err() {
                    return;
                }
                let plan = Arc::clone(&plans.borrow_and_update());
                if plan.poll.interval != cache.plan.poll.interval {
                    ticks = self::ticks(&cache.shared.clock, &plan);
                }
                cache.plan = plan;
            }
            changed = sets.changed() => {
                if changed.is_err() {
                    return;
                }
                if let Some(set) = &*sets.borrow_and_update() {
                    cache.nodes.adopt(set);
                }
            }
            due = ticks.tick() => {
                cache.note_pace(due);
                cache.round().await;
            }
        }
    }
}

/// What a cache's task is told, and whom it tells.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) plans: watch::Receiver<Arc<Plan>>,
    /// The nodes; `None` until they are known.
    pub(super) sets: watch::Receiver<Option<Arc<NodeSet>>>,
    /// Told when the topology seems to change.
    pub(super) moved: Arc<Notify>,
}

struct Cache {
    plan: Arc<Plan>,
    nodes: Nodes,
    topology: TopologyWatch,
    standing: BTreeMap<NodeName, Standing>,
    moved: Arc<Notify>,
    judge: Judge,
    tally: Tally,
    late: bool,
    shared: Arc<Shared>,
}

impl Cache {
    async fn round(&mut self) {
        let Shared { publisher, tls, clock, isolation, memory, hot_keys, .. } = &*self.shared;
        let name = &self.plan.cache.name;
        // The round's time is its start: the nodes are asked at a fixed distance from it, while its
        // end moves by the whole deadline when a node hangs, and every rate would move with it.
        let now = clock.seconds(Instant::now());
        let mut collected = self.nodes.collect(name, self.plan.depth, tls, self.plan.poll.timeout).await;
        let before = std::mem::replace(&mut self.standing, self.nodes.standing());
        if self.standing.iter().any(|(node, now)| before.get(node).is_some_and(|before| before != now)) {
            self.moved.notify_one();
        }
        hot_keys.attach(name, &mut collected.observations);
        let isolated = isolation.report(name, collected.cut_off, publisher);
        for took in collected.took {
            self.tally.poll_duration_seconds.observe(took.as_secs_f64());
        }
        let settings = &self.plan.settings;
        let master = self.plan.cache.watched_master().map(Arc::from);
        let question = Question { cache: name.clone(), poll: self.plan.poll, master };
        let topology = self.topology.follow(&self.shared, question, &self.nodes, now, isolated);
        let round = Round { nodes: collected.observations, sentinel: sentinel_view(&topology) };
        let (verdict, episodes) = (self.judge)(settings, now, isolated, round);
        self.tally.count(now, settings.timing.time_scale, &episodes);
        let before = publisher.fleet().caches.get(name).map_or(Severity::None, |cache| cache.verdict.severity);
        if verdict.severity != before {
            events::severity_changed(name, before, &verdict);
            memory.moved.notify_one();
        }
        publisher.publish(self.snapshot(verdict, episodes, topology));
    }

    fn snapshot(&self, verdict: Arc<CacheVerdict>, episodes: Arc<[Episode]>, topology: Arc<Topology>) -> CacheSnapshot {
        let CacheConfig { name, thresholds, .. } = &*self.plan.cache;
        let time_unix = wall_unix_seconds();
        CacheSnapshot {
            cache: name.clone(),
            time_unix,
            detector_to_unix: self.shared.clock.to_unix(),
            thresholds: Arc::clone(thresholds),
            planned: self.plan.planned.iter().any(|planned| planned.covers(time_unix, verdict.leading_type)),
            verdict,
            episodes,
            topology,
            episodes_total: self.tally.episodes_total,
            detection_delay_seconds: self.tally.detection_delay_seconds.clone(),
            episode_duration_seconds: self.tally.episode_duration_seconds.clone(),
            poll_duration_seconds: self.tally.poll_duration_seconds.clone(),
            nodes: self.nodes.snapshots(),
        }
    }

    /// A round that starts more than half an interval late says that the one before took too long.
    fn note_pace(&mut self, due: Instant) {
        let lateness = due.elapsed();
        let late = lateness > self.plan.poll.interval / 2;
        if late != self.late {
            self.late = late;
            events::pace_changed(&self.plan.cache.name, late, lateness.as_secs_f64());
        }
    }
}

/// How far apart the first rounds of the caches of a fleet lie on average.
const FIRST_ROUNDS_APART: Duration = Duration::from_millis(20);

/// What a cache waits before its first round, so that a fleet is not dialled all at once: a part of the time in which
/// all of them begin, by its place in the interval.
fn lead_in(caches: usize, plan: &Plan) -> Duration {
    let others = u32::try_from(caches.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_ROUNDS_APART.saturating_mul(others).min(plan.poll.interval).mul_f64(phase(&plan.cache.name))
}

/// Ticks at the cache's own phase of the clock. A tick that is missed is skipped, not made up for.
fn ticks(clock: &Clock, plan: &Plan) -> Interval {
    let (now, period) = (Instant::now(), plan.poll.interval);
    let wait = until_tick(clock.seconds(now), period.as_secs_f64(), phase(&plan.cache.name));
    let mut ticks = interval_at(now + Duration::from_secs_f64(wait), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Seconds from `now` to the next tick, which are at `(k + phase)·period`. At least half a period: a
/// round follows that one closely enough to divide by.
fn until_tick(now: f64, period: f64, phase: f64) -> f64 {
    let wait = (phase * period - now).rem_euclid(period);
    if wait < period / 2.0 { wait + period } else { wait }
}

/// Where in the interval a cache's ticks lie, 0–1: a hash of its name (FNV-1a), so that the caches of
/// a fleet are spread and each keeps its place over restarts.
fn phase(cache: &CacheName) -> f64 {
    let hash = cache
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // FNV leaves names that differ in their last letter close together; the golden ratio parts them.
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as f64 / 65_536.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_at_the_phase_and_not_too_close() {
        for (now, wait) in [(100.0, 6.0), (101.0, 5.0), (103.0, 3.0), (103.5, 2.5), (104.0, 7.0), (106.0, 5.0)] {
            assert_eq!(until_tick(now, 5.0, 0.2), wait, "{now}");
        }
    }

    #[test]
    fn phases_are_fixed_and_spread() {
        let phases: Vec<f64> = (0..100).map(|index| phase(&format!("cache-{index}").into())).collect();
        assert!(phases.iter().all(|phase| (0.0..1.0).contains(phase)));
        for quarter in 0..4 {
            let within = phases.iter().filter(|phase| (**phase * 4.0) as usize == quarter).count();
            assert!((10..=40).contains(&within), "quarter {quarter}: {within} of 100");
        }
        assert_eq!(phase(&"sessions".into()), phase(&"sessions".into()));
    }
}
