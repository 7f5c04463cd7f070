//! When a key is hot: a large share seen twice in turn, or a smaller one of a large load.

use std::time::Duration;

use tokio::time::Instant;

use super::advice::{HOT_RATE, HOT_SHARE, WARM_SHARE};
use super::analysis::HeavyKey;

/// The same key in two samples at least this far apart is no burst.
const APART: Duration = Duration::from_secs(10);

/// A sample before the last that is older says nothing about now.
const TOGETHER: Duration = Duration::from_secs(1200);

/// The keys of a node that had a large share when it was last sampled, by their hashes.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    at: Instant,
    keys: Vec<u64>,
}

impl Sighting {
    /// Remembers what a sample showed.
    pub(super) fn new(at: Instant, keys: &[HeavyKey]) -> Self {
        let large = keys.iter().filter(|key| key.share >= HOT_SHARE).map(|key| key.hash);
        Self { at, keys: large.collect() }
    }
}

/// Whether one of the keys seen `now` is hot. Durations shrink with the time scale.
pub(super) fn is_hot(now: Instant, keys: &[HeavyKey], before: Option<&Sighting>, time_scale: f64) -> bool {
    let loaded = |key: &HeavyKey| key.share >= WARM_SHARE && key.per_second >= HOT_RATE;
    let again = |key: &HeavyKey| {
        key.share >= HOT_SHARE
            && before.is_some_and(|before| {
                let apart = (now - before.at).mul_f64(time_scale);
                (APART..=TOGETHER).contains(&apart) && before.keys.contains(&key.hash)
            })
    };
    keys.iter().any(|key| loaded(key) || again(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hot_when_seen_twice_or_under_load() {
        let key = |hash, share, per_second| HeavyKey { hash, share, per_second };
        let begin = Instant::now();
        let seconds = |seconds| begin + Duration::from_secs(seconds);
        let first = Sighting::new(begin, &[key(1, 0.3, 10.0), key(2, 0.15, 10.0)]);
        for (now, keys, expected) in [
            (60, key(1, 0.2, 10.0), true),
            (9, key(1, 0.2, 10.0), false),
            (60, key(1, 0.19, 10.0), false),
            (60, key(2, 0.3, 10.0), false),
            (60, key(3, 0.3, 10.0), false),
            (3600, key(1, 0.3, 10.0), false),
            (60, key(3, 0.1, 1000.0), true),
            (60, key(3, 0.09, 9000.0), false),
            (60, key(3, 0.15, 999.0), false),
        ] {
            assert_eq!(
                is_hot(seconds(now), std::slice::from_ref(&keys), Some(&first), 1.0),
                expected,
                "{now} {keys:?}"
            );
        }
        assert!(!is_hot(seconds(60), &[key(1, 0.9, 10.0)], None, 1.0));
        assert!(is_hot(seconds(2), &[key(1, 0.9, 10.0)], Some(&first), 10.0), "scaled");
    }
}
