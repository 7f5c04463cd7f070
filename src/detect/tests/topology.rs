//! Replicas, promotions, moving slots.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rig::{Rig, node, settings};
use crate::detect::settings::Settings;
use crate::detect::verdict::SentinelView;
use crate::model::{FailureReason, Indicator, Role, Severity, StormType};
use crate::thresholds::Threshold;

/// A master `n00` with its replica `n01`, and another master.
pub(super) fn pair(settings: Settings) -> Rig {
    let mut rig = Rig::with(3, settings);
    let history = rig.servers[0].sample.replid.clone();
    let replica = &mut rig.servers[1].sample;
    (replica.role, replica.replid, replica.link_up) = (Some(Role::Replica), history, Some(true));
    rig.run(300.0);
    rig
}

/// Master and replica swap places; the new history gets the name `history`.
pub(super) fn fail_over(rig: &mut Rig, from: usize, to: usize, history: &str) {
    let former = rig.servers[from].sample.replid.clone();
    for index in [from, to] {
        let sample = &mut rig.servers[index].sample;
        sample.replid = Some(Arc::from(history));
        sample.replid2.clone_from(&former);
        sample.role = Some(if index == to { Role::Master } else { Role::Replica });
        sample.link_up = (index == from).then_some(true);
        sample.replica_offset_bytes = None;
    }
}

#[test]
fn failovers_of_one_master_add_up_though_each_begins_a_history_of_its_own() {
    let mut rig = pair(Settings::default());
    for (failover, (from, to)) in [(0, 1), (1, 0), (0, 1)].into_iter().enumerate() {
        rig.run(120.0);
        fail_over(&mut rig, from, to, &format!("history-{failover}"));
        let name = rig.servers[to].name.clone();
        let storm = rig.until(30.0, |verdict| node(verdict, name.as_str()).affected);
        let promoted = node(&storm, name.as_str());
        assert_eq!(promoted.storm_type, Some(StormType::FailoverCascade));
        assert_eq!(promoted.sub_reason, (failover == 2).then_some("flapping"), "failover {failover}");
    }
}

#[test]
fn a_sentinel_that_never_answers_is_down_and_no_storm() {
    let mut rig = Rig::new(3);
    rig.servers[2].down = Some(FailureReason::Refused);
    let verdict = rig.run(600.0);
    assert_eq!((verdict.severity, verdict.eligible_nodes), (Severity::None, 2));
    assert!(!node(&verdict, "n02").up);
}

fn says(rig: &mut Rig, config_epoch: u64, master: &str) {
    rig.sentinel = Some(SentinelView { config_epoch, master: Some(master.into()) });
}

#[test]
fn a_promotion_and_sentinels_word_of_it_are_one_failover() {
    // Sentinel speaks some polls before, in the same round, some polls after; or another minute later.
    for (word, failovers) in [(-4_i32, 1), (0, 1), (4, 1), (20, 2)] {
        let mut rig = pair(settings(Threshold::FailoversPerHour, 2.0));
        says(&mut rig, 7, "n00");
        rig.run(60.0);
        let mut reasons = BTreeSet::new();
        for poll in -10..30 {
            if poll == 0 {
                fail_over(&mut rig, 0, 1, "history-2");
            }
            if poll == word {
                says(&mut rig, 8, "n01");
            }
            let verdict = rig.round();
            let node = node(&verdict, "n01");
            if node.storm_type == Some(StormType::FailoverCascade) {
                reasons.insert(node.sub_reason);
            }
        }
        let expected = [None, Some("flapping")].into_iter().take(failovers).collect();
        assert_eq!(reasons, expected, "word {word} polls after");
    }
}

#[test]
fn sentinels_word_alone_is_a_failover_of_the_master_it_names() {
    let mut rig = pair(Settings::default());
    says(&mut rig, 7, "n00");
    assert_eq!(rig.run(60.0).affected_nodes, 0, "the first epoch heard is no failover");
    rig.sentinel = None;
    assert_eq!(rig.run(60.0).affected_nodes, 0, "silence is none");
    says(&mut rig, 9, "n00");
    let storm = rig.until(30.0, |verdict| verdict.affected_nodes > 0);
    assert_eq!(node(&storm, "n00").storm_type, Some(StormType::FailoverCascade));
    assert!(node(&storm, "n00").indicators.contains(&Indicator::Failover));
    assert_eq!(storm.affected_nodes, 1);
    rig.until(300.0, |verdict| verdict.affected_nodes == 0);
    says(&mut rig, 1, "n00");
    assert_eq!(rig.run(60.0).affected_nodes, 0, "Sentinels that were set up anew count from the start");
}

#[test]
fn a_master_that_sentinel_cannot_name_explains_its_group_and_accuses_nobody() {
    let mut rig = pair(Settings::default());
    for epoch in [7, 8] {
        says(&mut rig, epoch, "10.9.9.9:6379");
        assert_eq!(rig.run(30.0).affected_nodes, 0);
    }
    rig.servers[0].hit_ratio = 0.2;
    rig.servers[2].hit_ratio = 0.2;
    let storm =
        rig.until(60.0, |verdict| verdict.nodes.iter().all(|node| node.affected == (node.node.as_str() != "n01")));
    assert_eq!(node(&storm, "n00").storm_type, Some(StormType::FailoverCascade));
    assert_ne!(node(&storm, "n02").storm_type, Some(StormType::FailoverCascade), "another group");
}

#[test]
fn a_replica_names_the_flush_it_repeated() {
    let mut rig = pair(Settings::default());
    for server in &mut rig.servers[..2] {
        server.sample.keys = Some(500);
        server.sample.flush_calls = Some(1);
        server.hit_ratio = 0.1;
    }
    let storm = rig.until(30.0, |verdict| verdict.affected_nodes == 2);
    for name in ["n00", "n01"] {
        assert_eq!(node(&storm, name).storm_type, Some(StormType::MassInvalidation), "{name}");
        assert_eq!(node(&storm, name).sub_reason, Some("flush"), "{name}");
    }
}

#[test]
fn keys_that_arrive_with_their_slots_are_no_new_key_space() {
    for (migrates, expected) in [(false, Some("key_space_shift")), (true, None)] {
        let mut rig = Rig::new(3);
        rig.run(300.0);
        rig.servers[0].hit_ratio = 0.5;
        rig.servers[0].expired_per_second = Some(20.0);
        for _ in 0..6 {
            let server = &mut rig.servers[0].sample;
            // Every extra miss stores a key that was not there before.
            server.keys = server.keys.map(|keys| keys + 400);
            server.migration_calls = server.migration_calls.map(|calls| calls + u64::from(migrates));
            rig.round();
        }
        assert_eq!(node(&rig.round(), "n00").sub_reason, expected, "migrates: {migrates}");
    }
}

#[test]
fn a_dead_master_is_let_go_once_another_has_its_place() {
    let mut rig = pair(Settings::default());
    rig.servers[0].down = Some(FailureReason::Refused);
    rig.run(10.0);
    let promoted = &mut rig.servers[1].sample;
    promoted.replid2 = promoted.replid.replace(Arc::from("history-of-the-next"));
    (promoted.role, promoted.link_up) = (Some(Role::Master), None);
    let storm = rig.run(30.0);
    assert!(node(&storm, "n00").indicators.contains(&Indicator::Unreachable), "{storm:#?}");
    assert_eq!(node(&storm, "n00").storm_type, Some(StormType::FailoverCascade));
    let after = rig.until(60.0, |verdict| !node(verdict, "n00").affected);
    assert!(node(&after, "n00").indicators.is_empty() && !node(&after, "n00").eligible);
    let calm = rig.run(300.0);
    assert_eq!(calm.affected_nodes, 0, "though it never came back");
    // It does. While it loads its data set it is nobody's master still; then it is judged as anyone else.
    rig.servers[0].down = None;
    rig.servers[0].restart(0);
    rig.servers[0].sample.loading = true;
    assert_eq!(rig.run(120.0).affected_nodes, 0);
    rig.servers[0].sample.loading = false;
    rig.run(10.0);
    assert!(node(&rig.round(), "n00").eligible);
}

#[test]
fn a_master_that_came_back_empty_before_anyone_took_over_is_named_so() {
    for (replicas, sub_reason) in [(1, Some("came_back_empty")), (0, None)] {
        let mut rig = pair(Settings::default());
        rig.servers[0].sample.connected_replicas = Some(replicas);
        rig.round();
        rig.servers[0].restart(0);
        rig.servers[0].hit_ratio = 0.1;
        let storm = rig.until(30.0, |verdict| node(verdict, "n00").affected);
        let master = node(&storm, "n00");
        assert_eq!((master.storm_type, master.sub_reason), (Some(StormType::ColdStart), sub_reason));
        let counted = master.evidence.iter().find(|(name, _)| *name == "restart_replicas_before");
        assert_eq!(counted.map(|(_, count)| *count), (replicas > 0).then_some(1.0));
    }
}
