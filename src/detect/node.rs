//! One node's memory: its server lives, its traffic, how it follows its master, and its state machine.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::indicator::Reference;
use super::replication::{Following, Offsets, Staleness};
use super::settings::Durations;
use super::subject::Subject;
use super::verdict::HotKeySample;
use crate::history::{Delta, Lives, Restart, Step, Traffic};
use crate::model::{FailureReason, Role};
use crate::parse::Sample;

/// Lookups that a server's life so far must cover before its ratio may stand in for a baseline.
const LIFETIME_LOOKUPS_MIN: u64 = 100_000;

/// Lookups per second from which a node counts in severity.
const ELIGIBLE_LOOKUPS_PER_SECOND: f64 = 1.0;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Node {
    lives: Lives,
    /// Its role at its last answer: asked for at every turn.
    role: Option<Role>,
    pub(crate) subject: Subject,
    pub(crate) traffic: Traffic,
    pub(crate) offsets: Offsets,
    following: Following,
    /// It is dead, and a living master goes on with its history.
    #[serde(default)]
    pub(crate) replaced: bool,
    /// Hit ratio of the server's life before the first poll, if it covers enough lookups.
    lifetime: Option<f64>,
    /// Its `master_replid` changed to one that continues the old: its group had a failover.
    pub(crate) followed_failover: Option<f64>,
    /// Its last answer, but for those while it loads its data set: it serves nobody else then.
    #[serde(alias = "last_answer")]
    last_served: Option<f64>,
    /// Rounds since.
    #[serde(alias = "down_rounds")]
    unserved_rounds: u32,
    /// A restart whose data set is being loaded: how much of it there will be is not known yet.
    #[serde(default)]
    reloading: Option<Restart>,
    /// The last round that listed it.
    #[serde(skip)]
    pub(crate) listed: u64,
    /// The last delta of its window is this round's.
    #[serde(skip)]
    counted: bool,
    /// Its replication history, by the number that this round gave it.
    #[serde(skip)]
    pub(crate) group: Option<usize>,
    pub(crate) down: Option<FailureReason>,
    /// This round's.
    #[serde(skip)]
    pub(crate) staleness: Staleness,
    usual_bytes_per_key: Option<f64>,
}

/// What a poll revealed that concerns more than the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Nothing,
    /// The node serves for the first time since it is known.
    Joined,
    /// The node was a replica and is a master now.
    Promoted,
}

impl Node {
    pub(crate) fn role(&self) -> Option<Role> {
        self.role
    }

    pub(crate) fn latest(&self) -> Option<&Sample> {
        self.lives.latest()
    }

    /// Name of the replication history it follows or leads.
    pub(crate) fn replid(&self) -> Option<&Arc<str>> {
        self.latest()?.replid.as_ref()
    }

    /// Its last restart; if the data set is still being loaded, as far as it is known.
    pub(crate) fn restart(&self) -> Option<Restart> {
        self.reloading.or(self.subject.restart)
    }

    /// This round's delta; `None` while down, and at the first poll of a life.
    pub(crate) fn delta(&self) -> Option<&Delta> {
        self.subject.window.last().filter(|_| self.counted)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.down.is_none()
    }

    pub(crate) fn is_eligible(&self) -> bool {
        !self.replaced && self.traffic.per_second() >= ELIGIBLE_LOOKUPS_PER_SECOND
    }

    /// It has served nobody for two rounds and fifteen seconds.
    pub(crate) fn is_out(&self, now: f64, durations: &Durations) -> bool {
        self.unserved_rounds >= 2 && self.last_served.is_some_and(|at| now - at >= 0.99 * durations.unreachable)
    }

    /// An eligible master that is out as its clients see it; a replica, too, if there is nobody left (`none_serves`) to be
    /// read instead.
    pub(crate) fn is_unreachable(&self, now: f64, none_serves: bool, durations: &Durations) -> bool {
        self.is_out(now, durations)
            && self.down.is_none_or(FailureReason::clients_feel)
            && self.is_eligible()
            && (self.role() == Some(Role::Master) || none_serves)
    }

    /// Nobody watched for that many seconds: what was silent was not seen to be.
    pub(crate) fn unwatched(&mut self, seconds: f64) {
        self.last_served = self.last_served.map(|at| at + seconds);
        self.subject.unwatched(seconds);
    }

    /// Takes a round in which the node did not answer.
    pub(crate) fn miss(&mut self, reason: FailureReason) {
        self.down = Some(reason);
        self.unserved_rounds = self.unserved_rounds.saturating_add(1);
        self.counted = false;
        self.staleness = Staleness::default();
    }

    /// Takes an answer.
    pub(crate) fn take(
        &mut self,
        now: f64,
        sample: Box<Sample>,
        hot_key: Option<HotKeySample>,
        durations: &Durations,
    ) -> Event {
        self.down = None;
        let loading = sample.loading;
        self.counted = false;
        let joined = self.last_served.is_none() && !loading;
        if let Some(hot_key) = hot_key {
            self.subject.hot.take(now, hot_key);
        }
        if joined {
            self.lifetime = lifetime_ratio(&sample);
        }
        if loading {
            self.unserved_rounds = self.unserved_rounds.saturating_add(1);
        } else {
            self.unserved_rounds = 0;
            self.last_served = Some(now);
            self.replaced = false;
        }
        let was_loading = self.latest().is_some_and(|sample| sample.loading);
        let before = self.latest().map(|sample| (sample.run_id.clone(), sample.role, sample.replid.clone()));
        match self.lives.advance(now, sample, durations.longest_gap) {
            Step::Delta(delta) if !loading && !was_loading => {
                self.subject.absorb(&delta, durations);
                self.traffic.add(now, delta.dt, delta.lookups(), durations.eligible_span);
                self.counted = true;
            }
            Step::Restart(restart) => {
                // A load that was broken off had but a part of the keys.
                let keys_before = self.reloading.take().map_or(restart.keys_before, |first| first.keys_before);
                let restart = Restart { keys_before, ..restart };
                if loading {
                    self.subject.clear_window();
                    self.reloading = Some(restart);
                } else {
                    self.restarted(restart, durations);
                }
            }
            Step::Delta(_) | Step::First | Step::StatsReset => {
                self.subject.clear_window();
                if !loading
                    && let Some(restart) = self.reloading.take()
                    && let Some(loaded) = self.lives.latest().map(|sample| restart.loaded(now, sample))
                {
                    self.restarted(loaded, durations);
                }
            }
        }
        let Some(sample) = self.lives.latest() else { return Event::Nothing };
        self.role = sample.role;
        if let (Some(Role::Master), Some(offset)) = (sample.role, sample.master_offset_bytes) {
            self.offsets.push(now, offset);
        }
        match before {
            _ if joined => Event::Joined,
            Some((run_id, role, replid)) if run_id == sample.run_id => {
                // A restarted master begins a new history; only a promotion continues the old one.
                if replid.is_some() && replid != sample.replid && sample.replid2 == replid {
                    self.followed_failover = Some(now);
                }
                if role == Some(Role::Replica) && sample.role == Some(Role::Master) {
                    self.promoted(now, durations);
                    return Event::Promoted;
                }
                Event::Nothing
            }
            _ => Event::Nothing,
        }
    }

    /// It has become the master of its replication group.
    pub(crate) fn promoted(&mut self, now: f64, durations: &Durations) {
        self.subject.promoted = Some(now);
        self.subject.see_cause(now, durations);
    }

    /// A new life: half of the keys gone is a cause, a warm restart is none.
    pub(crate) fn restarted(&mut self, restart: Restart, durations: &Durations) {
        self.subject.clear_window();
        self.subject.restart = Some(restart);
        if restart.keys_before.is_some_and(|before| restart.keys_after < 0.5 * before) {
            self.subject.see_cause(restart.t, durations);
        }
    }

    /// How it follows its master; nothing for masters.
    pub(crate) fn follow(&mut self, now: f64, master: Option<&Offsets>, durations: &Durations) {
        let Some(sample) = self.lives.latest().filter(|sample| sample.role == Some(Role::Replica)) else {
            self.staleness = Staleness::default();
            return;
        };
        self.staleness = self.following.follow(now, sample, master, durations);
    }

    /// What its present is compared with: its own past, else what the cache lends, else its server's life so
    /// far, else what the operator expects.
    pub(crate) fn reference(&self, lend: impl Fn() -> Option<f64>, expected: Option<f64>) -> Option<Reference> {
        let lent = if self.subject.baseline.summary().is_some() { None } else { lend() };
        let borrowed = lent.or(self.lifetime).or(expected);
        let mut reference = Reference::own_or(&self.subject.baseline, borrowed)?;
        reference.provisional = reference.own.is_none() && lent.is_none() && self.lifetime.is_some();
        Some(reference)
    }

    /// Mean bytes per key against its usual; learns while the node is well.
    pub(crate) fn object_size_ratio(&mut self, well: bool) -> Option<f64> {
        let sample = self.lives.latest()?;
        let bytes = sample.dataset_bytes? as f64 / sample.keys.filter(|keys| *keys >= 100)? as f64;
        let usual = *self.usual_bytes_per_key.get_or_insert(bytes);
        if well {
            // Slow on purpose: sizes drift over hours, a burst of large values must stand out for minutes.
            self.usual_bytes_per_key = Some(usual + 0.01 * (bytes - usual));
        }
        Some(bytes / usual)
    }
}

fn lifetime_ratio(sample: &Sample) -> Option<f64> {
    let lookups = sample.lookups().filter(|lookups| *lookups >= LIFETIME_LOOKUPS_MIN)?;
    Some(sample.hits? as f64 / lookups as f64)
}
