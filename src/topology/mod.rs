//! What Sentinels and nodes say of who leads, and what follows from it over time. Pure: time is an argument.
//!
//! [`sentinel`] and [`event`] read what a Sentinel answers and announces, [`cluster`] what a cluster node says of
//! its cluster. A [`Watch`] per cache is shown a round at a time and answers with the [`Topology`]: failovers,
//! flapping, split brain, suspected partitions, the health of the Sentinels and of the cluster.

pub mod cluster;
pub mod event;
pub mod sentinel;
mod state;
mod watch;

pub use state::{MasterState, SentinelState, Topology};
pub use watch::{NodeFacts, Round, Watch};

/// Sentinels watched for one cache: five are many.
pub const SENTINELS_MAX: usize = 16;
