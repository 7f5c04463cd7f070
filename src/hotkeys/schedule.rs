//! Whose turn it is: suspicious nodes first, quiet ones now and then, so that the usual share is known.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Config, Source};
use crate::detect::verdict::NodeVerdict;
use crate::model::{CacheName, Indicator, NodeName};
use crate::publish::FleetSnapshot;

/// From one sample of a node to the next, divided by the time scale: at most one second in sixty.
const PAUSE: Duration = Duration::from_secs(60);

/// The same for a quiet node that has been sampled [`FIRST_SAMPLES`] times.
const QUIET_PAUSE: Duration = Duration::from_secs(900);

/// The usual share is a median: this many samples make one, so a new node is asked sooner.
const FIRST_SAMPLES: u32 = 3;

/// Longest distance between samples of quiet nodes, divided by the time scale. Spreads a start over time.
const SPREAD: Duration = Duration::from_secs(10);

/// However large the time scale: it shortens durations for tests, not the rest that a server gets.
const PAUSE_MIN: Duration = Duration::from_secs(5);

/// Commands per second ÷ their baseline that make a node suspicious: below the three that the detector calls an
/// overload, so that the sample is there in time.
const SURGE: f64 = 2.0;

/// A node whose turn it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub(super) cache: CacheName,
    pub(super) node: NodeName,
    pub(super) urgency: Urgency,
    /// Commands per second, as last polled.
    pub(super) commands_per_second: f64,
}

/// Why a node is to be sampled; the more urgent, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// To know what is usual.
    Quiet,
    /// Its hit ratio looks bad, or it is in a storm.
    Storm,
    /// Its load does.
    Load,
}

/// When which node was sampled.
#[derive(Debug)]
pub(super) struct Schedule {
    visits: HashMap<CacheName, HashMap<NodeName, Visit>>,
    last_quiet: Option<Instant>,
    time_scale: f64,
}

#[derive(Debug, Clone, Copy)]
struct Visit {
    at: Instant,
    count: u32,
}

/// A node that is due.
struct Due<'a> {
    urgency: Urgency,
    /// When it last had its turn.
    last: Option<Instant>,
    cache: &'a CacheName,
    node: &'a NodeVerdict,
}

impl Due<'_> {
    /// In the order of turns.
    fn place(&self) -> (Reverse<Urgency>, Option<Instant>) {
        (Reverse(self.urgency), self.last)
    }

    fn turn(self) -> Turn {
        Turn {
            cache: self.cache.clone(),
            node: self.node.node.clone(),
            urgency: self.urgency,
            commands_per_second: self.node.signals.commands_per_second.unwrap_or(0.0),
        }
    }
}

impl Schedule {
    pub(super) fn new(config: &Config) -> Self {
        Self { visits: HashMap::new(), last_quiet: None, time_scale: config.timing.time_scale }
    }

    /// Goes over to another configuration; what is known of the nodes that stay is kept.
    pub(super) fn adopt(&mut self, config: &Config) {
        self.time_scale = config.timing.time_scale;
        self.visits.retain(|cache, visits| {
            let cache = config.caches.iter().find(|known| known.name == *cache);
            visits.retain(|node, _| {
                cache.is_some_and(|cache| match &cache.source {
                    Source::Nodes(nodes) => nodes.iter().any(|endpoint| endpoint.node == *node),
                    _ => true,
                })
            });
            !visits.is_empty()
        });
    }

    /// The most urgent node that is due; of equals the one that has waited longest.
    pub(super) fn next(&self, now: Instant, fleet: &FleetSnapshot) -> Option<Turn> {
        self.due(now, fleet).min_by_key(Due::place).map(Due::turn)
    }

    /// Nodes of the same cache that are due as urgently as the one whose turn it is, itself the first.
    pub(super) fn rivals(&self, now: Instant, fleet: &FleetSnapshot, first: &Turn) -> Vec<Turn> {
        let rivals = self.due(now, fleet).filter(|due| *due.cache == first.cache && due.urgency == first.urgency);
        let mut rivals: Vec<_> = rivals.collect();
        rivals.sort_by_key(Due::place);
        rivals.into_iter().map(Due::turn).collect()
    }

    fn due<'a>(&'a self, now: Instant, fleet: &'a FleetSnapshot) -> impl Iterator<Item = Due<'a>> {
        let nodes = fleet.caches.iter().flat_map(|(cache, snapshot)| {
            snapshot.verdict.nodes.iter().filter(|node| node.up && node.eligible).map(move |node| (cache, node))
        });
        let quiet_gap = self.scaled(SPREAD).min(self.scaled(QUIET_PAUSE) / nodes.clone().count().max(1) as u32);
        let quiet_due = self.last_quiet.is_none_or(|at| now - at >= quiet_gap);
        nodes.filter_map(move |(cache, node)| {
            let (urgency, visit) = (urgency(node), self.visit(cache, &node.node));
            let rested = visit.is_none_or(|visit| now - visit.at >= self.pause(urgency, visit.count));
            let due = rested && (urgency > Urgency::Quiet || quiet_due);
            due.then_some(Due { urgency, last: visit.map(|visit| visit.at), cache, node })
        })
    }

    /// Notes that the node had its turn, whatever came of it.
    pub(super) fn had(&mut self, turn: &Turn, now: Instant) {
        let visits = self.visits.entry(turn.cache.clone()).or_default();
        let count = visits.get(&turn.node).map_or(0, |visit| visit.count).saturating_add(1);
        visits.insert(turn.node.clone(), Visit { at: now, count });
        if turn.urgency == Urgency::Quiet {
            self.last_quiet = Some(now);
        }
    }

    fn visit(&self, cache: &CacheName, node: &NodeName) -> Option<Visit> {
        self.visits.get(cache)?.get(node).copied()
    }

    fn pause(&self, urgency: Urgency, visits: u32) -> Duration {
        let pause = if urgency == Urgency::Quiet && visits >= FIRST_SAMPLES { QUIET_PAUSE } else { PAUSE };
        self.scaled(pause).max(PAUSE_MIN)
    }

    fn scaled(&self, duration: Duration) -> Duration {
        duration.div_f64(self.time_scale)
    }
}

fn urgency(node: &NodeVerdict) -> Urgency {
    let (now, usual) = (node.signals.commands_per_second, node.signals.commands_per_second_baseline);
    let surges = now.zip(usual).is_some_and(|(now, usual)| usual > 0.0 && now >= SURGE * usual);
    if surges || node.indicators.contains(&Indicator::HotOverload) {
        Urgency::Load
    } else if node.affected || !node.indicators.is_empty() {
        Urgency::Storm
    } else {
        Urgency::Quiet
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Overrides, load};
    use crate::publish::fixture;

    /// A schedule at this time scale, and a fleet of one cache with these quiet nodes.
    fn setting(time_scale: f64, nodes: &[&str]) -> (Schedule, FleetSnapshot) {
        let mut config = load(None, &Overrides::default(), []).unwrap();
        config.timing.time_scale = time_scale;
        let mut snapshot = fixture::cache("sessions");
        let verdict = Arc::make_mut(&mut snapshot.verdict);
        let mut quiet = verdict.nodes.pop().unwrap();
        quiet.up = true;
        quiet.signals.commands_per_second = Some(100.0);
        quiet.signals.commands_per_second_baseline = Some(100.0);
        verdict.nodes = nodes.iter().map(|node| NodeVerdict { node: NodeName::from(*node), ..quiet.clone() }).collect();
        let mut fleet = FleetSnapshot::default();
        fleet.caches.insert(snapshot.cache.clone(), Arc::new(snapshot));
        (Schedule::new(&config), fleet)
    }

    fn change(fleet: &mut FleetSnapshot, node: usize, change: impl FnOnce(&mut NodeVerdict)) {
        let snapshot = Arc::make_mut(fleet.caches.get_mut("sessions").unwrap());
        change(&mut Arc::make_mut(&mut snapshot.verdict).nodes[node]);
    }

    /// Seconds at which each node has its turn while someone looks every 250 ms.
    fn turns(schedule: &mut Schedule, fleet: &FleetSnapshot, from: Instant, seconds: u32) -> Vec<(String, f64)> {
        let mut turns = Vec::new();
        for look in 0..seconds * 4 {
            let now = from + Duration::from_millis(250) * look;
            if let Some(turn) = schedule.next(now, fleet) {
                schedule.had(&turn, now);
                turns.push((turn.node.to_string(), f64::from(look) / 4.0));
            }
        }
        turns
    }

    #[test]
    fn quiet_nodes_are_asked_often_enough_to_know_them_then_rarely() {
        let (mut schedule, fleet) = setting(1.0, &["a:1", "b:1"]);
        let turns = turns(&mut schedule, &fleet, Instant::now(), 2000);
        let of = |node: &str| turns.iter().filter(|turn| turn.0 == node).map(|turn| turn.1).collect::<Vec<_>>();
        assert_eq!(of("a:1").len(), 5);
        for (node, offset) in [("a:1", 0.0), ("b:1", 10.0)] {
            let expected = [0.0, 60.0, 120.0, 1020.0, 1920.0].map(|at| at + offset);
            assert_eq!(of(node), expected, "{node}");
        }
    }

    #[test]
    fn a_surge_comes_before_a_bad_ratio_and_both_before_quiet_nodes() {
        let (mut schedule, mut fleet) = setting(1.0, &["a:1", "b:1", "c:1"]);
        change(&mut fleet, 1, |node| node.indicators = vec![Indicator::LowHitRatio]);
        change(&mut fleet, 2, |node| node.signals.commands_per_second = Some(200.0));
        let turns = turns(&mut schedule, &fleet, Instant::now(), 62);
        let expected = [("c:1", 0.0), ("b:1", 0.25), ("a:1", 0.5), ("c:1", 60.0), ("b:1", 60.25), ("a:1", 60.5)];
        assert_eq!(turns, expected.map(|(node, at)| (node.to_owned(), at)));
    }

    #[test]
    fn rivals_are_the_nodes_of_a_cache_that_are_due_as_urgently() {
        let (mut schedule, mut fleet) = setting(1.0, &["a:1", "b:1", "c:1", "d:1"]);
        for node in [1, 2] {
            change(&mut fleet, node, |node| node.signals.commands_per_second = Some(200.0));
        }
        change(&mut fleet, 3, |node| node.affected = true);
        let (now, nodes) =
            (Instant::now(), |turns: Vec<Turn>| turns.into_iter().map(|turn| turn.node).collect::<Vec<_>>());
        let first = schedule.next(now, &fleet).unwrap();
        assert_eq!(nodes(schedule.rivals(now, &fleet, &first)), ["b:1".into(), "c:1".into()]);
        schedule.had(&first, now);
        let second = schedule.next(now, &fleet).unwrap();
        assert_eq!(nodes(schedule.rivals(now, &fleet, &second)), ["c:1".into()]);
    }

    #[test]
    fn nodes_that_are_down_or_idle_are_left_alone() {
        let (schedule, mut fleet) = setting(1.0, &["a:1", "b:1"]);
        change(&mut fleet, 0, |node| node.up = false);
        change(&mut fleet, 1, |node| node.eligible = false);
        assert_eq!(schedule.next(Instant::now(), &fleet), None);
    }

    #[test]
    fn the_time_scale_shortens_pauses_down_to_a_floor() {
        for (time_scale, pause) in [(10.0, 6.0), (1000.0, 5.0)] {
            let (mut schedule, mut fleet) = setting(time_scale, &["a:1"]);
            change(&mut fleet, 0, |node| node.affected = true);
            let turns = turns(&mut schedule, &fleet, Instant::now(), 8);
            assert_eq!(turns.iter().map(|turn| turn.1).collect::<Vec<_>>(), [0.0, pause]);
        }
    }

    #[test]
    fn a_reload_forgets_only_nodes_that_left() {
        let (mut schedule, mut fleet) = setting(1.0, &["a:1", "127.0.0.1:6379"]);
        fleet.caches = fleet.caches.into_values().map(|cache| ("default".into(), cache)).collect();
        let start = Instant::now();
        turns(&mut schedule, &fleet, start, 20);
        schedule.adopt(&load(None, &Overrides::default(), []).unwrap());
        let later = turns(&mut schedule, &fleet, start + Duration::from_secs(20), 10);
        assert_eq!(later, [("a:1".to_owned(), 0.0)]);
    }
}
