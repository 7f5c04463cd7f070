//! Queries as the parser sees them: which series they select, how, and by which labels.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cache_storm_exporter::model::{Indicator, NodeState, Role, SampleResult, StormType};
use cache_storm_exporter::publish::table::{self, Kind};
use cache_storm_exporter::thresholds::Threshold;
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};

/// What Grafana puts in for `$__rate_interval`: a length that nobody writes by hand.
pub(super) const RATE_INTERVAL: Duration = Duration::from_secs(11);
/// Series of Prometheus itself and of the metrics library.
const FOREIGN: [&str; 8] = [
    "ALERTS",
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
];
/// Labels of what Prometheus scraped, and those of its alerts.
const FOREIGN_LABELS: [&str; 7] = ["job", "instance", "le", "alertname", "alertstate", "severity", "team"];
/// Labels that a query may make by itself.
const MAKERS: [&str; 2] = ["label_replace", "label_join"];

/// The expression with Grafana's variables for durations filled in; the others stand inside strings.
pub(crate) fn parse(expr: &str) -> Result<Expr, String> {
    let rate = format!("{}s", RATE_INTERVAL.as_secs());
    let filled = expr.replace("$__rate_interval", &rate).replace("$__range", "3600s").replace("$__interval", "15s");
    parser::parse(&filled).map_err(|error| format!("{error} in {expr}"))
}

/// Calls `see` with every part of the expression and the parts around it, the outermost first.
pub(crate) fn walk<'a>(expr: &'a Expr, around: &mut Vec<&'a Expr>, see: &mut impl FnMut(&'a Expr, &[&'a Expr])) {
    see(expr, around);
    around.push(expr);
    match expr {
        Expr::Aggregate(it) => {
            walk(&it.expr, around, see);
            if let Some(parameter) = &it.param {
                walk(parameter, around, see);
            }
        }
        Expr::Unary(it) => walk(&it.expr, around, see),
        Expr::Binary(it) => {
            walk(&it.lhs, around, see);
            walk(&it.rhs, around, see);
        }
        Expr::Paren(it) => walk(&it.expr, around, see),
        Expr::Subquery(it) => walk(&it.expr, around, see),
        Expr::Call(it) => it.args.args.iter().for_each(|argument| walk(argument, around, see)),
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => {}
    }
    around.pop();
}

/// Every selector of the expression.
pub(crate) fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    let mut found = Vec::new();
    walk(expr, &mut Vec::new(), &mut |part, _| match part {
        Expr::VectorSelector(selector) => found.push(selector),
        Expr::MatrixSelector(range) => found.push(&range.vs),
        _ => {}
    });
    found
}

/// Whether the selector asks for the chosen values of the variable `name`, as the linter wants it.
pub(crate) fn chooses(selector: &VectorSelector, name: &str) -> bool {
    let is_it = |matcher: &&Matcher| matcher.name == name;
    let regex = |matcher: &Matcher| matches!(matcher.op, MatchOp::Re(_)) && matcher.value == format!("${name}");
    selector.matchers.matchers.iter().find(is_it).is_some_and(regex)
}

/// What is wrong with the names in the expression: metrics, labels, and values of labels that are a closed set.
pub(crate) fn unknown_names(expr: &Expr) -> Vec<String> {
    let families = families();
    let (mut faults, mut usable) = (Vec::new(), BTreeSet::from(FOREIGN_LABELS));
    for selector in selectors(expr) {
        let name = selector.name.as_deref().unwrap_or("");
        let labels = families.get(name);
        if labels.is_none() && !FOREIGN.contains(&name) {
            faults.push(format!("nobody exports {name:?}"));
        }
        usable.extend(labels.into_iter().flatten());
        for matcher in &selector.matchers.matchers {
            let own = labels.is_some_and(|labels| labels.contains(&matcher.name.as_str()));
            let foreign = FOREIGN_LABELS.contains(&matcher.name.as_str());
            let of_alert = name == "ALERTS" && matcher.name == "cache";
            if !own && !foreign && !of_alert {
                faults.push(format!("{name} has no label {}", matcher.name));
            }
            if matches!(matcher.op, MatchOp::Equal) && !value_exists(name, &matcher.name, &matcher.value) {
                faults.push(format!("there is no {} {:?}", matcher.name, matcher.value));
            }
        }
        if name == "ALERTS" {
            usable.insert("cache");
        }
    }
    walk(expr, &mut Vec::new(), &mut |part, _| {
        if let Expr::Call(call) = part
            && MAKERS.contains(&call.func.name)
            && let Some(Expr::StringLiteral(made)) = call.args.args.get(1).map(|argument| &**argument)
        {
            usable.insert(made.val.as_str());
        }
    });
    let groups = grouping(expr);
    faults.extend(
        groups.iter().filter(|label| !usable.contains(label.as_str())).map(|label| format!("groups by {label}")),
    );
    faults
}

/// Labels of `by`, `on`, `ignoring`, `group_left` and `group_right`.
pub(crate) fn grouping(expr: &Expr) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    walk(expr, &mut Vec::new(), &mut |part, _| match part {
        Expr::Aggregate(it) => labels.extend(it.modifier.iter().flat_map(|modifier| modifier.labels().labels.clone())),
        Expr::Binary(it) => {
            let modifier = it.modifier.as_ref();
            labels.extend(
                modifier.and_then(|it| it.matching.as_ref()).into_iter().flat_map(|it| it.labels().labels.clone()),
            );
            labels.extend(modifier.and_then(|it| it.card.labels()).into_iter().flat_map(|it| it.labels.clone()));
        }
        _ => {}
    });
    labels
}

/// Whether a value can be, where a label's are a closed set.
pub(crate) fn value_exists(metric: &str, label: &str, value: &str) -> bool {
    match label {
        "threshold" => Threshold::from_name(value).is_some(),
        "storm_type" => StormType::from_name(value).is_some(),
        "indicator" => Indicator::from_name(value).is_some(),
        "state" if metric.starts_with("cache_storm_node") => NodeState::from_name(value).is_some(),
        "result" => SampleResult::from_name(value).is_some(),
        "role" => value.is_empty() || Role::from_name(value).is_some(),
        _ => true,
    }
}

/// Whether the series only counts up.
pub(crate) fn is_counter(name: &str) -> bool {
    let family = table::families().find(|family| name.strip_prefix(family.name).is_some_and(is_part));
    family.map_or(name.ends_with("_total"), |family| family.kind != Kind::Gauge)
}

/// What follows a family's name in the names of its series.
fn is_part(ending: &str) -> bool {
    ["", "_bucket", "_sum", "_count"].contains(&ending)
}

/// Labels by the name of the series: histograms have three.
pub(crate) fn families() -> BTreeMap<String, Vec<&'static str>> {
    let mut families = BTreeMap::new();
    for family in table::families() {
        let labels: Vec<&str> = family.scope.labels().iter().chain(family.labels).copied().collect();
        let parts: &[&str] = if family.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        families.extend(parts.iter().map(|part| (format!("{}{part}", family.name), labels.clone())));
    }
    families
}

#[test]
fn unknown_names_are_found() {
    let faults = |expr: &str| unknown_names(&parse(expr).unwrap()).join(", ");
    assert_eq!(faults("sum by (cache) (cache_storm_severity{cache=~\"$cache\"})"), "");
    assert_eq!(faults("cache_storm_severety"), "nobody exports \"cache_storm_severety\"");
    assert_eq!(faults("cache_storm_severity{node=\"a\"}"), "cache_storm_severity has no label node");
    assert_eq!(faults("cache_storm_active{storm_type=\"weather\"}"), "there is no storm_type \"weather\"");
    assert_eq!(faults("sum by (cache_node) (cache_storm_severity)"), "groups by cache_node");
    assert_eq!(faults("rate(cache_storm_poll_duration_seconds_bucket[$__rate_interval])"), "");
    assert!(parse("sum(").is_err());
}
