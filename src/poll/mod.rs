//! The rounds: every cache's nodes asked at a steady pace, judged, published.

mod backoff;
mod cache;
mod clock;
pub mod connection;
mod depth;
mod fleet;
mod isolation;
mod memory;
mod round;
mod sentinels;
mod tally;
mod topology;

pub use clock::{Clock, wall_unix_seconds};
pub use connection::{Answer, NodeLink, Outcome};
pub use depth::Depth;
pub use fleet::FleetPoller;
pub use memory::Memory;
