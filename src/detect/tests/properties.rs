//! What holds whatever the servers say.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::rig::Rig;
use crate::detect::CacheDetector;
use crate::detect::settings::{Settings, Timing};
use crate::detect::verdict::{CacheVerdict, HotKeySample, Observation};
use crate::model::{FailureReason, NodeName, Role, SeverityMode};
use crate::parse::Sample;

/// Arbitrary numbers, read off as what servers might say.
struct Dice(std::vec::IntoIter<u64>);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0.next().unwrap_or(0) % sides
    }

    fn counter(&mut self) -> Option<u64> {
        match self.below(8) {
            0 => None,
            1 => Some(u64::MAX - self.below(10)),
            2 => self.0.next(),
            _ => Some(self.below(5_000)),
        }
    }

    fn number(&mut self) -> Option<f64> {
        match self.below(6) {
            0 => None,
            1 => Some(f64::MAX),
            _ => Some(self.below(5_000) as f64),
        }
    }

    /// One of a few names, so that lives and histories meet again.
    fn name(&mut self) -> Option<Arc<str>> {
        Some(self.below(8)).filter(|name| *name < 7).map(|name| Arc::from((name / 3).to_string()))
    }

    fn sample(&mut self) -> Sample {
        let roles = [None, Some(Role::Master), Some(Role::Master), Some(Role::Replica), Some(Role::Sentinel)];
        Sample {
            run_id: self.name(),
            role: roles[self.below(5) as usize],
            uptime_seconds: self.number(),
            server_time_seconds: self.number(),
            loading: self.below(8) == 0,
            hits: self.counter(),
            misses: self.counter(),
            expired: self.counter(),
            evicted: self.counter(),
            commands: self.counter(),
            connections_received: self.counter(),
            connected_clients: self.counter(),
            net_input_bytes: self.counter(),
            keys: self.counter(),
            used_memory_bytes: self.counter(),
            not_counted_for_evict_bytes: self.counter(),
            maxmemory_bytes: self.counter(),
            fragmentation_ratio: self.number(),
            dataset_bytes: self.counter(),
            eviction_exceeded_time: self.number(),
            keys_loaded_at_start: self.counter(),
            set_calls: self.counter(),
            delete_calls: self.counter(),
            flush_calls: self.counter(),
            migration_calls: self.counter(),
            oom_errors: self.counter(),
            replid: self.name(),
            replid2: self.name(),
            master_offset_bytes: self.counter(),
            replica_offset_bytes: self.counter(),
            link_up: Some(self.below(2) == 0),
            master_last_io_seconds: self.number(),
            sync_in_progress: Some(self.below(8) == 0),
            ..Sample::default()
        }
    }

    /// The life of `before` goes on, as far as its counters may grow.
    fn later(&mut self, before: &Sample) -> Sample {
        let mut grow = |counter: Option<u64>| counter.map(|count| count.saturating_add(self.below(20_000)));
        Sample {
            hits: grow(before.hits),
            misses: grow(before.misses),
            expired: grow(before.expired),
            evicted: grow(before.evicted),
            commands: grow(before.commands),
            connections_received: grow(before.connections_received),
            net_input_bytes: grow(before.net_input_bytes),
            set_calls: grow(before.set_calls),
            delete_calls: grow(before.delete_calls),
            oom_errors: grow(before.oom_errors),
            keys: self.counter(),
            ..before.clone()
        }
    }

    fn observation(&mut self, before: Option<&Sample>) -> Observation {
        let sample = match (self.below(10), before) {
            (0, _) => return Observation::Down(FailureReason::ALL[self.below(12) as usize]),
            (1, _) | (_, None) => self.sample(),
            (_, Some(before)) => self.later(before),
        };
        let share = self.below(101) as f64 / 100.0;
        let hot_key =
            (self.below(4) == 0).then(|| HotKeySample { share, accesses: self.below(200), write_ratio: Some(share) });
        Observation::Up { sample: Box::new(sample), hot_key }
    }
}

fn assert_sound(verdict: &CacheVerdict) -> Result<(), TestCaseError> {
    let finite = |what: &str, value: Option<f64>| {
        prop_assert!(value.is_none_or(f64::is_finite), "{what} is {value:?}");
        Ok(())
    };
    let share = |what: &str, value: f64| {
        prop_assert!((0.0..=1.0).contains(&value), "{what} is {value}");
        Ok(())
    };
    share("affected_share", verdict.affected_share)?;
    share("affected_share_traffic", verdict.affected_share_traffic)?;
    finite("started", verdict.started)?;
    finite("loss_exposure", verdict.loss_exposure)?;
    finite("refill_eta_seconds", verdict.refill_eta_seconds)?;
    for vote in &verdict.storm_types {
        share("confidence of a type", vote.confidence)?;
    }
    prop_assert_eq!(verdict.affected_nodes, verdict.nodes.iter().filter(|node| node.affected).count());
    prop_assert_eq!(verdict.eligible_nodes, verdict.nodes.iter().filter(|node| node.eligible).count());
    prop_assert_eq!(verdict.severity.ordinal() > 0, verdict.affected_nodes > 0);
    for node in &verdict.nodes {
        share("confidence", node.confidence)?;
        for (name, value) in &node.evidence {
            finite(name, Some(*value))?;
        }
        let signals = &node.signals;
        for value in [signals.hit_ratio, signals.hit_ratio_baseline, signals.hit_ratio_baseline_long] {
            value.map_or(Ok(()), |value| share("a ratio", value))?;
        }
        finite("hit_ratio_zscore", signals.hit_ratio_zscore)?;
        finite("lookups_per_second", signals.lookups_per_second)?;
        finite("misses_per_second", signals.misses_per_second)?;
        finite("miss_amplification", signals.miss_amplification)?;
        finite("commands_per_second", signals.commands_per_second)?;
        finite("evicted_keys_per_second", signals.evicted_keys_per_second)?;
        finite("expired_keys_per_second", signals.expired_keys_per_second)?;
        finite("memory_used_ratio", signals.memory_used_ratio)?;
        finite("replication_lag_seconds", signals.replication_lag_seconds)?;
    }
    Ok(())
}

/// What befalls a node, from round `from` on and for `rounds` rounds.
#[derive(Debug, Clone, Copy)]
struct Blow {
    node: usize,
    from: usize,
    rounds: usize,
    /// `None`: it is down.
    hit_ratio: Option<f64>,
}

fn blow() -> impl Strategy<Value = Blow> {
    (0..4_usize, 20..60_usize, 1..40_usize, prop::option::weighted(0.8, 0.0..0.9_f64))
        .prop_map(|(node, from, rounds, hit_ratio)| Blow { node, from, rounds, hit_ratio })
}

/// Severity and affected nodes by round, with everything `time_scale` times as fast.
fn course(blows: &[Blow], time_scale: f64) -> Vec<(u8, usize)> {
    let timing = Timing { time_scale, ..Timing::default() };
    let mut rig = Rig::with(4, Settings { timing, poll_interval: 5.0 / time_scale, ..Settings::default() });
    // So many lookups that a tenth of them are still enough: their number is not scaled.
    // Nor are key counts, so nothing happens to them: a tenth of the time expires a tenth of them.
    for server in &mut rig.servers {
        (server.lookups_per_second, server.expired_per_second) = (50_000.0, Some(0.0));
    }
    (0..120)
        .map(|round| {
            for (index, server) in rig.servers.iter_mut().enumerate() {
                let hit = |blow: &&Blow| blow.node == index && (blow.from..blow.from + blow.rounds).contains(&round);
                let blow = blows.iter().rfind(hit);
                server.hit_ratio = blow.and_then(|blow| blow.hit_ratio).unwrap_or(0.9);
                server.down = blow.filter(|blow| blow.hit_ratio.is_none()).map(|_| FailureReason::Refused);
            }
            let verdict = rig.round();
            (verdict.severity.ordinal(), verdict.affected_nodes)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_of_any_server_makes_it_panic_or_say_nan(
        numbers in prop::collection::vec(any::<u64>(), 0..10_000),
        time_scale in 1.0..20.0_f64,
    ) {
        let timing = Timing { time_scale, ..Timing::default() };
        let mut detector = CacheDetector::new(Settings { timing, ..Settings::default() });
        let mut dice = Dice(numbers.into_iter());
        let mut lives = BTreeMap::new();
        let mut now = 0.0;
        while dice.0.len() > 0 {
            now += [5.0, 5.0, 5.0, 0.001, 100.0][dice.below(5) as usize];
            let mut round = Vec::new();
            for name in ["n0", "n1", "n2", "n3"] {
                // Now and then a node is not listed.
                if dice.below(20) > 0 {
                    let observation = dice.observation(lives.get(name));
                    if let Observation::Up { sample, .. } = &observation {
                        lives.insert(name, (**sample).clone());
                    }
                    round.push((NodeName::from(name), observation));
                }
            }
            assert_sound(&detector.observe(now, false, round))?;
        }
    }

    #[test]
    fn severity_never_falls_when_another_node_is_hit(
        nodes in 1..9_usize,
        mode in prop::sample::select(vec![SeverityMode::Nodes, SeverityMode::Traffic, SeverityMode::Max]),
    ) {
        let mut before = (0, 0.0);
        for hit in 0..=nodes {
            let mut rig = Rig::with(nodes, Settings { severity_mode: mode, ..Settings::default() });
            rig.run(120.0);
            rig.servers[..hit].iter_mut().for_each(|server| server.hit_ratio = 0.1);
            let verdict = rig.run(30.0);
            prop_assert_eq!(verdict.affected_nodes, hit);
            let now = (verdict.severity.ordinal(), verdict.affected_share);
            prop_assert!(now >= before, "{hit} of {nodes}: {now:?} after {before:?}");
            before = now;
        }
        prop_assert_eq!(before.0, 3, "all of them are critical");
    }

    #[test]
    fn a_scaled_course_at_equal_rates_gets_the_same_verdicts(
        blows in prop::collection::vec(blow(), 1..4),
        time_scale in prop::sample::select(vec![2.0, 5.0, 10.0]),
    ) {
        prop_assert_eq!(course(&blows, 1.0), course(&blows, time_scale));
    }
}
