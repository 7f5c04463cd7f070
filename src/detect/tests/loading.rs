//! Masters that load their data set: they answer `INFO`, and refuse everybody else.

use super::rig::{Rig, Server, node};
use crate::detect::verdict::NodeVerdict;
use crate::model::{FailureReason, Indicator, Role, Severity, StormType};

/// A quiet cache whose first master restarts and begins to load.
fn reloading() -> Rig {
    let mut rig = Rig::new(3);
    rig.run(300.0);
    rig.servers[0].restart(0);
    rig.servers[0].sample.loading = true;
    rig.servers[0].lookups_per_second = 0.0;
    rig
}

/// It has loaded so many keys, and serves.
fn loaded(rig: &mut Rig, keys: u64, hit_ratio: f64) {
    let server = &mut rig.servers[0];
    (server.sample.loading, server.sample.keys, server.sample.keys_loaded_at_start) = (false, Some(keys), Some(keys));
    (server.lookups_per_second, server.hit_ratio) = (200.0, hit_ratio);
}

fn first(rig: &mut Rig) -> NodeVerdict {
    node(&rig.round(), "n00").clone()
}

#[test]
fn a_master_that_loads_for_long_is_as_good_as_dead_and_says_why() {
    let mut rig = reloading();
    let storm = rig.until(30.0, |verdict| verdict.severity == Severity::Major);
    let master = node(&storm, "n00");
    assert!(master.up && master.indicators == [Indicator::Unreachable], "{master:#?}");
    assert_eq!((master.storm_type, master.sub_reason), (Some(StormType::ColdStart), Some("loading")));
    assert!(master.evidence.contains(&("restart_keys_before", 10_000.0)), "{:?}", master.evidence);
    // An hour is no time without traffic: it cannot have any.
    assert_eq!(rig.run(3600.0).severity, Severity::Major);
    loaded(&mut rig, 10_000, 0.9);
    rig.until(120.0, |verdict| verdict.severity == Severity::None);
    assert_eq!(rig.detector.episodes().len(), 1);
}

#[test]
fn what_a_long_load_was_like_says_nothing_about_what_comes_after() {
    let mut rig = reloading();
    rig.run(300.0);
    loaded(&mut rig, 10_000, 0.6);
    rig.servers[0].expired_per_second = Some(20.0);
    assert_eq!(node(&rig.run(120.0), "n00").storm_type, Some(StormType::Unknown), "all of its keys are there");
}

#[test]
fn a_dead_master_that_comes_back_loading_says_so_however_late() {
    let mut rig = Rig::new(3);
    rig.run(300.0);
    rig.servers[0].down = Some(FailureReason::Refused);
    assert_eq!(node(&rig.run(120.0), "n00").storm_type, Some(StormType::Unknown));
    rig.servers[0].down = None;
    rig.servers[0].restart(0);
    (rig.servers[0].sample.loading, rig.servers[0].lookups_per_second) = (true, 0.0);
    assert_eq!(first(&mut rig).sub_reason, Some("loading"));
}

#[test]
fn a_node_that_is_first_seen_loading_is_welcomed_when_it_serves() {
    let mut rig = Rig::new(3);
    rig.run(300.0);
    let mut new = Server::new("n03");
    new.sample.uptime_seconds = Some(1.0);
    (new.sample.loading, new.sample.keys, new.lookups_per_second) = (true, Some(10), 0.0);
    rig.servers.push(new);
    assert_eq!(rig.run(60.0).severity, Severity::None);
    let new = &mut rig.servers[3];
    (new.sample.loading, new.lookups_per_second, new.hit_ratio) = (false, 200.0, 0.1);
    rig.until(15.0, |verdict| node(verdict, "n03").storm_type == Some(StormType::ColdStart));
}

#[test]
fn how_much_was_loaded_is_known_when_the_load_is_over() {
    for (keys, hit_ratio, expected) in [
        (9000, 0.9, None),
        // Nearly all keys are there: whatever else is wrong, it is no cold start.
        (9000, 0.6, Some(StormType::Unknown)),
        (0, 0.1, Some(StormType::ColdStart)),
    ] {
        let mut rig = reloading();
        rig.run(10.0);
        loaded(&mut rig, keys, hit_ratio);
        rig.servers[0].expired_per_second = Some(20.0);
        let storm = rig.run(60.0);
        assert_eq!(node(&storm, "n00").storm_type, expected, "{keys} keys loaded, {hit_ratio}");
    }
}

#[test]
fn a_load_that_was_broken_off_does_not_count_as_the_life_before() {
    let mut rig = reloading();
    rig.round();
    rig.servers[0].sample.keys = Some(50);
    rig.round();
    // Killed for want of memory, and back without a file.
    rig.servers[0].restart(0);
    rig.servers[0].sample.loading = false;
    (rig.servers[0].lookups_per_second, rig.servers[0].hit_ratio) = (200.0, 0.1);
    rig.until(15.0, |verdict| node(verdict, "n00").affected);
    let master = first(&mut rig);
    assert_eq!(master.storm_type, Some(StormType::ColdStart));
    assert!(master.evidence.contains(&("restart_keys_before", 10_000.0)), "{:?}", master.evidence);
}

#[test]
fn a_replica_that_loads_beside_its_old_data_serves() {
    let mut rig = reloading();
    let server = &mut rig.servers[0];
    (server.sample.loading, server.sample.async_loading, server.lookups_per_second) = (false, true, 200.0);
    server.sample.role = Some(Role::Replica);
    rig.run(120.0);
    assert!(!first(&mut rig).indicators.contains(&Indicator::Unreachable));
}
