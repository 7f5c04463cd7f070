//! Every alert is tried in every scenario, on the series that it reads.

use promql_parser::label::MatchOp;
use promql_parser::parser::Expr;
use promql_parser::parser::token::T_LUNLESS;

use super::{BTreeMap, BTreeSet, Rule, files, first_word, rules};
use crate::dashboards::promql::{parse, walk};

/// As the test groups are called.
const SCENARIOS: [&str; 6] = ["firing", "quiet", "brief spike", "boundary", "HA pair", "two shards"];

/// A group of a test file.
struct Group {
    title: String,
    /// Rule files that are loaded.
    loads: BTreeSet<String>,
    /// Series that it feeds, each as name and labels.
    series: Vec<(String, BTreeMap<String, String>)>,
    /// Expressions that ask which alerts fire.
    questions: Vec<String>,
    /// Alerts that it expects.
    expected: BTreeSet<String>,
}

#[test]
fn every_alert_is_tried_in_every_scenario() {
    let rules = rules();
    let groups: Vec<Group> = files("alerts/tests", "yml").iter().flat_map(|path| groups(path)).collect();
    let mut faults = Vec::new();
    for alert in rules.iter().filter(|rule| rule.alert) {
        let read = read(&parse(&alert.expr).unwrap(), &rules);
        for scenario in SCENARIOS {
            let fires = !["quiet", "brief spike"].contains(&scenario);
            let tried = groups
                .iter()
                .filter(|group| group.title.starts_with(scenario))
                .filter(|group| group.asks_for(alert) && group.expected.contains(&alert.name) == fires);
            // A rule that is not fed is silent whatever it says.
            let fed = |group: &&Group| read.iter().all(|(name, selector)| group.feeds(name, selector));
            let missing = |group: &Group| {
                let missing = read.iter().filter(|(name, selector)| !group.feeds(name, selector));
                missing.map(|(name, selector)| format!("{name}{selector:?}")).collect::<Vec<_>>().join(", ")
            };
            let tried: Vec<&Group> = tried.collect();
            if !tried.iter().any(|group| fires || fed(group)) {
                let near = tried.iter().map(|group| missing(group)).min_by_key(String::len);
                faults.push(format!("{}: not tried in a group {scenario}; closest lacks {near:?}", alert.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

impl Group {
    /// Whether it would notice that the alert fires.
    fn asks_for(&self, alert: &Rule) -> bool {
        let about = |question: &String| {
            let names = |operator: &str| {
                let (_, names) = question.split_once(&format!("alertname{operator}\""))?;
                Some(names.split('"').next()?.split('|').any(|name| name == alert.name))
            };
            names("=").or(names("=~")).unwrap_or(true) && !names("!~").unwrap_or(false)
        };
        self.loads.contains(&alert.file) && self.questions.iter().any(about)
    }

    fn feeds(&self, name: &str, selector: &[(String, String)]) -> bool {
        self.series.iter().any(|(series, labels)| {
            let has = |(label, value): &(String, String)| labels.get(label) == Some(value);
            series == name && selector.iter().all(has)
        })
    }
}

/// The series that an expression needs to speak, without those that only silence it (`unless`), each with the values
/// that it selects by.
fn read(expr: &Expr, rules: &[Rule]) -> Vec<(String, Vec<(String, String)>)> {
    let mut read_here = Vec::new();
    walk(expr, &mut Vec::new(), &mut |part, around| {
        let selector = match part {
            Expr::VectorSelector(selector) => selector,
            Expr::MatrixSelector(range) => &range.vs,
            _ => return,
        };
        let inner = around.iter().copied().skip(1).chain([part]);
        if around.iter().zip(inner).any(|(outer, inner)| silences(outer, inner)) {
            return;
        }
        let name = selector.name.clone().unwrap_or_default();
        match rules.iter().find(|rule| !rule.alert && rule.name == name) {
            Some(rule) => read_here.extend(read(&parse(&rule.expr).unwrap(), rules)),
            None => {
                let matchers = selector.matchers.matchers.iter().filter(|matcher| matches!(matcher.op, MatchOp::Equal));
                read_here.push((name, matchers.map(|it| (it.name.clone(), it.value.clone())).collect()));
            }
        }
    });
    read_here
}

/// Whether `inner` is what `outer` makes an exception of.
fn silences(outer: &Expr, inner: &Expr) -> bool {
    matches!(outer, Expr::Binary(it) if it.op.id() == T_LUNLESS && std::ptr::eq(&*it.rhs, inner))
}

fn groups(path: &std::path::Path) -> Vec<Group> {
    let text = std::fs::read_to_string(path).unwrap();
    let loads: BTreeSet<String> =
        text.lines().filter_map(|line| line.strip_prefix("  - ../")).map(str::to_owned).collect();
    text.split("  - name: ")
        .skip(1)
        .map(|group| Group {
            title: group.lines().next().unwrap().trim_matches('"').to_owned(),
            loads: loads.clone(),
            series: group.split("{series: '").skip(1).filter_map(|rest| series(rest.split('\'').next()?)).collect(),
            questions: group.lines().filter(|line| line.contains("ALERTS{")).map(str::to_owned).collect(),
            expected: quoted(group, "{labels: '{alertname=\"").into_iter().collect(),
        })
        .collect()
}

fn series(text: &str) -> Option<(String, BTreeMap<String, String>)> {
    let (name, labels) = text.trim_end_matches('}').split_once('{').unwrap_or((text, ""));
    let pairs = labels.split("\", ").filter_map(|pair| pair.split_once("=\""));
    let labels = pairs.map(|(label, value)| (label.trim().to_owned(), value.trim_matches('"').to_owned())).collect();
    first_word(name).map(|name| (name.to_owned(), labels))
}

/// What stands in the quotes that begin so.
fn quoted(text: &str, start: &str) -> Vec<String> {
    text.split(start).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn exceptions_are_left_out() {
    let expr = "max by (cache) (a unless on (job) (b == 1)) > on (cache) c unless on (cache) (d) unless on (cache) (e)";
    let names: Vec<String> = read(&parse(expr).unwrap(), &[]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "c"]);
}
