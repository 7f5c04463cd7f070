//! How storms begin and how they end, and that they do not end by themselves.

use super::rig::{Rig, node};
use crate::detect::verdict::EndReason;
use crate::model::{FailureReason, Indicator, Role, Severity, StormType};

#[test]
fn a_fall_is_announced_within_two_polls_and_over_when_the_ratio_is_back() {
    let mut rig = Rig::new(3);
    assert_eq!(rig.run(300.0).severity, Severity::None);
    rig.servers[0].hit_ratio = 0.2;
    let storm = rig.until(30.0, |verdict| verdict.affected_nodes == 1);
    let began = storm.time;
    assert_eq!(storm.severity, Severity::Major, "one of three");
    rig.servers[0].hit_ratio = 0.9;
    let over = rig.until(180.0, |verdict| verdict.affected_nodes == 0);
    assert!(over.time - began >= 60.0, "held a minute");
    assert_eq!(rig.end(), Some(EndReason::Recovered));
    assert_eq!(rig.run(600.0).severity, Severity::None);
}

#[test]
fn a_new_normal_is_accepted_after_six_hours_and_stays_accepted() {
    let mut rig = Rig::new(3);
    rig.run(900.0);
    let usual = node(&rig.round(), "n00").signals.hit_ratio_baseline.unwrap();
    rig.servers[0].hit_ratio = 0.4;
    let began = rig.until(60.0, |verdict| verdict.affected_nodes == 1).time;
    assert!(rig.run(3600.0).sustained, "older than half an hour");
    let frozen = node(&rig.round(), "n00").signals.hit_ratio_baseline.unwrap();
    assert!((frozen - usual).abs() < 1e-6, "a storm does not teach");
    let over = rig.until(21_600.0, |verdict| verdict.affected_nodes == 0);
    assert!(over.time - began > 21_000.0 && rig.end() == Some(EndReason::Accepted), "{:?}", rig.end());
    // Its peers still have 0.9: compared with them it would be back in a storm at once.
    for _ in 0..200 {
        assert_eq!(rig.round().affected_nodes, 0);
    }
    assert!((node(&rig.round(), "n00").signals.hit_ratio_baseline.unwrap() - 0.4).abs() < 0.02);
}

#[test]
fn traffic_that_ceases_is_no_recovery() {
    let mut rig = Rig::new(3);
    rig.run(300.0);
    rig.servers[0].hit_ratio = 0.2;
    rig.until(60.0, |verdict| verdict.affected_nodes == 1);
    rig.servers[0].lookups_per_second = 1.0;
    let ceased = rig.now;
    let over = rig.until(400.0, |verdict| verdict.affected_nodes == 0);
    assert!(over.time - ceased >= 300.0);
    assert_eq!(rig.end(), Some(EndReason::NoTraffic));
}

#[test]
fn a_master_that_dies_in_a_storm_is_still_dead_after_five_minutes() {
    let mut rig = Rig::new(3);
    rig.run(300.0);
    rig.servers[0].hit_ratio = 0.2;
    rig.until(60.0, |verdict| verdict.affected_nodes == 1);
    rig.servers[0].down = Some(FailureReason::Refused);
    rig.run(30.0);
    for _ in 0..200 {
        assert_eq!(rig.round().affected_nodes, 1, "at {}", rig.now);
    }
    assert_eq!(rig.detector.episodes().len(), 1);
}

#[test]
fn a_stale_replica_that_is_switched_off_does_not_hold_the_storm_for_ever() {
    let mut rig = Rig::new(3);
    let master = rig.servers[0].sample.replid.clone();
    let replica = &mut rig.servers[2].sample;
    (replica.role, replica.replid) = (Some(Role::Replica), master);
    (replica.link_up, replica.master_offset_bytes) = (Some(true), None);
    rig.run(300.0);
    rig.servers[2].sample.link_up = Some(false);
    let storm = rig.until(60.0, |verdict| verdict.affected_nodes == 1);
    assert!(node(&storm, "n02").indicators.contains(&Indicator::ReplicationLinkDown));
    assert_eq!(storm.storm_types[0].storm_type, StormType::ReplicationLag);
    rig.servers[2].down = Some(FailureReason::Refused);
    rig.until(400.0, |verdict| verdict.affected_nodes == 0);
    assert_eq!(rig.end(), Some(EndReason::NoTraffic));
}

#[test]
fn nodes_that_leave_end_their_part_as_removed() {
    let mut rig = Rig::new(3);
    rig.run(300.0);
    rig.servers[2].hit_ratio = 0.2;
    rig.until(60.0, |verdict| verdict.affected_nodes == 1);
    rig.servers.pop();
    assert_eq!(rig.round().affected_nodes, 0);
    assert_eq!(rig.end(), Some(EndReason::Removed));
}

#[test]
fn a_dead_cache_is_a_storm_and_a_wrong_password_is_none() {
    for (reason, expected) in [
        (FailureReason::Refused, Severity::Critical),
        (FailureReason::Timeout, Severity::Critical),
        (FailureReason::Loading, Severity::Critical),
        (FailureReason::Auth, Severity::None),
        (FailureReason::NoPerm, Severity::None),
    ] {
        let mut rig = Rig::new(3);
        rig.run(300.0);
        rig.servers.iter_mut().for_each(|server| server.down = Some(reason));
        assert_eq!(rig.run(60.0).severity, expected, "{reason}");
    }
}

#[test]
fn a_storm_over_thin_nodes_is_seen_in_their_sum_and_outlives_a_silent_round() {
    let mut rig = Rig::new(40);
    rig.servers.iter_mut().for_each(|server| server.lookups_per_second = 5.0);
    assert_eq!(rig.run(600.0).affected_nodes, 0);
    // All restarted at once: a round without a single counter to compare, and nothing cached afterwards.
    for server in &mut rig.servers {
        server.restart(10);
        server.hit_ratio = 0.1;
    }
    let storm = rig.until(90.0, |verdict| verdict.affected_nodes == 40);
    assert!(storm.nodes.iter().all(|node| node.indicators.contains(&Indicator::HitRatioDrop)));
    rig.servers.iter_mut().for_each(|server| server.lookups_per_second = 0.1);
    rig.until(400.0, |verdict| verdict.affected_nodes == 0);
    assert_eq!(rig.end(), Some(EndReason::NoTraffic), "what the pool ended as");
}
