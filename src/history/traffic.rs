//! How many lookups a node served over the last ten minutes: whether it counts in severity at all.

use serde::{Deserialize, Serialize};

/// Sub-spans of the average. Ten buckets of a minute: the average lags by at most a tenth of its span.
const BUCKETS: usize = 10;

/// Average lookups per second over a span, in ten buckets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Traffic {
    buckets: [(f32, f32); BUCKETS],
    newest: usize,
    opened: f64,
}

impl Traffic {
    /// Counts `lookups` in `dt` seconds up to time `t`; `span`: seconds the average looks back.
    pub fn add(&mut self, t: f64, dt: f64, lookups: f64, span: f64) {
        if t - self.opened >= span / BUCKETS as f64 {
            self.newest = (self.newest + 1) % BUCKETS;
            self.buckets[self.newest] = (0.0, 0.0);
            self.opened = t;
        }
        let (count, seconds) = &mut self.buckets[self.newest];
        *count += lookups as f32;
        *seconds += dt as f32;
    }

    /// Lookups per second over what has been counted; 0 before anything has. While nothing is added
    /// (the node is down) this stays what it was before.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        let (count, seconds) = self.buckets.iter().fold((0.0, 0.0), |sum, bucket| (sum.0 + bucket.0, sum.1 + bucket.1));
        if seconds > 0.0 { f64::from(count / seconds) } else { 0.0 }
    }
}
