//! Causes: seen, named, and told apart. One on a node is named alone; of two at once both are, the stronger first.

use super::rig::{Rig, Server, node};
use crate::detect::settings::Settings;
use crate::model::{Indicator, Role, Severity, StormType};

/// What is named of a storm in which so many keys a second expire and are evicted, in a full memory. Twenty misses,
/// refills and expiries a second are usual.
fn named(expired: f64, evicted: f64) -> Vec<StormType> {
    let mut rig = Rig::new(3);
    for server in &mut rig.servers {
        server.sample.maxmemory_bytes = Some(1000);
        server.sample.used_memory_bytes = Some(960);
    }
    assert_eq!(rig.run(300.0).severity, Severity::None);
    let server = &mut rig.servers[0];
    server.hit_ratio = 0.5;
    server.expired_per_second = Some(expired);
    server.evicted_per_second = evicted;
    rig.until(30.0, |verdict| verdict.affected_nodes == 1);
    let storm = rig.run(60.0);
    let node = node(&storm, "n00");
    assert_eq!(node.storm_type, storm.storm_types.first().map(|first| first.storm_type), "the first is the node's");
    assert!(storm.storm_types.is_sorted_by(|a, b| a.confidence >= b.confidence), "{:?}", storm.storm_types);
    storm.storm_types.iter().map(|verdict| verdict.storm_type).collect()
}

#[test]
fn two_causes_at_once_are_both_named() {
    use StormType::{MassExpiration, MemoryPressure};
    assert_eq!(named(80.0, 40.0), [MassExpiration, MemoryPressure]);
    assert_eq!(named(80.0, 120.0), [MemoryPressure, MassExpiration]);
}

#[test]
fn a_cause_that_explains_little_is_not_named_beside_another() {
    use StormType::{MassExpiration, MemoryPressure};
    assert_eq!(named(80.0, 0.0), [MassExpiration]);
    assert_eq!(named(80.0, 4.0), [MassExpiration]);
    assert_eq!(named(20.0, 40.0), [MemoryPressure], "expiry goes on as ever");
    assert_eq!(named(24.0, 120.0), [MemoryPressure]);
}

#[test]
fn a_cache_that_is_still_filling_and_restarts_empty_is_compared_with_what_it_was_right_before() {
    let mut rig = Rig::new(3);
    rig.servers.iter_mut().for_each(|server| server.restart(0));
    // Half a minute per step: the past ten minutes are no measure of the present.
    for step in 1..=12 {
        rig.servers.iter_mut().for_each(|server| server.hit_ratio = 0.07 * f64::from(step));
        assert_eq!(rig.run(30.0).severity, Severity::None);
    }
    rig.servers[0].sample.keys = Some(8000);
    rig.round();
    rig.servers[0].restart(0);
    rig.servers[0].hit_ratio = 0.05;
    let storm = rig.until(15.0, |verdict| verdict.affected_nodes == 1);
    let restarted = node(&storm, "n00");
    assert!(restarted.indicators.contains(&Indicator::CauseSeen), "{restarted:#?}");
    assert_eq!(restarted.storm_type, Some(StormType::ColdStart));
}

#[test]
fn what_is_missed_at_a_replica_is_told_by_its_masters_keys() {
    let course = |happen: fn(&mut Rig)| {
        let mut rig = Rig::new(2);
        let history = rig.servers[0].sample.replid.clone();
        // The master is written to, the replica is read.
        let replica = &mut rig.servers[1].sample;
        (replica.role, replica.replid) = (Some(Role::Replica), history);
        (replica.link_up, replica.master_offset_bytes) = (Some(true), None);
        rig.servers[0].lookups_per_second = 0.5;
        rig.servers[1].expired_per_second = Some(0.0);
        rig.run(600.0);
        happen(&mut rig);
        rig.servers[1].hit_ratio = 0.2;
        rig.until(30.0, |verdict| node(verdict, "n01").affected);
        let storm = rig.run(10.0);
        node(&storm, "n01").storm_type
    };
    let expired = |rig: &mut Rig| {
        let master = &mut rig.servers[0].sample;
        (master.expired, master.keys) = (master.expired.map(|count| count + 6000), Some(4000));
    };
    assert_eq!(course(expired), Some(StormType::MassExpiration));
    assert_eq!(course(|rig| rig.servers[0].sample.keys = Some(3000)), Some(StormType::MassInvalidation));
    assert_eq!(course(|rig| rig.servers[0].restart(0)), Some(StormType::ColdStart));
    assert_eq!(course(|_| ()), None, "nothing became of its keys");
}

#[test]
fn what_expires_at_a_master_as_ever_explains_nothing_at_its_new_replica() {
    let mut rig = Rig::new(1);
    rig.run(600.0);
    let mut new = Server::new("n01");
    (new.sample.role, new.sample.replid) = (Some(Role::Replica), rig.servers[0].sample.replid.clone());
    (new.sample.link_up, new.sample.master_offset_bytes) = (Some(true), None);
    new.hit_ratio = 0.2;
    rig.servers.push(new);
    rig.until(30.0, |verdict| node(verdict, "n01").affected);
    assert_eq!(node(&rig.run(60.0), "n01").storm_type, Some(StormType::Unknown));
}

#[test]
fn keys_that_push_others_out_of_a_full_memory_are_no_new_key_space() {
    for (used, storm_type) in [(800, StormType::MassInvalidation), (960, StormType::MemoryPressure)] {
        let mut rig = Rig::new(1);
        rig.servers[0].sample.maxmemory_bytes = Some(1000);
        rig.servers[0].sample.used_memory_bytes = Some(used);
        rig.run(300.0);
        let full = storm_type == StormType::MemoryPressure;
        let server = &mut rig.servers[0];
        (server.hit_ratio, server.expired_per_second) = (0.4, Some(20.0));
        // Half of what is stored is more than there is room for.
        server.evicted_per_second = if full { 40.0 } else { 0.0 };
        for _ in 0..4 {
            let grown = if full { 200 } else { 500 };
            rig.servers[0].sample.keys = rig.servers[0].sample.keys.map(|keys| keys + grown);
            let verdict = rig.round();
            assert!(verdict.storm_types.iter().all(|said| said.storm_type == storm_type), "{:?}", verdict.storm_types);
        }
        rig.until(30.0, |verdict| verdict.storm_types.iter().any(|said| said.storm_type == storm_type));
    }
}

#[test]
fn at_slow_polls_a_cause_is_not_forgotten_for_the_quiet_that_follows() {
    let mut rig = Rig::with(1, Settings { poll_interval: 60.0, ..Settings::default() });
    rig.run(3600.0);
    // Within one poll half of the keys expire, and are missed.
    let server = &mut rig.servers[0];
    (server.hit_ratio, server.expired_per_second) = (0.45, Some(110.0));
    let first = rig.round();
    assert_eq!(node(&first, "n00").storm_type, Some(StormType::MassExpiration), "{first:#?}");
    (rig.servers[0].hit_ratio, rig.servers[0].expired_per_second) = (0.85, None);
    let second = rig.round();
    assert_eq!(node(&second, "n00").storm_type, Some(StormType::MassExpiration));
}
