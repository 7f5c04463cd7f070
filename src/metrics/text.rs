//! The text format, written straight from the tables: an eighth of the time that the metrics library takes for it.
//! A test holds every byte to what the library's encoder makes of the same values.

use std::io::{self, Write as _};
use std::ops::Range;

use memchr::memchr3;
use xxhash_rust::xxh3::xxh3_128;

use crate::config::RedisMetrics;
use crate::model::CacheName;
use crate::publish::dropin::{self, ALL_DATABASES, DropInRow, ServerView};
use crate::publish::table::cache::CacheRow;
use crate::publish::table::discovery::DiscoveryRow;
use crate::publish::table::exporter::FleetRow;
use crate::publish::table::node::NodeRow;
use crate::publish::table::{
    CACHE, DISCOVERY, Distribution, FLEET, Family, Kind, NODE, NodeView, Sink, TOPOLOGY, Value,
};
use crate::publish::{CacheSnapshot, DiscoverySnapshot, FleetSnapshot, NodeSnapshot};

/// Text is compressed in pieces of about so many bytes: a large fleet's families are megabytes each, and nobody needs
/// one as a whole.
pub(super) const PIECE: usize = 64 << 10;

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

/// A family of the fleet: a row of one of the tables.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row {
    Cache(&'static CacheRow),
    Discovery(&'static DiscoveryRow),
    Node(&'static NodeRow),
    Exporter(&'static FleetRow),
    /// Its place in [`dropin::CORE`].
    Core(usize),
    Server(&'static DropInRow),
}

/// What a selection takes of a fleet: its rows, and what they read. Rows are written apart, on several threads if need
/// be.
pub(super) struct FleetText<'a> {
    /// In the order of the tables.
    pub(super) rows: Vec<Row>,
    caches: Vec<Scoped<&'a CacheSnapshot>>,
    /// Also of caches that have had no round yet, for want of nodes.
    discovery: Vec<Scoped<&'a DiscoverySnapshot>>,
    nodes: Vec<Scoped<NodeView<'a>>>,
    /// As the nodes; empty unless all is asked for.
    servers: Vec<Scoped<ServerView<'a>>>,
    /// One, under no labels.
    exporter: [Scoped<FleetSnapshot>; 1],
}

impl<'a> FleetText<'a> {
    pub(super) fn new(fleet: &'a FleetSnapshot, selection: &Selection) -> Self {
        let scoped = |cache: &CacheName| selection.wants(cache).then(|| pairs(&[("cache", cache.as_str())]));
        let caches: Vec<_> = fleet
            .caches
            .iter()
            .filter_map(|(name, cache)| Some(Scoped { labels: scoped(name)?, of: &**cache }))
            .collect();
        let discovery = fleet
            .discovery
            .iter()
            .filter_map(|(name, discovery)| Some(Scoped { labels: scoped(name)?, of: &**discovery }))
            .collect();
        let nodes: Vec<_> = caches.iter().flat_map(views).collect();
        let of_server = |node: &Scoped<NodeView<'a>>| Scoped {
            labels: node.labels.clone(),
            of: node.of.snapshot.server(ALL_DATABASES),
        };
        let servers =
            if selection.redis == RedisMetrics::Full { nodes.iter().map(of_server).collect() } else { Vec::new() };
        // Hot keys stand among the exporter's families, but are a cache's own.
        let mut exporter = FleetSnapshot::clone(fleet);
        exporter.hot_keys.retain(|cache, _| selection.wants(cache));
        let exporter = [Scoped { labels: String::new(), of: exporter }];
        Self { rows: rows(selection), caches, discovery, nodes, servers, exporter }
    }

    /// Nodes that are written.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// All of it in one piece.
    #[cfg(test)]
    pub(super) fn whole(&self) -> Vec<u8> {
        let (mut whole, mut room) = (Vec::new(), Vec::new());
        for row in &self.rows {
            let take = &mut |piece: &mut Vec<u8>| {
                whole.append(piece);
                Ok(())
            };
            self.write(*row, &mut room, take).unwrap();
        }
        whole
    }

    /// Writes the family of this row, unless it has no series. What is in `out` at any time is some [`PIECE`] at most:
    /// `take` is given it then, and leaves it empty.
    pub(super) fn write(&self, row: Row, out: &mut Vec<u8>, take: &mut Take<'_>) -> io::Result<()> {
        match row {
            Row::Cache(row) => each(&row.family, &self.caches, out, take, |cache, sink| (row.read)(cache, sink)),
            Row::Discovery(row) => each(&row.family, &self.discovery, out, take, |found, sink| (row.read)(found, sink)),
            Row::Node(row) => each(&row.family, &self.nodes, out, take, |node, sink| (row.read)(node, sink)),
            Row::Exporter(row) => each(&row.family, &self.exporter, out, take, |fleet, sink| (row.read)(fleet, sink)),
            Row::Core(index) => each(&dropin::CORE[index].family, &self.nodes, out, take, |node, sink| {
                node.snapshot.core.read(index, sink);
            }),
            Row::Server(row) => each(&row.family, &self.servers, out, take, |server, sink| row.read(server, sink)),
        }
    }
}

fn rows(selection: &Selection) -> Vec<Row> {
    let mut rows = Vec::new();
    if selection.cache {
        rows.extend(CACHE.iter().chain(TOPOLOGY).map(Row::Cache));
        rows.extend(DISCOVERY.iter().map(Row::Discovery));
    }
    if selection.node {
        rows.extend(NODE.iter().map(Row::Node));
    }
    if selection.exporter {
        rows.extend(FLEET.iter().map(Row::Exporter));
    }
    match selection.redis {
        RedisMetrics::Off => {}
        RedisMetrics::Core => rows.extend((0..dropin::CORE.len()).map(Row::Core)),
        RedisMetrics::Full => rows.extend(dropin::rows().map(Row::Server)),
    }
    rows
}

/// Takes a piece of text.
pub(super) type Take<'a> = dyn FnMut(&mut Vec<u8>) -> io::Result<()> + 'a;

/// The series of one family, of each of these.
fn each<T>(
    family: &Family,
    all: &[Scoped<T>],
    out: &mut Vec<u8>,
    take: &mut Take<'_>,
    read: impl Fn(&T, &mut Sink<'_>),
) -> io::Result<()> {
    let mut series = Series::of(family, out);
    for one in all {
        series.within(&one.labels, |sink| read(&one.of, sink));
        if series.out.len() >= PIECE {
            take(series.out)?;
        }
    }
    if series.out.is_empty() { Ok(()) } else { take(series.out) }
}

/// Every drop-in family of one node, without our labels, in two parts: those that seldom change, and behind them the
/// others.
#[derive(Debug)]
pub struct NodeText<'a>(ServerView<'a>);

impl<'a> NodeText<'a> {
    /// Of this node.
    #[must_use]
    pub fn new(node: &'a NodeSnapshot) -> Self {
        Self(node.server(ALL_DATABASES))
    }

    /// The families that seldom change.
    #[must_use]
    pub fn steady(&self) -> Vec<u8> {
        self.written(&dropin::ROWS_BY_CHANGE[0])
    }

    /// A hash of what they tell: where their text differs, so does it. Values are read much faster than they are written.
    #[must_use]
    pub fn steady_hash(&self) -> u128 {
        let mut told = Vec::with_capacity(16 << 10);
        for (index, row) in dropin::ROWS_BY_CHANGE[0].iter().enumerate() {
            let mut sink = |labels: &[&str], value: Value<'_>| {
                let mut tell = |bytes: &[u8]| told.extend_from_slice(bytes);
                tell(&index.to_le_bytes());
                tell(&labels.len().to_le_bytes());
                for label in labels {
                    tell(&label.len().to_le_bytes());
                    tell(label.as_bytes());
                }
                match value {
                    Value::Number(number) => tell(&number.to_le_bytes()),
                    Value::Distribution(of) => {
                        tell(&of.points.len().to_le_bytes());
                        let points = of.points.iter().flat_map(|(at, value)| [*at, *value]);
                        points.chain([of.sum, of.count]).for_each(|number| tell(&number.to_le_bytes()));
                    }
                }
            };
            row.read(&self.0, &mut Sink(&mut sink));
        }
        xxh3_128(&told)
    }

    /// The families that change with nearly every poll.
    #[must_use]
    pub fn moving(&self) -> Vec<u8> {
        self.written(&dropin::ROWS_BY_CHANGE[1])
    }

    fn written(&self, rows: &[&DropInRow]) -> Vec<u8> {
        // Of a server with thirty commands in use, the larger part is about as long.
        let mut out = Vec::with_capacity(64 << 10);
        for row in rows {
            Series::of(&row.family, &mut out).within("", |sink| row.read(&self.0, sink));
        }
        out
    }
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
            Value::Number(number) => self.sample("", scope, labels, number),
            Value::Distribution(distribution) => self.distribution(scope, labels, distribution),
        }
    }

    fn head(&mut self) {
        let Family { name, help, kind, .. } = self.family;
        self.push(&["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind.as_str(), "\n"]);
    }

    fn push(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.out.extend_from_slice(part.as_bytes()));
    }

    fn distribution(&mut self, scope: &str, labels: &[&str], of: Distribution<'_>) {
        let (suffix, label) = match self.family.kind {
            Kind::Summary => ("", "quantile"),
            _ => ("_bucket", "le"),
        };
        let rest = (self.family.kind == Kind::Histogram).then_some((f64::INFINITY, of.count));
        let mut begun: Option<Range<usize>> = None;
        for (at, value) in of.points.iter().copied().chain(rest) {
            // All of these lines begin alike: the first is written, the others are copies of it.
            if let Some(begun) = &begun {
                self.out.extend_from_within(begun.clone());
            } else {
                let begin = self.out.len();
                let brace = self.open(suffix, scope, labels);
                self.separate(brace);
                self.push(&[label, "=\""]);
                begun = Some(begin..self.out.len());
            }
            push_number(self.out, at);
            self.push(&["\"}"]);
            self.value(value);
        }
        self.sample("_sum", scope, labels, of.sum);
        self.sample("_count", scope, labels, of.count);
    }

    /// One line.
    fn sample(&mut self, suffix: &str, scope: &str, labels: &[&str], value: f64) {
        let brace = self.open(suffix, scope, labels);
        if self.out.len() > brace + 1 {
            self.out.push(b'}');
        } else {
            self.out.truncate(brace);
        }
        self.value(value);
    }

    /// A line up to where more labels may follow; returns where its brace stands.
    fn open(&mut self, suffix: &str, scope: &str, labels: &[&str]) -> usize {
        self.push(&[self.family.name, suffix]);
        let brace = self.out.len();
        self.push(&["{", scope]);
        let pairs = self.family.labels.iter().zip(labels).filter(|(_, value)| !value.is_empty());
        for (name, value) in pairs {
            self.separate(brace);
            push_pair(self.out, name, value);
        }
        brace
    }

    /// The end of a line.
    fn value(&mut self, value: f64) {
        self.out.push(b' ');
        push_number(self.out, value);
        self.out.push(b'\n');
    }

    /// A comma, unless the label to come is the first after this brace.
    fn separate(&mut self, brace: usize) {
        if self.out.len() > brace + 1 {
            self.out.push(b',');
        }
    }
}

fn push_pair(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    push_escaped(out, value);
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr3(b'\\', b'\n', b'"', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            _ => b"\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// The shortest text that reads as the same number. Whole numbers, most of all, by the quick way.
fn push_number(out: &mut Vec<u8>, value: f64) {
    // Above it not every whole number is one; −0 has a sign that integers lack.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = value as i64;
    if value.abs() < EXACT && whole as f64 == value && !(whole == 0 && value.is_sign_negative()) {
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    } else if value == f64::INFINITY {
        out.extend_from_slice(b"+Inf");
    } else {
        // Writing to a vector cannot fail.
        write!(out, "{value}").unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder as _, TextEncoder};

    use super::*;
    use crate::metrics::collector;
    use crate::publish::fixture;

    fn written(fleet: &FleetSnapshot, selection: &Selection) -> String {
        String::from_utf8(FleetText::new(fleet, selection).whole()).unwrap()
    }

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
            let (written, expected) = (written(&fleet, &Selection::all(redis)), String::from_utf8(expected).unwrap());
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
        let text = |selection: &Selection| written(&publisher.fleet(), selection);
        let one = text(&Selection { caches: vec!["catalog".to_owned()], ..Selection::all(RedisMetrics::Core) });
        assert!(one.contains("cache=\"catalog\"") && !one.contains("cache=\"sessions\""));
        let none = text(&Selection { cache: false, node: false, exporter: false, ..Selection::all(RedisMetrics::Off) });
        assert_eq!(none, "");
        let nodes = text(&Selection { cache: false, exporter: false, ..Selection::all(RedisMetrics::Off) });
        assert!(nodes.contains("cache_storm_node_up{") && !nodes.contains("cache_storm_severity"));
    }
}
