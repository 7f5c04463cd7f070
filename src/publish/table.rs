//! The one table of metrics: every family that is served, with its name, type, labels, help, bound and source.
//!
//! The collector walks it, the README's table is rendered from it, dashboards and rules are checked
//! against it. A family that is not in it (or in [`super::dropin`]) does not exist.

pub mod cache;
pub mod discovery;
pub mod exporter;
pub mod node;
mod topology;

use std::fmt::Write as _;

use super::Histogram;
use super::dropin;

pub use cache::CACHE;
pub use discovery::DISCOVERY;
pub use exporter::{FLEET, OWN};
pub use node::{NODE, NodeView};
pub use topology::TOPOLOGY;

/// Prometheus type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, until a restart.
    Counter,
    /// Counts by upper bound.
    Histogram,
    /// Values by quantile, computed by whoever measured.
    Summary,
}

impl Kind {
    /// The type as the exposition format spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// What one set of series of a family belongs to; decides the labels it carries first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One node: labels `cache` and `cache_node`.
    Node,
    /// One cache: label `cache`.
    Cache,
    /// The exporter itself: no label.
    Exporter,
}

impl Scope {
    /// Names of the labels that the scope itself brings.
    #[must_use]
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Node => &["cache", "cache_node"],
            Self::Cache => &["cache"],
            Self::Exporter => &[],
        }
    }
}

/// One family of metrics.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Full name.
    pub name: &'static str,
    /// What it says, its unit and the field of `INFO` or the rule it comes from.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What its series belong to.
    pub scope: Scope,
    /// Labels after those of the scope. A label without a value is left out of a series.
    pub labels: &'static [&'static str],
    /// Largest number of series per scope (per node, per cache, or in all); a histogram counts as one.
    pub max_series: usize,
}

impl Family {
    /// A help text that the format would escape does not compile: nobody looks for it where it is written.
    const fn new(scope: Scope, kind: Kind, name: &'static str, help: &'static str) -> Self {
        let (bytes, mut index) = (help.as_bytes(), 0);
        while index < bytes.len() {
            assert!(bytes[index] != b'\\' && bytes[index] != b'\n', "help is written as it is");
            index += 1;
        }
        Self { name, help, kind, scope, labels: &[], max_series: 1 }
    }

    /// The family with labels of its own and a bound on its series.
    pub(super) const fn by(mut self, labels: &'static [&'static str], max_series: usize) -> Self {
        self.labels = labels;
        self.max_series = max_series;
        self
    }

    /// A gauge of one node.
    pub(super) const fn node_gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(Scope::Node, Kind::Gauge, name, help)
    }

    /// A counter of one node.
    pub(super) const fn node_counter(name: &'static str, help: &'static str) -> Self {
        Self::new(Scope::Node, Kind::Counter, name, help)
    }

    /// The family with another type.
    pub(super) const fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }
}

/// One value of a family.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Of a gauge or counter.
    Number(f64),
    /// Of a histogram or summary.
    Distribution(Distribution<'a>),
}

/// What a histogram or a summary shows.
#[derive(Debug, Clone, Copy)]
pub struct Distribution<'a> {
    /// Of a histogram (upper bound, observations at or below it), without +Inf; of a summary (quantile, value).
    pub points: &'a [(f64, f64)],
    /// Sum of the observations.
    pub sum: f64,
    /// Observations in all.
    pub count: f64,
}

/// Where a row of the table puts its series: values of the family's own labels, and the value.
pub struct Sink<'a>(pub &'a mut dyn FnMut(&[&str], Value<'_>));

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

impl Sink<'_> {
    /// One series without labels of its own; none if the value is not known.
    pub fn number(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.labelled(&[], value);
        }
    }

    /// One series of 1 or 0.
    pub fn flag(&mut self, value: bool) {
        self.labelled(&[], f64::from(u8::from(value)));
    }

    /// One series with labels. A value that is not finite is left out: absent rather than wrong.
    pub fn labelled(&mut self, labels: &[&str], value: f64) {
        if value.is_finite() {
            (self.0)(labels, Value::Number(value));
        }
    }

    /// One histogram of our own.
    pub fn histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        let points: Vec<(f64, f64)> = histogram.cumulative().map(|(bound, count)| (bound, count as f64)).collect();
        self.distribution(
            labels,
            Distribution { points: &points, sum: histogram.sum(), count: histogram.count() as f64 },
        );
    }

    /// One histogram or summary. One with a number that is not finite is left out.
    pub fn distribution(&mut self, labels: &[&str], distribution: Distribution<'_>) {
        let points = distribution.points.iter().flat_map(|(at, value)| [*at, *value]);
        if points.chain([distribution.sum, distribution.count]).all(f64::is_finite) {
            (self.0)(labels, Value::Distribution(distribution));
        }
    }
}

/// Every family that may appear on `/metrics`, in the order served.
pub fn families() -> impl Iterator<Item = Family> {
    let discovery = DISCOVERY.iter().map(|row| row.family);
    let node = NODE.iter().map(|row| row.family);
    let cache = CACHE.iter().chain(TOPOLOGY).map(|row| row.family);
    let fleet = FLEET.iter().map(|row| row.family);
    let dropin = dropin::CORE.iter().map(|row| row.family);
    cache.chain(discovery).chain(node).chain(fleet).chain(OWN.iter().copied()).chain(dropin)
}

/// The table as Markdown, for the README.
#[must_use]
pub fn markdown() -> String {
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in families() {
        let labels: Vec<&str> = family.scope.labels().iter().chain(family.labels).copied().collect();
        let row = format!("| `{}` | {} | {} | {} |", family.name, family.kind.as_str(), labels.join(", "), family.help);
        writeln!(table, "{row}").expect("writing to a string cannot fail");
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// DESIGN of the exposition: what one node may cost Prometheus.
    const MAX_SERIES_PER_NODE: usize = 70;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for family in families() {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(family.help.ends_with('.'), "{}: help is a sentence", family.name);
            for label in family.scope.labels().iter().chain(family.labels) {
                assert!(!["type", "cluster", "instance", "env", "service", "job"].contains(label), "{}", family.name);
            }
        }
    }

    #[test]
    fn a_node_costs_at_most_seventy_series() {
        let per_node: usize =
            families().filter(|family| family.scope == Scope::Node).map(|family| family.max_series).sum();
        assert!(per_node <= MAX_SERIES_PER_NODE, "{per_node} series per node");
    }

    /// Hot keys are bounded for the exporter as a whole, not per node.
    #[test]
    fn hot_keys_cost_at_most_a_hundred_series() {
        let hot = families().filter(|family| family.name.starts_with("cache_storm_hot_key_"));
        let series: Vec<usize> = hot.map(|family| family.max_series).collect();
        assert!(series.len() == 3 && series.iter().sum::<usize>() <= 100, "{series:?}");
    }

    #[test]
    fn markdown_has_a_row_per_family() {
        let table = markdown();
        assert_eq!(table.lines().count(), families().count() + 2);
        assert!(table.contains("| `cache_storm_severity` | gauge | cache | "));
        assert!(table.lines().all(|line| line.matches('|').count() == 5), "a help text holds a pipe");
    }
}
