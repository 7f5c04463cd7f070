//! Sees cache miss storms on Redis and Valkey fleets, names their type and shows the evidence.

pub mod config;
pub mod detect;
pub mod model;
pub mod parse;
pub mod publish;
pub mod sim;
pub mod thresholds;
