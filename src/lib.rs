//! Sees cache miss storms on Redis and Valkey fleets, names their type and shows the evidence.

pub mod app;
pub mod cli;
pub mod config;
pub mod detect;
pub mod exit;
pub mod logging;
pub mod model;
pub mod parse;
pub mod publish;
pub mod thresholds;
