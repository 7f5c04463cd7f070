//! The detector of one cache: rounds in, verdicts out.

mod failover;
mod state;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::classify::{Facts, MasterKeys};
use super::conclude::{self, Share};
use super::episode::{Episodes, Lead};
use super::indicator::{Indicators, Reference};
use super::node::{Event, Node};
use super::replication::Offsets;
use super::settings::{Context, Durations, Settings};
use super::subject::{Input, Judgement, Subject};
use super::verdict::{CacheVerdict, EndReason, Episode, NodeVerdict, Observation, Round, Signals};
use crate::history::{Delta, Restart, WindowStats, median};
use crate::model::{Indicator, NodeName, NodeState, Role};
use crate::parse::Sample;
use crate::thresholds::Threshold;
use failover::Epochs;
pub use state::CacheState;

/// The detector of one cache: its memory of every node, and the storm that is on.
#[derive(Debug)]
pub struct CacheDetector {
    settings: Settings,
    durations: Durations,
    nodes: BTreeMap<NodeName, Node>,
    pools: BTreeMap<Role, Subject>,
    /// Promotions seen: when, and the replication history that followed.
    failovers: Vec<(f64, Option<Arc<str>>)>,
    epochs: Epochs,
    rounds: u64,
    lead: Lead,
    episodes: Episodes,
    last: Option<Arc<CacheVerdict>>,
}

/// What every node is judged beside.
struct Surroundings {
    roles: BTreeMap<Role, Peers>,
    /// What nodes of one replication history share, by its number.
    groups: Vec<Group>,
    /// Server clocks of the round differ by this many seconds.
    clock_skew_seconds: f64,
    /// None of the nodes that are read has served its clients for a while.
    none_serves: bool,
}

/// Nodes of one role.
#[derive(Default)]
struct Peers {
    /// Their baseline ratios, and the median of these.
    ratios: Vec<f64>,
    ratio: Option<f64>,
    /// Commands per second of those that answered, ascending.
    commands: Vec<f64>,
    /// Extra misses per second of those whose misses multiplied.
    extra_misses: f64,
    /// Their deltas of the round, summed.
    delta: Option<Delta>,
    /// Verdict on them as if they were one.
    pool: Judgement,
}

/// The replication histories of a round, by `master_replid`.
type GroupNumbers = HashMap<Arc<str>, usize>;

/// Nodes of one replication history: a master and its replicas.
#[derive(Clone, Default)]
struct Group {
    /// Baseline ratios of its members.
    ratios: Vec<f64>,
    /// Its master is affected or down: a stale replica is a consequence.
    master_in_trouble: bool,
    /// A replica was promoted in its master's place.
    succeeded: bool,
    /// What became of its master's keys; while a node of the cache is affected.
    keys: Option<MasterKeys>,
    /// Failovers within an hour.
    failovers: usize,
}

impl Group {
    fn ratio(&self) -> Option<f64> {
        median(&mut self.ratios.clone())
    }
}

impl CacheDetector {
    /// A detector that has seen nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            durations: Durations::of(&settings),
            settings,
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            failovers: Vec::new(),
            epochs: Epochs::default(),
            rounds: 0,
            lead: Lead::default(),
            episodes: Episodes::default(),
            last: None,
        }
    }

    /// Takes new settings; memory and a running storm live on.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.durations = Durations::of(&settings);
        self.settings = settings;
    }

    /// Episodes, newest first, at most 100; the running one is first.
    #[must_use]
    pub fn episodes(&self) -> Arc<[Episode]> {
        self.episodes.list()
    }

    /// Judges one round: what its nodes said, and what Sentinel said of them, if it was asked. `now`: the round's
    /// time, seconds, larger than at the call before. Nodes that are not in `round` have left the cache: they are
    /// forgotten. `isolated`: the exporter suspects its own network; the last verdict holds and nothing is learnt.
    pub fn observe(&mut self, now: f64, isolated: bool, round: impl Into<Round>) -> Arc<CacheVerdict> {
        let Round { nodes, sentinel } = round.into();
        if let (true, Some(last)) = (isolated, &self.last) {
            return Arc::new(hold(CacheVerdict::clone(last), now, &nodes));
        }
        self.rounds += 1;
        self.take_in(now, nodes);
        if let Some(view) = sentinel {
            self.heed(now, &view);
        }
        let left = self.forget_absent();
        let groups = self.number_groups();
        self.follow_masters(now, groups.len());
        self.replace_dead_masters(now);
        let surroundings = self.survey(now, &groups);
        let mut ended = surroundings.roles.values().find_map(|peers| peers.pool.ended).or(left);
        let (verdicts, shares): (Vec<NodeVerdict>, Vec<Share>) = self
            .nodes
            .iter_mut()
            .map(|(name, node)| {
                let context = Context { now, durations: &self.durations, thresholds: &self.settings.thresholds };
                let (judged, node_ended) = judge_node(context, name, node, &surroundings);
                ended = node_ended.or(ended);
                judged
            })
            .unzip();
        let mut verdict = conclude::cache_verdict(now, verdicts, &shares, &self.settings);
        verdict.verdict.leading_type =
            self.lead.follow(now, &verdict.verdict.storm_types, verdict.verdict.affected_nodes == 0, &self.durations);
        let verdict = Arc::new(self.episodes.follow(verdict, ended, &self.durations));
        self.last = Some(Arc::clone(&verdict));
        verdict
    }

    /// Drops nodes that are no longer listed; an affected one ends its part of the storm.
    fn forget_absent(&mut self) -> Option<EndReason> {
        let mut ended = None;
        self.nodes.retain(|_, node| {
            let stays = node.listed == self.rounds;
            if !stays && node.subject.is_affected() {
                ended = Some(EndReason::Removed);
            }
            stays
        });
        ended
    }

    fn take_in(&mut self, now: f64, round: Vec<(NodeName, Observation)>) {
        let mut joined = Vec::new();
        for (name, observation) in round {
            let node = self.nodes.entry(name.clone()).or_default();
            node.listed = self.rounds;
            match observation {
                Observation::Down(reason) => node.miss(reason),
                Observation::Up { sample, hot_key } => match node.take(now, sample, hot_key, &self.durations) {
                    Event::Joined if self.rounds > 1 => joined.push(name),
                    Event::Promoted => self.promote(now, &name),
                    Event::Joined | Event::Nothing => {}
                },
            }
        }
        for name in joined {
            self.welcome(now, &name);
        }
        self.failovers.retain(|(at, _)| now - at <= self.durations.failover_span);
    }

    /// A young node that joins a running cache is compared with what its peers hold.
    fn welcome(&mut self, now: f64, name: &NodeName) {
        let Some(sample) = self.nodes.get(name).and_then(Node::latest) else { return };
        let (Some(uptime), Some(keys), role) = (sample.uptime_seconds, sample.keys, sample.role) else { return };
        if role != Some(Role::Master) || uptime > self.durations.restart_memory || sample.loading {
            return;
        }
        let loaded_nothing = sample.keys_loaded_at_start.map(|loaded| loaded == 0);
        let mut peers: Vec<f64> = self
            .nodes
            .iter()
            .filter(|(other, node)| *other != name && node.role() == role)
            .filter_map(|(_, node)| Some(node.latest()?.keys? as f64))
            .collect();
        let Some(usual) = median(&mut peers) else { return };
        let restart = Restart {
            t: now,
            keys_before: Some(usual),
            keys_after: keys as f64,
            loaded_nothing,
            uptime,
            replicas_before: 0.0,
            loading_seconds: 0.0,
        };
        if let Some(node) = self.nodes.get_mut(name) {
            node.restarted(restart, &self.durations);
        }
    }

    /// Gives every replication history of the round a number, and each node that of its own.
    fn number_groups(&mut self) -> GroupNumbers {
        let mut numbers = GroupNumbers::new();
        for node in self.nodes.values_mut() {
            let next = numbers.len();
            node.group = node.replid().map(|replid| *numbers.entry(Arc::clone(replid)).or_insert(next));
        }
        numbers
    }

    fn follow_masters(&mut self, now: f64, groups: usize) {
        let mut followed = vec![false; groups];
        for node in self.nodes.values().filter(|node| node.role() == Some(Role::Replica)) {
            node.group.into_iter().for_each(|group| followed[group] = true);
        }
        let followed_master =
            |node: &Node| node.group.filter(|group| node.role() == Some(Role::Master) && followed[*group]);
        // Lent for the length of this call: replicas change while they look at their masters. Of two masters of one
        // history the first is followed.
        let mut lent: Vec<Option<Offsets>> = vec![None; groups];
        for node in self.nodes.values_mut() {
            if let Some(group) = followed_master(node)
                && lent[group].is_none()
            {
                lent[group] = Some(std::mem::take(&mut node.offsets));
            }
        }
        for node in self.nodes.values_mut().filter(|node| node.is_up()) {
            let master = node.group.and_then(|group| lent[group].as_ref());
            node.follow(now, master, &self.durations);
        }
        for node in self.nodes.values_mut() {
            if let Some(offsets) = followed_master(node).and_then(|group| lent[group].take()) {
                node.offsets = offsets;
            }
        }
    }

    /// A dead master whose history a living one has gone on with for a while is nobody's master any more.
    fn replace_dead_masters(&mut self, now: f64) {
        if self.nodes.values().all(Node::is_up) {
            return;
        }
        let settled = |node: &Node| {
            node.subject.promoted.is_none_or(|at| now - at >= self.durations.failover_hold)
                && node.is_up()
                && node.role() == Some(Role::Master)
        };
        let continued: HashSet<Arc<str>> = self
            .nodes
            .values()
            .filter(|node| settled(node))
            .filter_map(|node| node.latest()?.replid2.clone())
            .collect();
        for node in self.nodes.values_mut().filter(|node| !node.is_up() && node.role() == Some(Role::Master)) {
            node.replaced |= node.replid().is_some_and(|replid| continued.contains(replid));
        }
    }

    /// Looks at every node once: there are thousands, and each lies far from the next in memory.
    fn survey(&mut self, now: f64, numbers: &GroupNumbers) -> Surroundings {
        let mut roles: BTreeMap<Role, Peers> = BTreeMap::new();
        let (mut with_lookups, mut guarded, mut storm) = (0_usize, 0_usize, false);
        let (mut earliest, mut latest) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut none_serves = true;
        for node in self.nodes.values() {
            none_serves &= !node.is_eligible() || node.is_out(now, &self.durations);
            storm |= node.subject.is_affected();
            if let Some(clock) = node.latest().filter(|_| node.is_up()).and_then(|sample| sample.server_time_seconds) {
                (earliest, latest) = (earliest.min(clock), latest.max(clock));
            }
            let Some(role) = node.role() else { continue };
            let peers = roles.entry(role).or_default();
            peers.ratios.extend(node.subject.baseline.summary().map(|summary| summary.hit_ratio));
            let Some(delta) = node.delta() else { continue };
            peers.delta = Some(peers.delta.map_or(*delta, |sum| sum.plus(delta)));
            if let Some(stats) = node.subject.window.stats() {
                peers.commands.push(stats.commands);
                with_lookups += usize::from(stats.lookups > 0.0);
                if node.subject.guard() {
                    guarded += 1;
                    peers.extra_misses += node.subject.extra_misses();
                }
            }
        }
        // A round without counters (all restarted, all unreachable) must not cost the pool its past.
        self.pools.retain(|role, _| roles.contains_key(role));
        for (role, peers) in &mut roles {
            peers.ratio = median(&mut peers.ratios);
            peers.commands.sort_unstable_by(f64::total_cmp);
            peers.pool = self.judge_pool(now, *role, peers, 2 * guarded < with_lookups, storm);
        }
        let clock_skew_seconds = (latest - earliest).max(0.0);
        Surroundings { roles, groups: self.groups(now, numbers, storm), clock_skew_seconds, none_serves }
    }

    /// The nodes of one role as if they were one: a hundred shards at nine lookups a second are nine hundred to
    /// the database. Always fed, judged only where the nodes themselves are too thin (`pooled`). `storm`: a node is
    /// affected.
    fn judge_pool(&mut self, now: f64, role: Role, peers: &Peers, pooled: bool, storm: bool) -> Judgement {
        let pool = self.pools.entry(role).or_default();
        if let Some(delta) = &peers.delta {
            pool.absorb(delta, &self.durations);
        }
        let expected = self.settings.thresholds.value(Threshold::ExpectedHitRatio);
        let input = Input {
            now,
            present: peers.delta.is_some(),
            reference: Reference::own_or(&pool.baseline, peers.ratio.or(expected)),
            judgeable: pooled || pool.is_affected(),
            eligible: pooled,
            replaced: false,
            frozen: storm,
            foreign: Indicators::default(),
            extra_misses: pool.extra_misses(),
            peers_commands: None,
            facts: Facts { role: Some(role), ..Facts::default() },
        };
        pool.judge(&input, &self.durations, &self.settings.thresholds)
    }

    /// What the nodes of one replication history have in common. `storm`: a node is affected.
    fn groups(&self, now: f64, numbers: &GroupNumbers, storm: bool) -> Vec<Group> {
        let mut groups = vec![Group::default(); numbers.len()];
        for node in self.nodes.values() {
            if let Some(group) = node.group {
                let group = &mut groups[group];
                group.ratios.extend(node.subject.baseline.summary().map(|summary| summary.hit_ratio));
                group.master_in_trouble |=
                    node.role() == Some(Role::Master) && (node.subject.is_affected() || !node.is_up());
                if storm && node.role() == Some(Role::Master) && node.is_up() {
                    group.keys = Some(node.subject.keys(now, &self.durations));
                }
            }
            let promoted = node.subject.promoted.is_some_and(|at| now - at <= self.durations.promotion_memory);
            if promoted && let Some(former) = node.latest().and_then(|sample| numbers.get(sample.replid2.as_ref()?)) {
                groups[*former].succeeded = true;
            }
        }
        for (_, replid) in &self.failovers {
            if let Some(group) = replid.as_ref().and_then(|replid| numbers.get(replid)) {
                groups[*group].failovers += 1;
            }
        }
        groups
    }
}

fn judge_node(
    context: Context<'_>,
    name: &NodeName,
    node: &mut Node,
    around: &Surroundings,
) -> ((NodeVerdict, Share), Option<EndReason>) {
    let Context { now, durations, thresholds } = context;
    let peers = node.role().and_then(|role| around.roles.get(&role));
    let group = node.group.map(|group| &around.groups[group]);
    let lend = || group.and_then(Group::ratio).or_else(|| peers?.ratio);
    let reference = node.reference(lend, thresholds.value(Threshold::ExpectedHitRatio));
    let loading = node.latest().is_some_and(Sample::is_loading);
    let pool = peers.map(|peers| &peers.pool).filter(|pool| pool.affected.is_some());
    let present = node.delta().is_some();
    let stats = node.subject.window.stats().filter(|_| present);
    let input = Input {
        now,
        present,
        reference,
        judgeable: node.is_up() && !loading,
        eligible: node.is_eligible(),
        replaced: node.replaced,
        frozen: loading || pool.is_some(),
        foreign: foreign_indicators(context, node, around.none_serves),
        extra_misses: peers.map_or(0.0, |peers| peers.extra_misses),
        peers_commands: peers.zip(stats).and_then(|(peers, stats)| median_of_others(&peers.commands, stats.commands)),
        facts: facts(context, node, group, stats.as_ref()),
    };
    let judgement = node.subject.judge(&input, durations, thresholds);
    let thin = !node.subject.guard() && stats.is_some_and(|stats| stats.lookups > 0.0);
    let ended = judgement.ended;
    if ended == Some(EndReason::Recovered) {
        node.followed_failover = None;
    }
    (conclude::judged(context, name, node, &input, judgement, pool.filter(|_| thin), around.clock_skew_seconds), ended)
}

/// Indicators that do not come from the node's own lookups.
fn foreign_indicators(Context { now, durations, .. }: Context<'_>, node: &Node, none_serves: bool) -> Indicators {
    let mut found = Indicators::default();
    found.insert_if(node.is_unreachable(now, none_serves, durations), Indicator::Unreachable);
    found.insert_if(node.staleness.lagging, Indicator::ReplicationLag);
    found.insert_if(node.staleness.link_down, Indicator::ReplicationLinkDown);
    let promoted = node.is_up() && node.subject.promoted.is_some_and(|at| now - at <= durations.failover_hold);
    found.insert_if(promoted, Indicator::Failover);
    found
}

fn facts(context: Context<'_>, node: &Node, group: Option<&Group>, stats: Option<&WindowStats>) -> Facts {
    let Context { now, durations, .. } = context;
    let succeeded = group.is_some_and(|group| group.succeeded) && !node.is_up();
    let followed = node.followed_failover.is_some_and(|at| now - at <= durations.promotion_memory);
    Facts {
        role: node.role(),
        promoted: succeeded || followed,
        failovers: group.map_or(0, |group| group.failovers),
        loading: node.is_up() && node.latest().is_some_and(|sample| sample.loading),
        master: group.and_then(|group| group.keys).filter(|_| node.role() == Some(Role::Replica)),
        stale_replica: node.staleness.reason().filter(|_| !group.is_some_and(|group| group.master_in_trouble)),
        young_and_cold: stats.is_some_and(|stats| is_young_and_cold(context, node, stats)),
        ..Facts::default()
    }
}

/// Nothing is known of the time before, the server is young, and it misses nearly everything under load.
fn is_young_and_cold(Context { durations, thresholds, .. }: Context<'_>, node: &Node, stats: &WindowStats) -> bool {
    let young =
        node.latest().and_then(|sample| sample.uptime_seconds).is_some_and(|uptime| uptime <= durations.restart_memory);
    let past_unknown = node.subject.restart.is_none_or(|restart| restart.keys_before.is_none());
    young
        && past_unknown
        && stats.hit_ratio.is_some_and(|ratio| ratio < thresholds.get(Threshold::ColdStartHitRatio))
        && stats.commands > thresholds.get(Threshold::ColdStartCommandsPerSecond)
}

/// Median of all values but one; `None` of fewer than two others. `sorted` ascends and contains `own`.
fn median_of_others(sorted: &[f64], own: f64) -> Option<f64> {
    let others = sorted.len().checked_sub(1).filter(|others| *others >= 2)?;
    let at = sorted.partition_point(|value| *value < own);
    let other = |index: usize| sorted[if index >= at { index + 1 } else { index }];
    Some(if others % 2 == 1 { other(others / 2) } else { f64::midpoint(other(others / 2 - 1), other(others / 2)) })
}

/// While the exporter suspects itself the last verdict stands; only who answered is said anew.
fn hold(mut last: CacheVerdict, now: f64, round: &[(NodeName, Observation)]) -> CacheVerdict {
    last.time = now;
    last.held = true;
    for (name, observation) in round {
        let Some(verdict) = last.nodes.iter_mut().find(|verdict| verdict.node == *name) else { continue };
        match observation {
            Observation::Down(reason) => {
                verdict.up = false;
                verdict.down_reason = Some(*reason);
                verdict.signals = Signals::default();
                verdict.state = NodeState::Down;
            }
            Observation::Up { .. } if !verdict.up => {
                verdict.up = true;
                verdict.down_reason = None;
                verdict.state = NodeState::Unknown;
            }
            Observation::Up { .. } => {}
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_compared_with_the_others_only() {
        assert_eq!(median_of_others(&[1.0, 2.0, 90.0], 90.0), Some(1.5));
        assert_eq!(median_of_others(&[1.0, 2.0, 3.0, 90.0], 1.0), Some(3.0));
        assert_eq!(median_of_others(&[1.0, 2.0], 1.0), None);
    }
}
