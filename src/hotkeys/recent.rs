//! The patterns of keys that were met lately: a key need not be taken apart again.

use super::pattern::{PLACES_MAX, PatternId};

/// Shapes of keys whose pattern is remembered, as a power of two. Larger, and it would no longer fit into a core's own
/// memory.
const BITS: u32 = 15;

/// The low bits, in which a pattern is kept.
const LOW: u64 = (1 << BITS) - 1;

// It fits.
const _: () = assert!(PLACES_MAX <= 1 << BITS);

/// Patterns at places that the hashes of their keys' shapes decide. Each is one word: what the place leaves of the hash,
/// and in its low bits the pattern.
#[derive(Debug, Clone)]
pub(super) struct Recent(Box<[u64]>);

impl Default for Recent {
    fn default() -> Self {
        Self(vec![0; 1 << BITS].into())
    }
}

impl Recent {
    /// The pattern of keys of the shape with this hash, if it is remembered.
    pub(super) fn get(&self, hash: u64) -> Option<PatternId> {
        let found = self.0[(hash & LOW) as usize];
        (found & !LOW == hash & !LOW).then(|| PatternId::at((found & LOW) as usize))
    }

    /// Remembers a pattern, and returns it.
    pub(super) fn insert(&mut self, hash: u64, pattern: PatternId) -> PatternId {
        self.0[(hash & LOW) as usize] = hash & !LOW | pattern.index() as u64;
        pattern
    }
}
