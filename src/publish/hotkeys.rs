//! What the last sample of a node's accesses said: patterns, never keys.

use crate::model::{CacheName, NodeName};

use super::FleetSnapshot;

/// How long a sample is shown, seconds.
pub const SHOWN_SECONDS: f64 = 600.0;

/// Patterns of one node that are measured: times three families at most 20 series.
pub const PATTERNS_PER_NODE: usize = 6;

/// Patterns of all nodes that are measured: times three families at most 100 series.
pub const PATTERNS_IN_ALL: usize = 33;

/// A pattern with less of its node's accesses is not measured.
const SHARE_MIN: f64 = 0.01;

/// One sample of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct HotKeySnapshot {
    /// When it was taken, Unix seconds.
    pub time_unix: f64,
    /// How long the node was watched.
    pub seconds: f64,
    /// Accesses to keys that were seen.
    pub accesses: u64,
    /// The hottest key's share of them.
    pub hottest_key_share: f64,
    /// A key is hot: a fifth of the accesses in two samples in turn, or a tenth and a thousand per second.
    pub hot: bool,
    /// Patterns, most accessed first, at most 20.
    pub patterns: Vec<HotPattern>,
}

/// How the keys of one pattern were accessed.
#[derive(Debug, Clone, PartialEq)]
pub struct HotPattern {
    /// The pattern.
    pub pattern: String,
    /// What such keys are for, by the configuration's rules.
    pub kind: Option<&'static str>,
    /// Share of the node's accesses.
    pub share: f64,
    /// Accesses per second, where the source counts accesses.
    pub operations_per_second: Option<f64>,
    /// Share of them that write, likewise.
    pub write_ratio: Option<f64>,
}

impl FleetSnapshot {
    /// The patterns that are measured: of each node those with the largest share of its accesses, and of all these
    /// the largest shares again, until the bounds are reached.
    #[must_use]
    pub fn hot_patterns(&self) -> Vec<(&CacheName, &NodeName, &HotPattern)> {
        let samples = self.hot_keys.iter().flat_map(|(cache, nodes)| nodes.iter().map(move |node| (cache, node)));
        let mut patterns: Vec<_> = samples
            .flat_map(|(cache, (node, sample))| {
                let measured = sample.patterns.iter().filter(|pattern| pattern.share >= SHARE_MIN);
                measured.take(PATTERNS_PER_NODE).map(move |pattern| (cache, node, pattern))
            })
            .collect();
        // Stable: equal shares stay in the order of names.
        patterns.sort_by(|(.., a), (.., b)| b.share.total_cmp(&a.share));
        patterns.truncate(PATTERNS_IN_ALL);
        patterns
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn sample(patterns: usize) -> Arc<HotKeySnapshot> {
        let pattern = |index: usize| HotPattern {
            pattern: format!("p{index}:*"),
            kind: None,
            share: 0.3 / (index + 1) as f64,
            operations_per_second: Some(10.0),
            write_ratio: Some(0.5),
        };
        let patterns = (0..patterns).map(pattern).collect();
        Arc::new(HotKeySnapshot {
            time_unix: 0.0,
            seconds: 1.0,
            accesses: 100,
            hottest_key_share: 0.1,
            hot: false,
            patterns,
        })
    }

    #[test]
    fn few_patterns_of_few_nodes_are_measured() {
        let mut fleet = FleetSnapshot::default();
        fleet.hot_keys.insert("a".into(), Arc::new([("n1:1".into(), sample(20))].into()));
        assert_eq!(fleet.hot_patterns().len(), PATTERNS_PER_NODE);
        let many = (0..50).map(|node| (format!("n{node}:2").as_str().into(), sample(20))).collect();
        fleet.hot_keys.insert("b".into(), Arc::new(many));
        let measured = fleet.hot_patterns();
        assert_eq!(measured.len(), PATTERNS_IN_ALL);
        assert!(measured.iter().all(|(.., pattern)| pattern.pattern == "p0:*"), "the largest shares");
        const { assert!(3 * PATTERNS_PER_NODE <= 20 && 3 * PATTERNS_IN_ALL <= 100) };
    }
}
