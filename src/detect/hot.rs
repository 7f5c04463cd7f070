//! The hottest key's share of a node's accesses, where someone samples it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::verdict::HotKeySample;
use crate::history::median;

/// Samples of fewer accesses say nothing about a share.
const ACCESSES_MIN: u64 = 50;

/// A key is hot from this share of the accesses …
const HOT_SHARE: f64 = 0.20;

/// … and from this multiple of its usual odds (share ÷ rest): under a steep Zipf law a key of a fifth is
/// everyday. Odds, because a share above a half cannot double; for small shares the two are the same.
const HOT_FACTOR: f64 = 2.0;

/// Who rebuilds a key has missed it before: writes beyond this share of its accesses are something else, a counter's.
const REBUILD_RATIO_MAX: f64 = 0.6;

/// Quiet samples remembered to know what is usual.
const USUAL_MAX: usize = 16;

/// What is known of a node's hottest key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct HotKeys {
    latest: Option<(f64, f64)>,
    /// Writes to the latest hottest key, as a share of all accesses, where they are rebuilds of what was read.
    #[serde(default)]
    rebuilds: Option<f64>,
    unlearnt: bool,
    usual: VecDeque<f32>,
}

impl HotKeys {
    /// Takes a sample.
    pub(crate) fn take(&mut self, now: f64, sample: HotKeySample) {
        if sample.accesses >= ACCESSES_MIN {
            self.latest = Some((now, sample.share));
            self.rebuilds =
                sample.write_ratio.filter(|ratio| *ratio <= REBUILD_RATIO_MAX).map(|ratio| ratio * sample.share);
            self.unlearnt = true;
        }
    }

    /// The latest share, if it is young enough to count.
    pub(crate) fn fresh(&self, now: f64, age: f64) -> Option<f64> {
        self.latest.filter(|(at, _)| now - at <= age).map(|(_, share)| share)
    }

    /// The latest share, if it is young enough and unusual. Without a past, a fifth is taken for
    /// usual: a key of a fifth may be this node's everyday.
    pub(crate) fn share(&self, now: f64, age: f64) -> Option<f64> {
        let share = self.fresh(now, age).filter(|share| *share >= HOT_SHARE)?;
        let usual = median(&mut self.usual.iter().map(|share| f64::from(*share)).collect::<Vec<_>>());
        let odds = |share: f64| share / (1.0 - share).max(1e-9);
        let limit = HOT_FACTOR * odds(usual.unwrap_or(HOT_SHARE));
        Some(share).filter(|share| odds(*share) >= limit)
    }

    /// Rebuilds of the hottest key per access to any, if it is young enough and unusual.
    pub(crate) fn rebuilds(&self, now: f64, age: f64) -> Option<f64> {
        self.share(now, age).and(self.rebuilds)
    }

    /// At the end of a round: a sample of quiet traffic tells what is usual.
    pub(crate) fn learn(&mut self, quiet: bool) {
        if let (true, true, Some((_, share))) = (self.unlearnt, quiet, self.latest) {
            self.usual.push_back(share as f32);
            if self.usual.len() > USUAL_MAX {
                self.usual.pop_front();
            }
        }
        self.unlearnt = false;
    }
}
