//! What the detector can be told: thresholds, durations, and how severity is taken.

use crate::model::SeverityMode;
use crate::thresholds::Thresholds;

/// Settings of one cache's detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Thresholds in force.
    pub thresholds: Thresholds,
    /// Durations in force.
    pub timing: Timing,
    /// What severity is the share of.
    pub severity_mode: SeverityMode,
    /// Seconds between polls.
    pub poll_interval: f64,
}

/// The configurable durations, seconds, as written: before [`Timing::time_scale`] divides them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// The short present.
    pub window: f64,
    /// Length of one baseline slice.
    pub slice: f64,
    /// Span of the short baseline.
    pub baseline: f64,
    /// How long a node is suspected before it is affected.
    pub confirm: f64,
    /// How long a node must look well before it has recovered.
    pub clear: f64,
    /// How long a node stays affected at least.
    pub hold: f64,
    /// How long a seen cause arms the fast path.
    pub cause_memory: f64,
    /// Divides every duration the detector knows, these and the fixed ones alike.
    pub time_scale: f64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            window: 30.0,
            slice: 10.0,
            baseline: 600.0,
            confirm: 5.0,
            clear: 15.0,
            hold: 60.0,
            cause_memory: 60.0,
            time_scale: 1.0,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            thresholds: Thresholds::default(),
            timing: Timing::default(),
            severity_mode: SeverityMode::default(),
            poll_interval: 5.0,
        }
    }
}
