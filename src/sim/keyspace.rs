//! One simulated master, its replicas and their cache-aside clients. Pure: time is an argument, chance is seeded.
//!
//! Clients arrive as Poisson processes, ask for keys by Zipf popularity and, on a miss, ask the database
//! and SET what it answers after its delay. Misses of one key within that delay all SET it, as real
//! clients without a lock do. What the servers count follows Redis 7.0: lazy and active expiry on the
//! master, none on replicas, approximate LRU eviction, refused SETs as `errorstat_OOM`.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::counters::{Command, Counters};
use super::info::{Facts, Policy, Replication};
use super::profile::{NIL_BYTES, Profile, REQUEST_BYTES};
use super::random_id;
use super::store::{Found, Store};
use super::traffic::{Load, Purge};
use super::zipf::{Zipf, poisson};
use crate::model::Role;

/// One step of the simulation, seconds: short against the database delay and every poll.
const STEP_SECONDS: f64 = 0.05;
/// Absorbs the rounding of sums of steps, seconds.
const ROUNDING_SECONDS: f64 = 1e-6;
/// Nothing happens in what a gap between two calls of [`Keyspace::advance`] has beyond this, seconds:
/// bounds the cost of a call to about a quarter of a million lookups.
const GAP_SECONDS_MAX: f64 = 120.0;
/// Lived through before time 0, so that expired keys not yet removed are as many as usual.
const SETTLING_SECONDS: f64 = 20.0;
/// Redis looks for expired keys ten times a second (`hz 10`), 20 keys at a time …
const EXPIRY_CYCLE_STEPS: u64 = 2;
const EXPIRY_SAMPLE: usize = 20;
/// … and again while more than a tenth of them had expired, up to a time limit; as sampling rounds, so:
const EXPIRY_ROUNDS_MAX: usize = 100;
/// `maxmemory-samples` of Redis.
const EVICTION_SAMPLES: usize = 5;
/// What an empty server uses, bytes (measured on 7.0.15).
const STARTUP_BYTES: u64 = 877_752;
/// Keys of the growing working set per ordinary key: more than memory can ever hold.
pub(super) const GROWTH_FACTOR: u32 = 8;

/// One server of the keyspace.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) role: Role,
    pub(super) counters: Counters,
    pub(super) run_id: String,
    pub(super) started: f64,
    pub(super) keys_loaded: u64,
    /// A dead server's clients ask the master instead.
    pub(super) alive: bool,
    /// What a replica still knows while nothing reaches it from its master.
    pub(super) stalled: Option<Stalled>,
    peak_bytes: u64,
    port: u16,
}

impl Member {
    fn new(profile: &Profile, index: usize, rng: &mut StdRng) -> Self {
        Self {
            role: if index == 0 { Role::Master } else { Role::Replica },
            counters: Counters::default(),
            run_id: random_id(rng),
            started: -profile.uptime_seconds,
            keys_loaded: 0,
            alive: true,
            stalled: None,
            peak_bytes: 0,
            port: 0,
        }
    }
}

/// A replica's past.
#[derive(Debug)]
pub(super) struct Stalled {
    pub(super) store: Store,
    pub(super) offset: u64,
    pub(super) since: f64,
}

#[derive(Debug, Clone, Copy)]
struct Refill {
    due: f64,
    key: u32,
}

/// The world of one master. Times are seconds of the caller's clock, which starts anywhere.
#[derive(Debug)]
pub struct Keyspace {
    pub(super) profile: Profile,
    zipf: Zipf,
    pub(super) rng: StdRng,
    /// Steps since the settling began, and the time that makes.
    steps: u64,
    pub(super) now: f64,
    /// Seconds passed over by the bound on gaps: caller's time − `now`.
    asleep: f64,
    pub(super) store: Store,
    refills: VecDeque<Refill>,
    pub(super) members: Vec<Member>,
    pub(super) master: usize,
    pub(super) maxmemory_bytes: u64,
    pub(super) replid: String,
    pub(super) replid2: Option<(String, u64)>,
    pub(super) offset: u64,
    pub(super) load: Load,
    pub(super) purge: Option<Purge>,
}

impl Keyspace {
    /// A keyspace in its steady state at time 0: every key is held with the probability, and expires at
    /// a time, that years of this traffic would have led to; the counters tell of that past too.
    #[must_use]
    pub fn new(profile: Profile, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let zipf = Zipf::new(profile.keys, profile.zipf);
        let (store, hit_ratio) = steady_store(&profile, &zipf, &mut rng);
        let members = 0..profile.lookups_per_second.len();
        let members: Vec<Member> = members.map(|index| Member::new(&profile, index, &mut rng)).collect();
        let mut keyspace = Self {
            maxmemory_bytes: 0,
            replid: random_id(&mut rng),
            replid2: None,
            offset: if members.len() > 1 { 50_000_000 } else { 0 },
            profile,
            zipf,
            rng,
            steps: 0,
            now: -SETTLING_SECONDS,
            asleep: 0.0,
            store,
            refills: VecDeque::new(),
            members,
            master: 0,
            load: Load::default(),
            purge: None,
        };
        keyspace.advance(0.0);
        let steady_bytes = keyspace.used_memory_bytes(0) as f64;
        keyspace.maxmemory_bytes = keyspace.profile.memory_fill.map_or(0, |fill| (steady_bytes / fill) as u64);
        for member in 0..keyspace.members.len() {
            keyspace.members[member].counters = keyspace.profile.past(member, hit_ratio);
        }
        keyspace
    }

    /// Lets happen what happens up to `to_seconds` of the caller's clock, in whole steps of 50 ms, so that
    /// the same seed lives the same life however often it is looked at; nothing if that time has passed.
    /// After a gap of more than two minutes only the last two are lived through.
    pub fn advance(&mut self, to_seconds: f64) {
        let gap = to_seconds - self.time();
        if gap > GAP_SECONDS_MAX {
            self.asleep += gap - GAP_SECONDS_MAX;
        }
        let to = to_seconds - self.asleep + ROUNDING_SECONDS;
        while self.now + STEP_SECONDS <= to {
            self.step();
            self.steps += 1;
            self.now = self.steps as f64 * STEP_SECONDS - SETTLING_SECONDS;
        }
    }

    /// Time of the caller's clock that has been reached, seconds.
    #[must_use]
    pub fn time(&self) -> f64 {
        self.now + self.asleep
    }

    /// Counters of one server. Panics beyond the last one.
    #[must_use]
    pub fn counters(&self, member: usize) -> &Counters {
        &self.members[member].counters
    }

    /// The same, to count what arrives by the wire.
    pub fn counters_mut(&mut self, member: usize) -> &mut Counters {
        &mut self.members[member].counters
    }

    /// Role of one server now.
    #[must_use]
    pub fn role(&self, member: usize) -> Role {
        self.members[member].role
    }

    /// Number of servers.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// The server that takes the writes now.
    #[must_use]
    pub fn master(&self) -> usize {
        self.master
    }

    /// Tells a server its port, for `tcp_port` and `master_port`.
    pub fn set_port(&mut self, member: usize, port: u16) {
        self.members[member].port = port;
    }

    /// Keys that a server holds.
    #[must_use]
    pub fn keys(&self, member: usize) -> usize {
        self.store_of(member).len()
    }

    /// `used_memory` of a server, bytes.
    #[must_use]
    pub fn used_memory_bytes(&self, member: usize) -> u64 {
        STARTUP_BYTES + self.keys(member) as u64 * self.profile.bytes_per_key()
    }

    /// `count` keys as the clients would ask for them now: what `MONITOR` shows.
    pub fn sample_keys(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                let key = self.draw_key();
                format!("{}:user:{key}", self.profile.prefix)
            })
            .collect()
    }

    /// Lookups per second that reach a server now, on average.
    #[must_use]
    pub fn lookups_per_second(&self, member: usize) -> f64 {
        self.profile.lookups_per_second[member] * (self.load.surge + self.load.growth + self.load.penetration)
    }

    fn store_of(&self, member: usize) -> &Store {
        self.members[member].stalled.as_ref().map_or(&self.store, |stalled| &stalled.store)
    }

    fn step(&mut self) {
        // In the order of their misses: the delay is the same for all.
        while let Some(refill) = self.refills.front().copied().filter(|refill| refill.due <= self.now) {
            self.refills.pop_front();
            self.set(refill.key);
        }
        if self.steps.is_multiple_of(EXPIRY_CYCLE_STEPS) {
            self.expire_actively();
        }
        self.purge_step(STEP_SECONDS);
        // Traffic breathes a little, or every chart would be a ruler.
        let breath = 1.0 + 0.05 * (self.now * std::f64::consts::TAU / 47.0).sin();
        for member in 0..self.members.len() {
            let lookups = self.profile.lookups_per_second[member] * breath * STEP_SECONDS;
            let server = if self.members[member].alive { member } else { self.master };
            for _ in 0..poisson(lookups * self.load.surge, &mut self.rng) {
                let key = self.draw_key();
                self.look_up(server, key);
            }
            for _ in 0..poisson(lookups * self.load.growth, &mut self.rng) {
                let key = self.rng.random_range(self.profile.keys..self.profile.keys * (1 + GROWTH_FACTOR));
                self.look_up(server, key);
            }
            for _ in 0..poisson(lookups * self.load.penetration, &mut self.rng) {
                self.count_lookup(server, false);
            }
        }
    }

    fn draw_key(&mut self) -> u32 {
        match self.load.hot_key {
            Some((key, share)) if self.rng.random_bool(share) => key,
            _ => self.zipf.sample(&mut self.rng),
        }
    }

    fn look_up(&mut self, server: usize, key: u32) {
        let found = self.store_of(server).find(key, self.now);
        self.count_lookup(server, found == Found::Value);
        if found == Found::Value {
            if server == self.master {
                self.store.touch(key, self.now);
            }
            return;
        }
        if found == Found::Expired && server == self.master {
            self.expire(key);
        }
        self.refills.push_back(Refill { due: self.now + self.profile.database_delay_seconds, key });
    }

    fn count_lookup(&mut self, server: usize, hit: bool) {
        let counters = &mut self.members[server].counters;
        if hit {
            counters.hits += 1
        } else {
            counters.misses += 1
        }
        let reply_bytes = if hit { self.profile.value_bytes + NIL_BYTES } else { NIL_BYTES };
        counters.call(Command::Get, REQUEST_BYTES, reply_bytes);
    }

    fn set(&mut self, key: u32) {
        if !self.make_room() {
            self.members[self.master].counters.oom_errors += 1;
            return;
        }
        let expires_at = self.now + self.profile.random_ttl(&mut self.rng);
        self.store.insert(key, expires_at, self.now);
        let peak = self.used_memory_bytes(self.master);
        let master = &mut self.members[self.master];
        master.peak_bytes = master.peak_bytes.max(peak);
        self.write(Command::Set, 1, REQUEST_BYTES + self.profile.value_bytes);
    }

    /// Evicts until a key fits; false where the policy forbids that.
    fn make_room(&mut self) -> bool {
        while self.maxmemory_bytes > 0 && self.used_memory_bytes(self.master) >= self.maxmemory_bytes {
            let candidate = match self.profile.policy {
                Policy::AllkeysLru => self.store.eviction_candidate(EVICTION_SAMPLES, &mut self.rng),
                Policy::Noeviction => None,
            };
            let Some(key) = candidate else { return false };
            self.store.remove(key);
            self.members[self.master].counters.evicted += 1;
            self.replicate(Command::Del, 1, REQUEST_BYTES);
        }
        true
    }

    fn expire(&mut self, key: u32) {
        self.store.remove(key);
        self.members[self.master].counters.expired += 1;
        self.replicate(Command::Del, 1, REQUEST_BYTES);
    }

    fn expire_actively(&mut self) {
        for _ in 0..EXPIRY_ROUNDS_MAX {
            let mut expired = 0;
            for _ in 0..EXPIRY_SAMPLE {
                let Some(key) = self.store.random_key(&mut self.rng) else { return };
                if self.store.find(key, self.now) == Found::Expired {
                    self.expire(key);
                    expired += 1;
                }
            }
            if expired * 10 <= EXPIRY_SAMPLE {
                return;
            }
        }
    }

    /// Counts writes of clients on the master and passes them on.
    pub(super) fn write(&mut self, command: Command, calls: u64, bytes: u64) {
        let counters = &mut self.members[self.master].counters;
        counters.add_calls(command, calls);
        counters.net_input_bytes += bytes;
        counters.net_output_bytes += calls * NIL_BYTES;
        self.replicate(command, calls, bytes);
    }

    /// Passes writes on to the replicas that can be reached; they count them as calls of their own.
    fn replicate(&mut self, command: Command, calls: u64, bytes: u64) {
        if self.members.len() > 1 {
            self.offset += bytes;
        }
        for (index, member) in self.members.iter_mut().enumerate() {
            if index != self.master && member.alive && member.stalled.is_none() {
                member.counters.add_calls(command, calls);
                member.counters.net_input_bytes += bytes;
            }
        }
    }

    /// What one server would say of itself at the time reached.
    #[must_use]
    pub fn facts(&self, member: usize) -> Facts {
        let server = &self.members[member];
        let used = self.used_memory_bytes(member);
        let store = self.store_of(member);
        Facts {
            run_id: server.run_id.clone(),
            port: server.port,
            uptime_seconds: whole_seconds(self.time() - server.started),
            loading: false,
            connected_clients: 20,
            maxmemory_bytes: self.maxmemory_bytes,
            policy: self.profile.policy,
            used_memory_bytes: used,
            startup_bytes: STARTUP_BYTES,
            peak_bytes: server.peak_bytes.max(used),
            keys: store.len() as u64,
            // Replicas estimate no TTL: they run no expiry cycle.
            mean_ttl_seconds: if member == self.master { store.mean_ttl_seconds(self.now) } else { 0.0 },
            keys_loaded: server.keys_loaded,
            commands_per_second: self.lookups_per_second(member),
            counters: server.counters.clone(),
            replication: self.replication(member),
            replid: self.replid.clone(),
            replid2: self.replid2.clone(),
            offset: server.stalled.as_ref().map_or(self.offset, |stalled| stalled.offset),
        }
    }

    fn replication(&self, member: usize) -> Replication {
        if member != self.master {
            let last_io = self.members[member].stalled.as_ref().map_or(0.0, |stalled| self.now - stalled.since);
            return Replication::Replica {
                master_port: self.members[self.master].port,
                last_io_seconds: whole_seconds(last_io),
            };
        }
        let replicas = self.members.iter().enumerate().filter(|(index, other)| *index != member && other.alive);
        let offset_of = |other: &Member| other.stalled.as_ref().map_or(self.offset, |stalled| stalled.offset);
        Replication::Master { replicas: replicas.map(|(_, other)| (other.port, offset_of(other))).collect() }
    }
}

/// Seconds as `INFO` shows them.
fn whole_seconds(seconds: f64) -> u64 {
    (seconds + ROUNDING_SECONDS) as u64
}

/// The keys held when the settling begins, and the hit ratio that they give.
fn steady_store(profile: &Profile, zipf: &Zipf, rng: &mut StdRng) -> (Store, f64) {
    let mut store = Store::new(profile.keys * (1 + GROWTH_FACTOR));
    let rate: f64 = profile.lookups_per_second.iter().sum();
    let mut hit_ratio = 0.0;
    for (key, probability) in (0_u32..).zip(zipf.probabilities()) {
        // Held for one TTL from each refill, then absent until the next lookup.
        let lookups_per_ttl = rate * probability * profile.ttl_seconds;
        let held = lookups_per_ttl / (1.0 + lookups_per_ttl);
        hit_ratio += probability * held;
        if rng.random_bool(held) {
            let unread_seconds = -(1.0 - rng.random::<f64>()).ln() / (rate * probability);
            let expires_at = profile.steady_time_left(rng) - SETTLING_SECONDS;
            store.insert(key, expires_at, -SETTLING_SECONDS - unread_seconds);
        }
    }
    (store, hit_ratio)
}

#[cfg(test)]
mod tests;
