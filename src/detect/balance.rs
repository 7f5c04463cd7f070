//! The key balance: what became of a node's keys around the onset of a storm.

use serde::{Deserialize, Deserializer, Serialize};

use crate::history::{Delta, Summary, Totals, Window};

/// Sums over the evidence window. Counts are absolute, not rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Balance {
    /// Seconds covered.
    pub(crate) seconds: f64,
    /// Lookups.
    pub(crate) lookups: f64,
    /// Misses among them.
    pub(crate) misses: f64,
    /// Calls that store a value; `None` without command statistics.
    pub(crate) sets: Option<f64>,
    /// Keys expired, evicted, and removed by command (provable lower bound).
    pub(crate) expired: f64,
    pub(crate) evicted: f64,
    pub(crate) removed: f64,
    /// `removed` includes an estimate of what refill hid.
    pub(crate) removed_estimated: bool,
    /// A flush ran and keys are gone since.
    pub(crate) flushed: bool,
    /// Slots were moving: what came and went is no invalidation.
    pub(crate) moved: bool,
    /// Writes refused for want of memory.
    pub(crate) oom_errors: f64,
    /// Connections accepted.
    pub(crate) connections: f64,
    /// Largest key count in the first window of evidence (K0).
    pub(crate) keys_before: f64,
    /// Key count at the beginning (NaN before the first) and at the end.
    #[serde(deserialize_with = "null_is_nan")]
    pub(crate) keys_first: f64,
    pub(crate) keys_last: f64,
    /// Largest share of the memory limit in use.
    pub(crate) memory_used_ratio: Option<f64>,
    /// The server missed its own eviction pace.
    pub(crate) eviction_exceeded: bool,
    /// Until when a poll's key count still counts for `keys_before`.
    keys_before_until: f64,
}

/// JSON has no NaN: it is written as null.
fn null_is_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// How one delta's removals are to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Removals {
    /// As the lower bound that the key count proves.
    Proven,
    /// With this share of SETs taken as refill that hid removals: many DEL or UNLINK calls were seen.
    Refilled(f64),
    /// Not at all: slots are moving.
    Ignored,
}

impl Removals {
    /// Keys removed by command in one delta.
    pub(crate) fn of(self, delta: &Delta) -> f64 {
        match self {
            Self::Proven => delta.removed,
            Self::Ignored => 0.0,
            Self::Refilled(created) => delta.keys.map_or(0.0, |(before, after)| {
                let hidden = created * delta.sets.unwrap_or(0.0);
                (before - after - delta.expired - delta.evicted + hidden).max(0.0)
            }),
        }
    }
}

/// Refill masks chunked deletion. Only where DEL and UNLINK are called at least three times, and three times
/// as often as usual, may the refill be added back: ungated, a stampede's overwrites look like deletions.
pub(crate) fn removals(window: &Totals, usual: Option<&Summary>, moving: bool) -> Removals {
    if moving {
        return Removals::Ignored;
    }
    let calls = window.deletes as f64;
    match usual {
        Some(usual) if calls >= 3.0 && calls >= 3.0 * usual.deletes * window.seconds() => {
            Removals::Refilled(usual.inserted)
        }
        _ => Removals::Proven,
    }
}

impl Balance {
    /// An empty balance whose K0 is taken from deltas up to `keys_before_until`.
    pub(crate) fn new(keys_before_until: f64) -> Self {
        Self { keys_before_until, sets: Some(0.0), keys_first: f64::NAN, ..Self::default() }
    }

    /// The balance of a whole window at `now`.
    pub(crate) fn of(window: &Window, removals: Removals, now: f64) -> Self {
        let mut balance = Self::new(now);
        window.iter().for_each(|delta| balance.add(delta, removals));
        balance
    }

    /// Adds one delta.
    pub(crate) fn add(&mut self, delta: &Delta, removals: Removals) {
        self.seconds += delta.dt;
        self.lookups += delta.lookups();
        self.misses += delta.misses;
        self.sets = self.sets.zip(delta.sets).map(|(sum, sets)| sum + sets);
        self.expired += delta.expired;
        self.evicted += delta.evicted;
        let removed = removals.of(delta);
        self.removed += removed;
        self.removed_estimated |= removed > 0.0 && matches!(removals, Removals::Refilled(_));
        self.flushed |= delta.flushed();
        self.moved |= removals == Removals::Ignored;
        self.oom_errors += delta.oom_errors;
        self.connections += delta.connections;
        if let Some((before, after)) = delta.keys {
            if self.keys_first.is_nan() {
                self.keys_first = before;
            }
            if delta.t <= self.keys_before_until || self.keys_before == 0.0 {
                self.keys_before = self.keys_before.max(before);
            }
            self.keys_last = after;
        }
        self.memory_used_ratio = match (self.memory_used_ratio, delta.memory_used_ratio) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        self.eviction_exceeded |= delta.eviction_exceeded;
    }

    /// What the sums exceed the usual by. Without a baseline everything is excess.
    pub(crate) fn excess(&self, usual: Option<&Summary>) -> Excess {
        let over = |sum: f64, rate: fn(&Summary) -> f64| (sum - usual.map_or(0.0, rate) * self.seconds).max(0.0);
        let expired = over(self.expired, |usual| usual.expired);
        let evicted = over(self.evicted, |usual| usual.evicted);
        Excess {
            misses: over(self.misses, |usual| usual.misses).max(1.0),
            sets: self.sets.map(|sets| over(sets, |usual| usual.sets)),
            expired,
            evicted,
            removed: self.removed,
            gone: expired + evicted + self.removed,
            keys_before: self.keys_before.max(1.0),
            inserted: (self.keys_last - self.keys_first + expired + evicted + self.removed).max(0.0),
        }
    }
}

/// Counts above the usual, and what they are measured by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Excess {
    /// Extra misses, at least 1.
    pub(crate) misses: f64,
    /// Extra storing calls; `None` without command statistics.
    pub(crate) sets: Option<f64>,
    /// Extra keys expired, evicted; keys removed by command.
    pub(crate) expired: f64,
    pub(crate) evicted: f64,
    pub(crate) removed: f64,
    /// The three together.
    pub(crate) gone: f64,
    /// K0, at least 1.
    pub(crate) keys_before: f64,
    /// Keys created beyond those that usually make up for what expires and is evicted.
    pub(crate) inserted: f64,
}

impl Excess {
    /// A part's share of everything gone. Nothing takes more of the keys than there were: what is written during a
    /// storm and evicted at once, thirty times over, says nothing about who took the keys that are missed.
    pub(crate) fn share(&self, part: f64) -> f64 {
        let of = |count: f64| count.min(self.keys_before);
        let gone = of(self.expired) + of(self.evicted) + of(self.removed);
        if gone > 0.0 { of(part) / gone } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn churn_during_the_storm_does_not_hide_who_took_the_keys() {
        // A common lifetime ended while junk was written and evicted thirty times over.
        let balance = Balance {
            seconds: 90.0,
            expired: 1000.0,
            evicted: 53_000.0,
            keys_before: 1750.0,
            keys_first: 1750.0,
            keys_last: 1750.0,
            ..Balance::default()
        };
        let excess = balance.excess(None);
        assert_eq!(excess.share(excess.expired), 1000.0 / 2750.0);
        assert_eq!(excess.share(excess.evicted), 1750.0 / 2750.0);
        assert_eq!(excess.share(excess.removed), 0.0);
        assert_eq!(Balance::default().excess(None).share(0.0), 0.0);
    }
}
