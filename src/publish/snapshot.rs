//! The state of the fleet as of the last closed rounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use flate2::Crc;
use tokio::time::Instant;

use super::dropin::{Readings, ServerView};
use super::hotkeys::{HotKeySnapshot, SHOWN_SECONDS};
use super::{Histogram, Recent};
use crate::detect::verdict::{CacheVerdict, Episode};
use crate::model::{CacheName, DiscoveryRefusal, FailureReason, NodeName, Role, SampleResult, StormType};
use crate::parse::{Info, Sample};
use crate::thresholds::Thresholds;
use crate::topology::Topology;

/// One node as of its cache's last round.
#[derive(Debug, Clone)]
pub struct NodeSnapshot {
    /// The node's name.
    pub node: NodeName,
    /// It answered in the last round.
    pub up: bool,
    /// Why it did not; `None` if it did, and before the first round.
    pub down: Option<FailureReason>,
    /// When it last answered, Unix seconds.
    pub last_poll_unix: Option<f64>,
    /// What it said then; `None` while it is down.
    pub sample: Option<Arc<Sample>>,
    /// The text of `INFO` it said it with; `None` while it is down.
    pub info: Option<Arc<str>>,
    /// What it is among its peers, where the cache's nodes are discovered.
    pub place: Option<Arc<NodePlace>>,
    /// Polls that failed since it joined, by reason, in the order of [`FailureReason::ALL`].
    pub failures: [u64; FailureReason::ALL.len()],
    /// Polls that were answered since it joined.
    pub answers: Answers,
    /// The core drop-in series as of the last round.
    pub core: Readings,
    /// Whether somebody reads all that the node can tell.
    pub interest: Interest,
    /// All that the node can tell, compressed, in parts that follow each other: made when first asked for, and gone
    /// with the next poll.
    pub compressed: Arc<OnceLock<Vec<Bytes>>>,
    /// What of that seldom changes: stays while somebody reads it.
    pub steady: Steady,
}

impl NodeSnapshot {
    /// Polls since it joined, answered or not.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.answers.count + self.failures.iter().sum::<u64>()
    }

    /// The node as the drop-in rows read it, with at most `databases_max` databases.
    #[must_use]
    pub fn server(&self, databases_max: usize) -> ServerView<'_> {
        let info = self.info.as_deref().map(Info::parse).unwrap_or_default();
        let (polls, answers) = (self.polls(), self.answers);
        ServerView { up: self.up, down: self.down, info, databases_max, polls, answers }
    }
}

/// Polls of a node that were answered.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answers {
    /// How many.
    pub count: u64,
    /// Seconds from sending the question to having the answer, summed.
    pub seconds: f64,
    /// The same of the last one.
    pub last_seconds: f64,
}

/// How long the interest of one reader lasts: several of the longest scrape intervals in use.
const INTEREST: Duration = Duration::from_secs(300);

/// Whether somebody reads all that a node can tell, so that it is worth asking for more than `INFO`. One cell is
/// shared by the successive snapshots of a node: a reader touches it, the next poll looks.
#[derive(Debug, Clone, Default)]
pub struct Interest(Arc<Mutex<Option<Instant>>>);

impl Interest {
    /// Somebody reads it now.
    pub fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Somebody has read it within the last five minutes.
    #[must_use]
    pub fn lasts(&self) -> bool {
        let noted = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.is_some_and(|noted| noted.elapsed() < INTEREST)
    }
}

/// A text as deflated blocks that end on a whole byte, to be gone on with.
#[derive(Debug)]
pub struct Deflated {
    /// The blocks.
    pub blocks: Bytes,
    /// Checksum and length of the text.
    pub crc: Crc,
}

/// The part of a node's metrics that seldom changes, compressed.
#[derive(Debug)]
pub struct SteadyPart {
    /// A hash of what it tells.
    pub hash: u128,
    /// Its text.
    pub deflated: Deflated,
}

/// The last steady part of a node that was asked for: what has not changed is not compressed again. One cell is shared
/// by the successive snapshots of a node.
#[derive(Debug, Clone, Default)]
pub struct Steady(Arc<ArcSwapOption<SteadyPart>>);

impl Steady {
    /// The part kept last, if this is its hash.
    #[must_use]
    pub fn of(&self, hash: u128) -> Option<Arc<SteadyPart>> {
        self.0.load_full().filter(|kept| kept.hash == hash)
    }

    /// Keeps it in place of the last.
    pub fn keep(&self, part: Arc<SteadyPart>) {
        self.0.store(Some(part));
    }
}

/// What discovery says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodePlace {
    /// What it was said to be; its own word (`INFO`) is newer.
    pub role: Option<Role>,
    /// The shard it belongs to, the same before and after a failover.
    pub shard: Option<Arc<str>>,
    /// Its id among its peers.
    pub id: Option<Arc<str>>,
    /// Slots of a cluster that it owns as a master; `None` elsewhere.
    pub slots: Option<u64>,
}

/// How the discovery of a cache's nodes goes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DiscoverySnapshot {
    /// Who is asked: the key of the configuration.
    pub source: &'static str,
    /// Since when looks have not found out which nodes there are, Unix seconds; `None` if the last one did.
    pub failing_since_unix: Option<f64>,
    /// Who could not be asked by the last look, and why: the first few, `NAME: reason`. No passwords.
    pub faults: Vec<String>,
    /// When a look last found out, Unix seconds; `None` if none ever did.
    pub last_success_unix: Option<f64>,
    /// Nodes found then.
    pub nodes: usize,
    /// Addresses refused so far, once per look, in the order of [`DiscoveryRefusal::ALL`].
    pub refused: [u64; DiscoveryRefusal::ALL.len()],
}

impl DiscoverySnapshot {
    /// The last look found out which nodes there are.
    #[must_use]
    pub fn up(&self) -> bool {
        self.failing_since_unix.is_none()
    }
}

/// One cache as of its last round.
#[derive(Debug, Clone)]
pub struct CacheSnapshot {
    /// The cache's name.
    pub cache: CacheName,
    /// When the round closed, Unix seconds.
    pub time_unix: f64,
    /// Add to detector time to get Unix seconds; near 0 unless the wall clock was set.
    pub detector_to_unix: f64,
    /// Thresholds in force.
    pub thresholds: Arc<Thresholds>,
    /// Planned maintenance covers the cache and, if a storm is on, its leading type.
    pub planned: bool,
    /// The detector's verdict.
    pub verdict: Arc<CacheVerdict>,
    /// Episodes, newest first, at most 100.
    pub episodes: Arc<[Episode]>,
    /// Who leads, who watches, and what they disagree about.
    pub topology: Arc<Topology>,
    /// Episodes counted by leading type, in the order of [`StormType::ALL`].
    pub episodes_total: [u64; StormType::ALL.len()],
    /// Seconds from the last normal poll to the announcement.
    pub detection_delay_seconds: Histogram,
    /// Seconds from onset to end, by leading type, in the order of [`StormType::ALL`].
    pub episode_duration_seconds: Vec<Histogram>,
    /// Seconds from sending a poll to its answer.
    pub poll_duration_seconds: Histogram,
    /// Nodes, sorted by name; the same nodes in the same order as the verdict's.
    pub nodes: Vec<NodeSnapshot>,
}

/// Every cache's latest snapshot. Immutable: a scrape keeps the one it started with.
#[derive(Debug, Clone, Default)]
pub struct FleetSnapshot {
    /// Counts every publication: equal generation, equal content.
    pub generation: u64,
    /// Latest snapshot by cache; a cache is absent until its first round has closed.
    pub caches: BTreeMap<CacheName, Arc<CacheSnapshot>>,
    /// Discovery by cache; absent for caches whose nodes are listed, and until the first look has ended.
    pub discovery: BTreeMap<CacheName, Arc<DiscoverySnapshot>>,
    /// Caches configured; ready once each has a snapshot.
    pub expected: Vec<CacheName>,
    /// The exporter suspects its own network.
    pub isolated: bool,
    /// Attempts to sample a node's accesses, in the order of [`SampleResult::ALL`].
    pub hot_key_samples: [u64; SampleResult::ALL.len()],
    /// What these attempts cost the servers.
    pub hot_key_cost: SamplingCost,
    /// The last sample of each node, if it is not older than ten minutes.
    pub hot_keys: BTreeMap<CacheName, Arc<BTreeMap<NodeName, Arc<HotKeySnapshot>>>>,
}

/// What sampling costs the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SamplingCost {
    /// Seconds for which a server was watched.
    pub seconds: f64,
    /// Bytes that servers sent meanwhile.
    pub bytes: u64,
}

impl FleetSnapshot {
    /// The node of that name, whatever cache it belongs to; of several, one whose cache can reach it.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeSnapshot> {
        let mut views = self.caches.values().filter_map(|cache| {
            let index = cache.nodes.binary_search_by(|node| node.node.as_str().cmp(name)).ok()?;
            cache.nodes.get(index)
        });
        let first = views.next()?;
        if first.up { Some(first) } else { views.find(|view| view.up).or(Some(first)) }
    }

    /// The first round of every cache has closed. One whose nodes are not known has none: it counts once a look for
    /// them has failed, so that it does not keep the others from being served.
    #[must_use]
    pub fn ready(&self) -> bool {
        let failed = |cache| self.discovery.get(cache).is_some_and(|discovery| !discovery.up());
        self.expected.iter().all(|cache| self.caches.contains_key(cache) || failed(cache))
    }
}

/// Where rounds publish and servers read.
#[derive(Debug, Default)]
pub struct Publisher {
    fleet: ArcSwap<FleetSnapshot>,
    /// Held for an append or a clone of shared pointers, never while anything is rendered.
    recent: Mutex<BTreeMap<CacheName, Recent>>,
}

impl Publisher {
    /// The fleet as of now; never blocks.
    #[must_use]
    pub fn fleet(&self) -> Arc<FleetSnapshot> {
        self.fleet.load_full()
    }

    /// Swaps in one cache's new snapshot. A cache that is no longer expected is not published:
    /// a round that was under way during a reload must not bring a removed cache back.
    pub fn publish(&self, snapshot: CacheSnapshot) {
        let snapshot = Arc::new(snapshot);
        if self.fleet.load().expected.contains(&snapshot.cache) {
            self.recents().entry(snapshot.cache.clone()).or_default().push(&snapshot);
        }
        self.update(|fleet| {
            if fleet.expected.contains(&snapshot.cache) {
                fleet.caches.insert(snapshot.cache.clone(), Arc::clone(&snapshot));
                let stays = |name: &NodeName| snapshot.nodes.iter().any(|node| node.node == *name);
                if let Some(samples) = fleet.hot_keys.get_mut(&snapshot.cache)
                    && !samples.keys().all(stays)
                {
                    Arc::make_mut(samples).retain(|name, _| stays(name));
                }
            }
        });
    }

    /// Says which caches there are; snapshots of others are dropped, their series with them.
    pub fn expect(&self, caches: &[CacheName]) {
        self.update(|fleet| {
            fleet.expected = caches.to_vec();
            fleet.caches.retain(|cache, _| caches.contains(cache));
            fleet.hot_keys.retain(|cache, _| caches.contains(cache));
            fleet.discovery.retain(|cache, _| caches.contains(cache));
        });
        self.recents().retain(|cache, _| caches.contains(cache));
    }

    /// Says how the discovery of a cache's nodes goes; `None` where they are listed.
    pub fn set_discovery(&self, cache: &CacheName, discovery: Option<DiscoverySnapshot>) {
        let discovery = discovery.map(Arc::new);
        self.update(|fleet| match &discovery {
            Some(discovery) if fleet.expected.contains(cache) => {
                fleet.discovery.insert(cache.clone(), Arc::clone(discovery));
            }
            _ => drop(fleet.discovery.remove(cache)),
        });
    }

    /// The last quarter of an hour of every cache.
    #[must_use]
    pub fn recent(&self) -> BTreeMap<CacheName, Recent> {
        self.recents().clone()
    }

    fn recents(&self) -> MutexGuard<'_, BTreeMap<CacheName, Recent>> {
        // A push that panicked left whole moments behind: they are shared pointers.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether the exporter suspects its own network.
    pub fn set_isolated(&self, isolated: bool) {
        if self.fleet.load().isolated != isolated {
            self.update(|fleet| fleet.isolated = isolated);
        }
    }

    /// Counts an attempt to sample a node's accesses.
    pub fn count_hot_key_sample(&self, result: SampleResult, cost: SamplingCost) {
        self.update(|fleet| {
            fleet.hot_key_samples[result as usize] += 1;
            fleet.hot_key_cost.seconds += cost.seconds;
            fleet.hot_key_cost.bytes += cost.bytes;
        });
    }

    /// Shows a node's sample instead of its last one.
    pub fn show_hot_keys(&self, cache: &CacheName, node: &NodeName, sample: HotKeySnapshot) {
        let sample = Arc::new(sample);
        self.update(|fleet| {
            let samples = fleet.hot_keys.entry(cache.clone()).or_default();
            Arc::make_mut(samples).insert(node.clone(), Arc::clone(&sample));
        });
    }

    /// Takes away the samples that are too old at `now`, Unix seconds; with `None` all of them.
    pub fn forget_hot_keys(&self, now: Option<f64>) {
        let fresh = |sample: &HotKeySnapshot| now.is_some_and(|now| now - sample.time_unix <= SHOWN_SECONDS);
        if self.fleet.load().hot_keys.values().flat_map(|nodes| nodes.values()).any(|sample| !fresh(sample)) {
            self.update(|fleet| {
                fleet.hot_keys.values_mut().for_each(|nodes| Arc::make_mut(nodes).retain(|_, sample| fresh(sample)));
                fleet.hot_keys.retain(|_, nodes| !nodes.is_empty());
            });
        }
    }

    fn update(&self, change: impl Fn(&mut FleetSnapshot)) {
        self.fleet.rcu(|current| {
            let mut next = FleetSnapshot::clone(current);
            next.generation += 1;
            change(&mut next);
            next
        });
    }
}
