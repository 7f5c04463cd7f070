//! The pager's files, held to the code and to each other: rules, their tests, routes, runbooks.
//!
//! Rule files are read as they are written here, by indentation, and promtool says whether they are what Prometheus
//! takes; expressions are read as far as names, labels and their values go.

mod lint;
mod scenarios;
pub(crate) mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cache_storm_exporter::model::{Indicator, StormType};
use cache_storm_exporter::publish::table;
use cache_storm_exporter::thresholds::Threshold;
use promql_parser::parser::Expr;

use crate::dashboards::promql::parse;

const TEAMS: [&str; 4] = ["backend-team", "performance-team", "infrastructure-team", "incident-response"];
const DASHBOARDS: [&str; 6] = ["overview", "investigation", "replication", "hot-keys", "objectives", "exporter"];
/// One rule of a rule file.
#[derive(Default)]
struct Rule {
    /// Its file's name.
    file: String,
    name: String,
    alert: bool,
    expr: String,
    /// Its `for`, if it has one.
    hold: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Rule {
    /// Its expression, and what its texts ask.
    fn queries(&self) -> Vec<Expr> {
        let asked = self.annotations.values().flat_map(|text| text.split("printf \"").skip(1));
        let asked = asked.filter_map(|rest| rest.split('"').next()).map(|query| query.replace("%q", "\"x\""));
        [self.expr.clone()].into_iter().chain(asked).map(|query| parse(&query).unwrap()).collect()
    }
}

#[test]
fn promtool_takes_the_rules() {
    run(Command::new("promtool").args(["check", "rules", "--lint=all"]).args(rule_files()));
}

#[test]
fn every_rule_does_what_its_tests_say() {
    let tests = files("alerts/tests", "yml");
    let start = |test: &PathBuf| {
        let mut promtool = Command::new("promtool");
        promtool.args(["test", "rules"]).arg(test).stdout(Stdio::piped()).stderr(Stdio::piped());
        promtool.spawn().unwrap_or_else(|error| panic!("promtool: {error}; tests/install-tools.sh installs it"))
    };
    // They share nothing, and the longest takes as long as the others together.
    let running: Vec<_> = tests.iter().map(start).collect();
    for (test, child) in tests.iter().zip(running) {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}:\n{said}{}", test.display(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn alertmanager_and_prometheus_take_their_files() {
    run(Command::new("amtool").arg("check-config").arg(root().join("deploy/alertmanager/alertmanager.yml")));
    run(Command::new("promtool").args(["check", "config"]).arg(root().join("deploy/prometheus/prometheus.yml")));
}

#[test]
fn routes_and_inhibitions_name_what_exists() {
    let text = std::fs::read_to_string(root().join("deploy/alertmanager/alertmanager.yml")).unwrap();
    for team in TEAMS {
        assert!(text.contains(&format!("matchers: ['team = \"{team}\"']")), "no route for {team}");
    }
    let inhibitions: Vec<&str> = text.split("  - source_matchers:").skip(1).collect();
    assert!(inhibitions.len() > 5, "the configuration is written in another way now");
    for inhibition in inhibitions {
        let rule = inhibition.split("\n  - ").next().unwrap();
        assert!(rule.contains("\n    equal: ["), "without `equal` it would silence everything:{rule}");
    }
    let alerts: BTreeSet<String> = alerts().into_iter().map(|rule| rule.name).collect();
    let quoted =
        text.lines().filter(|line| line.contains("alertname =")).flat_map(|line| line.split('"').skip(1).step_by(2));
    // Alternatives in brackets are spelled out by amlint (make test-newer); the others are names.
    for name in quoted.filter(|pattern| !pattern.contains('(')).flat_map(|pattern| pattern.split('|')) {
        assert!(alerts.contains(name), "there is no alert {name}");
    }
}

#[test]
fn every_alert_says_whose_it_is_and_what_to_do() {
    let mut faults = Vec::new();
    for rule in alerts() {
        let mut want = |holds: bool, what: &str| (!holds).then(|| faults.push(format!("{}: {what}", rule.name)));
        let label = |name: &str| rule.labels.get(name).map_or("", String::as_str);
        let text = |name: &str| rule.annotations.get(name).map_or("", String::as_str);
        want(TEAMS.contains(&label("team")), "label team");
        let urgency = (label("severity"), label("escalation"));
        let usual = [("info", "review"), ("warning", "review"), ("warning", "notice"), ("critical", "page")];
        want(usual.contains(&urgency), "labels severity and escalation");
        let storm_type = label("storm_type");
        want(storm_type.is_empty() || StormType::from_name(storm_type).is_some(), "label storm_type");
        for annotation in ["summary", "description", "impact"] {
            want(!text(annotation).is_empty(), annotation);
        }
        want(
            ["$value", "| value"].iter().any(|number| text("description").contains(number)) || !numbered(&rule),
            "numbers",
        );
        want(text("runbook_url").ends_with(&format!("/docs/runbooks/{}.md", rule.name)), "runbook_url");
        let uids = DASHBOARDS.map(|name| format!("/d/cache-storm-{name}"));
        let dashboard = text("dashboard_url").split('?').next().unwrap_or_default();
        want(uids.iter().any(|uid| dashboard.ends_with(uid.as_str())), "dashboard_url");
        let per_cache = ["by (cache", "by (job, cache", "cache:", "cache_storm_type:"];
        let of_cache = per_cache.iter().any(|level| rule.expr.contains(level));
        want(of_cache == text("summary").contains("$labels.cache"), "the cache in the summary, where there is one");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether the alert has more to tell than that it is so.
fn numbered(rule: &Rule) -> bool {
    let plain = ["ExporterDown", "ExporterAbsent", "ExporterIsolated", "ReloadFailed", "CacheDown", "CacheUnwatched"];
    !plain.iter().any(|name| rule.name.ends_with(name))
}

#[test]
fn every_type_and_every_indicator_has_its_alert() {
    let alerts = alerts();
    for storm_type in StormType::ALL {
        let of_type = |escalation: &str| {
            let is = |rule: &&Rule| {
                rule.labels.get("storm_type").is_some_and(|label| label == storm_type.as_str())
                    && rule.labels["escalation"] == escalation
                    && rule.expr.contains(&format!("cache_storm_active{{storm_type=\"{storm_type}\"}}"))
            };
            alerts.iter().filter(is).collect::<Vec<_>>()
        };
        let (notices, pages) = (of_type("notice"), of_type("page"));
        assert_eq!((notices.len(), pages.len()), (1, 1), "{storm_type}");
        assert_eq!(format!("{}Escalated", notices[0].name), pages[0].name);
        assert_eq!(notices[0].labels["team"], pages[0].labels["team"], "{storm_type}");
        assert!(pages[0].expr.contains(Threshold::escalation(*storm_type).spec().name), "{storm_type}");
    }
    for indicator in Indicator::ALL {
        let shown = format!("cache_storm_indicator{{indicator=\"{indicator}\"}}");
        assert!(alerts.iter().any(|rule| rule.expr.contains(&shown)), "{indicator} has no alert");
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let alerts: BTreeSet<String> = alerts().into_iter().map(|rule| rule.name).collect();
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let pages: BTreeSet<String> =
        files("docs/runbooks", "md").iter().map(stem).filter(|name| name != "README").collect();
    assert_eq!(alerts, pages);
    let steps = ["Scope", "First three minutes", "Analysis", "Recovery", "Validation", "Prevention", "Escalation"];
    for page in &pages {
        let text = std::fs::read_to_string(root().join(format!("docs/runbooks/{page}.md"))).unwrap();
        assert!(text.starts_with(&format!("# {page}\n")), "{page}: title");
        let mut rest = text.as_str();
        for step in steps {
            let (_, after) = rest.split_once(&format!("\n## {step}\n")).unwrap_or_else(|| panic!("{page}: no {step}"));
            rest = after;
        }
        for metric in text
            .split('`')
            .skip(1)
            .step_by(2)
            .flat_map(words)
            .filter(|word| word.starts_with("cache_storm_") && !word.contains(':'))
        {
            let base = ["_sum", "_count", "_bucket"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric);
            let known = table::families().any(|family| family.name == metric || family.name == base);
            assert!(known, "{page} names {metric}");
        }
    }
}

#[test]
fn queries_in_runbooks_can_be_pasted() {
    let mut rules = "groups:\n  - name: runbooks\n    rules:\n".to_owned();
    for page in files("docs/runbooks", "md") {
        let text = std::fs::read_to_string(&page).unwrap();
        let blocks = text.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next());
        for (number, query) in blocks.flat_map(str::lines).enumerate() {
            let name = page.file_stem().unwrap().to_str().unwrap();
            writeln!(rules, "      - record: {name}:{number}\n        expr: |\n          {query}").unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runbooks.yml");
    std::fs::write(&file, rules).unwrap();
    run(Command::new("promtool").args(["check", "rules", "--lint=none"]).arg(file));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of a folder with that ending, sorted.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    files.sort();
    files
}

fn rule_files() -> Vec<PathBuf> {
    files("alerts", "yml")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; see tests/install-tools.sh"));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}:\n{said}");
}

fn alerts() -> Vec<Rule> {
    rules().into_iter().filter(|rule| rule.alert).collect()
}

/// Every rule of every file: a rule starts with `- alert:` or `- record:`, its keys stand at eight blanks, the keys of
/// labels and annotations at ten, and what stands deeper belongs to the key before it.
fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for file in rule_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let file = file.file_name().unwrap().to_str().unwrap();
        let (mut section, mut key) = (String::new(), String::new());
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let depth = line.len() - line.trim_start().len();
            let line = line.trim();
            if let Some((kind, name)) = line.strip_prefix("- ").and_then(|start| start.split_once(": "))
                && ["alert", "record"].contains(&kind)
            {
                let (file, name) = (file.to_owned(), name.to_owned());
                rules.push(Rule { file, name, alert: kind == "alert", ..Rule::default() });
                continue;
            }
            let Some(rule) = rules.last_mut() else { continue };
            let (name, value) = line.split_once(':').unwrap_or_default();
            let value = value.trim().trim_start_matches(">-").trim_start_matches('|').trim_matches('"');
            match (depth, section.as_str()) {
                (8, _) => {
                    name.clone_into(&mut section);
                    match name {
                        "expr" => value.clone_into(&mut rule.expr),
                        "for" => value.clone_into(&mut rule.hold),
                        _ => {}
                    }
                }
                (10, "labels") => drop(rule.labels.insert(name.to_owned(), value.to_owned())),
                (10, "annotations") => {
                    name.clone_into(&mut key);
                    rule.annotations.insert(key.clone(), value.to_owned());
                }
                (10.., "annotations") => {
                    let text = rule.annotations.entry(key.clone()).or_default();
                    text.push_str(line);
                    text.push(' ');
                }
                (10.., "expr") => {
                    rule.expr.push_str(line);
                    rule.expr.push(' ');
                }
                _ => {}
            }
        }
    }
    assert!(rules.len() > 50, "the rule files are written in another way now");
    rules
}

/// The identifier that the text begins with.
fn first_word(text: &str) -> Option<&str> {
    words(text).next()
}

/// Identifiers of the text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || matches!(character, '_' | ':')))
        .filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic()))
}
