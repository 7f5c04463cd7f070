//! What can go wrong with a keyspace: the storm causes, and the quiet events that only look like one.
//!
//! Every operation takes effect at the time the keyspace has reached: advance it first. What stays on
//! (a load, a stalled replica, a dead master) is ended by its counterpart, after which the keyspace
//! recovers by ordinary refill.

use rand::RngExt;

use super::counters::{Command, Counters};
use super::keyspace::{Keyspace, Stalled};
use super::random_id;
use crate::model::{Role, StormType};

/// How today's traffic differs from the ordinary. Factors of the ordinary lookups per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Ordinary lookups: 1 is ordinary.
    pub surge: f64,
    /// One key, and the share of the ordinary lookups that it takes on top of its own.
    pub hot_key: Option<(u32, f64)>,
    /// Lookups of a working set eight times the ordinary one, refilled like any other.
    pub growth: f64,
    /// Lookups of keys that nobody stores: no refill follows.
    pub penetration: f64,
}

impl Default for Load {
    fn default() -> Self {
        Self { surge: 1.0, hot_key: None, growth: 0.0, penetration: 0.0 }
    }
}

/// A chunked deletion under way.
#[derive(Debug, Clone)]
pub(super) struct Purge {
    keys: Vec<u32>,
    keys_per_second: f64,
    /// Keys due but not yet a whole chunk.
    due: f64,
}

/// Keys per UNLINK of a chunked deletion.
const CHUNK: usize = 100;

impl Keyspace {
    /// Sets in train the typical case of a storm type; [`StormType::Unknown`] is penetration.
    pub fn break_out(&mut self, storm: StormType) {
        match storm {
            StormType::ColdStart => self.restart_empty(),
            StormType::MassInvalidation => self.flush_all(),
            StormType::MassExpiration => self.expire_together(0.9, 1.0),
            StormType::MemoryPressure => self.load = Load { growth: 1.5, ..Load::default() },
            StormType::HotKey => self.load = Load { surge: 6.0, hot_key: Some((0, 0.8)), ..Load::default() },
            StormType::ReplicationLag => self.stall_replicas(),
            StormType::FailoverCascade => self.fail_over(0.2),
            StormType::Unknown => self.load = Load { penetration: 1.5, ..Load::default() },
        }
    }

    /// Takes back whatever a storm left on: load, stalled and dead servers.
    pub fn end_storm(&mut self) {
        self.load = Load::default();
        self.purge = None;
        self.resume_replicas();
        self.bring_back();
    }

    /// Changes the traffic until told otherwise.
    pub fn set_load(&mut self, load: Load) {
        self.load = load;
    }

    /// The master restarts without its data set.
    pub fn restart_empty(&mut self) {
        self.store.clear();
        self.restart(self.master, 0);
    }

    /// The master restarts and loads its data set: no storm.
    pub fn restart_warm(&mut self) {
        self.restart(self.master, self.store.len() as u64);
    }

    fn restart(&mut self, member: usize, keys_loaded: u64) {
        let (run_id, started) = (random_id(&mut self.rng), self.time());
        let server = &mut self.members[member];
        server.run_id = run_id;
        server.started = started;
        server.counters = Counters::default();
        server.keys_loaded = keys_loaded;
    }

    /// `CONFIG RESETSTAT` on one server: no storm.
    pub fn reset_statistics(&mut self, member: usize) {
        self.members[member].counters = Counters::default();
    }

    /// `FLUSHALL`: expired and evicted counts stay as they are, as on a real server.
    pub fn flush_all(&mut self) {
        self.store.clear();
        self.write(Command::Flushall, 1, 30);
    }

    /// A job deletes `share` (0–1) of the keys held, in chunks of UNLINK over `seconds`.
    pub fn unlink_share(&mut self, share: f64, seconds: f64) {
        let rng = &mut self.rng;
        let keys: Vec<u32> = self.store.keys().iter().copied().filter(|_| rng.random_bool(share)).collect();
        let keys_per_second = keys.len() as f64 / seconds;
        self.purge = Some(Purge { keys, keys_per_second, due: 0.0 });
    }

    pub(super) fn purge_step(&mut self, seconds: f64) {
        let Some(mut purge) = self.purge.take() else { return };
        purge.due += purge.keys_per_second * seconds;
        while purge.due >= CHUNK.min(purge.keys.len()) as f64 && !purge.keys.is_empty() {
            let chunk = purge.keys.split_off(purge.keys.len().saturating_sub(CHUNK));
            purge.due -= chunk.len() as f64;
            for key in &chunk {
                self.store.remove(*key);
            }
            self.write(Command::Unlink, 1, 30 * chunk.len() as u64);
        }
        self.purge = (!purge.keys.is_empty()).then_some(purge);
    }

    /// `share` (0–1) of the keys held turn out to expire together, `in_seconds` from now.
    pub fn expire_together(&mut self, share: f64, in_seconds: f64) {
        for key in self.store.keys().to_vec() {
            if self.rng.random_bool(share) {
                self.store.set_expiry(key, self.now + in_seconds);
            }
        }
    }

    /// Changes what happens at the memory limit, and the limit as a share of the memory used now.
    pub fn limit_memory(&mut self, policy: super::info::Policy, share_of_used: f64) {
        self.profile.policy = policy;
        self.maxmemory_bytes = (self.used_memory_bytes(self.master) as f64 * share_of_used) as u64;
    }

    /// Nothing reaches the replicas any more, though their links stay open.
    pub fn stall_replicas(&mut self) {
        for (index, member) in self.members.iter_mut().enumerate() {
            if index != self.master && member.alive && member.stalled.is_none() {
                let (store, offset, since) = (self.store.clone(), self.offset, self.now);
                member.stalled = Some(Stalled { store, offset, since });
            }
        }
    }

    /// The replicas catch up at once, as a partial resynchronisation does.
    pub fn resume_replicas(&mut self) {
        for member in &mut self.members {
            member.stalled = None;
        }
    }

    /// The master dies; the first replica alive is promoted, knowing `kept` (0–1) of the keys.
    /// Does nothing without a replica.
    pub fn fail_over(&mut self, kept: f64) {
        let replica = |(index, member): &(usize, &super::keyspace::Member)| *index != self.master && member.alive;
        let Some(successor) = self.members.iter().enumerate().find(replica).map(|(index, _)| index) else { return };
        for key in self.store.keys().to_vec() {
            if !self.rng.random_bool(kept) {
                self.store.remove(key);
            }
        }
        self.members[self.master].alive = false;
        self.members[successor].role = Role::Master;
        // Its own store is the truth now.
        self.members[successor].stalled = None;
        let history = std::mem::replace(&mut self.replid, random_id(&mut self.rng));
        self.replid2 = Some((history, self.offset + 1));
        self.master = successor;
    }

    /// Servers that died come back as replicas, by a full copy of what the master holds.
    pub fn bring_back(&mut self) {
        for index in 0..self.members.len() {
            if !self.members[index].alive {
                self.restart(index, self.store.len() as u64);
                self.members[index].alive = true;
                self.members[index].role = Role::Replica;
                self.members[self.master].counters.full_syncs += 1;
            }
        }
    }

    /// Whether a server is running.
    #[must_use]
    pub fn is_alive(&self, member: usize) -> bool {
        self.members[member].alive
    }
}
