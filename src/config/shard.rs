//! Several exporters of one configuration: which of them watches a cache, or a replication group of one.

use std::fmt;

use crate::model::CacheName;

/// Most exporters that may share a configuration.
const SHARDS_MAX: u32 = 1000;

/// One of several exporters: watches the caches, and the replication groups of shared ones, that fall to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Counted from 1.
    index: u32,
    count: u32,
}

impl Shard {
    /// Reads `1/4`: the first of four.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (index, count) = text.split_once('/')?;
        let (index, count) = (index.trim().parse().ok()?, count.trim().parse().ok()?);
        (1..=SHARDS_MAX).contains(&count).then_some(())?;
        (1..=count).contains(&index).then_some(Self { index, count })
    }

    /// Whether the cache falls to this shard: the one whose hash with the cache's name is highest. So a cache is in
    /// exactly one shard, and with one shard more only those move that move to it. Whole caches, never single nodes:
    /// a node is judged among its siblings.
    #[must_use]
    pub fn owns(&self, cache: &CacheName) -> bool {
        self.has_highest(cache.as_str().bytes())
    }

    /// Whether a replication group of the cache falls to this shard, by the same rule. A master and its replicas are
    /// one group: lag and promotions are judged between them.
    #[must_use]
    pub fn owns_group(&self, cache: &CacheName, group: &str) -> bool {
        // No name of a cache holds the byte between.
        self.has_highest(cache.as_str().bytes().chain([0]).chain(group.bytes()))
    }

    fn has_highest(&self, name: impl Iterator<Item = u8> + Clone) -> bool {
        (1..=self.count).max_by_key(|index| weight(name.clone(), *index)) == Some(self.index)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// FNV-1a of the name, mixed with the shard's number (the end of splitmix64). Part of what users rely on: another hash
/// would move their caches.
fn weight(name: impl Iterator<Item = u8>, index: u32) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = name.fold(0xcbf2_9ce4_8422_2325, fnv);
    hash ^= u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(cache: &CacheName, count: u32) -> u32 {
        let owners: Vec<u32> = (1..=count).filter(|index| Shard { index: *index, count }.owns(cache)).collect();
        assert_eq!(owners.len(), 1, "{cache} is in exactly one shard");
        owners[0]
    }

    #[test]
    fn every_cache_has_one_owner_and_few_move() {
        let caches: Vec<CacheName> = (0..400).map(|index| format!("cache-{index}").into()).collect();
        let before: Vec<u32> = caches.iter().map(|cache| owner(cache, 4)).collect();
        for shard in 1..=4 {
            let share = before.iter().filter(|owner| **owner == shard).count();
            assert!((60..=140).contains(&share), "shard {shard} has {share} of 400");
        }
        let moved: Vec<u32> = caches
            .iter()
            .zip(&before)
            .map(|(cache, was)| (owner(cache, 5), *was))
            .filter(|(now, was)| now != was)
            .map(|(now, _)| now)
            .collect();
        assert!(moved.iter().all(|now| *now == 5), "only to the new shard");
        assert!((40..=120).contains(&moved.len()), "{} of 400 moved", moved.len());
    }

    #[test]
    fn the_assignment_does_not_change_between_releases() {
        let owners: Vec<u32> = ["sessions", "catalog", "default", "prices"].map(|name| owner(&name.into(), 4)).into();
        assert_eq!(owners, [2, 3, 2, 1]);
    }

    #[test]
    fn groups_of_a_cache_are_dealt_out_too() {
        let shards = (1..=4).map(|index| Shard { index, count: 4 });
        let cache = CacheName::from("sessions");
        for shard in shards {
            let groups = (0..400).filter(|group| shard.owns_group(&cache, &group.to_string())).count();
            assert!((60..=140).contains(&groups), "{shard} has {groups} of 400");
        }
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        assert_eq!(Shard::parse("1/4"), Some(Shard { index: 1, count: 4 }));
        for bad in ["", "1", "0/4", "5/4", "1/0", "-1/4", "a/b", "1/4/2", "1/100000"] {
            assert_eq!(Shard::parse(bad), None, "{bad}");
        }
    }
}
