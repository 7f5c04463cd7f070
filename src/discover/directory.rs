//! Which nodes every cache has, for whoever does not run its rounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::NodeSet;
use crate::model::CacheName;

/// The nodes of all caches as of now.
#[derive(Debug, Default)]
pub struct Directory(Mutex<BTreeMap<CacheName, Entry>>);

#[derive(Debug)]
struct Entry {
    found: watch::Receiver<Option<Arc<NodeSet>>>,
    moved: Arc<Notify>,
}

impl Directory {
    /// The nodes of a cache; `None` while they are not known.
    #[must_use]
    pub fn nodes(&self, cache: &CacheName) -> Option<Arc<NodeSet>> {
        self.entries().get(cache).and_then(|entry| entry.found.borrow().clone())
    }

    /// Asks for a look at once: something says that the topology of the cache has changed.
    pub fn look_again(&self, cache: &CacheName) {
        if let Some(entry) = self.entries().get(cache) {
            entry.moved.notify_one();
        }
    }

    /// Enters a cache, in place of any of its name.
    pub fn enter(&self, cache: &CacheName, found: watch::Receiver<Option<Arc<NodeSet>>>, moved: Arc<Notify>) {
        self.entries().insert(cache.clone(), Entry { found, moved });
    }

    /// Strikes a cache out.
    pub fn strike(&self, cache: &CacheName) {
        self.entries().remove(cache);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<CacheName, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
