//! From the text of `INFO` to numbers with units. Never panics, never fails: what cannot be read is absent.

pub mod info;
pub mod sample;

pub use info::Info;
pub use sample::Sample;
