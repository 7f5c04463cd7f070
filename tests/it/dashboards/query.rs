//! Expressions that dashboards are made of.
//!
//! Several exporters may watch the same node (a pair for availability) or parts of a cache (shards). `max by` makes one
//! series of a node whoever exports it; only then are nodes added up. None of them needs the recording rules.

use cache_storm_exporter::model::StormType;
use cache_storm_exporter::publish::table::{self, Kind};
use cache_storm_exporter::thresholds::Threshold;

/// `metric{…}` with the matchers of the variables that its series can be chosen by. Panics on a metric that the
/// exporter does not have.
pub(crate) fn select(metric: &str, matchers: &str) -> String {
    let is_it = |family: &table::Family| {
        let part = metric.strip_prefix(family.name);
        let parts: &[&str] = if family.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        part.is_some_and(|part| parts.contains(&part))
    };
    let family = table::families().find(is_it).unwrap_or_else(|| panic!("the exporter has no {metric}"));
    let labelled = |label: &str| family.scope.labels().iter().chain(family.labels).any(|it| *it == label);
    let mut all = vec![r#"job=~"$job""#];
    all.extend(labelled("cache").then_some(r#"cache=~"$cache""#));
    all.extend(labelled("cache_node").then_some(r#"cache_node=~"$cache_node""#));
    all.extend((!matchers.is_empty()).then_some(matchers));
    format!("{metric}{{{}}}", all.join(", "))
}

/// Nodes known to be of another role than the chosen ones. A node that is down has no role, and stays in sight.
fn other_roles() -> String {
    let matchers = r#"job=~"$job", cache=~"$cache", role!="", role!~"$role""#;
    format!("unless on (cache, cache_node) cache_storm_node_info{{{matchers}}}")
}

/// One series per node.
pub(crate) fn node(metric: &str) -> String {
    node_with(metric, "", "")
}

/// One series per node and value of the labels `by` (`, state`), of those that match.
pub(crate) fn node_with(metric: &str, matchers: &str, by: &str) -> String {
    format!("(max by (cache, cache_node{by}) ({}) {})", select(metric, matchers), other_roles())
}

/// A counter of a node, per second.
pub(crate) fn node_rate(metric: &str) -> String {
    let rate = format!("rate({}[$__rate_interval])", select(metric, ""));
    format!("(max by (cache, cache_node) ({rate}) {})", other_roles())
}

/// How much a counter of a node grew over the time range that is shown.
pub(crate) fn node_growth(metric: &str) -> String {
    let growth = format!("increase({}[$__range])", select(metric, ""));
    format!("(max by (cache, cache_node) ({growth}) {})", other_roles())
}

/// Sum over the nodes of a cache.
pub(crate) fn sum(nodes: &str) -> String {
    format!("sum by (cache) ({nodes})")
}

/// Sum over the databases, one series per node.
pub(crate) fn keys(metric: &str) -> String {
    format!(
        "(max by (cache, cache_node) (sum by (job, instance, cache, cache_node) ({})) {})",
        select(metric, ""),
        other_roles()
    )
}

/// Net change of the number of keys per second, summed up by these labels.
pub(crate) fn key_changes(by: &str) -> String {
    let slope = format!("deriv({}[$__rate_interval])", select("redis_db_keys", ""));
    format!("sum by ({by}) (max by (cache, cache_node, db) ({slope}))")
}

/// Seconds of CPU per second, by node.
pub(crate) fn cpu() -> String {
    let (kernel, server) = (node_rate("redis_cpu_sys_seconds_total"), node_rate("redis_cpu_user_seconds_total"));
    format!("{kernel} + on (cache, cache_node) {server}")
}

/// One series per cache.
pub(crate) fn cache(metric: &str) -> String {
    format!("max by (cache) ({})", select(metric, ""))
}

/// One series per cache and storm type.
pub(crate) fn by_type(metric: &str) -> String {
    format!("max by (cache, storm_type) ({})", select(metric, ""))
}

/// The threshold in force.
pub(crate) fn threshold(threshold: Threshold) -> String {
    let name = format!("threshold=\"{}\"", threshold.spec().name);
    format!("max by (cache) ({})", select("cache_storm_threshold", &name))
}

/// `part ÷ whole`, absent where there is no whole: neither NaN nor infinity.
pub(crate) fn share(part: &str, whole: &str) -> String {
    format!("{part} / ({whole} > 0)")
}

/// Share of a cache's lookups that hit, of all nodes together.
pub(crate) fn hit_ratio() -> String {
    let misses = sum(&node("cache_storm_misses_per_second"));
    format!("1 - {}", share(&misses, &sum(&node("cache_storm_lookups_per_second"))))
}

/// The hit ratio that the nodes' own past promises, weighted by today's lookups.
pub(crate) fn usual_hit_ratio() -> String {
    let (usual, lookups) = (node("cache_storm_hit_ratio_baseline"), node("cache_storm_lookups_per_second"));
    let judged = format!("{lookups} and on (cache, cache_node) {usual}");
    share(&sum(&format!("{usual} * on (cache, cache_node) {lookups}")), &sum(&judged))
}

/// Misses per second of a cache.
pub(crate) fn misses() -> String {
    sum(&node("cache_storm_misses_per_second"))
}

/// Misses per second that today's lookups would cause on a usual day.
pub(crate) fn usual_misses() -> String {
    let (usual, lookups) = (node("cache_storm_hit_ratio_baseline"), node("cache_storm_lookups_per_second"));
    sum(&format!("(1 - {usual}) * on (cache, cache_node) {lookups}"))
}

/// Share of the eligible nodes that take part in a storm.
pub(crate) fn affected_share() -> String {
    share(&sum(&node("cache_storm_node_affected")), &sum(&node("cache_storm_node_eligible")))
}

/// Onset of the running storm in milliseconds; of two exporters the earlier one.
pub(crate) fn onset() -> String {
    format!("1000 * min by (cache) ({})", select("cache_storm_started_timestamp_seconds", ""))
}

/// Leading type as a number, 1 for the first of the list; 0 without a storm.
pub(crate) fn leading_type() -> String {
    let one = |(index, storm_type): (usize, &StormType)| {
        let matcher = format!("storm_type=\"{storm_type}\"");
        format!("{} * {}", index + 1, select("cache_storm_active", &matcher))
    };
    let all: Vec<String> = StormType::ALL.iter().enumerate().map(one).collect();
    format!("max by (cache) ({})", all.join(" or "))
}

/// A node's value ÷ the median of its cache's nodes.
pub(crate) fn skew(metric: &str) -> String {
    let nodes = node(metric);
    format!("{nodes} / on (cache) group_left () (quantile by (cache) (0.5, {nodes}) > 0)")
}

/// 1 from the first poll with a storm on, for a moment.
pub(crate) fn storm_begins() -> String {
    let severity = select("cache_storm_severity", "");
    let before = format!("max by (cache) (min_over_time({severity}[$__rate_interval])) == bool 0");
    format!("(max by (cache) ({severity}) > bool 0) * on (cache) ({before}) > 0")
}

/// 1 from the first poll without the storm that was on, for a moment.
pub(crate) fn storm_ends() -> String {
    let severity = select("cache_storm_severity", "");
    let before = format!("max by (cache) (max_over_time({severity}[$__rate_interval])) > bool 0");
    format!("(max by (cache) ({severity}) == bool 0) * on (cache) ({before}) > 0")
}

/// Above 0 from the first poll after a failover, for a moment.
pub(crate) fn failover() -> String {
    format!("max by (cache) (increase({}[$__rate_interval])) > 0", select("cache_storm_failovers_total", ""))
}
