//! Families of the exporter itself.

use super::{Family, Kind, Scope, Sink};
use crate::model::SampleResult;
use crate::publish::FleetSnapshot;

/// A family and where its series come from.
#[derive(Debug)]
pub struct FleetRow {
    /// The family.
    pub family: Family,
    /// Puts the family's series into the sink.
    pub read: fn(&FleetSnapshot, &mut Sink<'_>),
}

/// Families read from the fleet's snapshot.
pub const FLEET: &[FleetRow] = &[
    FleetRow {
        family: Family::new(
            Scope::Exporter,
            Kind::Gauge,
            "cache_storm_exporter_isolated",
            "1 if the exporter suspects its own network: severities hold their last value.",
        ),
        read: |fleet, out| out.flag(fleet.isolated),
    },
    FleetRow {
        family: Family::new(
            Scope::Exporter,
            Kind::Counter,
            "cache_storm_exporter_hot_key_samples_total",
            "Attempts to sample a node's accesses for hot keys, by what they came to; 0 while `hotkeys` is off.",
        )
        .by(&["result"], SampleResult::ALL.len()),
        read: |fleet, out| {
            for (result, count) in SampleResult::ALL.iter().zip(fleet.hot_key_samples) {
                out.labelled(&[result.as_str()], count as f64);
            }
        },
    },
];

/// Which program this is.
pub const BUILD_INFO: Family = Family::new(
    Scope::Exporter,
    Kind::Gauge,
    "cache_storm_exporter_build_info",
    "Always 1; the version of the exporter.",
)
.by(&["version"], 1);

/// Whether the last configuration was taken.
pub const RELOAD_SUCCESSFUL: Family = Family::new(
    Scope::Exporter,
    Kind::Gauge,
    "cache_storm_exporter_config_last_reload_successful",
    "1 if the last load of the configuration succeeded; 0 while an older one is in force.",
);

/// When a configuration was last taken.
pub const RELOAD_TIMESTAMP: Family = Family::new(
    Scope::Exporter,
    Kind::Gauge,
    "cache_storm_exporter_config_last_reload_success_timestamp_seconds",
    "When the configuration in force was loaded, Unix seconds.",
);

/// Families that are registered once; the `process_*` families of the metrics library join them.
pub const OWN: &[Family] = &[BUILD_INFO, RELOAD_SUCCESSFUL, RELOAD_TIMESTAMP];
