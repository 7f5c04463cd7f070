//! What is counted per cache: polls by duration, episodes by type. Lives and goes with the cache.

use std::collections::BTreeMap;

use crate::detect::verdict::Episode;
use crate::model::StormType;
use crate::publish::Histogram;
use crate::publish::table::cache::{DETECTION_DELAY_BOUNDS, EPISODE_DURATION_BOUNDS, POLL_DURATION_BOUNDS};

/// An episode is counted this long after its onset, when its type has settled, if it has not ended before.
const SETTLED_SECONDS: f64 = 90.0;

/// Counters of one cache.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) poll_duration_seconds: Histogram,
    pub(super) detection_delay_seconds: Histogram,
    /// In the order of [`StormType::ALL`].
    pub(super) episode_duration_seconds: Vec<Histogram>,
    /// In the order of [`StormType::ALL`].
    pub(super) episodes_total: [u64; StormType::ALL.len()],
    /// What has been counted of the episodes that are still listed, by id.
    seen: BTreeMap<u64, Counted>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    total: bool,
    duration: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            poll_duration_seconds: Histogram::new(POLL_DURATION_BOUNDS),
            detection_delay_seconds: Histogram::new(DETECTION_DELAY_BOUNDS),
            episode_duration_seconds: vec![Histogram::new(EPISODE_DURATION_BOUNDS); StormType::ALL.len()],
            episodes_total: [0; StormType::ALL.len()],
            seen: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// A tally that goes on from episodes whose counting ended at `time`, in another process: what that has
    /// counted is not counted again.
    pub(super) fn resume(time: f64, time_scale: f64, episodes: &[Episode]) -> Self {
        let counted = |episode: &Episode| {
            let total = is_settled(episode, time, time_scale);
            (episode.id, Counted { total, duration: episode.ended.is_some() })
        };
        Self { seen: episodes.iter().map(counted).collect(), ..Self::default() }
    }

    /// Counts what is new in `episodes`, every one once. `time_scale` as in the detector's timing.
    pub(super) fn count(&mut self, now: f64, time_scale: f64, episodes: &[Episode]) {
        self.seen.retain(|id, _| episodes.iter().any(|episode| episode.id == *id));
        for episode in episodes {
            let counted = self.seen.entry(episode.id).or_insert_with(|| {
                self.detection_delay_seconds.observe(episode.announced - episode.last_normal);
                Counted::default()
            });
            let leading = episode.leading_type as usize;
            if is_settled(episode, now, time_scale) && !std::mem::replace(&mut counted.total, true) {
                self.episodes_total[leading] += 1;
            }
            if let Some(ended) = episode.ended
                && !std::mem::replace(&mut counted.duration, true)
            {
                self.episode_duration_seconds[leading].observe(ended - episode.onset);
            }
        }
    }
}

fn is_settled(episode: &Episode, now: f64, time_scale: f64) -> bool {
    episode.ended.is_some() || now - episode.onset >= SETTLED_SECONDS / time_scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::verdict::EndReason;
    use crate::model::Severity;

    fn episode(onset: f64, leading_type: StormType) -> Episode {
        Episode {
            id: (onset * 1000.0) as u64,
            onset,
            last_normal: onset - 5.0,
            announced: onset + 7.0,
            ended: None,
            end_reason: None,
            peak_severity: Severity::Major,
            leading_type,
            storm_types: Vec::new(),
            sub_reason: None,
            nodes: Vec::new(),
            affected_nodes_max: 1,
            evidence: Vec::new(),
        }
    }

    #[test]
    fn an_episode_is_counted_once_when_its_type_has_settled() {
        let mut tally = Tally::default();
        let mut running = episode(1000.0, StormType::Unknown);
        tally.count(1010.0, 1.0, std::slice::from_ref(&running));
        assert_eq!(tally.episodes_total.iter().sum::<u64>(), 0);
        assert_eq!((tally.detection_delay_seconds.count(), tally.detection_delay_seconds.sum()), (1, 12.0));

        running.leading_type = StormType::MassExpiration;
        for now in [1090.0, 1095.0] {
            tally.count(now, 1.0, std::slice::from_ref(&running));
        }
        running.ended = Some(1300.0);
        running.end_reason = Some(EndReason::Recovered);
        for now in [1305.0, 1310.0] {
            tally.count(now, 1.0, std::slice::from_ref(&running));
        }
        let kind = StormType::MassExpiration as usize;
        assert_eq!(tally.episodes_total[kind], 1);
        let durations = &tally.episode_duration_seconds[kind];
        assert_eq!((durations.count(), durations.sum()), (1, 300.0));
        assert_eq!(tally.detection_delay_seconds.count(), 1);
    }

    #[test]
    fn what_another_process_has_counted_is_not_counted_again() {
        let past = Episode { ended: Some(930.0), ..episode(900.0, StormType::ColdStart) };
        let running = episode(1000.0, StormType::HotKey);
        for (saved, expected) in [(1020.0, 1), (1095.0, 0)] {
            let mut tally = Tally::resume(saved, 1.0, &[running.clone(), past.clone()]);
            tally.count(1100.0, 1.0, &[running.clone(), past.clone()]);
            assert_eq!(tally.episodes_total[StormType::HotKey as usize], expected, "settled at {saved}?");
            assert_eq!(tally.episodes_total[StormType::ColdStart as usize], 0);
            assert_eq!(tally.detection_delay_seconds.count(), 0);
            let ended = Episode { ended: Some(1110.0), ..running.clone() };
            tally.count(1110.0, 1.0, &[ended, past.clone()]);
            assert_eq!(tally.episode_duration_seconds[StormType::HotKey as usize].count(), 1);
        }
    }

    #[test]
    fn a_short_one_is_counted_at_its_end() {
        let mut tally = Tally::default();
        let short = Episode { ended: Some(1030.0), ..episode(1000.0, StormType::HotKey) };
        tally.count(1031.0, 1.0, &[short, episode(900.0, StormType::ColdStart)]);
        assert_eq!(tally.episodes_total[StormType::HotKey as usize], 1);
        assert_eq!(tally.episodes_total[StormType::ColdStart as usize], 1);
    }
}
