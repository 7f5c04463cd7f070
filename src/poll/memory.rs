//! The caches' detectors, held where they can be written down while the tasks that use them go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::{Clock, wall_unix_seconds};
use crate::detect::CacheDetector;
use crate::model::CacheName;
use crate::state::FleetState;

/// A detector that its cache's task and the writer of the state file share. Neither holds the lock over an await.
pub(super) type SharedDetector = Arc<Mutex<CacheDetector>>;

/// The detectors of all caches.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    detectors: Mutex<BTreeMap<CacheName, SharedDetector>>,
    /// Notified when the severity of a cache has changed.
    pub moved: Arc<Notify>,
}

impl Memory {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, detectors: Mutex::default(), moved: Arc::default() }
    }

    /// What all detectors remember now. Blocks for as long as the largest of them takes to copy.
    #[must_use]
    pub fn export(&self) -> FleetState {
        let detectors = self.lock().clone();
        let state = |(name, detector): (CacheName, SharedDetector)| {
            // Poisoned: its task panicked half-way through a round. What it remembers is not to be trusted.
            Some((name, detector.lock().ok()?.export()))
        };
        let caches = detectors.into_iter().filter_map(state).collect();
        FleetState::new(wall_unix_seconds(), self.clock.seconds(Instant::now()), caches)
    }

    /// Holds a cache's detector, in place of any it held before.
    pub(super) fn hold(&self, cache: &CacheName, detector: CacheDetector) -> SharedDetector {
        let shared = Arc::new(Mutex::new(detector));
        self.lock().insert(cache.clone(), Arc::clone(&shared));
        shared
    }

    pub(super) fn forget(&self, cache: &CacheName) {
        self.lock().remove(cache);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<CacheName, SharedDetector>> {
        self.detectors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
