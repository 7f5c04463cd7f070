//! Every threshold that detection uses moves a verdict.

use super::rig::{Rig, node, settings};
use super::topology::{fail_over, pair};
use crate::detect::settings::Settings;
use crate::model::{Indicator, Role};
use crate::thresholds::Threshold;

/// What the scenario made for this threshold comes to under these settings; `None` for thresholds that only
/// alert rules, objectives and charts use.
fn outcome(threshold: Threshold, settings: Settings) -> Option<String> {
    use Threshold as T;
    let shows = |settings, indicator, change: fn(&mut Rig)| {
        let mut rig = Rig::with(4, settings);
        rig.run(300.0);
        change(&mut rig);
        let verdict = rig.run(30.0);
        Some(format!("{indicator}: {}", node(&verdict, "n00").indicators.contains(&indicator)))
    };
    match threshold {
        T::LowHitRatio => shows(settings, Indicator::LowHitRatio, |rig| rig.servers[0].hit_ratio = 0.7),
        T::HighLoadCommandsPerSecond => shows(settings, Indicator::HighLoadPoorHitRatio, |rig| {
            rig.servers[0].hit_ratio = 0.6;
        }),
        T::HighLoadHitRatio => shows(settings, Indicator::HighLoadPoorHitRatio, |rig| {
            (rig.servers[0].hit_ratio, rig.servers[0].other_commands) = (0.8, 2000.0);
        }),
        T::MemoryPressureRatio => shows(settings, Indicator::MemoryPressure, |rig| {
            let server = &mut rig.servers[0];
            (server.sample.used_memory_bytes, server.sample.maxmemory_bytes) = (Some(70), Some(100));
            (server.evicted_per_second, server.hit_ratio) = (20.0, 0.8);
        }),
        T::HitRatioDrop => shows(settings, Indicator::HitRatioDrop, |rig| rig.servers[0].hit_ratio = 0.805),
        T::HotKeyCommandsPerSecond => shows(settings, Indicator::HotOverload, |rig| {
            rig.servers[0].other_commands = 2000.0;
        }),
        T::ReplicationLagSeconds => shows(settings, Indicator::ReplicationLag, |rig| {
            let replica = &mut rig.servers[0].sample;
            (replica.role, replica.replid) = (Some(Role::Replica), None);
            (replica.replica_offset_bytes, replica.master_last_io_seconds) = (Some(5), Some(50.0));
        }),
        T::SeverityMajorShare | T::SeverityCriticalShare | T::HealthyHitRatio | T::CriticalHitRatio => {
            let mut rig = Rig::with(2, settings);
            rig.run(300.0);
            rig.servers[0].hit_ratio = 0.6;
            let verdict = rig.run(60.0);
            let states: Vec<&str> = verdict.nodes.iter().map(|node| node.state.as_str()).collect();
            Some(format!("{}, {states:?}", verdict.severity))
        }
        T::ColdStartHitRatio | T::ColdStartCommandsPerSecond => {
            let mut settings = settings;
            settings.thresholds.set(T::ExpectedHitRatio, 0.9);
            let mut rig = Rig::with(1, settings);
            let server = &mut rig.servers[0];
            server.sample.uptime_seconds = Some(10.0);
            (server.sample.hits, server.sample.misses) = (Some(0), Some(0));
            (server.lookups_per_second, server.hit_ratio, server.expired_per_second) = (600.0, 0.2, Some(0.0));
            Some(format!("{:?}", node(&rig.run(60.0), "n00").storm_type))
        }
        T::FailoversPerHour => {
            let mut rig = pair(settings);
            fail_over(&mut rig, 0, 1, "later");
            Some(format!("{:?}", node(&rig.run(20.0), "n01").sub_reason))
        }
        T::ExpectedHitRatio => {
            let mut rig = Rig::with(1, settings);
            rig.servers[0].hit_ratio = 0.3;
            let verdict = rig.run(40.0);
            Some(format!("judged: {}, {}", verdict.nodes[0].judged, verdict.severity))
        }
        T::ReplicationLagWarningSeconds
        | T::HitRatioObjective
        | T::DetectionObjectiveSeconds
        | T::RecoveryObjectiveSeconds
        | T::EscalateColdStart
        | T::EscalateHotKey
        | T::EscalateMassExpiration
        | T::EscalateMemoryPressure
        | T::EscalateMassInvalidation
        | T::EscalateReplicationLag
        | T::EscalateFailoverCascade
        | T::EscalateUnknown => None,
    }
}

/// Another value for each threshold, within its bounds.
fn changed(threshold: Threshold) -> f64 {
    use Threshold as T;
    match threshold {
        T::LowHitRatio => 0.8,
        T::HighLoadCommandsPerSecond => 100.0,
        T::HighLoadHitRatio | T::ExpectedHitRatio => 0.9,
        T::MemoryPressureRatio => 0.5,
        T::HitRatioDrop => 0.1,
        T::SeverityMajorShare => 0.6,
        T::SeverityCriticalShare => 0.4,
        T::HealthyHitRatio => 0.95,
        T::CriticalHitRatio => 0.7,
        T::ColdStartHitRatio => 0.1,
        T::ColdStartCommandsPerSecond => 5000.0,
        T::HotKeyCommandsPerSecond => 500.0,
        T::ReplicationLagSeconds => 100.0,
        T::FailoversPerHour => 1.0,
        _ => f64::NAN,
    }
}

#[test]
fn each_threshold_moves_a_verdict() {
    for threshold in Threshold::ALL {
        let name = threshold.spec().name;
        let Some(usual) = outcome(*threshold, Settings::default()) else { continue };
        let value = changed(*threshold);
        let spec = threshold.spec();
        assert!((spec.min..=spec.max).contains(&value), "{name}: {value}");
        let other = outcome(*threshold, settings(*threshold, value)).unwrap();
        assert_ne!(usual, other, "{name} = {value} changes nothing");
    }
}
