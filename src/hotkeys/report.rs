//! What an analysis found, as a document for programs. For people it is a table (`table`).

use serde::Serialize;

use super::advice::{self, Advice};
use super::analysis::{Analysis, KeyDetail, PatternUse};
use super::kinds::{Kind, Kinds};
use super::sketch::Watched;
use super::ttl::Lifetime;

/// Keys and patterns shown.
pub const SHOWN: usize = 20;

/// What a capture says. Ratios 0–1, times in seconds, sizes in bytes; what is not known is null.
#[derive(Debug, Clone, Serialize)]
pub struct HotKeyReport {
    /// Of the document's form.
    pub version: u32,
    /// What was read: a node's name, or a file's.
    pub source: String,
    /// How long was watched: the time that commands came in, pauses left out.
    pub seconds: Option<f64>,
    /// Commands read.
    pub commands: u64,
    /// Lines that were no commands.
    pub lines_skipped: u64,
    /// Accesses to keys.
    pub accesses: u64,
    /// Every count is exact; otherwise within its error.
    pub exact: bool,
    /// A key that is not listed has at most this share of the accesses, unless listed keys have less.
    pub unseen_share_max: f64,
    /// Different clients, about, by host.
    pub clients: u64,
    /// The keys with most accesses.
    pub keys: Vec<KeyRow>,
    /// The patterns with most accesses.
    pub patterns: Vec<Usage>,
    /// Calls by command.
    pub command_calls: Vec<CallRow>,
    /// The server's counters over the same time.
    pub hits: Option<Hits>,
    /// What to do.
    pub recommendations: Vec<Advice>,
    /// What stands between this and the whole truth.
    pub warnings: Vec<String>,
}

/// One key.
#[derive(Debug, Clone, Serialize)]
pub struct KeyRow {
    /// The key; what does not print is escaped.
    pub key: String,
    /// Its pattern, and how it was used; accesses and share at most.
    #[serde(flatten)]
    pub usage: Usage,
    /// How many of the accesses may have been of other keys.
    pub accesses_error: u64,
    /// How much less the share may be.
    pub share_error: f64,
    /// Different clients, about, by host.
    pub clients: u64,
    /// What the key and its value take in the server's memory.
    pub memory_bytes: Option<u64>,
    /// Length of the value last set.
    pub value_bytes: Option<u64>,
    /// The lifetime last given to it.
    pub ttl_seconds: Option<f64>,
    /// It was last written without a lifetime; null where no such command was seen.
    pub never_expires: Option<bool>,
}

/// How a key, or the keys of a pattern, were used.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    /// The pattern.
    pub pattern: String,
    /// What such keys are for, by the configuration's rules.
    pub kind: Option<Kind>,
    /// Accesses.
    pub accesses: u64,
    /// Share of all accesses.
    pub share: f64,
    /// Accesses per second while it was watched.
    pub accesses_per_second: Option<f64>,
    /// Accesses that read.
    pub reads: u64,
    /// Accesses that write.
    pub writes: u64,
}

/// One command.
#[derive(Debug, Clone, Serialize)]
pub struct CallRow {
    /// Its name, in capitals.
    pub command: String,
    /// How often it was called.
    pub calls: u64,
    /// Share of all calls.
    pub share: f64,
}

/// The server's own counters from the capture's begin to its end, pauses included.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Hits {
    /// Seconds from begin to end.
    pub seconds: f64,
    /// Lookups that found their key.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Hits ÷ lookups; null without lookups.
    pub hit_ratio: Option<f64>,
    /// Commands processed.
    pub commands: u64,
    /// Keys expired.
    pub expired_keys: u64,
    /// Keys evicted.
    pub evicted_keys: u64,
}

impl HotKeyReport {
    /// The report of an analysis that took `seconds`.
    #[must_use]
    pub fn new(source: String, analysis: &Analysis, seconds: Option<f64>, kinds: &Kinds) -> Self {
        let sketch = analysis.keys_seen();
        let (accesses, commands) = (sketch.total(), analysis.lines());
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let usage = |pattern: String, count: u64, sure: u64, writes: u64| Usage {
            kind: kinds.of(&pattern),
            pattern,
            accesses: count,
            share: share(count, accesses),
            accesses_per_second: seconds.map(|seconds| count as f64 / seconds),
            reads: sure.saturating_sub(writes),
            writes,
        };
        let key = |watched: &Watched<KeyDetail>| {
            let detail = &watched.detail;
            KeyRow {
                key: presentable(&watched.key),
                usage: usage(analysis.pattern_name(detail.pattern), watched.count, watched.sure(), detail.writes),
                accesses_error: watched.error,
                share_error: share(watched.error, accesses),
                clients: detail.clients.estimate().round() as u64,
                memory_bytes: None,
                value_bytes: detail.value_bytes,
                ttl_seconds: match detail.lifetime {
                    Some(Lifetime::Seconds(seconds)) => Some(seconds),
                    _ => None,
                },
                never_expires: detail.lifetime.map(|lifetime| lifetime == Lifetime::Endless),
            }
        };
        let pattern = |(pattern, seen): (String, PatternUse)| usage(pattern, seen.accesses, seen.accesses, seen.writes);
        let call = |(command, calls)| CallRow { command, calls, share: share(calls, commands) };
        Self {
            version: 1,
            source,
            seconds,
            commands,
            lines_skipped: analysis.skipped(),
            accesses,
            exact: sketch.is_exact(),
            unseen_share_max: share(sketch.unseen_max(), accesses),
            clients: analysis.clients().estimate().round() as u64,
            keys: sketch.top(SHOWN).into_iter().map(key).collect(),
            patterns: analysis.patterns().into_iter().take(SHOWN).map(pattern).collect(),
            command_calls: analysis.calls().into_iter().take(SHOWN).map(call).collect(),
            hits: None,
            recommendations: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Draws the conclusions; to be called once all else is known.
    pub fn advise(&mut self) {
        self.recommendations = advice::advise(self);
    }

    /// The rows as CSV: keys, patterns and commands, told apart by the first column.
    ///
    /// # Errors
    /// None in practice: it writes into memory.
    pub fn to_csv(&self) -> Result<String, csv::Error> {
        let mut out = csv::Writer::from_writer(Vec::new());
        out.write_record([
            "row",
            "name",
            "pattern",
            "kind",
            "accesses",
            "accesses_error",
            "share",
            "share_error",
            "accesses_per_second",
            "reads",
            "writes",
            "clients",
            "memory_bytes",
            "value_bytes",
            "ttl_seconds",
            "never_expires",
        ])?;
        for key in &self.keys {
            out.serialize((
                "key",
                &key.key,
                &key.usage.pattern,
                key.usage.kind,
                key.usage.accesses,
                key.accesses_error,
                key.usage.share,
                key.share_error,
                key.usage.accesses_per_second,
                key.usage.reads,
                key.usage.writes,
                key.clients,
                key.memory_bytes,
                key.value_bytes,
                key.ttl_seconds,
                key.never_expires,
            ))?;
        }
        let none = None::<u64>;
        for row in &self.patterns {
            out.serialize((
                "pattern",
                &row.pattern,
                &row.pattern,
                row.kind,
                row.accesses,
                0,
                row.share,
                0.0,
                row.accesses_per_second,
                row.reads,
                row.writes,
                none,
                none,
                none,
                none,
                none,
            ))?;
        }
        for row in &self.command_calls {
            out.serialize((
                "command",
                &row.command,
                "",
                none,
                row.calls,
                0,
                row.share,
                0.0,
                none,
                none,
                none,
                none,
                none,
                none,
                none,
                none,
            ))?;
        }
        let bytes = out.into_inner().map_err(|error| error.into_error())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A key as text that a terminal can be trusted with.
fn presentable(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => key.escape_ascii().to_string(),
    }
}
