//! How long a failed node is left alone. Pure: the jitter is an argument.

use std::time::Duration;

/// Longest pause: a node that is back must not stay unseen for longer.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Pause after the second failure; doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(2);

/// Pause after `failures` failed attempts in a row. None after the first: one failure may be a
/// server's restart, and the next round is the next attempt anyway. `jitter`, 0–1, takes off up to
/// half, so that the nodes of a fleet that failed together do not come back together.
pub(super) fn pause(failures: u32, jitter: f64) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else {
        return Duration::ZERO;
    };
    let pause = PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX);
    pause.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_from_nothing_to_its_limit() {
        let seconds: Vec<u64> = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|failures| pause(failures, 0.0).as_secs()).into();
        assert_eq!(seconds, [0, 0, 2, 4, 8, 15, 15, 15]);
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        assert_eq!(pause(9, 1.0), PAUSE_MAX / 2);
        assert!((PAUSE_MAX / 2..PAUSE_MAX).contains(&pause(9, 0.3)));
    }
}
