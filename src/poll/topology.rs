//! What one cache's rounds and Sentinels make of its topology.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::cache::Shared;
use super::round::Nodes;
use super::sentinels::{Question, Sentinels};
use crate::detect::verdict::SentinelView;
use crate::events;
use crate::model::{CacheName, NodeName};
use crate::topology::sentinel::SentinelReport;
use crate::topology::{Round, Topology, Watch};

/// Rounds that a Sentinel may leave out before it counts as silent.
const ROUNDS_MISSED_MAX: u32 = 2;

/// The topology of one cache, as its rounds go on.
#[derive(Debug)]
pub(super) struct TopologyWatch {
    sentinels: Sentinels,
    question: Option<Question>,
    watch: Watch,
    latest: Arc<Topology>,
    /// Told when it changes.
    moved: Arc<Notify>,
}

impl TopologyWatch {
    /// `moved` is notified when the topology changes, and when a Sentinel announces it.
    pub(super) fn new(moved: Arc<Notify>) -> Self {
        let sentinels = Sentinels::new(Arc::clone(&moved));
        Self { sentinels, question: None, watch: Watch::default(), latest: Arc::default(), moved }
    }

    /// Takes in a round; Sentinels among the nodes are watched. While the exporter suspects its own network nothing
    /// is concluded.
    pub(super) fn follow(
        &mut self,
        shared: &Arc<Shared>,
        question: Question,
        nodes: &Nodes,
        now: f64,
        isolated: bool,
    ) -> Arc<Topology> {
        let patience = ROUNDS_MISSED_MAX * question.poll.interval + question.poll.timeout;
        let cache = question.cache.clone();
        if self.question.as_ref() != Some(&question) {
            self.sentinels = Sentinels::new(Arc::clone(&self.moved));
            self.question = Some(question.clone());
        }
        self.sentinels.follow(shared, &question, nodes.sentinels().cloned().collect());
        if !isolated {
            self.conclude(&cache, nodes, now, patience);
        }
        Arc::clone(&self.latest)
    }

    fn conclude(&mut self, cache: &CacheName, nodes: &Nodes, now: f64, patience: Duration) {
        let (mut reports, events) = self.sentinels.hear(patience);
        // A Sentinel that answers INFO and nothing else is better than none.
        let told: BTreeMap<&NodeName, SentinelReport> = nodes.told_by_sentinels().collect();
        for (sentinel, report) in reports.iter_mut().filter(|(_, report)| report.is_none()) {
            *report = told.get(sentinel).cloned();
            let asked_for = self.question.as_ref().and_then(|question| question.master.as_ref());
            if let (Some(report), Some(master)) = (report, asked_for) {
                report.masters.retain(|told| told.name == *master);
            }
        }
        let facts: Vec<_> = nodes.facts().collect();
        let round = Round { now, nodes: &facts, sentinels: &reports, events: &events };
        let topology = self.watch.observe(&round);
        announce(cache, &self.latest, &topology);
        if leadership(&topology) != leadership(&self.latest) {
            self.moved.notify_one();
        }
        self.latest = Arc::new(topology);
    }
}

/// What the detector is told of it: the epoch of the one master that the Sentinels watch.
pub(super) fn sentinel_view(topology: &Topology) -> Option<SentinelView> {
    let [master] = topology.masters.as_slice() else { return None };
    let address = (!master.disputed()).then(|| master.addresses.first().cloned()).flatten();
    Some(SentinelView { config_epoch: master.config_epoch?, master: address })
}

/// What another look for the nodes may depend on.
fn leadership(topology: &Topology) -> (u64, &[NodeName], Vec<&[NodeName]>) {
    let addresses = topology.masters.iter().map(|master| master.addresses.as_slice()).collect();
    (topology.failovers_total, &topology.split_brain, addresses)
}

fn announce(cache: &CacheName, before: &Topology, now: &Topology) {
    if now.failovers_total > before.failovers_total {
        events::failover_seen(cache, now.failovers_last_hour);
    }
    if now.split_brain != before.split_brain {
        events::split_brain_changed(cache, &now.split_brain);
    }
    if now.partition_suspected != before.partition_suspected {
        events::partition_changed(cache, &now.partition_suspected);
    }
}
