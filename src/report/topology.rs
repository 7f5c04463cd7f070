//! The topology of a cache in documents.

use serde::{Deserialize, Serialize};

use crate::model::{NodeName, SentinelFlag};
use crate::publish::{CacheSnapshot, DiscoverySnapshot, Shard, shards};
use crate::topology::cluster::ClusterInfo;
use crate::topology::{MasterState, SentinelState};

/// Shards named in a remark; the others are counted.
const SHARDS_NAMED: usize = 3;

/// Who leads, who watches, and what they disagree about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // named as the metrics they repeat
pub struct TopologyReport {
    pub failovers_total: u64,
    pub failovers_last_hour: u64,
    pub master_flaps_last_hour: u64,
    /// How often replicas were brought up to date: fully, in part, and in part refused.
    pub syncs_total: [u64; 3],
    /// Nodes that claim one master's place; empty as it should be.
    pub split_brain: Vec<String>,
    /// Nodes and Sentinels that one side reaches and another does not.
    pub partition_suspected: Vec<String>,
    /// By name; empty without Sentinels.
    pub sentinels: Vec<SentinelReport>,
    /// By name; empty without Sentinels.
    pub masters: Vec<MasterReport>,
    /// Null without a cluster.
    pub cluster: Option<ClusterReport>,
    /// By name; empty where nodes are listed, or found without saying what belongs together.
    pub shards: Vec<ShardReport>,
    /// Null where nodes are listed.
    pub discovery: Option<DiscoveryReport>,
}

/// A master and its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the metrics they repeat
pub struct ShardReport {
    pub shard: String,
    /// `ok`, `no_replica` or `no_master`.
    pub state: String,
    /// The master that answers.
    pub master: Option<String>,
    pub nodes: u64,
    pub nodes_up: u64,
    /// Slots that it owns; null without a cluster.
    pub slots: Option<u64>,
}

/// How the search for the nodes goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the metrics they repeat
pub struct DiscoveryReport {
    /// `cluster`, `sentinel`, `dns` or `file`.
    pub source: String,
    pub up: bool,
    /// Since when it fails, Unix seconds; null while it does not.
    pub failing_since: Option<f64>,
    /// Who could not be asked in the last look, and why. While it is up, others could.
    pub faults: Vec<String>,
    /// Unix seconds; null if it never succeeded.
    pub last_success: Option<f64>,
    /// Found then.
    pub nodes: u64,
}

/// A cache of which no node was ever found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // it is what its name says
pub struct UndiscoveredReport {
    pub cache: String,
    pub discovery: DiscoveryReport,
}

/// One Sentinel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the metrics they repeat
pub struct SentinelReport {
    pub sentinel: String,
    pub up: bool,
    pub tilt: Option<bool>,
}

/// One master as the Sentinels see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the metrics they repeat
pub struct MasterReport {
    pub name: String,
    /// Each place that a Sentinel names; more than one is a disagreement.
    pub addresses: Vec<String>,
    pub quorum_ok: Option<bool>,
    pub known_sentinels: Option<u64>,
    pub known_replicas: Option<u64>,
    pub config_epoch: Option<u64>,
    /// What a Sentinel marks it with.
    pub flags: Vec<String>,
}

/// The cluster as its most worried node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as the metrics they repeat
pub struct ClusterReport {
    pub state_ok: bool,
    pub slots_ok: Option<u64>,
    pub slots_pfail: Option<u64>,
    pub slots_fail: Option<u64>,
    pub known_nodes: Option<u64>,
    pub masters: Option<u64>,
    pub current_epoch: Option<u64>,
}

impl TopologyReport {
    pub(crate) fn new(cache: &CacheSnapshot, discovery: Option<&DiscoverySnapshot>) -> Self {
        let topology = &cache.topology;
        let names = |nodes: &[NodeName]| nodes.iter().map(ToString::to_string).collect();
        Self {
            failovers_total: topology.failovers_total,
            failovers_last_hour: topology.failovers_last_hour,
            master_flaps_last_hour: topology.master_flaps_last_hour,
            syncs_total: topology.syncs_total,
            split_brain: names(&topology.split_brain),
            partition_suspected: names(&topology.partition_suspected),
            sentinels: topology.sentinels.iter().map(SentinelReport::new).collect(),
            masters: topology.masters.iter().map(MasterReport::new).collect(),
            cluster: topology.cluster.map(ClusterReport::new),
            shards: shards(&cache.nodes).iter().map(ShardReport::new).collect(),
            discovery: discovery.map(DiscoveryReport::new),
        }
    }

    /// What somebody should know of it at `now`, Unix seconds, in a line; `None` if all is as it should be.
    pub(crate) fn remark(&self, now: f64) -> Option<String> {
        let mut remarks = Vec::new();
        if let Some(failing) = self.discovery.as_ref().and_then(|discovery| discovery.remark(now)) {
            remarks.push(format!("{failing}; the last known nodes are polled"));
        }
        let headless: Vec<&ShardReport> = self.shards.iter().filter(|shard| shard.master.is_none()).collect();
        if !headless.is_empty() {
            let named: Vec<String> = headless.iter().take(SHARDS_NAMED).map(|shard| shard.named()).collect();
            let more = headless.len() - named.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            remarks.push(format!("no master answers in {}{more}", named.join(", ")));
        }
        if !self.split_brain.is_empty() {
            remarks.push(format!("split brain: {} all claim to be the master", self.split_brain.join(", ")));
        }
        if !self.partition_suspected.is_empty() {
            remarks.push(format!("network partition suspected at {}", self.partition_suspected.join(", ")));
        }
        for MasterReport { name, addresses, quorum_ok, .. } in &self.masters {
            if *quorum_ok == Some(false) {
                remarks.push(format!("Sentinels have no quorum for {name}"));
            }
            if addresses.len() > 1 {
                remarks.push(format!("Sentinels disagree where {name} is: {}", addresses.join(", ")));
            }
        }
        if self.failovers_last_hour > 0 {
            remarks.push(format!("failovers in the last hour: {}", self.failovers_last_hour));
        }
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

impl ShardReport {
    fn new(shard: &Shard<'_>) -> Self {
        Self {
            shard: shard.name.to_owned(),
            state: shard.state().to_string(),
            master: shard.master.map(ToString::to_string),
            nodes: shard.nodes as u64,
            nodes_up: shard.nodes_up as u64,
            slots: shard.slots,
        }
    }

    /// `shard NAME (5461 slots)`.
    fn named(&self) -> String {
        let slots = self.slots.map(|slots| format!(" ({slots} slots)")).unwrap_or_default();
        format!("shard {}{slots}", self.shard)
    }
}

impl DiscoveryReport {
    pub(crate) fn new(discovery: &DiscoverySnapshot) -> Self {
        Self {
            source: discovery.source.to_owned(),
            up: discovery.up(),
            failing_since: discovery.failing_since_unix,
            faults: discovery.faults.clone(),
            last_success: discovery.last_success_unix,
            nodes: discovery.nodes as u64,
        }
    }

    /// That it fails, for how long at `now`, and why; `None` if it does not.
    pub(crate) fn remark(&self, now: f64) -> Option<String> {
        let seconds = (now - self.failing_since?).max(0.0);
        Some(format!("discovery ({}) has failed for {seconds:.0} s: {}", self.source, self.faults.join(", ")))
    }
}

impl SentinelReport {
    fn new(state: &SentinelState) -> Self {
        Self { sentinel: state.sentinel.to_string(), up: state.up, tilt: state.tilt }
    }
}

impl MasterReport {
    fn new(state: &MasterState) -> Self {
        let marked = SentinelFlag::ALL.iter().zip(state.flags).filter(|(_, count)| *count > 0);
        Self {
            name: state.name.to_string(),
            addresses: state.addresses.iter().map(ToString::to_string).collect(),
            quorum_ok: state.quorum_ok,
            known_sentinels: state.known_sentinels,
            known_replicas: state.known_replicas,
            config_epoch: state.config_epoch,
            flags: marked.map(|(flag, _)| flag.to_string()).collect(),
        }
    }
}

impl ClusterReport {
    fn new(cluster: ClusterInfo) -> Self {
        let ClusterInfo { state_ok, slots_ok, slots_pfail, slots_fail, known_nodes, size, current_epoch } = cluster;
        Self { state_ok, slots_ok, slots_pfail, slots_fail, known_nodes, masters: size, current_epoch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(name: &str, master: Option<&str>) -> ShardReport {
        ShardReport {
            shard: name.into(),
            state: String::new(),
            master: master.map(str::to_owned),
            nodes: 2,
            nodes_up: 1,
            slots: Some(5461),
        }
    }

    #[test]
    fn a_remark_names_what_is_wrong_and_nothing_else() {
        assert_eq!(TopologyReport::default().remark(0.0), None);
        let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let master = MasterReport {
            name: "m".into(),
            addresses: names(["a:1", "b:1"]),
            quorum_ok: Some(false),
            known_sentinels: None,
            known_replicas: None,
            config_epoch: None,
            flags: Vec::new(),
        };
        let topology = TopologyReport {
            split_brain: names(["a:1", "b:1"]),
            masters: vec![master],
            failovers_last_hour: 2,
            shards: vec![shard("5f", None), shard("6a", Some("a:1"))],
            discovery: Some(DiscoveryReport {
                source: "sentinel".into(),
                up: false,
                failing_since: Some(100.0),
                faults: vec!["s:26379: connection refused".into()],
                last_success: Some(90.0),
                nodes: 2,
            }),
            ..TopologyReport::default()
        };
        let expected = "discovery (sentinel) has failed for 42 s: s:26379: connection refused; the last known nodes are \
                        polled; no master answers in shard 5f (5461 slots); split brain: a:1, b:1 all claim to be the master; Sentinels have no quorum for m; Sentinels \
                        disagree where m is: a:1, b:1; failovers in the last hour: 2";
        assert_eq!(topology.remark(142.0).as_deref(), Some(expected));
        let headless = TopologyReport { shards: vec![shard("5f", None); 5], ..TopologyReport::default() };
        assert!(headless.remark(0.0).unwrap().ends_with("shard 5f (5461 slots) and 2 more"));
    }
}
