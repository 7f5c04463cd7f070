//! What a detector remembers, as a value: so that it can outlive the process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CacheDetector, Settings};
use crate::detect::episode::{Episodes, Lead};
use crate::detect::node::Node;
use crate::detect::settings::Durations;
use crate::detect::subject::Subject;
use crate::detect::verdict::{CacheVerdict, Episode};
use crate::model::{NodeName, Role};

/// The memory of a [`CacheDetector`]: baselines, last samples, states of nodes, episodes. Times in it are
/// detector time. Opaque but for what a new owner needs; any JSON that serde reads into it is safe to go on from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheState {
    nodes: BTreeMap<NodeName, Node>,
    pools: BTreeMap<Role, Subject>,
    failovers: Vec<(f64, Option<String>)>,
    rounds: u64,
    lead: Lead,
    episodes: Vec<Episode>,
    last: Option<CacheVerdict>,
}

impl CacheState {
    /// Time of the last round judged, detector time; `None` before the first.
    #[must_use]
    pub fn time(&self) -> Option<f64> {
        self.last.as_ref().map(|last| last.time)
    }

    /// Episodes, newest first; a running one is first.
    #[must_use]
    pub fn episodes(&self) -> &[Episode] {
        &self.episodes
    }
}

impl CacheDetector {
    /// A copy of everything it remembers.
    #[must_use]
    pub fn export(&self) -> CacheState {
        CacheState {
            nodes: self.nodes.clone(),
            pools: self.pools.clone(),
            failovers: self.failovers.clone(),
            rounds: self.rounds,
            lead: self.lead,
            episodes: self.episodes.list().to_vec(),
            last: self.last.clone(),
        }
    }

    /// Goes on from a memory, `now` being the present in its detector time.
    ///
    /// A gap is treated as one between two polls: up to the longest that a delta may span it is an interval like
    /// any other; past it windows start anew, while a server that restarted, was promoted or lost its keys
    /// meanwhile is still recognised by its last sample. What lasts because nothing was seen (a node without an
    /// answer, a storm without lookups) does not last while nobody looked.
    #[must_use]
    pub fn restore(settings: Settings, state: CacheState, now: f64) -> Self {
        let durations = Durations::of(&settings);
        let gap = state.time().map_or(0.0, |time| now - time);
        let CacheState { mut nodes, mut pools, failovers, rounds, lead, episodes, last } = state;
        if gap > durations.longest_gap {
            nodes.values_mut().for_each(|node| node.unwatched(gap));
            pools.values_mut().for_each(|pool| pool.unwatched(gap));
        }
        let episodes = Episodes::resume(episodes);
        Self { settings, durations, nodes, pools, failovers, rounds, lead, episodes, last }
    }
}
