//! One sample at a time, of whichever node's turn it is.

use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::HotKeySlots;
use super::advice::WARM_SHARE;
use super::analysis::{Analysis, PatternUse};
use super::commands::Commands;
use super::kinds::{Kind, Kinds};
use super::pattern::Patterns;
use super::schedule::{Schedule, Turn};
use super::sighting::{Sighting, is_hot};
use super::watch::watch;
use crate::config::{Config, Endpoint, HotKeyMode};
use crate::events;
use crate::model::{CacheName, NodeName, SampleResult};
use crate::publish::{HotKeySnapshot, HotPattern, Publisher, SamplingCost};
use crate::wire::TlsStore;

/// How often the published state is looked at. Short against the pace of rounds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Patterns of one sample that are shown.
const PATTERNS_SHOWN: usize = 20;

/// Samples for ever, one node at a time, as the configuration of the day says. May be dropped at any point: the
/// server ends what is under way.
pub async fn run(mut configs: watch::Receiver<Arc<Config>>, publisher: Arc<Publisher>, slots: Arc<HotKeySlots>) {
    let mut config = Arc::clone(&configs.borrow_and_update());
    let mut sampler = Sampler {
        schedule: Schedule::new(&config),
        commands: Arc::new(Commands::built_in()),
        tls: TlsStore::default(),
        results: HashMap::new(),
        publisher,
        slots,
        patterns: HashMap::new(),
        secret: RandomState::new(),
        sightings: HashMap::new(),
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
    if config.hotkeys.mode == HotKeyMode::Auto && !config.hotkeys.sampled() {
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
    /// What has been learned of each cache's keys.
    patterns: HashMap<CacheName, Patterns>,
    /// Under which keys are hashed, so that they can be recognised.
    secret: RandomState,
    sightings: HashMap<(CacheName, NodeName), Sighting>,
}

impl Sampler {
    fn adopt(&mut self, config: &Config) {
        self.schedule.adopt(config);
        self.tls.forget();
        self.results.clear();
        let configured = |cache: &CacheName| config.caches.iter().any(|known| known.name == *cache);
        self.patterns.retain(|cache, _| configured(cache));
        self.sightings.retain(|(cache, _), _| configured(cache));
        if !config.hotkeys.sampled() {
            self.publisher.forget_hot_keys(None);
        }
    }

    async fn look(&mut self, config: &Config) {
        self.publisher.forget_hot_keys(Some(wall_unix()));
        let fleet = self.publisher.fleet();
        let Some(turn) = self.schedule.next(Instant::now(), &fleet) else { return };
        self.schedule.had(&turn, Instant::now());
        // The snapshot may still show what a reload has just removed.
        let Some(endpoint) = endpoint(config, &turn) else { return };
        let patterns = self.patterns.remove(&turn.cache).unwrap_or_default();
        let mut analysis = Analysis::with_secret(Arc::clone(&self.commands), patterns, self.secret.clone());
        let watched = watch(endpoint, &self.tls, turn.commands_per_second, &mut analysis).await;
        let cost = *watched.as_ref().unwrap_or(&SamplingCost::default());
        let (result, detail) = match watched.map(|cost| analysis.hottest().map(|sample| (cost.seconds, sample))) {
            Ok(Some((seconds, sample))) => {
                self.slots.put(&turn.cache, &turn.node, sample);
                self.show(&turn, &analysis, seconds, sample.share, config);
                (SampleResult::Taken, String::new())
            }
            Ok(None) => (SampleResult::Empty, String::new()),
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

impl Sampler {
    /// Publishes what a sample says of patterns, and whether a key is hot.
    fn show(&mut self, turn: &Turn, analysis: &Analysis, seconds: f64, hottest_key_share: f64, config: &Config) {
        let (now, keys) = (Instant::now(), analysis.heavy_keys(WARM_SHARE, seconds));
        let place = (turn.cache.clone(), turn.node.clone());
        let before = self.sightings.insert(place.clone(), Sighting::new(now, &keys));
        let hot = is_hot(now, &keys, before.as_ref(), config.timing.time_scale);
        let (kinds, accesses) = (Kinds::new(config.hotkeys.kinds.clone()), analysis.keys_seen().total());
        let pattern = |(pattern, seen): (String, PatternUse)| HotPattern {
            kind: kinds.of(&pattern).map(Kind::as_str),
            pattern,
            share: seen.accesses as f64 / accesses as f64,
            operations_per_second: if seconds > 0.0 { seen.accesses as f64 / seconds } else { f64::NAN },
            write_ratio: seen.writes as f64 / seen.accesses as f64,
        };
        let patterns = analysis.patterns().into_iter().take(PATTERNS_SHOWN).map(pattern).collect();
        let time_unix = wall_unix();
        let snapshot = HotKeySnapshot { time_unix, seconds, accesses, hottest_key_share, hot, patterns };
        self.publisher.show_hot_keys(&place.0, &place.1, snapshot);
    }
}

fn wall_unix() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn endpoint<'a>(config: &'a Config, turn: &Turn) -> Option<&'a Endpoint> {
    let cache = config.caches.iter().find(|cache| cache.name == turn.cache)?;
    cache.nodes.iter().find(|endpoint| endpoint.node == turn.node)
}
