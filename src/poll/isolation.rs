//! Whether the fault is ours: several caches gone at once points at the exporter's own network.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::events;
use crate::model::{CacheName, FailureReason};
use crate::publish::Publisher;

/// Caches that must be cut off together before the exporter suspects itself.
const CACHES_MIN: usize = 2;

/// What the caches' last rounds say of our own network.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    cut_off: Mutex<BTreeMap<CacheName, bool>>,
}

impl Isolation {
    /// Takes one cache's round, publishes a change of opinion and returns the opinion.
    pub(super) fn report(&self, cache: &CacheName, cut_off: bool, publisher: &Publisher) -> bool {
        self.update(publisher, |caches| {
            caches.insert(cache.clone(), cut_off);
        })
    }

    /// Forgets the caches that are not in `remaining`.
    pub(super) fn retain(&self, remaining: &[CacheName], publisher: &Publisher) {
        self.update(publisher, |caches| caches.retain(|cache, _| remaining.contains(cache)));
    }

    /// Under the lock to the end: of two rounds that close together the later opinion must stand.
    fn update(&self, publisher: &Publisher, change: impl FnOnce(&mut BTreeMap<CacheName, bool>)) -> bool {
        let mut caches = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        let before = isolated(&caches);
        change(&mut caches);
        let now = isolated(&caches);
        if now != before {
            publisher.set_isolated(now);
            events::isolation_changed(now);
        }
        now
    }
}

fn isolated(cut_off: &BTreeMap<CacheName, bool>) -> bool {
    cut_off.values().filter(|cut_off| **cut_off).count() >= CACHES_MIN
}

/// Whether a round looks like a network that is gone: at least 90 % of its nodes, failed by timeout,
/// DNS or a broken connection. A refused connection proves that the network works.
pub(super) fn cut_off(failures: impl ExactSizeIterator<Item = Option<FailureReason>>) -> bool {
    let nodes = failures.len();
    let unreachable = failures
        .filter(|reason| matches!(reason, Some(FailureReason::Timeout | FailureReason::Dns | FailureReason::Io)))
        .count();
    nodes > 0 && unreachable * 10 >= nodes * 9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_are_cut_off_eight_are_not_and_refusals_never_are() {
        let round = |timeouts: usize, other| {
            let mut round = vec![other; 10];
            round[..timeouts].fill(Some(FailureReason::Timeout));
            cut_off(round.into_iter())
        };
        assert!(round(9, None));
        assert!(!round(8, None));
        assert!(round(8, Some(FailureReason::Dns)));
        assert!(!round(0, Some(FailureReason::Refused)));
        assert!(!cut_off([].into_iter()));
    }

    #[test]
    fn two_caches_make_it_ours() {
        let (isolation, publisher) = (Isolation::default(), Publisher::default());
        let (a, b) = (CacheName::from("a"), CacheName::from("b"));
        assert!(!isolation.report(&a, true, &publisher));
        assert!(isolation.report(&b, true, &publisher));
        assert!(publisher.fleet().isolated);
        isolation.retain(std::slice::from_ref(&a), &publisher);
        assert!(!publisher.fleet().isolated);
        assert!(!isolation.report(&a, false, &publisher));
    }
}
