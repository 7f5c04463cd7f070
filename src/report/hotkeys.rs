//! The document of `/api/v1/hotkeys`.

use serde::Serialize;

use crate::model::{CacheName, NodeName};
use crate::publish::{FleetSnapshot, HotKeySnapshot};

/// The last sample of each node, by cache and name. Patterns only: keys are user data.
#[derive(Debug, Clone, Serialize)]
pub struct HotKeySamples {
    /// Of the document's form.
    pub version: u32,
    /// When it was asked for, Unix seconds.
    pub time: f64,
    /// Samples of the last ten minutes.
    pub samples: Vec<HotKeySample>,
}

/// One node's sample.
#[derive(Debug, Clone, Serialize)]
pub struct HotKeySample {
    /// Its cache.
    pub cache: String,
    /// The node.
    pub node: String,
    /// When it was taken, Unix seconds.
    pub time: f64,
    /// How long the node was watched.
    pub seconds: f64,
    /// Accesses to keys that were seen.
    pub accesses: u64,
    /// The hottest key's share of them.
    pub hottest_key_share: f64,
    /// A key is hot.
    pub hot: bool,
    /// Patterns, most accessed first, at most 20.
    pub patterns: Vec<PatternSample>,
}

/// How the keys of one pattern were accessed.
#[derive(Debug, Clone, Serialize)]
pub struct PatternSample {
    /// The pattern.
    pub pattern: String,
    /// What such keys are for; null where no rule fits.
    pub kind: Option<&'static str>,
    /// Share of the node's accesses.
    pub share: f64,
    /// Accesses per second; null where the server counts no accesses.
    pub operations_per_second: Option<f64>,
    /// Share of them that write; null likewise.
    pub write_ratio: Option<f64>,
}

impl HotKeySamples {
    /// The document as of `now`, Unix seconds.
    #[must_use]
    pub fn new(fleet: &FleetSnapshot, now: f64) -> Self {
        let nodes = fleet.hot_keys.iter().flat_map(|(cache, nodes)| {
            nodes.iter().map(move |(node, snapshot)| HotKeySample::new(cache, node, snapshot))
        });
        Self { version: 1, time: now, samples: nodes.collect() }
    }
}

impl HotKeySample {
    fn new(cache: &CacheName, node: &NodeName, sample: &HotKeySnapshot) -> Self {
        Self {
            cache: cache.to_string(),
            node: node.to_string(),
            time: sample.time_unix,
            seconds: sample.seconds,
            accesses: sample.accesses,
            hottest_key_share: sample.hottest_key_share,
            hot: sample.hot,
            patterns: sample
                .patterns
                .iter()
                .map(|pattern| PatternSample {
                    pattern: pattern.pattern.clone(),
                    kind: pattern.kind,
                    share: pattern.share,
                    operations_per_second: pattern.operations_per_second,
                    write_ratio: pattern.write_ratio,
                })
                .collect(),
        }
    }
}
