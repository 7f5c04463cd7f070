//! What is known of a cache's topology after a round: plain values, no behaviour.

use std::sync::Arc;

use super::cluster::ClusterInfo;
use crate::model::{NodeName, SentinelEvent, SentinelFlag};

/// Who leads, who watches, and what they disagree about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topology {
    /// Failovers seen since the watch began; each is counted once, however many say so.
    pub failovers_total: u64,
    /// Those of the last hour.
    pub failovers_last_hour: u64,
    /// How often within the last hour a master was down and one was there again.
    pub master_flaps_last_hour: u64,
    /// Nodes that claim one master's place at the same time, by name; empty as it should be.
    pub split_brain: Vec<NodeName>,
    /// Nodes and Sentinels that a Sentinel calls down and we reach, or the other way round, by name.
    pub partition_suspected: Vec<NodeName>,
    /// How replicas were brought up to date since the watch began: fully, in part, and in part refused
    /// (a full one follows).
    pub syncs_total: [u64; 3],
    /// Announcements of all Sentinels, in the order of [`SentinelEvent::ALL`].
    pub events_total: [u64; SentinelEvent::ALL.len()],
    /// The Sentinels asked, by name.
    pub sentinels: Vec<SentinelState>,
    /// The masters they watch, by name.
    pub masters: Vec<MasterState>,
    /// The cluster as its most worried node sees it; `None` without one.
    pub cluster: Option<ClusterInfo>,
}

/// One Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelState {
    /// Its address.
    pub sentinel: NodeName,
    /// It answered.
    pub up: bool,
    /// It distrusts its clock; `None` while it is not known.
    pub tilt: Option<bool>,
}

/// One master as all answering Sentinels see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterState {
    /// The name under which it is configured.
    pub name: Arc<str>,
    /// Where they say it is, each place once; more than one is a disagreement.
    pub addresses: Vec<NodeName>,
    /// One of them could fail over (`SENTINEL CKQUORUM`); `None` where none was asked.
    pub quorum_ok: Option<bool>,
    /// The most that one of them knows.
    pub known_sentinels: Option<u64>,
    /// The most that one of them knows.
    pub known_replicas: Option<u64>,
    /// The largest.
    pub config_epoch: Option<u64>,
    /// How many mark it so, in the order of [`SentinelFlag::ALL`].
    pub flags: [usize; SentinelFlag::ALL.len()],
}

impl MasterState {
    /// The Sentinels do not agree about its address.
    #[must_use]
    pub fn disputed(&self) -> bool {
        self.addresses.len() > 1
    }
}
