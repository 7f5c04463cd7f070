//! Given this traffic and this event, these signals.

use super::super::traffic::Load;
use super::*;
use crate::model::StormType;

/// What changed on one server within a span.
struct Change {
    hit_ratio: f64,
    lookups_per_second: f64,
    expired: i64,
    evicted: i64,
    keys: i64,
    sets: i64,
    oom_errors: i64,
}

fn live(keyspace: &mut Keyspace, member: usize, seconds: f64) -> Change {
    let (before, keys) = (keyspace.counters(member).clone(), keyspace.keys(member) as i64);
    keyspace.advance(keyspace.time() + seconds);
    let after = keyspace.counters(member);
    let lookups = after.lookups() - before.lookups();
    let calls = |counters: &Counters| counters.calls(Command::Set) as i64;
    Change {
        hit_ratio: (after.hits - before.hits) as f64 / lookups as f64,
        lookups_per_second: lookups as f64 / seconds,
        expired: after.expired as i64 - before.expired as i64,
        evicted: after.evicted as i64 - before.evicted as i64,
        keys: keyspace.keys(member) as i64 - keys,
        sets: calls(after) - calls(&before),
        oom_errors: after.oom_errors as i64 - before.oom_errors as i64,
    }
}

fn master() -> Keyspace {
    let mut keyspace = Keyspace::new(Profile::small("sessions"), 7);
    keyspace.advance(10.0);
    keyspace
}

fn with_replica() -> Keyspace {
    let profile = Profile { lookups_per_second: vec![400.0, 800.0], ..Profile::small("catalog") };
    let mut keyspace = Keyspace::new(profile, 7);
    keyspace.advance(10.0);
    keyspace
}

#[test]
fn it_starts_warm_and_stays_steady() {
    let mut keyspace = Keyspace::new(Profile::small("sessions"), 7);
    let lifetime = keyspace.counters(0).hits as f64 / keyspace.counters(0).lookups() as f64;
    for _ in 0..6 {
        let change = live(&mut keyspace, 0, 20.0);
        assert!((change.hit_ratio - lifetime).abs() < 0.02, "{} of {lifetime}", change.hit_ratio);
        assert!((0.88..0.97).contains(&change.hit_ratio), "{}", change.hit_ratio);
        assert!((900.0..1100.0).contains(&change.lookups_per_second), "{}", change.lookups_per_second);
        assert!(change.keys.abs() < 200 && change.evicted == 0, "{} keys", change.keys);
    }
}

#[test]
fn the_same_seed_lives_the_same_life_however_often_it_is_looked_at() {
    let lives = |seed, looks: u32| {
        let mut keyspace = Keyspace::new(Profile::small("sessions"), seed);
        for look in 1..=looks {
            keyspace.advance(20.0 * f64::from(look) / f64::from(looks));
        }
        keyspace.counters(0).clone()
    };
    assert_eq!(lives(3, 1), lives(3, 777));
    assert_ne!(lives(3, 1), lives(4, 1));
}

#[test]
fn a_long_gap_is_mostly_slept_through() {
    let mut keyspace = master();
    let before = keyspace.counters(0).lookups();
    keyspace.advance(1e6);
    let lookups = keyspace.counters(0).lookups() - before;
    assert!((100_000..150_000).contains(&lookups), "{lookups}");
    assert_eq!(keyspace.facts(0).uptime_seconds, 1_200_000);
    assert!(live(&mut keyspace, 0, 5.0).hit_ratio > 0.88);
}

#[test]
fn each_cause_moves_the_signals_it_should() {
    type Sign = fn(&Change) -> bool;
    let table: [(StormType, Sign); 6] = [
        (StormType::ColdStart, |c| c.hit_ratio < 0.75 && c.expired < 50 && c.keys < 0),
        (StormType::MassInvalidation, |c| c.hit_ratio < 0.75 && c.expired < 50 && c.evicted == 0),
        (StormType::MassExpiration, |c| c.hit_ratio < 0.80 && c.expired > 2500 && c.evicted == 0),
        (StormType::MemoryPressure, |c| c.hit_ratio < 0.55 && c.evicted > 3000 && c.expired < 2000),
        (StormType::HotKey, |c| c.hit_ratio > 0.9 && c.lookups_per_second > 5000.0),
        (StormType::Unknown, |c| c.hit_ratio < 0.5 && c.sets < 1500 && c.evicted == 0),
    ];
    for (storm, sign) in table {
        let mut keyspace = master();
        keyspace.break_out(storm);
        let change = if storm == StormType::ColdStart {
            // Counters start anew: measure from the restart.
            let facts = keyspace.facts(0);
            assert_eq!((facts.uptime_seconds, facts.keys, facts.keys_loaded, facts.counters.lookups()), (0, 0, 0, 0));
            Change { keys: -1, ..live(&mut keyspace, 0, 8.0) }
        } else {
            live(&mut keyspace, 0, 8.0)
        };
        assert!(
            sign(&change),
            "{storm}: ratio {} expired {} evicted {} keys {} sets {} lookups/s {}",
            change.hit_ratio,
            change.expired,
            change.evicted,
            change.keys,
            change.sets,
            change.lookups_per_second
        );
        keyspace.advance(keyspace.time() + 17.0);
        keyspace.end_storm();
        keyspace.advance(keyspace.time() + 15.0);
        let after = live(&mut keyspace, 0, 5.0);
        assert!(after.hit_ratio > 0.85, "{storm} lingers: {}", after.hit_ratio);
    }
}

#[test]
fn a_flush_is_one_call_and_a_chunked_deletion_many() {
    let mut keyspace = master();
    keyspace.flush_all();
    assert_eq!((keyspace.counters(0).calls(Command::Flushall), keyspace.keys(0)), (1, 0));
    let mut keyspace = master();
    let held = keyspace.keys(0);
    keyspace.unlink_share(0.5, 5.0);
    let change = live(&mut keyspace, 0, 6.0);
    let calls = keyspace.counters(0).calls(Command::Unlink);
    assert!((held as u64 / 2).abs_diff(calls * 100) < 300, "{calls} calls for half of {held}");
    assert!(change.hit_ratio < 0.9 && change.keys < -500, "{} {}", change.hit_ratio, change.keys);
}

#[test]
fn a_full_memory_refuses_where_the_policy_forbids_eviction() {
    let mut keyspace = master();
    keyspace.limit_memory(Policy::Noeviction, 0.6);
    let change = live(&mut keyspace, 0, 10.0);
    assert!(change.oom_errors > 100 && change.evicted == 0 && change.sets == 0, "{}", change.oom_errors);
    assert!(keyspace.facts(0).used_memory_bytes as f64 > 0.9 * keyspace.facts(0).maxmemory_bytes as f64);
}

#[test]
fn memory_stays_within_its_limit_under_pressure() {
    let mut keyspace = master();
    keyspace.set_load(Load { growth: 1.5, ..Load::default() });
    keyspace.advance(keyspace.time() + 8.0);
    let facts = keyspace.facts(0);
    let ratio = facts.used_memory_bytes as f64 / facts.maxmemory_bytes as f64;
    assert!((0.98..=1.001).contains(&ratio), "{ratio}");
}

#[test]
fn a_replica_mirrors_its_master_until_it_stalls() {
    let mut keyspace = with_replica();
    let change = live(&mut keyspace, 1, 10.0);
    assert!(change.hit_ratio > 0.88 && change.expired == 0 && change.sets > 0);
    assert_eq!(keyspace.facts(0).offset, keyspace.facts(1).offset);

    keyspace.stall_replicas();
    let stalled_at = keyspace.facts(1).offset;
    live(&mut keyspace, 1, 20.0);
    let late = live(&mut keyspace, 1, 5.0);
    assert!(late.hit_ratio < 0.8 && late.keys == 0 && late.sets == 0, "{}", late.hit_ratio);
    assert_eq!(keyspace.facts(1).offset, stalled_at);
    assert!(keyspace.facts(0).offset > stalled_at + 100_000);
    assert_eq!(keyspace.facts(1).replication, Replication::Replica { master_port: 0, last_io_seconds: 25 });

    keyspace.resume_replicas();
    assert!(live(&mut keyspace, 1, 5.0).hit_ratio > 0.88);
}

#[test]
fn a_failover_promotes_a_colder_replica_and_the_old_master_follows_it() {
    let mut keyspace = with_replica();
    let before = keyspace.facts(1);
    keyspace.break_out(StormType::FailoverCascade);
    assert_eq!((keyspace.master(), keyspace.role(1), keyspace.is_alive(0)), (1, Role::Master, false));
    let promoted = keyspace.facts(1);
    assert_eq!(promoted.replid2.as_ref().map(|(id, _)| id), Some(&before.replid));
    assert_ne!(promoted.replid, before.replid);
    assert_eq!(promoted.run_id, before.run_id);
    let change = live(&mut keyspace, 1, 5.0);
    assert!(change.hit_ratio < 0.75 && change.lookups_per_second > 1000.0, "{}", change.hit_ratio);
    keyspace.end_storm();
    assert_eq!((keyspace.role(0), keyspace.facts(0).uptime_seconds), (Role::Replica, 0));
    live(&mut keyspace, 0, 30.0);
    assert!(live(&mut keyspace, 0, 5.0).hit_ratio > 0.85);
}
