//! Whole configurations: the folders of good and bad files, and the layers above them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::*;
use crate::model::StormType;
use crate::thresholds::Threshold;

const GOOD: &str = "tests/fixtures/config/good";
const BAD: &str = "tests/fixtures/config/bad";

type Variables = Vec<(String, String)>;

/// `NAME=VALUE` lines of the file beside `path` whose name adds `.env`.
fn variables(path: &Path) -> Variables {
    let text = fs::read_to_string(beside(path, "env")).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    PathBuf::from(format!("{}.{extension}", path.display()))
}

/// The configurations of a folder, without the files that belong to them.
fn configurations(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_configuration = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| ["yaml", "yml", "toml", "json"].iter().any(|known| extension == *known))
    };
    let mut paths: Vec<_> = entries.filter(is_configuration).collect();
    paths.sort();
    assert!(paths.len() > 3, "{folder}");
    paths
}

fn read(path: &Path) -> Result<Config, ConfigErrors> {
    load(Some(path), &Overrides::default(), variables(path))
}

fn good(name: &str) -> Config {
    read(&Path::new(GOOD).join(name)).unwrap()
}

fn layered(overrides: &Overrides, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    load(None, overrides, variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())))
}

#[test]
fn good_files_load() {
    for path in configurations(GOOD) {
        if let Err(errors) = read(&path) {
            panic!("{}\n{errors}", path.display());
        }
    }
}

#[test]
fn the_example_to_start_from_loads() {
    let secret = [("SESSIONS_REDIS_PASSWORD".to_owned(), "s".to_owned())];
    let config = load(Some(Path::new("deploy/exporter.yaml")), &Overrides::default(), secret).unwrap();
    assert_eq!((config.caches.len(), config.planned.len()), (2, 1));
}

/// The text of an error is an interface: what stands in `NAME.err` is what an operator reads.
#[test]
fn bad_files_fail_with_the_text_beside_them() {
    let mut differing = Vec::new();
    for path in configurations(BAD) {
        let actual = read(&path).expect_err(&path.display().to_string()).to_string();
        assert!(!actual.contains("hunter2"), "a password shows in {actual}");
        if fs::read_to_string(beside(&path, "err")).ok().as_deref().map(str::trim_end) != Some(&actual) {
            differing.push(format!("---- {}.err\n{actual}", path.display()));
        }
    }
    assert!(differing.is_empty(), "\n{}\n----", differing.join("\n"));
}

#[test]
fn every_key_arrives() {
    let config = good("full.yaml");
    assert_eq!(config.listen, "127.0.0.1:19736".parse().unwrap());
    assert_eq!(config.poll, Poll { interval: Duration::from_secs(2), timeout: Duration::from_millis(500) });
    let timing = Timing {
        window: 20.0,
        slice: 5.0,
        baseline: 300.0,
        confirm: 4.0,
        clear: 10.0,
        hold: 45.0,
        cause_memory: 90.0,
        time_scale: 2.0,
    };
    assert_eq!(config.timing, timing);
    assert_eq!(config.redis_metrics, RedisMetrics::Off);
    assert_eq!(config.state_file, Some(PathBuf::from("/var/lib/cache-storm-exporter/state")));
    assert_eq!(config.hotkeys, HotKeys { mode: HotKeyMode::Auto, allow_monitor: true, ..HotKeys::default() });
    let sessions = Planned {
        cache: "sessions".into(),
        start_unix: 1_795_572_000.0,
        duration: Duration::from_secs(5400),
        causes: vec![StormType::MassInvalidation, StormType::ColdStart],
    };
    let search = Planned {
        cache: "search".into(),
        start_unix: 1_796_083_200.0,
        duration: Duration::from_secs(7 * 86_400),
        causes: Vec::new(),
    };
    assert_eq!(config.planned, [sessions, search]);
    let names: Vec<_> = config.caches.iter().map(|cache| cache.name.as_str()).collect();
    assert_eq!(names, ["sessions", "catalog.eu_1", "search"]);

    let sessions = &config.caches[0];
    let nodes: Vec<_> = sessions.listed().iter().map(|node| node.node.as_str()).collect();
    assert_eq!(nodes, ["10.0.0.1:6379", "redis-2.example.com:6380", "[2001:db8::2]:6379"]);
    assert_eq!(sessions.listed()[2].host, "2001:db8::2");
    assert_eq!(sessions.severity_mode, SeverityMode::Max);
    assert!(sessions.listed()[0].tls.is_none());
    let pem = PathBuf::from("tests/fixtures/config/good/file.pem");
    let tls = TlsOptions {
        ca_file: Some(pem.clone()),
        client: Some((pem.clone(), pem)),
        server_name: Some("redis.example.com".to_owned()),
    };
    assert_eq!(sessions.listed()[1].tls.as_deref(), Some(&tls));
}

#[test]
fn credentials_come_from_file_environment_and_url() {
    let config = good("full.yaml");
    let credentials = |cache: usize, node: usize| {
        let credentials = &config.caches[cache].listed()[node].credentials;
        (credentials.username.as_deref(), credentials.expose_password())
    };
    assert_eq!(credentials(0, 2), (Some("exporter"), Some("s3cret from a file")));
    assert_eq!(credentials(1, 0), (None, Some("007")), "verbatim");
    assert_eq!(credentials(2, 0), (Some("reader"), Some("p@ss/1")));
    assert_eq!(credentials(2, 1), (None, None));
    let debug = format!("{config:?}");
    assert!(!debug.contains("s3cret") && !debug.contains("007") && !debug.contains("ss/1"), "{debug}");
}

#[test]
fn a_shard_has_the_caches_that_fall_to_it() {
    let caches: Vec<(String, bool)> =
        good("shard.yaml").caches.iter().map(|cache| (cache.name.to_string(), cache.shard.is_some())).collect();
    assert_eq!(
        caches,
        [("sessions", false), ("orders", true), ("users", true)].map(|(name, part)| (name.to_owned(), part))
    );
}

#[test]
fn a_cache_overrides_the_thresholds_it_names() {
    let config = good("full.yaml");
    let value = |cache: usize, threshold| config.caches[cache].thresholds.value(threshold);
    assert_eq!(value(0, Threshold::LowHitRatio), Some(0.80));
    assert_eq!(value(1, Threshold::LowHitRatio), Some(0.40));
    assert_eq!(value(0, Threshold::ExpectedHitRatio), Some(0.75));
    assert_eq!(value(0, Threshold::EscalateHotKey), Some(90.0));
    assert_eq!(value(0, Threshold::HealthyHitRatio), Some(0.80));
}

#[test]
fn toml_says_the_same_as_yaml() {
    assert_eq!(good("full.toml"), good("full.yaml"));
}

#[test]
fn without_any_configuration_the_local_redis_is_watched() {
    let config = layered(&Overrides::default(), &[]).unwrap();
    assert_eq!(config, good("empty.yaml"));
    assert_eq!(config.listen, "0.0.0.0:9736".parse().unwrap());
    assert_eq!(config.poll, Poll { interval: Duration::from_secs(5), timeout: Duration::from_secs(1) });
    assert_eq!(config.timing, Timing::default());
    assert_eq!(config.redis_metrics, RedisMetrics::Core);
    assert_eq!(config.state_file, None);
    assert_eq!(config.hotkeys, HotKeys { mode: HotKeyMode::Off, allow_monitor: false, ..HotKeys::default() });
    assert_eq!(config.planned, []);
    let [cache] = config.caches.as_slice() else { panic!("one cache") };
    assert_eq!(cache.name.as_str(), "default");
    assert_eq!(cache.listed()[0].node.as_str(), "127.0.0.1:6379");
    assert_eq!(cache.listed()[0].credentials, Credentials::default());
}

#[test]
fn a_missing_file_is_an_error() {
    let errors = read(Path::new("nowhere.yaml")).unwrap_err().to_string();
    assert_eq!(errors, "nowhere.yaml: cannot be read: No such file or directory (os error 2)");
}

#[test]
fn the_environment_is_stronger_than_the_file() {
    let path = Path::new(GOOD).join("full.yaml");
    let mut variables = variables(&path);
    variables.extend([
        ("CACHE_STORM__POLL__INTERVAL".into(), "3s".into()),
        ("CACHE_STORM__THRESHOLDS__HEALTHY_HIT_RATIO".into(), "0.9".into()),
        ("CACHE_STORM__DETECTION__TIME_SCALE".into(), "10".into()),
        ("CACHE_STORM__HOTKEYS__ALLOW_MONITOR".into(), "false".into()),
    ]);
    let config = load(Some(&path), &Overrides::default(), variables).unwrap();
    assert_eq!(config.poll, Poll { interval: Duration::from_secs(3), timeout: Duration::from_millis(500) });
    assert_eq!(config.timing.time_scale, 10.0);
    assert_eq!(config.hotkeys, HotKeys { mode: HotKeyMode::Auto, allow_monitor: false, ..HotKeys::default() });
    assert_eq!(config.caches[1].thresholds.value(Threshold::HealthyHitRatio), Some(0.9));
    assert_eq!(config.caches[1].thresholds.value(Threshold::LowHitRatio), Some(0.4), "its neighbours stay");
}

#[test]
fn the_environment_alone_configures_caches() {
    let caches = r#"[{name="a", nodes=["redis://a:1", "redis://:7@b"]}, {name=b, nodes=[redis://c]}]"#;
    let variables = [("CACHE_STORM__CACHES", caches), ("CACHE_STORM__LISTEN", "[::1]:9000")];
    let config = layered(&Overrides::default(), &variables).unwrap();
    assert_eq!(config.listen, "[::1]:9000".parse().unwrap());
    assert_eq!(config.caches[0].listed()[1].credentials.expose_password(), Some("7"));
    assert_eq!(config.caches[1].listed()[0].node.as_str(), "c:6379");
}

#[test]
fn variables_with_one_underscore_are_not_ours() {
    let links = [("CACHE_STORM_PORT", "tcp://10.0.0.1:9736"), ("CACHE_STORM_SERVICE_HOST", "10.0.0.1")];
    assert_eq!(layered(&Overrides::default(), &links), layered(&Overrides::default(), &[]));
}

#[test]
fn flags_are_strongest() {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let redis = ["redis://a", "rediss://:pw@b:7000"].map(|url| url.to_owned().into());
    let overrides = Overrides { listen: Some(listen), redis: redis.into() };
    let path = Path::new(GOOD).join("full.yaml");
    let mut variables = variables(&path);
    variables.push(("CACHE_STORM__LISTEN".into(), "127.0.0.1:9000".into()));
    let config = load(Some(&path), &overrides, variables).unwrap();
    assert_eq!(config.listen, listen);
    let [cache] = config.caches.as_slice() else { panic!("one cache") };
    assert_eq!(cache.name.as_str(), "default");
    assert_eq!(cache.listed()[1].credentials.expose_password(), Some("pw"));
    assert!(cache.listed()[1].tls.is_some());
}

#[test]
fn a_bad_flag_is_named_without_its_password() {
    let overrides = Overrides { listen: None, redis: vec!["redis://:hunter2@a:port".to_owned().into()] };
    let errors = layered(&overrides, &[]).unwrap_err().to_string();
    assert!(errors.starts_with("--redis: caches[0].nodes[0]: is no URL of a node"), "{errors}");
    assert!(!errors.contains("hunter2"));
}

#[test]
fn a_shorter_interval_shortens_the_default_timeout() {
    let config = layered(&Overrides::default(), &[("CACHE_STORM__POLL__INTERVAL", "200ms")]).unwrap();
    assert_eq!(config.poll.timeout, Duration::from_millis(200));
}

#[test]
fn nodes_can_be_found_in_four_ways() {
    let config = good("discovery.yaml");
    let Discovery { refresh, max_nodes, allow } = &config.discovery;
    assert_eq!((*refresh, *max_nodes), (Duration::from_secs(10), 50));
    let permits = |address: &str| allow.permits(address.parse().unwrap());
    assert!(permits("10.1.2.3") && permits("2001:db8::9") && permits("203.0.113.7"));
    assert!(!permits("127.0.0.1") && !permits("203.0.113.8"), "a list replaces the default");

    let login = |credentials: &Credentials| {
        (credentials.username.clone(), credentials.expose_password().unwrap_or_default().to_owned())
    };
    let of = |index: usize| (&config.caches[index].source, &config.caches[index].access);
    let (Source::Cluster { seeds }, access) = of(0) else { panic!("a cluster") };
    assert_eq!([seeds[0].node.as_str(), seeds[1].node.as_str()], ["10.0.0.1:7000", "seed.example.com:6379"]);
    assert_eq!(login(&access.credentials), (Some("exporter".to_owned()), "s3cret from a file".to_owned()));
    assert!(access.tls.as_ref().is_some_and(|tls| tls.ca_file.is_some()) && seeds[1].tls == access.tls);

    let (Source::Sentinel(SentinelSource { sentinels, masters, access: theirs }), access) = of(1) else {
        panic!("Sentinels")
    };
    assert_eq!([sentinels[0].node.as_str(), sentinels[1].node.as_str()], ["10.0.0.9:26379", "10.0.0.8:26380"]);
    assert_eq!(*masters, Masters::Named("mymaster".to_owned()));
    assert_eq!(login(&theirs.credentials), (Some("watcher".to_owned()), "of sentinels".to_owned()));
    assert_eq!(login(&access.credentials), (Some("exporter".to_owned()), "of nodes".to_owned()));
    assert!(theirs.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) && access.tls.is_none());

    let (Source::Sentinel(SentinelSource { masters: Masters::All, access: theirs, .. }), access) = of(2) else {
        panic!("Sentinels")
    };
    assert_eq!(login(&theirs.credentials), (None, "of sentinels".to_owned()));
    assert_eq!(access.credentials, Credentials::default(), "a Sentinel's password is no node's");

    let dns = |name: &str, port| Source::Dns { name: name.to_owned(), port };
    assert_eq!(*of(3).0, dns("redis.example.com.", Some(6380)));
    assert!(of(3).1.tls.is_some());
    assert_eq!(*of(4).0, dns("_redis._tcp.example.com", None));
    assert_eq!(*of(5).0, Source::File("tests/fixtures/config/good/targets.json".into()));
    assert_eq!(login(&of(5).1.credentials).1, "s3cret from a file");
    assert!(config.caches.iter().all(|cache| cache.listed().is_empty()));
}
