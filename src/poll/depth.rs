//! How much a node is asked for, and what of the answers is kept for the next polls.

use std::time::Duration;

use tokio::time::Instant;

use crate::parse::Info;
use crate::parse::info::Parts;
use crate::wire::Extras;

/// How often a node is asked for latencies by command: they cost it more than all the rest together.
const LATENCIES_EVERY: Duration = Duration::from_secs(30);

/// How much a node is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// `INFO` with `commandstats`: all that detection and the core metrics need.
    #[default]
    Core,
    /// More, in the same round trip, for those who read the full drop-in metrics.
    Full,
}

/// What is known for asking a node for more than `INFO`.
#[derive(Debug, Default)]
pub(super) struct More {
    /// Who it is by its last answer, which decides what there is to ask.
    cluster: bool,
    sentinel: bool,
    masters: Vec<String>,
    /// What it last said of latencies and settings, and when.
    latencies: String,
    latencies_at: Option<Instant>,
}

impl More {
    /// What to ask for beyond `INFO`. Of its cluster a node is always asked: that is little, and nothing else tells.
    pub(super) fn extras(&self, depth: Depth) -> Extras {
        if depth == Depth::Core {
            return Extras { cluster: self.cluster, ..Extras::default() };
        }
        let due = self.latencies_at.is_none_or(|at| at.elapsed() >= LATENCIES_EVERY);
        Extras {
            cluster: self.cluster,
            logs: !self.sentinel,
            latencies: !self.sentinel && due,
            masters: self.sentinel.then(|| self.masters.clone()),
        }
    }

    /// Takes note of an answer. What is to be added to its text: what was told on top of it, and what was told
    /// earlier of that which is not asked every time.
    pub(super) fn learn(&mut self, info: &Info<'_>, asked: &Extras, told: &str) -> String {
        self.cluster = info.flag("cluster_enabled") == Some(true);
        self.sentinel = info.text("sentinel_masters").is_some();
        self.masters.clear();
        if self.sentinel {
            let masters = info.with_prefix("master").filter_map(|(_, value)| Parts(value).text("name"));
            self.masters.extend(masters.map(str::to_owned));
        }
        if !asked.logs {
            (self.latencies, self.latencies_at) = (String::new(), None);
        }
        if told.is_empty() && self.latencies.is_empty() {
            return String::new();
        }
        let (mut more, mut kept) = ("\n".to_owned(), String::new());
        for line in told.lines() {
            let lines = if asked.latencies && is_kept(line) { &mut kept } else { &mut more };
            lines.push_str(line);
            if let Some((command, _)) = line.strip_prefix("+histogram_").and_then(|rest| rest.split_once(':')) {
                // The sum belongs to the moment of the counts, not to that of the next poll.
                let calls = info.text(&format!("cmdstat_{command}")).map(Parts);
                if let Some(usec) = calls.and_then(|calls| calls.counter("usec")) {
                    lines.push_str(&format!(",usec={usec}"));
                }
            }
            lines.push('\n');
        }
        if asked.latencies {
            (self.latencies, self.latencies_at) = (kept, Some(Instant::now()));
        }
        more + &self.latencies
    }
}

/// Whether the line belongs to what is asked every [`LATENCIES_EVERY`] only.
fn is_kept(line: &str) -> bool {
    ["latency_percentiles_", "+histogram_", "+config_"].iter().any(|kind| line.starts_with(kind))
}
