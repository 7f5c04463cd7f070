//! The named reasons why a node looks bad now. Every condition and number: docs/detection.md.

use crate::history::baseline::SIGMA_MIN;
use crate::history::{Baseline, Summary, WindowStats};
use crate::model::Indicator;
use crate::thresholds::{Threshold, Thresholds};

/// A set of indicators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Indicators(u16);

impl Indicators {
    /// Adds one.
    pub(crate) fn insert(&mut self, indicator: Indicator) {
        self.0 |= 1 << indicator as u16;
    }

    /// Adds one if the condition holds.
    pub(crate) fn insert_if(&mut self, condition: bool, indicator: Indicator) {
        if condition {
            self.insert(indicator);
        }
    }

    /// Adds all of another set.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether it is in the set.
    #[must_use]
    pub(crate) fn contains(self, indicator: Indicator) -> bool {
        self.0 & (1 << indicator as u16) != 0
    }

    /// Whether nothing is.
    #[must_use]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The indicators in the order of [`Indicator::ALL`].
    #[must_use]
    pub(crate) fn to_vec(self) -> Vec<Indicator> {
        Indicator::ALL.iter().copied().filter(|indicator| self.contains(*indicator)).collect()
    }
}

/// What a node's present is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    /// Hit ratio to expect.
    pub(crate) hit_ratio: f64,
    /// Spread of it.
    pub(crate) sigma: f64,
    /// The node's own medians; `None` where the ratio is borrowed.
    pub(crate) own: Option<Summary>,
    /// Median of the last day's ten-minute medians.
    pub(crate) long: Option<f64>,
    /// Rests on the server's life so far, not on anything we saw.
    pub(crate) provisional: bool,
}

/// Spread of a borrowed ratio: peers of one cache differ by a few points in ordinary life.
const BORROWED_SIGMA: f64 = 0.05;

impl Reference {
    /// A subject's own past, else a borrowed ratio, else nothing.
    pub(crate) fn own_or(baseline: &Baseline, borrowed: Option<f64>) -> Option<Self> {
        let own = baseline.summary().copied();
        Some(Self {
            hit_ratio: own.map(|own| own.hit_ratio).or(borrowed)?,
            sigma: own.map_or(BORROWED_SIGMA, |own| own.sigma),
            own,
            long: baseline.long(),
            provisional: false,
        })
    }
}

/// Lookups come in bursts (pipelines, pages of many keys): a quarter of them are as good as independent.
const BURSTINESS: f64 = 4.0;

/// Quantile of the Wilson bound: 99 % two-sided.
const WILSON_Z: f64 = 2.576;

/// A share of lookups against its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fall {
    /// Reference minus ratio, in ratio points (0.05 is 5 points).
    pub(crate) drop: f64,
    /// That, in deviations.
    pub(crate) z: f64,
}

impl Fall {
    pub(crate) fn of(hit_ratio: f64, lookups: f64, reference: &Reference) -> Self {
        let drop = reference.hit_ratio - hit_ratio;
        Self { drop, z: drop / reference.sigma.max(sampling_error(reference.hit_ratio, lookups)) }
    }
}

/// Standard error of a ratio over that many bursty lookups; variance floored at 0.01, where a ratio near 1 has almost none.
fn sampling_error(ratio: f64, lookups: f64) -> f64 {
    ((ratio * (1.0 - ratio)).max(0.01) / (lookups / BURSTINESS)).sqrt()
}

/// How far two windows of so many bursty lookups may lie apart by chance, at one ratio: four deviations of their
/// difference, as within hours there are hundreds of windows.
pub(crate) fn chance(ratio: f64, lookups: f64) -> f64 {
    4.0 * std::f64::consts::SQRT_2 * sampling_error(ratio, lookups)
}

/// Upper Wilson bound of a ratio seen over that many bursty lookups.
fn wilson_upper(ratio: f64, lookups: f64) -> f64 {
    let n = lookups / BURSTINESS;
    let z2 = WILSON_Z * WILSON_Z;
    let center = ratio + z2 / (2.0 * n);
    let spread = WILSON_Z * (ratio * (1.0 - ratio) / n + z2 / (4.0 * n * n)).sqrt();
    (center + spread) / (1.0 + z2 / n)
}

/// Ten points, beyond chance.
const TEN_POINTS: Fall = Fall { drop: 0.10, z: 4.0 };

/// From thirty points on, nothing but a storm explains a fall.
const FALL_BEYOND_DOUBT: f64 = 0.30;

/// A line under the long baseline that was crossed on the way down must be left so far behind on the way up: a ratio
/// that hovers about it is one storm, not fifty.
const HYSTERESIS: f64 = 0.05;

/// Under the lines that the long baseline draws, raised by `margin`: (`low_hit_ratio`, its own share).
fn under_long(stats: &WindowStats, reference: &Reference, margin: f64, thresholds: &Thresholds) -> (bool, bool) {
    let (Some(ratio), Some(long)) = (stats.hit_ratio, reference.long) else { return (false, false) };
    // Where the fall from the long baseline is beyond doubt, crossing a line needs no margin of chance: a bound on top
    // of it would announce a slow decline minutes after it has crossed.
    if Fall::of(ratio, stats.lookups, &Reference { hit_ratio: long, ..*reference }).z < 4.0 {
        return (false, false);
    }
    let low = thresholds.get(Threshold::LowHitRatio);
    let kept = 1.0 - thresholds.get(Threshold::HitRatioDrop);
    (long >= low + 0.10 && ratio < low + margin, ratio < kept * long + margin)
}

/// A slow decline has crossed a line.
pub(crate) fn declined(stats: &WindowStats, reference: &Reference, thresholds: &Thresholds) -> bool {
    let (low, share) = under_long(stats, reference, 0.0, thresholds);
    low || share
}

/// The ratio indicators of one window. `extra_misses`: per second, of all nodes of the role whose misses multiplied.
/// `declined`: the storm that is on has crossed a line of the long baseline. Precondition: enough lookups to judge by (the
/// caller's guard).
pub(crate) fn of_window(
    stats: &WindowStats,
    memory_used_ratio: Option<f64>,
    reference: &Reference,
    extra_misses: f64,
    declined: bool,
    thresholds: &Thresholds,
) -> Indicators {
    let mut found = Indicators::default();
    let Some(ratio) = stats.hit_ratio else { return found };
    let fall = Fall::of(ratio, stats.lookups, reference);
    let upper = wilson_upper(ratio, stats.lookups);
    let low = thresholds.get(Threshold::LowHitRatio);

    // A node that lives near the floor is no storm for dipping under it: it must have fallen from well above.
    let from_above = reference.hit_ratio >= low + 0.10 || fall.drop >= 0.10;
    let margin = if declined { HYSTERESIS } else { 0.0 };
    let (low_of_long, share_of_long) = under_long(stats, reference, margin, thresholds);
    found.insert_if((upper < low && fall.z >= 4.0 && from_above) || low_of_long, Indicator::LowHitRatio);

    let loaded = stats.commands > thresholds.get(Threshold::HighLoadCommandsPerSecond);
    let poor = upper < thresholds.get(Threshold::HighLoadHitRatio) && fall.z >= 4.0 && fall.drop >= 0.05;
    found.insert_if(loaded && poor, Indicator::HighLoadPoorHitRatio);

    let full = memory_used_ratio.is_some_and(|used| used > thresholds.get(Threshold::MemoryPressureRatio));
    // A full cache evicts all its life: evictions are no second witness, the fall itself must be certain.
    let pressed = stats.evicted > 0.0 && fall.drop >= 0.05 && fall.z >= 4.0;
    found.insert_if(full && pressed, Indicator::MemoryPressure);

    let kept = 1.0 - thresholds.get(Threshold::HitRatioDrop);
    let ten_points = fall.drop >= TEN_POINTS.drop && !is_spared(stats, reference);
    let fell = fall.z >= 4.0 && (ratio < kept * reference.hit_ratio || ten_points);
    found.insert_if(fell || share_of_long, Indicator::HitRatioDrop);

    let multiplied = reference.own.is_some_and(|own| extra_misses_where_multiplied(stats, &own).is_some());
    found.insert_if(multiplied && extra_misses >= EXTRA_MISSES_MIN, Indicator::MissAmplification);
    found
}

/// A fall by ten points that says nothing, for the database is no worse off than in ordinary life.
fn is_spared(stats: &WindowStats, reference: &Reference) -> bool {
    is_as_ever(stats, reference) || is_relieved(stats, reference)
}

/// Misses are what they were, and so is the ratio of the last day: what has ended is a spell of easy lookups.
fn is_as_ever(stats: &WindowStats, reference: &Reference) -> bool {
    let as_ever = reference.long.zip(stats.hit_ratio).is_some_and(|(long, ratio)| ratio >= long - 0.05);
    as_ever && surely_misses_less(stats, reference, 1.25)
}

/// The database is asked less than usual: where traffic falls, less is asked again before it expires, and the ratio
/// falls with it. Thirty points are too many for that, and not much less is asked for: where clients wait for the
/// database, a storm, too, leaves misses per second as they were.
fn is_relieved(stats: &WindowStats, reference: &Reference) -> bool {
    stats.hit_ratio.is_some_and(|ratio| reference.hit_ratio - ratio < FALL_BEYOND_DOUBT)
        && surely_misses_less(stats, reference, 0.9)
}

/// Misses per second are under so many times the usual. In doubt they are: two deviations are given away.
fn surely_misses_less(stats: &WindowStats, reference: &Reference, times: f64) -> bool {
    let at_least = stats.misses - 2.0 * (stats.misses / stats.seconds).sqrt();
    reference.own.is_some_and(|own| at_least < times * own.misses)
}

/// It would be a storm, had traffic not fallen with the ratio: no time to learn what is usual.
pub(crate) fn is_storm_but_for_traffic(stats: &WindowStats, reference: &Reference) -> bool {
    fell(stats, reference, 0.0, TEN_POINTS) && is_relieved(stats, reference) && !is_as_ever(stats, reference)
}

/// Extra misses per second from which a database notices.
const EXTRA_MISSES_MIN: f64 = 50.0;

/// The database feels misses, not hits, and they multiply: 0.999 → 0.99 is ten times its load. Where a subject's
/// misses multiplied, the extra ones per second: the database adds up those of all nodes.
pub(crate) fn extra_misses_where_multiplied(stats: &WindowStats, own: &Summary) -> Option<f64> {
    let (miss, usual) = (1.0 - stats.hit_ratio?, 1.0 - own.hit_ratio);
    let error = (own.hit_ratio * usual / (stats.lookups / BURSTINESS)).sqrt();
    let z = (miss - usual) / own.miss_sigma.max(0.25 * usual).max(error);
    let multiplied = z >= 4.0 && stats.misses >= 3.0 * own.misses.max(1.0) && miss >= 2.0 * usual;
    multiplied.then_some(stats.misses - own.misses)
}

/// The last poll alone fell by ten points beyond doubt. A small cache refills within the window and never pulls its
/// mean down by as much; that a second poll in a row says the same is what confirmation asks for.
pub(crate) fn fell_at_once(last: &WindowStats, reference: &Reference) -> bool {
    fell(last, reference, 50.0, TEN_POINTS) && !is_spared(last, reference)
}

/// More than half of the ratio is gone, over enough lookups that waiting for a second poll would only cost time.
pub(crate) fn collapsed(stats: &WindowStats, reference: &Reference, thresholds: &Thresholds) -> bool {
    stats.hit_ratio.is_some_and(|ratio| {
        stats.lookups >= 1000.0
            && ratio < (1.0 - thresholds.get(Threshold::HitRatioDrop)) * reference.hit_ratio
            && Fall::of(ratio, stats.lookups, reference).z >= 4.0
    })
}

/// The last poll alone lies 30 points under its reference. Where the whole window has fallen already, that is
/// the second look that confirmation asks for: it is no blip, and half a minute's mean only lags behind it.
pub(crate) fn collapsing(last: &WindowStats, reference: &Reference) -> bool {
    fell(last, reference, 50.0, Fall { drop: FALL_BEYOND_DOUBT, z: 4.0 })
}

/// After a seen cause one poll's fall is enough: small hot caches refill within a poll or two. `before`: the ratio right
/// before it, if known. While a cache fills, its baseline is that of an emptier one, and as wide as it rose.
pub(crate) fn fell_after_cause(stats: &WindowStats, reference: &Reference, before: Option<f64>) -> bool {
    let enough = Fall { drop: 0.05, z: 2.0 };
    let below_usual = stats.hit_ratio.is_some_and(|ratio| ratio < reference.hit_ratio);
    fell(stats, reference, 100.0, enough)
        || before.filter(|_| below_usual).is_some_and(|before| {
            fell(stats, &Reference { hit_ratio: before, sigma: SIGMA_MIN, ..*reference }, 100.0, enough)
        })
}

/// Over enough lookups, a fall of at least that much.
fn fell(stats: &WindowStats, reference: &Reference, lookups_min: f64, at_least: Fall) -> bool {
    stats.lookups >= lookups_min
        && stats.hit_ratio.is_some_and(|ratio| {
            let fall = Fall::of(ratio, stats.lookups, reference);
            fall.drop >= at_least.drop && fall.z >= at_least.z
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(hit_ratio: f64, lookups: f64) -> WindowStats {
        WindowStats {
            seconds: 30.0,
            lookups,
            hit_ratio: Some(hit_ratio),
            misses: lookups * (1.0 - hit_ratio) / 30.0,
            commands: lookups / 30.0,
            evicted: 0.0,
            expired: 0.0,
            oom_errors: 0.0,
        }
    }

    fn reference(hit_ratio: f64) -> Reference {
        Reference { hit_ratio, sigma: 0.015, own: None, long: None, provisional: false }
    }

    fn check(now: f64, lookups: f64, usual: f64, expected: &[Indicator]) {
        let found = of_window(&stats(now, lookups), None, &reference(usual), 0.0, false, &Thresholds::default());
        assert_eq!(found.to_vec(), expected, "{now} over {lookups} lookups against {usual}");
    }

    #[test]
    fn judges_against_the_nodes_own_past() {
        check(0.45, 6000.0, 0.90, &[Indicator::LowHitRatio, Indicator::HitRatioDrop]);
        check(0.78, 6000.0, 0.90, &[Indicator::HitRatioDrop]);
        check(0.85, 6000.0, 0.90, &[]);
        // Normally low is normal.
        check(0.40, 6000.0, 0.41, &[]);
        // Too few lookups to be sure.
        check(0.75, 200.0, 0.90, &[]);
        check(0.55, 60_000.0, 0.90, &[Indicator::HighLoadPoorHitRatio, Indicator::HitRatioDrop]);
    }

    #[test]
    fn a_thin_node_that_lives_low_does_not_fall_by_chance() {
        let long = Reference { long: Some(0.36), sigma: 0.07, ..reference(0.39) };
        let found = of_window(&stats(0.17, 400.0), None, &long, 0.0, false, &Thresholds::default());
        assert!(found.is_empty(), "{:?}: under half of the long baseline, not four deviations", found.to_vec());
        let found = of_window(
            &stats(0.17, 40_000.0),
            None,
            &Reference { sigma: 0.015, ..long },
            0.0,
            false,
            &Thresholds::default(),
        );
        assert!(found.contains(Indicator::HitRatioDrop));
    }

    #[test]
    fn a_full_cache_that_evicts_must_fall_for_certain() {
        let usual = Reference { sigma: 0.02, ..reference(0.9) };
        let pressed = |evicted: f64, ratio: f64| {
            let stats = WindowStats { evicted, ..stats(ratio, 6000.0) };
            of_window(&stats, Some(0.95), &usual, 0.0, false, &Thresholds::default())
                .contains(Indicator::MemoryPressure)
        };
        assert_eq!([pressed(20.0, 0.83), pressed(20.0, 0.81), pressed(0.0, 0.81)], [false, true, false]);
    }

    #[test]
    fn the_wilson_bound_narrows_with_lookups() {
        assert!(wilson_upper(0.45, 200.0) > 0.5);
        assert!(wilson_upper(0.45, 20_000.0) < 0.5);
    }
}
