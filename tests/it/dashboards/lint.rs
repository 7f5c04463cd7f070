//! The rules of Grafana's dashboard linter, applied to our files: what it calls an error or a warning is a fault here.
//!
//! `dashboards/.lint` excuses faults in the linter's own form, each with a reason. We are stricter than the linter
//! where it looks at some types of panels only: here every panel that asks is held to every rule.

use std::collections::BTreeMap;

use figment::Figment;
use figment::providers::{Format, Yaml};
use promql_parser::parser::Expr;
use serde::Deserialize;
use serde_json::Value;

use super::promql;

/// Units the linter knows, as far as we use any.
const UNITS: [&str; 9] =
    ["none", "percentunit", "ops", "reqps", "s", "bytes", "Bps", "dateTimeFromNow", "dateTimeAsLocal"];
/// What a query variable may ask.
const FUNCTIONS: [&str; 4] = ["label_names", "label_values", "metrics", "query_result"];
/// Variables that ask for labels of our series.
const SCOPES: [&str; 4] = ["job", "cache", "role", "cache_node"];

/// One thing that a rule does not like.
pub(super) struct Finding {
    pub(super) rule: &'static str,
    pub(super) dashboard: String,
    /// Empty where the rule is about the dashboard.
    pub(super) panel: String,
    pub(super) what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} · {}: {}", self.rule, self.dashboard, self.panel, self.what)
    }
}

/// The linter's own file of exceptions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Excuses {
    exclusions: BTreeMap<String, Excuse>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Excuse {
    reason: String,
    #[serde(default)]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dashboard: String,
    panel: String,
}

impl Excuses {
    pub(super) fn read(file: &std::path::Path) -> Self {
        let excuses: Self = Figment::from(Yaml::file_exact(file)).extract().unwrap();
        for (rule, excuse) in &excuses.exclusions {
            assert!(excuse.reason.len() > 20, "{rule} is excused without a reason");
        }
        excuses
    }

    /// As the linter does it: without entries a rule is excused everywhere.
    pub(super) fn excuse(&self, finding: &Finding) -> bool {
        let matches = |entry: &Entry| entry.dashboard == finding.dashboard && entry.panel == finding.panel;
        let excuse = self.exclusions.get(finding.rule);
        excuse.is_some_and(|excuse| excuse.entries.is_empty() || excuse.entries.iter().any(matches))
    }

    /// Excuses, and entries of them, that no finding needs.
    pub(super) fn idle(&self, findings: &[Finding]) -> Vec<String> {
        let mut idle = Vec::new();
        for (rule, excuse) in &self.exclusions {
            let of_rule = || findings.iter().filter(|finding| finding.rule == rule);
            if of_rule().next().is_none() {
                idle.push(rule.clone());
            }
            let used = |entry: &Entry| of_rule().any(|it| it.dashboard == entry.dashboard && it.panel == entry.panel);
            idle.extend(
                excuse.entries.iter().filter(|entry| !used(entry)).map(|entry| format!("{rule}: {}", entry.panel)),
            );
        }
        idle
    }
}

/// Every panel, those of closed rows included; headings are none.
pub(super) fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let top = dashboard["panels"].as_array().unwrap().iter();
    top.flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
        .filter(|panel| panel["type"] != "row")
}

/// The expressions of a panel.
pub(super) fn targets(panel: &Value) -> impl Iterator<Item = &Value> {
    panel["targets"].as_array().into_iter().flatten()
}

/// All findings of all rules on one dashboard.
pub(super) fn lint(dashboard: &Value) -> Vec<Finding> {
    let title = text(&dashboard["title"]);
    let mut findings = Vec::new();
    let mut found = |rule, panel: &str, what: String| {
        findings.push(Finding { rule, dashboard: title.to_owned(), panel: panel.to_owned(), what });
    };
    for (rule, what) in about_variables(dashboard) {
        found(rule, "", what);
    }
    if dashboard["editable"] != false {
        found("uneditable-dashboard", "", "editable".to_owned());
    }
    for panel in panels(dashboard) {
        for (rule, what) in about_panel(panel) {
            found(rule, text(&panel["title"]), what);
        }
        for target in targets(panel) {
            for (rule, what) in about_query(text(&target["expr"])) {
                found(rule, text(&panel["title"]), what);
            }
        }
    }
    findings
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

type Faults = Vec<(&'static str, String)>;

fn about_variables(dashboard: &Value) -> Faults {
    let mut faults = Faults::new();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let sources: Vec<&Value> = variables.iter().filter(|variable| variable["type"] == "datasource").collect();
    let named = |it: &&Value| it["name"] == "datasource" && it["label"] == "Data source" && it["query"] == "prometheus";
    if sources.len() != 1 || !sources.iter().all(named) {
        faults.push(("template-datasource-rule", "one variable `datasource`, labelled `Data source`".to_owned()));
    }
    for (rule, name, label) in [("template-job-rule", "job", "Job"), ("template-instance-rule", "instance", "Instance")]
    {
        let is_well = |it: &Value| {
            it["type"] == "query"
                && it["datasource"]["uid"] == "${datasource}"
                && it["label"] == label
                && it["multi"] == true
                && it["allValue"] == ".+"
        };
        if !variables.iter().any(|it| it["name"] == name && is_well(it)) {
            faults.push((rule, format!("a multi-select variable `{name}` with allValue `.+`")));
        }
    }
    for scope in SCOPES {
        if !variables.iter().any(|it| it["name"] == scope && it["allValue"] == ".+") {
            faults.push(("scope", format!("a variable `{scope}` with allValue `.+`")));
        }
    }
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        if let Err(error) = asked_of_labels(text(&variable["query"])) {
            faults.push(("template-label-promql-rule", error));
        }
        if variable["refresh"] != 2 {
            faults.push(("template-on-time-change-reload-rule", format!("{}: refresh", variable["name"])));
        }
    }
    faults
}

/// The series and the label that `label_values(series, label)` asks for.
pub(super) fn asked_of_labels(query: &str) -> Result<(&str, &str), String> {
    let (function, rest) = query.split_once('(').ok_or(query)?;
    let arguments = rest.strip_suffix(')').ok_or(query)?;
    if !FUNCTIONS.contains(&function) {
        return Err(format!("invalid function {function}"));
    }
    let (series, label) = arguments.rsplit_once(", ").ok_or(query)?;
    promql::parse(series)?;
    Ok((series, label))
}

fn about_panel(panel: &Value) -> Faults {
    let mut faults = Faults::new();
    let is_text = panel["type"] == "text";
    if panel["datasource"]["uid"] != "${datasource}" {
        faults.push(("panel-datasource-rule", "another data source".to_owned()));
    }
    if text(&panel["title"]).is_empty() || text(&panel["description"]).is_empty() {
        faults.push(("panel-title-description-rule", "no title or no description".to_owned()));
    }
    if !is_text && !UNITS.contains(&text(&panel["fieldConfig"]["defaults"]["unit"])) {
        faults.push(("panel-units-rule", "no unit".to_owned()));
    }
    if !is_text && targets(panel).next().is_none() {
        faults.push(("panel-no-targets-rule", "asks nothing".to_owned()));
    }
    faults
}

fn about_query(query: &str) -> Faults {
    let expr = match promql::parse(query) {
        Ok(expr) => expr,
        Err(error) => return vec![("target-promql-rule", error)],
    };
    let mut faults = Faults::new();
    for (rule, label) in [("target-job-rule", "job"), ("target-instance-rule", "instance")] {
        if !promql::selectors(&expr).iter().all(|selector| promql::chooses(selector, label)) {
            faults.push((rule, format!("a selector without {label}=~\"${label}\" in {query}")));
        }
    }
    promql::walk(&expr, &mut Vec::new(), &mut |part, around| {
        let calls = |names: &[&str]| {
            around.iter().rev().find_map(|outer| match outer {
                Expr::Call(call) => Some(names.contains(&call.func.name)),
                _ => None,
            })
        };
        match part {
            Expr::MatrixSelector(range) => {
                let name = range.vs.name.as_deref().unwrap_or_default();
                if calls(&["rate", "irate"]) == Some(true) && range.range != promql::RATE_INTERVAL {
                    faults.push(("target-rate-interval-rule", format!("rate without $__rate_interval in {query}")));
                }
                if name.ends_with("_total") && calls(&["rate", "irate", "increase"]) != Some(true) {
                    faults.push(("target-counter-agg-rule", format!("{name} without rate or increase")));
                }
                if name.ends_with("_bucket") && !around.iter().any(is_quantile) {
                    faults.push(("target-histogram-rule", format!("{name} without histogram_quantile")));
                }
            }
            Expr::VectorSelector(selector) if selector.name.as_ref().is_some_and(|name| name.ends_with("_total")) => {
                faults.push(("target-counter-agg-rule", format!("a counter as it stands in {query}")));
            }
            _ => {}
        }
    });
    faults
}

fn is_quantile(part: &&Expr) -> bool {
    matches!(part, Expr::Call(call) if call.func.name == "histogram_quantile")
}

#[test]
fn faults_are_found() {
    let rules = |query: &str| about_query(query).into_iter().map(|(rule, _)| rule).collect::<Vec<_>>();
    let whole = r#"job=~"$job", instance=~"$instance""#;
    assert_eq!(rules(&format!("sum(rate(a_total{{{whole}}}[$__rate_interval]))")), [""; 0]);
    assert_eq!(rules(&format!("sum(rate(a_total{{{whole}}}[5m]))")), ["target-rate-interval-rule"]);
    assert_eq!(rules(&format!("sum(increase(a_total{{{whole}}}[5m]))")), [""; 0]);
    assert_eq!(rules(&format!("sum(a_total{{{whole}}})")), ["target-counter-agg-rule"]);
    assert_eq!(rules(&format!("max_over_time(a_total{{{whole}}}[5m])")), ["target-counter-agg-rule"]);
    assert_eq!(rules(r#"a{job="x"}"#), ["target-job-rule", "target-instance-rule"]);
    assert_eq!(rules("sum("), ["target-promql-rule"]);
    assert_eq!(rules(&format!("sum by (le) (rate(a_bucket{{{whole}}}[$__rate_interval]))")), ["target-histogram-rule"]);
}
