//! The runbook's own sketch, to be beaten: lifetime counters against fixed thresholds. Its faults are kept on
//! purpose: dead nodes vanish from the denominator, no memory limit divides by one, one eviction ever counts
//! for ever, and what nothing else explains is an expiry wave.

use std::collections::{BTreeMap, VecDeque};

use cache_storm_exporter::model::StormType;

/// What the sketch reads of a node that answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) hits: f64,
    pub(crate) misses: f64,
    pub(crate) operations_per_second: f64,
    pub(crate) used_memory: f64,
    pub(crate) maxmemory: f64,
    pub(crate) evicted: f64,
}

/// The sketch and its memory: the last hundred ratios per node.
#[derive(Debug, Default)]
pub(crate) struct Naive {
    history: BTreeMap<usize, VecDeque<f64>>,
}

impl Naive {
    /// One round: the nodes it calls affected, and the type it gives them all.
    pub(crate) fn judge(&mut self, round: &[(usize, Reading)]) -> (Vec<usize>, StormType) {
        let ratios: Vec<f64> = round.iter().map(|(_, reading)| reading.percent()).collect();
        let mut affected = Vec::new();
        for ((node, reading), percent) in round.iter().zip(&ratios) {
            let history = self.history.entry(*node).or_default();
            history.push_back(*percent);
            if history.len() > 100 {
                history.pop_front();
            }
            let recent: f64 = history.iter().rev().take(10).sum::<f64>() / 10.0;
            let full = 100.0 * reading.used_memory / reading.maxmemory.max(1.0) > 90.0;
            if *percent < 50.0
                || (reading.operations_per_second > 1000.0 && *percent < 70.0)
                || (full && reading.evicted > 0.0)
                || (history.len() > 10 && *percent < 0.5 * recent)
            {
                affected.push(*node);
            }
        }
        let mean = ratios.iter().sum::<f64>() / ratios.len().max(1) as f64;
        let sum = |part: fn(&Reading) -> f64| round.iter().map(|(_, reading)| part(reading)).sum::<f64>();
        let storm_type = if mean < 30.0 && sum(|reading| reading.operations_per_second) > 500.0 {
            StormType::ColdStart
        } else if sum(|reading| reading.evicted) > 0.0 && mean < 60.0 {
            StormType::MemoryPressure
        } else if mean > 70.0 && round.iter().any(|(_, reading)| reading.operations_per_second > 5000.0) {
            StormType::HotKey
        } else {
            StormType::MassExpiration
        };
        (affected, storm_type)
    }
}

impl Reading {
    /// Lifetime hit ratio in per cent; 0 without lookups, as the sketch has it.
    fn percent(&self) -> f64 {
        let lookups = self.hits + self.misses;
        if lookups > 0.0 { 100.0 * self.hits / lookups } else { 0.0 }
    }
}
