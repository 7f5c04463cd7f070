//! Every capture is read as its server meant it; nothing that is sent can make the parser panic.

use std::path::PathBuf;

use cache_storm_exporter::model::{Flavor, Role};
use cache_storm_exporter::parse::{Info, Sample};
use proptest::prelude::*;

/// What must come out of one capture.
struct Expected {
    file: &'static str,
    version: &'static str,
    flavor: Flavor,
    role: Role,
    /// Hits, misses.
    lookups: (u64, u64),
    expired: Option<u64>,
    evicted: Option<u64>,
    keys: u64,
    /// SET family, DEL and UNLINK, flushes.
    calls: Option<(u64, u64, u64)>,
    link_up: Option<bool>,
    /// Has a memory limit.
    limited: bool,
    /// `errorstat_OOM` is known.
    oom_known: bool,
}

const CAPTURES: &[Expected] = &[
    Expected {
        file: "hand-made/managed_minus_one",
        version: "6.2.6",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (41000000, 1100000),
        expired: None,
        evicted: None,
        keys: 250005,
        calls: None,
        link_up: None,
        limited: true,
        oom_known: false,
    },
    Expected {
        file: "hand-made/redis-6.2.14_master",
        version: "6.2.14",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (8433, 31568),
        expired: Some(94),
        evicted: Some(14111),
        keys: 58918,
        calls: Some((85001, 2, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "hand-made/redis-6.2.14_replica",
        version: "6.2.14",
        flavor: Flavor::Redis,
        role: Role::Replica,
        lookups: (1034, 3966),
        expired: Some(0),
        evicted: Some(0),
        keys: 58918,
        calls: Some((54921, 14205, 0)),
        link_up: Some(true),
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "hand-made/redis-7.2.7_master",
        version: "7.2.7",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (33178, 6823),
        expired: Some(2024),
        evicted: Some(13332),
        keys: 59651,
        calls: Some((85001, 2, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "hand-made/redis-7.4.2_master",
        version: "7.4.2",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (33178, 6823),
        expired: Some(2024),
        evicted: Some(13332),
        keys: 59651,
        calls: Some((85001, 2, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "hand-made/valkey-7.2.8_master",
        version: "7.2.8",
        flavor: Flavor::Valkey,
        role: Role::Master,
        lookups: (5550, 34451),
        expired: Some(405),
        evicted: Some(38218),
        keys: 36272,
        calls: Some((85001, 2, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "redis-7.0.15_cluster",
        version: "7.0.15",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (9769, 10231),
        expired: Some(0),
        evicted: Some(0),
        keys: 1,
        calls: Some((20001, 0, 1)),
        link_up: None,
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "redis-7.0.15_master",
        version: "7.0.15",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (8433, 31568),
        expired: Some(94),
        evicted: Some(14111),
        keys: 58918,
        calls: Some((85001, 2, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "redis-7.0.15_master_after_flushall",
        version: "7.0.15",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (0, 0),
        expired: Some(2),
        evicted: Some(0),
        keys: 0,
        calls: Some((0, 0, 1)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "redis-7.0.15_master_after_resetstat",
        version: "7.0.15",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 58537,
        calls: Some((0, 0, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "redis-7.0.15_replica",
        version: "7.0.15",
        flavor: Flavor::Redis,
        role: Role::Replica,
        lookups: (1034, 3966),
        expired: Some(0),
        evicted: Some(0),
        keys: 58918,
        calls: Some((54921, 14205, 0)),
        link_up: Some(true),
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "redis-7.0.15_sentinel",
        version: "7.0.15",
        flavor: Flavor::Redis,
        role: Role::Sentinel,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 0,
        calls: None,
        link_up: None,
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "redis-7.0.15_sentinel_after_failover",
        version: "7.0.15",
        flavor: Flavor::Redis,
        role: Role::Sentinel,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 0,
        calls: None,
        link_up: None,
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "redis-8.0.6_cluster",
        version: "8.0.6",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (9804, 10196),
        expired: Some(0),
        evicted: Some(0),
        keys: 1,
        calls: Some((20001, 0, 1)),
        link_up: None,
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "redis-8.0.6_master",
        version: "8.0.6",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (33178, 6823),
        expired: Some(2024),
        evicted: Some(13332),
        keys: 59651,
        calls: Some((85001, 2, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "redis-8.0.6_master_after_flushall",
        version: "8.0.6",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 0,
        calls: Some((0, 0, 1)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "redis-8.0.6_master_after_resetstat",
        version: "8.0.6",
        flavor: Flavor::Redis,
        role: Role::Master,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 59025,
        calls: Some((0, 0, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "redis-8.0.6_replica",
        version: "8.0.6",
        flavor: Flavor::Redis,
        role: Role::Replica,
        lookups: (1092, 3908),
        expired: Some(0),
        evicted: Some(0),
        keys: 59651,
        calls: Some((51193, 15356, 0)),
        link_up: Some(true),
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "redis-8.0.6_sentinel",
        version: "8.0.6",
        flavor: Flavor::Redis,
        role: Role::Sentinel,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 0,
        calls: None,
        link_up: None,
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "redis-8.0.6_sentinel_after_failover",
        version: "8.0.6",
        flavor: Flavor::Redis,
        role: Role::Sentinel,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 0,
        calls: None,
        link_up: None,
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "valkey-9.1.2_cluster",
        version: "9.1.2",
        flavor: Flavor::Valkey,
        role: Role::Master,
        lookups: (9781, 10219),
        expired: Some(0),
        evicted: Some(0),
        keys: 1,
        calls: Some((20001, 0, 1)),
        link_up: None,
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "valkey-9.1.2_master",
        version: "9.1.2",
        flavor: Flavor::Valkey,
        role: Role::Master,
        lookups: (5550, 34451),
        expired: Some(405),
        evicted: Some(38218),
        keys: 36272,
        calls: Some((85001, 2, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "valkey-9.1.2_master_after_flushall",
        version: "9.1.2",
        flavor: Flavor::Valkey,
        role: Role::Master,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 0,
        calls: Some((0, 0, 1)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "valkey-9.1.2_master_after_resetstat",
        version: "9.1.2",
        flavor: Flavor::Valkey,
        role: Role::Master,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 35529,
        calls: Some((0, 0, 0)),
        link_up: None,
        limited: true,
        oom_known: true,
    },
    Expected {
        file: "valkey-9.1.2_replica",
        version: "9.1.2",
        flavor: Flavor::Valkey,
        role: Role::Replica,
        lookups: (693, 4307),
        expired: Some(0),
        evicted: Some(0),
        keys: 36272,
        calls: Some((7385, 3162, 0)),
        link_up: Some(true),
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "valkey-9.1.2_sentinel",
        version: "9.1.2",
        flavor: Flavor::Valkey,
        role: Role::Sentinel,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 0,
        calls: None,
        link_up: None,
        limited: false,
        oom_known: true,
    },
    Expected {
        file: "valkey-9.1.2_sentinel_after_failover",
        version: "9.1.2",
        flavor: Flavor::Valkey,
        role: Role::Sentinel,
        lookups: (0, 0),
        expired: Some(0),
        evicted: Some(0),
        keys: 0,
        calls: None,
        link_up: None,
        limited: false,
        oom_known: true,
    },
];

#[test]
fn every_capture_is_read_as_its_server_meant_it() {
    for expected in CAPTURES {
        let file = expected.file;
        let text = read(file);
        let sample = Sample::from_info(&Info::parse(&text));
        assert_eq!(sample.version.as_deref(), Some(expected.version), "{file}");
        assert_eq!(sample.flavor, Some(expected.flavor), "{file}");
        assert_eq!(sample.role, Some(expected.role), "{file}");
        assert_eq!((sample.hits, sample.misses), (Some(expected.lookups.0), Some(expected.lookups.1)), "{file}");
        assert_eq!((sample.expired, sample.evicted), (expected.expired, expected.evicted), "{file}");
        assert_eq!(sample.keys, Some(expected.keys), "{file}");
        let calls = (sample.set_calls, sample.delete_calls, sample.flush_calls);
        let expected_calls =
            expected.calls.map_or((None, None, None), |(set, delete, flush)| (Some(set), Some(delete), Some(flush)));
        assert_eq!(calls, expected_calls, "{file}");
        assert_eq!(sample.link_up, expected.link_up, "{file}");
        assert_eq!(sample.memory_used_ratio().is_some(), expected.limited, "{file}");
        assert_eq!(sample.oom_errors.is_some(), expected.oom_known, "{file}");
        assert!(!sample.loading, "{file}");
        assert!(sample.run_id.is_some() && sample.uptime_seconds.is_some(), "{file}");
    }
}

#[test]
fn no_capture_is_left_out_of_the_table() {
    for folder in ["", "hand-made"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().with_extension("").to_str().unwrap().to_owned();
            let listed = CAPTURES.iter().any(|expected| expected.file == name);
            assert!(listed || path.is_dir() || name.ends_with("_promoted_replica"), "{name} is not in the table");
        }
    }
}

#[test]
fn a_promoted_replica_names_the_history_it_comes_from() {
    for version in ["redis-7.0.15", "redis-8.0.6", "valkey-9.1.2"] {
        let promoted = read(&format!("{version}_promoted_replica"));
        let promoted = Sample::from_info(&Info::parse(&promoted));
        let master = read(&format!("{version}_master"));
        let master = Sample::from_info(&Info::parse(&master));
        assert_eq!(promoted.role, Some(Role::Master));
        assert_eq!(promoted.replid2, master.replid, "{version}");
        assert_ne!(promoted.replid, master.replid, "{version}");
        assert_eq!(master.replid2, None, "forty zeros are no history");
        assert_eq!((promoted.hits, promoted.keys), (None, None), "a section that was not sent is absent");
    }
}

#[test]
fn a_cluster_node_and_a_reset_keep_what_they_have() {
    let before = read("redis-7.0.15_master");
    let after = read("redis-7.0.15_master_after_resetstat");
    let [before, after] = [&before, &after].map(|text| Sample::from_info(&Info::parse(text)));
    assert_eq!(before.run_id, after.run_id);
    assert!(after.hits < before.hits && after.uptime_seconds >= before.uptime_seconds);
    assert!(after.keys.unwrap() > 50_000, "RESETSTAT takes counters, not keys");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/info")
}

fn read(name: &str) -> String {
    let file = root().join(format!("{name}.txt"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Uses everything that is derived from a reply.
fn exercise(text: &str) {
    let info = Info::parse(text);
    for (_, parts) in info.databases() {
        let _ = (parts.counter("keys"), parts.number("avg_ttl"));
    }
    let sample = Sample::from_info(&info);
    let _ = (sample.lookups(), sample.start_time_seconds());
    assert!(sample.memory_used_ratio().is_none_or(f64::is_finite));
    assert!(sample.uptime_seconds.is_none_or(f64::is_finite));
}

/// A capture with some of its bytes overwritten and its end cut off.
fn mutated() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200);
    (0..CAPTURES.len(), edits, any::<prop::sample::Index>()).prop_map(|(capture, edits, end)| {
        let mut bytes = read(CAPTURES[capture].file).into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(end.index(bytes.len()) + 1);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Fields that exist, with values that do not.
fn hostile() -> impl Strategy<Value = String> {
    let values = prop_oneof![
        Just("-1".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("99999999999999999999999".to_owned()),
        Just("1e400".to_owned()),
        Just("NaN".to_owned()),
        Just("keys=18446744073709551615,expires=".to_owned()),
        Just("calls=18446744073709551615".to_owned()),
        ".*",
    ];
    let names = prop::sample::select(vec![
        "keyspace_hits",
        "keyspace_misses",
        "used_memory",
        "mem_not_counted_for_evict",
        "maxmemory",
        "uptime_in_seconds",
        "server_time_usec",
        "db0",
        "db1",
        "cmdstat_set",
        "cmdstat_mset",
        "errorstat_OOM",
    ]);
    prop::collection::vec((names, values), 0..40)
        .prop_map(|fields| fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect())
}

proptest! {
    #[test]
    fn random_text_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        exercise(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mutated_captures_never_panic(text in mutated()) {
        exercise(&text);
    }

    #[test]
    fn hostile_values_never_panic(text in hostile()) {
        exercise(&text);
    }
}
