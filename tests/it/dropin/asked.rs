//! What dashboards and rules ask of Prometheus, made ready to be asked of other servers than those they were written for.

use std::collections::BTreeSet;
use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Yaml};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, BinModifier, Expr, ParenExpr, VectorSelector};
use serde_json::Value;

use crate::dashboards::promql;

/// What a variable inside a string becomes: a matcher that holds it is left out.
const ANYTHING: &str = "any_value_of_a_variable";

/// An expression and the file it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) file: String,
    pub(super) expr: String,
}

/// Every expression of the dashboards (`*.json`) and rules (`*.yml`, `*.yaml`) in a folder, each once per file.
pub(super) fn read(folder: &Path) -> Vec<Asked> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let documents = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => vec![text(&path)],
            Some("yml" | "yaml") => text(&path).split("\n---").map(str::to_owned).collect(),
            _ => continue,
        };
        let mut exprs = Vec::new();
        // JSON is YAML, too.
        for document in documents.iter().filter(|document| !document.trim().is_empty()) {
            let value =
                Figment::from(Yaml::string(document)).extract().unwrap_or_else(|error| panic!("{file}: {error}"));
            collect(&value, &mut exprs);
        }
        let mut seen = BTreeSet::new();
        exprs.retain(|expr| seen.insert(expr.clone()));
        found.extend(exprs.into_iter().map(|expr| Asked { file: file.clone(), expr }));
    }
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `expr` at any depth, and what variables take their values from.
fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
            let variables = value["templating"]["list"].as_array().into_iter().flatten();
            for query in variables.filter(|variable| variable["type"] == "query").map(|variable| &variable["query"]) {
                let query = query.as_str().or_else(|| query["query"].as_str());
                found.extend(query.and_then(of_variable));
            }
            fields.values().for_each(|field| collect(field, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

/// What a variable's query comes to, if it asks for series.
fn of_variable(query: &str) -> Option<String> {
    let (function, arguments) = query.trim().strip_suffix(')')?.split_once('(')?;
    match (function.trim(), arguments.rsplit_once(',')) {
        ("label_values", Some((series, label))) => Some(format!("count by ({}) ({series})", label.trim())),
        ("label_values", None) => Some(format!("count by ({}) ({{__name__=~\".+\"}})", arguments.trim())),
        ("query_result", _) => Some(arguments.to_owned()),
        ("metrics", _) => Some(format!("count by (__name__) ({{__name__=~\".*{arguments}.*\"}})")),
        _ => None,
    }
}

/// Something that matches in the place of each of Grafana's variables: a minute for a length of time, a number
/// elsewhere, and in strings what [`of_side`] leaves out.
fn filled(expr: &str) -> String {
    let (mut filled, mut quote, mut brackets) = (String::new(), None, 0);
    let mut rest = expr;
    while let Some(next) = rest.chars().next() {
        if let Some((name, after)) = variable(rest) {
            let offset = filled.trim_end().ends_with("offset");
            filled += match (quote, brackets > 0 || offset) {
                (Some(_), _) => ANYTHING,
                (None, true) if !name.ends_with("_s") => "1m",
                (None, _) => "60",
            };
            rest = after;
            continue;
        }
        match (quote, next) {
            (Some(_), '\\') => {
                filled.push(next);
                rest = &rest[1..];
            }
            (Some(open), _) if next == open => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(next),
            (None, '[') => brackets += 1,
            (None, ']') => brackets -= 1,
            _ => {}
        }
        let Some(next) = rest.chars().next() else { break };
        filled.push(next);
        rest = &rest[next.len_utf8()..];
    }
    filled
}

/// The variable that a text begins with, as `$name`, `${name:format}` or `[[name]]`, and what follows it.
fn variable(text: &str) -> Option<(&str, &str)> {
    let is_word = |name: &str| {
        let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        plain && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
    };
    for (open, close) in [("${", "}"), ("[[", "]]")] {
        if let Some((inner, after)) = text.strip_prefix(open).and_then(|rest| rest.split_once(close)) {
            let name = inner.split([':', '.']).next().unwrap();
            return is_word(name).then_some((name, after));
        }
    }
    let rest = text.strip_prefix('$')?;
    let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(rest.len());
    is_word(&rest[..end]).then(|| rest.split_at(end))
}

/// The expression without Grafana's variables.
pub(super) fn parse(expr: &str) -> Result<Expr, String> {
    parser::parse(&filled(expr)).map_err(|error| error.to_string())
}

/// Labels that an expression groups or matches by and that its series do not have: the target's.
pub(super) fn of_target(expr: &Expr, own: &BTreeSet<String>) -> BTreeSet<String> {
    let given = ["job", "instance", "__name__"];
    promql::grouping(expr)
        .into_iter()
        .filter(|label| !own.contains(label) && !given.contains(&label.as_str()))
        .collect()
}

/// The expression as it is asked of the job of this name. Matchers of labels that the series do not have themselves say
/// which targets there are, which here are others: they are left out. So is the choice of the highest: which those are
/// is a matter of the moment.
pub(super) fn of_side(expr: &Expr, job: &str, own: &BTreeSet<String>) -> Expr {
    let mut expr = expr.clone();
    let select = |selector: &mut VectorSelector| {
        let stays = |matcher: &Matcher| {
            (matcher.name == "__name__" || own.contains(&matcher.name)) && !matcher.value.contains(ANYTHING)
        };
        selector.matchers.matchers.retain(stays);
        selector.matchers.matchers.push(Matcher::new(MatchOp::Equal, "job", job));
    };
    change(&mut expr, &mut |part| match part {
        Expr::VectorSelector(selector) => select(selector),
        Expr::MatrixSelector(range) => select(&mut range.vs),
        Expr::Aggregate(it) if ["topk", "bottomk"].contains(&it.op.to_string().as_str()) => {
            *part = Expr::Paren(ParenExpr { expr: it.expr.clone() });
        }
        _ => {}
    });
    expr
}

/// The expression with comparisons that say 0 or 1, if it has any: an alert that does not fire shows its series, too.
pub(super) fn without_thresholds(expr: &Expr) -> Option<Expr> {
    let (mut expr, mut found) = (expr.clone(), false);
    change(&mut expr, &mut |part| {
        if let Expr::Binary(it) = part
            && it.op.is_comparison_operator()
            && !it.return_bool()
        {
            it.modifier.get_or_insert_with(BinModifier::default).return_bool = true;
            found = true;
        }
    });
    found.then_some(expr)
}

/// Calls `with` with every part of the expression, the outermost first.
fn change(expr: &mut Expr, with: &mut dyn FnMut(&mut Expr)) {
    with(expr);
    match expr {
        Expr::Aggregate(it) => {
            change(&mut it.expr, with);
            if let Some(parameter) = &mut it.param {
                change(parameter, with);
            }
        }
        Expr::Unary(it) => change(&mut it.expr, with),
        Expr::Binary(it) => {
            change(&mut it.lhs, with);
            change(&mut it.rhs, with);
        }
        Expr::Paren(it) => change(&mut it.expr, with),
        Expr::Subquery(it) => change(&mut it.expr, with),
        Expr::Call(it) => it.args.args.iter_mut().for_each(|argument| change(argument, with)),
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => {}
    }
}

#[test]
fn variables_become_what_matches() {
    for (expr, expected) in [
        ("rate(a{b=~\"$b\"}[$__rate_interval])", "rate(a{b=~\"any_value_of_a_variable\"}[1m])"),
        ("increase(a{b='[[b]]-x'}[${__range_s}s:[[step]]])", "increase(a{b='any_value_of_a_variable-x'}[60s:1m])"),
        ("a offset ${shift} > $limit", "a offset 1m > 60"),
        ("label_replace(a, \"b\", \"$1\", \"c\", \"(.*)$\")", "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)$\")"),
        ("a{b=\"\\\"$b\"}", "a{b=\"\\\"any_value_of_a_variable\"}"),
    ] {
        assert_eq!(filled(expr), expected);
    }
}

#[test]
fn an_expression_is_asked_of_other_targets() {
    let own = ["cmd", "role"].map(str::to_owned).into();
    let asked = |expr: &str| of_side(&parse(expr).unwrap(), "here", &own);
    for (expr, expected) in [
        (
            "topk(5, sum by (pod, cmd) (rate(a{pod=~\"$pod\", cmd!=\"get\"}[1m])))",
            "(sum by (pod, cmd) (rate(a{cmd!=\"get\",job=\"here\"}[1m])))",
        ),
        (
            "a{job=\"redis\"} and on (pod) b{role=\"master\", namespace=\"x\"}",
            "a{job=\"here\"} and on (pod) b{job=\"here\",role=\"master\"}",
        ),
    ] {
        assert_eq!(asked(expr).to_string(), expected);
    }
    assert_eq!(of_target(&parse("sum by (pod, cmd, job) (a)").unwrap(), &own), ["pod".to_owned()].into());
    let thresholds = |expr: &str| without_thresholds(&parse(expr).unwrap()).map(|expr| expr.to_string());
    assert_eq!(thresholds("a / (b > 0) == 1").unwrap(), "a / (b > bool 0) == bool 1");
    assert_eq!(thresholds("a and b"), None);
}
