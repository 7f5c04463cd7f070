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
    pub(crate) fn new(topology: &Topology) -> Self {
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

    /// What somebody should know of it, in a line; `None` if all is as it should be.
    pub(crate) fn remark(&self) -> Option<String> {
        let mut remarks = Vec::new();
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

    #[test]
    fn a_remark_names_what_is_wrong_and_nothing_else() {
        assert_eq!(TopologyReport::default().remark(), None);
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
            ..TopologyReport::default()
        };
        let expected = "split brain: a:1, b:1 all claim to be the master; Sentinels have no quorum for m; Sentinels \
                        disagree where m is: a:1, b:1; failovers in the last hour: 2";
        assert_eq!(topology.remark().as_deref(), Some(expected));
    }
}
