//! The hottest key's share of a node's accesses, sampled where that can do no harm.
//!
//! One task for all caches looks at what is published, picks a node at a time (`schedule`), makes sure that the
//! node can bear it and watches it for a moment (`watch`). The next round shows the detector the result, through
//! [`HotKeySlots`]. No key leaves `analysis` there, not even into a log. The
//! command `hotkeys` shows keys to whoever runs it, from a node (`capture`) or a file (`input`).

pub mod advice;
pub mod analysis;
pub mod capture;
pub mod clients;
pub mod commands;
pub mod input;
pub mod kinds;
mod line;
mod marks;
mod native;
pub mod pattern;
mod recent;
pub mod report;
mod sampler;
mod schedule;
mod secret;
mod sighting;
pub mod sketch;
mod slots;
mod specs;
mod table;
pub mod ttl;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::detect::verdict::{HotKeySample, Observation};
use crate::model::{CacheName, NodeName};
pub use sampler::run;

type Samples = BTreeMap<CacheName, BTreeMap<NodeName, HotKeySample>>;

/// Samples on their way to the next round of their cache; the latest of each node.
#[derive(Debug, Default)]
pub struct HotKeySlots {
    samples: Mutex<Samples>,
}

impl HotKeySlots {
    /// Leaves a sample for the next round.
    pub fn put(&self, cache: &CacheName, node: &NodeName, sample: HotKeySample) {
        self.lock().entry(cache.clone()).or_default().insert(node.clone(), sample);
    }

    /// Hands the samples of a cache to its round. Those of nodes that are down, or no longer in it, are dropped:
    /// they would be old when the node is back.
    pub fn attach(&self, cache: &CacheName, round: &mut [(NodeName, Observation)]) {
        let Some(mut samples) = self.lock().remove(cache) else { return };
        for (node, observation) in round {
            if let Observation::Up { hot_key, .. } = observation {
                *hot_key = samples.remove(node);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureReason;

    #[test]
    fn a_sample_is_shown_once_to_a_node_that_is_up() {
        let (slots, cache) = (HotKeySlots::default(), CacheName::from("a"));
        let sample = HotKeySample { share: 0.5, accesses: 100, write_ratio: None };
        let round = || {
            let up = Observation::Up { sample: Box::default(), hot_key: None };
            [("up:1".into(), up), ("down:1".into(), Observation::Down(FailureReason::Timeout))]
        };
        for node in ["up:1", "down:1", "gone:1"] {
            slots.put(&cache, &node.into(), sample);
        }
        slots.attach(&"another".into(), &mut round());
        let mut first = round();
        slots.attach(&cache, &mut first);
        assert!(matches!(first[0].1, Observation::Up { hot_key: Some(shown), .. } if shown == sample));
        let mut second = round();
        slots.attach(&cache, &mut second);
        assert_eq!(second, round());
    }
}
