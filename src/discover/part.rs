//! The part of a cache that is ours where several exporters share it: whole replication groups.

use std::collections::BTreeMap;

use super::{Member, NodeSet};
use crate::config::{CacheConfig, Source};

/// The nodes of those groups that fall to us; all of them where the cache is not shared. Sentinels are everybody's:
/// they are asked, not judged.
pub(super) fn ours(cache: &CacheConfig, set: &NodeSet) -> NodeSet {
    let Some(shard) = cache.shard else { return set.clone() };
    let groups = Groups::of(&cache.source, &set.members);
    let ours = |member: &&Member| shard.owns_group(&cache.name, groups.name(member));
    NodeSet { members: set.members.iter().filter(ours).cloned().collect(), sentinels: set.sentinels.clone() }
}

/// What the groups are called by every exporter alike, whenever it was started.
struct Groups<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Groups<'a> {
    /// Sentinels name their masters. Of a cluster's shard the lowest id of its nodes is taken: a server that has no
    /// name for it, calls it by a master, and another exporter may have seen another one first. Slots would not do
    /// either: they wander.
    fn of(source: &Source, members: &'a [Member]) -> Self {
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        if matches!(source, Source::Cluster { .. }) {
            for member in members {
                let (Some(shard), Some(id)) = (member.place.shard.as_deref(), member.place.id.as_deref()) else {
                    continue;
                };
                names.entry(shard).and_modify(|lowest| *lowest = id.min(lowest)).or_insert(id);
            }
        }
        Self(names)
    }

    fn name(&self, member: &'a Member) -> &'a str {
        let shard = member.place.shard.as_deref().unwrap_or_else(|| member.endpoint.node.as_str());
        self.0.get(shard).copied().unwrap_or(shard)
    }
}
