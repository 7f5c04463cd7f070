//! From the judgement of nodes to the verdict on a cache: signals, evidence, severity, the vote on the type.

use super::classify::Diagnosis;
use super::indicator::{Fall, Reference};
use super::node::Node;
use super::settings::{Context, Settings};
use super::storm;
use super::subject::{Input, Judgement};
use super::verdict::{CacheVerdict, Evidence, NodeVerdict, Signals, TypeVerdict};
use super::words;
use crate::history::WindowStats;
use crate::model::{NodeName, NodeState, Role, Severity, SeverityMode, StormType};
use crate::thresholds::{Threshold, Thresholds};

/// What the cache needs of a node besides its verdict.
#[derive(Debug)]
pub(crate) struct Share {
    /// Lookups and misses per second in ordinary life.
    usual_lookups: f64,
    usual_misses: Option<f64>,
    /// Of affected nodes.
    storm: Option<Part>,
}

/// A node's part in a storm.
#[derive(Debug)]
struct Part {
    onset: f64,
    /// The last normal poll before it.
    last_normal: f64,
    /// The last slice was good.
    recovering: bool,
    provisional: bool,
    /// Its cause, and a second one at work beside it.
    diagnoses: [Option<Diagnosis>; 2],
    /// Keys missing against the usual, and keys gained per second in the window; of masters.
    refill: Option<(f64, f64)>,
}

/// An affected node.
#[derive(Clone, Copy)]
struct Affected<'a> {
    verdict: &'a NodeVerdict,
    usual_lookups: f64,
    part: &'a Part,
}

/// A cache's verdict, and the onset and last normal poll of what is affected.
#[derive(Debug)]
pub(crate) struct Concluded {
    pub(crate) verdict: CacheVerdict,
    pub(crate) onset: Option<(f64, f64)>,
}

/// Puts together what is said of a node. `pool`: the affected pool that this thin node belongs to, if any.
pub(crate) fn judged(
    context: Context<'_>,
    name: &NodeName,
    node: &mut Node,
    input: &Input,
    judgement: Judgement,
    pool: Option<&Judgement>,
    clock_skew_seconds: f64,
) -> (NodeVerdict, Share) {
    let storm = judgement.affected.as_ref().or(pool.and_then(|pool| pool.affected.as_ref()));
    let mut indicators = judgement.indicators;
    indicators.extend(pool.map(|pool| pool.indicators).unwrap_or_default());
    let reference = input.reference;
    let signals = signals(node, judgement.stats.as_ref(), reference.as_ref());
    let object_size_ratio = node.object_size_ratio(storm.is_none());
    let evidence = match storm {
        Some(storm) => {
            let mut evidence = evidence(context, node, storm, &signals, reference.as_ref());
            note(&mut evidence, "object_size_ratio", object_size_ratio.filter(|ratio| *ratio >= 2.0));
            note(&mut evidence, "server_clock_skew_seconds", Some(clock_skew_seconds).filter(|skew| *skew > 1.0));
            evidence
        }
        None => Evidence::new(),
    };
    let own = node.subject.baseline.summary();
    let diagnosis = storm.and_then(|storm| storm.diagnosis);
    let share = Share {
        usual_lookups: own.map_or_else(|| node.traffic.per_second(), |own| own.lookups),
        usual_misses: own.map(|own| own.misses),
        storm: storm.map(|storm| Part {
            onset: storm.onset,
            last_normal: storm.last_normal,
            recovering: storm.recovering,
            provisional: reference.is_some_and(|reference| reference.provisional),
            diagnoses: [diagnosis, storm.second],
            refill: refill(node),
        }),
    };
    let verdict = NodeVerdict {
        node: name.clone(),
        up: node.is_up(),
        down_reason: node.down,
        role: node.role(),
        state: state(node, signals.hit_ratio, context.thresholds),
        judged: judgement.judged || pool.is_some(),
        eligible: node.is_eligible() || storm.is_some(),
        affected: storm.is_some(),
        indicators: indicators.to_vec(),
        storm_type: diagnosis.map(|diagnosis| diagnosis.storm_type),
        confidence: diagnosis.map_or(0.0, |diagnosis| diagnosis.confidence),
        sub_reason: diagnosis.and_then(|diagnosis| diagnosis.sub_reason),
        signals,
        evidence,
    };
    (verdict, share)
}

fn state(node: &Node, hit_ratio: Option<f64>, thresholds: &Thresholds) -> NodeState {
    match hit_ratio {
        _ if !node.is_up() => NodeState::Down,
        None => NodeState::Unknown,
        Some(ratio) if ratio > thresholds.get(Threshold::HealthyHitRatio) => NodeState::Healthy,
        Some(ratio) if ratio >= thresholds.get(Threshold::CriticalHitRatio) => NodeState::Degraded,
        Some(_) => NodeState::Critical,
    }
}

fn signals(node: &Node, stats: Option<&WindowStats>, reference: Option<&Reference>) -> Signals {
    let baseline = &node.subject.baseline;
    let own = baseline.summary();
    let mut signals = Signals {
        hit_ratio_baseline: own.map(|own| own.hit_ratio),
        hit_ratio_baseline_long: baseline.long(),
        commands_per_second_baseline: own.map(|own| own.commands),
        replication_lag_seconds: node.staleness.lag,
        replication_lag_bytes: node.staleness.lag_bytes,
        ..Signals::default()
    };
    if node.is_up() {
        signals.memory_used_ratio = node.latest().and_then(|sample| sample.memory_used_ratio());
    }
    if let Some(stats) = stats {
        signals.hit_ratio = stats.hit_ratio;
        signals.hit_ratio_zscore =
            stats.hit_ratio.zip(reference).map(|(ratio, reference)| Fall::of(ratio, stats.lookups, reference).z);
        signals.lookups_per_second = Some(stats.lookups / stats.seconds);
        signals.misses_per_second = Some(stats.misses);
        // Below one miss a second a factor says nothing about the database.
        signals.miss_amplification = own.map(|own| stats.misses / own.misses.max(1.0));
        signals.commands_per_second = Some(stats.commands);
        signals.evicted_keys_per_second = Some(stats.evicted);
        signals.expired_keys_per_second = Some(stats.expired);
    }
    signals
}

fn note(evidence: &mut Evidence, name: &'static str, value: Option<f64>) {
    debug_assert!(words::evidence(name).is_some(), "not in the list: {name}");
    if let Some(value) = value.filter(|value| value.is_finite()) {
        evidence.push((name, value));
    }
}

fn evidence(
    Context { now, durations, .. }: Context<'_>,
    node: &Node,
    storm: &storm::Affected,
    signals: &Signals,
    reference: Option<&Reference>,
) -> Evidence {
    let balance = &storm.balance;
    let excess = balance.excess(node.subject.baseline.summary());
    let some = |value: f64| Some(value).filter(|value| *value > 0.0);
    let mut found = Evidence::with_capacity(16);
    note(&mut found, "hit_ratio", signals.hit_ratio);
    note(&mut found, "hit_ratio_expected", reference.map(|reference| reference.hit_ratio));
    note(&mut found, "hit_ratio_zscore", signals.hit_ratio_zscore);
    note(&mut found, "evidence_seconds", Some(balance.seconds));
    note(&mut found, "excess_misses", Some(excess.misses));
    note(&mut found, "excess_sets", excess.sets);
    note(&mut found, "keys_before", Some(balance.keys_before));
    note(&mut found, "keys_now", node.latest().and_then(|sample| sample.keys).map(|keys| keys as f64));
    note(&mut found, "keys_expired", some(excess.expired));
    note(&mut found, "keys_evicted", some(excess.evicted));
    note(&mut found, "keys_removed", some(excess.removed));
    note(&mut found, "keys_removed_estimated", balance.removed_estimated.then_some(1.0));
    note(&mut found, "flushed", balance.flushed.then_some(1.0));
    note(&mut found, "writes_refused", some(balance.oom_errors));
    note(&mut found, "memory_used_ratio", balance.memory_used_ratio);
    note(&mut found, "replication_lag_seconds", signals.replication_lag_seconds.and_then(some));
    let restart = node.restart().filter(|restart| restart.t >= storm.last_normal);
    note(
        &mut found,
        "restart_seconds_ago",
        restart.map(|restart| now - restart.t + restart.loading_seconds + restart.uptime),
    );
    note(&mut found, "restart_keys_before", restart.and_then(|restart| restart.keys_before));
    note(&mut found, "restart_replicas_before", restart.and_then(|restart| some(restart.replicas_before)));
    let promoted = node.subject.promoted.map(|at| now - at).filter(|ago| *ago <= durations.failover_span);
    note(&mut found, "promoted_seconds_ago", promoted);
    if let Some(sample) = node.latest() {
        note(&mut found, "fragmentation_ratio", sample.fragmentation_ratio.filter(|ratio| *ratio > 1.5));
        let fresh = sample.connected_clients.map(|clients| balance.connections / clients.max(1) as f64);
        note(&mut found, "new_connections_share", fresh.filter(|share| *share >= 0.5).map(|share| share.min(1.0)));
    }
    found
}

fn refill(node: &Node) -> Option<(f64, f64)> {
    let subject = &node.subject;
    let (usual, stats) = (subject.baseline.summary()?, subject.window.stats()?);
    let first = subject.window.iter().find_map(|delta| delta.keys)?.0;
    let last = subject.window.iter().rev().find_map(|delta| delta.keys)?.1;
    (node.role() == Some(Role::Master)).then_some(((usual.keys - last).max(0.0), (last - first) / stats.seconds))
}

/// Puts the nodes of a cache together. What takes memory beyond the round (lead, episode) is filled in later.
pub(crate) fn cache_verdict(now: f64, nodes: Vec<NodeVerdict>, shares: &[Share], settings: &Settings) -> Concluded {
    let affected: Vec<Affected<'_>> = nodes
        .iter()
        .zip(shares)
        .filter_map(|(verdict, Share { usual_lookups, storm, .. })| {
            Some(Affected { verdict, usual_lookups: *usual_lookups, part: storm.as_ref()? })
        })
        .collect();
    let eligible = || nodes.iter().zip(shares).filter(|(verdict, _)| verdict.eligible);
    // An empty sum of floats is −0.
    let share = |part: f64, whole: f64| if part > 0.0 && whole > 0.0 { part / whole } else { 0.0 };
    let eligible_nodes = eligible().count();
    let affected_share = share(affected.len() as f64, eligible_nodes as f64);
    let affected_share_traffic = share(
        affected.iter().map(|node| node.usual_lookups).sum(),
        eligible().map(|(_, share)| share.usual_lookups).sum(),
    );
    let onset = affected.iter().map(|node| (node.part.onset, node.part.last_normal)).min_by(|a, b| a.0.total_cmp(&b.0));
    let verdict = CacheVerdict {
        time: now,
        severity: severity(affected.len(), affected_share, affected_share_traffic, settings),
        affected_nodes: affected.len(),
        eligible_nodes,
        affected_share,
        affected_share_traffic,
        recovering: !affected.is_empty() && affected.iter().all(|node| node.part.recovering),
        sustained: false,
        provisional: affected.iter().any(|node| node.part.provisional),
        held: false,
        storm_types: vote(&affected),
        leading_type: None,
        started: None,
        loss_exposure: loss_exposure(&nodes, shares),
        refill_eta_seconds: refill_eta_seconds(&affected),
        nodes,
    };
    Concluded { verdict, onset }
}

fn severity(affected: usize, share_nodes: f64, share_traffic: f64, settings: &Settings) -> Severity {
    let share = match settings.severity_mode {
        SeverityMode::Nodes => share_nodes,
        SeverityMode::Traffic => share_traffic,
        SeverityMode::Max => share_nodes.max(share_traffic),
    };
    let reaches = |threshold| share >= settings.thresholds.get(threshold);
    match affected {
        0 => Severity::None,
        _ if reaches(Threshold::SeverityCriticalShare) => Severity::Critical,
        _ if reaches(Threshold::SeverityMajorShare) => Severity::Major,
        _ => Severity::Minor,
    }
}

/// The vote of the affected nodes, weighted by what they cost the database; strongest type first. A node with two
/// causes votes for both.
fn vote(affected: &[Affected<'_>]) -> Vec<TypeVerdict> {
    // A dead node's lookups all miss.
    let weight = |node: &Affected<'_>| node.verdict.signals.misses_per_second.unwrap_or(node.usual_lookups).max(1.0);
    let total: f64 = affected.iter().map(weight).sum();
    let mut types: Vec<TypeVerdict> = Vec::new();
    for storm_type in StormType::ALL {
        let votes = || {
            affected.iter().filter_map(|node| {
                let said = node.part.diagnoses.iter().flatten().find(|said| said.storm_type == *storm_type)?;
                Some((weight(node) * said.confidence, said.sub_reason, node))
            })
        };
        let Some((_, sub_reason, loudest)) = votes().max_by(|a, b| a.0.total_cmp(&b.0)) else { continue };
        types.push(TypeVerdict {
            storm_type: *storm_type,
            confidence: votes().map(|(cast, ..)| cast).sum::<f64>() / total,
            sub_reason,
            evidence: loudest.verdict.evidence.clone(),
        });
    }
    // Stable: equal confidence goes by the order of the table.
    types.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    types
}

/// How many times today's database load arrives if the whole cache is lost.
fn loss_exposure(nodes: &[NodeVerdict], shares: &[Share]) -> Option<f64> {
    let known =
        nodes.iter().zip(shares).filter_map(|(node, share)| node.signals.lookups_per_second.zip(share.usual_misses));
    let (lookups, misses) = known.fold((0.0, 0.0), |sum, (lookups, misses)| (sum.0 + lookups, sum.1 + misses));
    (lookups > 0.0 && misses > 0.0).then(|| lookups / misses)
}

/// Seconds until the affected masters hold as many keys as usual, at the pace of the present window.
fn refill_eta_seconds(affected: &[Affected<'_>]) -> Option<f64> {
    let parts = affected.iter().filter_map(|node| node.part.refill);
    let (missing, growth) = parts.fold((0.0, 0.0), |sum, (missing, growth)| (sum.0 + missing, sum.1 + growth));
    (missing > 0.0 && growth > 0.0).then(|| missing / growth)
}
