//! What looks like a storm by the ratio alone, and is none to the database.

use super::rig::{Rig, Server};
use crate::model::Severity;

/// Every node is changed; then no round for so many seconds may show anything.
fn stays_quiet(rig: &mut Rig, seconds: f64, mut change: impl FnMut(&mut Server)) {
    rig.servers.iter_mut().for_each(&mut change);
    let until = rig.now + seconds;
    while rig.now < until {
        let verdict = rig.round();
        assert_eq!(verdict.severity, Severity::None, "{verdict:#?}");
    }
}

#[test]
fn where_traffic_leaves_the_ratio_falls_and_the_database_has_less_to_do() {
    for traffic in [100.0, 40.0] {
        let mut rig = Rig::new(3);
        rig.servers.iter_mut().for_each(|server| server.hit_ratio = 0.96);
        rig.run(900.0);
        // 8 misses a second become 6 or 5.
        stays_quiet(&mut rig, 3600.0, |server| {
            server.lookups_per_second = traffic;
            server.hit_ratio = if traffic > 50.0 { 0.94 } else { 0.86 };
        });
    }
}

fn all(rig: &mut Rig, lookups_per_second: f64, hit_ratio: f64) {
    for server in &mut rig.servers {
        (server.lookups_per_second, server.hit_ratio) = (lookups_per_second, hit_ratio);
    }
}

#[test]
fn a_ratio_that_stays_low_when_the_traffic_is_back_is_a_storm_after_all() {
    let mut rig = Rig::new(3);
    rig.run(900.0);
    stays_quiet(&mut rig, 1800.0, |server| (server.lookups_per_second, server.hit_ratio) = (60.0, 0.72));
    all(&mut rig, 200.0, 0.72);
    rig.until(15.0, |verdict| verdict.severity == Severity::Critical);
}

#[test]
fn load_that_is_shed_ends_no_storm() {
    let mut rig = Rig::new(3);
    rig.run(900.0);
    all(&mut rig, 200.0, 0.65);
    rig.until(30.0, |verdict| verdict.severity == Severity::Critical);
    for traffic in [40.0, 200.0] {
        all(&mut rig, traffic, 0.65);
        for _ in 0..120 {
            let verdict = rig.round();
            assert!(verdict.severity == Severity::Critical && !verdict.recovering, "{verdict:#?}");
        }
    }
}

#[test]
fn six_hours_of_load_shed_in_a_storm_do_not_end_it_where_the_ratio_is_unsteady() {
    let mut rig = Rig::new(3);
    all(&mut rig, 1000.0, 0.9);
    rig.run(900.0);
    all(&mut rig, 1000.0, 0.61);
    rig.until(30.0, |verdict| verdict.severity == Severity::Critical);
    for swing in [0.79, 0.61].repeat(15) {
        all(&mut rig, 200.0, swing);
        assert_eq!(rig.run(900.0).severity, Severity::Critical, "at {}", rig.now);
    }
}

#[test]
fn what_stays_low_for_want_of_traffic_is_learnt_in_the_end() {
    let mut rig = Rig::new(3);
    rig.run(900.0);
    stays_quiet(&mut rig, 21_000.0, |server| (server.lookups_per_second, server.hit_ratio) = (60.0, 0.72));
    let baseline = |rig: &mut Rig| rig.round().nodes[0].signals.hit_ratio_baseline.unwrap();
    assert!((baseline(&mut rig) - 0.9).abs() < 0.01, "not yet");
    stays_quiet(&mut rig, 1800.0, |_| ());
    assert!((baseline(&mut rig) - 0.72).abs() < 0.01);
}

#[test]
fn keys_that_expire_together_every_minute_are_no_reason_to_compare_with_an_hour_ago() {
    let mut rig = Rig::new(3);
    all(&mut rig, 200.0, 0.94);
    rig.run(900.0);
    for step in 0..80 {
        for server in &mut rig.servers {
            // A fifth of the keys is renewed, and the ratio drifts.
            server.sample.expired = server.sample.expired.map(|count| count + 2000);
            server.hit_ratio = 0.94 - 0.001 * f64::from(step);
        }
        stays_quiet(&mut rig, 50.0, |_| ());
    }
}

#[test]
fn a_cause_after_a_spell_above_the_usual_is_compared_with_the_usual() {
    let mut rig = Rig::new(3);
    all(&mut rig, 200.0, 0.85);
    rig.run(900.0);
    stays_quiet(&mut rig, 60.0, |server| server.hit_ratio = 0.94);
    stays_quiet(&mut rig, 120.0, |server| {
        server.sample.expired = server.sample.expired.map(|count| count + 2500);
        server.hit_ratio = 0.87;
    });
}

#[test]
fn the_end_of_easy_lookups_is_no_storm() {
    let mut rig = Rig::new(3);
    rig.servers.iter_mut().for_each(|server| server.hit_ratio = 0.85);
    rig.run(3600.0);
    // A job that reads what is there, long enough to be learnt.
    stays_quiet(&mut rig, 600.0, |server| (server.lookups_per_second, server.hit_ratio) = (1000.0, 0.97));
    stays_quiet(&mut rig, 1800.0, |server| (server.lookups_per_second, server.hit_ratio) = (200.0, 0.85));
}

#[test]
fn health_checks_at_night_do_not_teach_that_everything_hits() {
    let mut rig = Rig::new(3);
    rig.run(7200.0);
    stays_quiet(&mut rig, 7200.0, |server| (server.lookups_per_second, server.hit_ratio) = (2.0, 1.0));
    stays_quiet(&mut rig, 1800.0, |server| (server.lookups_per_second, server.hit_ratio) = (200.0, 0.9));
    // What has never had more is known by what it has.
    let mut thin = Rig::new(1);
    thin.servers[0].lookups_per_second = 5.0;
    thin.run(300.0);
    thin.servers[0].hit_ratio = 0.6;
    let later = thin.run(900.0);
    assert!(later.nodes[0].signals.hit_ratio_baseline.is_some_and(|ratio| (ratio - 0.6).abs() < 0.01));
}

#[test]
fn keys_that_come_back_after_an_unseen_loss_are_no_new_key_space() {
    let mut rig = Rig::new(3);
    rig.run(900.0);
    // Nobody looked for ten minutes, in which most keys expired.
    for server in &mut rig.servers {
        server.sample.keys = Some(2000);
        server.live(600.0);
    }
    rig.now += 600.0;
    for server in &mut rig.servers {
        server.hit_ratio = 0.4;
        server.expired_per_second = Some(20.0);
    }
    for _ in 0..24 {
        for server in &mut rig.servers {
            server.sample.keys = server.sample.keys.map(|keys| (keys + 300).min(10_000));
        }
        let verdict = rig.round();
        assert!(verdict.storm_types.iter().all(|said| said.sub_reason.is_none()), "{:?}", verdict.storm_types);
    }
    assert_eq!(rig.round().severity, Severity::Critical);
}
