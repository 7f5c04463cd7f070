//! Families of the exporter itself.

use super::{Family, Kind, Scope, Sink};
use crate::model::SampleResult;
use crate::publish::FleetSnapshot;
use crate::publish::hotkeys::{HotPattern, PATTERNS_IN_ALL};

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
    FleetRow {
        family: Family::new(
            Scope::Exporter,
            Kind::Counter,
            "cache_storm_exporter_hot_key_sampled_seconds_total",
            "Seconds for which servers were watched for hot keys.",
        ),
        read: |fleet, out| out.number(Some(fleet.hot_key_cost.seconds)),
    },
    FleetRow {
        family: Family::new(
            Scope::Exporter,
            Kind::Counter,
            "cache_storm_exporter_hot_key_sampled_bytes_total",
            "Bytes that servers sent while they were watched for hot keys.",
        ),
        read: |fleet, out| out.number(Some(fleet.hot_key_cost.bytes as f64)),
    },
    hot_patterns(
        "cache_storm_hot_key_share_ratio",
        "Share of a node's accesses that go to keys of a pattern, 0–1, in its last sample; the largest ones, at most \
         6 of a node and 33 in all, for ten minutes.",
        |fleet, out| measure(fleet, out, |pattern| Some(pattern.share)),
    ),
    hot_patterns(
        "cache_storm_hot_key_operations_per_second",
        "Accesses per second to keys of a pattern in a node's last sample.",
        |fleet, out| measure(fleet, out, |pattern| pattern.operations_per_second),
    ),
    hot_patterns(
        "cache_storm_hot_key_write_ratio",
        "Share of the accesses to keys of a pattern that write, 0–1, in a node's last sample.",
        |fleet, out| measure(fleet, out, |pattern| pattern.write_ratio),
    ),
];

const fn hot_patterns(name: &'static str, help: &'static str, read: fn(&FleetSnapshot, &mut Sink<'_>)) -> FleetRow {
    let labels = &["cache", "cache_node", "pattern"];
    FleetRow { family: Family::new(Scope::Exporter, Kind::Gauge, name, help).by(labels, PATTERNS_IN_ALL), read }
}

/// One series per measured pattern. Their number is bounded for the exporter as a whole, whatever the number of nodes.
fn measure(fleet: &FleetSnapshot, out: &mut Sink<'_>, value: fn(&HotPattern) -> Option<f64>) {
    for (cache, node, pattern) in fleet.hot_patterns() {
        if let Some(value) = value(pattern) {
            out.labelled(&[cache.as_str(), node.as_str(), &pattern.pattern], value);
        }
    }
}

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
