//! The short present: the last deltas, summed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Delta;

/// The deltas of the last `span` seconds, and of at least two polls.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Window {
    deltas: VecDeque<Delta>,
    /// Their sums: asked for several times a round.
    stats: Option<WindowStats>,
}

/// Sums over a window. Rates are per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowStats {
    /// Seconds covered.
    pub seconds: f64,
    /// Lookups in it.
    pub lookups: f64,
    /// Hits ÷ lookups; `None` without lookups.
    pub hit_ratio: Option<f64>,
    /// Misses per second.
    pub misses: f64,
    /// Commands per second.
    pub commands: f64,
    /// Evicted keys per second.
    pub evicted: f64,
    /// Expired keys per second.
    pub expired: f64,
    /// Refused writes per second.
    pub oom_errors: f64,
}

impl Window {
    /// Adds a delta and lets go of what lies more than `span` seconds back.
    pub fn push(&mut self, delta: Delta, span: f64) {
        self.deltas.push_back(delta);
        // Half a poll of tolerance: jitter must not make a window of six polls one of five.
        let oldest = delta.t - span - delta.dt / 2.0;
        while self.deltas.len() > 2 && self.deltas.front().is_some_and(|front| front.t - front.dt < oldest) {
            self.deltas.pop_front();
        }
        self.stats = Some(WindowStats::over(self.deltas.iter())).filter(|stats| stats.seconds > 0.0);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The deltas, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Delta> + ExactSizeIterator {
        self.deltas.iter()
    }

    /// The latest delta.
    #[must_use]
    pub fn last(&self) -> Option<&Delta> {
        self.deltas.back()
    }

    /// The sums; `None` of an empty window.
    #[must_use]
    pub fn stats(&self) -> Option<WindowStats> {
        self.stats
    }
}

impl WindowStats {
    /// Sums of any deltas.
    pub fn over<'a>(deltas: impl Iterator<Item = &'a Delta>) -> Self {
        let (mut seconds, mut hits, mut misses, mut commands) = (0.0, 0.0, 0.0, 0.0);
        let (mut evicted, mut expired, mut oom_errors) = (0.0, 0.0, 0.0);
        for delta in deltas {
            seconds += delta.dt;
            hits += delta.hits;
            misses += delta.misses;
            commands += delta.commands;
            evicted += delta.evicted;
            expired += delta.expired;
            oom_errors += delta.oom_errors;
        }
        let lookups = hits + misses;
        Self {
            seconds,
            lookups,
            hit_ratio: (lookups > 0.0).then(|| hits / lookups),
            misses: misses / seconds,
            commands: commands / seconds,
            evicted: evicted / seconds,
            expired: expired / seconds,
            oom_errors: oom_errors / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_span_despite_jitter_and_at_least_two_polls() {
        let mut window = Window::default();
        for poll in 1..=20 {
            let jitter = if poll % 2 == 0 { 0.004 } else { -0.004 };
            window.push(Delta { t: f64::from(poll) * 5.0 + jitter, dt: 5.0, ..Delta::default() }, 30.0);
        }
        assert_eq!(window.iter().len(), 6);
        let mut slow = Window::default();
        for poll in 1..=5 {
            slow.push(Delta { t: f64::from(poll) * 60.0, dt: 60.0, ..Delta::default() }, 30.0);
        }
        assert_eq!(slow.iter().len(), 2);
    }
}
