//! Families of one cache's topology: failovers, Sentinels, the cluster.

use super::cache::{CacheRow, gauge};
use super::{Family, Kind, Scope, Sink};
use crate::model::{SentinelEvent, SentinelFlag, ShardState};
use crate::publish::{CacheSnapshot, shards};
use crate::topology::sentinel::MASTERS_MAX;
use crate::topology::{MasterState, SENTINELS_MAX};

const fn counter(name: &'static str, help: &'static str, read: fn(&CacheSnapshot, &mut Sink<'_>)) -> CacheRow {
    CacheRow { family: Family::new(Scope::Cache, Kind::Counter, name, help), read }
}

/// One series per master that the Sentinels watch; none where the value is not known.
fn masters(cache: &CacheSnapshot, out: &mut Sink<'_>, value: fn(&MasterState) -> Option<f64>) {
    for master in &cache.topology.masters {
        if let Some(value) = value(master) {
            out.labelled(&[&*master.name], value);
        }
    }
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

/// A gauge of the cluster, from its most worried node.
macro_rules! cluster {
    ($name:literal, $field:ident, $help:literal) => {
        gauge($name, $help, |cache, out| {
            let count = cache.topology.cluster.and_then(|cluster| cluster.$field);
            out.number(count.map(|count| count as f64));
        })
    };
}

/// Families of one cache's topology.
pub const TOPOLOGY: &[CacheRow] = &[
    counter(
        "cache_storm_failovers_total",
        "Failovers seen, each counted once: a replica's role became master, Sentinel announced +switch-master, or its \
         config-epoch rose.",
        |cache, out| out.number(Some(cache.topology.failovers_total as f64)),
    ),
    gauge("cache_storm_failovers_last_hour", "Failovers of the last hour; 0 again when we restart.", |cache, out| {
        out.number(Some(cache.topology.failovers_last_hour as f64));
    }),
    gauge(
        "cache_storm_master_flaps_last_hour",
        "How often within the last hour a master was down (s_down at a Sentinel; refusing or loading to us, or two rounds \
         without an answer) and one was there again.",
        |cache, out| out.number(Some(cache.topology.master_flaps_last_hour as f64)),
    ),
    gauge(
        "cache_storm_split_brain",
        "Nodes that claim one master's place at the same time (role, master_replid2, Sentinel's role-reported); 0 as it \
         should be.",
        |cache, out| out.number(Some(cache.topology.split_brain.len() as f64)),
    ),
    gauge(
        "cache_storm_partition_suspected",
        "Nodes and Sentinels that a Sentinel calls down (s_down) and we reach, or the other way round, for longer than \
         the difference of two looks.",
        |cache, out| out.number(Some(cache.topology.partition_suspected.len() as f64)),
    ),
    counter(
        "cache_storm_replica_syncs_total",
        "How replicas were brought up to date (sync_full, sync_partial_ok, sync_partial_err), over all nodes.",
        |cache, out| {
            for (result, count) in ["full", "partial", "partial_refused"].iter().zip(cache.topology.syncs_total) {
                out.labelled(&[result], count as f64);
            }
        },
    )
    .by(&["result"], 3),
    gauge(
        "cache_storm_shards",
        "Shards (a master and its replicas, by discovery) by how they are manned: ok, no_replica (the master alone \
         answers), no_master (no master of it answers).",
        |cache, out| {
            let shards = shards(&cache.nodes);
            if !shards.is_empty() {
                for state in ShardState::ALL {
                    let count = shards.iter().filter(|shard| shard.state() == *state).count();
                    out.labelled(&[state.as_str()], count as f64);
                }
            }
        },
    )
    .by(&["state"], ShardState::ALL.len()),
    gauge("cache_storm_sentinel_up", "1 if the Sentinel answers (SENTINEL MASTERS).", |cache, out| {
        for sentinel in &cache.topology.sentinels {
            out.labelled(&[sentinel.sentinel.as_str()], flag(sentinel.up));
        }
    })
    .by(&["sentinel"], SENTINELS_MAX),
    gauge(
        "cache_storm_sentinel_tilt",
        "1 while the Sentinel distrusts its own clock and does nothing (sentinel_tilt).",
        |cache, out| {
            for sentinel in &cache.topology.sentinels {
                if let Some(tilt) = sentinel.tilt {
                    out.labelled(&[sentinel.sentinel.as_str()], flag(tilt));
                }
            }
        },
    )
    .by(&["sentinel"], SENTINELS_MAX),
    counter(
        "cache_storm_sentinel_events_total",
        "Announcements heard by subscription, of all Sentinels together; each announces for itself.",
        |cache, out| {
            if cache.topology.sentinels.is_empty() {
                return;
            }
            for (event, count) in SentinelEvent::ALL.iter().zip(cache.topology.events_total) {
                out.labelled(&[event.as_str()], count as f64);
            }
        },
    )
    .by(&["event"], SentinelEvent::ALL.len()),
    gauge(
        "cache_storm_sentinel_quorum_ok",
        "1 if a Sentinel that answers reaches the quorum and majority of a failover (SENTINEL CKQUORUM), 0 if none does.",
        |cache, out| masters(cache, out, |master| master.quorum_ok.map(flag)),
    )
    .by(&["master_name"], MASTERS_MAX),
    gauge(
        "cache_storm_sentinel_master_disagreement",
        "1 if Sentinels name different addresses for the master (SENTINEL GET-MASTER-ADDR-BY-NAME).",
        |cache, out| masters(cache, out, |master| Some(flag(master.disputed()))),
    )
    .by(&["master_name"], MASTERS_MAX),
    gauge(
        "cache_storm_sentinel_master_flags",
        "How many Sentinels mark the master so (flags of SENTINEL MASTER).",
        |cache, out| {
            for master in &cache.topology.masters {
                for (flag, count) in SentinelFlag::ALL.iter().zip(master.flags) {
                    out.labelled(&[&*master.name, flag.as_str()], count as f64);
                }
            }
        },
    )
    .by(&["master_name", "flag"], MASTERS_MAX * SentinelFlag::ALL.len()),
    gauge(
        "cache_storm_sentinel_known_sentinels",
        "Sentinels of the master, by the one that knows most (num-other-sentinels + 1).",
        |cache, out| masters(cache, out, |master| master.known_sentinels.map(|count| count as f64)),
    )
    .by(&["master_name"], MASTERS_MAX),
    gauge(
        "cache_storm_sentinel_known_replicas",
        "Replicas of the master, by the Sentinel that knows most (num-slaves).",
        |cache, out| masters(cache, out, |master| master.known_replicas.map(|count| count as f64)),
    )
    .by(&["master_name"], MASTERS_MAX),
    gauge(
        "cache_storm_sentinel_config_epoch",
        "Largest config-epoch of the master at any Sentinel; grows with every failover.",
        |cache, out| masters(cache, out, |master| master.config_epoch.map(|epoch| epoch as f64)),
    )
    .by(&["master_name"], MASTERS_MAX),
    gauge(
        "cache_storm_cluster_state_ok",
        "1 if every node that answers reports cluster_state ok; absent without a cluster.",
        |cache, out| out.number(cache.topology.cluster.map(|cluster| flag(cluster.state_ok))),
    ),
    gauge(
        "cache_storm_cluster_slots",
        "Slots by state as the most worried node sees them (cluster_slots_ok, cluster_slots_pfail, cluster_slots_fail).",
        |cache, out| {
            let Some(cluster) = cache.topology.cluster else { return };
            let states = [("ok", cluster.slots_ok), ("pfail", cluster.slots_pfail), ("fail", cluster.slots_fail)];
            for (state, count) in states {
                if let Some(count) = count {
                    out.labelled(&[state], count as f64);
                }
            }
        },
    )
    .by(&["state"], 3),
    cluster!(
        "cache_storm_cluster_known_nodes",
        known_nodes,
        "Nodes of the cluster, by the one that knows most (cluster_known_nodes)."
    ),
    cluster!("cache_storm_cluster_masters", size, "Masters with slots, by the node that sees most (cluster_size)."),
    cluster!(
        "cache_storm_cluster_current_epoch",
        current_epoch,
        "Largest epoch that a node knows (cluster_current_epoch); grows with every failover and change of slots."
    ),
];
