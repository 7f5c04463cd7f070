//! The heaviest keys of a stream in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi 2005).
//!
//! A fixed number of keys is watched. A key that is not among them takes the place of one with the smallest count and
//! inherits that count as its possible error. Hence, for every key: `count − error ≤ true count ≤ count`, and a key
//! that is not watched was seen at most [`Sketch::unseen_max`] times. While fewer keys are seen than can be watched,
//! every count is exact.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Keys watched. Their bytes, counts and details take about 200 KB.
pub const KEYS_MAX: usize = 1024;

/// Bytes kept of a key's name. Longer keys are told apart by their hash all the same.
const KEY_BYTES_MAX: usize = 512;

/// One watched key.
#[derive(Clone, Default)]
pub struct Watched<D> {
    /// The key, cut after 512 bytes.
    pub key: Vec<u8>,
    /// Times seen, at most.
    pub count: u64,
    /// Of these, how many may have been other keys.
    pub error: u64,
    /// What else is known of it, since it has been watched.
    pub detail: D,
}

impl<D> Watched<D> {
    /// Times seen, at least.
    #[must_use]
    pub fn sure(&self) -> u64 {
        self.count - self.error
    }
}

/// Keys are user data: no debug output shows them.
impl<D> std::fmt::Debug for Watched<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("count", &self.count).field("error", &self.error).finish_non_exhaustive()
    }
}

/// Details that can be joined when two sketches are.
pub trait Detail: Default + Clone {
    /// Takes over what another sketch knows of the same key.
    fn merge(&mut self, other: &Self);
}

/// The heaviest keys of a stream. Keys are told apart by a 64-bit hash under the caller's secret.
#[derive(Debug, Clone)]
pub struct Sketch<D> {
    watched: Vec<Watched<D>>,
    hashes: Vec<u64>,
    slots: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    keys_max: usize,
    /// Smallest count, once every place is taken; no slot before `cursor` has it.
    smallest: u64,
    cursor: usize,
    total: u64,
    /// A key had to give way: counts are no longer exact.
    displaced: bool,
    /// Bound on the count of keys that merged sketches did not watch.
    inherited: u64,
}

impl<D: Detail> Default for Sketch<D> {
    fn default() -> Self {
        Self::new(KEYS_MAX)
    }
}

impl<D: Detail> Sketch<D> {
    /// An empty sketch that watches `keys_max` keys, at least one.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self {
            watched: Vec::new(),
            hashes: Vec::new(),
            slots: HashMap::default(),
            keys_max: keys_max.max(1),
            smallest: 0,
            cursor: 0,
            total: 0,
            displaced: false,
            inherited: 0,
        }
    }

    /// Counts one access and returns the key's details, and whether they are new.
    pub fn add(&mut self, hash: u64, key: &[u8]) -> (&mut D, bool) {
        self.total += 1;
        if let Some(slot) = self.slots.get(&hash) {
            let watched = &mut self.watched[*slot as usize];
            watched.count += 1;
            return (&mut watched.detail, false);
        }
        let slot = if self.watched.len() < self.keys_max { self.append(hash) } else { self.displace(hash) };
        self.slots.insert(hash, slot as u32);
        let watched = &mut self.watched[slot];
        watched.key.clear();
        watched.key.extend_from_slice(&key[..key.len().min(KEY_BYTES_MAX)]);
        (&mut watched.detail, true)
    }

    /// Accesses counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Every count is exact: no key ever had to give way.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.displaced && self.inherited == 0
    }

    /// How often a key that is not watched may have been seen.
    #[must_use]
    pub fn unseen_max(&self) -> u64 {
        let smallest = self.watched.iter().map(|watched| watched.count).min().unwrap_or(0);
        if self.displaced { smallest.max(self.inherited) } else { self.inherited }
    }

    /// The watched keys with the largest counts, largest first; of equal ones the surer, then by name.
    #[must_use]
    pub fn top(&self, count: usize) -> Vec<&Watched<D>> {
        let mut top: Vec<&Watched<D>> = self.watched.iter().collect();
        top.sort_unstable_by(|a, b| (b.count, a.error, &a.key).cmp(&(a.count, b.error, &b.key)));
        top.truncate(count);
        top
    }

    /// Hash and least count of every watched key.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.hashes.iter().zip(&self.watched).map(|(hash, watched)| (*hash, watched.sure()))
    }

    /// The details of every watched key.
    pub fn details_mut(&mut self) -> impl Iterator<Item = &mut D> {
        self.watched.iter_mut().map(|watched| &mut watched.detail)
    }

    /// Joins the sketch of another part of the stream; both must hash under the same secret. The bounds hold for the
    /// whole: a key that one side did not watch may have been seen there as often as its unwatched keys.
    pub fn merge(&mut self, mut other: Self) {
        let (ours, theirs) = (self.unseen_max(), other.unseen_max());
        for (hash, watched) in self.hashes.iter().zip(&mut self.watched) {
            if let Some(slot) = other.slots.remove(hash) {
                let same = &other.watched[slot as usize];
                watched.count += same.count;
                watched.error += same.error;
                watched.detail.merge(&same.detail);
            } else {
                watched.count += theirs;
                watched.error += theirs;
            }
        }
        let mut rest: Vec<(u64, usize)> = other.slots.iter().map(|(hash, slot)| (*hash, *slot as usize)).collect();
        rest.sort_unstable();
        for (hash, slot) in rest {
            let mut watched = std::mem::take(&mut other.watched[slot]);
            watched.count += ours;
            watched.error += ours;
            self.watched.push(watched);
            self.hashes.push(hash);
        }
        self.total += other.total;
        self.displaced |= other.displaced;
        self.inherited = ours + theirs;
        self.keep_largest();
    }

    /// Back to the number of keys that can be watched.
    fn keep_largest(&mut self) {
        let mut all: Vec<(Watched<D>, u64)> = self.watched.drain(..).zip(self.hashes.drain(..)).collect();
        all.sort_unstable_by(|(a, _), (b, _)| (b.count, a.error, &a.key).cmp(&(a.count, b.error, &b.key)));
        if let Some((first, _)) = all.get(self.keys_max) {
            self.inherited = self.inherited.max(first.count);
        }
        all.truncate(self.keys_max);
        (self.watched, self.hashes) = all.into_iter().unzip();
        self.slots = self.hashes.iter().enumerate().map(|(slot, hash)| (*hash, slot as u32)).collect();
        (self.smallest, self.cursor) = (0, 0);
    }

    fn append(&mut self, hash: u64) -> usize {
        self.watched.push(Watched {
            key: Vec::new(),
            count: self.inherited + 1,
            error: self.inherited,
            detail: D::default(),
        });
        self.hashes.push(hash);
        self.watched.len() - 1
    }

    /// Gives the place of a key with the smallest count to another. Counts only grow, so the search goes on where the
    /// last one ended, and starts again with a larger minimum at the end of the places: as that minimum is at most
    /// total ÷ places, all searches together take a constant time per access.
    fn displace(&mut self, hash: u64) -> usize {
        self.displaced = true;
        let slot = loop {
            let rest = &self.watched[self.cursor..];
            if let Some(found) = rest.iter().position(|watched| watched.count == self.smallest) {
                self.cursor += found;
                break self.cursor;
            }
            self.smallest = self.watched.iter().map(|watched| watched.count).min().unwrap_or(0);
            self.cursor = 0;
        };
        self.slots.remove(&self.hashes[slot]);
        self.hashes[slot] = hash;
        let watched = &mut self.watched[slot];
        // A merged sketch may have forgotten keys that were seen more often than this one.
        watched.error = watched.count.max(self.inherited);
        watched.count = watched.error + 1;
        watched.detail = D::default();
        slot
    }
}

/// The hash is one already.
#[derive(Debug, Clone, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[derive(Debug, Default, Clone)]
    struct Seen(u64);

    impl Detail for Seen {
        fn merge(&mut self, other: &Self) {
            self.0 += other.0;
        }
    }

    fn name(key: u64) -> Vec<u8> {
        format!("k:{key}").into_bytes()
    }

    fn count(sketch: &mut Sketch<Seen>, secret: &RandomState, key: u64) {
        sketch.add(secret.hash_one(name(key)), &name(key)).0.0 += 1;
    }

    /// Every bound that the sketch claims, against true counts.
    fn check(sketch: &Sketch<Seen>, truth: &HashMap<u64, u64>) {
        assert_eq!(sketch.total(), truth.values().sum::<u64>());
        let mut watched: HashMap<&[u8], &Watched<Seen>> =
            sketch.watched.iter().map(|watched| (&watched.key[..], watched)).collect();
        for (key, times) in truth {
            match watched.remove(&name(*key)[..]) {
                Some(seen) => {
                    assert!((seen.count - seen.error..=seen.count).contains(times), "{key}: {times} not in {seen:?}");
                    assert!(seen.detail.0 <= *times && seen.detail.0 >= seen.count - seen.error);
                    assert!(!sketch.is_exact() || seen.count == *times);
                }
                None => assert!(*times <= sketch.unseen_max(), "{key}: {times} times and not watched"),
            }
        }
        assert!(watched.is_empty(), "only keys of the stream are watched");
    }

    #[test]
    fn counts_are_exact_while_the_keys_fit() {
        let (mut sketch, secret) = (Sketch::new(8), RandomState::new());
        for key in 0..8 {
            (0..=key).for_each(|_| count(&mut sketch, &secret, key));
        }
        assert!(sketch.is_exact());
        let top: Vec<(u64, u64)> = sketch.top(3).iter().map(|watched| (watched.count, watched.error)).collect();
        assert_eq!(top, [(8, 0), (7, 0), (6, 0)]);
        count(&mut sketch, &secret, 8);
        assert!(!sketch.is_exact());
    }

    #[test]
    fn long_keys_are_cut_but_not_confused() {
        let (mut sketch, secret) = (Sketch::<Seen>::default(), RandomState::new());
        for tail in ["a", "b"] {
            let key = "x".repeat(10_000) + tail;
            sketch.add(secret.hash_one(key.as_bytes()), key.as_bytes());
        }
        assert_eq!(sketch.top(9).iter().map(|watched| watched.key.len()).collect::<Vec<_>>(), [KEY_BYTES_MAX; 2]);
    }

    #[test]
    fn no_debug_output_shows_a_key() {
        let (mut sketch, secret) = (Sketch::<Seen>::default(), RandomState::new());
        count(&mut sketch, &secret, 7);
        assert!(!format!("{sketch:?}").contains("k:7") && !format!("{sketch:?}").contains("107, 58"));
    }

    /// The ten heaviest keys of Zipf streams are found, and each share is right within the bound that is printed.
    #[test]
    fn zipf_streams_give_their_top_ten() {
        for (exponent, seed) in [(0.8, 1), (0.9, 2), (1.0, 3), (1.1, 4), (1.2, 5)] {
            let (keys, accesses) = (50_000_u32, 100_000);
            let weights = (1..=keys).map(|rank| f64::from(rank).powf(-exponent));
            let cumulative: Vec<f64> = weights
                .scan(0.0, |sum, weight| {
                    *sum += weight;
                    Some(*sum)
                })
                .collect();
            let (mut rng, secret) = (StdRng::seed_from_u64(seed), RandomState::new());
            let (mut halves, mut truth) = ([Sketch::default(), Sketch::default()], HashMap::new());
            for access in 0..accesses {
                let at = rng.random::<f64>() * cumulative[keys as usize - 1];
                let key = cumulative.partition_point(|sum| *sum < at) as u64;
                *truth.entry(key).or_insert(0_u64) += 1;
                count(&mut halves[access % 2], &secret, key);
            }
            let [mut sketch, other] = halves;
            sketch.merge(other);
            check(&sketch, &truth);
            let mut heaviest: Vec<(u64, u64)> = truth.iter().map(|(key, times)| (*times, *key)).collect();
            heaviest.sort_unstable_by(|a, b| b.cmp(a));
            // Keys as heavy as the tenth are as good as the tenth.
            let tenth = heaviest[9].0;
            for watched in sketch.top(10) {
                let key = std::str::from_utf8(&watched.key[2..]).unwrap().parse::<u64>().unwrap();
                assert!(truth[&key] >= tenth, "Zipf {exponent}: {key} is not among the ten heaviest");
                let share = |times: u64| times as f64 / sketch.total() as f64;
                assert!(share(watched.count) - share(truth[&key]) <= share(watched.error) + 1e-12);
            }
        }
    }

    proptest! {
        #[test]
        fn bounds_hold_for_any_stream(parts in prop::collection::vec(prop::collection::vec(0_u64..60, 0..200), 1..4)) {
            let (secret, mut truth) = (RandomState::new(), HashMap::new());
            let mut whole: Option<Sketch<Seen>> = None;
            for part in &parts {
                let mut sketch = Sketch::new(10);
                for key in part {
                    *truth.entry(*key).or_insert(0) += 1;
                    count(&mut sketch, &secret, *key);
                }
                match &mut whole {
                    Some(whole) => whole.merge(sketch),
                    none => *none = Some(sketch),
                }
            }
            let mut whole = whole.unwrap();
            check(&whole, &truth);
            // A merged sketch goes on counting.
            for key in parts.concat().into_iter().take(200) {
                *truth.entry(key).or_insert(0) += 1;
                count(&mut whole, &secret, key);
            }
            check(&whole, &truth);
        }
    }
}
