//! The dashboards and rules of those who come from redis_exporter, asked of it and of this exporter side by side: one
//! Prometheus scrapes the same servers through both, and every expression must find the same series in both.
//!
//! Run by hand: `make compare PEER=path DASHBOARDS=folder`. Without a folder it asks what `tests/fixtures/dropin/asked`
//! holds, which also shows that differences are found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use promql_parser::parser::Expr;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::asked::{self, Asked};
use super::peer::{Peer, ROUNDS, SETTLES};
use super::{COMPATIBILITY, COUNTERS, Servers};
use crate::dashboards::promql;
use crate::harness::exporter::{Exporter, get};
use crate::harness::metrics::Metrics;
use crate::harness::prometheus::Prometheus;

/// Differences that are printed of one expression.
const SHOWN: usize = 3;

/// Series by their labels, as text.
type Series = BTreeMap<String, f64>;

/// A way in which the answers differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// Labels of a series that only redis_exporter gives.
    Missing(String),
    /// Labels of a series that only this exporter gives.
    More(String),
    /// Labels of a series that is 0 on one side and not on the other, or passes a threshold on one side only: told, but
    /// which value is right is asked in [`super::peer`].
    Value(String),
    /// There is an answer there; here there is this error.
    Failed(String),
}

impl Difference {
    /// Of a series that both sides have, and only one shows.
    fn in_value(self) -> Self {
        match self {
            Self::Missing(labels) | Self::More(labels) | Self::Value(labels) => Self::Value(labels),
            Self::Failed(error) => Self::Failed(error),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(labels) => write!(f, "{{{labels}}} is not here"),
            Self::More(labels) => write!(f, "{{{labels}}} is only here"),
            Self::Value(labels) => write!(f, "{{{labels}}} is 0, or past a threshold, on one side"),
            Self::Failed(error) => write!(f, "here it fails: {error}"),
        }
    }
}

/// What came of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// Prometheus, or the parser, does not take it.
    NotUnderstood(String),
    /// redis_exporter has nothing to answer with; why, if Prometheus says so.
    NothingThere(String),
    /// Series there, and the differences that every look found.
    Compared(usize, BTreeSet<Difference>),
}

/// How the answers differ.
fn differences(there: &Series, here: &Series) -> BTreeSet<Difference> {
    let value = |(labels, value): (&String, &f64)| {
        let differs = here.get(labels).is_some_and(|here| (*value == 0.0) != (*here == 0.0));
        differs.then(|| Difference::Value(labels.clone()))
    };
    let without = |one: &Series, other: &Series| -> Vec<String> {
        one.keys().filter(|labels| !other.contains_key(*labels)).cloned().collect()
    };
    let missing = without(there, here).into_iter().map(Difference::Missing);
    let more = without(here, there).into_iter().map(Difference::More);
    missing.chain(more).chain(there.iter().filter_map(value)).collect()
}

/// Whether nothing but values differs.
fn in_values_only(found: &BTreeSet<Difference>) -> bool {
    found.iter().all(|difference| matches!(difference, Difference::Value(_)))
}

/// A Prometheus that scrapes the same servers by two jobs, `there` and `here`.
struct Sides {
    prometheus: Prometheus,
    /// Labels of the series themselves.
    own: BTreeSet<String>,
    /// Labels of the targets besides those. Each tells the servers apart, by what they are.
    of_target: BTreeSet<String>,
}

impl Sides {
    async fn start(servers: &Servers, ports: [u16; 2], own: BTreeSet<String>, of_target: BTreeSet<String>) -> Self {
        let job = |(name, port): (&str, u16)| {
            let target = |(role, node): (&str, String)| {
                let labels: BTreeMap<&String, &str> = of_target.iter().map(|label| (label, role)).collect();
                json!({ "targets": [format!("redis://{node}")], "labels": labels })
            };
            json!({
                "job_name": name,
                "metrics_path": "/scrape",
                "static_configs": servers.nodes().map(target),
                "relabel_configs": [
                    { "source_labels": ["__address__"], "target_label": "__param_target" },
                    { "source_labels": ["__param_target"], "target_label": "instance" },
                    { "target_label": "__address__", "replacement": format!("127.0.0.1:{port}") },
                ],
            })
        };
        let jobs: Vec<Value> = ["there", "here"].into_iter().zip(ports).map(job).collect();
        let config = json!({ "global": { "scrape_interval": "1s" }, "scrape_configs": jobs });
        let prometheus = Prometheus::start(&config.to_string()).await;
        Self { prometheus, own, of_target }
    }

    /// The answer of a side at this moment, or the kind of its error and what Prometheus says.
    async fn answer(&self, job: &str, expr: &Expr) -> Result<Series, (String, String)> {
        let answer = self.prometheus.instant(&asked::of_side(expr, job, &self.own).to_string()).await;
        if let (Some(kind), Some(error)) = (answer["errorType"].as_str(), answer["error"].as_str()) {
            return Err((kind.to_owned(), error.to_owned()));
        }
        let result = &answer["data"]["result"];
        if ["scalar", "string"].iter().any(|kind| answer["data"]["resultType"] == *kind) {
            return Ok([(String::new(), number(&result[1]))].into());
        }
        let series = result.as_array().into_iter().flatten();
        Ok(series.map(|series| (self.labels(&series["metric"]), number(&series["value"][1]))).collect())
    }

    /// Labels as text: not the job, and once what the labels of the target say, all of them the same.
    fn labels(&self, metric: &Value) -> String {
        let labels = || metric.as_object().into_iter().flatten().filter(|(name, _)| *name != "job");
        let of_series = labels().filter(|(name, _)| !self.of_target.contains(*name));
        let of_series = of_series.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
        let of_target = labels().find(|(name, _)| self.of_target.contains(*name));
        let of_target = of_target.map(|(_, role)| format!("of the {}", role.as_str().unwrap_or_default()));
        of_series.chain(of_target).collect::<Vec<_>>().join(" ")
    }

    /// How many series an expression has there, and how those here differ; the error is that of the answer there.
    async fn compared(&self, expr: &Expr) -> Result<(usize, BTreeSet<Difference>), (String, String)> {
        let there = self.answer("there", expr).await?;
        let found = match self.answer("here", expr).await {
            Ok(here) => differences(&there, &here),
            Err((_, error)) => [Difference::Failed(error)].into(),
        };
        Ok((there.len(), found))
    }

    /// Asks both sides for an expression: as it stands, and with its comparisons saying 0 or 1.
    async fn ask(&self, expr: &Expr) -> Outcome {
        let (mut count, mut found) = match self.compared(expr).await {
            Ok(compared) => compared,
            Err((kind, error)) if kind == "bad_data" => return Outcome::NotUnderstood(error),
            Err((_, error)) => return Outcome::NothingThere(error),
        };
        if count == 0 {
            // Only here: without its comparisons it is told whether that is more than a value past a threshold.
            found.clear();
        }
        // Where it cannot be asked like that, as it stands is what counts.
        if let Some(expr) = asked::without_thresholds(expr)
            && let Ok((of_all, differing)) = self.compared(&expr).await
        {
            // The same series: what passes a threshold on one side only has another value.
            if of_all > 0 && in_values_only(&differing) {
                found = found.into_iter().map(Difference::in_value).collect();
            }
            count = count.max(of_all);
            found.extend(differing);
        }
        if count == 0 { Outcome::NothingThere(String::new()) } else { Outcome::Compared(count, found) }
    }
}

fn number(value: &Value) -> f64 {
    value.as_str().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
}

/// Asks everything, and once more what differed, until that was looked at [`ROUNDS`] times.
async fn outcomes(questions: &[Asked]) -> Vec<Outcome> {
    let (servers, peer) = (Servers::start().await, Peer::from_environment().await);
    let exporter = Exporter::serve(&servers.config(), &[]).await;
    let mut own = BTreeSet::new();
    for port in [peer.port, exporter.port] {
        for (_, node) in servers.nodes() {
            let (_, body) = get(port, &format!("/scrape?target=redis://{node}")).await;
            own.extend(Metrics::parse(body).labels().map(str::to_owned));
        }
    }
    let parsed: Vec<Result<Expr, String>> = questions.iter().map(|asked| asked::parse(&asked.expr)).collect();
    let of_target = parsed.iter().flatten().flat_map(|expr| asked::of_target(expr, &own)).collect();
    let sides = Sides::start(&servers, [peer.port, exporter.port], own, of_target).await;
    sleep(SETTLES).await;

    let mut outcomes = Vec::new();
    for expr in &parsed {
        outcomes.push(match expr {
            Ok(expr) => sides.ask(expr).await,
            Err(error) => Outcome::NotUnderstood(error.clone()),
        });
    }
    for _ in 1..ROUNDS {
        sleep(SETTLES / 4).await;
        for (outcome, expr) in outcomes.iter_mut().zip(&parsed) {
            let (Outcome::Compared(_, found), Ok(expr)) = (outcome, expr) else { continue };
            if !found.is_empty() {
                let Outcome::Compared(_, again) = sides.ask(expr).await else { continue };
                found.retain(|difference| again.contains(difference));
            }
        }
    }
    outcomes
}

/// What `docs/compatibility.md` says under departures of a family that the expression selects or that differs, but for
/// those whose type alone is another.
fn departure(expr: &str, found: &BTreeSet<Difference>) -> Option<&'static str> {
    let (_, table) = COMPATIBILITY.split_once("## Departures").expect("a chapter of departures");
    let (table, _) = table.split_once("\n## ").expect("a chapter after it");
    let expr = asked::parse(expr).ok()?;
    let selected = promql::selectors(&expr).into_iter().filter_map(|selector| selector.name.clone());
    // Where the expression selects names by a pattern, those that differ stand in the answer.
    let differing = found.iter().filter_map(|difference| match difference {
        Difference::Missing(labels) | Difference::More(labels) => labels.strip_prefix("__name__="),
        Difference::Value(_) | Difference::Failed(_) => None,
    });
    let differing = differing.map(|rest| rest.split(' ').next().unwrap_or_default().to_owned());
    let names: Vec<String> =
        selected.chain(differing).map(|name| name.trim_end_matches("_bucket").to_owned()).collect();
    table.lines().filter(|line| line.starts_with("| `")).find_map(|line| {
        let mut cells = line.trim_matches(['|', ' ']).split(" | ");
        let (families, _, here) = (cells.next()?, cells.next()?, cells.next()?);
        let departs = |name: &String| families.contains(&format!("`{name}`")) && !COUNTERS.contains(&name.as_str());
        names.iter().any(departs).then_some(here)
    })
}

/// An error without the series that it lists.
fn begin(error: &str) -> &str {
    error.split(": [").next().unwrap_or_default()
}

/// Prints what came of the expressions of each file; returns those that differ for no reason that is documented.
fn told<'a>(questions: &'a [Asked], outcomes: &[Outcome]) -> Vec<&'a str> {
    let mut unexplained = Vec::new();
    let mut counts: BTreeMap<&str, [usize; 5]> = BTreeMap::new();
    for (Asked { file, expr }, outcome) in questions.iter().zip(outcomes) {
        let [all, compared, differ, nothing, strange] = counts.entry(file).or_default();
        *all += 1;
        match outcome {
            Outcome::NotUnderstood(error) => {
                *strange += 1;
                eprintln!("{file}: not understood, {}: {expr}", begin(error));
            }
            Outcome::NothingThere(error) => {
                *nothing += 1;
                eprintln!("{file}: nothing there{}{}: {expr}", if error.is_empty() { "" } else { ", " }, begin(error));
            }
            Outcome::Compared(_, found) => {
                *compared += 1;
                if found.is_empty() {
                    continue;
                }
                let reason = if in_values_only(found) { Some("a value") } else { departure(expr, found) };
                eprintln!("{file}: {}: {expr}", reason.unwrap_or("DIFFERS"));
                found.iter().take(SHOWN).for_each(|difference| eprintln!("   {difference}"));
                if found.len() > SHOWN {
                    eprintln!("   and {} more", found.len() - SHOWN);
                }
                *differ += usize::from(!in_values_only(found));
                if reason.is_none() {
                    unexplained.push(expr.as_str());
                }
            }
        }
    }
    for (file, [all, compared, differ, nothing, strange]) in counts {
        eprintln!(
            "== {file}: {all} expressions; {compared} with data there, of which {differ} find other series here; \
             {nothing} without; {strange} not understood"
        );
    }
    unexplained
}

#[tokio::test]
#[ignore = "needs redis_exporter: make compare PEER=path"]
async fn dashboards_find_the_same_here() {
    let own = asked::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dropin/asked"));
    let given = std::env::var_os("DASHBOARDS").map(|folder| {
        let given = asked::read(Path::new(&folder));
        assert!(!given.is_empty(), "DASHBOARDS={}: no expressions", folder.display());
        given
    });
    let questions: Vec<Asked> = own.iter().chain(given.iter().flatten()).cloned().collect();
    let outcomes = outcomes(&questions).await;
    let unexplained = told(&questions, &outcomes);

    let of = |begin: &str| {
        let at = own.iter().position(|asked| asked.expr.starts_with(begin)).unwrap_or_else(|| panic!("{begin}"));
        &outcomes[at]
    };
    for begin in ["sum by (cmd", "count by (instance", "redis_up == 0", "100 *"] {
        assert!(matches!(of(begin), Outcome::Compared(1.., found) if found.is_empty()), "{begin}: {:?}", of(begin));
    }
    // One series for each of the five servers.
    let Outcome::Compared(5, found) = of("redis_exporter_last_scrape_connect_time_seconds") else {
        panic!("{:?}", of("redis_exporter_last_scrape_connect_time_seconds"));
    };
    assert!(found.len() == 5 && found.iter().all(|it| matches!(it, Difference::Missing(_))), "{found:?}");
    assert!(matches!(of("redis_nobody"), Outcome::NothingThere(_)), "{:?}", of("redis_nobody"));
    for begin in ["sum by ($by", "default("] {
        assert!(matches!(of(begin), Outcome::NotUnderstood(_)), "{begin}: {:?}", of(begin));
    }
    assert!(unexplained.is_empty(), "docs/compatibility.md does not explain {unexplained:#?}");
}

#[test]
fn what_is_asked_is_read_from_dashboards_and_rules() {
    let found = asked::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dropin/asked"));
    let found: Vec<String> = found.into_iter().map(|Asked { file, expr }| format!("{file}: {expr}")).collect();
    let expected = [
        "dashboard.json: count by (instance) (redis_up{job=\"$job\"})",
        "dashboard.json: sum by (cmd) (rate(redis_commands_total{pod=~\"${pod:regex}\", cmd=~\"[[cmd]]\"}[$__rate_interval]))",
        "dashboard.json: redis_exporter_last_scrape_connect_time_seconds{instance=~\"$instance\"}",
        "dashboard.json: sum by ($by) (redis_up)",
        "rules.yml: redis_up == 0",
        "rules.yml: 100 * redis_memory_used_bytes{namespace=\"shop\"} / (redis_memory_max_bytes{namespace=\"shop\"} > 0)",
        "rules.yml: redis_nobody_exports_this > 1",
        "rules.yml: default(redis_up, 0)",
    ];
    let (mut found, mut expected) = (found, expected.map(str::to_owned).to_vec());
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn different_answers_are_found() {
    let series = |given: &[(&str, f64)]| given.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect();
    let there = series(&[("a=1", 1.0), ("a=2", 0.0), ("a=3", 7.0)]);
    assert!(differences(&there, &series(&[("a=1", 2.0), ("a=2", 0.0), ("a=3", 9.0)])).is_empty());
    let found = differences(&there, &series(&[("a=1", 0.0), ("a=3", 7.0), ("a=4", 7.0)]));
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["{a=2} is not here", "{a=4} is only here", "{a=1} is 0, or past a threshold, on one side"]);
}

#[test]
fn departures_are_read_from_the_documentation() {
    let none = BTreeSet::new();
    assert_eq!(departure("sum(rate(redis_commands_total[1m]))", &none), None);
    assert!(departure("redis_up * redis_second_repl_offset", &none).unwrap().contains("absent"));
    assert!(departure("rate(redis_commands_latencies_usec_bucket[1m])", &none).unwrap().contains("buckets"));
    // Its type is another, and nothing else.
    assert_eq!(departure("redis_rdb_saves_total", &none), None);
    let found = BTreeSet::from([Difference::Missing("__name__=redis_db_keys_cached db=db0".to_owned())]);
    assert!(departure("{__name__=~\"redis_db_.+\"}", &found).unwrap().contains("by name"));
}
