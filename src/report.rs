//! The documents of `/api/v1/report` and `/api/v1/episodes`, and the report as a table for a terminal.
//!
//! Times are Unix seconds, ratios 0–1. Every key is always present, what is not known is null, nodes
//! are sorted by name. Keys may be added, so readers pass over what they do not know.

mod hotkeys;
mod table;
mod topology;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::detect::verdict::{Episode, NodeVerdict, TypeVerdict};
use crate::model::NodeState;
use crate::publish::{CacheSnapshot, DiscoverySnapshot, FleetSnapshot, NodePlace};
use crate::recommend;
pub use hotkeys::HotKeySamples;
pub use topology::{
    ClusterReport, DiscoveryReport, MasterReport, SentinelReport, ShardReport, TopologyReport, UndiscoveredReport,
};

/// Version of both documents: changes only when a key changes its meaning or goes.
const VERSION: u32 = 1;

/// Most episodes in one document, over all caches.
const MAX_EPISODES: usize = 100;

/// Facts behind a verdict: name → number in base units.
pub type EvidenceDocument = BTreeMap<String, f64>;

/// `/api/v1/report`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// 1.
    pub version: u32,
    /// When it was written, Unix seconds.
    pub time: f64,
    /// Worst severity of all caches, 0–3.
    pub severity: u8,
    /// Nodes by state, over all caches.
    pub health: Health,
    /// Caches, by name.
    pub caches: Vec<CacheReport>,
    /// Caches that are not among them because nobody says which nodes they have, by name.
    #[serde(default)]
    pub undiscovered: Vec<UndiscoveredReport>,
    /// Episodes of all caches, newest first, at most 100.
    pub episodes: Vec<EpisodeReport>,
}

/// Number of nodes by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Above `healthy_hit_ratio`.
    pub healthy: u64,
    /// Between the two.
    pub degraded: u64,
    /// Below `critical_hit_ratio`.
    pub critical: u64,
    /// Up, without lookups to judge by.
    pub unknown: u64,
    /// No answer.
    pub down: u64,
}

/// One cache of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the metrics and verdicts they repeat
pub struct CacheReport {
    pub cache: String,
    pub severity: u8,
    pub severity_name: String,
    pub affected_nodes: u64,
    pub eligible_nodes: u64,
    pub affected_share: f64,
    pub affected_share_traffic: f64,
    pub recovering: bool,
    pub sustained: bool,
    /// The verdict rests on a borrowed baseline.
    pub provisional: bool,
    /// Planned maintenance covers it: no notice is sent.
    pub planned: bool,
    /// Strongest first.
    pub storm_types: Vec<StormTypeReport>,
    /// Onset of the running storm, Unix seconds.
    pub started: Option<f64>,
    pub health: Health,
    /// What to do now; empty without a storm.
    pub recommendations: Vec<String>,
    /// Who leads, who watches, and what they disagree about.
    #[serde(default)]
    pub topology: TopologyReport,
    /// By name.
    pub nodes: Vec<NodeReport>,
}

/// One storm type of a cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the verdicts they repeat
pub struct StormTypeReport {
    pub storm_type: String,
    pub confidence: f64,
    pub sub_reason: Option<String>,
    pub evidence: EvidenceDocument,
}

/// One node of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the metrics and verdicts they repeat
pub struct NodeReport {
    pub node: String,
    pub up: bool,
    pub down_reason: Option<String>,
    pub role: Option<String>,
    /// The master and replicas it belongs to, where that is discovered.
    pub shard: Option<String>,
    pub state: String,
    pub judged: bool,
    pub affected: bool,
    pub storm_type: Option<String>,
    pub confidence: f64,
    pub indicators: Vec<String>,
    pub hit_ratio: Option<f64>,
    pub hit_ratio_baseline: Option<f64>,
    pub lookups_per_second: Option<f64>,
    pub misses_per_second: Option<f64>,
    pub commands_per_second: Option<f64>,
    pub evicted_keys_per_second: Option<f64>,
    pub expired_keys_per_second: Option<f64>,
    pub memory_used_ratio: Option<f64>,
    pub replication_lag_seconds: Option<f64>,
    pub replication_lag_bytes: Option<u64>,
    pub evidence: EvidenceDocument,
}

/// `/api/v1/episodes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episodes {
    /// 1.
    pub version: u32,
    /// Newest first, at most 100.
    pub episodes: Vec<EpisodeReport>,
}

/// One storm, running or past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the episode's own fields
pub struct EpisodeReport {
    /// Unique in the document: cache and onset.
    pub id: String,
    pub cache: String,
    pub onset: f64,
    pub announced: f64,
    /// Null while it goes on, as are the reason and the duration.
    pub ended: Option<f64>,
    pub end_reason: Option<String>,
    pub peak_severity: u8,
    pub leading_type: String,
    pub storm_types: Vec<EpisodeTypeReport>,
    pub sub_reason: Option<String>,
    pub nodes: Vec<String>,
    pub affected_nodes_max: u64,
    /// From the last normal poll to the announcement.
    pub detection_delay_seconds: f64,
    /// From onset to end.
    pub duration_seconds: Option<f64>,
    pub evidence: EvidenceDocument,
    pub recommendations: Vec<String>,
}

/// When a type was seen in an episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the episode's own fields
pub struct EpisodeTypeReport {
    pub storm_type: String,
    pub first: f64,
    pub last: f64,
    pub confidence: f64,
}

impl Report {
    /// The fleet as of `now_unix`, Unix seconds.
    #[must_use]
    pub fn new(fleet: &FleetSnapshot, now_unix: f64) -> Self {
        let discovery = |cache: &CacheSnapshot| fleet.discovery.get(&cache.cache).map(|discovery| &**discovery);
        let caches: Vec<CacheReport> =
            fleet.caches.values().map(|cache| CacheReport::new(cache, discovery(cache))).collect();
        Self {
            version: VERSION,
            time: now_unix,
            severity: caches.iter().map(|cache| cache.severity).max().unwrap_or(0),
            health: Health::sum(caches.iter().map(|cache| cache.health)),
            caches,
            undiscovered: undiscovered(fleet),
            episodes: episodes(fleet),
        }
    }

    /// Exit code of the command `report`: the worst severity, 0–3.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.severity.min(3)
    }

    /// The report for a terminal: one line per cache and per node, then what to do.
    #[must_use]
    pub fn to_table(&self) -> String {
        table::render(self)
    }
}

impl Episodes {
    /// Episodes of every cache.
    #[must_use]
    pub fn new(fleet: &FleetSnapshot) -> Self {
        Self { version: VERSION, episodes: episodes(fleet) }
    }
}

impl Health {
    fn of<'a>(nodes: impl IntoIterator<Item = &'a NodeVerdict>) -> Self {
        let mut health = Self::default();
        for node in nodes {
            *match node.state {
                NodeState::Healthy => &mut health.healthy,
                NodeState::Degraded => &mut health.degraded,
                NodeState::Critical => &mut health.critical,
                NodeState::Unknown => &mut health.unknown,
                NodeState::Down => &mut health.down,
            } += 1;
        }
        health
    }

    fn sum(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self::default(), |sum, next| Self {
            healthy: sum.healthy + next.healthy,
            degraded: sum.degraded + next.degraded,
            critical: sum.critical + next.critical,
            unknown: sum.unknown + next.unknown,
            down: sum.down + next.down,
        })
    }
}

impl CacheReport {
    fn new(cache: &CacheSnapshot, discovery: Option<&DiscoverySnapshot>) -> Self {
        let verdict = &cache.verdict;
        let place = |index: usize| cache.nodes.get(index).and_then(|node| node.place.as_deref());
        Self {
            cache: cache.cache.to_string(),
            severity: verdict.severity.ordinal(),
            severity_name: verdict.severity.to_string(),
            affected_nodes: verdict.affected_nodes as u64,
            eligible_nodes: verdict.eligible_nodes as u64,
            affected_share: verdict.affected_share,
            affected_share_traffic: verdict.affected_share_traffic,
            recovering: verdict.recovering,
            sustained: verdict.sustained,
            provisional: verdict.provisional,
            planned: cache.planned,
            storm_types: verdict.storm_types.iter().map(StormTypeReport::new).collect(),
            started: verdict.started.map(|started| started + cache.detector_to_unix),
            health: Health::of(&verdict.nodes),
            recommendations: owned(recommend::for_cache(verdict)),
            topology: TopologyReport::new(cache, discovery),
            nodes: verdict.nodes.iter().enumerate().map(|(index, node)| NodeReport::new(node, place(index))).collect(),
        }
    }
}

impl StormTypeReport {
    fn new(verdict: &TypeVerdict) -> Self {
        Self {
            storm_type: verdict.storm_type.to_string(),
            confidence: verdict.confidence,
            sub_reason: verdict.sub_reason.map(str::to_owned),
            evidence: evidence(&verdict.evidence),
        }
    }
}

impl NodeReport {
    fn new(verdict: &NodeVerdict, place: Option<&NodePlace>) -> Self {
        let signals = &verdict.signals;
        Self {
            node: verdict.node.to_string(),
            up: verdict.up,
            down_reason: verdict.down_reason.map(|reason| reason.to_string()),
            role: verdict.role.map(|role| role.to_string()),
            shard: place.and_then(|place| place.shard.as_deref()).map(str::to_owned),
            state: verdict.state.to_string(),
            judged: verdict.judged,
            affected: verdict.affected,
            storm_type: verdict.storm_type.map(|storm_type| storm_type.to_string()),
            confidence: verdict.confidence,
            indicators: verdict.indicators.iter().map(ToString::to_string).collect(),
            hit_ratio: signals.hit_ratio,
            hit_ratio_baseline: signals.hit_ratio_baseline,
            lookups_per_second: signals.lookups_per_second,
            misses_per_second: signals.misses_per_second,
            commands_per_second: signals.commands_per_second,
            evicted_keys_per_second: signals.evicted_keys_per_second,
            expired_keys_per_second: signals.expired_keys_per_second,
            memory_used_ratio: signals.memory_used_ratio,
            replication_lag_seconds: signals.replication_lag_seconds,
            replication_lag_bytes: signals.replication_lag_bytes,
            evidence: evidence(&verdict.evidence),
        }
    }
}

impl EpisodeReport {
    fn new(cache: &CacheSnapshot, episode: &Episode) -> Self {
        let unix = |time: f64| time + cache.detector_to_unix;
        Self {
            id: format!("{}/{}", cache.cache, episode.id),
            cache: cache.cache.to_string(),
            onset: unix(episode.onset),
            announced: unix(episode.announced),
            ended: episode.ended.map(unix),
            end_reason: episode.end_reason.map(|reason| reason.as_str().to_owned()),
            peak_severity: episode.peak_severity.ordinal(),
            leading_type: episode.leading_type.to_string(),
            storm_types: episode
                .storm_types
                .iter()
                .map(|seen| EpisodeTypeReport {
                    storm_type: seen.storm_type.to_string(),
                    first: unix(seen.first),
                    last: unix(seen.last),
                    confidence: seen.confidence,
                })
                .collect(),
            sub_reason: episode.sub_reason.map(str::to_owned),
            nodes: episode.nodes.iter().map(ToString::to_string).collect(),
            affected_nodes_max: episode.affected_nodes_max as u64,
            detection_delay_seconds: episode.announced - episode.last_normal,
            duration_seconds: episode.ended.map(|ended| ended - episode.onset),
            evidence: evidence(&episode.evidence),
            recommendations: owned(recommend::for_storm(episode.leading_type, episode.sub_reason)),
        }
    }
}

/// Caches without a round because looks for their nodes have failed from the first on.
pub(crate) fn undiscovered(fleet: &FleetSnapshot) -> Vec<UndiscoveredReport> {
    let failing = fleet.discovery.iter().filter(|(cache, state)| !state.up() && !fleet.caches.contains_key(*cache));
    failing
        .map(|(cache, state)| UndiscoveredReport { cache: cache.to_string(), discovery: DiscoveryReport::new(state) })
        .collect()
}

fn episodes(fleet: &FleetSnapshot) -> Vec<EpisodeReport> {
    let mut episodes: Vec<EpisodeReport> = fleet
        .caches
        .values()
        .flat_map(|cache| cache.episodes.iter().map(|episode| EpisodeReport::new(cache, episode)))
        .collect();
    episodes.sort_by(|a, b| b.onset.total_cmp(&a.onset));
    episodes.truncate(MAX_EPISODES);
    episodes
}

/// JSON has no NaN: such a fact is left out.
fn evidence(facts: &[(&'static str, f64)]) -> EvidenceDocument {
    facts.iter().filter(|(_, value)| value.is_finite()).map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

fn owned(advice: impl IntoIterator<Item = &'static str>) -> Vec<String> {
    advice.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::fixture;

    fn report() -> Report {
        Report::new(&fixture::publisher().fleet(), fixture::ROUND_UNIX)
    }

    fn keys(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn every_key_of_the_contract_is_there_even_where_nothing_is_known() {
        let report = serde_json::to_value(report()).unwrap();
        assert_eq!(keys(&report), sorted("version time severity health caches undiscovered episodes"));
        assert_eq!(keys(&report["health"]), sorted("healthy degraded critical unknown down"));
        let cache = &report["caches"][0];
        assert_eq!(
            keys(cache),
            sorted(
                "cache severity severity_name affected_nodes eligible_nodes affected_share affected_share_traffic \
                 recovering sustained provisional planned storm_types started health recommendations topology nodes"
            )
        );
        assert_eq!(
            keys(&cache["topology"]),
            sorted(
                "failovers_total failovers_last_hour master_flaps_last_hour syncs_total split_brain partition_suspected sentinels \
                 masters cluster shards discovery"
            )
        );
        assert_eq!(cache["topology"]["masters"][0]["flags"], serde_json::json!(["s_down"]));
        assert_eq!(keys(&cache["storm_types"][0]), sorted("storm_type confidence sub_reason evidence"));
        let down = &cache["nodes"][2];
        assert_eq!(
            keys(down),
            sorted(
                "node up down_reason role shard state judged affected storm_type confidence indicators hit_ratio \
                 hit_ratio_baseline lookups_per_second misses_per_second commands_per_second \
                 evicted_keys_per_second expired_keys_per_second memory_used_ratio replication_lag_seconds \
                 replication_lag_bytes evidence"
            )
        );
        assert_eq!(down["hit_ratio"], serde_json::Value::Null);
        assert_eq!(
            keys(&report["episodes"][0]),
            sorted(
                "id cache onset announced ended end_reason peak_severity leading_type storm_types sub_reason nodes \
                 affected_nodes_max detection_delay_seconds duration_seconds evidence recommendations"
            )
        );
    }

    fn sorted(keys: &str) -> Vec<&str> {
        let mut keys: Vec<&str> = keys.split_whitespace().collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn times_are_unix_and_counts_add_up() {
        let report = report();
        assert_eq!((report.severity, report.exit_code()), (2, 2));
        assert_eq!(report.health, Health { critical: 1, unknown: 1, down: 1, ..Health::default() });
        assert_eq!(report.caches[0].started, Some(fixture::ROUND_UNIX - 30.0));
        let [running, past] = &report.episodes[..] else { panic!("two episodes") };
        assert_eq!((running.ended, running.detection_delay_seconds), (None, 10.0));
        assert_eq!((past.duration_seconds, past.end_reason.as_deref()), (Some(120.0), Some("recovered")));
        assert!(running.onset > past.onset && past.onset == fixture::ROUND_UNIX - 4000.0);
    }

    #[test]
    fn a_report_is_read_back_and_unknown_keys_are_passed_over() {
        let mut value = serde_json::to_value(report()).unwrap();
        value["caches"][0]["weather"] = "fine".into();
        assert_eq!(serde_json::from_value::<Report>(value).unwrap(), report());
    }
}
