//! The shards of a cache: what discovery says belongs together, and who of it answers.

use std::collections::BTreeMap;

use super::NodeSnapshot;
use crate::model::{NodeName, Role, ShardState};

/// A master and its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard<'a> {
    /// The same before and after a failover.
    pub name: &'a str,
    /// The master that answers; of several the one that owns slots.
    pub master: Option<&'a NodeName>,
    /// Its nodes, by the last look for them.
    pub nodes: usize,
    /// Those that answer.
    pub nodes_up: usize,
    /// Replicas that answer.
    pub replicas_up: usize,
    /// Slots that it owns, by the last look; `None` where there are none.
    pub slots: Option<u64>,
}

impl Shard<'_> {
    /// How it is manned.
    #[must_use]
    pub fn state(&self) -> ShardState {
        match (self.master, self.replicas_up) {
            (None, _) => ShardState::NoMaster,
            (Some(_), 0) => ShardState::NoReplica,
            (Some(_), _) => ShardState::Ok,
        }
    }
}

/// The shards of a cache, by name; none where its nodes are listed or found without them. A node that was left over by
/// a failover, down and without slots, makes no shard of its own.
#[must_use]
pub fn shards(nodes: &[NodeSnapshot]) -> Vec<Shard<'_>> {
    let mut shards: BTreeMap<&str, (Shard<'_>, u64)> = BTreeMap::new();
    for node in nodes {
        let Some(place) = node.place.as_deref().filter(|place| place.role != Some(Role::Sentinel)) else { continue };
        let Some(name) = place.shard.as_deref() else { continue };
        let nobody = Shard { name, master: None, nodes: 0, nodes_up: 0, replicas_up: 0, slots: None };
        let (shard, masters_slots) = shards.entry(name).or_insert((nobody, 0));
        shard.nodes += 1;
        shard.nodes_up += usize::from(node.up);
        shard.slots = place.slots.map_or(shard.slots, |slots| Some(slots + shard.slots.unwrap_or(0)));
        let slots = place.slots.unwrap_or(0);
        match node.sample.as_ref().and_then(|sample| sample.role) {
            Some(Role::Replica) => shard.replicas_up += 1,
            Some(Role::Master) if shard.master.is_none() || slots > *masters_slots => {
                (shard.master, *masters_slots) = (Some(&node.node), slots);
            }
            _ => {}
        }
    }
    let left_over = |shard: &Shard<'_>| shard.nodes_up == 0 && shard.slots == Some(0);
    shards.into_values().map(|(shard, _)| shard).filter(|shard| !left_over(shard)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::parse::Sample;
    use crate::publish::{NodePlace, fixture};

    /// A node of a shard: what discovery calls it, what it calls itself if it answers, and the slots it owns.
    fn node(name: &str, shard: &str, told: Role, own: Option<Role>, slots: Option<u64>) -> NodeSnapshot {
        let mut node = fixture::cache("main").nodes.remove(2);
        node.node = name.into();
        node.up = own.is_some();
        node.sample = own.map(|role| Arc::new(Sample { role: Some(role), ..Sample::default() }));
        node.place = Some(Arc::new(NodePlace { role: Some(told), shard: Some(shard.into()), id: None, slots }));
        node
    }

    #[test]
    fn shards_say_who_leads_them_and_who_could() {
        use Role::{Master, Replica, Sentinel};
        let nodes = [
            node("a:1", "a", Master, None, None),
            node("a:2", "a", Replica, Some(Master), Some(5461)),
            node("b:1", "b", Master, Some(Master), Some(5462)),
            node("b:2", "b", Replica, Some(Replica), None),
            node("c:1", "c", Master, None, Some(5461)),
            node("c:2", "c", Replica, Some(Replica), None),
            node("d:1", "d", Master, None, Some(0)),
            node("s:1", "a", Sentinel, Some(Sentinel), None),
        ];
        let told: Vec<_> = shards(&nodes)
            .iter()
            .map(|shard| {
                let master = shard.master.map(NodeName::as_str);
                (shard.name, shard.state().as_str(), master, shard.nodes_up, shard.nodes, shard.slots)
            })
            .collect();
        let expected = [
            ("a", "no_replica", Some("a:2"), 1, 2, Some(5461)),
            ("b", "ok", Some("b:1"), 2, 2, Some(5462)),
            ("c", "no_master", None, 1, 2, Some(5461)),
        ];
        assert_eq!(told, expected);
        let [_, _, listed] = fixture::cache("main").nodes.try_into().unwrap();
        assert!(shards(&[listed]).is_empty(), "listed nodes have no shards");
    }
}
