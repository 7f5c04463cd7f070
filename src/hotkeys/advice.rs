//! What to do about hot keys, each piece of advice with the evidence that calls for it.

use serde::Serialize;

use super::kinds::Kind;
use super::report::{HotKeyReport, KeyRow};

/// A key is hot from this share of the accesses …
pub const HOT_SHARE: f64 = 0.20;

/// … or from this one …
pub const WARM_SHARE: f64 = 0.10;

/// … with so many accesses per second.
pub const HOT_RATE: f64 = 1_000.0;

/// Fewer accesses say nothing about shares.
const ACCESSES_MIN: u64 = 50;

/// A value of at most so many bytes is cheap to keep in every client.
const SMALL_BYTES: u64 = 16 << 10;

/// A value from so many bytes on is costly to send.
const LARGE_BYTES: u64 = 32 << 10;

/// Clients that make many readers.
const MANY_CLIENTS: u64 = 10;

/// Writes at most this share: rarely changed.
const RARE_WRITES: f64 = 0.05;

/// Writes from this share on: written more than read.
const HEAVY_WRITES: f64 = 0.5;

/// A pattern from this share on, none of whose keys is hot, is worth a word.
const BROAD_SHARE: f64 = 0.5;

/// One recommendation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// What to do.
    pub action: Action,
    /// To which key; `None`: to a pattern, or to nothing.
    pub key: Option<String>,
    /// Its pattern.
    pub pattern: Option<String>,
    /// In words, with the numbers that call for it.
    pub text: String,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Keep it in the clients.
    ClientSideCaching,
    /// Keep copies of it on several shards.
    Replicate,
    /// Split the counter.
    ShardCounter,
    /// Look for a client that misbehaves.
    FindClient,
    /// Give it a lifetime.
    ReviewTtl,
    /// No key is hot, but a kind of key is.
    SpreadPattern,
}

/// Recommendations, by the weight of their keys.
pub(super) fn advise(report: &HotKeyReport) -> Vec<Advice> {
    if report.accesses < ACCESSES_MIN {
        return Vec::new();
    }
    let hot: Vec<&KeyRow> = report.keys.iter().filter(|key| is_hot(key)).collect();
    let mut advice: Vec<Advice> = hot.iter().flat_map(|key| of_key(key, report.clients)).collect();
    let broad = report.patterns.first().filter(|pattern| hot.is_empty() && pattern.share >= BROAD_SHARE);
    advice.extend(broad.filter(|pattern| pattern.pattern.contains('*')).map(|pattern| Advice {
        action: Action::SpreadPattern,
        key: None,
        pattern: Some(pattern.pattern.clone()),
        text: format!(
            "{} of the accesses go to many keys of one pattern and none of them is hot: more shards spread them, \
             single keys need nothing",
            percent(pattern.share)
        ),
    }));
    advice
}

/// By what is sure of its share.
fn is_hot(key: &KeyRow) -> bool {
    let share = key.usage.share - key.share_error;
    share >= HOT_SHARE || share >= WARM_SHARE && key.usage.accesses_per_second.is_some_and(|rate| rate >= HOT_RATE)
}

fn of_key(key: &KeyRow, clients: u64) -> Vec<Advice> {
    let (usage, mut advice) = (&key.usage, Vec::new());
    let mut add = |action, text: String| {
        let (name, pattern) = (Some(key.key.clone()), Some(usage.pattern.clone()));
        advice.push(Advice {
            action,
            key: name,
            pattern,
            text: format!("{} of the accesses; {text}", percent(usage.share)),
        });
    };
    let writes = usage.writes as f64 / (usage.reads + usage.writes).max(1) as f64;
    let bytes = key.memory_bytes.or(key.value_bytes);
    let size = bytes.map_or("of unknown size".to_owned(), |bytes| format!("of {bytes} bytes"));
    if writes >= HEAVY_WRITES && (usage.kind == Some(Kind::Counter) || key.value_bytes.is_none()) {
        let text = "split the counter into several keys on different shards and add them up when reading";
        add(Action::ShardCounter, format!("{} of them write: {text}", percent(writes)));
    }
    if writes <= RARE_WRITES && bytes.is_none_or(|bytes| bytes <= SMALL_BYTES) {
        let text = "cache it in the clients for seconds, or with CLIENT TRACKING until it changes";
        add(Action::ClientSideCaching, format!("{} of them write, a value {size}: {text}", percent(writes)));
    }
    let large = bytes.is_some_and(|bytes| bytes >= LARGE_BYTES);
    if writes < HEAVY_WRITES && (large || key.clients >= MANY_CLIENTS) {
        let text = "keep copies under several names on different shards and let each reader choose one";
        add(Action::Replicate, format!("read by about {} clients, a value {size}: {text}", key.clients));
    }
    if (1..=2).contains(&key.clients) && clients >= MANY_CLIENTS {
        let text = "look there for a loop, a missing local cache or a stuck retry";
        add(Action::FindClient, format!("from {} of about {clients} clients: {text}", key.clients));
    }
    if key.never_expires == Some(true) {
        add(Action::ReviewTtl, "last written without a lifetime: review whether it should expire".to_owned());
    }
    advice
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
