//! What the detector is told each round and what it answers: plain values, no behaviour.

use serde::{Deserialize, Serialize};

use super::words;
use crate::model::{FailureReason, Indicator, NodeName, NodeState, Role, Severity, StormType};
use crate::parse::Sample;

/// Hottest key of a bounded sample of a node's accesses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HotKeySample {
    /// Share of the accesses that went to the hottest key, 0–1.
    pub share: f64,
    /// Accesses in the sample.
    pub accesses: u64,
    /// Share of the accesses to the hottest key that write it, 0–1; `None` where that is not counted.
    pub write_ratio: Option<f64>,
}

/// What one round learnt of one node.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// The node answered.
    Up {
        /// What it said.
        sample: Box<Sample>,
        /// A sample of its accesses, if one was just taken.
        hot_key: Option<HotKeySample>,
    },
    /// The node gave no usable answer before the round closed.
    Down(FailureReason),
}

/// What a Sentinel says of the master it watches, beside what the nodes say themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelView {
    /// `config-epoch` of `SENTINEL MASTER`: rises with every failover. Where several Sentinels were asked, the
    /// highest: one that lags behind would make it fall, and the next rise look like another failover.
    pub config_epoch: u64,
    /// The master it names, as the cache's nodes are named; `None` where it is not known.
    pub master: Option<NodeName>,
}

/// One round of a cache: what the detector is shown at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Round {
    /// What was learnt of each node; a node that is not here has left the cache.
    pub nodes: Vec<(NodeName, Observation)>,
    /// What Sentinel says; `None` where there is none, or where none answered: nothing follows from that.
    pub sentinel: Option<SentinelView>,
}

impl From<Vec<(NodeName, Observation)>> for Round {
    /// A round of a cache that no Sentinel watches.
    fn from(nodes: Vec<(NodeName, Observation)>) -> Self {
        Self { nodes, sentinel: None }
    }
}

/// The facts behind a verdict: names from a fixed list, numbers in base units.
pub type Evidence = Vec<(&'static str, f64)>;

/// Finer cause, from a fixed list. An alias, because serde takes a written-out `&'static str` for one that
/// borrows from what it reads.
pub type SubReason = Option<&'static str>;

/// Windowed signals of a node. `None` is "not known", never 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Hits ÷ lookups within the window, 0–1.
    pub hit_ratio: Option<f64>,
    /// Median of the storm-free slices of the last ten minutes, 0–1.
    pub hit_ratio_baseline: Option<f64>,
    /// Median of the ten-minute medians of the last day, 0–1.
    pub hit_ratio_baseline_long: Option<f64>,
    /// How many deviations the ratio lies below its baseline.
    pub hit_ratio_zscore: Option<f64>,
    /// Lookups per second within the window.
    pub lookups_per_second: Option<f64>,
    /// Misses per second within the window.
    pub misses_per_second: Option<f64>,
    /// Misses per second ÷ their baseline.
    pub miss_amplification: Option<f64>,
    /// Commands per second within the window, as the server counts them.
    pub commands_per_second: Option<f64>,
    /// Its median over the storm-free slices of the last ten minutes.
    pub commands_per_second_baseline: Option<f64>,
    /// Evicted keys per second within the window.
    pub evicted_keys_per_second: Option<f64>,
    /// Expired keys per second within the window.
    pub expired_keys_per_second: Option<f64>,
    /// Memory in use ÷ limit; `None` without a limit.
    pub memory_used_ratio: Option<f64>,
    /// Age of a replica's data, seconds.
    pub replication_lag_seconds: Option<f64>,
    /// Bytes of its master's stream that a replica has not got; `None` without a known master.
    pub replication_lag_bytes: Option<u64>,
}

/// Verdict on one node in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeVerdict {
    /// The node's name.
    pub node: NodeName,
    /// It answered in this round.
    pub up: bool,
    /// Why it did not.
    pub down_reason: Option<FailureReason>,
    /// Its role, as last heard.
    pub role: Option<Role>,
    /// Its condition by the hit ratio.
    pub state: NodeState,
    /// Its ratio was judged; false without lookups, with too few, without a baseline, or loading.
    pub judged: bool,
    /// It counts in the denominator of severity.
    pub eligible: bool,
    /// It takes part in a storm (confirmed, not merely suspected).
    pub affected: bool,
    /// Reasons true in this round, in the order of [`Indicator::ALL`].
    pub indicators: Vec<Indicator>,
    /// Cause, for affected nodes.
    pub storm_type: Option<StormType>,
    /// How sure the type is, 0–1; 0 when not affected.
    pub confidence: f64,
    /// Finer cause, from a fixed list: `stampede`, `penetration`, `key_space_shift`, `skewed_load`, `flapping`, …
    #[serde(deserialize_with = "words::read_sub_reason")]
    pub sub_reason: SubReason,
    /// Windowed signals.
    pub signals: Signals,
    /// Facts behind the verdict; empty when nothing is wrong.
    #[serde(deserialize_with = "words::read_evidence")]
    pub evidence: Evidence,
}

/// One storm type of a cache, strongest first in [`CacheVerdict::storm_types`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeVerdict {
    /// The type.
    pub storm_type: StormType,
    /// 0–1: the affected nodes' vote, weighted by their misses.
    pub confidence: f64,
    /// Finer cause.
    #[serde(deserialize_with = "words::read_sub_reason")]
    pub sub_reason: SubReason,
    /// Facts of the node that speaks loudest for it.
    #[serde(deserialize_with = "words::read_evidence")]
    pub evidence: Evidence,
}

/// How an episode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The signals came back to their baseline.
    Recovered,
    /// Traffic ceased; not a recovery.
    NoTraffic,
    /// The affected nodes left the cache, or another took their place; not a recovery.
    Removed,
    /// Six hours at a steady ratio: the new normal.
    Accepted,
}

impl EndReason {
    /// The reason as it appears in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::NoTraffic => "no_traffic",
            Self::Removed => "removed",
            Self::Accepted => "accepted",
        }
    }
}

/// When a type was seen in an episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeType {
    /// The type.
    pub storm_type: StormType,
    /// First time it was named, in detector time.
    pub first: f64,
    /// Last time.
    pub last: f64,
    /// Largest confidence.
    pub confidence: f64,
}

/// One storm of one cache. Times are detector time: Unix seconds that never jump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Unique within the cache: the onset in milliseconds.
    pub id: u64,
    /// First abnormal poll.
    pub onset: f64,
    /// Last poll before it that was normal.
    pub last_normal: f64,
    /// When the first node became affected.
    pub announced: f64,
    /// When the last node recovered; `None` while it goes on.
    pub ended: Option<f64>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// Largest severity so far.
    pub peak_severity: Severity,
    /// The type in the lead.
    pub leading_type: StormType,
    /// Every type named, strongest first.
    pub storm_types: Vec<EpisodeType>,
    /// Finer cause of the leading type.
    #[serde(deserialize_with = "words::read_sub_reason")]
    pub sub_reason: SubReason,
    /// Every node that took part, by name.
    pub nodes: Vec<NodeName>,
    /// Largest number of nodes affected at once.
    pub affected_nodes_max: usize,
    /// Facts behind the leading type.
    #[serde(deserialize_with = "words::read_evidence")]
    pub evidence: Evidence,
}

/// Verdict on a cache in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheVerdict {
    /// Time of the round.
    pub time: f64,
    /// How much of the cache is affected.
    pub severity: Severity,
    /// Nodes that take part in the storm.
    pub affected_nodes: usize,
    /// Nodes in the denominator.
    pub eligible_nodes: usize,
    /// Affected ÷ eligible nodes; 0 without eligible nodes.
    pub affected_share: f64,
    /// Baseline lookups per second of affected ÷ those of eligible nodes.
    pub affected_share_traffic: f64,
    /// A storm is on, but the last full slice of every affected node was good.
    pub recovering: bool,
    /// The storm is older than 30 minutes.
    pub sustained: bool,
    /// A verdict rests on a borrowed baseline.
    pub provisional: bool,
    /// The exporter suspects itself: severity holds its last value.
    pub held: bool,
    /// Types of the running storm, strongest first.
    pub storm_types: Vec<TypeVerdict>,
    /// Type in the lead, once announced; `None` without a storm.
    pub leading_type: Option<StormType>,
    /// Onset of the running storm, detector time.
    pub started: Option<f64>,
    /// Lookups per second ÷ baseline misses per second: how many times today's database load arrives if this cache is lost.
    pub loss_exposure: Option<f64>,
    /// Missing keys ÷ net insert rate, seconds.
    pub refill_eta_seconds: Option<f64>,
    /// Verdicts by node, sorted by name.
    pub nodes: Vec<NodeVerdict>,
}
