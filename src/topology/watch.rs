//! The memory of one cache's topology, and what each round makes of it.

mod disputes;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cluster::ClusterInfo;
use super::event::Event;
use super::sentinel::{Instance, MASTERS_MAX, MasterView, SentinelReport};
use super::state::{MasterState, SentinelState, Topology};
use crate::model::{FailureReason, NodeName, Role, SentinelEvent, SentinelFlag};
use crate::parse::Sample;
use disputes::{Disputes, Opinion};
use turns::Turns;

/// What one round learnt of one node.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    /// Its name.
    pub node: &'a NodeName,
    /// What it said; `None` while it is down.
    pub sample: Option<&'a Sample>,
    /// Why it is down.
    pub down: Option<FailureReason>,
    /// What it says of its cluster, if it is in one.
    pub cluster: Option<ClusterInfo>,
}

/// What one round learnt of a cache.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// The round's time, seconds that never jump.
    pub now: f64,
    /// Its nodes.
    pub nodes: &'a [NodeFacts<'a>],
    /// Its Sentinels; `None` of one that did not answer.
    pub sentinels: &'a [(NodeName, Option<SentinelReport>)],
    /// What they announced since the round before, in order.
    pub events: &'a [Event],
}

/// Memory of one cache's topology.
#[derive(Debug, Default)]
pub struct Watch {
    nodes: BTreeMap<NodeName, Known>,
    turns: Turns,
    disputes: Disputes,
    syncs_total: [u64; 3],
    events_total: [u64; SentinelEvent::ALL.len()],
}

/// Rounds in a row without an answer from which a server that may only be slow, or we, counts as down.
const SILENT_ROUNDS: u32 = 2;

/// What is remembered of a node.
#[derive(Debug, Clone, Default)]
struct Known {
    role: Option<Role>,
    silent_rounds: u32,
    /// Down to its clients, until it answers.
    down: bool,
    run_id: Option<Arc<str>>,
    syncs: Option<[u64; 3]>,
    /// The master, by its configured name, that a Sentinel last counted it to.
    shard: Option<Arc<str>>,
}

impl Known {
    /// Where nobody listens, and where one starts, the server was gone. Any other silence may be a late answer.
    fn follow(&mut self, failure: Option<FailureReason>) {
        let felt = failure.filter(|reason| reason.clients_feel());
        self.silent_rounds = if felt.is_some() { self.silent_rounds.saturating_add(1) } else { 0 };
        let gone = matches!(felt, Some(FailureReason::Refused | FailureReason::Loading));
        self.down = felt.is_some() && (self.down || gone || self.silent_rounds >= SILENT_ROUNDS);
    }
}

impl Watch {
    /// Takes in one round.
    pub fn observe(&mut self, round: &Round<'_>) -> Topology {
        self.turns.forget_before(round.now);
        self.hear(round);
        self.assign(round);
        self.follow_epochs(round);
        self.follow_nodes(round);
        self.follow_health(round);
        Topology {
            failovers_total: self.turns.failovers_total(),
            failovers_last_hour: self.turns.failovers_last_hour(),
            master_flaps_last_hour: self.turns.flaps_last_hour(),
            split_brain: self.split_brain(round),
            partition_suspected: self.disputes.settle(round.now, opinions(round)),
            syncs_total: self.syncs_total,
            events_total: self.events_total,
            sentinels: round.sentinels.iter().map(sentinel_state).collect(),
            masters: masters(round),
            cluster: round.nodes.iter().filter_map(|node| node.cluster).reduce(ClusterInfo::worse),
        }
    }

    /// Announcements fill what happened between the polls.
    fn hear(&mut self, round: &Round<'_>) {
        for event in round.events {
            self.events_total[event.kind as usize] += 1;
            let Some(master) = &event.master else { continue };
            match event.kind {
                SentinelEvent::SwitchMaster => self.turns.failover(round.now, master, None),
                SentinelEvent::Down => self.turns.down(round.now, master, &event.sentinel, true),
                SentinelEvent::Up => self.turns.down(round.now, master, &event.sentinel, false),
                _ => {}
            }
        }
    }

    /// Which master's name each node belongs to, as far as any Sentinel says.
    fn assign(&mut self, round: &Round<'_>) {
        let listed: BTreeSet<&str> = round.nodes.iter().map(|node| node.node.as_str()).collect();
        self.nodes.retain(|name, _| listed.contains(name.as_str()));
        let views: Vec<&MasterView> = views(round).map(|(_, view)| view).collect();
        for node in round.nodes {
            let known = self.nodes.entry(node.node.clone()).or_default();
            let owner = views.iter().find(|view| instances(view).any(|instance| is_of(instance, node)));
            if let Some(owner) = owner {
                known.shard = Some(Arc::clone(&owner.name));
            }
        }
        let named: BTreeSet<&str> = views.iter().map(|view| &*view.name).collect();
        // While no Sentinel answers, nothing says that a name is gone.
        if !views.is_empty() || round.sentinels.is_empty() {
            self.turns.retain(|name| named.contains(name) || listed.contains(name));
        }
    }

    fn follow_epochs(&mut self, round: &Round<'_>) {
        for (_, view) in views(round) {
            if let Some(epoch) = view.config_epoch {
                self.turns.epoch(round.now, &view.name, epoch);
            }
        }
    }

    /// A replica that is a master in the same life was promoted.
    fn follow_nodes(&mut self, round: &Round<'_>) {
        for node in round.nodes {
            let (Some(sample), Some(known)) = (node.sample, self.nodes.get_mut(node.node)) else { continue };
            let same_life = known.run_id == sample.run_id;
            let promoted = same_life && known.role == Some(Role::Replica) && sample.role == Some(Role::Master);
            if let (true, Some(before), Some(counts)) = (same_life, known.syncs, sample.syncs) {
                for (total, (before, count)) in self.syncs_total.iter_mut().zip(before.into_iter().zip(counts)) {
                    // A counter that was set back starts anew.
                    *total += count.checked_sub(before).unwrap_or(count);
                }
            }
            known.syncs = sample.syncs;
            known.run_id.clone_from(&sample.run_id);
            known.role = sample.role;
            if promoted {
                let key = known.shard.clone().unwrap_or_else(|| Arc::from(node.node.as_str()));
                self.turns.failover(round.now, &key, None);
            }
        }
    }

    /// Who says that which master is down now: each Sentinel of those it watches, we of those we poll.
    fn follow_health(&mut self, round: &Round<'_>) {
        for node in round.nodes {
            if let Some(known) = self.nodes.get_mut(node.node) {
                // One that loads answers us, and nobody else.
                let loading = node.sample.filter(|sample| sample.loading).map(|_| FailureReason::Loading);
                known.follow(node.down.or(loading));
            }
        }
        let is_down = |node: &NodeFacts<'_>| self.nodes.get(node.node).is_some_and(|known| known.down);
        let mut said: BTreeMap<Arc<str>, BTreeMap<NodeName, bool>> = BTreeMap::new();
        for (sentinel, view) in views(round) {
            said.entry(Arc::clone(&view.name)).or_default().insert(sentinel.clone(), view.instance.is_down());
            let polled = round.nodes.iter().find(|node| is_of(&view.instance, node));
            if let Some(node) = polled {
                said.entry(Arc::clone(&view.name)).or_default().insert(node.node.clone(), is_down(node));
            }
        }
        for node in round.nodes {
            let Some(known) = self.nodes.get(node.node) else { continue };
            if known.shard.is_none() && known.role == Some(Role::Master) {
                let name = Arc::from(node.node.as_str());
                said.entry(name).or_default().insert(node.node.clone(), is_down(node));
            }
        }
        for (master, said) in said {
            self.turns.settle(round.now, &master, said);
        }
    }

    /// Masters that stand in one place: under one name, or where one left the history that the other goes on with.
    fn split_brain(&self, round: &Round<'_>) -> Vec<NodeName> {
        let mut claims: BTreeMap<Arc<str>, BTreeSet<NodeName>> = BTreeMap::new();
        let masters: Vec<(&NodeFacts<'_>, &Sample)> = round
            .nodes
            .iter()
            .filter_map(|node| Some((node, node.sample?)))
            .filter(|(_, sample)| sample.role == Some(Role::Master))
            .collect();
        for (node, sample) in &masters {
            if let Some(shard) = self.nodes.get(node.node).and_then(|known| known.shard.clone()) {
                claims.entry(shard).or_default().insert(node.node.clone());
            }
            let leads = |former: &Arc<str>| masters.iter().find(|(_, other)| other.replid.as_ref() == Some(former));
            let left = sample.replid2.as_ref().and_then(leads);
            if let (Some((left, _)), Some(history)) = (left, &sample.replid2) {
                claims.entry(Arc::clone(history)).or_default().extend([node.node.clone(), left.node.clone()]);
            }
        }
        // A master that is not polled counts where a Sentinel has lately heard it say so.
        for (_, view) in views(round) {
            let polled = round.nodes.iter().any(|node| is_of(&view.instance, node));
            let alive = !view.instance.is_down() && !view.instance.has(SentinelFlag::Disconnected);
            if !polled && alive && view.instance.reported == Some(Role::Master) {
                claims.entry(Arc::clone(&view.name)).or_default().insert(view.instance.address.clone());
            }
        }
        let several: BTreeSet<NodeName> = claims.into_values().filter(|nodes| nodes.len() > 1).flatten().collect();
        several.into_iter().collect()
    }
}

/// Every master of every Sentinel that answered.
fn views<'a>(round: &Round<'a>) -> impl Iterator<Item = (&'a NodeName, &'a MasterView)> + use<'a> {
    let answered = round.sentinels.iter().filter_map(|(sentinel, report)| Some((sentinel, report.as_ref()?)));
    answered.flat_map(|(sentinel, report)| report.masters.iter().map(move |view| (sentinel, view)))
}

fn instances(view: &MasterView) -> impl Iterator<Item = &Instance> {
    std::iter::once(&view.instance).chain(&view.replicas)
}

/// By address, or by the name of its life where the two of us know it under different addresses.
fn is_of(instance: &Instance, node: &NodeFacts<'_>) -> bool {
    let same_life = instance.run_id.is_some() && node.sample.is_some_and(|sample| sample.run_id == instance.run_id);
    instance.address == *node.node || same_life
}

fn sentinel_state((sentinel, report): &(NodeName, Option<SentinelReport>)) -> SentinelState {
    let tilt = report.as_ref().and_then(|report| report.tilt);
    SentinelState { sentinel: sentinel.clone(), up: report.is_some(), tilt }
}

fn masters(round: &Round<'_>) -> Vec<MasterState> {
    let mut masters: BTreeMap<&str, MasterState> = BTreeMap::new();
    for (_, view) in views(round) {
        let master = masters.entry(&view.name).or_insert_with(|| MasterState {
            name: Arc::clone(&view.name),
            addresses: Vec::new(),
            quorum_ok: None,
            known_sentinels: None,
            known_replicas: None,
            config_epoch: None,
            flags: [0; SentinelFlag::ALL.len()],
        });
        if !master.addresses.contains(&view.instance.address) {
            master.addresses.push(view.instance.address.clone());
        }
        master.quorum_ok = master.quorum_ok.max(view.quorum_ok);
        master.known_sentinels = master.known_sentinels.max(view.known_sentinels);
        master.known_replicas = master.known_replicas.max(view.known_replicas);
        master.config_epoch = master.config_epoch.max(view.config_epoch);
        for flag in &view.instance.flags {
            master.flags[*flag as usize] += 1;
        }
    }
    masters.into_values().take(MASTERS_MAX).collect()
}

/// What Sentinels say of every node and of each other, beside what we see.
fn opinions(round: &Round<'_>) -> BTreeMap<NodeName, Opinion> {
    let mut opinions: BTreeMap<NodeName, Opinion> = BTreeMap::new();
    let mut ask = |name: &NodeName, reached: Option<bool>, instance: &Instance, silence: Option<f64>| {
        let Some(reached) = reached else { return };
        let opinion = opinions.entry(name.clone()).or_insert_with(|| Opinion::of(reached));
        opinion.hear(instance, silence.unwrap_or_default());
    };
    for (_, view) in views(round) {
        for instance in instances(view) {
            let Some(node) = round.nodes.iter().find(|node| is_of(instance, node)) else { continue };
            // Who turns us away for a password may well be up for others.
            let reached = match node.down {
                None => Some(true),
                Some(reason) => reason.clients_feel().then_some(false),
            };
            ask(node.node, reached, instance, view.down_after_seconds);
        }
        for instance in &view.sentinels {
            let asked = round.sentinels.iter().find(|(sentinel, report)| {
                let id = report.as_ref().and_then(|report| report.id.as_ref());
                *sentinel == instance.address || id.is_some() && id == instance.run_id.as_ref()
            });
            if let Some((sentinel, report)) = asked {
                ask(sentinel, Some(report.is_some()), instance, view.down_after_seconds);
            }
        }
    }
    opinions
}

#[cfg(test)]
mod tests;
