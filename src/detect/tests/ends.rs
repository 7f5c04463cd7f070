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
    // Back with most of its keys lost: the same storm goes on.
    (rig.servers[0].down, rig.servers[0].hit_ratio) = (None, 0.4);
    assert!((0..12).all(|_| rig.round().affected_nodes == 1));
    rig.servers[0].hit_ratio = 0.9;
    rig.until(120.0, |verdict| verdict.affected_nodes == 0);
    assert_eq!((rig.detector.episodes().len(), rig.end()), (1, Some(EndReason::Recovered)));
}

#[test]
fn a_ratio_that_hovers_about_the_line_after_a_slow_decline_is_one_storm() {
    let mut rig = Rig::new(3);
    rig.run(7200.0);
    for step in 1..=40 {
        rig.servers.iter_mut().for_each(|server| server.hit_ratio = 0.9 - 0.01 * f64::from(step));
        rig.run(120.0);
    }
    for swing in [0.48, 0.52, 0.49, 0.53, 0.48, 0.51] {
        rig.servers.iter_mut().for_each(|server| server.hit_ratio = swing);
        rig.run(300.0);
    }
    assert_eq!(rig.detector.episodes().len(), 1);
    rig.servers.iter_mut().for_each(|server| server.hit_ratio = 0.6);
    rig.until(120.0, |verdict| verdict.severity == Severity::None);
}

#[test]
fn an_outage_is_over_when_it_is_over_though_the_ratio_lies_just_above_a_line() {
    let mut rig = Rig::new(3);
    rig.run(7200.0);
    for step in 1..=37 {
        rig.servers.iter_mut().for_each(|server| server.hit_ratio = 0.9 - 0.01 * f64::from(step));
        assert_eq!(rig.run(120.0).severity, Severity::None);
    }
    rig.servers[0].down = Some(FailureReason::Refused);
    rig.run(60.0);
    rig.servers[0].down = None;
    rig.until(180.0, |verdict| verdict.severity == Severity::None);
}

#[test]
fn misses_that_came_with_other_nodes_lookups_do_not_keep_a_storm_on() {
    let mut rig = Rig::new(3);
    rig.run(900.0);
    rig.servers[0].hit_ratio = 0.3;
    rig.until(30.0, |verdict| verdict.affected_nodes == 1);
    // Its keys are back, and it serves what another node did before: ten times the lookups, ten times the misses.
    (rig.servers[0].hit_ratio, rig.servers[0].lookups_per_second) = (0.9, 2000.0);
    rig.until(120.0, |verdict| verdict.affected_nodes == 0);
    assert_eq!(rig.end(), Some(EndReason::Recovered));
}

#[test]
fn the_chance_of_few_lookups_does_not_keep_a_new_normal_from_being_accepted() {
    let mut rig = Rig::new(1);
    rig.servers[0].lookups_per_second = 12.0;
    rig.run(1800.0);
    rig.servers[0].hit_ratio = 0.54;
    let began = rig.until(120.0, |verdict| verdict.affected_nodes == 1).time;
    // Windows of 360 lookups, as far apart as chance alone puts some of them in six hours.
    for quarter in 0.. {
        rig.servers[0].hit_ratio = if quarter % 2 == 0 { 0.54 } else { 0.38 };
        if rig.run(900.0).affected_nodes == 0 {
            break;
        }
        assert!(rig.now - began < 23_000.0, "not accepted after six hours");
    }
    assert_eq!(rig.end(), Some(EndReason::Accepted));
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
fn replicas_that_alone_are_read_are_the_cache() {
    let mut rig = Rig::new(3);
    let history = rig.servers[0].sample.replid.clone();
    rig.servers[0].lookups_per_second = 0.0;
    for server in &mut rig.servers[1..] {
        (server.sample.role, server.sample.replid) = (Some(Role::Replica), history.clone());
        (server.sample.link_up, server.sample.master_offset_bytes) = (Some(true), None);
    }
    rig.run(300.0);
    rig.servers[1].down = Some(FailureReason::Refused);
    assert_eq!(rig.run(120.0).severity, Severity::None, "the other one is read instead");
    rig.servers[2].down = Some(FailureReason::Timeout);
    assert_eq!(rig.run(10.0).severity, Severity::None, "a hiccup");
    rig.servers[2].down = None;
    assert_eq!(rig.run(60.0).severity, Severity::None);
    rig.servers[2].down = Some(FailureReason::Refused);
    let storm = rig.until(30.0, |verdict| verdict.severity == Severity::Critical);
    assert!(node(&storm, "n01").indicators.contains(&Indicator::Unreachable) && node(&storm, "n02").affected);
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
