//! Thresholds of detection, escalation and objectives: one table of names, defaults and bounds.
//!
//! Configuration, detector, `cache_storm_threshold`, alert rules and dashboards all refer to this
//! table, so that one override moves the verdict, the alert and the line in the chart together.

use crate::model::StormType;

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct ThresholdSpec {
    /// Configuration key and value of the label `threshold`.
    pub name: &'static str,
    /// Value without configuration; `None` where the threshold is off until set.
    pub default: Option<f64>,
    /// Smallest value accepted.
    pub min: f64,
    /// Largest value accepted.
    pub max: f64,
    /// What it decides, with its unit.
    pub meaning: &'static str,
}

macro_rules! thresholds {
    ($($variant:ident: $name:literal, $default:expr, $min:expr, $max:expr, $meaning:literal;)+) => {
        /// Handle of one threshold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // each variant's meaning stands in its row of the table
        pub enum Threshold { $($variant,)+ }

        impl Threshold {
            /// Every threshold, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The threshold's row.
            #[must_use]
            pub const fn spec(self) -> ThresholdSpec {
                match self {
                    $(Self::$variant => ThresholdSpec { name: $name, default: $default, min: $min, max: $max, meaning: $meaning },)+
                }
            }
        }
    };
}

// Sources: the first block is the runbook this project encodes; the escalation times of cold_start,
// hot_key, mass_expiration and memory_pressure too, the other four are set in the same spirit.
thresholds! {
    LowHitRatio: "low_hit_ratio", Some(0.50), 0.0, 1.0, "ratio; below it a node shows `low_hit_ratio`";
    HighLoadCommandsPerSecond: "high_load_commands_per_second", Some(1000.0), 0.0, 1e9, "commands/s; above it `high_load_hit_ratio` applies";
    HighLoadHitRatio: "high_load_hit_ratio", Some(0.70), 0.0, 1.0, "ratio; below it a loaded node shows `high_load_poor_hit_ratio`";
    MemoryPressureRatio: "memory_pressure_ratio", Some(0.90), 0.0, 1.0, "used ÷ maxmemory; above it and evicting a node shows `memory_pressure`";
    HitRatioDrop: "hit_ratio_drop", Some(0.50), 0.0, 1.0, "share of its own baseline by which the ratio must fall for `hit_ratio_drop`";
    SeverityMajorShare: "severity_major_share", Some(0.30), 0.0, 1.0, "affected share from which a storm is major";
    SeverityCriticalShare: "severity_critical_share", Some(0.70), 0.0, 1.0, "affected share from which a storm is critical";
    HealthyHitRatio: "healthy_hit_ratio", Some(0.80), 0.0, 1.0, "ratio above which a node is healthy";
    CriticalHitRatio: "critical_hit_ratio", Some(0.50), 0.0, 1.0, "ratio below which a node is critical";
    ColdStartHitRatio: "cold_start_hit_ratio", Some(0.30), 0.0, 1.0, "ratio below which a young node without a past is a cold start";
    ColdStartCommandsPerSecond: "cold_start_commands_per_second", Some(500.0), 0.0, 1e9, "commands/s from which that holds";
    HotKeyCommandsPerSecond: "hot_key_commands_per_second", Some(5000.0), 0.0, 1e9, "commands/s from which a skewed node shows `hot_overload` without a key sample";
    ReplicationLagWarningSeconds: "replication_lag_warning_seconds", Some(5.0), 0.0, 86_400.0, "seconds of data lag that warn";
    ReplicationLagSeconds: "replication_lag_seconds", Some(15.0), 0.0, 86_400.0, "seconds of data lag that show `replication_lag`";
    FailoversPerHour: "failovers_per_hour", Some(3.0), 1.0, 3600.0, "failovers in an hour from which a master is flapping";
    ExpectedHitRatio: "expected_hit_ratio", None, 0.0, 1.0, "ratio expected of a node without a past; unset: such a node is not judged";
    HitRatioObjective: "hit_ratio_objective", Some(0.85), 0.0, 1.0, "ratio that the objective promises";
    DetectionObjectiveSeconds: "detection_objective_seconds", Some(120.0), 1.0, 86_400.0, "seconds within which a storm is to be announced";
    RecoveryObjectiveSeconds: "recovery_objective_seconds", Some(600.0), 1.0, 86_400.0, "seconds within which a storm is to be over";
    EscalateColdStart: "escalate_after_seconds_cold_start", Some(300.0), 0.0, 86_400.0, "seconds after onset at which a cold start escalates";
    EscalateHotKey: "escalate_after_seconds_hot_key", Some(180.0), 0.0, 86_400.0, "seconds after onset at which a hot key escalates";
    EscalateMassExpiration: "escalate_after_seconds_mass_expiration", Some(120.0), 0.0, 86_400.0, "seconds after onset at which a mass expiration escalates";
    EscalateMemoryPressure: "escalate_after_seconds_memory_pressure", Some(60.0), 0.0, 86_400.0, "seconds after onset at which memory pressure escalates";
    EscalateMassInvalidation: "escalate_after_seconds_mass_invalidation", Some(120.0), 0.0, 86_400.0, "seconds after onset at which a mass invalidation escalates";
    EscalateReplicationLag: "escalate_after_seconds_replication_lag", Some(180.0), 0.0, 86_400.0, "seconds after onset at which replication lag escalates";
    EscalateFailoverCascade: "escalate_after_seconds_failover_cascade", Some(60.0), 0.0, 86_400.0, "seconds after onset at which a failover cascade escalates";
    EscalateUnknown: "escalate_after_seconds_unknown", Some(300.0), 0.0, 86_400.0, "seconds after onset at which an unexplained storm escalates";
}

impl Threshold {
    /// The threshold of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|threshold| threshold.spec().name == name)
    }

    /// The escalation time of a storm type.
    #[must_use]
    pub const fn escalation(storm_type: StormType) -> Self {
        match storm_type {
            StormType::ColdStart => Self::EscalateColdStart,
            StormType::HotKey => Self::EscalateHotKey,
            StormType::MassExpiration => Self::EscalateMassExpiration,
            StormType::MemoryPressure => Self::EscalateMemoryPressure,
            StormType::MassInvalidation => Self::EscalateMassInvalidation,
            StormType::ReplicationLag => Self::EscalateReplicationLag,
            StormType::FailoverCascade => Self::EscalateFailoverCascade,
            StormType::Unknown => Self::EscalateUnknown,
        }
    }
}

/// The thresholds in force for one cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    values: [Option<f64>; Threshold::ALL.len()],
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { values: std::array::from_fn(|index| Threshold::ALL[index].spec().default) }
    }
}

impl Thresholds {
    /// The value in force, in the unit of its row; NaN where the threshold is unset, so that every
    /// comparison with it is false.
    #[must_use]
    pub fn get(&self, threshold: Threshold) -> f64 {
        self.values[threshold as usize].unwrap_or(f64::NAN)
    }

    /// The value in force, `None` where the threshold is unset.
    #[must_use]
    pub fn value(&self, threshold: Threshold) -> Option<f64> {
        self.values[threshold as usize]
    }

    /// Overrides one threshold. Precondition: the value lies within the bounds of its row.
    pub fn set(&mut self, threshold: Threshold, value: f64) {
        self.values[threshold as usize] = Some(value);
    }
}
