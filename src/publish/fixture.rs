//! A fleet made by hand, for tests of what is served.

use std::sync::Arc;

use super::dropin::{MAX_DATABASES, Readings, ServerView};
use super::table::cache::{DETECTION_DELAY_BOUNDS, EPISODE_DURATION_BOUNDS, POLL_DURATION_BOUNDS};
use super::{
    Answers, CacheSnapshot, DiscoverySnapshot, Histogram, HotKeySnapshot, HotPattern, Interest, NodePlace,
    NodeSnapshot, Publisher, Steady,
};
use crate::detect::verdict::{CacheVerdict, EndReason, Episode, EpisodeType, NodeVerdict, Signals, TypeVerdict};
use crate::model::{CacheName, FailureReason, Indicator, NodeName, NodeState, Role, Severity, StormType};
use crate::parse::{Info, Sample};
use crate::thresholds::Thresholds;
use crate::topology::cluster::ClusterInfo;
use crate::topology::{MasterState, SentinelState, Topology};

/// When the fixture's round closed, Unix seconds.
pub(crate) const ROUND_UNIX: f64 = 1_700_000_000.0;

/// Unix seconds − detector time: the wall clock was set since the start.
pub(crate) const DETECTOR_TO_UNIX: f64 = 100.0;

const MASTER: &str = "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nserver_mode:standalone\r\nos:Linux \"x\"\r\n\
    run_id:aa\r\ntcp_port:6379\r\nserver_time_usec:1700000000250000\r\nuptime_in_seconds:100\r\nrole:master\r\n\
    connected_clients:5\r\nblocked_clients:0\r\nused_memory:900\r\nused_memory_rss:1200\r\nmaxmemory:1000\r\n\
    maxmemory_policy:allkeys-lru\r\ntotal_commands_processed:70\r\nkeyspace_hits:40\r\nkeyspace_misses:10\r\n\
    expired_keys:3\r\nevicted_keys:2\r\ntotal_net_input_bytes:1000\r\ntotal_net_output_bytes:2000\r\n\
    used_cpu_sys:0.5\r\nused_cpu_user:1.25\r\nconnected_slaves:1\r\nmaster_replid:bb\r\nmaster_repl_offset:77\r\n\
    db0:keys=100,expires=40,avg_ttl=5\r\ndb1:keys=1,expires=0\r\ndb2:keys=1,expires=0\r\ndb3:keys=1,expires=0\r\n\
    db4:keys=1,expires=0\r\n";

const LINK: &str = "master_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:up\r\n\
    master_last_io_seconds_ago:1\r\nslave_repl_offset:70\r\n";

/// A publisher of one cache, `sessions`: a master in a storm, its replica, and a node that is down.
/// Another cache, `catalog`, has had no round yet.
pub(crate) fn publisher() -> Publisher {
    let publisher = Publisher::default();
    publisher.expect(&[CacheName::from("sessions"), CacheName::from("catalog")]);
    publisher.publish(cache("sessions"));
    publisher.set_discovery(&CacheName::from("sessions"), Some(discovery()));
    publisher.show_hot_keys(&CacheName::from("sessions"), &NodeName::from("10.0.0.1:6379"), hot_keys());
    publisher
}

/// That of a cache whose last look succeeded.
pub(crate) fn discovery() -> DiscoverySnapshot {
    DiscoverySnapshot {
        source: "cluster",
        last_success_unix: Some(ROUND_UNIX),
        nodes: 3,
        refused: [1, 0, 0],
        ..DiscoverySnapshot::default()
    }
}

/// That of a cache whose Sentinel has not answered for 42 s.
pub(crate) fn failing_discovery() -> DiscoverySnapshot {
    DiscoverySnapshot {
        source: "sentinel",
        failing_since_unix: Some(ROUND_UNIX - 42.0),
        faults: vec!["s:26379: connection refused".to_owned()],
        ..discovery()
    }
}

fn hot_keys() -> HotKeySnapshot {
    let pattern = HotPattern {
        pattern: "user:*".to_owned(),
        kind: None,
        share: 0.5,
        operations_per_second: Some(50.0),
        write_ratio: Some(0.25),
    };
    HotKeySnapshot {
        time_unix: ROUND_UNIX,
        seconds: 1.0,
        accesses: 100,
        hottest_key_share: 0.1,
        hot: false,
        patterns: vec![pattern],
    }
}

/// One cache of three nodes in a storm.
pub(crate) fn cache(name: &str) -> CacheSnapshot {
    let replica = format!("{}{LINK}", MASTER.replace("role:master", "role:slave"));
    let (nodes, verdicts): (Vec<_>, Vec<_>) = [master(MASTER), self::replica(&replica), down()].into_iter().unzip();
    let mut nodes: Vec<NodeSnapshot> = nodes;
    for (node, role, slots) in [(0, Role::Master, Some(16_384)), (1, Role::Replica, None)] {
        let (shard, id) = (Some("m".into()), Some(format!("id-{node}").into()));
        nodes[node].place = Some(Arc::new(NodePlace { role: Some(role), shard, id, slots }));
    }
    let mut poll_duration_seconds = Histogram::new(POLL_DURATION_BOUNDS);
    poll_duration_seconds.observe(0.002);
    CacheSnapshot {
        cache: CacheName::from(name),
        time_unix: ROUND_UNIX,
        detector_to_unix: DETECTOR_TO_UNIX,
        thresholds: Arc::new(Thresholds::default()),
        planned: true,
        verdict: Arc::new(verdict(verdicts)),
        episodes: Arc::new([running_episode(), past_episode()]),
        topology: Arc::new(topology()),
        episodes_total: std::array::from_fn(|index| u64::from(StormType::ALL[index] == StormType::ColdStart)),
        detection_delay_seconds: Histogram::new(DETECTION_DELAY_BOUNDS),
        episode_duration_seconds: StormType::ALL.iter().map(|_| Histogram::new(EPISODE_DURATION_BOUNDS)).collect(),
        poll_duration_seconds,
        nodes,
    }
}

/// One Sentinel of a cluster's master: what no cache has at once, so that every family has a series.
fn topology() -> Topology {
    let master = MasterState {
        name: "m".into(),
        addresses: vec!["10.0.0.1:6379".into()],
        quorum_ok: Some(true),
        known_sentinels: Some(3),
        known_replicas: Some(1),
        config_epoch: Some(7),
        flags: std::array::from_fn(|index| usize::from(index == 0)),
    };
    let cluster = ClusterInfo {
        state_ok: true,
        slots_ok: Some(16_384),
        slots_pfail: Some(0),
        slots_fail: Some(0),
        known_nodes: Some(6),
        size: Some(3),
        current_epoch: Some(6),
    };
    Topology {
        failovers_total: 2,
        sentinels: vec![SentinelState { sentinel: "10.0.0.9:26379".into(), up: true, tilt: Some(false) }],
        masters: vec![master],
        cluster: Some(cluster),
        ..Topology::default()
    }
}

fn verdict(nodes: Vec<NodeVerdict>) -> CacheVerdict {
    CacheVerdict {
        time: ROUND_UNIX - DETECTOR_TO_UNIX,
        severity: Severity::Major,
        affected_nodes: 1,
        eligible_nodes: 3,
        affected_share: 1.0 / 3.0,
        affected_share_traffic: 0.5,
        recovering: false,
        sustained: false,
        provisional: true,
        held: false,
        storm_types: vec![TypeVerdict {
            storm_type: StormType::MassInvalidation,
            confidence: 0.9,
            sub_reason: Some("key_space_shift"),
            evidence: vec![("removed_share", 0.4), ("not_a_number", f64::NAN)],
        }],
        leading_type: Some(StormType::MassInvalidation),
        started: Some(ROUND_UNIX - DETECTOR_TO_UNIX - 30.0),
        loss_exposure: Some(f64::INFINITY),
        refill_eta_seconds: None,
        nodes,
    }
}

fn master(info: &str) -> (NodeSnapshot, NodeVerdict) {
    let (snapshot, mut verdict) = up("10.0.0.1:6379", info);
    verdict.role = Some(Role::Master);
    verdict.state = NodeState::Critical;
    verdict.judged = true;
    verdict.affected = true;
    verdict.indicators = vec![Indicator::LowHitRatio, Indicator::HitRatioDrop];
    verdict.storm_type = Some(StormType::MassInvalidation);
    verdict.confidence = 0.9;
    verdict.sub_reason = Some("key_space_shift");
    verdict.evidence = vec![("removed_share", 0.4)];
    verdict.signals = Signals {
        hit_ratio: Some(0.3),
        hit_ratio_baseline: Some(0.9),
        hit_ratio_baseline_long: Some(0.92),
        hit_ratio_zscore: Some(12.0),
        lookups_per_second: Some(1000.0),
        misses_per_second: Some(700.0),
        miss_amplification: Some(7.0),
        commands_per_second: Some(1500.0),
        commands_per_second_baseline: Some(1400.0),
        evicted_keys_per_second: Some(0.0),
        expired_keys_per_second: Some(1.0),
        memory_used_ratio: Some(0.9),
        replication_lag_seconds: None,
        replication_lag_bytes: None,
    };
    (snapshot, verdict)
}

fn replica(info: &str) -> (NodeSnapshot, NodeVerdict) {
    let (mut snapshot, mut verdict) = up("10.0.0.2:6379", info);
    // Whatever a node can show at once, so that the bound on its series is put to the test.
    snapshot.failures = std::array::from_fn(|index| index as u64 + 1);
    verdict.role = Some(Role::Replica);
    verdict.signals =
        Signals { replication_lag_seconds: Some(0.0), replication_lag_bytes: Some(0), ..master(info).1.signals };
    (snapshot, verdict)
}

fn down() -> (NodeSnapshot, NodeVerdict) {
    let node = NodeName::from("10.0.0.3:6379");
    let mut verdict = quiet(&node);
    verdict.up = false;
    verdict.down_reason = Some(FailureReason::Refused);
    verdict.state = NodeState::Down;
    let failures = std::array::from_fn(|index| u64::from(FailureReason::ALL[index] == FailureReason::Refused) * 9);
    let snapshot = NodeSnapshot {
        node,
        up: false,
        down: Some(FailureReason::Refused),
        last_poll_unix: None,
        sample: None,
        info: None,
        place: None,
        failures,
        answers: Answers::default(),
        core: Readings::of(&ServerView::default()),
        interest: Interest::default(),
        compressed: Arc::default(),
        steady: Steady::default(),
    };
    (snapshot, verdict)
}

fn up(node: &str, info: &str) -> (NodeSnapshot, NodeVerdict) {
    let node = NodeName::from(node);
    let verdict = quiet(&node);
    let server = ServerView {
        up: true,
        down: None,
        info: Info::parse(info),
        databases_max: MAX_DATABASES,
        polls: 1,
        answers: Answers { count: 1, seconds: 0.002, last_seconds: 0.002 },
    };
    let snapshot = NodeSnapshot {
        node,
        up: true,
        down: None,
        last_poll_unix: Some(ROUND_UNIX),
        sample: Some(Arc::new(Sample::from_info(&Info::parse(info)))),
        info: Some(Arc::from(info)),
        place: None,
        failures: [0; FailureReason::ALL.len()],
        answers: server.answers,
        core: Readings::of(&server),
        interest: Interest::default(),
        compressed: Arc::default(),
        steady: Steady::default(),
    };
    (snapshot, verdict)
}

fn quiet(node: &NodeName) -> NodeVerdict {
    NodeVerdict {
        node: node.clone(),
        up: true,
        down_reason: None,
        role: None,
        state: NodeState::Unknown,
        judged: false,
        eligible: true,
        affected: false,
        indicators: Vec::new(),
        storm_type: None,
        confidence: 0.0,
        sub_reason: None,
        signals: Signals::default(),
        evidence: Vec::new(),
    }
}

fn running_episode() -> Episode {
    let onset = ROUND_UNIX - DETECTOR_TO_UNIX - 30.0;
    Episode {
        id: 1_699_999_870_000,
        onset,
        last_normal: onset - 5.0,
        announced: onset + 5.0,
        ended: None,
        end_reason: None,
        peak_severity: Severity::Major,
        leading_type: StormType::MassInvalidation,
        storm_types: vec![EpisodeType {
            storm_type: StormType::MassInvalidation,
            first: onset + 5.0,
            last: onset + 30.0,
            confidence: 0.9,
        }],
        sub_reason: Some("key_space_shift"),
        nodes: vec![NodeName::from("10.0.0.1:6379")],
        affected_nodes_max: 1,
        evidence: vec![("removed_share", 0.4)],
    }
}

fn past_episode() -> Episode {
    let onset = ROUND_UNIX - DETECTOR_TO_UNIX - 4000.0;
    Episode {
        id: 1_699_995_900_000,
        onset,
        last_normal: onset - 5.0,
        announced: onset,
        ended: Some(onset + 120.0),
        end_reason: Some(EndReason::Recovered),
        peak_severity: Severity::Minor,
        leading_type: StormType::ColdStart,
        storm_types: Vec::new(),
        sub_reason: None,
        nodes: vec![NodeName::from("10.0.0.2:6379")],
        affected_nodes_max: 1,
        evidence: Vec::new(),
    }
}
