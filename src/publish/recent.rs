//! The last quarter of an hour of every cache and node, thinned: what charts are drawn from.
//!
//! Four bytes per node and five seconds, so 720 bytes per node: 3.6 MB for 5,000 nodes, taken at once. It begins anew with
//! the process.

use std::collections::VecDeque;
use std::sync::Arc;

use super::CacheSnapshot;
use crate::detect::verdict::NodeVerdict;
use crate::model::NodeName;

/// Length of a slot in seconds; of rounds that close in one slot the last is kept.
pub const SLOT_SECONDS: f64 = 5.0;

/// Slots that are kept: fifteen minutes.
pub const SLOTS_MAX: u64 = 180;

/// Hit ratio and what is usual, in 65,534ths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratios {
    hit_ratio: u16,
    usual: u16,
}

impl Ratios {
    const UNKNOWN: u16 = u16::MAX;

    fn new(hit_ratio: Option<f64>, usual: Option<f64>) -> Self {
        let pack = |ratio: Option<f64>| {
            ratio.map_or(Self::UNKNOWN, |ratio| (ratio.clamp(0.0, 1.0) * f64::from(Self::UNKNOWN - 1)).round() as u16)
        };
        Self { hit_ratio: pack(hit_ratio), usual: pack(usual) }
    }

    /// Hits ÷ lookups, 0–1; `None` without lookups or without an answer.
    #[must_use]
    pub fn hit_ratio(self) -> Option<f64> {
        Self::unpack(self.hit_ratio)
    }

    /// The baseline, 0–1.
    #[must_use]
    pub fn usual(self) -> Option<f64> {
        Self::unpack(self.usual)
    }

    fn unpack(packed: u16) -> Option<f64> {
        (packed != Self::UNKNOWN).then(|| f64::from(packed) / f64::from(Self::UNKNOWN - 1))
    }
}

/// The nodes of a cache added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Lookups per second.
    pub lookups: f64,
    /// Misses per second.
    pub misses: f64,
    /// Misses per second that today's lookups would bring at every node's usual hit ratio; `None` where no node
    /// has a usual.
    pub usual_misses: Option<f64>,
    /// Hits ÷ lookups; `None` without lookups.
    pub hit_ratio: Option<f64>,
    /// The nodes' baselines, weighted by today's lookups.
    pub usual: Option<f64>,
}

impl Totals {
    /// The sum over the nodes of one round.
    #[must_use]
    pub fn of(nodes: &[NodeVerdict]) -> Self {
        let (mut lookups, mut misses, mut known, mut usual_hits) = (0.0, 0.0, 0.0, 0.0);
        for signals in nodes.iter().map(|node| &node.signals) {
            let Some(here) = signals.lookups_per_second else { continue };
            lookups += here;
            misses += signals.misses_per_second.unwrap_or(0.0);
            if let Some(usual) = signals.hit_ratio_baseline {
                known += here;
                usual_hits += here * usual;
            }
        }
        Self {
            lookups,
            misses,
            usual_misses: (known > 0.0).then_some(known - usual_hits),
            hit_ratio: (lookups > 0.0).then(|| 1.0 - misses / lookups),
            usual: (known > 0.0).then(|| usual_hits / known),
        }
    }
}

/// One cache in one slot.
#[derive(Debug)]
pub struct Moment {
    /// Unix time ÷ [`SLOT_SECONDS`].
    pub slot: u64,
    /// All nodes together.
    pub cache: Ratios,
    names: Arc<[NodeName]>,
    ratios: Box<[Ratios]>,
}

impl Moment {
    fn new(snapshot: &CacheSnapshot, slot: u64, before: Option<&Moment>) -> Self {
        let nodes = &snapshot.verdict.nodes;
        let totals = Totals::of(nodes);
        // The list of names is the same for hours, and most of the bytes.
        let names = before
            .filter(|before| before.names.iter().eq(nodes.iter().map(|node| &node.node)))
            .map_or_else(|| nodes.iter().map(|node| node.node.clone()).collect(), |before| Arc::clone(&before.names));
        let ratios = nodes.iter().map(|node| Ratios::new(node.signals.hit_ratio, node.signals.hit_ratio_baseline));
        Self { slot, cache: Ratios::new(totals.hit_ratio, totals.usual), names, ratios: ratios.collect() }
    }

    /// The same nodes in a slot of which nothing is known.
    fn blank(&self, slot: u64) -> Self {
        let unknown = Ratios::new(None, None);
        let ratios = self.ratios.iter().map(|_| unknown).collect();
        Self { slot, cache: unknown, names: Arc::clone(&self.names), ratios }
    }

    /// What is kept of a node; `None` if it was not in the cache then.
    #[must_use]
    pub fn node(&self, node: &NodeName) -> Option<Ratios> {
        self.names.binary_search(node).ok().map(|index| self.ratios[index])
    }
}

/// What is kept of a cache, oldest first; nothing is known of the time before the first round. Cheap to clone: moments are
/// shared.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    moments: VecDeque<Arc<Moment>>,
}

impl Recent {
    /// The moments, oldest first; slots without a round are missing.
    pub fn moments(&self) -> impl DoubleEndedIterator<Item = &Moment> {
        self.moments.iter().map(|moment| &**moment)
    }

    pub(super) fn push(&mut self, snapshot: &CacheSnapshot) {
        let slot = (snapshot.time_unix.max(0.0) / SLOT_SECONDS) as u64;
        // What lies ahead is from before the wall clock was set back.
        while self.moments.back().is_some_and(|last| last.slot > slot) {
            self.moments.pop_back();
        }
        let moment = Moment::new(snapshot, slot, self.moments.back().map(|last| &**last));
        if self.moments.back().is_some_and(|last| last.slot == slot) {
            self.moments.pop_back();
        }
        if self.moments.is_empty() {
            // All its room at once: a fleet's memory must not creep for the quarter of an hour in which it fills.
            let before = slot.saturating_sub(SLOTS_MAX - 1)..slot;
            self.moments.extend(before.map(|slot| Arc::new(moment.blank(slot))));
        }
        self.moments.push_back(Arc::new(moment));
        while self.moments.front().is_some_and(|first| first.slot + SLOTS_MAX <= slot) {
            self.moments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::fixture;

    fn at(seconds: f64) -> CacheSnapshot {
        CacheSnapshot { time_unix: fixture::ROUND_UNIX + seconds, ..fixture::cache("c") }
    }

    fn slots(recent: &Recent) -> Vec<u64> {
        let first = (fixture::ROUND_UNIX / SLOT_SECONDS) as u64;
        recent.moments().map(|moment| moment.slot - first).collect()
    }

    #[test]
    fn a_node_costs_four_bytes_per_slot_and_names_are_shared() {
        assert_eq!(size_of::<Ratios>(), 4);
        let mut recent = Recent::default();
        recent.push(&at(0.0));
        recent.push(&at(5.0));
        let names: Vec<_> = recent.moments().map(|moment| Arc::as_ptr(&moment.names)).collect();
        assert!(names.iter().all(|list| std::ptr::eq(*list, names[0])));
        assert_eq!(names.len() as u64, SLOTS_MAX, "its room is taken at once");
        let known = recent.moments().filter(|moment| moment.cache.hit_ratio().is_some()).count();
        assert_eq!(known, 2, "and holds nothing yet");
    }

    #[test]
    fn a_quarter_of_an_hour_is_kept_one_round_per_slot() {
        let mut recent = Recent::default();
        for second in 0..1000 {
            recent.push(&at(f64::from(second)));
        }
        assert_eq!(slots(&recent), (20..200).collect::<Vec<_>>());
        recent.push(&at(1500.0));
        assert_eq!(slots(&recent), (121..200).chain([300]).collect::<Vec<_>>(), "a gap stays a gap");
        recent.push(&at(700.0));
        assert_eq!(slots(&recent), (121..=140).collect::<Vec<_>>(), "the clock was set back");
    }

    #[test]
    fn ratios_come_back_and_the_unknown_stays_unknown() {
        let mut recent = Recent::default();
        recent.push(&at(0.0));
        let moment = recent.moments().next_back().unwrap();
        let close = |ratio: Option<f64>, to: f64| (ratio.unwrap() - to).abs() < 1e-4;
        let master = moment.node(&"10.0.0.1:6379".into()).unwrap();
        assert!(close(master.hit_ratio(), 0.3) && close(master.usual(), 0.9));
        let down = moment.node(&"10.0.0.3:6379".into()).unwrap();
        assert_eq!((down.hit_ratio(), down.usual()), (None, None));
        assert!(moment.node(&"elsewhere:1".into()).is_none());
        assert!(close(moment.cache.hit_ratio(), 0.3) && close(moment.cache.usual(), 0.9));
    }

    #[test]
    fn totals_weigh_nodes_by_their_lookups() {
        let mut nodes = fixture::cache("c").verdict.nodes.clone();
        nodes[1].signals.lookups_per_second = Some(3000.0);
        nodes[1].signals.misses_per_second = Some(300.0);
        nodes[1].signals.hit_ratio_baseline = Some(0.5);
        let totals = Totals::of(&nodes);
        assert_eq!((totals.lookups, totals.misses, totals.hit_ratio), (4000.0, 1000.0, Some(0.75)));
        assert_eq!((totals.usual, totals.usual_misses), (Some(0.6), Some(1600.0)));
        assert_eq!(Totals::of(&[]), Totals::default());
    }
}
