//! redis_exporter and this exporter side by side on the same servers: every family, type, series and value.
//!
//! Run by hand, as redis_exporter is no package of Debian: `make compare PEER=path`, with `SERVER=path` for another
//! server than the one that `redis-server` is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{ABSENT_AT_MINUS_ONE, COUNTERS, ITS_OWN, LABELS_LEFT_OUT, Servers, kinds};
use crate::harness::exporter::{Exporter, get};
use crate::harness::metrics::Metrics;
use crate::harness::{eventually, free_port};

/// Everything there that is about the server, with its age: what is asked every 30 s may be that old.
pub(super) const SETTLES: Duration = Duration::from_secs(40);

/// Flags of redis_exporter that published dashboards ask for and that read no keys.
const FLAGS: [&str; 2] = ["--include-system-metrics", "--include-config-metrics"];

/// Settings that are shown here, too.
const SETTINGS: [&str; 6] =
    ["appendfsync", "client-output-buffer-limit", "io-threads", "save", "slowlog-log-slower-than", "slowlog-max-len"];

/// How often the two are compared at most: what differs each time does so for a reason that is not the moment. On a
/// machine without time to spare a latency event, a reconnected link or a Sentinel that mistrusts its clock may come and
/// go between any two scrapes.
pub(super) const ROUNDS: usize = 4;

/// Values of the moment, and such as are moved by who looks: redis_exporter connects anew for each scrape, sends some
/// twenty commands and leaves. Beginnings of names.
const OF_THE_MOMENT: [&str; 12] = [
    "redis_allocator_",
    "redis_client_recent_",
    "redis_configured_hz",
    "redis_connected_clients",
    "redis_connected_slave_lag_seconds",
    "redis_hz",
    "redis_instantaneous_",
    "redis_last_slow_execution_duration_seconds",
    "redis_master_last_io_seconds_ago",
    "redis_mem_",
    "redis_memory_used_",
    "redis_sentinel_master_last_ok_ping_reply_seconds",
];
/// Commands that come all the time, from those who look, from a master and from a Sentinel.
const MEANWHILE: [&str; 9] =
    ["client", "cluster", "config", "info", "latency", "ping", "publish", "replconf", "slowlog"];

/// A way in which the two differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// A family that is only there.
    FamilyMissing,
    /// A family that is only here.
    FamilyMore,
    /// Its type there and here.
    Type(String, String),
    /// Labels of a series that is only there.
    SeriesMissing(String),
    /// Labels of a series that is only here.
    SeriesMore(String),
    /// A value outside of what was there before and after, but near it: labels, values.
    Near(String, String),
    /// One that is far from it.
    Far(String, String),
}

impl Difference {
    /// What differs, whatever the values are at the moment.
    fn without_values(&self) -> Self {
        match self {
            Self::Near(labels, _) | Self::Far(labels, _) => Self::Near(labels.clone(), String::new()),
            other => other.clone(),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FamilyMissing => write!(f, "is not here"),
            Self::FamilyMore => write!(f, "is only here"),
            Self::Type(there, here) => write!(f, "is a {there} there, a {here} here"),
            Self::SeriesMissing(labels) => write!(f, "{{{labels}}} is not here"),
            Self::SeriesMore(labels) => write!(f, "{{{labels}}} is only here"),
            Self::Near(labels, values) | Self::Far(labels, values) => write!(f, "{{{labels}}}: {values}"),
        }
    }
}

/// Series by family and labels, as text. Bounds and quantiles are numbers, however they are written.
fn series(metrics: &Metrics) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut families = BTreeMap::new();
    for family in kinds(metrics).into_keys() {
        let mut series = BTreeMap::new();
        for suffix in ["", "_bucket", "_sum", "_count"] {
            for sample in metrics.all(&format!("{family}{suffix}"), &[]) {
                let labels = sample.labels.iter().filter(|(_, value)| !value.is_empty());
                let labels = labels.map(|(name, value)| match (name.as_str(), value.parse::<f64>()) {
                    ("le" | "quantile", Ok(bound)) => format!(" {name}={bound}"),
                    _ => format!(" {name}={value}"),
                });
                series.insert(suffix.to_owned() + &labels.collect::<String>(), sample.value);
            }
        }
        families.insert(family, series);
    }
    families
}

/// Why they may differ; `None` if `docs/compatibility.md` does not say.
fn reason(role: &str, family: &str, difference: &Difference) -> Option<&'static str> {
    use Difference::{FamilyMissing, FamilyMore, Far, Near, SeriesMissing, SeriesMore, Type};
    let sentinel = role == "sentinel";
    let reason = match (difference, family) {
        (Type(..), _) if COUNTERS.contains(&family) => "it only grows",
        (FamilyMissing, _) if ITS_OWN.contains(&family) => "its own work",
        (FamilyMissing, _) if ABSENT_AT_MINUS_ONE.contains(&family) => "−1 there",
        (FamilyMissing, "redis_db_keys" | "redis_db_keys_expiring") if sentinel => "a Sentinel holds no keys",
        (FamilyMore, "redis_memory_fragmentation_ratio") => "for older dashboards",
        (FamilyMore, "redis_config_maxclients") if sentinel => "read from INFO",
        (SeriesMissing(labels), "redis_config_value" | "redis_config_key_value")
            if !SETTINGS.iter().any(|key| labels.split(' ').any(|label| label.strip_prefix("key=") == Some(key))) =>
        {
            "settings that nobody shows"
        }
        (FamilyMissing, "redis_sentinel_config_value" | "redis_sentinel_config_key_value") => {
            "settings that nobody shows"
        }
        (Near(..), "redis_start_time_seconds") => "by the exporter's clock there",
        (FamilyMissing, "redis_db_keys_cached") => "by its place, not its name",
        (SeriesMissing(_) | SeriesMore(_), "redis_instance_info") => "redis_mode of Valkey",
        (SeriesMissing(_), "redis_db_keys" | "redis_db_keys_expiring") => "databases without keys",
        (SeriesMore(labels), "redis_commands_latencies_usec") if labels.starts_with("_bucket") => "all buckets at once",
        (SeriesMissing(_) | SeriesMore(_), _) if LABELS_LEFT_OUT.iter().any(|(name, _)| *name == family) => {
            "a label less"
        }
        (Near(..) | Far(..), _) if family.starts_with("redis_exporter_") => "polls, not scrapes",
        (Near(..), _) if OF_THE_MOMENT.iter().any(|begin| family.starts_with(begin)) => "of the moment",
        // Quantiles fall, too.
        (Near(labels, _), "redis_latency_percentiles_usec")
            if MEANWHILE.iter().any(|command| labels.contains(&format!("cmd={command}"))) =>
        {
            "of the moment"
        }
        _ => return None,
    };
    Some(reason)
}

/// How `here` differs from what was there before and after it, by family.
fn differences(before: &Metrics, here: &Metrics, after: &Metrics) -> BTreeSet<(String, Difference)> {
    let (kinds_there, kinds_here) = (kinds(after), kinds(here));
    let (earlier, later, ours) = (series(before), series(after), series(here));
    let mut found = BTreeSet::new();
    for (family, kind) in &kinds_there {
        let mut differs = |difference| found.insert((family.clone(), difference));
        let Some(kind_here) = kinds_here.get(family) else {
            differs(Difference::FamilyMissing);
            continue;
        };
        if kind != kind_here {
            differs(Difference::Type(kind.clone(), kind_here.clone()));
        }
        let (later, ours) = (&later[family], &ours[family]);
        for (labels, last) in later {
            // What was not there before appeared with the second scrape, by its own commands perhaps.
            let Some(first) = earlier.get(family).and_then(|series| series.get(labels)) else { continue };
            match ours.get(labels) {
                None => drop(differs(Difference::SeriesMissing(labels.clone()))),
                Some(value) if !(first.min(*last)..=first.max(*last)).contains(value) => {
                    let (labels, values) = (labels.clone(), format!("{first} … {last} there, {value} here"));
                    // Units are a thousand apart and more.
                    let near = [*first, *last].iter().any(|there| (0.01..100.0).contains(&(value / there)));
                    let near = near || [*first, *last, *value].contains(&0.0);
                    differs(if near { Difference::Near(labels, values) } else { Difference::Far(labels, values) });
                }
                Some(_) => {}
            }
        }
        for labels in ours.keys().filter(|labels| !later.contains_key(*labels)) {
            differs(Difference::SeriesMore(labels.clone()));
        }
    }
    for family in kinds_here.into_keys().filter(|family| !kinds_there.contains_key(family)) {
        found.insert((family, Difference::FamilyMore));
    }
    found
}

/// redis_exporter; killed when dropped.
pub(super) struct Peer {
    pub(super) port: u16,
    process: Child,
}

impl Peer {
    /// The program that `PEER` names.
    pub(super) async fn from_environment() -> Self {
        let program = std::env::var("PEER").expect("PEER=path of redis_exporter");
        let port = free_port();
        let process = Command::new(&program)
            .args(FLAGS)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("PEER={program}: {error}"));
        eventually("redis_exporter listens", Duration::from_secs(20), async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self { port, process }
    }

    async fn scrape(&self, node: &str) -> Metrics {
        let (status, body) = get(self.port, &format!("/scrape?target=redis://{node}")).await;
        assert_eq!(status, 200, "{node}: {body}");
        Metrics::parse(body)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
#[ignore = "needs redis_exporter: make compare PEER=path"]
async fn side_by_side() {
    let (servers, peer) = (Servers::start().await, Peer::from_environment().await);
    let exporter = Exporter::serve(&servers.config(), &[]).await;
    let here = async |node: &str| Metrics::parse(exporter.get(&format!("/scrape?target={node}")).await.1);
    let nodes = servers.nodes();
    for (_, node) in &nodes {
        here(node).await;
        peer.scrape(node).await;
    }
    // Our own first commands, and those of redis_exporter, come before what is compared.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut before = Vec::new();
    for (_, node) in &nodes {
        here(node).await;
        before.push(peer.scrape(node).await);
    }
    // Differences that no round lacked, with what they were in the last.
    let mut unexplained: Option<BTreeMap<_, String>> = None;
    for round in 1..=ROUNDS {
        tokio::time::sleep(SETTLES).await;
        let mut found = BTreeMap::new();
        for ((role, node), before) in nodes.iter().zip(&mut before) {
            let (here, after) = (here(node).await, peer.scrape(node).await);
            eprintln!("== {role}: {} families there, {} here", kinds(&after).len(), kinds(&here).len());
            let mut explained: BTreeMap<(&str, String), usize> = BTreeMap::new();
            for (family, difference) in differences(before, &here, &after) {
                if let Some(reason) = reason(role, &family, &difference) {
                    *explained.entry((reason, family)).or_default() += 1;
                } else {
                    eprintln!("   {family} {difference}");
                    found.insert((*role, family, difference.without_values()), difference.to_string());
                }
            }
            for ((reason, family), count) in explained {
                eprintln!("   {family}: {count} as documented, {reason}");
            }
            *before = after;
        }
        if let Some(earlier) = &unexplained {
            found.retain(|what, _| earlier.contains_key(what));
        }
        eprintln!("== round {round}: {} differences that every round had", found.len());
        let done = found.is_empty();
        unexplained = Some(found);
        if done {
            break;
        }
    }
    let unexplained: Vec<_> = unexplained.into_iter().flatten().collect();
    assert!(unexplained.is_empty(), "docs/compatibility.md does not explain {unexplained:#?}");
}

#[test]
fn what_differs_is_found() {
    let read = |text: &str| Metrics::parse(text.to_owned());
    let before = read("# TYPE a gauge\na 1000\n# TYPE b counter\nb{x=\"1\"} 5\n# TYPE c gauge\nc 1\n");
    let after = read("# TYPE a gauge\na 1000\n# TYPE b counter\nb{x=\"1\"} 9\n# TYPE c gauge\nc 1\n");
    let same = read("# TYPE a gauge\na 1000\n# TYPE b counter\nb{x=\"1\"} 7\n# TYPE c gauge\nc 1\n");
    assert!(differences(&before, &same, &after).is_empty());
    let here = read("# TYPE a counter\na 2\n# TYPE b counter\nb{x=\"2\"} 7\n# TYPE d gauge\nd 1\n");
    let found: Vec<String> = differences(&before, &here, &after)
        .iter()
        .map(|(family, difference)| format!("{family} {difference}"))
        .collect();
    let expected = [
        "a is a gauge there, a counter here",
        "a {}: 1000 … 1000 there, 2 here",
        "b { x=1} is not here",
        "b { x=2} is only here",
        "c is not here",
        "d is only here",
    ];
    assert_eq!(found, expected);
}
