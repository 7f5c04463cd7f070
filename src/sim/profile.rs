//! What a keyspace is, who uses it, and the past that this leads to.

use rand::RngExt;
use rand::rngs::StdRng;

use super::counters::{Command, Counters};
use super::info::Policy;

/// What a key costs besides its value, bytes (measured on 7.0.15).
const KEY_OVERHEAD_BYTES: u64 = 110;
/// A GET or DEL on the wire, and the frame of a SET or a reply around the value, bytes.
pub(super) const REQUEST_BYTES: u64 = 40;
pub(super) const NIL_BYTES: u64 = 5;

/// What a keyspace is and who uses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// First part of every key name.
    pub prefix: String,
    /// Keys that clients ask for.
    pub keys: u32,
    /// Zipf exponent of their popularity.
    pub zipf: f64,
    /// Lookups per second that each server's own clients make; the first is the master, the rest replicas.
    pub lookups_per_second: Vec<f64>,
    /// Mean time to live of a refilled key, seconds.
    pub ttl_seconds: f64,
    /// Spread of the time to live, as a share of it on either side.
    pub ttl_jitter: f64,
    /// From a miss to the SET that answers it, seconds.
    pub database_delay_seconds: f64,
    /// Size of a value.
    pub value_bytes: u64,
    /// Share of `maxmemory` that the steady keys fill; `None` for no limit.
    pub memory_fill: Option<f64>,
    /// What happens at the limit.
    pub policy: Policy,
    /// How long the servers have been up when the simulation starts, seconds.
    pub uptime_seconds: f64,
}

impl Profile {
    /// A small hot cache that is warm in half a minute: steady hit ratio about 0.93 at 1,000 lookups/s.
    #[must_use]
    pub fn small(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            keys: 5000,
            zipf: 0.9,
            lookups_per_second: vec![1000.0],
            ttl_seconds: 60.0,
            // Wide enough that keys refilled together after a storm do not come back as a wave of expiry.
            ttl_jitter: 0.5,
            database_delay_seconds: 0.03,
            value_bytes: 400,
            memory_fill: Some(0.88),
            policy: Policy::AllkeysLru,
            uptime_seconds: 200_000.0,
        }
    }

    /// Memory per key, bytes.
    pub(super) fn bytes_per_key(&self) -> u64 {
        self.value_bytes + KEY_OVERHEAD_BYTES
    }

    pub(super) fn random_ttl(&self, rng: &mut StdRng) -> f64 {
        self.ttl_seconds * (1.0 + self.ttl_jitter * rng.random_range(-1.0..=1.0))
    }

    /// Time left of a key met in the middle of its life: any moment of any life is equally likely.
    pub(super) fn steady_time_left(&self, rng: &mut StdRng) -> f64 {
        let longest = self.ttl_seconds * (1.0 + self.ttl_jitter);
        loop {
            let (ttl, age) = (self.random_ttl(rng), rng.random_range(0.0..longest));
            if age < ttl {
                return ttl - age;
            }
        }
    }

    /// The counters that a server of this age would show.
    pub(super) fn past(&self, member: usize, hit_ratio: f64) -> Counters {
        let lookups = self.lookups_per_second[member] * self.uptime_seconds;
        let total = self.lookups_per_second.iter().sum::<f64>() * self.uptime_seconds;
        let (hits, sets) = ((lookups * hit_ratio) as u64, (total * (1.0 - hit_ratio)) as u64);
        let mut counters = Counters {
            hits,
            misses: lookups as u64 - hits,
            // In the long run, what comes in goes by its TTL.
            expired: if member == 0 { sets } else { 0 },
            connections: 500,
            net_input_bytes: lookups as u64 * REQUEST_BYTES + sets * (REQUEST_BYTES + self.value_bytes),
            net_output_bytes: hits * self.value_bytes + lookups as u64 * NIL_BYTES,
            full_syncs: if member == 0 { self.lookups_per_second.len() as u64 - 1 } else { 0 },
            ..Counters::default()
        };
        counters.add_calls(Command::Get, lookups as u64);
        counters.add_calls(Command::Set, sets);
        counters
    }
}
