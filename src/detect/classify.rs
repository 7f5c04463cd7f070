//! The decision table: from evidence to a score for every storm type. The numbers and where they come from:
//! docs/detection.md.

use super::balance::{Balance, Excess};
use serde::{Deserialize, Serialize};

use super::words;
use crate::history::{Restart, Summary};
use crate::model::{Role, StormType};

/// Below this no type is named.
const NAMED_FROM: f64 = 0.4;

/// From this on a type is named beside a stronger one. What took a tenth of the keys and explains the misses has as
/// much, however much else has gone; with less it may be no more than the ordinary churn of the storm.
const BESIDE_FROM: f64 = 0.5;

/// A cause is held guilty only if it explains at least this share of the extra misses: what separates a
/// stampede during ordinary expiry from an expiry wave.
const EXPLAINED_SHARE: f64 = 0.30;

/// Everything the table asks besides the key balance.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Facts {
    pub(crate) role: Option<Role>,
    /// The node's own medians.
    pub(crate) usual: Option<Summary>,
    /// A restart within the last ten minutes.
    pub(crate) restart: Option<Restart>,
    /// It loads its data set, and refuses its clients until that is there.
    pub(crate) loading: bool,
    /// The node is young, its past unknown, and it misses nearly everything under load.
    pub(crate) young_and_cold: bool,
    /// A promotion on this node within five minutes.
    pub(crate) promoted: bool,
    /// A flush ran since that promotion.
    pub(crate) flushed_since_promotion: bool,
    /// Failovers of its replication group within an hour.
    pub(crate) failovers: usize,
    /// That many are flapping.
    pub(crate) flapping_from: f64,
    /// A replica whose master is fine, with old data, a link that is down, or a sync or load under way.
    pub(crate) stale_replica: Option<&'static str>,
    /// Share of the hottest key, where it is at least a fifth and twice its usual.
    pub(crate) hot_share: Option<f64>,
    /// Writes to that key per access to any, where they follow reads of it.
    pub(crate) hot_rebuilds: Option<f64>,
    /// Of a replica: what its master tells of the keys that both hold.
    pub(crate) master: Option<MasterKeys>,
    /// Overloaded against its own past and its peers, without a key sample.
    pub(crate) skewed_load: bool,
    /// Writes refused per second within the window.
    pub(crate) oom_per_second: f64,
    /// Memory share from which evictions count.
    pub(crate) memory_limit: f64,
}

/// What became of a master's keys within its window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MasterKeys {
    pub(crate) balance: Balance,
    /// Its own medians.
    pub(crate) usual: Option<Summary>,
    /// A restart within the last ten minutes.
    pub(crate) restart: Option<Restart>,
}

/// A cause by name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Diagnosis {
    pub(crate) storm_type: StormType,
    /// 0–1.
    pub(crate) confidence: f64,
    /// Finer cause.
    pub(crate) sub_reason: Option<&'static str>,
}

/// A score and its finer cause for each type, in the order of [`StormType::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "[(f64, Option<String>); StormType::ALL.len()]")]
pub(crate) struct Scores([(f64, Option<&'static str>); StormType::ALL.len()]);

impl From<[(f64, Option<String>); StormType::ALL.len()]> for Scores {
    fn from(read: [(f64, Option<String>); StormType::ALL.len()]) -> Self {
        Self(read.map(|(score, sub_reason)| (score, sub_reason.and_then(|word| words::sub_reason(&word)))))
    }
}

impl Scores {
    pub(crate) fn get(&self, storm_type: StormType) -> (f64, Option<&'static str>) {
        self.0[storm_type as usize]
    }

    fn raise(&mut self, storm_type: StormType, score: f64, sub_reason: Option<&'static str>) {
        debug_assert!(
            sub_reason.is_none_or(|word| words::sub_reason(word).is_some()),
            "not in the list: {sub_reason:?}"
        );
        let slot = &mut self.0[storm_type as usize];
        if score > slot.0 {
            *slot = (score, sub_reason);
        }
    }

    /// The same while the node loads its data set.
    pub(crate) fn while_loading(mut self) -> Self {
        self.raise(StormType::ColdStart, 0.6, Some("loading"));
        self
    }

    /// Keeps the larger score of each type: later evidence counts only where it is stronger.
    pub(crate) fn raise_to(&mut self, other: &Self) {
        for storm_type in StormType::ALL {
            let (score, sub_reason) = other.get(*storm_type);
            self.raise(*storm_type, score, sub_reason);
        }
    }

    /// The strongest cause and, if `two` may be, another that is strong enough to be named beside it. How sure each is:
    /// its score less half of the strongest other's. Equal scores go by the order of the table.
    pub(crate) fn diagnose(&self, two: bool) -> (Diagnosis, Option<Diagnosis>) {
        let mut order: Vec<StormType> = StormType::ALL.to_vec();
        order.sort_by(|a, b| self.get(*b).0.total_cmp(&self.get(*a).0));
        let ((best, _), (second, _)) = (self.get(order[0]), self.get(order[1]));
        let diagnosis = |storm_type, score: f64, other: f64| Diagnosis {
            storm_type,
            confidence: (score - 0.5 * other).clamp(0.0, 1.0),
            sub_reason: self.get(storm_type).1,
        };
        if best < NAMED_FROM {
            return (diagnosis(StormType::Unknown, NAMED_FROM, best), None);
        }
        let beside = Some(order[1]).filter(|_| two && second >= BESIDE_FROM);
        (diagnosis(order[0], best, second), beside.map(|storm_type| diagnosis(storm_type, second, best)))
    }
}

fn unit(value: f64) -> f64 {
    value.clamp(0.0, 1.0)
}

/// Scores every type.
pub(crate) fn scores(balance: &Balance, facts: &Facts) -> Scores {
    let excess = balance.excess(facts.usual.as_ref());
    let mut scores = Scores::default();
    failover(&mut scores, facts);
    cold_start(&mut scores, facts);
    if let Some(sub_reason) = facts.stale_replica {
        scores.raise(StormType::ReplicationLag, 1.0, Some(sub_reason));
    }
    // What a promoted replica expires and drops at once is a consequence of the promotion.
    let consequence = facts.promoted && !facts.flushed_since_promotion;
    // A replica repeats its master's flush, command and loss; besides that it never expires, evicts or deletes
    // by itself: its balance means nothing.
    if balance.flushed && !consequence {
        scores.raise(StormType::MassInvalidation, 0.95, Some("flush"));
    }
    if facts.role == Some(Role::Master) {
        removals(&mut scores, balance, &excess, facts, consequence);
    }
    hot_key(&mut scores, balance, &excess, facts);
    if excess.gone / excess.keys_before < 0.03 && excess.sets.is_some_and(|sets| sets / excess.misses < 0.3) {
        // Misses that nobody refills: lookups of keys that do not exist anywhere.
        scores.0[StormType::Unknown as usize].1 = Some("penetration");
    }
    scores
}

/// Scores of a replica by its own lookups and its master's keys: a replica never expires, evicts or deletes by itself.
/// `lookups`: its own balance over its window.
pub(crate) fn scores_by_master(lookups: &Balance, master: &MasterKeys, facts: &Facts) -> Scores {
    let mut balance = master.balance;
    (balance.lookups, balance.misses) = (lookups.lookups, lookups.misses);
    let misses = facts.usual.map_or(0.0, |own| own.misses);
    let usual = master.usual.map(|keys| Summary { misses, ..keys });
    let (role, restart) = (Some(Role::Master), master.restart);
    scores(&balance, &Facts { role, usual, restart, young_and_cold: false, master: None, ..*facts })
}

fn failover(scores: &mut Scores, facts: &Facts) {
    if facts.promoted {
        let failovers = facts.failovers.max(1);
        let flapping = failovers as f64 >= facts.flapping_from;
        let score = 0.85 + 0.05 * failovers.min(3) as f64;
        scores.raise(StormType::FailoverCascade, score, flapping.then_some("flapping"));
    }
}

fn cold_start(scores: &mut Scores, facts: &Facts) {
    if facts.role != Some(Role::Master) {
        return;
    }
    if let Some(Restart { keys_before: Some(before), keys_after, loaded_nothing, replicas_before, .. }) = facts.restart
        && before > 0.0
    {
        let lost = 1.0 - keys_after / before;
        // Servers before 7.0 do not say what they loaded: nearly nothing left is as good.
        let empty = loaded_nothing.unwrap_or(lost > 0.9);
        // It was back before anyone took over: its replicas copy the emptiness, and no failover tells of it.
        let unnoticed = empty && replicas_before > 0.0 && !facts.promoted;
        let score = unit(lost / 0.5) * if empty { 0.95 } else { 0.6 };
        scores.raise(StormType::ColdStart, score, unnoticed.then_some("came_back_empty"));
    }
    if facts.young_and_cold {
        scores.raise(StormType::ColdStart, 0.5, None);
    }
}

fn removals(scores: &mut Scores, balance: &Balance, excess: &Excess, facts: &Facts, consequence: bool) {
    let explained = |part: f64| {
        // Without extra misses no removal is a cause.
        if excess.misses < 0.03 * balance.lookups { 0.0 } else { unit(part / excess.misses / EXPLAINED_SHARE) }
    };
    let certainty = |part: f64| (0.5 + 0.45 * excess.share(part)) * explained(part);
    let lost = |part: f64| part / excess.keys_before;

    if !consequence {
        if lost(excess.removed) >= 0.03 {
            let score = unit(lost(excess.removed) / 0.10) * certainty(excess.removed);
            scores.raise(StormType::MassInvalidation, score, Some("deletion"));
        }
        // Keys that push others out of a full memory are its pressure first of all.
        let pushing = is_full(balance, facts) && excess.evicted > 0.0;
        if !pushing && key_space_shifted(balance, excess, facts.usual.map_or(0.0, |usual| usual.keys)) {
            scores.raise(StormType::MassInvalidation, 0.65, Some("key_space_shift"));
        }
        let usual_expired = facts.usual.map_or(0.0, |usual| usual.expired);
        if lost(excess.expired) >= 0.03 && balance.expired / balance.seconds >= 3.0 * usual_expired {
            let score = unit(lost(excess.expired) / 0.10) * certainty(excess.expired);
            scores.raise(StormType::MassExpiration, score, None);
        }
    }
    let mut pressure = 0.0_f64;
    if is_full(balance, facts) {
        pressure = unit(lost(excess.evicted) / 0.05) * certainty(excess.evicted);
    }
    let refused = facts.oom_per_second >= 1.0;
    if refused {
        pressure = pressure.max(0.9);
    }
    if pressure > 0.0 && balance.eviction_exceeded {
        pressure = (pressure + 0.1).min(1.0);
    }
    scores.raise(StormType::MemoryPressure, pressure, refused.then_some("write_refusal"));
}

fn is_full(balance: &Balance, facts: &Facts) -> bool {
    balance.memory_used_ratio.is_some_and(|used| used >= facts.memory_limit)
}

/// Version or tag bump: nearly nothing removed, yet the misses create new keys beside the old ones.
fn key_space_shifted(balance: &Balance, excess: &Excess, usual_keys: f64) -> bool {
    let most_before = balance.keys_first.max(excess.keys_before).max(usual_keys);
    !balance.moved
        && excess.misses >= 0.03 * balance.lookups
        && excess.gone / excess.keys_before < 0.10
        && excess.inserted / excess.misses >= 0.5
        // Refill after a loss grows as well, but only up to what there was before, seen or not.
        && (balance.keys_last - most_before) / excess.keys_before >= 0.03
        && excess.sets.is_some_and(|sets| sets / excess.misses >= 0.4)
}

fn hot_key(scores: &mut Scores, balance: &Balance, excess: &Excess, facts: &Facts) {
    if let Some(share) = facts.hot_share {
        let quiet = 1.0 - unit(excess.gone / excess.keys_before / 0.05);
        let score = (0.45 + 0.5 * unit((share - 0.1) / 0.4)) * (0.6 + 0.4 * quiet);
        // Many clients recompute and store the same value at once. Seen at the key itself, or by all that is stored
        // while the number of keys stays.
        let rebuilt = facts.hot_rebuilds.is_some_and(|rebuilds| rebuilds * balance.lookups >= 0.5 * excess.misses);
        let stored = excess.sets.is_some_and(|sets| sets / excess.misses >= 0.5)
            && (balance.keys_last - balance.keys_first).abs() / excess.keys_before < 0.03;
        let stampede = excess.misses >= 0.03 * balance.lookups && (rebuilt || stored);
        scores.raise(StormType::HotKey, score, stampede.then_some("stampede"));
    } else if facts.skewed_load {
        scores.raise(StormType::HotKey, 0.5, Some("skewed_load"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_cause_is_named_where_it_would_do_alone() {
        use StormType::{MassExpiration, MemoryPressure, Unknown};
        let named = |pressure: f64, expiration: f64| {
            let mut scores = Scores::default();
            scores.raise(MemoryPressure, pressure, None);
            scores.raise(MassExpiration, expiration, None);
            let percent = |named: Diagnosis| (named.storm_type, (100.0 * named.confidence).round());
            assert_eq!(scores.diagnose(false), (scores.diagnose(true).0, None), "the first stays");
            let (first, second) = scores.diagnose(true);
            (percent(first), second.map(percent))
        };
        assert_eq!(named(0.8, 0.6), ((MemoryPressure, 50.0), Some((MassExpiration, 20.0))));
        assert_eq!(named(0.6, 0.8), ((MassExpiration, 50.0), Some((MemoryPressure, 20.0))));
        assert_eq!(named(0.9, 0.48), ((MemoryPressure, 66.0), None));
        assert_eq!(named(0.38, 0.36), ((Unknown, 21.0), None));
    }
}
