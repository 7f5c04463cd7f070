//! One cause on a node is named alone; of two at once both are, the stronger first.

use super::rig::{Rig, node};
use crate::model::{Severity, StormType};

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
