//! Families of caches whose nodes are discovered.

use super::{Family, Kind, Scope, Sink};
use crate::model::DiscoveryRefusal;
use crate::publish::DiscoverySnapshot;

/// A family and where its series come from.
#[derive(Debug)]
pub struct DiscoveryRow {
    /// The family.
    pub family: Family,
    /// Puts the cache's series of the family into the sink.
    pub read: fn(&DiscoverySnapshot, &mut Sink<'_>),
}

const fn row(
    kind: Kind,
    name: &'static str,
    help: &'static str,
    read: fn(&DiscoverySnapshot, &mut Sink<'_>),
) -> DiscoveryRow {
    DiscoveryRow { family: Family::new(Scope::Cache, kind, name, help), read }
}

/// Families of discovery; absent for caches whose nodes are listed.
pub const DISCOVERY: &[DiscoveryRow] = &[
    row(
        Kind::Gauge,
        "cache_storm_discovery_up",
        "1 if the last look found out which nodes the cache has, 0 while the last known ones are polled.",
        |discovery, out| out.flag(discovery.up()),
    ),
    row(
        Kind::Gauge,
        "cache_storm_discovery_last_success_timestamp_seconds",
        "When a look last found out which nodes the cache has, Unix seconds; absent if none ever did.",
        |discovery, out| out.number(discovery.last_success_unix),
    ),
    row(
        Kind::Gauge,
        "cache_storm_discovery_nodes",
        "Nodes of the cache by the last look that found out; they are polled, also those that are down.",
        |discovery, out| out.number(Some(discovery.nodes as f64)),
    ),
    DiscoveryRow {
        family: Family::new(
            Scope::Cache,
            Kind::Counter,
            "cache_storm_discovery_rejected_total",
            "Addresses that were named and are not polled, once per look: outside discovery.allow, past max_nodes, no \
             address.",
        )
        .by(&["reason"], DiscoveryRefusal::ALL.len()),
        read: |discovery, out| {
            for (reason, count) in DiscoveryRefusal::ALL.iter().zip(discovery.refused) {
                out.labelled(&[reason.as_str()], count as f64);
            }
        },
    },
];
