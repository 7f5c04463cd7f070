//! The fleet as the metrics library's families: what `text` is held to, and what the bounds are counted on.

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary,
};

use crate::config::RedisMetrics;
use crate::model::CacheName;
use crate::publish::FleetSnapshot;
use crate::publish::dropin::{self, ALL_DATABASES, DropInRow, MAX_DATABASES, ServerView};
use crate::publish::table::{CACHE, DISCOVERY, FLEET, Family, Kind, NODE, NodeView, Sink, TOPOLOGY, Value};

/// Families of the fleet in the order of the table, without those that have no series.
pub(super) fn families(fleet: &FleetSnapshot, redis: RedisMetrics) -> impl Iterator<Item = MetricFamily> {
    let nodes = nodes(fleet, redis);
    let caches = CACHE.iter().chain(TOPOLOGY).map(|row| {
        let mut series = Series::of(&row.family);
        for (name, cache) in &fleet.caches {
            series.within(&[name.as_str()], |out| (row.read)(cache, out));
        }
        series.finish()
    });
    let discovery = DISCOVERY.iter().map(|row| {
        let mut series = Series::of(&row.family);
        for (name, discovery) in &fleet.discovery {
            series.within(&[name.as_str()], |out| (row.read)(discovery, out));
        }
        series.finish()
    });
    let judged = NODE.iter().map({
        let nodes = nodes.clone();
        move |row| {
            let mut series = Series::of(&row.family);
            for node in nodes.iter() {
                series.within(&node.labels(), |out| (row.read)(&node.view, out));
            }
            series.finish()
        }
    });
    let own = FLEET.iter().map(|row| {
        let mut series = Series::of(&row.family);
        series.within(&[], |out| (row.read)(fleet, out));
        series.finish()
    });
    let rows: Vec<&'static DropInRow> = match redis {
        RedisMetrics::Off => Vec::new(),
        RedisMetrics::Core => dropin::CORE.iter().collect(),
        RedisMetrics::Full => dropin::rows().collect(),
    };
    let servers = rows.into_iter().map(move |row| {
        let mut series = Series::of(&row.family);
        for node in nodes.iter() {
            series.within(&node.labels(), |out| row.read(&node.server, out));
        }
        series.finish()
    });
    caches.chain(discovery).chain(judged).chain(own).chain(servers).flatten()
}

struct Node<'a> {
    cache: &'a CacheName,
    view: NodeView<'a>,
    server: ServerView<'a>,
}

impl Node<'_> {
    fn labels(&self) -> [&str; 2] {
        [self.cache.as_str(), self.view.snapshot.node.as_str()]
    }
}

/// Every node with its verdict.
fn nodes(fleet: &FleetSnapshot, redis: RedisMetrics) -> std::rc::Rc<[Node<'_>]> {
    let mut nodes = Vec::new();
    for (cache, snapshot) in &fleet.caches {
        // Both lists are sorted by name; joined by name all the same, so that a slip shows as a gap, not as a lie.
        let verdicts: BTreeMap<_, _> = snapshot.verdict.nodes.iter().map(|verdict| (&verdict.node, verdict)).collect();
        for node in &snapshot.nodes {
            let Some(verdict) = verdicts.get(&node.node) else { continue };
            let databases = if redis == RedisMetrics::Full { ALL_DATABASES } else { MAX_DATABASES };
            nodes.push(Node { cache, view: NodeView { snapshot: node, verdict }, server: node.server(databases) });
        }
    }
    nodes.into()
}

/// The series of one family while they are gathered.
struct Series<'f> {
    family: &'f Family,
    metrics: Vec<Metric>,
}

impl<'f> Series<'f> {
    fn of(family: &'f Family) -> Self {
        Self { family, metrics: Vec::new() }
    }

    /// Gathers what `read` puts into its sink, under the scope's label values.
    fn within(&mut self, scope: &[&str], read: impl FnOnce(&mut Sink<'_>)) {
        let Self { family, metrics } = self;
        read(&mut Sink(&mut |labels, value| {
            debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
            let names = family.scope.labels().iter().chain(family.labels);
            let pairs = names.zip(scope.iter().chain(labels));
            let pairs = pairs.filter(|(_, value)| !value.is_empty()).map(|(name, value)| pair(name, value)).collect();
            let mut metric = Metric::from_label(pairs);
            set(&mut metric, family.kind, value);
            metrics.push(metric);
        }));
    }

    fn finish(self) -> Option<MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.family.name.to_owned());
        family.set_help(self.family.help.to_owned());
        family.set_field_type(match self.family.kind {
            Kind::Gauge => MetricType::GAUGE,
            Kind::Counter => MetricType::COUNTER,
            Kind::Histogram => MetricType::HISTOGRAM,
            Kind::Summary => MetricType::SUMMARY,
        });
        family.set_metric(self.metrics);
        Some(family)
    }
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn set(metric: &mut Metric, kind: Kind, value: Value<'_>) {
    match (kind, value) {
        (Kind::Gauge, Value::Number(number)) => {
            let mut gauge = Gauge::default();
            gauge.set_value(number);
            metric.set_gauge(gauge);
        }
        (Kind::Counter, Value::Number(number)) => {
            let mut counter = Counter::default();
            counter.set_value(number);
            metric.set_counter(counter);
        }
        (Kind::Histogram, Value::Distribution(of)) => {
            let mut histogram = Histogram::default();
            histogram.set_bucket(of.points.iter().map(|(bound, count)| bucket(*bound, *count as u64)).collect());
            histogram.set_sample_count(of.count as u64);
            histogram.set_sample_sum(of.sum);
            metric.set_histogram(histogram);
        }
        (Kind::Summary, Value::Distribution(of)) => {
            let mut summary = Summary::default();
            summary.set_quantile(of.points.iter().map(|(at, value)| quantile(*at, *value)).collect());
            summary.set_sample_count(of.count as u64);
            summary.set_sample_sum(of.sum);
            metric.set_summary(summary);
        }
        (kind, _) => panic!("a row of the table yields another kind than {}", kind.as_str()),
    }
}

fn bucket(bound: f64, count: u64) -> Bucket {
    let mut bucket = Bucket::default();
    bucket.set_upper_bound(bound);
    bucket.set_cumulative_count(count);
    bucket
}

fn quantile(at: f64, value: f64) -> Quantile {
    let mut quantile = Quantile::default();
    quantile.set_quantile(at);
    quantile.set_value(value);
    quantile
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::publish::fixture;
    use crate::publish::table;

    /// `name{labels}` of every series, with its value (a histogram's count).
    fn series(redis: RedisMetrics) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        for family in families(&fixture::publisher().fleet(), redis) {
            for metric in family.get_metric() {
                let labels: Vec<String> =
                    metric.get_label().iter().map(|label| format!("{}={}", label.name(), label.value())).collect();
                let value = match family.get_field_type() {
                    MetricType::COUNTER => metric.get_counter().get_value(),
                    MetricType::HISTOGRAM => metric.get_histogram().get_sample_count() as f64,
                    _ => metric.get_gauge().get_value(),
                };
                assert!(value.is_finite());
                let name = format!("{}{{{}}}", family.name(), labels.join(","));
                assert!(all.insert(name.clone(), value).is_none(), "{name} twice");
            }
        }
        all
    }

    #[test]
    fn families_of_the_table_and_no_others_appear() {
        let fleet = fixture::publisher().fleet();
        let shown: BTreeSet<String> =
            families(&fleet, RedisMetrics::Core).map(|family| family.name().to_owned()).collect();
        let mut listed: BTreeSet<String> = table::families().map(|family| family.name.to_owned()).collect();
        for family in table::OWN {
            listed.remove(family.name);
        }
        // The fixture's exposure is infinite and its refill unknown: absent rather than wrong.
        listed.remove("cache_storm_loss_exposure_ratio");
        listed.remove("cache_storm_refill_eta_seconds");
        assert_eq!(shown, listed);
    }

    #[test]
    fn values_are_those_of_the_snapshot() {
        let series = series(RedisMetrics::Core);
        let node = "cache=sessions,cache_node=10.0.0.1:6379";
        for (name, value) in [
            ("cache_storm_severity{cache=sessions}".to_owned(), 2.0),
            ("cache_storm_active{cache=sessions,storm_type=mass_invalidation}".to_owned(), 1.0),
            ("cache_storm_active{cache=sessions,storm_type=hot_key}".to_owned(), 0.0),
            ("cache_storm_planned{cache=sessions}".to_owned(), 1.0),
            ("cache_storm_nodes{cache=sessions,state=down}".to_owned(), 1.0),
            ("cache_storm_started_timestamp_seconds{cache=sessions}".to_owned(), fixture::ROUND_UNIX - 30.0),
            ("cache_storm_threshold{cache=sessions,threshold=low_hit_ratio}".to_owned(), 0.5),
            (format!("cache_storm_node_info{{{node},role=master,version=9.1.2,flavor=valkey}}"), 1.0),
            (format!("cache_storm_indicator{{{node},indicator=low_hit_ratio}}"), 1.0),
            (format!("redis_db_keys{{{node},db=db0}}"), 100.0),
            (format!("redis_start_time_seconds{{{node}}}"), 1_699_999_900.0),
            ("cache_storm_node_up{cache=sessions,cache_node=10.0.0.3:6379}".to_owned(), 0.0),
            ("redis_up{cache=sessions,cache_node=10.0.0.3:6379}".to_owned(), 0.0),
            ("cache_storm_poll_failures_total{cache=sessions,cache_node=10.0.0.3:6379,reason=refused}".to_owned(), 9.0),
            ("cache_storm_poll_failures_total{cache=sessions,cache_node=10.0.0.3:6379,reason=timeout}".to_owned(), 0.0),
        ] {
            assert_eq!(series.get(&name), Some(&value), "{name}");
        }
        assert!(!series.keys().any(|name| name.contains("expected_hit_ratio")), "an unset threshold is absent");
    }

    #[test]
    fn no_scope_passes_its_bound() {
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
        for family in families(&fixture::publisher().fleet(), RedisMetrics::Core) {
            for metric in family.get_metric() {
                let label = |name| metric.get_label().iter().find(|label| label.name() == name);
                let node = label("cache_node").map_or("", LabelPair::value).to_owned();
                *counts.entry((family.name().to_owned(), node.clone())).or_default() += 1;
                if !node.is_empty() {
                    *per_node.entry(node).or_default() += 1;
                }
            }
        }
        for family in table::families() {
            for ((name, node), count) in &counts {
                assert!(name != family.name || *count <= family.max_series, "{name} {node}: {count}");
            }
        }
        assert!(per_node.values().all(|count| *count <= 70), "{per_node:?}");
    }

    #[test]
    fn redis_families_can_be_left_out() {
        assert!(!series(RedisMetrics::Off).keys().any(|name| name.starts_with("redis_")));
    }
}
