//! A cache of servers that only exist as counters, polled at a steady pace.

use std::sync::Arc;

use crate::detect::CacheDetector;
use crate::detect::settings::Settings;
use crate::detect::verdict::{CacheVerdict, EndReason, HotKeySample, NodeVerdict, Observation, Round, SentinelView};
use crate::model::{FailureReason, NodeName, Role};
use crate::parse::Sample;
use crate::thresholds::Threshold;

/// A server and what its clients do to it.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) name: NodeName,
    pub(super) sample: Sample,
    pub(super) lookups_per_second: f64,
    pub(super) hit_ratio: f64,
    /// Commands per second besides lookups and refills.
    pub(super) other_commands: f64,
    /// Misses are stored again. `None`: as many keys expire, and their number stays.
    pub(super) expired_per_second: Option<f64>,
    pub(super) evicted_per_second: f64,
    pub(super) oom_errors_per_second: f64,
    pub(super) down: Option<FailureReason>,
    pub(super) hot_key: Option<HotKeySample>,
    /// What whole numbers left over.
    rest: [f64; 6],
}

impl Server {
    pub(super) fn new(name: &str) -> Self {
        let sample = Sample {
            run_id: Some(Arc::from(format!("life-1-of-{name}"))),
            role: Some(Role::Master),
            uptime_seconds: Some(1e6),
            hits: Some(1000),
            misses: Some(100),
            expired: Some(0),
            evicted: Some(0),
            commands: Some(2000),
            keys: Some(10_000),
            set_calls: Some(0),
            delete_calls: Some(0),
            flush_calls: Some(0),
            migration_calls: Some(0),
            oom_errors: Some(0),
            replid: Some(Arc::from(format!("history-1-of-{name}"))),
            master_offset_bytes: Some(0),
            ..Sample::default()
        };
        Self {
            name: NodeName::from(name),
            sample,
            lookups_per_second: 200.0,
            hit_ratio: 0.9,
            other_commands: 0.0,
            expired_per_second: None,
            evicted_per_second: 0.0,
            oom_errors_per_second: 0.0,
            down: None,
            hot_key: None,
            rest: [0.0; 6],
        }
    }

    /// A server that starts empty, or warm, in this one's place.
    pub(super) fn restart(&mut self, keys: u64) {
        let run_id = Arc::from(format!("{}+", self.sample.run_id.as_deref().unwrap_or_default()));
        let zero = Some(0);
        self.sample = Sample {
            run_id: Some(run_id),
            uptime_seconds: Some(1.0),
            keys: Some(keys),
            keys_loaded_at_start: Some(keys),
            hits: zero,
            misses: zero,
            expired: zero,
            evicted: zero,
            commands: zero,
            set_calls: zero,
            delete_calls: zero,
            flush_calls: zero,
            ..self.sample.clone()
        };
    }

    pub(super) fn live(&mut self, seconds: f64) {
        let lookups = self.lookups_per_second * seconds;
        let hits = self.whole(0, lookups * self.hit_ratio);
        let misses = self.whole(1, lookups * (1.0 - self.hit_ratio));
        let other = self.whole(2, self.other_commands * seconds);
        let evicted = self.whole(3, self.evicted_per_second * seconds);
        let refused = self.whole(4, self.oom_errors_per_second * seconds);
        let stored = misses;
        let expired = match self.expired_per_second {
            Some(rate) => self.whole(5, rate * seconds),
            None => stored.saturating_sub(evicted),
        };
        let sample = &mut self.sample;
        let add = |counter: &mut Option<u64>, count: u64| *counter = counter.map(|before| before + count);
        add(&mut sample.hits, hits);
        add(&mut sample.misses, misses);
        add(&mut sample.commands, hits + misses + stored + other);
        add(&mut sample.set_calls, stored);
        add(&mut sample.expired, expired);
        add(&mut sample.evicted, evicted);
        add(&mut sample.oom_errors, refused);
        add(&mut sample.master_offset_bytes, 1000 + 100 * stored);
        sample.uptime_seconds = sample.uptime_seconds.map(|uptime| uptime + seconds);
    }

    fn whole(&mut self, which: usize, count: f64) -> u64 {
        let exact = self.rest[which] + count;
        self.rest[which] = exact.fract();
        exact as u64
    }
}

/// A cache under its detector.
pub(super) struct Rig {
    pub(super) detector: CacheDetector,
    pub(super) servers: Vec<Server>,
    pub(super) sentinel: Option<SentinelView>,
    pub(super) now: f64,
    pub(super) poll: f64,
}

impl Rig {
    pub(super) fn new(nodes: usize) -> Self {
        Self::with(nodes, Settings::default())
    }

    pub(super) fn with(nodes: usize, settings: Settings) -> Self {
        let servers = (0..nodes).map(|index| Server::new(&format!("n{index:02}"))).collect();
        Self { poll: settings.poll_interval, detector: CacheDetector::new(settings), servers, sentinel: None, now: 1e6 }
    }

    pub(super) fn round(&mut self) -> Arc<CacheVerdict> {
        self.now += self.poll;
        let poll = self.poll;
        let observe = |server: &mut Server| {
            if let Some(reason) = server.down {
                return (server.name.clone(), Observation::Down(reason));
            }
            server.live(poll);
            let observation = Observation::Up { sample: Box::new(server.sample.clone()), hot_key: server.hot_key };
            (server.name.clone(), observation)
        };
        let nodes = self.servers.iter_mut().map(observe).collect();
        self.detector.observe(self.now, false, Round { nodes, sentinel: self.sentinel.clone() })
    }

    /// Rounds for so many seconds; the last verdict.
    pub(super) fn run(&mut self, seconds: f64) -> Arc<CacheVerdict> {
        let mut verdict = self.round();
        for _ in 1..(seconds / self.poll).round() as usize {
            verdict = self.round();
        }
        verdict
    }

    /// Rounds until `condition` holds; panics after `seconds`.
    pub(super) fn until(&mut self, seconds: f64, condition: impl Fn(&CacheVerdict) -> bool) -> Arc<CacheVerdict> {
        let end = self.now + seconds;
        let mut verdict = self.round();
        while !condition(&verdict) {
            assert!(self.now < end, "not within {seconds} s: {verdict:#?}");
            verdict = self.round();
        }
        verdict
    }

    /// The end of the newest episode that is over.
    pub(super) fn end(&self) -> Option<EndReason> {
        self.detector.episodes().iter().find_map(|episode| episode.end_reason)
    }
}

/// Default settings with one threshold changed.
pub(super) fn settings(threshold: Threshold, value: f64) -> Settings {
    let mut settings = Settings::default();
    settings.thresholds.set(threshold, value);
    settings
}

pub(super) fn node<'a>(verdict: &'a CacheVerdict, name: &str) -> &'a NodeVerdict {
    verdict.nodes.iter().find(|node| node.node.as_str() == name).expect("a node of that name")
}
