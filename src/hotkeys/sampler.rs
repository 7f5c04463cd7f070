//! One sample at a time, of whichever node's turn it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::HotKeySlots;
use super::analysis::Analysis;
use super::commands::Commands;
use super::pattern::Patterns;
use super::schedule::{Schedule, Turn};
use super::watch::watch;
use crate::config::{Config, Endpoint, HotKeyMode};
use crate::events;
use crate::model::{CacheName, NodeName, SampleResult};
use crate::publish::Publisher;
use crate::wire::TlsStore;

/// How often the published state is looked at. Short against the pace of rounds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

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
}

impl Sampler {
    fn adopt(&mut self, config: &Config) {
        self.schedule.adopt(config);
        self.tls.forget();
        self.results.clear();
    }

    async fn look(&mut self, config: &Config) {
        let fleet = self.publisher.fleet();
        let Some(turn) = self.schedule.next(Instant::now(), &fleet) else { return };
        self.schedule.had(&turn, Instant::now());
        // The snapshot may still show what a reload has just removed.
        let Some(endpoint) = endpoint(config, &turn) else { return };
        let mut analysis = Analysis::new(Arc::clone(&self.commands), Patterns::default());
        let watched = watch(endpoint, &self.tls, turn.commands_per_second, &mut analysis).await;
        let (result, detail) = match watched.map(|_| analysis.hottest()) {
            Ok(Some(sample)) => {
                self.slots.put(&turn.cache, &turn.node, sample);
                (SampleResult::Taken, String::new())
            }
            Ok(None) => (SampleResult::Empty, String::new()),
            Err(obstacle) => (obstacle.result(), obstacle.to_string()),
        };
        self.publisher.count_hot_key_sample(result);
        let before = self.results.insert((turn.cache.clone(), turn.node.clone()), result);
        if !detail.is_empty() && before != Some(result) {
            events::hot_keys_not_sampled(&turn.cache, &turn.node, result, &detail);
        }
    }
}

fn endpoint<'a>(config: &'a Config, turn: &Turn) -> Option<&'a Endpoint> {
    let cache = config.caches.iter().find(|cache| cache.name == turn.cache)?;
    cache.nodes.iter().find(|endpoint| endpoint.node == turn.node)
}
