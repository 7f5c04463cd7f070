//! The exposition format: the only room that knows the metrics library.

#[cfg(test)]
mod collector;
pub mod encode;
pub mod own;
pub mod text;

pub use encode::Encoder;
pub use own::OwnMetrics;
pub use text::Selection;

/// A metric that the library refuses: a fault of the program.
pub type RegisterError = prometheus::Error;
