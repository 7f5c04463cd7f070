//! Recorded samples through the very same detector: one JSON line per round and file.

#[cfg(test)]
mod resumed;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Serialize;

use crate::detect::CacheDetector;
use crate::detect::settings::Settings;
use crate::detect::verdict::{CacheVerdict, HotKeySample, Observation, Round, SentinelView};
use crate::history::median;
use crate::model::{FailureReason, NodeName};
use crate::parse::{Info, Sample};

/// Why a recording was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read, or is not CSV.
    #[error("{}: cannot be read as CSV: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What went wrong.
        source: csv::Error,
    },
    /// A column that detection cannot do without is missing.
    #[error("{}: column `{column}` is missing; needed are {}", file.display(), NEEDED.join(", "))]
    MissingColumn {
        /// The file.
        file: PathBuf,
        /// The column.
        column: &'static str,
    },
    /// A value cannot be read.
    #[error("{}:{line}: column `{column}`: expected {expected}, found `{value}`", file.display())]
    BadValue {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column.
        column: String,
        /// What was expected.
        expected: &'static str,
        /// What stands there.
        value: String,
    },
    /// The verdicts cannot be written.
    #[error("cannot write verdicts: {0}")]
    Output(#[from] std::io::Error),
}

/// Columns that every recording has. Any other that is missing only switches off what needs it.
const NEEDED: [&str; 12] = [
    "t",
    "node",
    "up",
    "run_id",
    "uptime_in_seconds",
    "role",
    "keyspace_hits",
    "keyspace_misses",
    "expired_keys",
    "evicted_keys",
    "total_commands_processed",
    "keys",
];

/// Columns passed on under the name of the `INFO` field they were recorded from. These as any text.
const TEXT: [&str; 3] = ["run_id", "master_replid", "master_replid2"];

/// Those that are one of a few words, and how an error tells which.
const WORDS: [(&str, &[&str], &str); 5] = [
    ("role", &["master", "slave", "replica"], "master, slave, replica or nothing"),
    ("master_link_status", &["up", "down"], "up, down or nothing"),
    ("loading", &FLAG, FLAG_FORM),
    ("async_loading", &FLAG, FLAG_FORM),
    ("master_sync_in_progress", &FLAG, FLAG_FORM),
];
const FLAG: [&str; 2] = ["0", "1"];
const FLAG_FORM: &str = "0, 1 or nothing";

/// Those that may have fractions.
const FRACTIONS: [&str; 3] = ["uptime_in_seconds", "mem_fragmentation_ratio", "current_eviction_exceeded_time"];

/// Those that are whole numbers.
const COUNTS: [&str; 19] = [
    "server_time_usec",
    "keyspace_hits",
    "keyspace_misses",
    "expired_keys",
    "evicted_keys",
    "total_commands_processed",
    "total_connections_received",
    "total_net_input_bytes",
    "connected_clients",
    "used_memory",
    "used_memory_dataset",
    "mem_not_counted_for_evict",
    "maxmemory",
    "rdb_last_load_keys_loaded",
    "master_last_io_seconds_ago",
    "slave_repl_offset",
    "master_repl_offset",
    "connected_slaves",
    "total_error_replies",
];

/// A recording, read and checked.
#[derive(Debug)]
pub struct Recording {
    /// The file's name without its extensions: the cache.
    pub cache: String,
    /// Rounds and their times, in order.
    rounds: Vec<(f64, Round)>,
}

/// One line of output.
#[derive(Debug, Serialize)]
struct Line<'a> {
    t: f64,
    cache: &'a str,
    severity: u8,
    storm_types: Vec<&'static str>,
    nodes: Vec<NodeLine<'a>>,
}

#[derive(Debug, Serialize)]
struct NodeLine<'a> {
    node: &'a str,
    up: bool,
    affected: bool,
    storm_type: Option<&'static str>,
    confidence: Option<f64>,
    indicators: Vec<&'static str>,
}

impl Recording {
    /// Reads a recording (CSV, plain or as `.gz`, with a heading; columns named as `INFO` fields, `c_CMD` for calls, `err_ERR` for
    /// errors, `mon_n` and `mon_top1` for a sample of accesses, `sent_epoch` and `sent_addr` for what Sentinel says
    /// of its master, the same on every line of a round). Nothing, and −1 as a number, is what the server did not
    /// report.
    ///
    /// # Errors
    /// Where the file, a needed column or a value is not as expected, with file, line and column.
    pub fn open(file: &Path) -> Result<Self, ReplayError> {
        let opened = File::open(file);
        let opened = opened.map_err(|error| ReplayError::Unreadable { file: file.to_owned(), source: error.into() })?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let packed = name.strip_suffix(".gz");
        let cache = packed.unwrap_or(&name);
        let cache = cache.rsplit_once('.').map_or(cache, |(stem, _)| stem).to_owned();
        match packed {
            Some(_) => Self::read(cache, file, csv::Reader::from_reader(MultiGzDecoder::new(opened))),
            None => Self::read(cache, file, csv::Reader::from_reader(opened)),
        }
    }

    fn read<R: Read>(cache: String, file: &Path, mut reader: csv::Reader<R>) -> Result<Self, ReplayError> {
        let unreadable = |source| ReplayError::Unreadable { file: file.to_owned(), source };
        let headings = reader.headers().map_err(unreadable)?.clone();
        let mut columns: HashMap<&str, usize> = HashMap::new();
        for (index, name) in headings.iter().enumerate() {
            if columns.insert(name, index).is_some() {
                let row = Row { file, record: &headings, columns: &columns };
                return Err(row.bad(name, "each column once"));
            }
        }
        if let Some(column) = NEEDED.into_iter().find(|column| !columns.contains_key(column)) {
            return Err(ReplayError::MissingColumn { file: file.to_owned(), column });
        }
        let mut rounds: Vec<(f64, Round)> = Vec::new();
        for record in reader.records() {
            let record = record.map_err(unreadable)?;
            let row = Row { file, record: &record, columns: &columns };
            let t = row.time()?;
            let node = NodeName::from(row.text("node").unwrap_or_default());
            let (observation, sentinel) = (row.observation()?, row.sentinel()?);
            match rounds.last_mut() {
                Some((last, round)) if *last == t => {
                    round.nodes.push((node, observation));
                    round.sentinel = round.sentinel.take().or(sentinel);
                }
                Some((last, _)) if t < *last => return Err(row.bad("t", "a time not before the line above")),
                _ => rounds.push((t, Round { nodes: vec![(node, observation)], sentinel })),
            }
        }
        Ok(Self { cache, rounds })
    }

    /// Keeps one round every so many seconds.
    pub fn thin(&mut self, every: f64) {
        let mut next = f64::NEG_INFINITY;
        self.rounds.retain(|(t, _)| {
            // A fiftieth of tolerance: a round recorded a little early is still that round.
            let keep = *t >= next - every / 50.0;
            if keep {
                next = if next.is_finite() { next + every } else { *t + every };
            }
            keep
        });
    }

    /// Median seconds between rounds; 1 where there are fewer than two.
    #[must_use]
    pub fn poll_interval(&self) -> f64 {
        let mut gaps: Vec<f64> = self.rounds.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        median(&mut gaps).unwrap_or(1.0)
    }

    /// Runs the recording through a detector and writes its verdicts.
    ///
    /// # Errors
    /// Where `out` cannot be written to.
    pub fn run(self, mut settings: Settings, out: &mut impl Write) -> Result<(), ReplayError> {
        settings.poll_interval = self.poll_interval();
        let mut detector = CacheDetector::new(settings);
        for (t, round) in self.rounds {
            let verdict = detector.observe(t, false, round);
            serde_json::to_writer(&mut *out, &Line::of(&self.cache, &verdict)).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

impl<'a> Line<'a> {
    fn of(cache: &'a str, verdict: &'a CacheVerdict) -> Self {
        Self {
            t: verdict.time,
            cache,
            severity: verdict.severity.ordinal(),
            storm_types: verdict.storm_types.iter().map(|vote| vote.storm_type.as_str()).collect(),
            nodes: verdict
                .nodes
                .iter()
                .map(|node| NodeLine {
                    node: node.node.as_str(),
                    up: node.up,
                    affected: node.affected,
                    storm_type: node.storm_type.map(|storm_type| storm_type.as_str()),
                    confidence: node.storm_type.map(|_| (node.confidence * 1e4).round() / 1e4),
                    indicators: node.indicators.iter().map(|indicator| indicator.as_str()).collect(),
                })
                .collect(),
        }
    }
}

/// One line of a recording.
#[derive(Clone, Copy)]
struct Row<'a> {
    file: &'a Path,
    record: &'a csv::StringRecord,
    columns: &'a HashMap<&'a str, usize>,
}

impl Row<'_> {
    /// The column's text; blank means not reported.
    fn text(&self, column: &str) -> Option<&str> {
        self.record.get(*self.columns.get(column)?).map(str::trim).filter(|text| !text.is_empty())
    }

    /// The column's text, and what it `reads` as; blank means not reported.
    fn value<T>(
        &self,
        column: &str,
        expected: &'static str,
        reads: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<(&str, T)>, ReplayError> {
        let Some(text) = self.text(column) else { return Ok(None) };
        reads(text).map(|value| Some((text, value))).ok_or_else(|| self.bad(column, expected))
    }

    /// Some servers send −1 for what they do not count.
    fn is_minus_one(&self, column: &str) -> bool {
        self.text(column) == Some("-1")
    }

    fn count(&self, column: &str) -> Result<Option<(&str, u64)>, ReplayError> {
        if self.is_minus_one(column) {
            return Ok(None);
        }
        self.value(column, "a whole number or nothing", |text| text.parse().ok())
    }

    fn fraction(&self, column: &str) -> Result<Option<(&str, f64)>, ReplayError> {
        if self.is_minus_one(column) {
            return Ok(None);
        }
        let reads = |text: &str| text.parse().ok().filter(|number| (0.0..f64::INFINITY).contains(number));
        self.value(column, "a number from 0 on or nothing", reads)
    }

    fn time(&self) -> Result<f64, ReplayError> {
        let time = self.text("t").and_then(|text| text.parse().ok()).filter(|time: &f64| time.is_finite());
        time.ok_or_else(|| self.bad("t", "a number"))
    }

    fn bad(&self, column: &str, expected: &'static str) -> ReplayError {
        ReplayError::BadValue {
            file: self.file.to_owned(),
            line: self.record.position().map_or(0, csv::Position::line),
            column: column.to_owned(),
            expected,
            value: self.text(column).unwrap_or_default().chars().take(80).collect(),
        }
    }

    fn observation(&self) -> Result<Observation, ReplayError> {
        if self.text("node").is_none() {
            return Err(self.bad("node", "a name"));
        }
        match self.text("up") {
            Some("1") => {}
            // A recording does not say why.
            Some("0") => return Ok(Observation::Down(FailureReason::Refused)),
            _ => return Err(self.bad("up", "1 or 0")),
        }
        let text = self.info()?;
        let sample = Box::new(Sample::from_info(&Info::parse(&text)));
        let share = |text: &str| text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        let hot_key = match (self.count("mon_n")?, self.value("mon_top1", "a share from 0 to 1 or nothing", share)?) {
            (Some((_, accesses)), Some((_, share))) => Some(HotKeySample { share, accesses, write_ratio: None }),
            _ => None,
        };
        Ok(Observation::Up { sample, hot_key })
    }

    fn sentinel(&self) -> Result<Option<SentinelView>, ReplayError> {
        let master = self.text("sent_addr").map(NodeName::from);
        Ok(self.count("sent_epoch")?.map(|(_, config_epoch)| SentinelView { config_epoch, master }))
    }

    /// The line as the text of `INFO` it was taken from: recordings and servers are read by the same code.
    fn info(&self) -> Result<String, ReplayError> {
        let mut info = String::with_capacity(1024);
        let mut field = |name: std::fmt::Arguments<'_>, value: &str| {
            // Writing to a string cannot fail.
            writeln!(info, "{name}:{value}").unwrap_or_default();
        };
        for column in TEXT {
            if let Some(value) = self.text(column) {
                field(format_args!("{column}"), value);
            }
        }
        for (column, words, expected) in WORDS {
            if let Some((word, _)) = self.value(column, expected, |text| words.contains(&text).then_some(()))? {
                field(format_args!("{column}"), word);
            }
        }
        for column in FRACTIONS {
            if let Some((number, _)) = self.fraction(column)? {
                field(format_args!("{column}"), number);
            }
        }
        for column in COUNTS {
            if let Some((number, _)) = self.count(column)? {
                field(format_args!("{column}"), number);
            }
        }
        if let Some((keys, _)) = self.count("keys")? {
            field(format_args!("db0"), &format!("keys={keys}"));
        }
        for column in self.columns.keys() {
            let (prefix, name, part) = match (column.strip_prefix("c_"), column.strip_prefix("err_")) {
                (Some(command), _) => ("cmdstat", command, "calls"),
                (_, Some(error)) => ("errorstat", error, "count"),
                _ => continue,
            };
            if let Some((count, _)) = self.count(column)? {
                field(format_args!("{prefix}_{name}"), &format!("{part}={count}"));
            }
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Recording, ReplayError> {
        Recording::read("c".to_owned(), Path::new("c.csv"), csv::Reader::from_reader(text.as_bytes()))
    }

    const HEADING: &str = "t,node,up,run_id,uptime_in_seconds,role,keyspace_hits,keyspace_misses,expired_keys,evicted_keys,total_commands_processed,keys,c_del\n";

    #[test]
    fn refuses_with_file_line_and_column() {
        let error =
            read(&format!("{HEADING}1,n0,1,a,5,master,1,2,3,4,5,6,\n2,n0,1,a,6,master,x,2,3,4,5,6,\n")).unwrap_err();
        assert_eq!(error.to_string(), "c.csv:3: column `keyspace_hits`: expected a whole number or nothing, found `x`");
        let error = read("t,node\n").unwrap_err().to_string();
        assert!(error.starts_with("c.csv: column `up` is missing"), "{error}");
    }

    #[test]
    fn a_value_that_no_server_sends_is_refused_and_minus_one_is_absent() {
        let of = |column: &str, value: &str| {
            read(&format!("{}1,n0,1,a,5,master,1,2,3,4,5,6,{value}\n", HEADING.replace("c_del", column)))
        };
        for (column, value, expected) in [
            ("loading", "7", "0, 1 or nothing"),
            ("loading", "-1", "0, 1 or nothing"),
            ("master_link_status", "xx", "up, down or nothing"),
            ("used_memory", "-2", "a whole number or nothing"),
            ("used_memory", "1.5", "a whole number or nothing"),
            ("used_memory", "18446744073709551616", "a whole number or nothing"),
            ("c_get", "many", "a whole number or nothing"),
            ("err_OOM", "-5", "a whole number or nothing"),
            ("mem_fragmentation_ratio", "-0.5", "a number from 0 on or nothing"),
            ("mon_top1", "1.5", "a share from 0 to 1 or nothing"),
            ("sent_epoch", "0.5", "a whole number or nothing"),
        ] {
            let expected = format!("c.csv:2: column `{column}`: expected {expected}, found `{value}`");
            assert_eq!(of(column, value).unwrap_err().to_string(), expected);
        }
        let twice = of("keys", "6").unwrap_err().to_string();
        assert_eq!(twice, "c.csv:1: column `keys`: expected each column once, found `keys`");
        let role = read(&format!("{HEADING}1,n0,1,a,5,foo,1,2,3,4,5,6,\n")).unwrap_err().to_string();
        assert_eq!(role, "c.csv:2: column `role`: expected master, slave, replica or nothing, found `foo`");
        for column in ["used_memory", "mem_fragmentation_ratio", "master_last_io_seconds_ago", "c_get", "sent_epoch"] {
            let recording = of(column, "-1").unwrap_or_else(|error| panic!("{error}"));
            let round = &recording.rounds[0].1;
            let Observation::Up { sample, .. } = &round.nodes[0].1 else { panic!("up") };
            assert_eq!((sample.used_memory_bytes, sample.fragmentation_ratio, &round.sentinel), (None, None, &None));
        }
    }

    #[test]
    fn sentinels_view_belongs_to_the_round() {
        let heading = HEADING.replace("c_del", "sent_epoch,sent_addr");
        let row = |t: u8, node, sentinel| format!("{t},{node},1,a,{t},master,1,2,3,4,5,6,{sentinel}\n");
        let rows = [row(1, "n0", "7,h:1"), row(1, "n1", ","), row(2, "n0", ","), row(2, "n1", "8,")].concat();
        let recording = read(&format!("{heading}{rows}")).unwrap();
        let views: Vec<_> = recording.rounds.iter().map(|(_, round)| round.sentinel.clone().unwrap()).collect();
        assert_eq!(views[0], SentinelView { config_epoch: 7, master: Some("h:1".into()) });
        assert_eq!(views[1], SentinelView { config_epoch: 8, master: None });
        let error = read(&format!("{heading}{}", row(1, "n0", "x,"))).unwrap_err();
        assert_eq!(error.to_string(), "c.csv:2: column `sent_epoch`: expected a whole number or nothing, found `x`");
    }

    #[test]
    fn blank_is_not_reported_and_thinning_keeps_the_pace() {
        let rows: String = (0..10).map(|t| format!("{}.003,n0,1,a,{t},master,,2,3,4,5,6,7\n", t)).collect();
        let mut recording = read(&format!("{HEADING}{rows}")).unwrap();
        let Observation::Up { sample, .. } = &recording.rounds[0].1.nodes[0].1 else { panic!("up") };
        assert_eq!((sample.hits, sample.misses, sample.delete_calls), (None, Some(2), Some(7)));
        recording.thin(5.0);
        assert_eq!(recording.rounds.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [0.003, 5.003]);
    }
}
