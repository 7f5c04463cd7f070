//! The state machine of one judged subject, a node or the pool of a cache's thin nodes:
//! ok → pending → affected → recovered.

use serde::{Deserialize, Serialize};

use super::balance::{self, Balance, Removals};
use super::classify::{Facts, MasterKeys};
use super::hot::HotKeys;
use super::indicator::{self, Indicators, Reference};
use super::settings::Durations;
use super::storm::{Affected, Storm, good_slice, no_present_trouble};
use super::verdict::EndReason;
use crate::history::{Baseline, Delta, Restart, Summary, Totals, Window, WindowStats};
use crate::model::{Indicator, Role};
use crate::thresholds::{Threshold, Thresholds};

/// Lookups in the window from which a ratio is judged …
const GUARD_LOOKUPS: f64 = 200.0;
/// … and lookups per second.
const GUARD_LOOKUPS_PER_SECOND: f64 = 10.0;

/// Share of the keys gone within a window that is a cause by itself.
const LOST_SHARE: f64 = 0.15;

/// Memory and state of one subject.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) window: Window,
    pub(crate) baseline: Baseline,
    pub(crate) hot: HotKeys,
    phase: Phase,
    last_normal: Option<f64>,
    /// Hit ratio of the window then, if there were enough lookups to judge by.
    #[serde(default)]
    quiet_ratio: Option<f64>,
    /// Since when the ratio has been so low that only less traffic than usual keeps it from being a storm.
    #[serde(default)]
    doubtful_since: Option<f64>,
    cause: Option<Cause>,
    pub(crate) restart: Option<Restart>,
    pub(crate) promoted: Option<f64>,
    flushed: Option<f64>,
    moving_until: Option<f64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
enum Phase {
    #[default]
    Ok,
    Pending(Suspicion),
    Affected(Box<Storm>),
}

/// When a cause was first and last seen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Cause {
    first: f64,
    last: f64,
    /// Hit ratio of the last quiet window before it.
    #[serde(default)]
    ratio_before: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Suspicion {
    onset: f64,
    last_normal: f64,
    polls: u32,
    balance: Balance,
}

/// What a round tells a subject besides its counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) now: f64,
    /// The last delta of the window is this round's; not while down, and at the first poll of a life.
    pub(crate) present: bool,
    pub(crate) reference: Option<Reference>,
    /// Its ratio may be judged at all: up, not loading, and not left to the pool.
    pub(crate) judgeable: bool,
    /// It counts in severity.
    pub(crate) eligible: bool,
    /// It is dead and another node has its place: its part of a storm is over.
    pub(crate) replaced: bool,
    /// Its cache is in a storm that its own counters cannot show: it must not learn.
    pub(crate) frozen: bool,
    /// Indicators that come from elsewhere than its own counters.
    pub(crate) foreign: Indicators,
    /// Extra misses per second of all nodes of its role whose misses multiplied, itself included.
    pub(crate) extra_misses: f64,
    /// Median commands per second of at least two peers of its role.
    pub(crate) peers_commands: Option<f64>,
    /// Facts that the cache knows about it; the subject completes them.
    pub(crate) facts: Facts,
}

impl Input {
    /// This round's delta.
    pub(super) fn delta<'a>(&self, window: &'a Window) -> Option<&'a Delta> {
        window.last().filter(|_| self.present)
    }
}

/// What a round made of a subject.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judgement {
    pub(crate) stats: Option<WindowStats>,
    pub(crate) judged: bool,
    pub(crate) indicators: Indicators,
    pub(crate) affected: Option<Affected>,
    /// It was affected until this round.
    pub(crate) ended: Option<EndReason>,
}

impl Subject {
    /// Starts anew after a restart or a reset of the counters; the baseline lives on.
    pub(crate) fn clear_window(&mut self) {
        self.window.clear();
        self.baseline.interrupt();
    }

    pub(crate) fn is_affected(&self) -> bool {
        matches!(self.phase, Phase::Affected(_))
    }

    /// A slow decline crossed a line during the storm that is on.
    fn has_declined(&self) -> bool {
        matches!(&self.phase, Phase::Affected(storm) if storm.declined)
    }

    /// Takes in a delta, before anyone is judged.
    pub(crate) fn absorb(&mut self, delta: &Delta, durations: &Durations) {
        self.window.push(*delta, durations.window);
        if delta.migrations.is_some_and(|calls| calls > 0.0) {
            self.moving_until = Some(delta.t + durations.window);
        }
        if delta.flushed() {
            self.flushed = Some(delta.t);
        }
    }

    /// Nobody watched for that many seconds: they do not count as seconds without lookups.
    pub(crate) fn unwatched(&mut self, seconds: f64) {
        if let Phase::Affected(storm) = &mut self.phase {
            storm.guard_lost = storm.guard_lost.map(|since| since + seconds);
        }
    }

    /// Notes that a cause happened: the fast path is armed.
    pub(crate) fn see_cause(&mut self, now: f64, durations: &Durations) {
        match &mut self.cause {
            Some(cause) if now - cause.last <= durations.cause_memory => cause.last = now,
            cause => *cause = Some(Cause { first: now, last: now, ratio_before: self.quiet_ratio }),
        }
    }

    /// Its misses per second beyond the usual, where they multiplied; else 0.
    pub(crate) fn extra_misses(&self) -> f64 {
        let known = self.window.stats().zip(self.baseline.summary());
        known.and_then(|(stats, own)| indicator::extra_misses_where_multiplied(&stats, own)).unwrap_or(0.0)
    }

    /// Enough lookups to judge a ratio by.
    pub(crate) fn guard(&self) -> bool {
        self.window.stats().is_some_and(|stats| {
            stats.lookups >= GUARD_LOOKUPS && stats.lookups / stats.seconds >= GUARD_LOOKUPS_PER_SECOND
        })
    }

    /// Judges one round.
    pub(crate) fn judge(&mut self, input: &Input, durations: &Durations, thresholds: &Thresholds) -> Judgement {
        let stats = self.window.stats().filter(|_| input.present);
        self.look_for_causes(input, durations);
        let guard = input.judgeable && stats.is_some() && self.guard();
        let reference = input.reference.filter(|_| guard);
        let known = stats.zip(reference);
        let (mut indicators, instant) = match &known {
            Some((stats, reference)) => self.ratio_indicators(stats, reference, input, durations, thresholds),
            None => (Indicators::default(), false),
        };
        let by_ratio = !indicators.is_empty();
        let skewed_load = self.load_indicators(stats.as_ref(), guard, input, durations, thresholds, &mut indicators);
        let facts = self.complete(input, stats.as_ref(), skewed_load, durations, thresholds);
        let mut advancing = indicators;
        indicators.extend(input.foreign);
        if input.eligible || self.is_affected() {
            advancing.extend(input.foreign);
        }
        let ended = self.advance(input, advancing, instant, by_ratio, durations);
        let mut judgement = Judgement { stats, judged: reference.is_some(), indicators, affected: None, ended };
        let moving = self.moving(input.now);
        if let Phase::Affected(storm) = &mut self.phase {
            storm.declined |=
                known.is_some_and(|(stats, reference)| indicator::declined(&stats, &reference, thresholds));
            let removals = balance::removals(self.window.totals(), facts.usual.as_ref(), moving);
            storm.hear_evidence(input, &self.window, removals, &facts, durations);
            let reference = input.reference.as_ref();
            let recovering = no_present_trouble(indicators) && good_slice(&self.window, reference, durations);
            let established = is_established(self.baseline.summary());
            judgement.affected = Some(storm.verdict(input.now, facts.loading, recovering, established, durations));
        }
        let doubtful = matches!(self.phase, Phase::Ok)
            && known.is_some_and(|(stats, reference)| indicator::is_storm_but_for_traffic(&stats, &reference));
        self.remember(input, indicators, stats.as_ref(), doubtful, durations);
        judgement
    }

    fn ratio_indicators(
        &self,
        stats: &WindowStats,
        reference: &Reference,
        input: &Input,
        durations: &Durations,
        thresholds: &Thresholds,
    ) -> (Indicators, bool) {
        let memory = input.delta(&self.window).and_then(|delta| delta.memory_used_ratio);
        let mut found =
            indicator::of_window(stats, memory, reference, input.extra_misses, self.has_declined(), thresholds);
        let seen = self.cause.is_some_and(|cause| {
            // Where one cause follows another for hours, what was before the first is no measure.
            let before = cause.ratio_before.filter(|_| input.now - cause.first <= durations.cause_memory);
            input.now - cause.last <= durations.cause_memory
                && indicator::fell_after_cause(&self.since_cause(cause), reference, before)
        });
        found.insert_if(seen, Indicator::CauseSeen);
        let last = Totals::over(self.window.last().into_iter()).stats();
        let fallen = found.contains(Indicator::HitRatioDrop);
        found.insert_if(indicator::fell_at_once(&last, reference), Indicator::HitRatioDrop);
        let collapsed = indicator::collapsed(stats, reference, thresholds) || indicator::collapsing(&last, reference);
        (found, seen || (collapsed && fallen))
    }

    /// The last poll, and before it as many since the cause as make a hundred lookups.
    fn since_cause(&self, cause: Cause) -> WindowStats {
        let mut lookups = 0.0;
        let counted = self.window.iter().rev().enumerate().map_while(|(back, delta)| {
            let wanted = back == 0 || (lookups < 100.0 && delta.t >= cause.first);
            lookups += delta.lookups();
            wanted.then_some(delta)
        });
        Totals::over(counted).stats()
    }

    /// `write_refusal` and `hot_overload`; the latter's form without a key sample is the result.
    fn load_indicators(
        &self,
        stats: Option<&WindowStats>,
        guard: bool,
        input: &Input,
        durations: &Durations,
        thresholds: &Thresholds,
        found: &mut Indicators,
    ) -> bool {
        let Some(stats) = stats else { return false };
        found.insert_if(input.eligible && stats.oom_errors >= 1.0, Indicator::WriteRefusal);
        let Some(usual) = self.baseline.summary().filter(|_| guard) else { return false };
        let own_factor = stats.commands >= 3.0 * usual.commands;
        let peer_factor = input.peers_commands.map(|peers| stats.commands >= 3.0 * peers);
        let sampled = self.hot.fresh(input.now, durations.hot_sample_age);
        // A lone node has no peers to compare with: there a sample must speak, a surge alone says nothing.
        let hot = sampled.is_some() && self.hot.share(input.now, durations.hot_sample_age).is_some();
        let skewed = sampled.is_none() && stats.commands >= thresholds.get(Threshold::HotKeyCommandsPerSecond);
        let overload = own_factor && (hot && peer_factor != Some(false) || skewed && peer_factor == Some(true));
        found.insert_if(overload, Indicator::HotOverload);
        overload && skewed
    }

    fn complete(
        &self,
        input: &Input,
        stats: Option<&WindowStats>,
        skewed_load: bool,
        durations: &Durations,
        thresholds: &Thresholds,
    ) -> Facts {
        let promoted = self.promoted.filter(|at| input.now - at <= durations.promotion_memory);
        Facts {
            usual: self.baseline.summary().copied(),
            restart: self.recent_restart(input.now, durations),
            promoted: input.facts.promoted || promoted.is_some(),
            flushed_since_promotion: promoted.zip(self.flushed).is_some_and(|(promoted, flushed)| flushed >= promoted),
            hot_share: self.hot.share(input.now, durations.hot_sample_age),
            hot_rebuilds: self.hot.rebuilds(input.now, durations.hot_sample_age),
            skewed_load,
            oom_per_second: stats.map_or(0.0, |stats| stats.oom_errors),
            memory_limit: thresholds.get(Threshold::MemoryPressureRatio),
            flapping_from: thresholds.get(Threshold::FailoversPerHour),
            ..input.facts
        }
    }

    fn recent_restart(&self, now: f64, durations: &Durations) -> Option<Restart> {
        self.restart
            .filter(|restart| now - restart.t + restart.uptime <= durations.restart_memory + durations.longest_gap)
    }

    /// What became of a master's keys lately: what is missed at its replicas is told by nothing else.
    pub(crate) fn keys(&self, now: f64, durations: &Durations) -> MasterKeys {
        let balance = Balance::of(&self.window, self.removals(now), now);
        let usual = self.baseline.summary().copied();
        MasterKeys { balance, usual, restart: self.recent_restart(now, durations) }
    }

    /// A flush; an unexplained loss, an excess expiry or eviction of enough keys. The excess forms need an established
    /// past.
    fn look_for_causes(&mut self, input: &Input, durations: &Durations) {
        let Some(delta) = input.delta(&self.window) else { return };
        if delta.flushed() || (input.facts.role == Some(Role::Master) && self.lost_keys(delta, input.now)) {
            self.see_cause(input.now, durations);
        }
    }

    fn lost_keys(&self, last: &Delta, now: f64) -> bool {
        let (usual, removals) = (self.baseline.summary(), self.removals(now));
        // In ordinary life the sums alone show that nothing like it can have happened.
        let Totals { expired, evicted, removed, .. } = *self.window.totals();
        let most = expired.max(evicted).max(removed) as f64;
        let refilled = matches!(removals, Removals::Refilled(_));
        if !refilled && last.keys.is_some_and(|(before, _)| most < LOST_SHARE * before) {
            return false;
        }
        let excess = Balance::of(&self.window, removals, now).excess(usual);
        let lost = |part: f64| part / excess.keys_before >= LOST_SHARE;
        lost(excess.removed) || is_established(usual) && (lost(excess.expired) || lost(excess.evicted))
    }

    fn moving(&self, now: f64) -> bool {
        self.moving_until.is_some_and(|until| now <= until)
    }

    /// How the removals of its window are to be read.
    fn removals(&self, now: f64) -> Removals {
        balance::removals(self.window.totals(), self.baseline.summary(), self.moving(now))
    }

    /// Moves the state machine; the result is how a storm ended, if it did.
    fn advance(
        &mut self,
        input: &Input,
        indicators: Indicators,
        instant: bool,
        by_ratio: bool,
        durations: &Durations,
    ) -> Option<EndReason> {
        let now = input.now;
        match std::mem::take(&mut self.phase) {
            Phase::Ok | Phase::Pending(_) if indicators.is_empty() => None,
            Phase::Ok => {
                let suspicion = self.suspect(now, durations);
                self.phase = confirm(suspicion, now, instant, by_ratio, durations);
                None
            }
            Phase::Pending(mut suspicion) => {
                suspicion.polls += 1;
                if let Some(delta) = input.delta(&self.window) {
                    suspicion.balance.add(delta, self.removals(now));
                }
                self.phase = confirm(suspicion, now, instant, by_ratio, durations);
                None
            }
            Phase::Affected(mut storm) => {
                storm.by_ratio |= by_ratio;
                let ended = storm.end(input, &self.window, indicators, self.guard(), durations);
                match ended {
                    Some(EndReason::Accepted) => {
                        self.baseline.accept(self.window.iter(), durations.spans);
                        self.cause = None;
                    }
                    Some(EndReason::Recovered) => self.absolve(),
                    Some(_) => {}
                    None => self.phase = Phase::Affected(storm),
                }
                ended
            }
        }
        .inspect(|_| {
            self.baseline.freeze();
            // From before the storm: what is usual now has yet to be seen.
            self.quiet_ratio = None;
        })
    }

    /// The node came back: what caused that storm does not explain the next one.
    fn absolve(&mut self) {
        (self.cause, self.restart, self.promoted, self.flushed) = (None, None, None, None);
    }

    /// First abnormal poll: evidence is gathered from half a minute before it.
    fn suspect(&self, now: f64, durations: &Durations) -> Suspicion {
        let removals = self.removals(now);
        let mut balance = Balance::new(now);
        if let Some(before) = self.restart.filter(|restart| now - restart.t <= durations.evidence_before) {
            balance.keys_before = before.keys_before.unwrap_or(0.0);
        }
        for delta in self.window.iter().filter(|delta| now - delta.t <= durations.evidence_before) {
            balance.add(delta, removals);
        }
        Suspicion { onset: now, last_normal: self.last_normal.unwrap_or(now), polls: 1, balance }
    }

    /// Closes the round: quiet traffic teaches, anything else does not. `doubtful`: quiet for want of traffic.
    fn remember(
        &mut self,
        input: &Input,
        indicators: Indicators,
        stats: Option<&WindowStats>,
        doubtful: bool,
        durations: &Durations,
    ) {
        self.doubtful_since = if doubtful { self.doubtful_since.or(Some(input.now)) } else { None };
        if self.doubtful_since.is_some_and(|since| input.now - since >= durations.accepted) {
            // As of a storm: that is how things are now.
            self.baseline.accept(self.window.iter(), durations.spans);
            self.doubtful_since = None;
        }
        let usual_load =
            self.baseline.summary().zip(stats).is_none_or(|(usual, stats)| stats.commands < 2.0 * usual.commands);
        self.hot.learn(indicators.is_empty() && usual_load);
        match (&self.phase, input.delta(&self.window)) {
            (Phase::Affected(_), _) => self.baseline.freeze(),
            (Phase::Ok, Some(delta)) if indicators.is_empty() && !input.frozen && !doubtful => {
                self.baseline.learn(delta, durations.spans);
                self.last_normal = Some(delta.t);
                self.quiet_ratio = stats.filter(|_| self.guard()).and_then(|stats| stats.hit_ratio);
            }
            _ => self.baseline.interrupt(),
        }
    }
}

/// Ten slices of past: a handful could miss the ordinary rhythm of expiry.
fn is_established(usual: Option<&Summary>) -> bool {
    usual.is_some_and(|usual| usual.slices >= 10)
}

fn confirm(suspicion: Suspicion, now: f64, instant: bool, by_ratio: bool, durations: &Durations) -> Phase {
    // A tenth of tolerance: jitter must not cost another poll.
    let suspected_long = durations.confirm_polls == 1 || now - suspicion.onset >= 0.9 * durations.confirm;
    if !instant && (suspicion.polls < durations.confirm_polls || !suspected_long) {
        return Phase::Pending(suspicion);
    }
    let Suspicion { onset, last_normal, balance, .. } = suspicion;
    Phase::Affected(Box::new(Storm::new(onset, last_normal, now, balance, by_ratio)))
}
