//! A node without keys: counters that grow by rates. Costs nothing but the text of its `INFO`, so that
//! thousands fit into one process.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::counters::{Command, Counters};
use super::info::{Facts, Policy, Replication};
use super::random_id;

/// What a plain node's counters grow by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Hits plus misses per second.
    pub lookups_per_second: f64,
    /// Share of hits, 0–1. Every miss is followed by a SET.
    pub hit_ratio: f64,
    /// Expired keys per second.
    pub expired_per_second: f64,
    /// Evicted keys per second.
    pub evicted_per_second: f64,
}

/// A master without a simulated keyspace.
#[derive(Debug)]
pub struct Plain {
    rates: Rates,
    now: f64,
    /// Exact totals; the counters show their whole part.
    hits: f64,
    misses: f64,
    expired: f64,
    evicted: f64,
    /// What came by the wire.
    wire: Counters,
    run_id: String,
    replid: String,
    port: u16,
}

/// Age of a plain node when the simulation starts, seconds.
const UPTIME_SECONDS: f64 = 200_000.0;

impl Plain {
    /// A node with 50–200 lookups per second and a hit ratio of 0.85–0.98.
    #[must_use]
    pub fn new(port: u16, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let lookups_per_second = rng.random_range(50.0..200.0);
        let hit_ratio = rng.random_range(0.85..0.98);
        let expired_per_second = lookups_per_second * (1.0 - hit_ratio);
        let rates = Rates { lookups_per_second, hit_ratio, expired_per_second, evicted_per_second: 0.0 };
        let mut plain = Self {
            rates,
            now: -UPTIME_SECONDS,
            hits: 0.0,
            misses: 0.0,
            expired: 0.0,
            evicted: 0.0,
            wire: Counters::default(),
            run_id: random_id(&mut rng),
            replid: random_id(&mut rng),
            port,
        };
        plain.advance(0.0);
        plain
    }

    /// Lets the counters grow up to `to_seconds`.
    pub fn advance(&mut self, to_seconds: f64) {
        let seconds = (to_seconds - self.now).max(0.0);
        self.now += seconds;
        let lookups = self.rates.lookups_per_second * seconds;
        self.hits += lookups * self.rates.hit_ratio;
        self.misses += lookups * (1.0 - self.rates.hit_ratio);
        self.expired += self.rates.expired_per_second * seconds;
        self.evicted += self.rates.evicted_per_second * seconds;
    }

    /// What the counters grow by from now on. Precondition: advanced to now.
    pub fn set_rates(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// What the counters grow by.
    #[must_use]
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// Counters of what arrives by the wire, on top of the simulated traffic.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.wire
    }

    /// What the node would say of itself.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let (hits, misses) = (self.hits as u64, self.misses as u64);
        let mut counters = self.wire.clone();
        counters.hits = hits;
        counters.misses = misses;
        counters.expired = self.expired as u64;
        counters.evicted = self.evicted as u64;
        counters.add_calls(Command::Get, hits + misses);
        counters.add_calls(Command::Set, misses);
        counters.net_input_bytes += (hits + misses) * 40 + misses * 400;
        counters.net_output_bytes += hits * 400;
        Facts {
            run_id: self.run_id.clone(),
            port: self.port,
            uptime_seconds: (self.now + UPTIME_SECONDS) as u64,
            loading: false,
            connected_clients: 20,
            maxmemory_bytes: 64 << 20,
            policy: Policy::AllkeysLru,
            used_memory_bytes: 40 << 20,
            startup_bytes: 877_752,
            peak_bytes: 41 << 20,
            keys: 80_000,
            mean_ttl_seconds: 300.0,
            keys_loaded: 0,
            commands_per_second: self.rates.lookups_per_second,
            counters,
            replication: Replication::Master { replicas: Vec::new() },
            replid: self.replid.clone(),
            replid2: None,
            offset: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_by_their_rates() {
        let mut plain = Plain::new(6379, 5);
        let rates =
            Rates { lookups_per_second: 100.0, hit_ratio: 0.9, expired_per_second: 0.0, evicted_per_second: 7.0 };
        plain.set_rates(rates);
        let before = plain.facts().counters;
        plain.advance(50.0);
        let after = plain.facts().counters;
        assert!((after.lookups() - before.lookups()).abs_diff(5000) <= 2);
        assert!((after.misses - before.misses).abs_diff(500) <= 1);
        assert!((after.evicted - before.evicted).abs_diff(350) <= 1);
        assert_eq!(after.expired, before.expired);
    }
}
