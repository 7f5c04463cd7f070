//! The short memory of one node: counters become deltas, deltas a window and a storm-free baseline. Pure.

pub mod baseline;
pub mod delta;
pub mod traffic;
pub mod window;

pub use baseline::{Baseline, Summary};
pub use delta::{Delta, Lives, Restart, Step};
pub use traffic::Traffic;
pub use window::{Totals, Window, WindowStats};

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

/// Median of ascending values; `None` of nothing.
pub fn median_of_sorted(values: &[f32]) -> Option<f64> {
    let middle = f64::from(*values.get(values.len() / 2)?);
    let odd = !values.len().is_multiple_of(2);
    Some(if odd { middle } else { f64::midpoint(f64::from(values[values.len() / 2 - 1]), middle) })
}

/// Median absolute deviation of ascending values from `center`, times 1.4826: the standard deviation where the values
/// are normally distributed, unmoved by a few outliers. 0 of nothing.
pub fn robust_sigma(values: &[f32], center: f64) -> f64 {
    // The values nearest to the center lie side by side: of all runs of that many the one that reaches least far.
    let reach = |run: &[f32]| (center - f64::from(run[0])).max(f64::from(run[run.len() - 1]) - center);
    let deviation = |rank: usize| values.windows(rank).map(reach).fold(f64::INFINITY, f64::min);
    let half = values.len() / 2;
    let middle = match values.len() {
        0 => 0.0,
        even if even.is_multiple_of(2) => f64::midpoint(deviation(half), deviation(half + 1)),
        _ => deviation(half + 1),
    };
    1.4826 * middle
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sorted_values_give_what_their_definitions_give(values in proptest::collection::vec(0_u16..50, 0..40)) {
            let mut sorted: Vec<f32> = values.iter().map(|value| f32::from(*value) / 50.0).collect();
            sorted.sort_unstable_by(f32::total_cmp);
            let mut plain: Vec<f64> = sorted.iter().map(|value| f64::from(*value)).collect();
            prop_assert_eq!(median_of_sorted(&sorted), median(&mut plain));
            let center = median(&mut plain).unwrap_or(0.0);
            let mut deviations: Vec<f64> = plain.iter().map(|value| (value - center).abs()).collect();
            prop_assert_eq!(robust_sigma(&sorted, center), 1.4826 * median(&mut deviations).unwrap_or(0.0));
        }
    }
}
