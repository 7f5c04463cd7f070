//! One sample at a time, of whichever node's turn it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::HotKeySlots;
use super::advice::WARM_SHARE;
use super::analysis::{Analysis, HeavyKey, PatternUse};
use super::commands::Commands;
use super::kinds::{Kind, Kinds};
use super::native::{self, Native, NativeSample};
use super::pattern::Patterns;
use super::schedule::{Schedule, Turn, Urgency};
use super::secret::Secret;
use super::sighting::{Sighting, is_hot};
use super::slots;
use super::watch::{DEADLINE, Obstacle, watch};
use crate::config::{Config, Endpoint};
use crate::detect::verdict::HotKeySample;
use crate::discover::Directory;
use crate::events;
use crate::model::{CacheName, NodeName, SampleResult};
use crate::parse::Sample;
use crate::publish::{FleetSnapshot, HotKeySnapshot, HotPattern, Publisher, SamplingCost};
use crate::wire::{Connection, TlsStore};

/// How often the published state is looked at. Short against the pace of rounds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Suspicious nodes of one cache that are asked for their hottest slot at a time.
const RIVALS_MAX: usize = 8;

/// Patterns of one sample that are shown.
const PATTERNS_SHOWN: usize = 20;

/// Samples for ever, one node at a time, as the configuration of the day says. May be dropped at any point: the
/// server ends what is under way.
pub async fn run(
    mut configs: watch::Receiver<Arc<Config>>,
    publisher: Arc<Publisher>,
    slots: Arc<HotKeySlots>,
    directory: Arc<Directory>,
) {
    let mut config = Arc::clone(&configs.borrow_and_update());
    let mut sampler = Sampler {
        schedule: Schedule::new(&config),
        commands: Arc::new(Commands::built_in()),
        tls: TlsStore::default(),
        results: HashMap::new(),
        publisher,
        slots,
        directory,
        patterns: HashMap::new(),
        secret: Secret::new(),
        sightings: HashMap::new(),
        slotless: HashSet::new(),
    };
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    announce(&config);
    loop {
        tokio::select! {
            changed = configs.changed() => {
                if changed.is_err() {
                    return;
                }
                config = Arc::clone(&configs.borrow_and_update());
                sampler.adopt(&config);
                announce(&config);
            }
            _ = looks.tick(), if config.hotkeys.sampled() => sampler.look(&config).await,
        }
    }
}

fn announce(config: &Config) {
    if config.hotkeys.sampled() && !config.hotkeys.allow_monitor {
        events::hot_keys_without_source();
    }
}

struct Sampler {
    schedule: Schedule,
    commands: Arc<Commands>,
    tls: TlsStore,
    /// How the last turn of a node ended: only changes are logged.
    results: HashMap<(CacheName, NodeName), SampleResult>,
    publisher: Arc<Publisher>,
    slots: Arc<HotKeySlots>,
    directory: Arc<Directory>,
    /// What has been learned of each cache's keys.
    patterns: HashMap<CacheName, Patterns>,
    /// Under which keys are hashed, so that they can be recognised.
    secret: Secret,
    sightings: HashMap<(CacheName, NodeName), Sighting>,
    /// Nodes that do not tell what their slots do: asked once, for a server counts every refusal.
    slotless: HashSet<(CacheName, NodeName)>,
}

impl Sampler {
    fn adopt(&mut self, config: &Config) {
        self.schedule.adopt(config);
        self.tls.forget();
        self.results.clear();
        self.slotless.clear();
        let configured = |cache: &CacheName| config.caches.iter().any(|known| known.name == *cache);
        self.patterns.retain(|cache, _| configured(cache));
        self.sightings.retain(|(cache, _), _| configured(cache));
        if !config.hotkeys.sampled() {
            self.publisher.forget_hot_keys(None);
        }
    }

    /// Of several suspicious nodes of a cache the one whose hottest slot has the largest share of its work, where that
    /// can be asked; else the one whose turn it is. None is passed over by that: the others are next.
    async fn hottest(&mut self, first: Turn, fleet: &FleetSnapshot, config: &Config) -> Turn {
        let mut rivals = self.schedule.rivals(Instant::now(), fleet, &first);
        let nodes = self.directory.nodes(&first.cache);
        rivals.retain(|turn| {
            let offered = polled(fleet, turn).is_some_and(|sample| {
                slots::are_offered(sample) && (config.hotkeys.allow_monitor || native::is_offered(sample))
            });
            offered && !self.slotless.contains(&(turn.cache.clone(), turn.node.clone()))
        });
        rivals.truncate(RIVALS_MAX);
        if rivals.len() < 2 {
            return first;
        }
        let tls = &self.tls;
        let asked = rivals.into_iter().filter_map(|turn| {
            let endpoint = nodes.as_ref()?.member(&turn.node)?.endpoint.clone();
            Some(async move { (slots::hottest_share(&endpoint, tls).await, turn) })
        });
        let mut hottest = (0.0, first);
        for (answer, turn) in join_all(asked).await {
            match answer {
                Ok(Some(share)) if share > hottest.0 => hottest = (share, turn),
                Err(error) if slots::is_refusal(&error) => {
                    self.slotless.insert((turn.cache, turn.node));
                }
                _ => {}
            }
        }
        hottest.1
    }

    async fn look(&mut self, config: &Config) {
        self.publisher.forget_hot_keys(Some(wall_unix()));
        let fleet = self.publisher.fleet();
        let Some(turn) = self.schedule.next(Instant::now(), &fleet) else { return };
        let turn = if turn.urgency > Urgency::Quiet { self.hottest(turn, &fleet, config).await } else { turn };
        self.schedule.had(&turn, Instant::now());
        // The snapshot may still show what a reload has just removed.
        let nodes = self.directory.nodes(&turn.cache);
        let Some(member) = nodes.as_ref().and_then(|nodes| nodes.member(&turn.node)) else { return };
        let native = polled(&fleet, &turn).is_some_and(native::is_offered);
        if !native && !config.hotkeys.allow_monitor {
            return;
        }
        let patterns = self.patterns.remove(&turn.cache).unwrap_or_default();
        let mut analysis = Analysis::with_secret(Arc::clone(&self.commands), patterns, self.secret.clone());
        let seen = self.see(&member.endpoint, &turn, native, config, &mut analysis).await;
        let cost = seen.as_ref().map_or_else(|_| SamplingCost::default(), |seen| seen.cost);
        let (result, detail) = match seen {
            Ok(Seen { sample: Some(sample), keys, patterns, cost }) => {
                self.slots.put(&turn.cache, &turn.node, sample);
                self.show(&turn, sample, &keys, patterns, cost.seconds, config);
                (SampleResult::Taken, String::new())
            }
            Ok(Seen { sample: None, .. }) => (SampleResult::Empty, String::new()),
            Err(obstacle) => (obstacle.result(), obstacle.to_string()),
        };
        self.patterns.insert(turn.cache.clone(), analysis.into_patterns());
        self.publisher.count_hot_key_sample(result, cost);
        let before = self.results.insert((turn.cache.clone(), turn.node.clone()), result);
        if !detail.is_empty() && before != Some(result) {
            events::hot_keys_not_sampled(&turn.cache, &turn.node, result, &detail);
        }
    }
}

/// What a sample showed, whatever its source.
struct Seen {
    /// For the detector; `None` where no key was accessed.
    sample: Option<HotKeySample>,
    keys: Vec<HeavyKey>,
    patterns: Vec<HotPattern>,
    cost: SamplingCost,
}

impl Sampler {
    /// Asks the safest source that the node has.
    async fn see(
        &self,
        endpoint: &Endpoint,
        turn: &Turn,
        native: bool,
        config: &Config,
        analysis: &mut Analysis,
    ) -> Result<Seen, Obstacle> {
        let kinds = Kinds::new(config.hotkeys.kinds.clone());
        if native {
            let mut connection = Connection::open(endpoint, &self.tls, Instant::now() + DEADLINE).await?;
            match native::sample(&mut connection, turn.commands_per_second).await? {
                Native::Sampled(counted) => return Ok(self.counted(&counted, turn, &kinds, analysis)),
                Native::Foreign => {
                    return Err(Obstacle::Unsafe("somebody else's HOTKEYS session is not to be disturbed"));
                }
                Native::Unavailable if !config.hotkeys.allow_monitor => {
                    return Err(Obstacle::Unsafe(
                        "HOTKEYS is not permitted (+hotkeys), nor is MONITOR (allow_monitor)",
                    ));
                }
                Native::Unavailable => {}
            }
        }
        let cost = watch(endpoint, &self.tls, turn.commands_per_second, analysis).await?;
        Ok(watched(analysis, cost, &kinds))
    }

    /// What the server counted: shares of its CPU time. Of accesses it says nothing.
    fn counted(&self, counted: &NativeSample, turn: &Turn, kinds: &Kinds, analysis: &mut Analysis) -> Seen {
        let mut shares = BTreeMap::<String, f64>::new();
        let learned: Vec<_> =
            counted.keys.iter().map(|(key, share)| (analysis.learn(key.as_bytes()), *share)).collect();
        for (pattern, share) in learned {
            *shares.entry(analysis.pattern_name(pattern)).or_default() += share;
        }
        let pattern = |(pattern, share): (String, f64)| HotPattern {
            kind: kinds.of(&pattern).map(Kind::as_str),
            pattern,
            share: share.min(1.0),
            operations_per_second: None,
            write_ratio: None,
        };
        let mut patterns: Vec<HotPattern> = shares.into_iter().map(pattern).collect();
        patterns.sort_by(|a, b| b.share.total_cmp(&a.share));
        let key = |(key, share): &(String, f64)| HeavyKey {
            hash: self.secret.hash(key.as_bytes()),
            share: *share,
            per_second: share * turn.commands_per_second,
        };
        let accesses = (turn.commands_per_second * counted.seconds) as u64;
        let hottest = counted.keys.iter().map(|(_, share)| *share).reduce(f64::max);
        Seen {
            sample: hottest.map(|share| HotKeySample { share, accesses, write_ratio: None }),
            keys: counted.keys.iter().map(key).collect(),
            patterns,
            cost: SamplingCost { seconds: counted.seconds, bytes: 0 },
        }
    }

    /// Publishes what a sample says of patterns, and whether a key is hot.
    fn show(
        &mut self,
        turn: &Turn,
        sample: HotKeySample,
        keys: &[HeavyKey],
        patterns: Vec<HotPattern>,
        seconds: f64,
        config: &Config,
    ) {
        let now = Instant::now();
        let before = self.sightings.insert((turn.cache.clone(), turn.node.clone()), Sighting::new(now, keys));
        let snapshot = HotKeySnapshot {
            time_unix: wall_unix(),
            seconds,
            accesses: sample.accesses,
            hottest_key_share: sample.share,
            hot: is_hot(now, keys, before.as_ref(), config.timing.time_scale),
            patterns,
        };
        self.publisher.show_hot_keys(&turn.cache, &turn.node, snapshot);
    }
}

/// What the node said of itself when it was last polled.
fn polled<'a>(fleet: &'a FleetSnapshot, turn: &Turn) -> Option<&'a Sample> {
    let cache = fleet.caches.get(&turn.cache)?;
    cache.nodes.iter().find(|node| node.node == turn.node)?.sample.as_deref()
}

/// What a moment of traffic showed.
fn watched(analysis: &Analysis, cost: SamplingCost, kinds: &Kinds) -> Seen {
    let (accesses, seconds) = (analysis.keys_seen().total(), cost.seconds);
    let pattern = |(pattern, seen): (String, PatternUse)| HotPattern {
        kind: kinds.of(&pattern).map(Kind::as_str),
        pattern,
        share: seen.accesses as f64 / accesses as f64,
        operations_per_second: (seconds > 0.0).then_some(seen.accesses as f64 / seconds),
        write_ratio: Some(seen.writes as f64 / seen.accesses as f64),
    };
    Seen {
        sample: analysis.hottest(),
        keys: analysis.heavy_keys(WARM_SHARE, seconds),
        patterns: analysis.patterns().into_iter().take(PATTERNS_SHOWN).map(pattern).collect(),
        cost,
    }
}

fn wall_unix() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
