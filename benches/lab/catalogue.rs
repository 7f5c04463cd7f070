//! All scenarios.

use cache_storm_exporter::model::StormType::{
    ColdStart, FailoverCascade, HotKey, MassExpiration, MassInvalidation, MemoryPressure, ReplicationLag, Unknown,
};

use super::scenario::Which::{First, Masters, Replica as TheReplica, Second};
use super::scenario::{Act, From, Replica, Scenario};

/// Every scenario, storms first.
pub(crate) fn all() -> Vec<Scenario> {
    [removals(), losses(), pressure(), keys(), replicas(), slow(), several(), quiet()].concat()
}

fn removals() -> Vec<Scenario> {
    let remove = |share, over, command| Act::Remove { share, over, command };
    let invalidation = |name, on| Scenario::storm(name, on, Some(MassInvalidation));
    vec![
        invalidation("flush_one", First).step(0.0, First, Act::Flush).smoke(),
        invalidation("flush_all", Masters).step(0.0, Masters, Act::Flush).smoke(),
        invalidation("delete_prefix", First).step(0.0, First, remove(0.4, 0.0, "DEL")),
        invalidation("unlink_prefix", Masters).step(0.0, Masters, remove(0.4, 0.0, "UNLINK")),
        // Over five minutes 30 % is about the ordinary refill: whether that is a storm, the clients' ratio tells.
        invalidation("unlink_chunked_1m", Masters).step(0.0, Masters, remove(0.3, 60.0, "UNLINK")),
        invalidation("unlink_chunked_5m", Masters).step(0.0, Masters, remove(0.3, 300.0, "UNLINK")).watched(360.0),
        invalidation("version_bump", Masters).step(0.0, Masters, Act::BumpVersion { share: 0.6 }),
    ]
}

fn losses() -> Vec<Scenario> {
    vec![
        Scenario::storm("cold_restart", First, Some(ColdStart)).step(0.0, First, Act::RestartCold).smoke(),
        Scenario::storm("common_ttl_one", First, Some(MassExpiration))
            .set(|setting| setting.common_expiry = Some((First, 0.6))),
        Scenario::storm("common_ttl_all", Masters, Some(MassExpiration))
            .set(|setting| setting.common_expiry = Some((Masters, 0.5)))
            .smoke(),
        Scenario::storm("all_masters_dead", Masters, None)
            .step(0.0, Masters, Act::Kill)
            .with(|truth| truth.from = From::Event),
        Scenario::storm("thin_nodes_flush", Masters, Some(MassInvalidation)).step(0.0, Masters, Act::Flush).set(
            |setting| {
                setting.masters = Some(100);
                setting.rate = Some(9.0);
            },
        ),
    ]
}

fn pressure() -> Vec<Scenario> {
    vec![
        Scenario::storm("outgrown_lru", First, Some(MemoryPressure))
            .step(0.0, First, Act::Outgrow { factor: 4.0 })
            .set(|setting| {
                setting.value_bytes = 1024;
                setting.memory = Some((1.08, "allkeys-lru"));
            }),
        Scenario::storm("write_refusal", First, Some(MemoryPressure))
            .step(0.0, First, Act::Junk { per_second: 800.0 })
            .set(|setting| {
                setting.value_bytes = 1024;
                // Room enough that the other nodes, which have the same limit, never reach it by chance.
                setting.memory = Some((1.25, "noeviction"));
            })
            .with(|truth| truth.from = From::Event),
    ]
}

fn keys() -> Vec<Scenario> {
    vec![
        Scenario::storm("hot_reads", First, Some(HotKey))
            .step(0.0, First, Act::HotReads { per_second: 6000.0 })
            .with(|truth| truth.from = From::Event),
        Scenario::storm("stampede", First, Some(HotKey))
            .step(0.0, First, Act::Stampede { share: 0.4 })
            .with(|truth| truth.needs_sampler = true),
        Scenario::storm("penetration", First, Some(Unknown)).step(0.0, First, Act::Absent { share: 0.5 }),
    ]
}

fn replicas() -> Vec<Scenario> {
    vec![
        Scenario::storm("replica_stalled", TheReplica, Some(ReplicationLag))
            .step(0.0, First, Act::StallReplication)
            .set(|setting| setting.replica = Replica::Proxied)
            .with(|truth| truth.from = From::Event),
        Scenario::storm("failover", TheReplica, Some(FailoverCascade))
            .step(0.0, First, Act::Kill)
            .set(|setting| setting.replica = Replica::Sentinel)
            .with(|truth| {
                truth.may = Some(First);
                truth.from = From::Switch;
            }),
    ]
}

fn slow() -> Vec<Scenario> {
    // Down to 5 %; watched until a minute after a ratio of 0.95 has passed a half.
    // What comes slowly can only be told from a longer past: forty minutes.
    let ramp = |name, points_per_minute: f64| {
        let mut scenario = Scenario::storm(name, First, None)
            .step(0.0, First, Act::AbsentRamp { points_per_minute, share: 0.95 })
            .watched(45.0 / points_per_minute * 60.0 + 90.0)
            .with(|truth| truth.from = From::Half);
        scenario.quiet_before = 2400.0;
        scenario
    };
    vec![
        ramp("ramp_2_points", 2.0),
        ramp("ramp_1_point", 1.0),
        ramp("ramp_half_point", 0.5),
        Scenario::storm("from_999_to_99", First, Some(Unknown))
            .step(0.0, First, Act::Absent { share: 0.012 })
            .set(|setting| {
                setting.rate_first = Some(8000.0);
                setting.rate = Some(400.0);
                setting.absent_share = 0.001;
                setting.ttl_factor = 100.0;
            })
            .with(|truth| truth.from = From::Event),
    ]
}

/// Two causes at once, and one after the other.
fn several() -> Vec<Scenario> {
    vec![
        // A batch job fills the room that the expiry leaves, and then evicts.
        Scenario::storm("expiry_under_pressure", First, Some(MassExpiration))
            .truth(0.0, First, Some(MemoryPressure))
            .step(0.0, First, Act::Junk { per_second: 800.0 })
            .set(|setting| {
                setting.value_bytes = 1024;
                setting.memory = Some((1.08, "allkeys-lru"));
                setting.common_expiry = Some((First, 0.6));
            }),
        Scenario::storm("flush_during_failover", Second, Some(MassInvalidation))
            .truth(0.0, TheReplica, Some(FailoverCascade))
            .with(|truth| {
                truth.may = Some(First);
                truth.from = From::Switch;
            })
            .step(0.0, Second, Act::Flush)
            .step(0.0, First, Act::Kill)
            .set(|setting| setting.replica = Replica::Sentinel),
        Scenario::storm("storm_after_storm", Masters, Some(MassInvalidation))
            .step(0.0, Masters, Act::Flush)
            .truth(200.0, First, Some(ColdStart))
            .step(200.0, First, Act::RestartCold)
            .watched(320.0),
    ]
}

fn quiet() -> Vec<Scenario> {
    vec![
        Scenario::quiet("steady"),
        Scenario::quiet("surge_2").step(0.0, Masters, Act::Surge { factor: 2.0 }),
        Scenario::quiet("surge_5").step(0.0, Masters, Act::Surge { factor: 5.0 }),
        Scenario::quiet("surge_on_one").step(0.0, First, Act::Surge { factor: 3.0 }).set(|setting| {
            setting.zipf = Some(1.2);
        }),
        Scenario::quiet("structural_40").set(|setting| setting.absent_share = 0.55),
        Scenario::quiet("low_traffic").set(|setting| setting.rate = Some(3.0)),
        Scenario::quiet("reset_statistics").step(0.0, Masters, Act::ResetStatistics),
        Scenario::quiet("slow_drift").step(0.0, Masters, Act::Surge { factor: 1.3 }).step(
            30.0,
            Masters,
            Act::AbsentRamp { points_per_minute: 0.3, share: 0.03 },
        ),
        Scenario::quiet("client_deployment").step(0.0, Masters, Act::ReconnectClients).step(
            5.0,
            Masters,
            Act::ReconnectClients,
        ),
        Scenario::quiet("planned_flush").step(0.0, First, Act::Flush).planned(),
        Scenario::quiet("warm_restart").step(0.0, First, Act::RestartWarm).smoke(),
    ]
}
