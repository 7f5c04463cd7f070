//! From samples to verdicts. Pure: no clock, no I/O, no globals; time is an argument, in seconds that never jump.

pub mod settings;
pub mod verdict;

use crate::model::NodeName;
use settings::Settings;
use verdict::{CacheVerdict, Episode, Observation};

/// The detector of one cache: its memory of every node, and the storm that is on.
#[derive(Debug)]
pub struct CacheDetector {
    settings: Settings,
}

impl CacheDetector {
    /// A detector that has seen nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Takes new settings; memory and a running storm live on.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Judges one round. `now`: the round's time, seconds, larger than at the call before.
    /// Nodes that are not in `round` have left the cache: they are forgotten. `isolated`: the exporter
    /// suspects its own network, severity holds.
    pub fn observe(&mut self, now: f64, isolated: bool, round: Vec<(NodeName, Observation)>) -> CacheVerdict {
        let _ = (now, isolated, round, &self.settings);
        unimplemented!()
    }

    /// Episodes, newest first, at most 100; the running one is first.
    #[must_use]
    pub fn episodes(&self) -> Vec<Episode> {
        Vec::new()
    }
}
