//! Failovers and flaps, each counted once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::model::NodeName;

/// What says that a failover happened within so many seconds speaks of the same one.
const SAME_FAILOVER: f64 = 60.0;

/// What `last hour` means, seconds.
const HOUR: f64 = 3600.0;

/// Turns remembered of an hour: one every few seconds. Past that, the hour's count is a lower bound.
const TURNS_MAX: usize = 1000;

/// What happened to the masters of one cache, by the name of each.
#[derive(Debug, Default)]
pub(super) struct Turns {
    masters: BTreeMap<Arc<str>, Master>,
    failovers: VecDeque<f64>,
    flaps: VecDeque<f64>,
    failovers_total: u64,
}

#[derive(Debug, Default)]
struct Master {
    epoch: Option<u64>,
    /// When its last failover was counted, and under which epoch, once that is known.
    counted: Option<(f64, Option<u64>)>,
    /// Who says that it is down.
    down_by: BTreeSet<NodeName>,
}

impl Turns {
    pub(super) fn failovers_total(&self) -> u64 {
        self.failovers_total
    }

    pub(super) fn failovers_last_hour(&self) -> u64 {
        self.failovers.len() as u64
    }

    pub(super) fn flaps_last_hour(&self) -> u64 {
        self.flaps.len() as u64
    }

    pub(super) fn forget_before(&mut self, now: f64) {
        for turns in [&mut self.failovers, &mut self.flaps] {
            while turns.front().is_some_and(|at| now - at > HOUR) {
                turns.pop_front();
            }
        }
    }

    /// Keeps the masters of which that is true.
    pub(super) fn retain(&mut self, kept: impl Fn(&str) -> bool) {
        self.masters.retain(|name, _| kept(name));
    }

    /// Something says that a failover happened: an announcement, a promotion, an epoch. Two of them within a
    /// minute are one failover, unless they carry different epochs.
    pub(super) fn failover(&mut self, now: f64, master: &Arc<str>, epoch: Option<u64>) {
        let master = self.masters.entry(Arc::clone(master)).or_default();
        let same = master.counted.is_some_and(|(at, known)| match (known, epoch) {
            (Some(known), Some(epoch)) => known == epoch,
            _ => now - at <= SAME_FAILOVER,
        });
        if same {
            if let Some((_, known)) = &mut master.counted {
                *known = known.or(epoch);
            }
            return;
        }
        master.counted = Some((now, epoch));
        self.failovers_total += 1;
        note(&mut self.failovers, now);
    }

    /// The epoch that a Sentinel reports. The first is what was there before; one that lags behind says nothing.
    pub(super) fn epoch(&mut self, now: f64, master: &Arc<str>, epoch: u64) {
        let before = self.masters.entry(Arc::clone(master)).or_default().epoch.replace(epoch);
        match before {
            Some(before) if epoch > before => self.failover(now, master, Some(epoch)),
            Some(before) => self.masters.entry(Arc::clone(master)).or_default().epoch = Some(before),
            None => {}
        }
    }

    /// Somebody says that the master is down, or is no longer.
    pub(super) fn down(&mut self, now: f64, master: &Arc<str>, by: &NodeName, down: bool) {
        let master = self.masters.entry(Arc::clone(master)).or_default();
        let was_down = !master.down_by.is_empty();
        if down {
            master.down_by.insert(by.clone());
        } else {
            master.down_by.remove(by);
        }
        if was_down && master.down_by.is_empty() {
            note(&mut self.flaps, now);
        }
    }

    /// Takes what everybody says now in the place of what was said before. A master that was down and is there
    /// again, the same or another one, made a turn.
    pub(super) fn settle(&mut self, now: f64, master: &Arc<str>, said: BTreeMap<NodeName, bool>) {
        let master = self.masters.entry(Arc::clone(master)).or_default();
        let was_down = !master.down_by.is_empty();
        master.down_by = said.into_iter().filter_map(|(by, down)| down.then_some(by)).collect();
        if was_down && master.down_by.is_empty() {
            note(&mut self.flaps, now);
        }
    }
}

fn note(turns: &mut VecDeque<f64>, now: f64) {
    if turns.len() == TURNS_MAX {
        turns.pop_front();
    }
    turns.push_back(now);
}
