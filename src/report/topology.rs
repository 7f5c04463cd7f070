//! The topology of a cache in documents.

use serde::{Deserialize, Serialize};

use crate::model::SentinelFlag;
use crate::topology::cluster::ClusterInfo;
use crate::topology::{MasterState, SentinelState, Topology};

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
    pub(super) fn new(topology: &Topology) -> Self {
        let names = |nodes: &[crate::model::NodeName]| nodes.iter().map(ToString::to_string).collect();
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
        }
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
