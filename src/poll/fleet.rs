//! All caches: their tasks started, changed and stopped as the configuration says.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cache::{self, Beginning, Orders, Plan, Shared};
use super::clock::{Clock, wall_unix_seconds};
use super::isolation::Isolation;
use super::memory::Memory;
use crate::config::Config;
use crate::detect::CacheState;
use crate::discover::{self, Assignment, Directory, Finder};
use crate::events;
use crate::hotkeys::HotKeySlots;
use crate::model::CacheName;
use crate::publish::Publisher;
use crate::state::FleetState;

/// How long the tasks have to end.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// Pause before a task that panicked starts again, so that one that always does burns no CPU.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// Polls the whole fleet.
#[derive(Debug)]
pub struct FleetPoller {
    shared: Arc<Shared>,
    caches: BTreeMap<CacheName, CacheTask>,
    tasks: TaskTracker,
    stop: CancellationToken,
    begin: Begin,
}

/// Makes what a cache's task begins with; from what was saved of the cache, if anything was.
type Begin = fn(&Shared, &Plan, Option<CacheState>) -> Beginning;

#[derive(Debug)]
struct CacheTask {
    plan: watch::Sender<Arc<Plan>>,
    assignment: watch::Sender<Arc<Assignment>>,
    stop: CancellationToken,
}

impl FleetPoller {
    /// Starts polling; the first rounds begin at once. Ends when `stop` is cancelled: await
    /// [`FleetPoller::stop`] then. Must be called within a runtime.
    #[must_use]
    pub fn start(config: &Config, publisher: Arc<Publisher>, stop: &CancellationToken) -> Self {
        Self::resume(config, publisher, stop, None)
    }

    /// As [`FleetPoller::start`], going on from what an earlier process saved, if anything.
    #[must_use]
    pub fn resume(
        config: &Config,
        publisher: Arc<Publisher>,
        stop: &CancellationToken,
        saved: Option<FleetState>,
    ) -> Self {
        Self::start_with(config, publisher, stop, saved, cache::detector)
    }

    fn start_with(
        config: &Config,
        publisher: Arc<Publisher>,
        stop: &CancellationToken,
        saved: Option<FleetState>,
        begin: Begin,
    ) -> Self {
        let clock =
            saved.as_ref().map_or_else(Clock::set_now, |saved| Clock::set_to(saved.detector_now(wall_unix_seconds())));
        let memory = Arc::new(Memory::new(clock));
        let (tls, isolation) = (Arc::default(), Isolation::default());
        let shared =
            Shared { publisher, tls, clock, isolation, memory, hot_keys: Arc::default(), directory: Arc::default() };
        let mut fleet = Self {
            shared: Arc::new(shared),
            caches: BTreeMap::new(),
            tasks: TaskTracker::new(),
            stop: stop.child_token(),
            begin,
        };
        fleet.go_over(config, saved.map(|saved| saved.caches).unwrap_or_default());
        fleet
    }

    /// Goes over to another configuration. Caches that are equal in both are not disturbed; in the
    /// others, nodes that are equal in both keep connection and history. New connections read the
    /// TLS files anew.
    pub fn apply(&mut self, config: &Config) {
        self.go_over(config, BTreeMap::new());
    }

    /// What the detectors remember, for whoever saves it.
    #[must_use]
    pub fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.shared.memory)
    }

    /// `saved`: what new caches go on from.
    fn go_over(&mut self, config: &Config, mut saved: BTreeMap<CacheName, CacheState>) {
        let Shared { publisher, tls, isolation, memory, directory, .. } = &*self.shared;
        tls.forget();
        let names: Vec<CacheName> = config.caches.iter().map(|cache| cache.name.clone()).collect();
        self.caches.retain(|name, task| {
            let stays = names.contains(name);
            if !stays {
                task.stop.cancel();
                memory.forget(name);
                directory.strike(name);
                events::cache_removed(name);
            }
            stays
        });
        publisher.expect(&names);
        isolation.retain(&names, publisher);
        for cache in &config.caches {
            let plan = Plan::new(config, cache);
            let discovery = config.discovery.clone();
            let assignment = Assignment { cache: Arc::clone(cache), discovery, timeout: config.poll.timeout };
            match self.caches.get(&cache.name) {
                None => self.add(&cache.name, plan, assignment, saved.remove(&cache.name)),
                Some(task) => task.change(&cache.name, plan, assignment),
            }
        }
    }

    /// Where a sampler leaves what the next rounds shall show the detector.
    #[must_use]
    pub fn hot_keys(&self) -> Arc<HotKeySlots> {
        Arc::clone(&self.shared.hot_keys)
    }

    /// Which nodes every cache has, as of now.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.shared.directory)
    }

    /// Stops polling and waits for the tasks to end, 1 s at most.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(STOP_TIME_MAX, self.tasks.wait()).await.is_err() {
            events::shutdown_overran(self.tasks.len());
        }
    }

    /// Two tasks: one keeps the nodes known, one runs the rounds.
    fn add(&mut self, name: &CacheName, plan: Plan, assignment: Assignment, saved: Option<CacheState>) {
        events::cache_added(name);
        let beginning = (self.begin)(&self.shared, &plan, saved);
        let task = CacheTask {
            plan: watch::Sender::new(Arc::new(plan)),
            assignment: watch::Sender::new(Arc::new(assignment)),
            stop: self.stop.child_token(),
        };
        let ((found, sets), moved) = (watch::channel(None), Arc::new(Notify::new()));
        self.shared.directory.enter(name, sets.clone(), Arc::clone(&moved));
        let finder = Finder {
            assignments: task.assignment.subscribe(),
            found,
            moved: Arc::clone(&moved),
            publisher: Arc::clone(&self.shared.publisher),
            unix_seconds: wall_unix_seconds,
        };
        let shared = Arc::clone(&self.shared);
        let find = supervise(name.clone(), move || {
            let (finder, shared) = (finder.clone(), Arc::clone(&shared));
            async move { discover::run(finder, &shared.tls).await }
        });
        let (shared, begin, mut beginning) = (Arc::clone(&self.shared), self.begin, Some(beginning));
        let orders = Orders { plans: task.plan.subscribe(), sets, moved };
        let poll = supervise(name.clone(), move || {
            // Again, it starts without any memory: that may be what led to the panic.
            let beginning =
                beginning.take().unwrap_or_else(|| begin(&shared, &Arc::clone(&orders.plans.borrow()), None));
            cache::run(Arc::clone(&shared), orders.clone(), beginning)
        });
        self.tasks.spawn(task.stop.clone().run_until_cancelled_owned(find));
        self.tasks.spawn(task.stop.clone().run_until_cancelled_owned(poll));
        self.caches.insert(name.clone(), task);
    }
}

impl CacheTask {
    fn change(&self, name: &CacheName, plan: Plan, assignment: Assignment) {
        let (other_plan, other_assignment) = (**self.plan.borrow() != plan, **self.assignment.borrow() != assignment);
        if other_plan || other_assignment {
            events::cache_changed(name);
        }
        if other_plan {
            self.plan.send_replace(Arc::new(plan));
        }
        if other_assignment {
            self.assignment.send_replace(Arc::new(assignment));
        }
    }
}

/// Runs a task of a cache, and again should it panic: a fault in one cache's numbers must not end the watch over the
/// others.
async fn supervise<Task: Future<Output = ()>>(name: CacheName, mut start: impl FnMut() -> Task) {
    // Unwind safe: nothing of the task is used again, and what tasks share is whole between calls.
    while let Err(panic) = AssertUnwindSafe(start()).catch_unwind().await {
        events::cache_task_failed(&name, panic_message(&*panic));
        sleep(RESTART_PAUSE).await;
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::cache::Judge;
    use super::*;
    use crate::config::{CacheConfig, Endpoint, Masters, Poll, RedisMetrics, SentinelSource, Source};
    use crate::detect::verdict::CacheVerdict;
    use crate::model::{FailureReason, Severity, SeverityMode};
    use crate::wire::scripted::{Script, ScriptedServer, bulk, deserted};
    use tokio::time::Instant;

    fn config(interval: Duration, caches: Vec<(&str, Vec<Endpoint>)>) -> Config {
        let cache = |(name, nodes): (&str, _)| {
            let (thresholds, severity_mode) = (Arc::default(), SeverityMode::Nodes);
            let source = Source::Nodes(nodes);
            Arc::new(CacheConfig {
                name: name.into(),
                source,
                access: Default::default(),
                thresholds,
                severity_mode,
                shard: None,
            })
        };
        Config {
            listen: ([127, 0, 0, 1], 0).into(),
            poll: Poll { interval, timeout: interval },
            timing: Default::default(),
            thresholds: Arc::default(),
            redis_metrics: RedisMetrics::Core,
            state_file: None,
            planned: Vec::new(),
            hotkeys: Default::default(),
            discovery: Default::default(),
            caches: caches.into_iter().map(cache).collect(),
        }
    }

    /// Finds no storm; says as the eligible nodes how many rounds it has judged.
    fn lenient(_: &Shared, _: &Plan, _: Option<CacheState>) -> Beginning {
        let mut rounds = 0;
        let judge: Judge = Box::new(move |_, now, isolated, _| {
            rounds += 1;
            (Arc::new(verdict(now, isolated, rounds)), Arc::default())
        });
        (judge, Default::default())
    }

    fn verdict(time: f64, held: bool, eligible_nodes: usize) -> CacheVerdict {
        CacheVerdict {
            time,
            severity: Severity::None,
            affected_nodes: 0,
            eligible_nodes,
            affected_share: 0.0,
            affected_share_traffic: 0.0,
            recovering: false,
            sustained: false,
            provisional: false,
            held,
            storm_types: Vec::new(),
            leading_type: None,
            started: None,
            loss_exposure: None,
            refill_eta_seconds: None,
            nodes: Vec::new(),
        }
    }

    /// Rounds judged by the task that last published the cache; 0 before the first.
    fn rounds(publisher: &Publisher, cache: &str) -> usize {
        publisher.fleet().caches.get(cache).map_or(0, |cache| cache.verdict.eligible_nodes)
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "still not: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn start(config: &Config, begin: Begin) -> (FleetPoller, Arc<Publisher>) {
        let publisher = Arc::new(Publisher::default());
        let stop = CancellationToken::new();
        (FleetPoller::start_with(config, Arc::clone(&publisher), &stop, None, begin), publisher)
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_keep_their_pace() {
        let interval = Duration::from_secs(5);
        let (fleet, publisher) = start(&config(interval, vec![("a", vec![]), ("b", vec![])]), lenient);
        assert!(!publisher.fleet().ready());
        let begun = Instant::now();
        until("first rounds", || publisher.fleet().ready()).await;
        assert!(begun.elapsed() < Duration::from_millis(50), "the first round waits for nothing");

        let times: Vec<f64> = {
            let mut times = Vec::new();
            for round in 2..=6 {
                // Looks at 5 ms of paused time, at most one interval and a half away from the next round.
                while rounds(&publisher, "a") < round {
                    sleep(Duration::from_millis(5)).await;
                }
                times.push(publisher.fleet().caches["a"].verdict.time);
            }
            times
        };
        for pair in times.windows(2) {
            assert!((pair[1] - pair[0] - 5.0).abs() < 0.01, "{times:?}");
        }
        fleet.stop().await;
    }

    #[tokio::test]
    async fn a_reload_disturbs_only_what_it_changes() {
        let [kept, changed, added] = [(); 3].map(|()| ScriptedServer::start(Script::default()));
        let (kept, changed, added) = tokio::join!(kept, changed, added);
        let interval = Duration::from_millis(250);
        let before = config(
            interval,
            vec![("kept", vec![kept.endpoint()]), ("changed", vec![changed.endpoint()]), ("removed", vec![])],
        );
        let (mut fleet, publisher) = start(&before, lenient);
        until("all caches", || publisher.fleet().ready()).await;

        let after = config(
            interval,
            vec![
                ("kept", vec![kept.endpoint()]),
                ("changed", vec![changed.endpoint(), added.endpoint()]),
                ("new", vec![]),
            ],
        );
        fleet.apply(&after);
        assert!(!publisher.fleet().caches.contains_key("removed"));
        until("the new node and cache", || {
            let fleet = publisher.fleet();
            fleet.ready() && fleet.caches["changed"].nodes.iter().filter(|node| node.up).count() == 2
        })
        .await;
        let (seen, judged) = (kept.commands().len(), rounds(&publisher, "changed"));
        assert!(judged > 1, "the changed cache went on from what it knew");
        until("more polls", || kept.commands().len() > seen + 4).await;
        assert_eq!((kept.connections(), changed.connections(), added.connections()), (1, 1, 1));
        assert!(!publisher.fleet().caches.contains_key("removed"));
        fleet.stop().await;
    }

    #[tokio::test]
    async fn a_panic_stays_in_its_cache() {
        fn panics_once(shared: &Shared, plan: &Plan, saved: Option<CacheState>) -> Beginning {
            static STARTS: AtomicUsize = AtomicUsize::new(0);
            let start = STARTS.fetch_add(1, Ordering::SeqCst);
            let (mut judge, tally) = lenient(shared, plan, saved);
            let judge: Judge = Box::new(move |settings, now, isolated, round| {
                assert!(start != 0, "a fault in the numbers");
                judge(settings, now, isolated, round)
            });
            (judge, tally)
        }
        let (fleet, publisher) = start(&config(Duration::from_millis(50), vec![("a", vec![])]), panics_once);
        until("the task is back", || rounds(&publisher, "a") > 1).await;
        fleet.stop().await;
    }

    #[tokio::test]
    async fn two_caches_without_a_network_are_our_own_fault() {
        let hung = Script { hang: true, ..Script::default() };
        let (a, b) = tokio::join!(ScriptedServer::start(hung.clone()), ScriptedServer::start(hung));
        let caches = vec![("a", vec![a.endpoint()]), ("b", vec![b.endpoint()])];
        let (fleet, publisher) = start(&config(Duration::from_millis(200), caches), lenient);
        until("suspicion", || {
            let fleet = publisher.fleet();
            fleet.isolated && fleet.caches.values().any(|cache| cache.verdict.held)
        })
        .await;
        let failures = publisher.fleet().caches["a"].nodes[0].failures;
        assert!(failures[FailureReason::Timeout as usize] >= 1);
        fleet.stop().await;
    }

    #[tokio::test]
    async fn what_a_sentinel_announces_is_reason_enough_to_look_for_the_nodes_again() {
        let nobody = deserted().await;
        let fields = ["name", "m", "ip", "127.0.0.1", "port", &nobody.port.to_string(), "config-epoch", "1"];
        let others = Some(format!("*{}\r\n{}", fields.len(), fields.map(bulk).concat()));
        let info = bulk("# Server\r\nrun_id:s\r\nredis_mode:sentinel\r\n");
        let sentinel = ScriptedServer::start(Script { info, others, ..Script::default() }).await;
        // Neither the next round nor the next look is due before the test is over.
        let hour = Duration::from_secs(3600);
        let mut config = config(hour, vec![("a", vec![])]);
        config.poll.timeout = Duration::from_secs(5);
        config.discovery.refresh = hour;
        let source = SentinelSource {
            sentinels: vec![sentinel.endpoint()],
            masters: Masters::Named("m".to_owned()),
            access: Default::default(),
        };
        let cache = CacheConfig { source: Source::Sentinel(source), ..CacheConfig::clone(&config.caches[0]) };
        config.caches = vec![Arc::new(cache)];
        let (fleet, _publisher) = start(&config, lenient);
        let heard = |command: &str| sentinel.commands().iter().filter(|heard| heard.starts_with(command)).count();
        until("a look, a poll and a subscription", || heard("SENTINEL MASTER") == 2 && heard("SUBSCRIBE") == 1).await;
        sentinel.announce("-sdown", "slave 127.0.0.1:1 127.0.0.1 1 @ m 127.0.0.1 2");
        until("a second look", || heard("SENTINEL MASTER") > 2).await;
        fleet.stop().await;
    }

    #[tokio::test]
    async fn stops_at_once_in_mid_round() {
        let server = ScriptedServer::start(Script { hang: true, ..Script::default() }).await;
        let caches = vec![("a", vec![server.endpoint()])];
        let (fleet, _publisher) = start(&config(Duration::from_secs(60), caches), lenient);
        until("the poll is under way", || !server.commands().is_empty()).await;
        let begun = Instant::now();
        fleet.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
