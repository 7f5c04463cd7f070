//! Grafana's dashboards: rendered here from the exporter's own tables, committed in `dashboards/`, and checked.
//!
//! `docs/dashboards.md` says which question each answers and why they are made this way.

mod exporter;
mod grafana;
mod hot_keys;
mod investigation;
mod lint;
mod objectives;
mod overview;
pub(crate) mod promql;
mod query;
mod replication;
mod topology;
mod types;
mod vocabulary;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Set to anything, it makes the drift test write the files instead.
const WRITE: &str = "DASHBOARDS_WRITE";

/// Panels of every Grafana, none of them deprecated.
const PANELS: [&str; 7] = ["stat", "timeseries", "state-timeline", "bargauge", "table", "heatmap", "text"];

/// What a panel or an annotation asks Prometheus.
#[derive(Clone)]
pub(crate) struct Question {
    /// Dashboard, panel and query.
    pub(crate) place: String,
    pub(crate) expr: String,
    /// Labels that the legend names.
    pub(crate) labels: Vec<String>,
}

/// Every dashboard, by its file's name.
pub(crate) fn all() -> Vec<(String, Value)> {
    let dashboards = [
        overview::dashboard(),
        investigation::dashboard(),
        replication::dashboard(),
        hot_keys::dashboard(),
        objectives::dashboard(),
        exporter::dashboard(),
    ];
    dashboards.into_iter().map(|dashboard| (format!("{}.json", dashboard.uid), dashboard.json())).collect()
}

#[test]
fn files_are_what_is_rendered() {
    let folder = root().join("dashboards");
    let write = std::env::var_os(WRITE).is_some();
    for (name, dashboard) in all() {
        let rendered = serde_json::to_string_pretty(&dashboard).unwrap() + "\n";
        let file = folder.join(&name);
        if write {
            std::fs::write(&file, &rendered).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == rendered, "dashboards/{name} differs from what is rendered: run `make dashboards`");
    }
    let expected: Vec<PathBuf> = all().iter().map(|(name, _)| folder.join(name)).collect();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let json = path.extension().is_some_and(|extension| extension == "json");
        assert!(!json || expected.contains(&path), "nothing renders {}: remove it", path.display());
    }
}

#[test]
fn queries_name_what_exists() {
    let mut faults = Vec::new();
    for Question { place, expr, .. } in questions() {
        let parsed = promql::parse(&expr).unwrap_or_else(|error| panic!("{place}: {error}"));
        faults.extend(promql::unknown_names(&parsed).into_iter().map(|fault| format!("{place}: {fault}")));
    }
    for (series, label) in variables() {
        // A label in `by` must be one of the series'; job is everybody's.
        let parsed = promql::parse(&format!("count by ({label}) ({series})")).unwrap();
        faults.extend(promql::unknown_names(&parsed).into_iter().map(|fault| format!("a variable: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_linter_finds_nothing() {
    let excuses = lint::Excuses::read(&root().join("dashboards/.lint"));
    let findings: Vec<lint::Finding> = all().iter().flat_map(|(_, dashboard)| lint::lint(dashboard)).collect();
    let faults = findings.iter().filter(|finding| !excuses.excuse(finding));
    let faults: Vec<String> = faults.map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let idle = excuses.idle(&findings);
    assert!(idle.is_empty(), "dashboards/.lint excuses what is no fault: {idle:?}");
}

#[test]
fn every_panel_says_what_it_is() {
    for (name, dashboard) in all() {
        assert!(dashboard.get("id").is_none(), "{name}: an id belongs to one Grafana");
        assert_eq!(dashboard["timezone"], "browser", "{name}");
        let mut ids = BTreeSet::new();
        for panel in lint::panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            let place = format!("{name}: {title}");
            assert!(PANELS.contains(&panel["type"].as_str().unwrap()), "{place}: {}", panel["type"]);
            assert!(panel["description"].as_str().unwrap().ends_with('.'), "{place}: a description is a sentence");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{place}: its id twice");
            let silent = panel["fieldConfig"]["defaults"]["noValue"].is_null() && panel["type"] != "text";
            assert!(!silent, "{place}: says nothing when there is nothing to show");
            let (x, width) = (panel["gridPos"]["x"].as_u64().unwrap(), panel["gridPos"]["w"].as_u64().unwrap());
            assert!(x + width <= 24, "{place}: reaches over the edge");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let dashboards = all();
    let mut texts: Vec<(String, String)> = dashboards.iter().map(|(name, it)| (name.clone(), it.to_string())).collect();
    for entry in std::fs::read_dir(root().join("alerts")).unwrap() {
        let path = entry.unwrap().path();
        texts.extend(path.is_file().then(|| (path.display().to_string(), std::fs::read_to_string(&path).unwrap())));
    }
    for (name, text) in &texts {
        for uid in text.split("/d/").skip(1).map(|rest| rest.split(['?', '"']).next().unwrap()) {
            assert!(dashboards.iter().any(|(file, _)| *file == format!("{uid}.json")), "{name} leads to {uid}");
        }
        for page in text.split(grafana::DOCS).skip(1).map(|rest| rest.split([')', '"', '\\', '\n']).next().unwrap()) {
            // A page per alert: tests/it/alerts.rs.
            let exists = page.contains("${__value.text}") || root().join(format!("docs{page}")).exists();
            assert!(exists, "{name} leads to docs{page}");
        }
    }
}

#[test]
fn grafana_knows_every_key() {
    let files = all().into_iter().map(|(name, _)| root().join("dashboards").join(name));
    let python = sdk().join("bin/python");
    let mut command = Command::new(&python);
    command.arg(root().join("tests/grafana_round_trip.py")).args(files);
    let output = command.output().unwrap_or_else(|error| {
        panic!("{}: {error}; tests/install-tools.sh installs Grafana's schema there", python.display())
    });
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_compose_file_is_one() {
    let mut command = Command::new("docker-compose");
    command.arg("-f").arg(root().join("deploy/compose/docker-compose.yml")).args(["config", "--quiet"]);
    let output = command.output().unwrap_or_else(|error| panic!("docker-compose: {error}; see tests/install-tools.sh"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Everything that is asked of Prometheus.
pub(crate) fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    for (name, dashboard) in all() {
        let mut ask = |place: String, expr: &Value, legend: &str| {
            let labels = legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().to_owned());
            let (expr, labels) = (expr.as_str().unwrap().to_owned(), labels.collect());
            questions.push(Question { place: format!("{name}: {place}"), expr, labels });
        };
        for panel in lint::panels(&dashboard) {
            for target in lint::targets(panel) {
                let place = format!("{} {}", panel["title"].as_str().unwrap(), target["refId"].as_str().unwrap());
                ask(place, &target["expr"], target["legendFormat"].as_str().unwrap());
            }
        }
        for event in dashboard["annotations"]["list"].as_array().unwrap() {
            if event["builtIn"] != 1 {
                ask(format!("annotation {}", event["name"].as_str().unwrap()), &event["expr"], "");
            }
        }
    }
    questions
}

/// Series and label that each variable takes its values from.
pub(crate) fn variables() -> BTreeSet<(String, String)> {
    let mut variables = BTreeSet::new();
    for (_, dashboard) in all() {
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if variable["type"] == "query" {
                let query = variable["query"].as_str().unwrap();
                let (series, label) = lint::asked_of_labels(query).unwrap();
                variables.insert((series.to_owned(), label.to_owned()));
            }
        }
    }
    variables
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where tests/install-tools.sh puts Grafana's schema.
fn sdk() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home directory")).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    cache.join("cache-storm-exporter/grafana-sdk-11.6")
}
