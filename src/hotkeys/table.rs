//! The report as a table for people.

use std::fmt::Write as _;

use super::kinds::Kind;
use super::report::{HotKeyReport, KeyRow};

/// Widest name of a key or pattern; a longer one is cut in the middle.
const NAME_MAX: usize = 48;

impl HotKeyReport {
    /// For a terminal.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut out = String::new();
        let time = self.seconds.map_or_else(String::new, |seconds| format!(" in {seconds:.1} s"));
        let exact = if self.exact {
            "every count is exact".to_owned()
        } else {
            format!(
                "± is the most by which a count may be too high; other keys have at most {}",
                percent(self.unseen_share_max)
            )
        };
        line(
            &mut out,
            format_args!(
                "{}: {} accesses to keys, {} commands{time}, about {} clients; {exact}",
                self.source, self.accesses, self.commands, self.clients
            ),
        );
        for warning in &self.warnings {
            line(&mut out, format_args!("note: {warning}"));
        }
        self.keys(&mut out);
        self.patterns(&mut out);
        line(&mut out, format_args!("\nCOMMANDS"));
        for row in &self.command_calls {
            line(&mut out, format_args!("{:<24}{:>12}{:>9}", row.command, row.calls, percent(row.share)));
        }
        if let Some(hits) = &self.hits {
            let ratio = hits.hit_ratio.map_or("no lookups".to_owned(), percent);
            line(
                &mut out,
                format_args!(
                    "\nHITS in {:.1} s: {} hits, {} misses, hit ratio {ratio}; {} commands, {} keys expired, {} evicted",
                    hits.seconds, hits.hits, hits.misses, hits.commands, hits.expired_keys, hits.evicted_keys
                ),
            );
        }
        line(&mut out, format_args!("\nRECOMMENDATIONS"));
        if self.recommendations.is_empty() {
            line(&mut out, format_args!("none: no key is hot"));
        }
        for advice in &self.recommendations {
            let whom = advice.key.as_ref().or(advice.pattern.as_ref()).map_or("", String::as_str);
            line(&mut out, format_args!("{}: {}", cut(whom), advice.text));
        }
        out
    }

    fn keys(&self, out: &mut String) {
        let width = self.keys.iter().map(|row| cut(&row.key).chars().count()).max().unwrap_or(0).max(16);
        line(
            out,
            format_args!(
                "\n{:<width$}{:>11}{:>9}{:>9}{:>10}{:>10}{:>10}{:>9}{:>11}{:>9}  KIND",
                "KEY", "ACCESSES", "±", "SHARE", "PER S", "READS", "WRITES", "CLIENTS", "BYTES", "TTL"
            ),
        );
        for row in &self.keys {
            line(
                out,
                format_args!(
                    "{:<width$}{:>11}{:>9}{:>9}{:>10}{:>10}{:>10}{:>9}{:>11}{:>9}  {}",
                    cut(&row.key),
                    row.usage.accesses,
                    row.accesses_error,
                    percent(row.usage.share),
                    rate(row.usage.accesses_per_second),
                    row.usage.reads,
                    row.usage.writes,
                    row.clients,
                    bytes(row),
                    ttl(row),
                    row.usage.kind.map_or("", Kind::as_str)
                ),
            );
        }
    }

    fn patterns(&self, out: &mut String) {
        let width = self.patterns.iter().map(|row| cut(&row.pattern).chars().count()).max().unwrap_or(0).max(16);
        line(
            out,
            format_args!(
                "\n{:<width$}{:>11}{:>9}{:>10}{:>10}{:>10}  KIND",
                "PATTERN", "ACCESSES", "SHARE", "PER S", "READS", "WRITES"
            ),
        );
        for row in &self.patterns {
            line(
                out,
                format_args!(
                    "{:<width$}{:>11}{:>9}{:>10}{:>10}{:>10}  {}",
                    cut(&row.pattern),
                    row.accesses,
                    percent(row.share),
                    rate(row.accesses_per_second),
                    row.reads,
                    row.writes,
                    row.kind.map_or("", Kind::as_str)
                ),
            );
        }
    }
}

/// The key's memory, else (with a `~`) the length of its value.
fn bytes(row: &KeyRow) -> String {
    match (row.memory_bytes, row.value_bytes) {
        (Some(bytes), _) => bytes.to_string(),
        (None, Some(bytes)) => format!("~{bytes}"),
        (None, None) => "-".to_owned(),
    }
}

fn ttl(row: &KeyRow) -> String {
    match (row.ttl_seconds, row.never_expires) {
        (Some(seconds), _) => format!("{seconds:.0}s"),
        (None, Some(true)) => "never".to_owned(),
        (None, _) => "-".to_owned(),
    }
}

fn rate(per_second: Option<f64>) -> String {
    per_second.map_or("-".to_owned(), |rate| format!("{rate:.1}"))
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// A long name without its middle.
fn cut(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME_MAX {
        return name.to_owned();
    }
    let half = NAME_MAX / 2;
    let head: String = name.chars().take(half - 1).collect();
    let tail: String = name.chars().skip(length - half).collect();
    format!("{head}…{tail}")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
}
