//! A storm of one subject, from its confirmation to its end: what caused it, and when it is over.

use serde::{Deserialize, Serialize};

use super::balance::{Balance, Removals};
use super::classify::{self, Diagnosis, Facts, Scores};
use super::indicator::{self, Indicators, Reference};
use super::settings::Durations;
use super::subject::Input;
use super::verdict::EndReason;
use crate::history::{Totals, Window, WindowStats};
use crate::model::{Indicator, StormType};

/// A confirmed storm of one subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Storm {
    onset: f64,
    last_normal: f64,
    since: f64,
    balance: Balance,
    scores: Scores,
    /// Of a replica: by its master's keys.
    #[serde(default)]
    scores_by_master: Scores,
    /// First and number of polls without an indicator.
    clear: Option<(f64, u32)>,
    /// The ratio took part: it must come back.
    pub(super) by_ratio: bool,
    /// A slow decline crossed a line: it is over some way above it.
    #[serde(default)]
    pub(super) declined: bool,
    pub(super) guard_lost: Option<f64>,
    unnamed: Option<f64>,
    /// Since when the ratio is steady, and where.
    steady: Option<(f64, f64)>,
}

/// An affected subject.
#[derive(Debug, Clone)]
pub(crate) struct Affected {
    pub(crate) onset: f64,
    pub(crate) last_normal: f64,
    /// Its cause; `None` while nothing is sure enough and `unknown` would be premature.
    pub(crate) diagnosis: Option<Diagnosis>,
    /// A second cause at work beside it.
    pub(crate) second: Option<Diagnosis>,
    pub(crate) balance: Balance,
    /// Its last full slice was good.
    pub(crate) recovering: bool,
}

impl Storm {
    /// One that is confirmed at `since`.
    pub(super) fn new(onset: f64, last_normal: f64, since: f64, balance: Balance, by_ratio: bool) -> Self {
        Self {
            onset,
            last_normal,
            since,
            balance,
            scores: Scores::default(),
            scores_by_master: Scores::default(),
            clear: None,
            by_ratio,
            declined: false,
            guard_lost: None,
            unnamed: None,
            steady: None,
        }
    }

    /// Takes in the round's evidence: within the evidence window by summing on, later by what the present
    /// window shows, where that is stronger.
    pub(super) fn hear_evidence(
        &mut self,
        input: &Input,
        window: &Window,
        removals: Removals,
        facts: &Facts,
        durations: &Durations,
    ) {
        if input.now <= self.onset + durations.evidence_after {
            if input.now > self.since
                && let Some(delta) = input.delta(window)
            {
                self.balance.add(delta, removals);
            }
            self.scores = classify::scores(&self.balance, facts);
        } else if input.present || facts.promoted {
            let mut present = Balance::of(window, removals, input.now);
            // K0 stays what it was before the onset, unless there are more keys now.
            present.keys_before = present.keys_before.max(self.balance.keys_before);
            self.scores.raise_to(&classify::scores(&present, facts));
        }
        if let Some(master) = facts.master.filter(|_| input.present) {
            let lookups = Balance::of(window, removals, input.now);
            self.scores_by_master.raise_to(&classify::scores_by_master(&lookups, &master, facts));
        }
        self.scores.raise_to(&self.scores_by_master);
    }

    /// `loading`: it loads its data set now. `established`: enough is known of ordinary life to tell a second cause from
    /// it.
    pub(super) fn verdict(
        &mut self,
        now: f64,
        loading: bool,
        recovering: bool,
        established: bool,
        durations: &Durations,
    ) -> Affected {
        // Not kept: when the load is over, what has come of it tells.
        let scores = if loading { self.scores.while_loading() } else { self.scores };
        let (diagnosis, second) = scores.diagnose(established);
        let named = diagnosis.storm_type != StormType::Unknown;
        let since = *self.unnamed.get_or_insert(now);
        if named {
            self.unnamed = None;
        }
        let announced = named || now - since >= durations.unknown_after;
        Affected {
            onset: self.onset,
            last_normal: self.last_normal,
            diagnosis: announced.then_some(diagnosis),
            second,
            balance: self.balance,
            recovering,
        }
    }

    pub(super) fn end(
        &mut self,
        input: &Input,
        window: &Window,
        indicators: Indicators,
        guard: bool,
        durations: &Durations,
    ) -> Option<EndReason> {
        if input.replaced {
            return Some(EndReason::Removed);
        }
        let now = input.now;
        let reference = input.reference.as_ref();
        let ratio = window.stats().filter(|_| guard && input.present && input.judgeable);
        // A dead master and a stale replica have no traffic to judge by either: their indicator holds them, and when
        // it lets go, the time without lookups begins.
        let silent = ratio.is_none() && indicators.is_empty();
        self.guard_lost = if silent { self.guard_lost.or(Some(now)) } else { None };
        if let Some(stats) = &ratio
            && self.accepts(now, stats, durations)
            && no_present_trouble(indicators)
        {
            return Some(EndReason::Accepted);
        }
        if self.guard_lost.is_some_and(|since| now - since >= durations.no_traffic) {
            return Some(EndReason::NoTraffic);
        }
        let well = input.present
            && indicators.is_empty()
            && match (&ratio, reference) {
                (Some(stats), Some(reference)) => is_recovered(stats, reference),
                _ => !self.by_ratio,
            };
        if !well {
            self.clear = None;
            return None;
        }
        let (since, polls) = self.clear.map_or((now, 1), |(since, polls)| (since, polls + 1));
        self.clear = Some((since, polls));
        let long_enough = now - since >= 0.9 * durations.clear && polls >= 2 && now - self.since >= durations.hold;
        long_enough.then_some(EndReason::Recovered)
    }

    /// Six hours within ten points of one ratio, or as near as so few lookups can be: that is how things are now.
    fn accepts(&mut self, now: f64, stats: &WindowStats, durations: &Durations) -> bool {
        let Some(ratio) = stats.hit_ratio else { return false };
        let near = indicator::chance(ratio, stats.lookups).clamp(0.10, 0.20);
        let steady = self.steady.filter(|(_, at)| (ratio - at).abs() < near).unwrap_or((now, ratio));
        self.steady = Some(steady);
        now - steady.0 >= durations.accepted
    }
}

/// The ratio is back within 5 points (or two deviations) of its reference and the database load within twice what is
/// usual at so many lookups: those that other nodes' clients bring after a failover bring their misses.
fn is_recovered(stats: &WindowStats, reference: &Reference) -> bool {
    let ratio = stats.hit_ratio.is_some_and(|ratio| ratio >= reference.hit_ratio - (2.0 * reference.sigma).max(0.05));
    let load = reference.own.is_none_or(|own| {
        let more_lookups = (stats.lookups / stats.seconds / own.lookups.max(1.0)).max(1.0);
        stats.misses < 2.0 * own.misses.max(1.0) * more_lookups || stats.misses - own.misses < 25.0
    });
    ratio && load
}

/// The last slice of the window alone would count as recovered.
pub(super) fn good_slice(window: &Window, reference: Option<&Reference>, durations: &Durations) -> bool {
    let Some(reference) = reference else { return false };
    let mut seconds = 0.0;
    let slice = window.iter().rev().take_while(|delta| {
        let wanted = seconds < 0.9 * durations.spans.slice;
        seconds += delta.dt;
        wanted
    });
    let stats = Totals::over(slice).stats();
    seconds >= 0.9 * durations.spans.slice && stats.hit_ratio.is_some() && is_recovered(&stats, reference)
}

/// Ratio indicators look back a whole window; these speak of the present: while one holds, the storm is neither
/// recovering nor the new normal.
pub(super) fn no_present_trouble(indicators: Indicators) -> bool {
    use Indicator::{HotOverload, ReplicationLag, ReplicationLinkDown, Unreachable, WriteRefusal};
    ![HotOverload, ReplicationLag, ReplicationLinkDown, Unreachable, WriteRefusal]
        .into_iter()
        .any(|indicator| indicators.contains(indicator))
}
