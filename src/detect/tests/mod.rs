//! The detector as its users see it: rounds of samples in, verdicts out.

mod ends;
mod rig;
mod thresholds;
mod topology;
