//! What is served: immutable snapshots, swapped in when a round closes.

pub mod histogram;
pub mod snapshot;

pub use histogram::Histogram;
pub use snapshot::{CacheSnapshot, FleetSnapshot, NodeSnapshot, Publisher};
