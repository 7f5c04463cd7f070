//! Families of one node: what the detector sees of it and how it judges it.

use super::{Family, Sink};
use crate::detect::verdict::{NodeVerdict, Signals};
use crate::model::{FailureReason, Indicator, NodeState};
use crate::publish::NodeSnapshot;

/// One node of one cache, as the rows of the table read it.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    /// What the last round learnt.
    pub snapshot: &'a NodeSnapshot,
    /// What the detector makes of it.
    pub verdict: &'a NodeVerdict,
}

/// A family and where its series come from.
#[derive(Debug)]
pub struct NodeRow {
    /// The family.
    pub family: Family,
    /// Puts the node's series of the family into the sink.
    pub read: fn(&NodeView<'_>, &mut Sink<'_>),
}

/// Reasons whose counter exists from the start, so that `rate()` sees the first failure of the two
/// that happen to everyone. The others appear with their first failure.
const EXPECTED_FAILURES: [FailureReason; 2] = [FailureReason::Refused, FailureReason::Timeout];

/// Bound on the reasons of one node, part of its 70 series: a node that has failed in more ways than
/// this shows the first of them in the order of [`FailureReason::ALL`]. A long life in a cluster that
/// restarts its nodes shows five: refused, timeout, loading, dns and io.
const MAX_FAILURE_REASONS: usize = 5;

const fn flag(name: &'static str, help: &'static str, read: fn(&NodeView<'_>, &mut Sink<'_>)) -> NodeRow {
    NodeRow { family: Family::node_gauge(name, help), read }
}

macro_rules! signal {
    ($name:literal, $field:ident, $help:literal) => {
        NodeRow { family: Family::node_gauge($name, $help), read: |node, out| out.number(signals(node).$field) }
    };
}

fn signals<'a>(node: &NodeView<'a>) -> &'a Signals {
    &node.verdict.signals
}

/// Families of one node.
pub const NODE: &[NodeRow] = &[
    flag("cache_storm_node_up", "1 if the node answered in the last round of its cache.", |node, out| {
        out.flag(node.snapshot.up);
    }),
    flag("cache_storm_node_eligible", "1 if the node counts in the denominator of severity.", |node, out| {
        out.flag(node.verdict.eligible);
    }),
    flag("cache_storm_node_affected", "1 if the node takes part in a storm.", |node, out| {
        out.flag(node.verdict.affected);
    }),
    flag(
        "cache_storm_node_judged",
        "1 if the hit ratio was judged; 0 without lookups, with too few, without a baseline, or while loading.",
        |node, out| out.flag(node.verdict.judged),
    ),
    NodeRow {
        family: Family::node_gauge(
            "cache_storm_node_state",
            "1 for the state the node is in by its windowed hit ratio, 0 for the others.",
        )
        .by(&["state"], NodeState::ALL.len()),
        read: |node, out| {
            for state in NodeState::ALL {
                out.labelled(&[state.as_str()], f64::from(u8::from(node.verdict.state == *state)));
            }
        },
    },
    signal!(
        "cache_storm_hit_ratio",
        hit_ratio,
        "Hits ÷ lookups within the window, 0–1 (keyspace_hits, keyspace_misses); absent without lookups."
    ),
    signal!(
        "cache_storm_hit_ratio_baseline",
        hit_ratio_baseline,
        "Median hit ratio of the storm-free slices of the last ten minutes, 0–1."
    ),
    signal!(
        "cache_storm_hit_ratio_baseline_long",
        hit_ratio_baseline_long,
        "Median hit ratio of the last storm-free day, 0–1."
    ),
    signal!(
        "cache_storm_hit_ratio_zscore",
        hit_ratio_zscore,
        "Deviations by which the hit ratio lies below its baseline."
    ),
    signal!(
        "cache_storm_lookups_per_second",
        lookups_per_second,
        "Lookups per second within the window (keyspace_hits + keyspace_misses)."
    ),
    signal!(
        "cache_storm_misses_per_second",
        misses_per_second,
        "Misses per second within the window (keyspace_misses)."
    ),
    signal!(
        "cache_storm_miss_amplification_ratio",
        miss_amplification,
        "Misses per second ÷ their own baseline: how many times its usual misses reach the database."
    ),
    signal!(
        "cache_storm_commands_per_second",
        commands_per_second,
        "Commands per second within the window (total_commands_processed)."
    ),
    signal!(
        "cache_storm_evicted_keys_per_second",
        evicted_keys_per_second,
        "Keys evicted per second within the window (evicted_keys)."
    ),
    signal!(
        "cache_storm_expired_keys_per_second",
        expired_keys_per_second,
        "Keys expired per second within the window (expired_keys); replicas do not expire by themselves."
    ),
    signal!(
        "cache_storm_memory_used_ratio",
        memory_used_ratio,
        "(used_memory − mem_not_counted_for_evict) ÷ maxmemory; absent without a limit."
    ),
    signal!(
        "cache_storm_replication_lag_seconds",
        replication_lag_seconds,
        "Age of a replica's data in seconds, by the offsets of master and replica; absent on masters."
    ),
    NodeRow {
        family: Family::node_gauge(
            "cache_storm_replication_lag_bytes",
            "Bytes of its master's stream that a replica has not got (master_repl_offset − slave_repl_offset); absent on \
             masters.",
        ),
        read: |node, out| out.number(signals(node).replication_lag_bytes.map(|bytes| bytes as f64)),
    },
    NodeRow {
        family: Family::node_gauge(
            "cache_storm_indicator",
            "1 for each named reason why the node looks bad now, 0 for the others.",
        )
        .by(&["indicator"], Indicator::ALL.len()),
        read: |node, out| {
            for indicator in Indicator::ALL {
                let shown = node.verdict.indicators.contains(indicator);
                out.labelled(&[indicator.as_str()], f64::from(u8::from(shown)));
            }
        },
    },
    NodeRow {
        family: Family::node_gauge(
            "cache_storm_node_info",
            "Always 1; role, version and flavor of the server (role, redis_version or valkey_version).",
        )
        .by(&["role", "version", "flavor"], 1),
        read: |node, out| {
            let Some(sample) = &node.snapshot.sample else { return };
            let role = sample.role.map_or("", |role| role.as_str());
            let flavor = sample.flavor.map_or("", |flavor| flavor.as_str());
            out.labelled(&[role, sample.version.as_deref().unwrap_or(""), flavor], 1.0);
        },
    },
    NodeRow {
        family: Family::node_gauge(
            "cache_storm_node_last_poll_timestamp_seconds",
            "When the node last answered, Unix seconds. Polls run at their own pace, not at that of scrapes.",
        ),
        read: |node, out| out.number(node.snapshot.last_poll_unix),
    },
    NodeRow {
        family: Family::node_counter(
            "cache_storm_poll_failures_total",
            "Polls that failed, by reason from a closed set; reasons other than timeout and refused appear with their \
             first failure.",
        )
        .by(&["reason"], MAX_FAILURE_REASONS),
        read: |node, out| {
            let shown = FailureReason::ALL
                .iter()
                .zip(node.snapshot.failures)
                .filter(|(reason, count)| *count > 0 || EXPECTED_FAILURES.contains(reason))
                .take(MAX_FAILURE_REASONS);
            for (reason, count) in shown {
                out.labelled(&[reason.as_str()], count as f64);
            }
        },
    },
];
