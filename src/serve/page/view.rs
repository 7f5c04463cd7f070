//! What the reader asked to see: order, filter and opened tables. All of it stands in the page's address, so that it
//! works by plain links, survives a reload and can be sent to a colleague.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use url::form_urlencoded::{self, Serializer};

use crate::detect::verdict::NodeVerdict;
use crate::model::NodeState;

/// Longest filter that is read, in characters.
const FILTER_CHARS_MAX: usize = 100;

/// Most caches that one address may open or list in full.
const NAMES_MAX: usize = 100;

/// The query that makes the page reload itself where no script does.
const REFRESH_SECONDS: &str = "10";

/// The reader's wishes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct View {
    /// By what the nodes are sorted; `None`: those in trouble first.
    pub(super) order: Option<Order>,
    /// Only nodes that show all of these words, lower case.
    pub(super) filter: String,
    /// Quiet caches whose nodes are listed.
    pub(super) open: BTreeSet<String>,
    /// Caches of which every node is listed.
    pub(super) all: BTreeSet<String>,
    /// The page reloads itself: for readers without scripts.
    pub(super) refresh: bool,
}

/// A column and its direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Order {
    pub(super) column: Column,
    pub(super) descending: bool,
}

/// Columns of the table of nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Column {
    Node,
    State,
    HitRatio,
    Misses,
    Lookups,
    Commands,
    Evicted,
    Expired,
    Memory,
    Lag,
}

impl Column {
    pub(super) const ALL: [Self; 10] = [
        Self::Node,
        Self::State,
        Self::HitRatio,
        Self::Misses,
        Self::Lookups,
        Self::Commands,
        Self::Evicted,
        Self::Expired,
        Self::Memory,
        Self::Lag,
    ];

    const fn key(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::State => "state",
            Self::HitRatio => "hit_ratio",
            Self::Misses => "misses",
            Self::Lookups => "lookups",
            Self::Commands => "commands",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Memory => "memory",
            Self::Lag => "lag",
        }
    }

    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::State => "State",
            Self::HitRatio => "Hit ratio",
            Self::Misses => "Misses/s",
            Self::Lookups => "Lookups/s",
            Self::Commands => "Commands/s",
            Self::Evicted => "Evicted/s",
            Self::Expired => "Expired/s",
            Self::Memory => "Memory",
            Self::Lag => "Lag",
        }
    }

    /// Its value is a number, and stands to the right.
    pub(super) const fn numeric(self) -> bool {
        !matches!(self, Self::Node | Self::State)
    }

    /// What the first click asks for: the worst on top.
    const fn descending_first(self) -> bool {
        !matches!(self, Self::Node | Self::State | Self::HitRatio)
    }

    pub(super) fn value(self, node: &NodeVerdict) -> Option<f64> {
        let signals = &node.signals;
        match self {
            Self::Node => None,
            Self::State => Some(trouble(node)),
            Self::HitRatio => signals.hit_ratio,
            Self::Misses => signals.misses_per_second,
            Self::Lookups => signals.lookups_per_second,
            Self::Commands => signals.commands_per_second,
            Self::Evicted => signals.evicted_keys_per_second,
            Self::Expired => signals.expired_keys_per_second,
            Self::Memory => signals.memory_used_ratio,
            Self::Lag => signals.replication_lag_seconds,
        }
    }
}

/// Where a node stands in the order of trouble, worst first.
fn trouble(node: &NodeVerdict) -> f64 {
    let state = match node.state {
        NodeState::Down => 0.0,
        NodeState::Critical => 1.0,
        NodeState::Degraded => 2.0,
        NodeState::Unknown => 3.0,
        NodeState::Healthy => 4.0,
    };
    if node.affected { state - 10.0 } else { state }
}

impl View {
    /// Reads the query of an address; what is not understood is passed over.
    pub(super) fn read(query: &str) -> Self {
        let mut view = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "sort" => view.order = Order::read(&value).or(view.order),
                "q" => {
                    view.filter = value.trim().chars().take(FILTER_CHARS_MAX).collect::<String>().to_lowercase();
                }
                "open" if view.open.len() < NAMES_MAX => {
                    view.open.insert(value.into_owned());
                }
                "all" if view.all.len() < NAMES_MAX => {
                    view.all.insert(value.into_owned());
                }
                "refresh" => view.refresh = value == REFRESH_SECONDS,
                _ => {}
            }
        }
        view
    }

    /// The address of this view.
    pub(super) fn address(&self) -> String {
        let mut query = Serializer::new(String::new());
        for (name, value) in self.parts() {
            query.append_pair(name, &value);
        }
        match query.finish() {
            query if query.is_empty() => "/".to_owned(),
            query => format!("/?{query}"),
        }
    }

    /// Names and values of the query.
    pub(super) fn parts(&self) -> Vec<(&'static str, String)> {
        let mut parts = Vec::new();
        parts.extend(self.order.map(|order| ("sort", order.written())));
        parts.extend((!self.filter.is_empty()).then(|| ("q", self.filter.clone())));
        parts.extend(self.open.iter().map(|cache| ("open", cache.clone())));
        parts.extend(self.all.iter().map(|cache| ("all", cache.clone())));
        parts.extend(self.refresh.then(|| ("refresh", REFRESH_SECONDS.to_owned())));
        parts
    }

    /// The address that a click on a column leads to: worst first, then the other way round, then trouble first
    /// again.
    pub(super) fn sorted_by(&self, column: Column) -> String {
        let first = column.descending_first();
        let order = match self.order {
            Some(order) if order.column == column && order.descending == first => {
                Some(Order { column, descending: !first })
            }
            Some(order) if order.column == column => None,
            _ => Some(Order { column, descending: first }),
        };
        Self { order, ..self.clone() }.address()
    }

    /// The address with one cache's nodes listed, or no longer.
    pub(super) fn toggled_open(&self, cache: &str) -> String {
        Self { open: toggled(&self.open, cache), ..self.clone() }.address()
    }

    /// The address with every node of one cache listed, or no longer.
    pub(super) fn toggled_all(&self, cache: &str) -> String {
        Self { all: toggled(&self.all, cache), ..self.clone() }.address()
    }

    /// The nodes to list, in order.
    pub(super) fn arrange<'a>(&self, nodes: &'a [NodeVerdict]) -> Vec<&'a NodeVerdict> {
        let wanted: Vec<&str> = self.filter.split_whitespace().collect();
        let mut nodes: Vec<&NodeVerdict> = nodes.iter().filter(|node| shows(node, &wanted)).collect();
        // Stable, and the nodes come by name: equals stay in that order.
        match self.order {
            None => {
                nodes.sort_by(|a, b| trouble(a).total_cmp(&trouble(b)).then_with(|| misses(b).total_cmp(&misses(a))))
            }
            Some(Order { column: Column::Node, descending }) => {
                if descending {
                    nodes.reverse();
                }
            }
            Some(Order { column, descending }) => {
                nodes.sort_by(|a, b| known_first(column.value(a), column.value(b), descending));
            }
        }
        nodes
    }
}

impl Order {
    fn read(text: &str) -> Option<Self> {
        let (key, descending) = text.strip_prefix('-').map_or((text, false), |key| (key, true));
        let column = Column::ALL.into_iter().find(|column| column.key() == key)?;
        Some(Self { column, descending })
    }

    fn written(self) -> String {
        format!("{}{}", if self.descending { "-" } else { "" }, self.column.key())
    }
}

fn misses(node: &NodeVerdict) -> f64 {
    node.signals.misses_per_second.unwrap_or(0.0)
}

/// What is not known comes last, whichever way it is sorted.
fn known_first(a: Option<f64>, b: Option<f64>, descending: bool) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if descending => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// Whether the node's name, role, state or findings hold every word.
fn shows(node: &NodeVerdict, wanted: &[&str]) -> bool {
    if wanted.is_empty() {
        return true;
    }
    let mut text = node.node.as_str().to_lowercase();
    let role = node.role.map(|role| role.as_str());
    let reason = node.down_reason.map(|reason| reason.as_str());
    let kind = node.storm_type.map(|storm_type| storm_type.as_str());
    let affected = node.affected.then_some("affected");
    for word in [Some(node.state.as_str()), role, reason, kind, affected].into_iter().flatten() {
        text.push(' ');
        text.push_str(word);
    }
    for indicator in &node.indicators {
        text.push(' ');
        text.push_str(indicator.as_str());
    }
    let text = text.replace('_', " ");
    wanted.iter().all(|word| text.contains(&word.replace('_', " ")))
}

fn toggled(names: &BTreeSet<String>, name: &str) -> BTreeSet<String> {
    let mut names = names.clone();
    if !names.remove(name) {
        names.insert(name.to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::fixture;

    fn names<'a>(nodes: &[&'a NodeVerdict]) -> Vec<&'a str> {
        nodes.iter().map(|node| node.node.as_str()).collect()
    }

    #[test]
    fn an_address_is_read_back_and_nonsense_is_passed_over() {
        let view = View::read("sort=-misses&q=10.0+DOWN&open=a%26b&all=c&refresh=10&sort=weather&x=y&%ff");
        assert_eq!(view.order, Some(Order { column: Column::Misses, descending: true }));
        assert_eq!((view.filter.as_str(), view.open.contains("a&b"), view.refresh), ("10.0 down", true, true));
        assert_eq!(view.address(), "/?sort=-misses&q=10.0+down&open=a%26b&all=c&refresh=10");
        assert_eq!(View::read(&view.address()[2..]), view);
        assert_eq!(View::default().address(), "/");
        assert_eq!(View::read(&"all=a&".repeat(9)).all.len(), 1);
        let many: String = (0..1000).map(|index| format!("open={index}&")).collect();
        assert_eq!(View::read(&many).open.len(), NAMES_MAX);
    }

    #[test]
    fn clicks_on_a_column_sort_turn_round_and_let_go() {
        let first = View::default().sorted_by(Column::Misses);
        assert_eq!(first, "/?sort=-misses");
        let second = View::read(&first[2..]).sorted_by(Column::Misses);
        assert_eq!(second, "/?sort=misses");
        assert_eq!(View::read(&second[2..]).sorted_by(Column::Misses), "/");
        assert_eq!(View::read(&second[2..]).sorted_by(Column::HitRatio), "/?sort=hit_ratio");
    }

    #[test]
    fn trouble_comes_first_and_the_unknown_last() {
        let verdict = fixture::cache("c").verdict;
        let [affected, replica, down] = ["10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"];
        assert_eq!(names(&View::default().arrange(&verdict.nodes)), [affected, down, replica]);
        assert_eq!(names(&View::read("sort=-node").arrange(&verdict.nodes)), [down, replica, affected]);
        for sort in ["sort=lag", "sort=-lag"] {
            assert_eq!(names(&View::read(sort).arrange(&verdict.nodes))[0], replica, "{sort}");
        }
    }

    #[test]
    fn the_filter_asks_for_every_word() {
        let nodes = &fixture::cache("c").verdict.nodes;
        for (filter, found) in
            [("", 3), ("REFUSED", 1), ("low hit", 1), ("low_hit_ratio affected", 1), ("master down", 0)]
        {
            let view = View { filter: filter.to_lowercase(), ..View::default() };
            assert_eq!(view.arrange(nodes).len(), found, "{filter}");
        }
    }
}
