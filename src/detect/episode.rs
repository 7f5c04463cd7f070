//! One storm from onset to end, and which of its types is in the lead.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::conclude::Concluded;
use super::settings::Durations;
use super::verdict::{CacheVerdict, EndReason, Episode, EpisodeType, TypeVerdict};
use crate::model::StormType;

/// Episodes remembered per cache.
const EPISODES_MAX: usize = 100;

/// A type overtakes only with a confidence larger by this: the first type named calls a team, and calling
/// another must be worth it.
const LEAD_MARGIN: f64 = 0.2;

/// The type in the lead.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Lead {
    leader: Option<StormType>,
    challenger: Option<(StormType, f64)>,
}

impl Lead {
    /// Takes the round's vote, strongest first; `over`: no node is affected any more.
    pub(crate) fn follow(
        &mut self,
        now: f64,
        vote: &[TypeVerdict],
        over: bool,
        durations: &Durations,
    ) -> Option<StormType> {
        if over {
            *self = Self::default();
        }
        let Some(first) = vote.first() else { return self.leader };
        let Some(leader) = self.leader else {
            self.leader = Some(first.storm_type);
            return self.leader;
        };
        let held = vote.iter().find(|verdict| verdict.storm_type == leader).map_or(0.0, |verdict| verdict.confidence);
        if first.storm_type == leader || first.confidence < held + LEAD_MARGIN {
            self.challenger = None;
            return self.leader;
        }
        let since =
            self.challenger.filter(|(storm_type, _)| *storm_type == first.storm_type).map_or(now, |(_, since)| since);
        self.challenger = Some((first.storm_type, since));
        if now - since >= durations.lead_hold {
            *self = Self { leader: Some(first.storm_type), challenger: None };
        }
        self.leader
    }
}

/// The running episode and those before it.
#[derive(Debug, Default)]
pub(crate) struct Episodes {
    running: Option<Episode>,
    past: VecDeque<Episode>,
    /// Both, newest first; made anew only when something changed.
    listed: Arc<[Episode]>,
}

impl Episodes {
    /// Goes on from a list that [`Episodes::list`] gave.
    pub(crate) fn resume(listed: Vec<Episode>) -> Self {
        let running = listed.first().filter(|episode| episode.ended.is_none()).cloned();
        let past = listed.iter().filter(|episode| episode.ended.is_some()).take(EPISODES_MAX).cloned().collect();
        Self { running, past, listed: listed.into() }
    }

    pub(crate) fn list(&self) -> Arc<[Episode]> {
        Arc::clone(&self.listed)
    }

    /// Follows a round and completes its verdict. `ended`: how a node's part ended in this round, if one did.
    pub(crate) fn follow(&mut self, round: Concluded, ended: Option<EndReason>, durations: &Durations) -> CacheVerdict {
        let Concluded { mut verdict, onset } = round;
        if let Some((onset, last_normal)) = onset {
            let episode = self.running.get_or_insert_with(|| begin(&verdict, onset, last_normal));
            update(episode, &verdict);
            verdict.started = Some(episode.onset);
            verdict.sustained = verdict.time - episode.onset >= durations.sustained;
        } else if let Some(mut episode) = self.running.take() {
            episode.ended = Some(verdict.time);
            episode.end_reason = Some(ended.unwrap_or(EndReason::Recovered));
            self.past.push_front(episode);
            // The running episode takes a place of its own.
            self.past.truncate(EPISODES_MAX - 1);
        } else {
            return verdict;
        }
        self.listed = self.running.iter().chain(&self.past).cloned().collect();
        verdict
    }
}

fn begin(verdict: &CacheVerdict, onset: f64, last_normal: f64) -> Episode {
    Episode {
        id: (onset * 1000.0).max(0.0) as u64,
        onset,
        last_normal,
        announced: verdict.time,
        ended: None,
        end_reason: None,
        peak_severity: verdict.severity,
        leading_type: StormType::Unknown,
        storm_types: Vec::new(),
        sub_reason: None,
        nodes: Vec::new(),
        affected_nodes_max: 0,
        evidence: Vec::new(),
    }
}

fn update(episode: &mut Episode, verdict: &CacheVerdict) {
    episode.peak_severity = episode.peak_severity.max(verdict.severity);
    episode.affected_nodes_max = episode.affected_nodes_max.max(verdict.affected_nodes);
    for node in verdict.nodes.iter().filter(|node| node.affected) {
        if let Err(place) = episode.nodes.binary_search(&node.node) {
            episode.nodes.insert(place, node.node.clone());
        }
    }
    for vote in &verdict.storm_types {
        match episode.storm_types.iter_mut().find(|seen| seen.storm_type == vote.storm_type) {
            Some(seen) => {
                seen.last = verdict.time;
                seen.confidence = seen.confidence.max(vote.confidence);
            }
            None => episode.storm_types.push(EpisodeType {
                storm_type: vote.storm_type,
                first: verdict.time,
                last: verdict.time,
                confidence: vote.confidence,
            }),
        }
    }
    episode.storm_types.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    if let Some(leader) = verdict.leading_type {
        let changed = episode.leading_type != leader;
        episode.leading_type = leader;
        if let Some(vote) = verdict.storm_types.iter().find(|vote| vote.storm_type == leader) {
            episode.sub_reason = vote.sub_reason.or(episode.sub_reason.filter(|_| !changed));
            episode.evidence.clone_from(&vote.evidence);
        }
    }
}
