//! The short present: the last deltas, summed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Delta;

/// The deltas of the last `span` seconds, and of at least two polls.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Window {
    deltas: VecDeque<Delta>,
    /// Their sums, kept up to date by what comes and goes.
    #[serde(skip)]
    totals: Totals,
    /// The same as rates: asked for several times a round.
    stats: Option<WindowStats>,
}

/// Sums over deltas. Whole numbers that wrap: however far a counter jumped, what has left a window leaves no trace.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    deltas: usize,
    /// Of the time covered.
    nanoseconds: u64,
    hits: u64,
    misses: u64,
    commands: u64,
    oom_errors: u64,
    /// Expired keys.
    pub expired: u64,
    /// Evicted keys.
    pub evicted: u64,
    /// Keys removed by command, as far as their number proves it.
    pub removed: u64,
    /// Calls of DEL and UNLINK.
    pub deletes: u64,
}

impl Totals {
    /// Sums of any deltas.
    pub fn over<'a>(deltas: impl Iterator<Item = &'a Delta>) -> Self {
        let mut totals = Self::default();
        deltas.for_each(|delta| totals.add(delta));
        totals
    }

    fn add(&mut self, delta: &Delta) {
        self.deltas += 1;
        self.count(delta, u64::wrapping_add);
    }

    fn remove(&mut self, delta: &Delta) {
        self.deltas -= 1;
        self.count(delta, u64::wrapping_sub);
    }

    fn count(&mut self, delta: &Delta, turn: fn(u64, u64) -> u64) {
        for (sum, count) in [
            (&mut self.nanoseconds, (delta.dt * 1e9).round()),
            (&mut self.hits, delta.hits),
            (&mut self.misses, delta.misses),
            (&mut self.commands, delta.commands),
            (&mut self.oom_errors, delta.oom_errors),
            (&mut self.expired, delta.expired),
            (&mut self.evicted, delta.evicted),
            (&mut self.removed, delta.removed),
            (&mut self.deletes, delta.deletes.unwrap_or(0.0)),
        ] {
            *sum = turn(*sum, count as u64);
        }
    }

    /// Seconds covered.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.nanoseconds as f64 / 1e9
    }

    /// The same as rates.
    #[must_use]
    pub fn stats(&self) -> WindowStats {
        let seconds = self.seconds();
        let rate = |sum: u64| sum as f64 / seconds;
        let (hits, misses) = (self.hits as f64, self.misses as f64);
        let lookups = hits + misses;
        WindowStats {
            seconds,
            lookups,
            hit_ratio: (lookups > 0.0).then(|| hits / lookups),
            misses: rate(self.misses),
            commands: rate(self.commands),
            evicted: rate(self.evicted),
            expired: rate(self.expired),
            oom_errors: rate(self.oom_errors),
        }
    }
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
        if self.totals.deltas != self.deltas.len() {
            // The first since it was read from a file.
            self.totals = Totals::over(self.deltas.iter());
        }
        self.totals.add(&delta);
        self.deltas.push_back(delta);
        // Half a poll of tolerance: jitter must not make a window of six polls one of five.
        let oldest = delta.t - span - delta.dt / 2.0;
        while self.deltas.len() > 2
            && let Some(front) = self.deltas.front().filter(|front| front.t - front.dt < oldest)
        {
            self.totals.remove(front);
            self.deltas.pop_front();
        }
        self.stats = Some(self.totals.stats()).filter(|stats| stats.seconds > 0.0);
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

    /// The sums.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The sums as rates; `None` of an empty window.
    #[must_use]
    pub fn stats(&self) -> Option<WindowStats> {
        self.stats
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

    #[test]
    fn what_has_left_leaves_no_trace() {
        let (mut window, mut fresh) = (Window::default(), Window::default());
        for poll in 1..=40 {
            let hits = if poll == 10 { 1.8e19 } else { 3.0 };
            let delta = Delta { t: f64::from(poll) * 5.0, dt: 5.0, hits, misses: 1.0, ..Delta::default() };
            window.push(delta, 30.0);
            if poll > 30 {
                fresh.push(delta, 30.0);
            }
        }
        assert_eq!(window.stats(), fresh.stats());
        assert_eq!(window.stats().and_then(|stats| stats.hit_ratio), Some(0.75));
        let read = serde_json::to_vec(&window).unwrap();
        let mut read: Window = serde_json::from_slice(&read).unwrap();
        let next = Delta { t: 205.0, dt: 5.0, hits: 9.0, ..Delta::default() };
        read.push(next, 30.0);
        window.push(next, 30.0);
        assert_eq!(read.stats(), window.stats());
    }
}
