//! The text format, written straight from the tables: an eighth of the time that the metrics library takes for it.
//! A test holds every byte to what the library's encoder makes of the same values.

use std::io::Write as _;

use crate::config::RedisMetrics;
use crate::model::CacheName;
use crate::publish::dropin::{self, ALL_DATABASES, ServerView};
use crate::publish::table::{
    CACHE, DISCOVERY, Distribution, FLEET, Family, Kind, NODE, NodeView, Sink, TOPOLOGY, Value,
};
use crate::publish::{CacheSnapshot, FleetSnapshot, NodeSnapshot};

/// What of the fleet to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Names of the caches; empty means all.
    pub caches: Vec<String>,
    /// Families of caches.
    pub cache: bool,
    /// Families of nodes.
    pub node: bool,
    /// Families of the exporter.
    pub exporter: bool,
    /// `redis_*` families.
    pub redis: RedisMetrics,
}

impl Selection {
    /// Everything.
    #[must_use]
    pub fn all(redis: RedisMetrics) -> Self {
        Self { caches: Vec::new(), cache: true, node: true, exporter: true, redis }
    }

    fn wants(&self, cache: &CacheName) -> bool {
        self.caches.is_empty() || self.caches.iter().any(|name| name == cache.as_str())
    }
}

/// Families of the fleet in the order of the tables, without those that have no series.
pub fn write_fleet(fleet: &FleetSnapshot, selection: &Selection, out: &mut Vec<u8>) {
    let caches: Vec<Scoped<&CacheSnapshot>> = fleet
        .caches
        .values()
        .filter(|cache| selection.wants(&cache.cache))
        .map(|cache| Scoped { labels: pairs(&[("cache", cache.cache.as_str())]), of: &**cache })
        .collect();
    let nodes: Vec<Scoped<NodeView<'_>>> = caches.iter().flat_map(|cache| views(cache)).collect();
    if selection.cache {
        for row in CACHE.iter().chain(TOPOLOGY) {
            let mut series = Series::of(&row.family, out);
            for cache in &caches {
                series.within(&cache.labels, |sink| (row.read)(cache.of, sink));
            }
        }
        // Also of caches that have had no round yet, for want of nodes.
        for row in DISCOVERY {
            let mut series = Series::of(&row.family, out);
            for (cache, discovery) in fleet.discovery.iter().filter(|(cache, _)| selection.wants(cache)) {
                series.within(&pairs(&[("cache", cache.as_str())]), |sink| (row.read)(discovery, sink));
            }
        }
    }
    if selection.node {
        for row in NODE {
            let mut series = Series::of(&row.family, out);
            for node in &nodes {
                series.within(&node.labels, |sink| (row.read)(&node.of, sink));
            }
        }
    }
    if selection.exporter {
        // Hot keys stand among these families, but are a cache's own.
        let mut chosen = FleetSnapshot::clone(fleet);
        chosen.hot_keys.retain(|cache, _| selection.wants(cache));
        for row in FLEET {
            Series::of(&row.family, out).within("", |sink| (row.read)(&chosen, sink));
        }
    }
    match selection.redis {
        RedisMetrics::Off => {}
        RedisMetrics::Core => {
            for (index, row) in dropin::CORE.iter().enumerate() {
                let mut series = Series::of(&row.family, out);
                for node in &nodes {
                    series.within(&node.labels, |sink| node.of.snapshot.core.read(index, sink));
                }
            }
        }
        RedisMetrics::Full => {
            let servers: Vec<Scoped<ServerView<'_>>> = nodes
                .into_iter()
                .map(|node| Scoped { labels: node.labels, of: node.of.snapshot.server(ALL_DATABASES) })
                .collect();
            for row in dropin::rows() {
                let mut series = Series::of(&row.family, out);
                for server in &servers {
                    series.within(&server.labels, |sink| row.read(&server.of, sink));
                }
            }
        }
    }
}

/// Every drop-in family of one node, without our labels.
#[must_use]
pub fn node_text(node: &NodeSnapshot) -> Vec<u8> {
    let server = node.server(ALL_DATABASES);
    let mut out = Vec::with_capacity(64 << 10);
    for row in dropin::rows() {
        Series::of(&row.family, &mut out).within("", |sink| row.read(&server, sink));
    }
    out
}

/// A thing and the labels its series begin with, as they are written: `cache="a",cache_node="h:1"`.
struct Scoped<T> {
    labels: String,
    of: T,
}

fn views<'a>(cache: &Scoped<&'a CacheSnapshot>) -> Vec<Scoped<NodeView<'a>>> {
    let (nodes, verdicts) = (&cache.of.nodes, &cache.of.verdict.nodes);
    // Both are sorted by name; joined by name all the same, so that a slip shows as a gap, not as a lie.
    let mut verdicts = verdicts.iter().peekable();
    let mut views = Vec::with_capacity(nodes.len());
    for snapshot in nodes {
        while verdicts.next_if(|verdict| verdict.node < snapshot.node).is_some() {}
        if let Some(verdict) = verdicts.next_if(|verdict| verdict.node == snapshot.node) {
            let labels = format!("{},{}", cache.labels, pairs(&[("cache_node", snapshot.node.as_str())]));
            views.push(Scoped { labels, of: NodeView { snapshot, verdict } });
        }
    }
    views
}

fn pairs(labels: &[(&str, &str)]) -> String {
    let mut text = Vec::new();
    for (name, value) in labels {
        push_pair(&mut text, name, value);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The series of one family while they are written; the family's head comes with the first.
struct Series<'a> {
    family: &'a Family,
    out: &'a mut Vec<u8>,
    begun: bool,
}

impl<'a> Series<'a> {
    fn of(family: &'a Family, out: &'a mut Vec<u8>) -> Self {
        Self { family, out, begun: false }
    }

    /// Writes what `read` puts into its sink, under the scope's labels.
    fn within(&mut self, scope: &str, read: impl FnOnce(&mut Sink<'_>)) {
        read(&mut Sink(&mut |labels, value| self.write(scope, labels, value)));
    }

    fn write(&mut self, scope: &str, labels: &[&str], value: Value<'_>) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        if !std::mem::replace(&mut self.begun, true) {
            self.head();
        }
        match value {
            Value::Number(number) => self.sample("", scope, labels, None, number),
            Value::Distribution(distribution) => self.distribution(scope, labels, distribution),
        }
    }

    fn head(&mut self) {
        let Family { name, help, kind, .. } = self.family;
        self.push(&["# HELP ", name, " "]);
        push_escaped(self.out, help, false);
        self.push(&["\n# TYPE ", name, " ", kind.as_str(), "\n"]);
    }

    fn push(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.out.extend_from_slice(part.as_bytes()));
    }

    fn distribution(&mut self, scope: &str, labels: &[&str], of: Distribution<'_>) {
        let (suffix, label) = match self.family.kind {
            Kind::Summary => ("", "quantile"),
            _ => ("_bucket", "le"),
        };
        for (at, value) in of.points {
            self.sample(suffix, scope, labels, Some((label, &at.to_string())), *value);
        }
        if self.family.kind == Kind::Histogram {
            self.sample("_bucket", scope, labels, Some(("le", "+Inf")), of.count);
        }
        self.sample("_sum", scope, labels, None, of.sum);
        self.sample("_count", scope, labels, None, of.count);
    }

    fn sample(&mut self, suffix: &str, scope: &str, labels: &[&str], last: Option<(&str, &str)>, value: f64) {
        self.push(&[self.family.name, suffix]);
        let pairs = self.family.labels.iter().copied().zip(labels.iter().copied());
        let pairs = pairs.filter(|(_, value)| !value.is_empty()).chain(last);
        let begin = self.out.len();
        self.out.push(b'{');
        self.out.extend_from_slice(scope.as_bytes());
        for (name, value) in pairs {
            if self.out.len() > begin + 1 {
                self.out.push(b',');
            }
            push_pair(self.out, name, value);
        }
        if self.out.len() > begin + 1 {
            self.out.push(b'}');
        } else {
            self.out.truncate(begin);
        }
        self.out.push(b' ');
        push_number(self.out, value);
        self.out.push(b'\n');
    }
}

fn push_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    push_escaped(out, value, true);
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &str, quoted: bool) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quoted => out.extend_from_slice(b"\\\""),
            _ => out.push(byte),
        }
    }
}

/// The shortest text that reads as the same number. Whole numbers, most of all, by the quick way.
fn push_number(out: &mut Vec<u8>, value: f64) {
    // Above it not every whole number is one; −0 has a sign that integers lack.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = value as i64;
    let written = if value.abs() < EXACT && whole as f64 == value && !(whole == 0 && value.is_sign_negative()) {
        write!(out, "{whole}")
    } else {
        write!(out, "{value}")
    };
    // Writing to a vector cannot fail.
    written.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};

    use super::*;
    use crate::metrics::collector;
    use crate::publish::fixture;

    #[test]
    fn every_byte_is_the_librarys() {
        let publisher = fixture::publisher();
        publisher.publish(fixture::cache("a \"quoted\\\" name\nin two lines"));
        publisher.expect(&["sessions".into(), "a \"quoted\\\" name\nin two lines".into()]);
        publisher.publish(fixture::cache("a \"quoted\\\" name\nin two lines"));
        let fleet = publisher.fleet();
        assert_eq!(fleet.caches.len(), 2);
        for redis in [RedisMetrics::Off, RedisMetrics::Core, RedisMetrics::Full] {
            let mut expected = Vec::new();
            let families: Vec<_> = collector::families(&fleet, redis).collect();
            TextEncoder::new().encode(&families, &mut expected).unwrap();
            let mut written = Vec::new();
            write_fleet(&fleet, &Selection::all(redis), &mut written);
            let (written, expected) = (String::from_utf8(written).unwrap(), String::from_utf8(expected).unwrap());
            for (ours, theirs) in written.lines().zip(expected.lines()) {
                assert_eq!(ours, theirs);
            }
            assert_eq!(written.len(), expected.len(), "{redis:?}");
        }
    }

    #[test]
    fn numbers_read_as_they_were() {
        for value in [0.0, -0.0, 1.0, -7.0, 0.1, 1e21, 1.5e-7, 9_007_199_254_740_993.0, f64::MAX, 1_795_590_766.5] {
            let mut out = Vec::new();
            push_number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn a_selection_leaves_the_rest_out() {
        let publisher = fixture::publisher();
        publisher.publish(fixture::cache("catalog"));
        let text = |selection: &Selection| {
            let mut out = Vec::new();
            write_fleet(&publisher.fleet(), selection, &mut out);
            String::from_utf8(out).unwrap()
        };
        let one = text(&Selection { caches: vec!["catalog".to_owned()], ..Selection::all(RedisMetrics::Core) });
        assert!(one.contains("cache=\"catalog\"") && !one.contains("cache=\"sessions\""));
        let none = text(&Selection { cache: false, node: false, exporter: false, ..Selection::all(RedisMetrics::Off) });
        assert_eq!(none, "");
        let nodes = text(&Selection { cache: false, exporter: false, ..Selection::all(RedisMetrics::Off) });
        assert!(nodes.contains("cache_storm_node_up{") && !nodes.contains("cache_storm_severity"));
    }
}
