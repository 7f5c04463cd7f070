//! The short memory of one node: counters become deltas, deltas a window and a storm-free baseline. Pure.

pub mod baseline;
pub mod delta;
pub mod traffic;
pub mod window;

pub use baseline::{Baseline, Summary};
pub use delta::{Delta, Lives, Restart, Step};
pub use traffic::Traffic;
pub use window::{Window, WindowStats};

/// Median; `None` of nothing. Reorders `values`; of an even number the mean of the middle two.
pub fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let even = values.len().is_multiple_of(2);
    let (below, middle, _) = values.select_nth_unstable_by(values.len() / 2, f64::total_cmp);
    let beside = below.iter().copied().max_by(f64::total_cmp).filter(|_| even);
    Some(beside.map_or(*middle, |beside| f64::midpoint(beside, *middle)))
}

/// Median absolute deviation from `center`, times 1.4826: the standard deviation where the values are
/// normally distributed, unmoved by a few outliers. Overwrites `values`.
pub fn robust_sigma(values: &mut [f64], center: f64) -> f64 {
    for value in values.iter_mut() {
        *value = (*value - center).abs();
    }
    1.4826 * median(values).unwrap_or(0.0)
}
