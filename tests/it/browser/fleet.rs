//! A page served in this process, over a fleet made by hand: storms come and go when the test says so.

use std::net::TcpListener;
use std::sync::Arc;

use arc_swap::ArcSwap;
use cache_storm_exporter::config::RedisMetrics;
use cache_storm_exporter::detect::verdict::{CacheVerdict, NodeVerdict, Signals, TypeVerdict};
use cache_storm_exporter::metrics::OwnMetrics;
use cache_storm_exporter::model::{CacheName, NodeName, NodeState, Role, Severity, StormType};
use cache_storm_exporter::publish::table::cache::{
    DETECTION_DELAY_BOUNDS, EPISODE_DURATION_BOUNDS, POLL_DURATION_BOUNDS,
};
use cache_storm_exporter::publish::{CacheSnapshot, Histogram, Publisher};
use cache_storm_exporter::serve::{self, ServeState};
use cache_storm_exporter::thresholds::Thresholds;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::harness::{free_port, unix_now};

/// How much of a cache is in trouble.
pub(super) struct Trouble {
    pub(super) severity: Severity,
    pub(super) affected: usize,
}

pub(super) const QUIET: Trouble = Trouble { severity: Severity::None, affected: 0 };

/// A server of the page, and what it serves.
pub(super) struct Site {
    pub(super) publisher: Arc<Publisher>,
    port: u16,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Site {
    pub(super) fn start(caches: &[&str]) -> Self {
        let publisher = Arc::new(Publisher::default());
        publisher.expect(&caches.iter().map(|cache| CacheName::from(*cache)).collect::<Vec<_>>());
        let mut site = Self { publisher, port: free_port(), running: None };
        site.go_on();
        site
    }

    pub(super) fn url(&self, query: &str) -> String {
        format!("http://127.0.0.1:{}/{query}", self.port)
    }

    /// Ends the server; its connections are cut.
    pub(super) async fn stop(&mut self) {
        let (stop, served) = self.running.take().unwrap();
        stop.send(()).unwrap();
        served.await.unwrap();
    }

    /// Serves again, at the same address.
    pub(super) fn go_on(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        let router = serve::router(ServeState {
            publisher: Arc::clone(&self.publisher),
            own: Arc::new(OwnMetrics::new(1.0).unwrap()),
            redis_metrics: Arc::new(ArcSwap::from_pointee(RedisMetrics::Core)),
            reload: None,
            notice: None,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async { stopped.await.expect("the test says when to stop") };
            serve::serve(listener, router, stopped).await.unwrap();
        });
        self.running = Some((stop, served));
    }

    /// A round of a cache has closed now.
    pub(super) fn round(&self, cache: &str, names: &[String], trouble: &Trouble) {
        self.publisher.publish(snapshot(cache, names, trouble));
    }
}

/// `node-0000:6379` and so on.
pub(super) fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("node-{index:04}:6379")).collect()
}

fn snapshot(cache: &str, names: &[String], trouble: &Trouble) -> CacheSnapshot {
    let now = unix_now();
    let mut names: Vec<NodeName> = names.iter().map(|name| NodeName::from(name.as_str())).collect();
    names.sort();
    let nodes: Vec<NodeVerdict> =
        names.iter().enumerate().map(|(index, name)| node(name, index, index < trouble.affected)).collect();
    let share = trouble.affected as f64 / nodes.len() as f64;
    let on = trouble.severity > Severity::None;
    let storm = TypeVerdict {
        storm_type: StormType::MassExpiration,
        confidence: 0.91,
        sub_reason: None,
        evidence: vec![("hit_ratio", 0.31), ("hit_ratio_expected", 0.92), ("keys_expired", 31_000.0)],
    };
    CacheSnapshot {
        cache: CacheName::from(cache),
        time_unix: now,
        detector_to_unix: 0.0,
        thresholds: Arc::new(Thresholds::default()),
        planned: false,
        verdict: Arc::new(CacheVerdict {
            time: now,
            severity: trouble.severity,
            affected_nodes: trouble.affected,
            eligible_nodes: nodes.len(),
            affected_share: share,
            affected_share_traffic: share,
            recovering: false,
            sustained: false,
            provisional: false,
            held: false,
            storm_types: if on { vec![storm] } else { Vec::new() },
            leading_type: on.then_some(StormType::MassExpiration),
            started: on.then_some(now - 42.0),
            loss_exposure: None,
            refill_eta_seconds: None,
            nodes,
        }),
        episodes: Arc::new([]),
        topology: Arc::default(),
        episodes_total: [0; StormType::ALL.len()],
        detection_delay_seconds: Histogram::new(DETECTION_DELAY_BOUNDS),
        episode_duration_seconds: StormType::ALL.iter().map(|_| Histogram::new(EPISODE_DURATION_BOUNDS)).collect(),
        poll_duration_seconds: Histogram::new(POLL_DURATION_BOUNDS),
        // The page reads verdicts only.
        nodes: Vec::new(),
    }
}

/// Misses grow with the index, so that an order can be checked.
fn node(name: &NodeName, index: usize, affected: bool) -> NodeVerdict {
    let hit_ratio = if affected { 0.31 } else { 0.92 };
    let lookups = 1000.0 + index as f64;
    NodeVerdict {
        node: name.clone(),
        up: true,
        down_reason: None,
        role: Some(if index.is_multiple_of(2) { Role::Master } else { Role::Replica }),
        state: if affected { NodeState::Critical } else { NodeState::Healthy },
        judged: true,
        eligible: true,
        affected,
        indicators: Vec::new(),
        storm_type: affected.then_some(StormType::MassExpiration),
        confidence: if affected { 0.91 } else { 0.0 },
        sub_reason: None,
        signals: Signals {
            hit_ratio: Some(hit_ratio),
            hit_ratio_baseline: Some(0.92),
            lookups_per_second: Some(lookups),
            misses_per_second: Some(lookups * (1.0 - hit_ratio)),
            commands_per_second: Some(lookups * 1.2),
            evicted_keys_per_second: Some(0.0),
            expired_keys_per_second: Some(3.0),
            memory_used_ratio: Some(0.6),
            ..Signals::default()
        },
        evidence: Vec::new(),
    }
}
