//! Families of one cache: severity, the storm that is on, and what past ones cost.

use super::{Family, Kind, Scope, Sink};
use crate::model::{NodeState, StormType};
use crate::publish::CacheSnapshot;
use crate::thresholds::Threshold;

/// Upper bounds of `cache_storm_detection_delay_seconds`: fine around the objective of 120 s.
pub const DETECTION_DELAY_BOUNDS: &[f64] = &[5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0];

/// Upper bounds of `cache_storm_episode_duration_seconds`: one minute to four hours, around the objective of 600 s.
pub const EPISODE_DURATION_BOUNDS: &[f64] = &[60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0];

/// Upper bounds of `cache_storm_poll_duration_seconds`: from a server nearby to the longest deadline in use.
pub const POLL_DURATION_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// A family and where its series come from.
#[derive(Debug)]
pub struct CacheRow {
    /// The family.
    pub family: Family,
    /// Puts the cache's series of the family into the sink.
    pub read: fn(&CacheSnapshot, &mut Sink<'_>),
}

pub(super) const fn gauge(name: &'static str, help: &'static str, read: fn(&CacheSnapshot, &mut Sink<'_>)) -> CacheRow {
    CacheRow { family: Family::new(Scope::Cache, Kind::Gauge, name, help), read }
}

const fn histogram(name: &'static str, help: &'static str, read: fn(&CacheSnapshot, &mut Sink<'_>)) -> CacheRow {
    CacheRow { family: Family::new(Scope::Cache, Kind::Histogram, name, help), read }
}

impl CacheRow {
    pub(super) const fn by(mut self, labels: &'static [&'static str], max_series: usize) -> Self {
        self.family = self.family.by(labels, max_series);
        self
    }
}

const TYPES: usize = StormType::ALL.len();

/// Families of one cache.
pub const CACHE: &[CacheRow] = &[
    gauge(
        "cache_storm_severity",
        "0 none, 1 minor, 2 major, 3 critical: by the affected share of the eligible nodes.",
        |cache, out| out.number(Some(f64::from(cache.verdict.severity.ordinal()))),
    ),
    gauge("cache_storm_affected_nodes", "Nodes that take part in the storm.", |cache, out| {
        out.number(Some(cache.verdict.affected_nodes as f64));
    }),
    gauge(
        "cache_storm_affected_traffic_ratio",
        "Baseline lookups per second of the affected nodes ÷ those of the eligible nodes, 0–1.",
        |cache, out| out.number(Some(cache.verdict.affected_share_traffic)),
    ),
    gauge("cache_storm_nodes", "Nodes by state.", |cache, out| {
        for state in NodeState::ALL {
            let nodes = cache.verdict.nodes.iter().filter(|node| node.state == *state).count();
            out.labelled(&[state.as_str()], nodes as f64);
        }
    })
    .by(&["state"], NodeState::ALL.len()),
    gauge(
        "cache_storm_active",
        "1 for the leading type of the storm that is on, 0 for all others and without a storm.",
        |cache, out| {
            for storm_type in StormType::ALL {
                let leads = cache.verdict.leading_type == Some(*storm_type);
                out.labelled(&[storm_type.as_str()], f64::from(u8::from(leads)));
            }
        },
    )
    .by(&["storm_type"], TYPES),
    gauge(
        "cache_storm_confidence_ratio",
        "How sure each type of the running storm is, 0–1, by the misses of the affected nodes; 0 without evidence.",
        |cache, out| {
            for storm_type in StormType::ALL {
                let verdict = cache.verdict.storm_types.iter().find(|verdict| verdict.storm_type == *storm_type);
                out.labelled(&[storm_type.as_str()], verdict.map_or(0.0, |verdict| verdict.confidence));
            }
        },
    )
    .by(&["storm_type"], TYPES),
    gauge(
        "cache_storm_started_timestamp_seconds",
        "Onset of the running storm, Unix seconds; absent without a storm.",
        |cache, out| out.number(cache.verdict.started.map(|started| started + cache.detector_to_unix)),
    ),
    gauge(
        "cache_storm_recovering",
        "1 if a storm is on but the last full slice of every affected node was good: escalation waits.",
        |cache, out| out.flag(cache.verdict.recovering),
    ),
    gauge("cache_storm_sustained", "1 if the running storm is older than 30 minutes.", |cache, out| {
        out.flag(cache.verdict.sustained);
    }),
    gauge(
        "cache_storm_planned",
        "1 while planned maintenance covers the cache and, if a storm is on, its leading type.",
        |cache, out| out.flag(cache.planned),
    ),
    gauge(
        "cache_storm_loss_exposure_ratio",
        "Lookups per second ÷ baseline misses per second: how many times today's database load arrives if this cache \
         is lost.",
        |cache, out| out.number(cache.verdict.loss_exposure),
    ),
    gauge(
        "cache_storm_refill_eta_seconds",
        "Missing keys ÷ net insert rate: seconds until the cache is as full as before the storm.",
        |cache, out| out.number(cache.verdict.refill_eta_seconds),
    ),
    CacheRow {
        family: Family::new(
            Scope::Cache,
            Kind::Counter,
            "cache_storm_episodes_total",
            "Storms, counted once under their leading type: at the end, or 90 s after onset.",
        )
        .by(&["storm_type"], TYPES),
        read: |cache, out| {
            for (storm_type, count) in StormType::ALL.iter().zip(cache.episodes_total) {
                out.labelled(&[storm_type.as_str()], count as f64);
            }
        },
    },
    histogram(
        "cache_storm_detection_delay_seconds",
        "Seconds from the last normal poll to the announcement of a storm.",
        |cache, out| out.histogram(&[], &cache.detection_delay_seconds),
    ),
    histogram(
        "cache_storm_episode_duration_seconds",
        "Seconds from the onset of a storm to its end, by leading type.",
        |cache, out| {
            for (storm_type, durations) in StormType::ALL.iter().zip(&cache.episode_duration_seconds) {
                out.histogram(&[storm_type.as_str()], durations);
            }
        },
    )
    .by(&["storm_type"], TYPES),
    histogram(
        "cache_storm_poll_duration_seconds",
        "Seconds from sending a poll to its answer, for polls that were answered.",
        |cache, out| out.histogram(&[], &cache.poll_duration_seconds),
    ),
    gauge("cache_storm_last_round_timestamp_seconds", "When the last round closed, Unix seconds.", |cache, out| {
        out.number(Some(cache.time_unix));
    }),
    gauge(
        "cache_storm_threshold",
        "Threshold in force, in its own unit: rules and dashboards refer to it; absent where it is unset.",
        |cache, out| {
            for threshold in Threshold::ALL {
                if let Some(value) = cache.thresholds.value(*threshold) {
                    out.labelled(&[threshold.spec().name], value);
                }
            }
        },
    )
    .by(&["threshold"], Threshold::ALL.len()),
];
