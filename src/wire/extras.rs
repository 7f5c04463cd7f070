//! What is asked on top of `INFO`, in the same round trip, where somebody reads it: and its answers as lines of the
//! form that `INFO` has, so that whoever keeps and parses the one keeps and parses the other.
//!
//! Names begin with `+`, which no field of `INFO` does, except where the answer has that form already. Nothing here
//! reads a key; of the slow log only number and duration are kept, never the command.

use std::fmt::Write as _;

use super::Reply;

/// Masters of one Sentinel that are asked about; each takes three commands.
const MASTERS_MAX: usize = 100;
/// Settings that are asked for: those that published dashboards show, none of them a secret. One by one: several at
/// once are understood since Redis 7.0 only.
const SETTINGS: [&str; 6] =
    ["appendfsync", "client-output-buffer-limit", "io-threads", "save", "slowlog-log-slower-than", "slowlog-max-len"];
/// Characters kept of what a Sentinel says; its sentences have half as many.
const MESSAGE_MAX: usize = 256;

/// What a node is asked beyond `INFO`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// It is a node of a cluster: how the cluster is.
    pub cluster: bool,
    /// The slow log and the latest latency events.
    pub logs: bool,
    /// Latencies by command, and settings: what costs the server most of all.
    pub latencies: bool,
    /// It is a Sentinel that watches these masters. Asked for whoever scrapes it as a server, of all that it watches;
    /// the topology of a cache has its Sentinels asked for that cache's masters alone, all the time, and more about
    /// each.
    pub masters: Option<Vec<String>>,
}

/// One command, and what becomes of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    ClusterInfo,
    SlowLogLength,
    SlowLogLatest,
    LatencyLatest,
    LatencyStats,
    LatencyHistogram,
    Setting(&'static str),
    Masters,
    Quorum(String),
    Sentinels(String),
    Replicas(String),
}

impl Extras {
    /// The commands, without those that the server has refused before.
    pub(super) fn questions(&self, refused: &[&'static str]) -> Vec<Question> {
        let mut questions = Vec::new();
        if self.cluster {
            questions.push(Question::ClusterInfo);
        }
        if self.logs {
            questions.extend([Question::SlowLogLength, Question::SlowLogLatest, Question::LatencyLatest]);
        }
        if self.latencies {
            questions.extend([Question::LatencyStats, Question::LatencyHistogram]);
            questions.extend(SETTINGS.map(Question::Setting));
        }
        if let Some(masters) = &self.masters {
            questions.push(Question::Masters);
            for master in masters.iter().take(MASTERS_MAX) {
                let questions_of = [Question::Quorum, Question::Sentinels, Question::Replicas];
                questions.extend(questions_of.map(|question| question(master.clone())));
            }
        }
        questions.retain(|question| !refused.contains(&question.command()));
        questions
    }
}

impl Question {
    /// The command as permissions name it: what is refused once is not asked again over the same connection, for the
    /// server notes every refusal.
    pub(super) fn command(&self) -> &'static str {
        match self {
            Self::ClusterInfo => "CLUSTER INFO",
            Self::SlowLogLength => "SLOWLOG LEN",
            Self::SlowLogLatest => "SLOWLOG GET",
            Self::LatencyLatest => "LATENCY LATEST",
            Self::LatencyStats => "INFO latencystats",
            Self::LatencyHistogram => "LATENCY HISTOGRAM",
            Self::Setting(_) => "CONFIG GET",
            Self::Masters => "SENTINEL MASTERS",
            Self::Quorum(_) => "SENTINEL CKQUORUM",
            Self::Sentinels(_) => "SENTINEL SENTINELS",
            // Sentinels before 5.0 know only this name of it, all others know it too.
            Self::Replicas(_) => "SENTINEL SLAVES",
        }
    }

    /// What follows the command's words.
    pub(super) fn argument(&self) -> Option<&str> {
        match self {
            Self::SlowLogLatest => Some("1"),
            Self::Setting(name) => Some(name),
            Self::Quorum(master) | Self::Sentinels(master) | Self::Replicas(master) => Some(master),
            _ => None,
        }
    }
}

/// What is told of a Sentinel's master, gathered from several answers.
#[derive(Default)]
struct Watched {
    name: String,
    parts: String,
}

/// Lines of the answers, in the order of the questions; what cannot be read is left out. Commands that were refused
/// are added to `refused`.
pub(super) fn lines(questions: &[Question], replies: &[Reply], refused: &mut Vec<&'static str>) -> String {
    let mut lines = String::new();
    let mut watched: Vec<Watched> = Vec::new();
    for (question, reply) in questions.iter().zip(replies) {
        match (question, reply) {
            // Not a refusal: it says that there is no quorum.
            (Question::Quorum(master), Reply::Error { code, text }) if code == "NOQUORUM" => {
                quorum(master, &format!("{code} {text}"), &mut lines);
            }
            (_, Reply::Error { .. }) => refused.push(question.command()),
            (Question::Quorum(master), Reply::Text(text)) => quorum(master, text, &mut lines),
            (Question::ClusterInfo | Question::LatencyStats, Reply::Text(text)) => {
                lines.push_str(text);
                lines.push('\n');
            }
            (Question::SlowLogLength, Reply::Integer(length)) => {
                line(&mut lines, "slowlog_length", "", &length.to_string())
            }
            (Question::SlowLogLatest, Reply::Array(entries)) => slow_log(entries, &mut lines),
            (Question::LatencyLatest, Reply::Array(events)) => events.iter().for_each(|event| spike(event, &mut lines)),
            (Question::LatencyHistogram, Reply::Array(pairs)) => {
                pairs.chunks_exact(2).for_each(|pair| histogram(&pair[0], &pair[1], &mut lines));
            }
            (Question::Setting(name), Reply::Array(pair)) => {
                if let Some(value) = pair.get(1).and_then(Reply::text) {
                    line(&mut lines, "config_", name, value);
                }
            }
            (Question::Masters, Reply::Array(masters)) => masters.iter().for_each(|reply| master(reply, &mut watched)),
            // A Sentinel lists the others, so that itself comes on top.
            (Question::Sentinels(master), Reply::Array(others)) => {
                note(&mut watched, master, "ok-sentinels", &(well(others) + 1).to_string());
            }
            (Question::Replicas(master), Reply::Array(replicas)) => {
                note(&mut watched, master, "ok-slaves", &well(replicas).to_string());
            }
            _ => {}
        }
    }
    for Watched { name, parts } in watched {
        line(&mut lines, "watched_", &name, &parts);
    }
    lines
}

fn line(lines: &mut String, kind: &str, name: &str, value: &str) {
    // What would end the line or the name early is no name of anything.
    if !name.contains([':', '\n', '\r']) && !value.contains(['\n', '\r']) {
        writeln!(lines, "+{kind}{name}:{value}").unwrap_or_default();
    }
}

/// Of the latest entry its number and its duration; what it did is nobody's business here.
fn slow_log(entries: &[Reply], lines: &mut String) {
    match entries.first() {
        Some(Reply::Array(entry)) => {
            if let [Reply::Integer(id), _, Reply::Integer(usec), ..] = &entry[..] {
                line(lines, "slowlog_last_id", "", &id.to_string());
                line(lines, "slowlog_last_usec", "", &usec.to_string());
            }
        }
        // An empty log: nothing was slow yet.
        _ => ["slowlog_last_id", "slowlog_last_usec"].iter().for_each(|name| line(lines, name, "", "0")),
    }
}

/// What the Sentinel says of a master's quorum, as much of it as a label may hold.
fn quorum(master: &str, text: &str, lines: &mut String) {
    line(lines, "ckquorum_", master, &text.chars().take(MESSAGE_MAX).collect::<String>());
}

/// `[event, Unix seconds, latest ms, maximum ms, …]`.
fn spike(event: &Reply, lines: &mut String) {
    if let Reply::Array(event) = event
        && let [Reply::Text(name), Reply::Integer(at), Reply::Integer(latest), ..] = &event[..]
    {
        line(lines, "spike_", name, &format!("at={at},last={latest}"));
    }
}

/// `command, [calls, N, histogram_usec, [bound, at or below, …]]`.
fn histogram(command: &Reply, told: &Reply, lines: &mut String) {
    let (Reply::Text(command), Reply::Array(told)) = (command, told) else { return };
    if let [_, Reply::Integer(calls), _, Reply::Array(buckets)] = &told[..] {
        let mut value = format!("calls={calls}");
        for bucket in buckets.chunks_exact(2) {
            if let [Reply::Integer(bound), Reply::Integer(below)] = bucket {
                write!(value, ",{bound}={below}").unwrap_or_default();
            }
        }
        line(lines, "histogram_", command, &value);
    }
}

const MASTER_FIELDS: [&str; 6] =
    ["last-ok-ping-reply", "config-epoch", "quorum", "failover-timeout", "parallel-syncs", "down-after-milliseconds"];

fn master(told: &Reply, watched: &mut Vec<Watched>) {
    let field = |name| told.field(name).and_then(Reply::text);
    let (Some(name), Some(ip), Some(port)) = (field("name"), field("ip"), field("port")) else { return };
    note(watched, name, "address", &format!("{ip}:{port}"));
    for part in MASTER_FIELDS {
        if let Some(value) = field(part) {
            note(watched, name, part, value);
        }
    }
}

fn note(watched: &mut Vec<Watched>, master: &str, part: &str, value: &str) {
    let index = watched.iter().position(|known| known.name == master).unwrap_or_else(|| {
        watched.push(Watched { name: master.to_owned(), ..Watched::default() });
        watched.len() - 1
    });
    let parts = &mut watched[index].parts;
    let comma = if parts.is_empty() { "" } else { "," };
    write!(parts, "{comma}{part}={value}").unwrap_or_default();
}

/// How many of the listed are not down in anybody's eyes.
fn well(listed: &[Reply]) -> usize {
    listed
        .iter()
        .filter_map(|one| one.field("flags").and_then(Reply::text))
        .filter(|flags| !["o_down", "s_down", "disconnected"].iter().any(|down| flags.contains(down)))
        .count()
}
