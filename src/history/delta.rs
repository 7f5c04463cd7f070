//! What changed between two polls of the same server life; restarts and `CONFIG RESETSTAT` told apart.

use serde::{Deserialize, Serialize};

use crate::parse::Sample;

/// Change of a node's counters between two polls. Counts are since the poll before, times in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Time of the later poll.
    pub t: f64,
    /// Seconds since the earlier one; above 0.
    pub dt: f64,
    /// Lookups that found their key.
    pub hits: f64,
    /// Lookups that did not.
    pub misses: f64,
    /// Commands processed.
    pub commands: f64,
    /// Keys removed at the end of their TTL.
    pub expired: f64,
    /// Keys removed for want of memory.
    pub evicted: f64,
    /// Keys at the earlier and at the later poll.
    pub keys: Option<(f64, f64)>,
    /// Calls that store a value; `None` without command statistics, as the next three.
    pub sets: Option<f64>,
    /// Calls of DEL and UNLINK.
    pub deletes: Option<f64>,
    /// Calls of FLUSHALL and FLUSHDB.
    pub flushes: Option<f64>,
    /// Calls that move slots.
    pub migrations: Option<f64>,
    /// Writes refused for want of memory.
    pub oom_errors: f64,
    /// Connections accepted.
    pub connections: f64,
    /// Provable lower bound of keys removed by command: K_prev − K_now − expired − evicted, from 0.
    /// Meaningless on replicas, and while slots migrate.
    pub removed: f64,
    /// `maxmemory` share at the later poll.
    pub memory_used_ratio: Option<f64>,
    /// The server missed its own eviction pace at the later poll.
    pub eviction_exceeded: bool,
}

impl Delta {
    /// Hits plus misses.
    #[must_use]
    pub fn lookups(&self) -> f64 {
        self.hits + self.misses
    }

    /// A FLUSHALL or FLUSHDB ran and at least 20 % of the keys are gone since: flushing a small database
    /// beside a large one is no event.
    #[must_use]
    pub fn flushed(&self) -> bool {
        self.flushes.is_some_and(|calls| calls > 0.0) && self.keys.is_some_and(|(before, after)| after < 0.8 * before)
    }

    fn between(earlier: &Life, t: f64, now: &Sample) -> Option<Self> {
        let before = &earlier.sample;
        let counted = |of: fn(&Sample) -> Option<u64>| of(now)?.checked_sub(of(before)?);
        // A command first called, or an error first seen, between the polls starts from 0.
        let calls = |of: fn(&Sample) -> Option<u64>| Some(of(now)?.saturating_sub(of(before).unwrap_or(0)) as f64);
        let or_zero = |of: fn(&Sample) -> Option<u64>| counted(of).unwrap_or(0) as f64;
        let keys = before.keys.zip(now.keys).map(|(before, now)| (before as f64, now as f64));
        let (expired, evicted) = (or_zero(|s| s.expired), or_zero(|s| s.evicted));
        Some(Self {
            t,
            dt: t - earlier.t,
            hits: counted(|s| s.hits)? as f64,
            misses: counted(|s| s.misses)? as f64,
            commands: or_zero(|s| s.commands),
            expired,
            evicted,
            keys,
            sets: calls(|s| s.set_calls),
            deletes: calls(|s| s.delete_calls),
            flushes: calls(|s| s.flush_calls),
            migrations: calls(|s| s.migration_calls),
            oom_errors: calls(|s| s.oom_errors).unwrap_or(0.0),
            connections: or_zero(|s| s.connections_received),
            removed: keys.map_or(0.0, |(before, now)| (before - now - expired - evicted).max(0.0)),
            memory_used_ratio: now.memory_used_ratio(),
            eviction_exceeded: now.eviction_exceeded_time.is_some_and(|time| time > 0.0),
        })
    }

    /// The sum of two nodes' deltas over the same poll: for pooled judgement.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        let both = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
        Self {
            t: self.t.max(other.t),
            dt: self.dt.max(other.dt),
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            commands: self.commands + other.commands,
            expired: self.expired + other.expired,
            evicted: self.evicted + other.evicted,
            keys: self.keys.zip(other.keys).map(|(a, b)| (a.0 + b.0, a.1 + b.1)),
            sets: both(self.sets, other.sets),
            deletes: both(self.deletes, other.deletes),
            flushes: both(self.flushes, other.flushes),
            migrations: both(self.migrations, other.migrations),
            oom_errors: self.oom_errors + other.oom_errors,
            connections: self.connections + other.connections,
            removed: self.removed + other.removed,
            memory_used_ratio: match (self.memory_used_ratio, other.memory_used_ratio) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            },
            eviction_exceeded: self.eviction_exceeded || other.eviction_exceeded,
        }
    }
}

/// A server started anew behind the node's address.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// When it was noticed.
    pub t: f64,
    /// Keys of the life before; `None` where none was seen.
    pub keys_before: Option<f64>,
    /// Keys at the first poll of the new life that was not spent loading.
    pub keys_after: f64,
    /// The new life loaded nothing from disk; `None` where the server does not say (before 7.0).
    pub loaded_nothing: Option<bool>,
    /// Seconds since the start, at the first poll of the new life.
    pub uptime: f64,
    /// Replicas that followed the life before.
    #[serde(default)]
    pub replicas_before: f64,
    /// Seconds from the first poll of the new life to the end of its loading, `t`.
    #[serde(default)]
    pub loading_seconds: f64,
}

impl Restart {
    /// The same with what a poll of the new life says, which is when its data set has been loaded.
    #[must_use]
    pub fn loaded(self, t: f64, sample: &Sample) -> Self {
        Self {
            t,
            keys_after: sample.keys.unwrap_or(0) as f64,
            loaded_nothing: sample.keys_loaded_at_start.map(|keys| keys == 0),
            loading_seconds: t - self.t,
            ..self
        }
    }
}

/// What a poll turned out to be.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly every poll is a delta, and goes straight into a window")]
pub enum Step {
    /// Nothing to compare with: the first poll of a server, or the first after a gap.
    First,
    /// The same life goes on.
    Delta(Delta),
    /// The counters were set back by `CONFIG RESETSTAT`: no alarm, deltas start anew.
    StatsReset,
    /// A new life.
    Restart(Restart),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Life {
    t: f64,
    sample: Box<Sample>,
}

/// The server lives seen behind one address. Managed endpoints answer for several servers in turn:
/// deltas are taken between polls of the same `run_id`, whatever answered in between.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Lives {
    current: Option<Life>,
    others: Vec<Life>,
}

/// Servers remembered behind one address besides the one that answered last.
const OTHER_LIVES_MAX: usize = 3;

/// `uptime_in_seconds` is whole seconds; clocks of two reads may differ by this much, seconds.
const UPTIME_SLACK: f64 = 2.0;

impl Lives {
    /// The last sample taken, if any.
    #[must_use]
    pub fn latest(&self) -> Option<&Sample> {
        self.current.as_ref().map(|life| &*life.sample)
    }

    /// Takes the next sample. `longest_gap`: seconds after which two polls are no longer compared;
    /// an average over an outage is not a present.
    pub fn advance(&mut self, t: f64, sample: Box<Sample>, longest_gap: f64) -> Step {
        let Some(current) = self.current.take() else {
            self.current = Some(Life { t, sample });
            return Step::First;
        };
        let earlier = if current.sample.run_id == sample.run_id {
            let fell =
                current.sample.uptime_seconds.zip(sample.uptime_seconds).is_some_and(|(a, b)| b + UPTIME_SLACK < a);
            if fell {
                return self.restart(t, sample, &current);
            }
            current
        } else if let Some(known) = self.others.iter().position(|life| life.sample.run_id == sample.run_id) {
            std::mem::replace(&mut self.others[known], current)
        } else {
            let ran_before = sample.uptime_seconds.is_some_and(|uptime| uptime > t - current.t + UPTIME_SLACK);
            if !ran_before {
                return self.restart(t, sample, &current);
            }
            // Another server behind the same address, no restart. The first may answer again.
            self.others.truncate(OTHER_LIVES_MAX - 1);
            self.others.insert(0, current);
            self.current = Some(Life { t, sample });
            return Step::First;
        };
        let step = if t <= earlier.t || t - earlier.t > longest_gap {
            Step::First
        } else if counter_fell(&earlier.sample, &sample) {
            Step::StatsReset
        } else {
            Delta::between(&earlier, t, &sample).map_or(Step::First, Step::Delta)
        };
        self.current = Some(Life { t, sample });
        step
    }

    fn restart(&mut self, t: f64, sample: Box<Sample>, before: &Life) -> Step {
        let restart = Restart {
            t,
            keys_before: before.sample.keys.map(|keys| keys as f64),
            keys_after: sample.keys.unwrap_or(0) as f64,
            loaded_nothing: sample.keys_loaded_at_start.map(|keys| keys == 0),
            uptime: sample.uptime_seconds.unwrap_or(0.0),
            replicas_before: before.sample.connected_replicas.unwrap_or(0) as f64,
            loading_seconds: 0.0,
        };
        self.current = Some(Life { t, sample });
        Step::Restart(restart)
    }
}

/// Any of the counters that RESETSTAT zeroes fell. A busy counter can pass its old value between two
/// polls; that all of these do is out of the question.
fn counter_fell(before: &Sample, now: &Sample) -> bool {
    let counters: [fn(&Sample) -> Option<u64>; 7] = [
        |s| s.hits,
        |s| s.misses,
        |s| s.expired,
        |s| s.evicted,
        |s| s.commands,
        |s| s.connections_received,
        |s| s.net_input_bytes,
    ];
    counters.iter().any(|of| of(before).zip(of(now)).is_some_and(|(before, now)| now < before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(run_id: &str, uptime: f64, hits: u64, keys: u64) -> Box<Sample> {
        Box::new(Sample {
            run_id: Some(run_id.into()),
            uptime_seconds: Some(uptime),
            hits: Some(hits),
            misses: Some(0),
            keys: Some(keys),
            ..Sample::default()
        })
    }

    #[test]
    fn tells_restart_reset_and_gap_apart() {
        let mut lives = Lives::default();
        assert_eq!(lives.advance(0.0, sample("a", 100.0, 50, 10), 60.0), Step::First);
        assert!(
            matches!(lives.advance(5.0, sample("a", 105.0, 80, 10), 60.0), Step::Delta(delta) if delta.hits == 30.0)
        );
        assert_eq!(lives.advance(10.0, sample("a", 110.0, 3, 10), 60.0), Step::StatsReset);
        assert_eq!(lives.advance(100.0, sample("a", 200.0, 9, 10), 60.0), Step::First);
        let Step::Restart(restart) = lives.advance(105.0, sample("b", 1.0, 0, 0), 60.0) else { panic!("a restart") };
        assert_eq!((restart.keys_before, restart.keys_after), (Some(10.0), 0.0));
    }

    #[test]
    fn an_endpoint_that_answers_for_two_servers_is_two_histories() {
        let mut lives = Lives::default();
        lives.advance(0.0, sample("a", 1000.0, 10, 5), 60.0);
        assert_eq!(lives.advance(5.0, sample("b", 2000.0, 900, 1), 60.0), Step::First, "fewer keys, yet no restart");
        assert!(
            matches!(lives.advance(10.0, sample("a", 1010.0, 30, 5), 60.0), Step::Delta(d) if d.hits == 20.0 && d.dt == 10.0)
        );
        assert!(matches!(lives.advance(15.0, sample("b", 2010.0, 950, 1), 60.0), Step::Delta(d) if d.hits == 50.0));
    }
}
