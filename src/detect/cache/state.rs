//! What a detector remembers, as a value: so that it can outlive the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::failover::Epochs;
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
    failovers: Vec<(f64, Option<Arc<str>>)>,
    #[serde(default)]
    epochs: Epochs,
    rounds: u64,
    lead: Lead,
    episodes: Vec<Episode>,
    last: Option<Arc<CacheVerdict>>,
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
            epochs: self.epochs.clone(),
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
        let CacheState { mut nodes, mut pools, failovers, epochs, rounds, lead, episodes, last } = state;
        if gap > durations.longest_gap {
            nodes.values_mut().for_each(|node| node.unwatched(gap));
            pools.values_mut().for_each(|pool| pool.unwatched(gap));
        }
        let episodes = Episodes::resume(episodes);
        Self { settings, durations, nodes, pools, failovers, epochs, rounds, lead, episodes, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::verdict::{EndReason, Observation};
    use crate::model::{FailureReason, Indicator, Severity, StormType};
    use crate::parse::Sample;

    const POLL: f64 = 5.0;

    /// A master of 1,000 lookups a second, most of them hits, and its detector.
    struct Watched {
        now: f64,
        server: Sample,
        lookups_per_second: u64,
        hit_percent: u64,
        detector: CacheDetector,
    }

    impl Watched {
        /// Watched for five quiet minutes.
        fn quiet() -> Self {
            let server = Sample {
                run_id: Some("a".into()),
                role: Some(Role::Master),
                uptime_seconds: Some(100_000.0),
                hits: Some(0),
                misses: Some(0),
                commands: Some(0),
                keys: Some(50_000),
                ..Sample::default()
            };
            let detector = CacheDetector::new(Settings::default());
            let mut watched = Self { now: 1e9, server, lookups_per_second: 1000, hit_percent: 95, detector };
            (0..60).for_each(|_| drop(watched.poll()));
            assert_eq!(watched.poll().severity, Severity::None);
            watched
        }

        /// Traffic goes on for so long, seen or not.
        fn pass(&mut self, seconds: f64) {
            self.now += seconds;
            let lookups = self.lookups_per_second * seconds as u64;
            let hits = lookups * self.hit_percent / 100;
            let add = |counter: &mut Option<u64>, count| *counter = counter.map(|sum| sum + count);
            add(&mut self.server.hits, hits);
            add(&mut self.server.misses, lookups - hits);
            add(&mut self.server.commands, lookups);
            self.server.uptime_seconds = self.server.uptime_seconds.map(|uptime| uptime + seconds);
        }

        fn poll(&mut self) -> Arc<CacheVerdict> {
            self.pass(POLL);
            self.look()
        }

        fn look(&mut self) -> Arc<CacheVerdict> {
            let up = Observation::Up { sample: Box::new(self.server.clone()), hot_key: None };
            self.detector.observe(self.now, false, vec![("n0".into(), up)])
        }

        fn fail(&mut self) -> Arc<CacheVerdict> {
            self.pass(POLL);
            let down = Observation::Down(FailureReason::Refused);
            self.detector.observe(self.now, false, vec![("n0".into(), down)])
        }

        /// The exporter is away for so long.
        fn outage(&mut self, seconds: f64) {
            let state = serde_json::to_vec(&self.detector.export()).unwrap();
            self.pass(seconds);
            let state = serde_json::from_slice(&state).unwrap();
            self.detector = CacheDetector::restore(Settings::default(), state, self.now);
        }
    }

    #[test]
    fn a_storm_goes_on_over_a_short_and_a_long_outage() {
        for outage in [10.0, 600.0] {
            let mut watched = Watched::quiet();
            watched.hit_percent = 20;
            let announced = (0..6).map(|_| watched.poll()).last().unwrap();
            assert_eq!(announced.severity, Severity::Critical);

            watched.outage(outage);
            let after = watched.look();
            assert_eq!((after.severity, after.started), (Severity::Critical, announced.started), "{outage} s away");
            (0..20).for_each(|_| drop(watched.poll()));
            watched.hit_percent = 95;
            (0..40).for_each(|_| drop(watched.poll()));
            let episodes = watched.detector.episodes();
            assert_eq!((episodes.len(), episodes[0].end_reason), (1, Some(EndReason::Recovered)));
        }
    }

    #[test]
    fn up_to_a_window_an_outage_is_a_long_interval_past_it_windows_start_anew() {
        for (outage, seen) in [(25.0, Some(1000.0)), (35.0, None)] {
            let mut watched = Watched::quiet();
            watched.outage(outage);
            let verdict = watched.look();
            assert_eq!(verdict.nodes[0].signals.lookups_per_second, seen, "{outage} s away");
            assert!(verdict.nodes[0].signals.hit_ratio_baseline.is_some_and(|ratio| (ratio - 0.95).abs() < 1e-6));
            assert_eq!(watched.poll().severity, Severity::None);
        }
    }

    #[test]
    fn a_storm_that_began_meanwhile_is_judged_against_the_past() {
        let mut watched = Watched::quiet();
        watched.hit_percent = 20;
        watched.outage(300.0);
        let severities: Vec<Severity> = (0..3).map(|_| watched.poll().severity).collect();
        assert!(severities.contains(&Severity::Critical), "{severities:?}");
    }

    #[test]
    fn a_server_that_restarted_empty_meanwhile_is_a_cold_start() {
        let mut watched = Watched::quiet();
        watched.hit_percent = 10;
        let keys_loaded_at_start = Some(0);
        watched.outage(240.0);
        watched.server = Sample {
            run_id: Some("b".into()),
            uptime_seconds: Some(60.0),
            hits: Some(6_000),
            misses: Some(54_000),
            commands: Some(60_000),
            keys: Some(900),
            keys_loaded_at_start,
            ..watched.server.clone()
        };
        let verdict = (0..4).map(|_| watched.poll()).last().unwrap();
        assert_eq!(verdict.severity, Severity::Critical);
        assert_eq!(verdict.nodes[0].storm_type, Some(StormType::ColdStart));
    }

    #[test]
    fn an_outage_of_ours_is_no_silence_of_theirs() {
        let mut watched = Watched::quiet();
        watched.outage(300.0);
        let polls: Vec<bool> =
            (0..5).map(|_| watched.fail().nodes[0].indicators.contains(&Indicator::Unreachable)).collect();
        assert_eq!(polls, [false, false, true, true, true], "fifteen seconds without an answer, by our own watch");

        let mut watched = Watched::quiet();
        watched.hit_percent = 20;
        (0..6).for_each(|_| drop(watched.poll()));
        watched.lookups_per_second = 0;
        (0..9).for_each(|_| drop(watched.poll()));
        watched.outage(600.0);
        assert_eq!(watched.poll().severity, Severity::Critical, "five minutes without lookups have not been seen");
    }

    #[test]
    fn a_memory_that_calls_its_fields_by_former_names_is_gone_on_from() {
        let mut watched = Watched::quiet();
        let state = serde_json::to_string(&watched.detector.export()).unwrap();
        assert!(state.contains("\"last_served\"") && state.contains("\"unserved_rounds\""));
        let former =
            state.replace("\"last_served\"", "\"last_answer\"").replace("\"unserved_rounds\"", "\"down_rounds\"");
        watched.detector =
            CacheDetector::restore(Settings::default(), serde_json::from_str(&former).unwrap(), watched.now);
        let polls: Vec<bool> =
            (0..3).map(|_| watched.fail().nodes[0].indicators.contains(&Indicator::Unreachable)).collect();
        assert_eq!(polls, [false, false, true], "its last answer is remembered");
    }

    #[test]
    fn a_node_takes_little_room() {
        let mut watched = Watched::quiet();
        // A day: every list is as long as it gets.
        (0..17_280).for_each(|_| drop(watched.poll()));
        let bytes = serde_json::to_vec(&watched.detector.export()).unwrap().len();
        assert!(bytes < 20 * 1024, "{bytes} bytes");
    }
}
