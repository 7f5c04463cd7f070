//! The fixed lists of names that verdicts use. What is read back from a file must be on them; what is not was
//! written by another release and is left out.

use serde::{Deserialize, Deserializer};

use super::verdict::{Evidence, SubReason};

const SUB_REASONS: [&str; 13] = [
    "came_back_empty",
    "data_lag",
    "deletion",
    "flapping",
    "flush",
    "full_sync",
    "key_space_shift",
    "link_down",
    "loading",
    "penetration",
    "skewed_load",
    "stampede",
    "write_refusal",
];

const EVIDENCE: [&str; 24] = [
    "evidence_seconds",
    "excess_misses",
    "excess_sets",
    "flushed",
    "fragmentation_ratio",
    "hit_ratio",
    "hit_ratio_expected",
    "hit_ratio_zscore",
    "keys_before",
    "keys_evicted",
    "keys_expired",
    "keys_now",
    "keys_removed",
    "keys_removed_estimated",
    "memory_used_ratio",
    "new_connections_share",
    "object_size_ratio",
    "promoted_seconds_ago",
    "replication_lag_seconds",
    "restart_keys_before",
    "restart_replicas_before",
    "restart_seconds_ago",
    "server_clock_skew_seconds",
    "writes_refused",
];

/// The sub-reason of that name.
pub(super) fn sub_reason(name: &str) -> SubReason {
    SUB_REASONS.into_iter().find(|known| *known == name)
}

/// The fact of that name.
pub(super) fn evidence(name: &str) -> Option<&'static str> {
    EVIDENCE.into_iter().find(|known| *known == name)
}

pub(super) fn read_sub_reason<'de, D: Deserializer<'de>>(from: D) -> Result<SubReason, D::Error> {
    Ok(Option::<String>::deserialize(from)?.and_then(|name| sub_reason(&name)))
}

pub(super) fn read_evidence<'de, D: Deserializer<'de>>(from: D) -> Result<Evidence, D::Error> {
    let facts = Vec::<(String, f64)>::deserialize(from)?;
    Ok(facts.into_iter().filter_map(|(name, value)| Some((evidence(&name)?, value))).collect())
}
