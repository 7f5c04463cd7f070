//! The storm-free past against which the present is judged.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Delta, median, median_of_sorted, robust_sigma};

/// Slices of fewer lookups say nothing about a ratio.
const SLICE_LOOKUPS_MIN: f64 = 10.0;

/// A baseline of fewer slices is not used.
const SLICES_MIN: usize = 3;

/// Ten-minute medians kept: a day.
const LONG_MAX: usize = 144;

/// Nor does a slice of fewer lookups per second about a node that usually has more: at night a health check that
/// always hits would teach that everything does.
const SLICE_LOOKUPS_PER_SECOND_MIN: f32 = 10.0;

/// A ratio is never surer than this: `sigma` of a very steady node would turn noise into storms.
pub(crate) const SIGMA_MIN: f64 = 0.015;

/// One slice of quiet traffic. Rates are per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "SliceRow", into = "SliceRow")]
struct Slice {
    end: f64,
    hit_ratio: f32,
    lookups: f32,
    misses: f32,
    commands: f32,
    expired: f32,
    evicted: f32,
    sets: f32,
    deletes: f32,
    /// Share of SETs that created a key; NaN without SETs.
    inserted: f32,
    keys: f32,
}

/// A slice as written down: its end and its other fields in their order, NaN as null. Slices are most of what
/// is kept of a node; with the names of their fields they would take three times the room.
type SliceRow = (f64, [Option<f32>; 10]);

impl From<Slice> for SliceRow {
    fn from(slice: Slice) -> Self {
        let Slice { end, hit_ratio, lookups, misses, commands, expired, evicted, sets, deletes, inserted, keys } =
            slice;
        let values = [hit_ratio, lookups, misses, commands, expired, evicted, sets, deletes, inserted, keys];
        (end, values.map(|value| Some(value).filter(|value| !value.is_nan())))
    }
}

impl From<SliceRow> for Slice {
    fn from((end, values): SliceRow) -> Self {
        let [hit_ratio, lookups, misses, commands, expired, evicted, sets, deletes, inserted, keys] =
            values.map(|value| value.unwrap_or(f32::NAN));
        Self { end, hit_ratio, lookups, misses, commands, expired, evicted, sets, deletes, inserted, keys }
    }
}

/// Medians of the baseline's slices. Rates are per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Slices behind it.
    pub slices: usize,
    /// Hit ratio.
    pub hit_ratio: f64,
    /// Spread of the hit ratio: 1.4826 · MAD, at least 0.015.
    pub sigma: f64,
    /// Spread of the miss ratio without a floor.
    pub miss_sigma: f64,
    /// Lookups.
    pub lookups: f64,
    /// Misses.
    pub misses: f64,
    /// Commands.
    pub commands: f64,
    /// Expired keys.
    pub expired: f64,
    /// Evicted keys.
    pub evicted: f64,
    /// Calls that store a value.
    pub sets: f64,
    /// Calls of DEL and UNLINK.
    pub deletes: f64,
    /// Share of storing calls that create a key, 0–1.
    pub inserted: f64,
    /// Keys held.
    pub keys: f64,
}

/// Quiet slices of the last ten minutes, and ten-minute medians of the last day.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Baseline {
    filling: Filling,
    waiting: VecDeque<Slice>,
    slices: VecDeque<Slice>,
    /// Their hit ratios, ascending: a median is then at hand, and the slices need not be read for it.
    #[serde(skip)]
    ratios: Vec<f32>,
    since_long: usize,
    long: VecDeque<f32>,
    long_median: Option<f64>,
    summary: Option<Summary>,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Filling {
    seconds: f64,
    hits: f64,
    misses: f64,
    commands: f64,
    expired: f64,
    evicted: f64,
    sets: f64,
    deletes: f64,
    growth: f64,
}

impl Filling {
    fn add(&mut self, delta: &Delta) {
        self.seconds += delta.dt;
        self.hits += delta.hits;
        self.misses += delta.misses;
        self.commands += delta.commands;
        self.expired += delta.expired;
        self.evicted += delta.evicted;
        self.sets += delta.sets.unwrap_or(0.0);
        self.deletes += delta.deletes.unwrap_or(0.0);
        self.growth += delta.keys.map_or(0.0, |(before, after)| after - before);
    }

    /// The slice that ends with the delta `last`; `None` with too few lookups.
    fn slice(self, last: &Delta) -> Option<Slice> {
        let lookups = self.hits + self.misses;
        let rate = |count: f64| (count / self.seconds) as f32;
        let inserted = ((self.growth + self.expired + self.evicted) / self.sets).clamp(0.0, 1.0);
        (lookups >= SLICE_LOOKUPS_MIN).then(|| Slice {
            end: last.t,
            hit_ratio: (self.hits / lookups) as f32,
            lookups: rate(lookups),
            misses: rate(self.misses),
            commands: rate(self.commands),
            expired: rate(self.expired),
            evicted: rate(self.evicted),
            sets: rate(self.sets),
            deletes: rate(self.deletes),
            inserted: inserted as f32,
            keys: last.keys.map_or(f32::NAN, |(_, after)| after as f32),
        })
    }
}

/// Durations of a baseline, seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spans {
    /// Length of a slice.
    pub slice: f64,
    /// Delay until a slice joins: the window, so that a storm's beginning never teaches.
    pub delay: f64,
    /// What the short baseline looks back over.
    pub baseline: f64,
}

impl Baseline {
    /// Learns from a delta of quiet traffic.
    pub fn learn(&mut self, delta: &Delta, spans: Spans) {
        self.fill(delta, spans);
        while self.waiting.front().is_some_and(|slice| slice.end <= delta.t - spans.delay) {
            let Some(slice) = self.waiting.pop_front() else { break };
            let unlike = slice.lookups < SLICE_LOOKUPS_PER_SECOND_MIN
                && self.summary.is_some_and(|usual| usual.lookups >= f64::from(SLICE_LOOKUPS_PER_SECOND_MIN));
            if !unlike {
                self.join(slice, spans);
            }
        }
    }

    fn fill(&mut self, delta: &Delta, spans: Spans) {
        self.filling.add(delta);
        // A tenth of tolerance: jitter must not make a slice of two polls one of three.
        if self.filling.seconds >= 0.9 * spans.slice {
            self.waiting.extend(std::mem::take(&mut self.filling).slice(delta));
        }
    }

    fn join(&mut self, slice: Slice, spans: Spans) {
        let kept = (spans.baseline / spans.slice).round().max(SLICES_MIN as f64) as usize;
        if self.slices.is_empty() {
            // All its room at once: a fleet's memory must not creep for the ten minutes in which it fills.
            self.slices.reserve_exact(kept + 1);
            self.ratios.reserve_exact(kept + 1);
        }
        if self.ratios.len() != self.slices.len() {
            // The first since they were read from a file.
            self.ratios = self.slices.iter().map(|slice| slice.hit_ratio).collect();
            self.ratios.sort_unstable_by(f32::total_cmp);
        }
        let place = |ratios: &[f32], ratio: f32| ratios.partition_point(|other| other.total_cmp(&ratio).is_lt());
        self.ratios.insert(place(&self.ratios, slice.hit_ratio), slice.hit_ratio);
        self.slices.push_back(slice);
        while self.slices.len() > kept
            && let Some(oldest) = self.slices.pop_front()
        {
            self.ratios.remove(place(&self.ratios, oldest.hit_ratio));
        }
        // Rates move slowly in a median of ten minutes: once that is full, one slice in six brings them up to date.
        let rates = self.slices.len() < kept || self.since_long.is_multiple_of(6);
        self.summary = self.summarise(self.summary.filter(|_| !rates));
        self.since_long += 1;
        if self.since_long >= kept {
            self.since_long = 0;
            if let Some(summary) = self.summary {
                self.long.push_back(summary.hit_ratio as f32);
                if self.long.len() > LONG_MAX {
                    self.long.pop_front();
                }
                let mut values: Vec<f64> = self.long.iter().map(|value| f64::from(*value)).collect();
                self.long_median = median(&mut values).filter(|_| values.len() >= SLICES_MIN);
            }
        }
    }

    /// An abnormal poll: what it belongs to is not quiet traffic.
    pub fn interrupt(&mut self) {
        self.filling = Filling::default();
    }

    /// A storm: what was about to join may be its beginning.
    pub fn freeze(&mut self) {
        self.interrupt();
        self.waiting.clear();
    }

    /// The new normal is accepted: the past no longer applies, and the present stands in for it until quiet
    /// slices do. Without that the node would be compared with its peers, and the storm begin anew.
    pub fn accept<'a>(&mut self, present: impl Iterator<Item = &'a Delta>, spans: Spans) {
        *self = Self::default();
        let mut filling = Filling::default();
        let mut last = None;
        for delta in present {
            filling.add(delta);
            last = Some(delta);
        }
        let Some(slice) = last.and_then(|last| filling.slice(last)) else { return };
        for _ in 0..SLICES_MIN {
            self.join(slice, spans);
        }
    }

    /// The baseline in numbers, from three slices on.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// Median of the ten-minute medians of the last day, from three on.
    #[must_use]
    pub fn long(&self) -> Option<f64> {
        self.long_median
    }

    /// Medians of the slices; the rates are taken over from `before` where that is given.
    fn summarise(&self, before: Option<Summary>) -> Option<Summary> {
        if self.slices.len() < SLICES_MIN {
            return None;
        }
        let mut summary = match before {
            Some(before) => before,
            None => self.rates()?,
        };
        summary.slices = self.slices.len();
        summary.hit_ratio = median_of_sorted(&self.ratios)?;
        summary.miss_sigma = robust_sigma(&self.ratios, summary.hit_ratio);
        summary.sigma = summary.miss_sigma.max(SIGMA_MIN);
        Some(summary)
    }

    /// A summary with everything but the ratio.
    fn rates(&self) -> Option<Summary> {
        let mut room = Vec::with_capacity(self.slices.len());
        Some(Summary {
            slices: 0,
            hit_ratio: 0.0,
            sigma: 0.0,
            miss_sigma: 0.0,
            lookups: self.median_of(&mut room, |slice| slice.lookups)?,
            misses: self.median_of(&mut room, |slice| slice.misses)?,
            commands: self.median_of(&mut room, |slice| slice.commands)?,
            expired: self.median_of(&mut room, |slice| slice.expired)?,
            evicted: self.median_of(&mut room, |slice| slice.evicted)?,
            sets: self.median_of(&mut room, |slice| slice.sets)?,
            deletes: self.median_of(&mut room, |slice| slice.deletes)?,
            inserted: self.median_of(&mut room, |slice| slice.inserted).unwrap_or(0.0),
            keys: self.median_of(&mut room, |slice| slice.keys).unwrap_or(0.0),
        })
    }

    /// Median of one field of the slices that know it. `room` is reused from field to field; the field is a type of
    /// its own, not a pointer: a call for every slice would cost more than the rest.
    fn median_of(&self, room: &mut Vec<f64>, field: impl Fn(&Slice) -> f32) -> Option<f64> {
        room.clear();
        let known = self.slices.iter().map(|slice| f64::from(field(slice))).filter(|value| !value.is_nan());
        known.for_each(|value| room.push(value));
        median(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPANS: Spans = Spans { slice: 10.0, delay: 30.0, baseline: 600.0 };

    fn quiet(t: f64, misses: f64) -> Delta {
        Delta { t, dt: 5.0, hits: 500.0 - misses, misses, commands: 600.0, ..Delta::default() }
    }

    #[test]
    fn a_slice_joins_once_it_lies_a_window_back_and_three_make_a_baseline() {
        let mut baseline = Baseline::default();
        let mut first_seen = None;
        for poll in 1..=20 {
            let t = f64::from(poll) * 5.0;
            baseline.learn(&quiet(t, 50.0), SPANS);
            if baseline.summary().is_some() && first_seen.is_none() {
                first_seen = Some(t);
            }
        }
        // Slices end at 10, 20, 30; the third lies 30 s back at 60.
        assert_eq!(first_seen, Some(60.0));
        let summary = baseline.summary().unwrap();
        assert!((summary.hit_ratio - 0.9).abs() < 1e-6 && (summary.misses - 10.0).abs() < 1e-6);
        assert_eq!(summary.sigma, SIGMA_MIN);
    }

    #[test]
    fn a_storm_does_not_teach() {
        let mut baseline = Baseline::default();
        for poll in 1..=20 {
            baseline.learn(&quiet(f64::from(poll) * 5.0, 50.0), SPANS);
        }
        let before = *baseline.summary().unwrap();
        baseline.freeze();
        for poll in 21..=26 {
            baseline.learn(&quiet(f64::from(poll) * 5.0, 450.0), SPANS);
        }
        baseline.freeze();
        assert_eq!(*baseline.summary().unwrap(), before);
    }

    #[test]
    fn a_slow_decline_stays_visible_against_the_long_baseline() {
        let mut baseline = Baseline::default();
        for poll in 1..=2000 {
            let misses = 50.0 + f64::from(poll) * 0.1;
            baseline.learn(&quiet(f64::from(poll) * 5.0, misses), SPANS);
        }
        assert!(baseline.long().unwrap() > baseline.summary().unwrap().hit_ratio + 0.10);
    }
}
