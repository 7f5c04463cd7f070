//! Sees cache miss storms on Redis and Valkey fleets, names their type and shows the evidence.

pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod detect;
pub mod discover;
pub mod events;
pub mod exit;
pub mod history;
pub mod hotkeys;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod parse;
pub mod poll;
pub mod publish;
pub mod recommend;
pub mod replay;
pub mod report;
pub mod serve;
pub mod sim;
pub mod state;
pub mod thresholds;
pub mod topology;
pub mod wire;
