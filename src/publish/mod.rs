//! What is served: immutable snapshots, swapped in when a round closes.

pub mod dropin;
#[cfg(test)]
pub(crate) mod fixture;
pub mod histogram;
pub mod hotkeys;
pub mod recent;
mod shards;
pub mod snapshot;
pub mod table;

pub use histogram::Histogram;
pub use hotkeys::{HotKeySnapshot, HotPattern};
pub use recent::Recent;
pub use shards::{Shard, shards};
pub use snapshot::{
    Answers, CacheSnapshot, DiscoverySnapshot, FleetSnapshot, Interest, NodePlace, NodeSnapshot, Publisher,
    SamplingCost, Steady,
};
