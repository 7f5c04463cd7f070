//! The simulated fleet: servers that look like Redis from the outside, for `demo`, tests and benches.
//!
//! From the inside out: [`keyspace`] is one master, its replicas and their cache-aside clients, pure and
//! seeded; [`traffic`] is what can go wrong with it; [`server`] puts a node on a loopback port; [`fleet`]
//! names the caches and [`schedule`] lets storms break out in them. Nothing here is used by `serve`.

pub mod counters;
pub mod fleet;
pub mod info;
pub mod keyspace;
pub mod mode;
pub mod node;
pub mod plain;
pub mod profile;
mod resp;
pub mod schedule;
pub mod server;
pub mod store;
pub mod traffic;
pub mod zipf;

use rand::{Rng, RngExt};

/// A random id of 40 hex digits, the form of `run_id` and `master_replid`.
fn random_id(rng: &mut impl Rng) -> String {
    format!("{:016x}{:016x}{:08x}", rng.random::<u64>(), rng.random::<u64>(), rng.random::<u32>())
}
