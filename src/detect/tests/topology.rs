//! Replicas, promotions, moving slots.

use std::sync::Arc;

use super::rig::{Rig, node};
use crate::model::{Role, StormType};

/// A master `n00` with its replica `n01`, and another master.
fn pair() -> Rig {
    let mut rig = Rig::new(3);
    let history = rig.servers[0].sample.replid.clone();
    let replica = &mut rig.servers[1].sample;
    (replica.role, replica.replid, replica.link_up) = (Some(Role::Replica), history, Some(true));
    rig.run(300.0);
    rig
}

/// Master and replica swap places; the new history gets the name `history`.
fn fail_over(rig: &mut Rig, from: usize, to: usize, history: &str) {
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
    let mut rig = pair();
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
fn a_replica_names_the_flush_it_repeated() {
    let mut rig = pair();
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
