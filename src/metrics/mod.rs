//! The exposition format: the only room that knows the metrics library.

pub mod collector;
pub mod encode;
pub mod own;

pub use encode::{Encoded, Encoder};
pub use own::OwnMetrics;
