//! Random draws of the traffic: which key, and how many arrivals.

use rand::{Rng, RngExt};

/// Popularity of keys by rank: the key of rank r (from 0) is drawn in proportion to (r + 1)^−s.
///
/// Drawn by the alias method: two table look-ups per draw, whatever the number of keys.
#[derive(Debug, Clone)]
pub struct Zipf {
    probability: Vec<f64>,
    /// Per column: the share of it that is the column's own key, and the key of the rest.
    columns: Vec<(f64, u32)>,
}

impl Zipf {
    /// Table for `keys` keys with exponent `s`; published caches lie between 0.6 and 1.2.
    /// Precondition: at least one key.
    #[must_use]
    pub fn new(keys: u32, s: f64) -> Self {
        let weights: Vec<f64> = (1..=keys).map(|rank| f64::from(rank).powf(-s)).collect();
        let total: f64 = weights.iter().sum();
        let probability: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
        Self { columns: alias_columns(&probability), probability }
    }

    /// Share of the draws that fall on each key, by rank.
    #[must_use]
    pub fn probabilities(&self) -> &[f64] {
        &self.probability
    }

    /// Draws one key.
    pub fn sample(&self, rng: &mut impl Rng) -> u32 {
        let column = rng.random_range(0..self.columns.len());
        let (own, other) = self.columns[column];
        if rng.random::<f64>() < own { column as u32 } else { other }
    }
}

/// Fills every column of height 1 with its own key up to its share and one other key above.
fn alias_columns(probability: &[f64]) -> Vec<(f64, u32)> {
    let scale = probability.len() as f64;
    let mut height: Vec<f64> = probability.iter().map(|share| share * scale).collect();
    let mut columns: Vec<(f64, u32)> = (0..probability.len() as u32).map(|key| (1.0, key)).collect();
    let (mut low, mut high): (Vec<u32>, Vec<u32>) =
        (0..probability.len() as u32).partition(|key| height[*key as usize] < 1.0);
    while let (Some(small), Some(large)) = (low.pop(), high.pop()) {
        columns[small as usize] = (height[small as usize], large);
        height[large as usize] -= 1.0 - height[small as usize];
        if height[large as usize] < 1.0 { low.push(large) } else { high.push(large) }
    }
    columns
}

/// Number of arrivals where `mean` are expected (Poisson); 0 for a mean that is not positive.
pub fn poisson(mean: f64, rng: &mut impl Rng) -> u64 {
    // Above this the normal approximation is closer than traffic is to Poisson.
    const COUNTED_UP_TO: f64 = 30.0;
    if mean.is_nan() || mean <= 0.0 {
        return 0;
    }
    if mean > COUNTED_UP_TO {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * rng.random::<f64>()).cos();
        return (mean + normal * mean.sqrt()).round().max(0.0) as u64;
    }
    let floor = (-mean).exp();
    let mut product = rng.random::<f64>();
    let mut arrivals = 0;
    while product > floor {
        product *= rng.random::<f64>();
        arrivals += 1;
    }
    arrivals
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn draws_follow_the_probabilities() {
        let zipf = Zipf::new(500, 0.9);
        let mut rng = StdRng::seed_from_u64(1);
        let mut seen = vec![0_u32; 500];
        for _ in 0..200_000 {
            seen[zipf.sample(&mut rng) as usize] += 1;
        }
        for rank in [0, 1, 10, 100] {
            let expected = zipf.probabilities()[rank] * 200_000.0;
            let error = (f64::from(seen[rank]) - expected).abs();
            assert!(error < 5.0 * expected.sqrt(), "rank {rank}: {} for {expected}", seen[rank]);
        }
        assert!((zipf.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn arrivals_have_the_mean_asked_for() {
        let mut rng = StdRng::seed_from_u64(2);
        for mean in [0.4, 12.0, 50.0, 400.0] {
            let total: u64 = (0..20_000).map(|_| poisson(mean, &mut rng)).sum();
            let average = total as f64 / 20_000.0;
            assert!((average - mean).abs() < 5.0 * (mean / 20_000.0).sqrt(), "{average} for {mean}");
        }
        assert_eq!(poisson(0.0, &mut rng), 0);
        assert_eq!(poisson(f64::NAN, &mut rng), 0);
    }
}
