//! How old a replica's data is: from offsets, never from the age of an acknowledgement.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::settings::Durations;
use crate::parse::Sample;

/// Offsets remembered of a master. Older than that, a lag is a lower bound that keeps growing.
const OFFSETS_MAX: usize = 64;

/// `repl-ping-replica-period` of the server: an idle link is silent that long. A property of the server,
/// so no time scale applies to it. Seconds.
const PING_PERIOD: f64 = 10.0;

/// Where a master's replication stream stood at its last polls.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Offsets(VecDeque<(f64, u64)>);

impl Offsets {
    /// Where the stream stood at the last poll.
    fn last(&self) -> Option<u64> {
        self.0.back().map(|(_, offset)| *offset)
    }

    /// Takes the next poll's offset. An offset that fell is another history.
    pub(crate) fn push(&mut self, t: f64, offset: u64) {
        if self.0.back().is_some_and(|(_, last)| *last > offset) {
            self.0.clear();
        }
        if self.0.len() == OFFSETS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((t, offset));
    }

    /// When the stream passed `offset`, interpolated between polls; `None` if it has not yet.
    /// An offset older than all memory was passed at the oldest poll remembered, at the latest.
    fn passed(&self, offset: u64) -> Option<f64> {
        // A replica that keeps up stands at the end.
        self.last().filter(|last| *last > offset)?;
        let after = self.0.partition_point(|(_, at)| *at <= offset);
        let (t2, o2) = self.0[after];
        let Some((t1, o1)) = after.checked_sub(1).map(|before| self.0[before]) else { return Some(t2) };
        Some(t1 + (t2 - t1) * (offset - o1) as f64 / (o2 - o1) as f64)
    }
}

/// What is remembered of a replica.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Following {
    /// Its last offset behind the master, and when the master passed it.
    behind: Option<(u64, f64)>,
    lagging_polls: u32,
    link_down_since: Option<f64>,
}

/// How a replica follows, this round.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Staleness {
    /// Age of its data, seconds.
    pub(crate) lag: Option<f64>,
    /// Bytes of the master's stream that it has not got; `None` without a known master.
    pub(crate) lag_bytes: Option<u64>,
    /// Lag at or over the limit for two polls.
    pub(crate) lagging: bool,
    /// Link down for longer than a hiccup.
    pub(crate) link_down: bool,
    /// A full sync or a load is under way.
    pub(crate) refilling: bool,
}

impl Staleness {
    /// Why its data is old, if it is.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self { link_down: true, .. } => Some("link_down"),
            Self { refilling: true, .. } => Some("full_sync"),
            Self { lagging: true, .. } => Some("data_lag"),
            _ => None,
        }
    }
}

impl Following {
    /// Judges one poll of a replica. `master`: the offsets of the master with the same `master_replid`, if known.
    pub(crate) fn follow(
        &mut self,
        now: f64,
        sample: &Sample,
        master: Option<&Offsets>,
        durations: &Durations,
    ) -> Staleness {
        let lag = self.lag(now, sample, master);
        let over = lag.is_some_and(|lag| lag >= durations.lag_limit);
        self.lagging_polls = if over { self.lagging_polls + 1 } else { 0 };
        self.link_down_since = match sample.link_up {
            Some(false) => self.link_down_since.or(Some(now)),
            _ => None,
        };
        let gap = |offset| Some(master?.last()?.saturating_sub(offset));
        Staleness {
            lag,
            lag_bytes: sample.replica_offset_bytes.and_then(gap),
            lagging: self.lagging_polls >= 2,
            link_down: self.link_down_since.is_some_and(|since| now - since >= durations.link_down),
            refilling: sample.sync_in_progress == Some(true) || sample.is_loading(),
        }
    }

    fn lag(&mut self, now: f64, sample: &Sample, master: Option<&Offsets>) -> Option<f64> {
        let offset = sample.replica_offset_bytes?;
        let Some(master) = master else {
            self.behind = None;
            return sample.master_last_io_seconds.map(|seconds| (seconds - PING_PERIOD).max(0.0));
        };
        // A stalled replica keeps its offset: when the master passed it is remembered, its ring forgets.
        if let Some((at, passed)) = self.behind
            && at == offset
        {
            return Some(now - passed);
        }
        self.behind = master.passed(offset).map(|passed| (offset, passed));
        Some(self.behind.map_or(0.0, |(_, passed)| (now - passed).max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::settings::Settings;

    fn replica(offset: u64) -> Sample {
        Sample { replica_offset_bytes: Some(offset), link_up: Some(true), ..Sample::default() }
    }

    #[test]
    fn lag_is_the_time_since_the_master_passed_the_replicas_offset() {
        let durations = Durations::of(&Settings::default());
        let (mut master, mut following) = (Offsets::default(), Following::default());
        for poll in 0..10 {
            let t = f64::from(poll) * 5.0;
            master.push(t, 1000 * poll as u64);
            let lag = following.follow(t, &replica(1000 * poll as u64), Some(&master), &durations).lag;
            assert_eq!(lag, Some(0.0));
        }
        // Stalled at 9500, which the master passes half-way between the polls at 45 and 50 s.
        let mut last = Staleness::default();
        for poll in 10..200 {
            let t = f64::from(poll) * 5.0;
            master.push(t, 1000 * poll as u64);
            last = following.follow(t, &replica(9500), Some(&master), &durations);
        }
        assert_eq!(last.lag, Some(995.0 - 47.5));
        assert_eq!(last.lag_bytes, Some(199_000 - 9500));
        assert!(last.lagging);
    }

    #[test]
    fn without_its_master_an_idle_link_is_no_lag() {
        let durations = Durations::of(&Settings::default());
        let mut following = Following::default();
        let sample = Sample { master_last_io_seconds: Some(9.0), ..replica(5) };
        assert_eq!(following.follow(0.0, &sample, None, &durations).lag, Some(0.0));
        let sample = Sample { master_last_io_seconds: Some(30.0), ..replica(5) };
        assert_eq!(following.follow(5.0, &sample, None, &durations).lag, Some(20.0));
    }
}
