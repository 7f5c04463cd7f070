//! What strict linters of rules ask for: names and labels that exist, no label after its aggregation dropped it, no raw
//! counter, no rate over too few scrapes, no ratio of nothing, no rule that flaps, always fires or cannot.

use std::time::Duration;

use promql_parser::parser::token::T_LUNLESS;
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{AggregateExpr, BinaryExpr, Expr, LabelModifier, VectorMatchCardinality, VectorSelector};

use super::{BTreeMap, BTreeSet, Rule, root, rules};
use crate::dashboards::promql::{families, is_counter, parse, value_exists, walk};

/// Series that are not ours: Prometheus' own.
pub(super) const FOREIGN: [&str; 4] = [
    "up",
    "prometheus_tsdb_lowest_timestamp_seconds",
    "prometheus_tsdb_time_retentions_total",
    "prometheus_tsdb_size_retentions_total",
];
/// Labels that Prometheus puts on what it scrapes.
const TARGET_LABELS: [&str; 2] = ["job", "instance"];
const RATES: [&str; 3] = ["rate", "irate", "increase"];
/// Samples that a rate takes at least.
const SCRAPES_MIN: u32 = 4;

type Labels = BTreeSet<String>;

#[test]
fn a_strict_linter_finds_nothing() {
    let rules = rules();
    let faults: Vec<String> = rules.iter().flat_map(|rule| faults(rule, &rules)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    let mut seen = BTreeMap::new();
    for rule in &rules {
        let before = seen.insert(&rule.expr, &rule.name);
        assert_eq!(before, None, "{} says the same", rule.name);
    }
}

fn faults(rule: &Rule, rules: &[Rule]) -> Vec<String> {
    let expr = parse(&rule.expr).unwrap();
    let mut lint = Lint { rules, faults: Vec::new() };
    let labels = lint.labels(&expr);
    lint.rates(&expr);
    lint.ratios(&expr);
    if rule.alert {
        lint.alert(rule, &expr);
        lint.texts(rule, &labels);
    }
    lint.faults.into_iter().map(|fault| format!("{}: {fault}", rule.name)).collect()
}

struct Lint<'a> {
    rules: &'a [Rule],
    faults: Vec<String>,
}

impl Lint<'_> {
    /// The labels that the results may carry.
    fn labels(&mut self, expr: &Expr) -> Labels {
        match expr {
            Expr::VectorSelector(selector) => self.labels_of_series(selector),
            Expr::MatrixSelector(range) => self.labels_of_series(&range.vs),
            Expr::Paren(inner) => self.labels(&inner.expr),
            Expr::Unary(inner) => self.labels(&inner.expr),
            Expr::Subquery(inner) => self.labels(&inner.expr),
            Expr::Call(call) => {
                let vectors = call.args.args.iter().filter(|argument| !is_scalar(argument));
                vectors.flat_map(|argument| self.labels(argument)).collect()
            }
            Expr::Aggregate(it) => {
                let inner = self.labels(&it.expr);
                match &it.modifier {
                    Some(LabelModifier::Include(kept)) => {
                        self.want(&kept.labels, &inner, "groups by");
                        kept.labels.iter().cloned().collect()
                    }
                    Some(LabelModifier::Exclude(dropped)) => without(inner, &dropped.labels),
                    None if picks(it) => inner,
                    None => Labels::new(),
                }
            }
            Expr::Binary(it) => self.labels_of_pair(it),
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Labels::new(),
        }
    }

    fn labels_of_series(&mut self, selector: &VectorSelector) -> Labels {
        let name = selector.name.as_deref().unwrap_or_default();
        let labels = if let Some(labels) = families().get(name) {
            labels.iter().chain(&TARGET_LABELS).map(|label| (*label).to_owned()).collect()
        } else if let Some(recorded) = self.rules.iter().find(|rule| !rule.alert && rule.name == name) {
            self.labels(&parse(&recorded.expr).unwrap())
        } else {
            if !FOREIGN.contains(&name) {
                self.faults.push(format!("nobody exports {name}"));
            }
            TARGET_LABELS.map(str::to_owned).into()
        };
        for matcher in &selector.matchers.matchers {
            self.want([&matcher.name], &labels, "selects by");
            if !value_exists(name, &matcher.name, &matcher.value) {
                self.faults.push(format!("there is no {} {:?}", matcher.name, matcher.value));
            }
        }
        labels
    }

    fn labels_of_pair(&mut self, pair: &BinaryExpr) -> Labels {
        let (left, right) = (self.labels(&pair.lhs), self.labels(&pair.rhs));
        if is_scalar(&pair.lhs) || is_scalar(&pair.rhs) {
            return left.into_iter().chain(right).collect();
        }
        let op = pair.op.to_string();
        let modifier = pair.modifier.as_ref();
        let matching = modifier.and_then(|modifier| modifier.matching.as_ref());
        match matching {
            Some(LabelModifier::Include(on)) => {
                self.want(&on.labels, &left, "matches on");
                self.want(&on.labels, &right, "matches on");
            }
            Some(LabelModifier::Exclude(ignored))
                if without(left.clone(), &ignored.labels) != without(right.clone(), &ignored.labels) =>
            {
                self.faults.push(format!("both sides of {op} differ in more labels than it ignores"));
            }
            None if op != "or" && left != right => {
                self.faults.push(format!("both sides of {op} carry other labels: {left:?}, {right:?}"));
            }
            _ => {}
        }
        match (modifier.map(|modifier| &modifier.card), matching) {
            (Some(VectorMatchCardinality::ManyToOne(more)), _) => left.into_iter().chain(more.labels.clone()).collect(),
            (Some(VectorMatchCardinality::OneToMany(more)), _) => {
                right.into_iter().chain(more.labels.clone()).collect()
            }
            _ if op == "or" => left.intersection(&right).cloned().collect(),
            _ if pair.op.is_set_operator() => left,
            (_, Some(LabelModifier::Include(on))) => on.labels.iter().cloned().collect(),
            (_, Some(LabelModifier::Exclude(ignored))) => without(left, &ignored.labels),
            (_, None) => left,
        }
    }

    fn want<'a>(&mut self, wanted: impl IntoIterator<Item = &'a String>, there: &Labels, how: &str) {
        let missing = wanted.into_iter().filter(|label| !there.contains(*label));
        self.faults.extend(missing.map(|label| format!("{how} {label}, which is not there")));
    }

    /// Rates are of counters and take enough scrapes; of counters there is nothing but rates.
    fn rates(&mut self, expr: &Expr) {
        let shortest = SCRAPES_MIN * scrape_interval();
        walk(expr, &mut Vec::new(), &mut |part, around| {
            let rate =
                around.last().is_some_and(|by| matches!(by, Expr::Call(call) if RATES.contains(&call.func.name)));
            let (selector, range) = match part {
                Expr::VectorSelector(selector) => (selector, None),
                Expr::MatrixSelector(range) => (&range.vs, Some(range.range)),
                _ => return,
            };
            let name = selector.name.as_deref().unwrap_or_default();
            if rate != is_counter(name) {
                self.faults.push(format!("{name} is a counter, or its rate is taken, but not both"));
            }
            if rate && range.is_none_or(|range| range < shortest) {
                self.faults.push(format!("the rate of {name} takes fewer than {SCRAPES_MIN} scrapes"));
            }
        });
    }

    /// What is divided by is compared before, so that it is not 0.
    fn ratios(&mut self, expr: &Expr) {
        walk(expr, &mut Vec::new(), &mut |part, _| {
            if let Expr::Binary(it) = part
                && ["/", "%"].contains(&it.op.to_string().as_str())
                && !matches!(&*it.rhs, Expr::NumberLiteral(_))
                && !is_condition(bare(&it.rhs))
            {
                self.faults.push(format!("divides by {}, which may be 0", it.rhs));
            }
        });
    }

    /// What makes an alert flap, or fire always.
    fn alert(&mut self, rule: &Rule, expr: &Expr) {
        let (mut conditional, mut absent) = (false, false);
        walk(expr, &mut Vec::new(), &mut |part, _| match part {
            Expr::Binary(it) => {
                conditional |= is_condition(part) || it.op.id() == T_LUNLESS;
                let arithmetic = !it.op.is_comparison_operator() && !it.op.is_set_operator();
                // After a restart of Prometheus, targets come one by one.
                if arithmetic && aggregates(&it.lhs) && aggregates(&it.rhs) && rule.hold.is_empty() {
                    self.faults.push("reckons with two aggregations, without `for`".to_owned());
                }
            }
            Expr::Call(it) => absent |= it.func.name.starts_with("absent"),
            Expr::Aggregate(it) if picks(it) => {
                self.faults.push(format!("{} picks other series each time", it.op));
            }
            _ => {}
        });
        if !conditional && !absent {
            self.faults.push("fires always".to_owned());
        }
        if absent && rule.hold.is_empty() {
            self.faults.push("something is absent, without `for`".to_owned());
        }
    }

    /// Texts use labels that the alert has, and ask what can be answered.
    fn texts(&mut self, rule: &Rule, labels: &Labels) {
        for text in rule.annotations.values() {
            self.want(&words_after(text, "$labels."), labels, "tells");
            for after in text.split("printf \"").skip(1) {
                let (query, use_of_it) = after.split_once('"').unwrap();
                let answer = parse(&query.replace("%q", "\"x\"")).unwrap();
                let labels = self.labels(&answer);
                let use_of_it = use_of_it.split("printf \"").next().unwrap();
                self.want(&words_after(use_of_it, ".Labels."), &labels, "tells of its query");
                self.rates(&answer);
            }
        }
        if rule.labels.values().any(|value| value.contains("{{")) {
            self.faults.push("a label that changes makes another alert".to_owned());
        }
    }
}

fn is_scalar(expr: &Expr) -> bool {
    matches!(expr.value_type(), ValueType::Scalar | ValueType::String)
}

/// A comparison that leaves out what does not hold.
fn is_condition(expr: &Expr) -> bool {
    let Expr::Binary(it) = expr else { return false };
    it.op.is_comparison_operator() && !it.modifier.as_ref().is_some_and(|modifier| modifier.return_bool)
}

/// Whether it lets some series through as they are.
fn picks(aggregate: &AggregateExpr) -> bool {
    ["topk", "bottomk", "limitk", "limit_ratio"].contains(&aggregate.op.to_string().as_str())
}

fn aggregates(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut Vec::new(), &mut |part, _| found |= matches!(part, Expr::Aggregate(_)));
    found
}

fn bare(expr: &Expr) -> &Expr {
    if let Expr::Paren(inner) = expr { bare(&inner.expr) } else { expr }
}

fn without(mut labels: Labels, dropped: &[String]) -> Labels {
    labels.retain(|label| !dropped.contains(label));
    labels
}

/// The identifiers that follow a prefix.
fn words_after(text: &str, prefix: &str) -> Vec<String> {
    text.split(prefix).skip(1).filter_map(super::first_word).map(str::to_owned).collect()
}

fn scrape_interval() -> Duration {
    let text = std::fs::read_to_string(root().join("deploy/prometheus/prometheus.yml")).unwrap();
    let seconds = text.lines().find_map(|line| line.trim().strip_prefix("scrape_interval: ")?.strip_suffix('s'));
    Duration::from_secs(seconds.expect("a scrape_interval in seconds").parse().unwrap())
}

#[test]
fn faults_are_found() {
    let of = |expr: &str, hold: &str, text: &str| {
        let rule = Rule {
            alert: true,
            expr: expr.to_owned(),
            hold: hold.to_owned(),
            annotations: BTreeMap::from([("summary".to_owned(), text.to_owned())]),
            ..Rule::default()
        };
        faults(&rule, &[]).join("; ")
    };
    let fault = |expr: &str| of(expr, "", "");
    assert_eq!(of("max by (cache) (cache_storm_severity) > 0", "", "{{ $labels.cache }}"), "");
    for (expr, part) in [
        ("cache_storm_severety > 0", "nobody exports"),
        ("cache_storm_active{storm_type=\"weather\"} > 0", "there is no storm_type"),
        ("cache_storm_severity{node=\"a\"} > 0", "selects by node"),
        ("max by (cache_node) (max by (cache) (cache_storm_node_up)) > 0", "groups by cache_node"),
        ("cache_storm_severity > 0 unless on (cache) sum(up)", "matches on cache"),
        ("cache_storm_severity > 0 unless sum(up)", "carry other labels"),
        ("redis_keyspace_hits_total > 5", "is a counter"),
        ("rate(cache_storm_severity[5m]) > 5", "is a counter"),
        ("rate(redis_keyspace_hits_total[15s]) > 5", "fewer than 4 scrapes"),
        ("redis_memory_used_bytes / redis_memory_max_bytes > 0.5", "may be 0"),
        ("max by (cache) (cache_storm_severity) * max by (cache) (cache_storm_planned) > 0", "two aggregations"),
        ("topk(1, cache_storm_severity) > 0", "picks other series"),
        ("cache_storm_severity > bool 0", "fires always"),
        ("absent(up)", "without `for`"),
    ] {
        assert!(fault(expr).contains(part), "{expr}: {:?}", fault(expr));
    }
    let text = "{{ with printf \"sum(cache_storm_node_up{cache=%q})\" $labels.cache | query }}{{ .Labels.cache_node }}";
    assert!(of("max by (cache) (cache_storm_severity) > 0", "", text).contains("tells of its query cache_node"));
    assert!(of("sum(cache_storm_severity) > 0", "", "{{ $labels.cache }}").contains("tells cache"));
}
