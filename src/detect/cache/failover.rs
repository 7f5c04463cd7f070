//! Failovers: promotions that nodes show, and the epoch in which Sentinel says the same. One failover is told by
//! either or by both, in any order.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{CacheDetector, Node};
use crate::detect::verdict::SentinelView;
use crate::model::{NodeName, Role};

/// What Sentinel's config epoch told so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Epochs {
    /// The last one heard.
    last: Option<u64>,
    /// When it rose for a failover of which no node has shown a promotion yet.
    ahead: Option<f64>,
}

impl Epochs {
    /// Whether it rose. A lower one is that of Sentinels set up anew, and begins another count.
    fn rose(&mut self, epoch: u64) -> bool {
        self.last.replace(epoch).is_some_and(|last| epoch > last)
    }

    /// A promotion is seen now: whether the epoch told of this failover at most `within` seconds ago.
    fn told_of_it(&mut self, now: f64, within: f64) -> bool {
        self.ahead.take().is_some_and(|at| now - at <= within)
    }
}

impl CacheDetector {
    /// A promoted replica inherits its shard's past where it has none of its own.
    pub(super) fn promote(&mut self, now: f64, name: &NodeName) {
        let Some((replid, former)) =
            self.nodes.get(name).and_then(Node::latest).map(|sample| (sample.replid.clone(), sample.replid2.clone()))
        else {
            return;
        };
        let heritage = former.as_ref().and_then(|former| {
            let shard = self.nodes.iter().find(|(other, node)| {
                *other != name && node.replid() == Some(former) && node.role() == Some(Role::Master)
            })?;
            Some((shard.1.subject.baseline.clone(), shard.1.traffic.clone()))
        });
        // Every promotion begins a history with a new name: those before belong to the same master.
        for (_, name) in self.failovers.iter_mut().filter(|(_, name)| name.is_some() && *name == former) {
            name.clone_from(&replid);
        }
        if !self.epochs.told_of_it(now, self.durations.failover_match) {
            self.failovers.push((now, replid));
        }
        if let (Some((baseline, traffic)), Some(node)) = (heritage, self.nodes.get_mut(name)) {
            if node.subject.baseline.summary().is_none() {
                node.subject.baseline = baseline;
            }
            if !node.is_eligible() {
                node.traffic = traffic;
            }
        }
    }

    /// A higher epoch is a failover, even where no node has shown a promotion: it explains what becomes of the
    /// group, and the master that Sentinel names has been promoted.
    pub(super) fn heed(&mut self, now: f64, view: &SentinelView) {
        let shown = |(at, _): &(f64, _)| now - at <= self.durations.failover_match;
        if !self.epochs.rose(view.config_epoch) || self.failovers.iter().any(shown) {
            return;
        }
        let named = view.master.as_ref().and_then(|name| self.nodes.get_mut(name));
        let group = match named {
            Some(node) => {
                node.promoted(now, &self.durations);
                node.replid().cloned()
            }
            None => self.replicated_group(),
        };
        let Some(group) = group else { return };
        for node in self.nodes.values_mut().filter(|node| node.replid() == Some(&group)) {
            node.followed_failover = Some(now);
        }
        self.failovers.push((now, Some(group)));
        self.epochs.ahead = Some(now);
    }

    /// The only replication history that a listed replica follows: whom an unknown master belongs to.
    fn replicated_group(&self) -> Option<Arc<str>> {
        let replicas = self.nodes.values().filter(|node| node.role() == Some(Role::Replica));
        let followed: BTreeSet<_> = replicas.filter_map(Node::replid).collect();
        followed.first().filter(|_| followed.len() == 1).map(|group| Arc::clone(group))
    }
}
