//! Detector time: Unix seconds that never jump.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A monotonic clock, set to the wall clock once, when the process starts or, with a state file, when the first of
/// a line of processes did. Setting the wall clock
/// afterwards bends no rate and no window.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    anchor: Instant,
    anchor_unix_seconds: f64,
}

impl Clock {
    /// A clock set now.
    #[must_use]
    pub fn set_now() -> Self {
        Self { anchor: Instant::now(), anchor_unix_seconds: wall_unix_seconds() }
    }

    /// A clock that reads `seconds` now: detector time goes on where another process left it.
    #[must_use]
    pub fn set_to(seconds: f64) -> Self {
        Self { anchor: Instant::now(), anchor_unix_seconds: seconds }
    }

    /// The detector time of an instant, seconds.
    #[must_use]
    pub fn seconds(&self, instant: Instant) -> f64 {
        self.anchor_unix_seconds + instant.saturating_duration_since(self.anchor).as_secs_f64()
    }

    /// What to add to detector time to get Unix seconds: 0 unless the wall clock has been set since,
    /// so that equal times print as equal times.
    #[must_use]
    pub fn to_unix(&self) -> f64 {
        offset(wall_unix_seconds(), self.seconds(Instant::now()))
    }
}

/// The wall clock, Unix seconds.
#[must_use]
pub fn wall_unix_seconds() -> f64 {
    // A clock set before 1970 is nobody's; 0 is wrong, but no panic.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn offset(wall: f64, detector: f64) -> f64 {
    let offset = wall - detector;
    if offset.abs() > 1.0 { offset } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_drift_is_no_offset() {
        assert_eq!(offset(1000.9, 1000.0), 0.0);
        assert_eq!(offset(1000.0, 4600.0), -3600.0);
    }
}
