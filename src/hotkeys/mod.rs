//! The hottest key's share of a node's accesses, sampled where that can do no harm.

mod monitor;
