//! Reads the Prometheus text format: enough of it to ask for one sample.

use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// One scrape.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) text: String,
    samples: Vec<Sample>,
}

impl Metrics {
    /// Panics on a line that is neither a comment nor a sample.
    pub(crate) fn parse(text: String) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse_line(line).unwrap_or_else(|| panic!("not a sample: {line}")))
            .collect();
        Self { text, samples }
    }

    /// Samples of that name that carry these labels, whatever else they carry.
    pub(crate) fn all<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
        })
    }

    /// The value of the only such sample; panics when there are several.
    pub(crate) fn sample(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.all(name, labels);
        let value = found.next()?.value;
        assert!(found.next().is_none(), "more than one {name} with {labels:?}");
        Some(value)
    }

    /// Names of labels, as often as they occur.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().flat_map(|sample| sample.labels.keys().map(String::as_str))
    }

    /// A node's sample.
    pub(crate) fn node(&self, name: &str, node: &str) -> Option<f64> {
        self.sample(name, &[("cache_node", node)])
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    let end_of_name = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end_of_name);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.trim().parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The value up to the closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[test]
fn labels_with_quotes_braces_and_commas_are_read() {
    let metrics = Metrics::parse("# HELP x y\nx{a=\"1,}\",b=\"q\\\"\\n\"} 2\nup 1e3\n".to_owned());
    assert_eq!(metrics.sample("x", &[("a", "1,}"), ("b", "q\"\n")]), Some(2.0));
    assert_eq!(metrics.sample("up", &[]), Some(1000.0));
    assert_eq!(metrics.sample("x", &[("a", "2")]), None);
}
