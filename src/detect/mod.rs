//! From samples to verdicts. Pure: no clock, no I/O, no globals; time is an argument, in seconds that never jump.
//!
//! One [`CacheDetector`] per cache is told a round at a time. It keeps a memory per node (`node`, with the state
//! machine in `subject` and its storm in `storm`), compares each with its own past (`indicator`), balances what became of its keys
//! (`balance`), scores the causes (`classify`), puts nodes together to a severity and a vote (`conclude`) and follows
//! the storm from onset to end (`episode`).

mod balance;
mod cache;
mod classify;
mod conclude;
mod episode;
mod hot;
mod indicator;
mod node;
mod replication;
pub mod settings;
mod storm;
mod subject;
#[cfg(test)]
mod tests;
pub mod verdict;
mod words;

pub use cache::{CacheDetector, CacheState};
