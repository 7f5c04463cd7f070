//! Who is called down by a Sentinel while we reach it, or the other way round.

use std::collections::BTreeMap;

use crate::model::{NodeName, SentinelFlag};
use crate::topology::sentinel::Instance;

/// How long two views must contradict each other, seconds: they are taken at different moments. Where a Sentinel
/// still calls up what we do not reach, its own patience (`down-after-milliseconds`) is added.
const PATIENCE: f64 = 5.0;

/// What is said of one server in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Opinion {
    /// We reach it.
    reached: bool,
    /// A Sentinel calls it down.
    called_down: bool,
    /// A Sentinel calls it up.
    called_up: bool,
    /// The longest silence that a Sentinel tolerates, seconds.
    silence: f64,
}

impl Opinion {
    pub(super) fn of(reached: bool) -> Self {
        Self { reached, called_down: false, called_up: false, silence: 0.0 }
    }

    pub(super) fn hear(&mut self, instance: &Instance, silence: f64) {
        let down = instance.is_down();
        self.called_down |= down;
        self.called_up |= !down && !instance.has(SentinelFlag::Disconnected);
        self.silence = self.silence.max(silence);
    }

    /// How long it must last to mean something; `None` where the views agree.
    fn contradiction(&self) -> Option<f64> {
        match self.reached {
            true => self.called_down.then_some(PATIENCE),
            false => self.called_up.then_some(PATIENCE + self.silence),
        }
    }
}

/// Contradictions and since when they last.
#[derive(Debug, Default)]
pub(super) struct Disputes(BTreeMap<NodeName, Dispute>);

#[derive(Debug, Clone, Copy)]
struct Dispute {
    since: f64,
    reached: bool,
}

impl Disputes {
    /// Takes a round's opinions; the result is what has been contradictory for long enough, by name.
    pub(super) fn settle(&mut self, now: f64, opinions: BTreeMap<NodeName, Opinion>) -> Vec<NodeName> {
        let before = std::mem::take(&mut self.0);
        let mut lasting = Vec::new();
        for (name, opinion) in opinions {
            let Some(long_enough) = opinion.contradiction() else { continue };
            let known = before.get(&name).filter(|dispute| dispute.reached == opinion.reached);
            let dispute = known.copied().unwrap_or(Dispute { since: now, reached: opinion.reached });
            if now - dispute.since >= long_enough {
                lasting.push(name.clone());
            }
            self.0.insert(name, dispute);
        }
        lasting
    }
}
