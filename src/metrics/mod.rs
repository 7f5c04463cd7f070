//! The exposition format: the only room that knows the metrics library.

pub mod collector;
pub mod encode;
pub mod own;

pub use encode::{Encoded, Encoder};
pub use own::OwnMetrics;

/// A metric that the library refuses: a fault of the program.
pub type RegisterError = prometheus::Error;
