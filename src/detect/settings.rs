//! What the detector can be told: thresholds, durations, and how severity is taken.

use crate::history::baseline::Spans;
use crate::model::SeverityMode;
use crate::thresholds::{Threshold, Thresholds};

/// Settings of one cache's detector.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Thresholds in force.
    pub thresholds: Thresholds,
    /// Durations in force.
    pub timing: Timing,
    /// What severity is the share of.
    pub severity_mode: SeverityMode,
    /// Seconds between polls.
    pub poll_interval: f64,
}

/// The configurable durations, seconds, as written: before [`Timing::time_scale`] divides them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// The short present.
    pub window: f64,
    /// Length of one baseline slice.
    pub slice: f64,
    /// Span of the short baseline.
    pub baseline: f64,
    /// How long a node is suspected before it is affected.
    pub confirm: f64,
    /// How long a node must look well before it has recovered.
    pub clear: f64,
    /// How long a node stays affected at least.
    pub hold: f64,
    /// How long a seen cause arms the fast path.
    pub cause_memory: f64,
    /// Divides every duration the detector knows, these and the fixed ones alike.
    pub time_scale: f64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            window: 30.0,
            slice: 10.0,
            baseline: 600.0,
            confirm: 5.0,
            clear: 15.0,
            hold: 60.0,
            cause_memory: 60.0,
            time_scale: 1.0,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            thresholds: Thresholds::default(),
            timing: Timing::default(),
            severity_mode: SeverityMode::default(),
            poll_interval: 5.0,
        }
    }
}

/// What every judgement of a round shares.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: f64,
    pub(crate) durations: &'a Durations,
    pub(crate) thresholds: &'a Thresholds,
}

/// Every duration the detector uses, seconds, already divided by the time scale. Samples are never scaled:
/// rates and lookup counts stay as measured. The fixed ones are given in docs/detection.md with their reasons.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Durations {
    /// The short present.
    pub(crate) window: f64,
    /// Slices, their delay and the span of the short baseline.
    pub(crate) spans: Spans,
    /// From suspicion to affected.
    pub(crate) confirm: f64,
    /// Polls needed for that.
    pub(crate) confirm_polls: u32,
    /// From the last indicator to recovered.
    pub(crate) clear: f64,
    /// Shortest time affected.
    pub(crate) hold: f64,
    /// How long a seen cause arms the fast path.
    pub(crate) cause_memory: f64,
    /// Evidence counts from this long before the onset …
    pub(crate) evidence_before: f64,
    /// … until this long after it; later only stronger evidence does.
    pub(crate) evidence_after: f64,
    /// A restart can be a cold start this long.
    pub(crate) restart_memory: f64,
    /// A promotion explains this long.
    pub(crate) promotion_memory: f64,
    /// The indicator `failover` stays this long.
    pub(crate) failover_hold: f64,
    /// A promotion and a rise of Sentinel's epoch this close are one failover.
    pub(crate) failover_match: f64,
    /// Failovers are counted over this span.
    pub(crate) failover_span: f64,
    /// Lookups are averaged over this span to decide who counts.
    pub(crate) eligible_span: f64,
    /// A hot-key sample counts this long.
    pub(crate) hot_sample_age: f64,
    /// An eligible master is `unreachable` from this long without an answer.
    pub(crate) unreachable: f64,
    /// A replica's link counts as down from this long.
    pub(crate) link_down: f64,
    /// Data lag that shows `replication_lag`.
    pub(crate) lag_limit: f64,
    /// Without lookups to judge by for this long, a storm is left as `no_traffic`.
    pub(crate) no_traffic: f64,
    /// A storm is `sustained` from this age.
    pub(crate) sustained: f64,
    /// A steady ratio is accepted as the new normal after this long.
    pub(crate) accepted: f64,
    /// `unknown` is announced only after this long without a better type.
    pub(crate) unknown_after: f64,
    /// A stronger type takes the lead only after this long.
    pub(crate) lead_hold: f64,
    /// Two polls further apart are not compared.
    pub(crate) longest_gap: f64,
}

impl Durations {
    pub(crate) fn of(settings: &Settings) -> Self {
        let Timing { window, slice, baseline, confirm, clear, hold, cause_memory, time_scale } = settings.timing;
        let scaled = |seconds: f64| seconds / time_scale;
        let poll = settings.poll_interval;
        // At polls this slow the first one has seen half a minute already.
        let slow = poll >= scaled(30.0) * 0.99;
        let window = scaled(window).max(2.0 * poll);
        Self {
            window,
            spans: Spans { slice: scaled(slice).max(poll), delay: window, baseline: scaled(baseline) },
            confirm: scaled(confirm),
            // At slow polls a second one would cost a minute; the window then holds two polls anyway.
            confirm_polls: if slow { 1 } else { 2 },
            clear: scaled(clear),
            hold: scaled(hold),
            cause_memory: scaled(cause_memory).max(poll),
            evidence_before: scaled(30.0).max(window),
            // Quiet polls summed on top of it would hide what happened.
            evidence_after: if slow { 0.0 } else { scaled(60.0) },
            restart_memory: scaled(600.0),
            promotion_memory: scaled(300.0),
            failover_hold: scaled(60.0),
            failover_match: scaled(60.0),
            failover_span: scaled(3600.0),
            eligible_span: scaled(600.0),
            hot_sample_age: scaled(80.0),
            unreachable: scaled(15.0),
            link_down: scaled(15.0),
            lag_limit: scaled(settings.thresholds.get(Threshold::ReplicationLagSeconds)),
            no_traffic: scaled(300.0),
            sustained: scaled(1800.0),
            accepted: scaled(21_600.0),
            unknown_after: scaled(30.0),
            lead_hold: scaled(60.0),
            longest_gap: window.max(3.0 * poll),
        }
    }
}
