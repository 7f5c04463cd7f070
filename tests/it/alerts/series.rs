//! The exporter's series that the rules read, for a look at a real `/metrics`.

use super::lint::FOREIGN;
use super::{BTreeMap, BTreeSet, rules};
use crate::dashboards::promql::{families, grouping, selectors};
use crate::harness::metrics::Metrics;

/// A series as rules ask for it: its name and its labels, those with a value that they select by it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) name: String,
    labels: BTreeMap<String, Option<String>>,
}

impl Series {
    pub(crate) fn is_in(&self, scrape: &Metrics) -> bool {
        scrape.all(&self.name, &[]).any(|sample| {
            self.labels.iter().all(|(label, value)| match (sample.labels.get(label), value) {
                (Some(found), Some(value)) => found == value,
                (found, _) => found.is_some(),
            })
        })
    }
}

/// What expressions and texts of all rules read, without what Prometheus adds: its own series, recorded ones, and
/// another exporter's, which are selected by their job.
pub(crate) fn read_by_rules() -> BTreeSet<Series> {
    let rules = rules();
    let families = families();
    let recorded = |name: &str| rules.iter().any(|rule| !rule.alert && rule.name == name);
    let mut read = BTreeSet::new();
    for expr in rules.iter().flat_map(|rule| rule.queries()) {
        let used = grouping(&expr);
        for selector in selectors(&expr) {
            let name = selector.name.clone().unwrap_or_default();
            let matchers = &selector.matchers.matchers;
            if FOREIGN.contains(&name.as_str()) || recorded(&name) || matchers.iter().any(|it| it.name == "job") {
                continue;
            }
            let own = |label: &String| families.get(&name).is_some_and(|labels| labels.contains(&label.as_str()));
            let mut labels: BTreeMap<_, _> =
                used.iter().filter(|label| own(label)).map(|it| (it.clone(), None)).collect();
            for matcher in matchers {
                let value = matches!(matcher.op, promql_parser::label::MatchOp::Equal) && matcher.name != "cache";
                labels.insert(matcher.name.clone(), value.then(|| matcher.value.clone()));
            }
            read.insert(Series { name, labels });
        }
    }
    read
}
