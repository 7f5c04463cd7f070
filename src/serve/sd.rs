//! `/sd`: every polled node as a target of Prometheus' HTTP service discovery.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{CacheName, NodeName};
use crate::publish::{FleetSnapshot, NodeSnapshot};

/// One target. Its labels are meta labels only: a label `role` would break `redis_instance_info{role}` and rename every
/// series at a failover. Whoever wants one relabels it.
#[derive(Debug, Serialize)]
pub(super) struct Group {
    targets: [NodeName; 1],
    labels: BTreeMap<&'static str, String>,
}

/// All nodes, also those that are down, in the order of their caches and names.
pub(super) fn groups(fleet: &FleetSnapshot) -> Vec<Group> {
    let nodes = fleet.caches.iter().flat_map(|(cache, snapshot)| snapshot.nodes.iter().map(move |node| (cache, node)));
    nodes.map(|(cache, node)| group(cache, node)).collect()
}

fn group(cache: &CacheName, node: &NodeSnapshot) -> Group {
    let place = node.place.as_deref();
    let own_role = node.sample.as_ref().and_then(|sample| sample.role);
    let role = own_role.or(place.and_then(|place| place.role)).map(|role| role.as_str().to_owned());
    let told = |text: Option<&std::sync::Arc<str>>| text.map(|text| text.to_string());
    let labels = [
        ("__meta_cache_storm_cache", Some(cache.to_string())),
        ("__meta_cache_storm_node", Some(node.node.to_string())),
        ("__meta_cache_storm_node_id", told(place.and_then(|place| place.id.as_ref()))),
        ("__meta_cache_storm_role", role),
        ("__meta_cache_storm_shard", told(place.and_then(|place| place.shard.as_ref()))),
    ];
    // Absent rather than empty, except that Prometheus makes no difference.
    let labels = labels.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    Group { targets: [node.node.clone()], labels }
}
