//! The detector as its users see it: rounds of samples in, verdicts out.

mod causes;
mod ends;
mod hot;
mod loading;
mod properties;
mod quiet;
mod rig;
mod thresholds;
mod topology;
