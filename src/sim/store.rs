//! The keys that one server holds: when each expires and when it was last read.

use rand::{Rng, RngExt};

/// What a read finds under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A value.
    Value,
    /// A value past its time that nobody has removed yet: a miss.
    Expired,
    /// Nothing.
    Nothing,
}

const NOWHERE: u32 = u32::MAX;

/// Keys are numbers below a fixed bound; times are seconds of the simulation.
#[derive(Debug, Clone)]
pub struct Store {
    entries: Vec<Entry>,
    /// Stored keys in no order, so that one can be drawn at random as expiry and eviction do.
    stored: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Index in `stored`, or [`NOWHERE`].
    place: u32,
    expires_at: f64,
    read_at: f64,
}

impl Store {
    /// An empty store that can hold the keys `0..bound`.
    #[must_use]
    pub fn new(bound: u32) -> Self {
        let entry = Entry { place: NOWHERE, expires_at: 0.0, read_at: 0.0 };
        Self { entries: vec![entry; bound as usize], stored: Vec::new() }
    }

    /// Keys held, expired ones included until they are removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// What a read at `now` would find; reads nothing.
    #[must_use]
    pub fn find(&self, key: u32, now: f64) -> Found {
        match self.entries[key as usize] {
            Entry { place: NOWHERE, .. } => Found::Nothing,
            Entry { expires_at, .. } if expires_at <= now => Found::Expired,
            _ => Found::Value,
        }
    }

    /// Notes a read, for LRU.
    pub fn touch(&mut self, key: u32, now: f64) {
        self.entries[key as usize].read_at = now;
    }

    /// Stores or overwrites a key; true if it was not held.
    pub fn insert(&mut self, key: u32, expires_at: f64, now: f64) -> bool {
        let entry = &mut self.entries[key as usize];
        entry.expires_at = expires_at;
        entry.read_at = now;
        let fresh = entry.place == NOWHERE;
        if fresh {
            entry.place = self.stored.len() as u32;
            self.stored.push(key);
        }
        fresh
    }

    /// Removes a key; true if it was held.
    pub fn remove(&mut self, key: u32) -> bool {
        let place = std::mem::replace(&mut self.entries[key as usize].place, NOWHERE);
        if place == NOWHERE {
            return false;
        }
        self.stored.swap_remove(place as usize);
        if let Some(moved) = self.stored.get(place as usize) {
            self.entries[*moved as usize].place = place;
        }
        true
    }

    /// Removes every key.
    pub fn clear(&mut self) {
        for key in self.stored.drain(..) {
            self.entries[key as usize].place = NOWHERE;
        }
    }

    /// Keys held, in no order.
    #[must_use]
    pub fn keys(&self) -> &[u32] {
        &self.stored
    }

    /// Sets the time at which a held key expires.
    pub fn set_expiry(&mut self, key: u32, expires_at: f64) {
        self.entries[key as usize].expires_at = expires_at;
    }

    /// A held key, all equally likely.
    pub fn random_key(&self, rng: &mut impl Rng) -> Option<u32> {
        (!self.stored.is_empty()).then(|| self.stored[rng.random_range(0..self.stored.len())])
    }

    /// The key longest unread of `samples` random ones: the approximation of LRU that Redis makes.
    pub fn eviction_candidate(&self, samples: usize, rng: &mut impl Rng) -> Option<u32> {
        (0..samples)
            .filter_map(|_| self.random_key(rng))
            .min_by(|a, b| self.entries[*a as usize].read_at.total_cmp(&self.entries[*b as usize].read_at))
    }

    /// Mean time left of up to 100 held keys, seconds; 0 without keys. For `avg_ttl`, an estimate there too.
    #[must_use]
    pub fn mean_ttl_seconds(&self, now: f64) -> f64 {
        let sample = &self.stored[..self.stored.len().min(100)];
        let left: f64 = sample.iter().map(|key| (self.entries[*key as usize].expires_at - now).max(0.0)).sum();
        left / sample.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn keys_come_expire_and_go() {
        let mut store = Store::new(10);
        assert!(store.insert(3, 5.0, 0.0));
        assert!(!store.insert(3, 6.0, 0.0));
        assert!(store.insert(4, 5.0, 0.0));
        assert_eq!(store.find(3, 5.5), Found::Value);
        assert_eq!(store.find(4, 5.5), Found::Expired);
        assert_eq!(store.find(5, 0.0), Found::Nothing);
        assert!(store.remove(3));
        assert!(!store.remove(3));
        assert_eq!(store.keys(), [4]);
        store.clear();
        assert!(store.is_empty() && store.find(4, 0.0) == Found::Nothing);
    }

    #[test]
    fn eviction_prefers_what_was_read_long_ago() {
        let mut store = Store::new(100);
        for key in 0..100 {
            store.insert(key, f64::INFINITY, f64::from(key));
        }
        let mut rng = StdRng::seed_from_u64(3);
        let mean = (0..1000).filter_map(|_| store.eviction_candidate(5, &mut rng)).map(f64::from).sum::<f64>() / 1000.0;
        assert!(mean < 25.0, "mean age rank {mean}");
    }
}
