//! What a stream of `MONITOR` lines says: the heaviest keys, patterns, commands, clients. Bounded however long the
//! stream and however many keys.

use std::sync::Arc;

use super::clients::Clients;
use super::commands::{Calls, CommandId, Commands};
use super::line::{Argument, Arguments, Line, Source};
use super::marks::{MarkedLine, Marks};
use super::pattern::{PatternId, Patterns, shape};
use super::recent::Recent;
use super::secret::Secret;
use super::sketch::{Detail, Sketch};
use super::ttl::{GRANTS, Grant, Lifetime};
use crate::detect::verdict::HotKeySample;

/// Keys remembered of the last script.
const SCRIPT_KEYS_MAX: usize = 64;

/// Bytes of a time that are kept.
const TIME_BYTES: usize = 24;

/// What is known of a key, since it has been watched.
#[derive(Debug, Clone, Default)]
pub struct KeyDetail {
    /// Its pattern.
    pub pattern: PatternId,
    /// Accesses that change it.
    pub writes: u64,
    /// Who accessed it.
    pub clients: Clients<4>,
    /// The lifetime last given to it; `None` where none was seen.
    pub lifetime: Option<Lifetime>,
    /// Length of the value last set, bytes.
    pub value_bytes: Option<u64>,
}

impl Detail for KeyDetail {
    fn merge(&mut self, other: &Self) {
        self.writes += other.writes;
        self.clients.merge(&other.clients);
        self.lifetime = other.lifetime.or(self.lifetime);
        self.value_bytes = other.value_bytes.or(self.value_bytes);
    }
}

/// How a pattern's keys were accessed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PatternUse {
    /// Accesses.
    pub accesses: u64,
    /// Of these, how many changed the key.
    pub writes: u64,
}

/// A key with much of the accesses, without its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HeavyKey {
    /// Its hash under the analysis' secret.
    pub(super) hash: u64,
    /// Share of the accesses, at least.
    pub(super) share: f64,
    /// Accesses per second.
    pub(super) per_second: f64,
}

/// An access to a key.
#[derive(Debug, Clone, Copy)]
struct Access<'a> {
    key: &'a [u8],
    hash: u64,
    write: bool,
    /// The client's hash; `None` for a script.
    client: Option<u64>,
    /// What may give the key a lifetime: the command, and what stands behind the key.
    granting: Option<(CommandId, Arguments<'a>)>,
    time: &'a [u8],
}

/// The analysis of a stream, or of a part of it.
#[derive(Debug, Clone)]
pub struct Analysis {
    commands: Arc<Commands>,
    /// By command, what lifetime it gives.
    grants: Arc<[Option<Grant>]>,
    secret: Secret,
    calls: Calls,
    sketch: Sketch<KeyDetail>,
    patterns: Patterns,
    uses: Vec<PatternUse>,
    clients: Clients<64>,
    recent: Recent,
    marks: Marks,
    /// Keys that the last script declared: counted with it, not again with its calls.
    script: Vec<u64>,
    lines: u64,
    skipped: u64,
    first_time: Option<Time>,
    /// Of the lines since the last pause.
    since_pause: Option<Time>,
    last_time: Option<Time>,
}

/// A time as written, copied: reading every line's would take longer than all else about its client.
#[derive(Debug, Clone, Copy)]
struct Time([u8; TIME_BYTES], usize);

impl Time {
    fn of(text: &[u8]) -> Self {
        let mut time = [0; TIME_BYTES];
        let length = text.len().min(TIME_BYTES);
        time[..length].copy_from_slice(&text[..length]);
        Self(time, length)
    }

    fn seconds(&self) -> Option<f64> {
        std::str::from_utf8(&self.0[..self.1]).ok()?.parse().ok()
    }
}

impl Analysis {
    /// An empty analysis that knows these commands, learned `patterns` and goes on learning.
    #[must_use]
    pub fn new(commands: Arc<Commands>, patterns: Patterns) -> Self {
        Self::with_secret(commands, patterns, Secret::new())
    }

    /// The same under a given secret: hashes of keys can be compared with those of others under it.
    pub(super) fn with_secret(commands: Arc<Commands>, patterns: Patterns, secret: Secret) -> Self {
        let mut grants = Vec::new();
        for (name, grant) in GRANTS {
            if let Some(place) = commands.find(name).map(CommandId::index) {
                grants.resize(grants.len().max(place + 1), None);
                grants[place] = Some(*grant);
            }
        }
        Self {
            commands,
            grants: grants.into(),
            secret,
            calls: Calls::default(),
            sketch: Sketch::default(),
            patterns,
            uses: Vec::new(),
            clients: Clients::default(),
            recent: Recent::default(),
            marks: Marks::default(),
            script: Vec::new(),
            lines: 0,
            skipped: 0,
            first_time: None,
            since_pause: None,
            last_time: None,
        }
    }

    /// Reads whole lines.
    pub fn read(&mut self, text: &[u8]) {
        let (mut marks, mut last) = (std::mem::take(&mut self.marks), None);
        for line in marks.lines(text) {
            last = self.usual(&line).or_else(|| self.count(line.text)).or(last);
        }
        self.last_time = last.map(Time::of).or(self.last_time);
        self.marks = marks;
    }

    /// Reads one line.
    pub fn line(&mut self, text: &[u8]) {
        self.last_time = self.count(text).map(Time::of).or(self.last_time);
    }

    /// Counts what a client's line of the usual kind says, whose only key is its first argument, and returns its time.
    /// `None`: nothing is counted yet.
    fn usual<'a>(&mut self, line: &MarkedLine<'a>) -> Option<&'a [u8]> {
        let (line, key, rest) = Line::usual(line)?;
        let Source::Client(host) = line.source else { return None };
        let command = self.commands.find(line.command);
        let write = self.commands.only_first(command, rest.is_empty())?;
        self.call(&line, command);
        let client = Some(self.client(host));
        let granting = command.map(|command| (command, rest));
        self.access(&Access { key, hash: self.secret.hash(key), write, client, granting, time: line.time });
        Some(line.time)
    }

    /// Counts what a line says and returns its time.
    fn count<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let Some(line) = Line::parse(text) else {
            self.skipped += 1;
            return None;
        };
        let client = match line.source {
            Source::Client(host) => Some(self.client(host)),
            Source::Script => None,
        };
        let command = self.commands.find(line.command);
        self.call(&line, command);
        match self.commands.only_first(command, false) {
            Some(write) => {
                if let Some((key, rest)) = line.arguments.next() {
                    self.key(key, write, client, command.map(|command| (command, rest)), line.time);
                }
            }
            None => self.keys(&line, command, client),
        }
        Some(line.time)
    }

    /// Counts a line and its command.
    fn call(&mut self, line: &Line<'_>, command: Option<CommandId>) {
        self.lines += 1;
        self.first_time.get_or_insert_with(|| Time::of(line.time));
        self.since_pause.get_or_insert_with(|| Time::of(line.time));
        self.calls.count(command, line.command);
    }

    /// Counts a client of this host, and returns its hash.
    fn client(&mut self, host: &[u8]) -> u64 {
        self.script.clear();
        let hash = Clients::<64>::hash(host);
        self.clients.add(hash);
        hash
    }

    /// Counts the keys of a command that names them elsewhere than in its first argument.
    fn keys(&mut self, line: &Line<'_>, command: Option<CommandId>, client: Option<u64>) {
        let mut arguments = vec![Argument::plain(line.command)];
        let mut rest = line.arguments;
        while let Some((argument, after)) = rest.next() {
            arguments.push(argument);
            rest = after;
        }
        let mut found = Vec::new();
        let commands = Arc::clone(&self.commands);
        commands.keys(command, arguments.len(), |at| arguments[at].raw, |at, write| found.push((at, write)));
        let runs = |name: &[u8]| line.command.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let is_script = runs(b"eval") || runs(b"fcall");
        for (at, write) in found {
            // MIGRATE names its one key `""` if it has more.
            if arguments[at].raw.is_empty() && arguments.len() > 2 {
                continue;
            }
            let hash = self.key(arguments[at], write, client, None, line.time);
            if is_script && self.script.len() < SCRIPT_KEYS_MAX {
                self.script.extend(hash);
            }
        }
    }

    /// Counts the access to a key as it stands in a line. Returns the key's hash.
    fn key(
        &mut self,
        key: Argument<'_>,
        write: bool,
        client: Option<u64>,
        granting: Option<(CommandId, Arguments<'_>)>,
        time: &[u8],
    ) -> Option<u64> {
        let mut room = Vec::new();
        let key = key.decode(&mut room);
        let hash = self.secret.hash(key);
        if client.is_none() && self.script.contains(&hash) {
            return None;
        }
        self.access(&Access { key, hash, write, client, granting, time });
        Some(hash)
    }

    /// Counts an access.
    fn access(&mut self, access: &Access<'_>) {
        let Access { key, hash, .. } = *access;
        let (detail, new) = self.sketch.add(hash, key);
        if new {
            // Keys of one shape have one pattern: a key that is new is seldom of a new one.
            let mut room = [0; _];
            let hash = shape(key, &mut room).map_or(hash, |shape| self.secret.hash(shape));
            let known = self.recent.get(hash);
            detail.pattern = known.unwrap_or_else(|| self.recent.insert(hash, self.patterns.learn(key)));
        }
        detail.writes += u64::from(access.write);
        if let Some(client) = access.client {
            detail.clients.add(client);
        }
        let grant = access.granting.and_then(|(command, rest)| Some(((*self.grants.get(command.index())?)?, rest)));
        if let Some((grant, rest)) = grant {
            detail.lifetime = grant.read(rest, access.time).or(detail.lifetime);
            if let (Grant::OptionsAfterValue, Some((value, _))) = (grant, rest.next()) {
                detail.value_bytes = Some(value.length() as u64);
            }
        }
        let place = detail.pattern.index();
        if self.uses.len() <= place {
            self.uses.resize(place + 1, PatternUse::default());
        }
        self.uses[place].accesses += 1;
        self.uses[place].writes += u64::from(access.write);
    }

    /// An empty analysis for another part of the same stream, to be merged with this one.
    #[must_use]
    pub fn part(&self) -> Self {
        Self::with_secret(Arc::clone(&self.commands), self.patterns.clone(), self.secret.clone())
    }

    /// Joins a later [`Self::part`] of the stream, or one that interleaves with this.
    pub fn merge(&mut self, other: Self) {
        let here = self.patterns.absorb(&other.patterns);
        let there = |pattern: PatternId| here.get(pattern.index()).copied().unwrap_or_default();
        for (place, uses) in other.uses.iter().enumerate().filter(|(_, uses)| uses.accesses > 0) {
            let ours = here[place].index();
            self.uses.resize(self.uses.len().max(ours + 1), PatternUse::default());
            self.uses[ours].accesses += uses.accesses;
            self.uses[ours].writes += uses.writes;
        }
        let mut sketch = other.sketch;
        sketch.details_mut().for_each(|detail| detail.pattern = there(detail.pattern));
        self.sketch.merge(sketch);
        self.calls.merge(&other.calls);
        self.clients.merge(&other.clients);
        self.lines += other.lines;
        self.skipped += other.skipped;
        let earlier = |a: &Time, b: &Time| if a.seconds() <= b.seconds() { *a } else { *b };
        let later = |a: &Time, b: &Time| if a.seconds() >= b.seconds() { *a } else { *b };
        let join = |a: Option<Time>, b: Option<Time>, which: &dyn Fn(&Time, &Time) -> Time| match (a, b) {
            (Some(a), Some(b)) => Some(which(&a, &b)),
            (a, b) => a.or(b),
        };
        self.first_time = join(self.first_time, other.first_time, &earlier);
        self.last_time = join(self.last_time, other.last_time, &later);
    }

    /// Lines that were commands.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Lines that were none.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Seconds from the first line to the last; `None` without two times.
    #[must_use]
    pub fn seconds(&self) -> Option<f64> {
        let (first, last) = (self.first_time?, self.last_time?);
        Some(last.seconds()? - first.seconds()?).filter(|seconds| *seconds > 0.0)
    }

    /// Nothing was read for a while.
    pub fn pause(&mut self) {
        self.since_pause = None;
    }

    /// Seconds from the first line after the last pause to the last.
    #[must_use]
    pub fn seconds_since_pause(&self) -> Option<f64> {
        Some(self.last_time?.seconds()? - self.since_pause?.seconds()?).filter(|seconds| *seconds > 0.0)
    }

    /// The heaviest keys.
    #[must_use]
    pub fn keys_seen(&self) -> &Sketch<KeyDetail> {
        &self.sketch
    }

    /// Keys with at least this share of the accesses, seen in so many seconds.
    pub(super) fn heavy_keys(&self, share_min: f64, seconds: f64) -> Vec<HeavyKey> {
        let total = self.sketch.total() as f64;
        let heavy = self.sketch.counts().map(|(hash, sure)| HeavyKey {
            hash,
            share: sure as f64 / total,
            per_second: if seconds > 0.0 { sure as f64 / seconds } else { 0.0 },
        });
        heavy.filter(|key| key.share >= share_min).collect()
    }

    /// The pattern of a key that is counted elsewhere.
    pub(super) fn learn(&mut self, key: &[u8]) -> PatternId {
        self.patterns.learn(key)
    }

    /// A pattern's name.
    #[must_use]
    pub fn pattern_name(&self, pattern: PatternId) -> String {
        self.patterns.name(pattern)
    }

    /// What has been learned of patterns.
    #[must_use]
    pub fn into_patterns(self) -> Patterns {
        self.patterns
    }

    /// Patterns with their use, most accessed first.
    #[must_use]
    pub fn patterns(&self) -> Vec<(String, PatternUse)> {
        let mut uses = std::collections::BTreeMap::<String, PatternUse>::new();
        for (place, seen) in self.uses.iter().enumerate().filter(|(_, seen)| seen.accesses > 0) {
            let sum = uses.entry(self.patterns.name(PatternId::at(place))).or_default();
            sum.accesses += seen.accesses;
            sum.writes += seen.writes;
        }
        let mut uses: Vec<(String, PatternUse)> = uses.into_iter().collect();
        uses.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.accesses));
        uses
    }

    /// Calls by command, most first.
    #[must_use]
    pub fn calls(&self) -> Vec<(String, u64)> {
        self.calls.by_name(&self.commands)
    }

    /// Clients, by host.
    #[must_use]
    pub fn clients(&self) -> &Clients<64> {
        &self.clients
    }

    /// The share of the hottest key; `None` without a single access.
    #[must_use]
    pub fn hottest(&self) -> Option<HotKeySample> {
        let (total, key) = (self.sketch.total(), *self.sketch.top(1).first()?);
        Some(HotKeySample {
            share: key.count as f64 / total as f64,
            accesses: total,
            write_ratio: Some((key.detail.writes as f64 / key.sure() as f64).min(1.0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::tests::line;
    use super::*;

    fn analysis() -> Analysis {
        Analysis::new(Arc::new(Commands::built_in()), Patterns::default())
    }

    fn shown(analysis: &Analysis) -> Vec<(String, u64, u64, u64)> {
        let shown = |watched: &super::super::sketch::Watched<KeyDetail>| {
            let key = String::from_utf8_lossy(&watched.key).into_owned();
            (key, watched.count, watched.detail.writes, watched.detail.clients.estimate().round() as u64)
        };
        analysis.keys_seen().top(20).into_iter().map(shown).collect()
    }

    #[test]
    fn accesses_are_counted_by_key_pattern_command_and_client() {
        let mut analysis = analysis();
        for index in 0..100_u8 {
            let host = format!("10.0.0.{}:5000", index % 4);
            let key = if index % 5 == 0 { format!("k:{index}") } else { "hot\n".to_owned() };
            analysis.line(&line(&host, &[if index % 2 == 0 { b"GET" } else { b"INCR" }, key.as_bytes()]));
            analysis.line(&line(&host, &[b"PING"]));
        }
        analysis.line(b"+OK\r\n");
        assert_eq!(shown(&analysis)[0], ("hot\n".to_owned(), 80, 40, 4));
        assert_eq!(shown(&analysis)[1], ("k:0".to_owned(), 1, 0, 1));
        let uses = [("*", 80, 40), ("k:*", 20, 10)];
        let uses = uses.map(|(name, accesses, writes)| (name.to_owned(), PatternUse { accesses, writes }));
        assert_eq!(analysis.patterns(), uses);
        let calls = [("PING", 100), ("GET", 50), ("INCR", 50)].map(|(name, calls)| (name.to_owned(), calls));
        assert_eq!(analysis.calls(), calls);
        assert_eq!((analysis.lines(), analysis.skipped()), (200, 1));
        assert_eq!(analysis.hottest(), Some(HotKeySample { share: 0.8, accesses: 100, write_ratio: Some(0.5) }));
        assert!(!format!("{analysis:?}").contains("k:5"), "no debug output shows a key");
    }

    #[test]
    fn nothing_seen_is_no_sample() {
        assert_eq!(analysis().hottest(), None);
    }

    #[test]
    fn a_scripts_keys_count_once() {
        let mut analysis = analysis();
        analysis.line(&line("10.0.0.1:1", &[b"EVAL", b"...", b"1", b"a"]));
        analysis.line(&line("lua", &[b"GET", b"a"]));
        analysis.line(&line("lua", &[b"GET", b"b"]));
        analysis.line(&line("10.0.0.1:1", &[b"PING"]));
        analysis.line(&line("lua", &[b"GET", b"a"]));
        assert_eq!(shown(&analysis), [("a".to_owned(), 2, 1, 1), ("b".to_owned(), 1, 0, 0)]);
    }

    #[test]
    fn lifetimes_and_sizes_are_those_last_written() {
        let mut analysis = analysis();
        for command in [&[&b"SET"[..], b"a", b"12345", b"EX", b"60"][..], &[b"SET", b"b", b"\x00\x01"], &[b"GET", b"a"]]
        {
            analysis.line(&line("10.0.0.1:1", command));
        }
        let top = analysis.keys_seen().top(2);
        assert_eq!((top[0].detail.lifetime, top[0].detail.value_bytes), (Some(Lifetime::Seconds(60.0)), Some(5)));
        assert_eq!((top[1].detail.lifetime, top[1].detail.value_bytes), (Some(Lifetime::Endless), Some(2)));
    }

    #[test]
    fn parts_say_what_the_whole_says() {
        let lines: Vec<Vec<u8>> = (0..4000_u32)
            .map(|index| {
                let rank = index.wrapping_mul(2_654_435_761) >> 16;
                let key = format!("item:{}:{}", ["x", "y"][rank as usize % 2], rank % (1 + index % 900));
                let host = format!("10.0.{}.1:80", index % 30);
                line(&host, &[if index % 3 == 0 { b"SET" } else { b"GET" }, key.as_bytes(), b"v"])
            })
            .collect();
        let (mut whole, mut first) = (analysis(), analysis());
        let mut second = first.part();
        for (index, line) in lines.iter().enumerate() {
            whole.line(line);
            if index % 2 == 0 { first.line(line) } else { second.line(line) }
        }
        first.merge(second);
        assert_eq!(first.patterns(), whole.patterns());
        assert_eq!(first.calls(), whole.calls());
        assert_eq!(first.clients().estimate(), whole.clients().estimate());
        assert_eq!(shown(&first), shown(&whole));
    }

    /// The keys, the calls and whatever else is shown.
    type Shown = (Vec<(String, u64, u64, u64)>, Vec<(String, PatternUse)>, Vec<(String, u64)>, u64, u64, Option<f64>);

    fn all_shown(analysis: &Analysis) -> Shown {
        let (lines, skipped, seconds) = (analysis.lines(), analysis.skipped(), analysis.seconds());
        (shown(analysis), analysis.patterns(), analysis.calls(), lines, skipped, seconds)
    }

    /// Lines of the usual kind are read in a way of their own.
    #[test]
    fn a_text_says_what_its_lines_say() {
        let commands: [&[&[u8]]; 12] = [
            &[b"GET", b"k:1"],
            &[b"set", b"k:2", b"v\n\"", b"EX", b"60"],
            &[b"SET", b"quoted\"", b"v"],
            &[b"GET"],
            &[b"DEL", b"k:1"],
            &[b"DEL", b"k:1", b"back\\slash"],
            &[b"PING"],
            &[b"EVAL", b"return \"1\"", b"2", b"k:1", b"k:4"],
            &[b"PERSIST", b"k:2"],
            &[b"SETEX", b"k:5", b"300", b"v"],
            &[b"MODULE.READ", b"k:6"],
            &[b"MGET", b"k:6", b"k:7"],
        ];
        let sources = ["10.0.0.1:5000", "lua", "unix:/a b", "[::1]:5", "lua"];
        let mut text = b"OK\n\n".to_vec();
        for index in 0..600_usize {
            let line = line(sources[index % 5], commands[index % 12]);
            let kept = if index % 50 == 49 { index % line.len() } else { line.len() };
            text.extend_from_slice(&line[..kept]);
            if kept < line.len() {
                text.push(b'\n');
            }
        }
        let (mut whole, mut by_line) = (analysis(), analysis());
        whole.read(&text);
        text.split_inclusive(|byte| *byte == b'\n').for_each(|line| by_line.line(line));
        assert_eq!(all_shown(&whole), all_shown(&by_line));
        let details = |analysis: &Analysis| {
            let top = analysis.keys_seen().top(20).into_iter();
            top.map(|watched| (watched.detail.lifetime, watched.detail.value_bytes)).collect::<Vec<_>>()
        };
        assert_eq!(details(&whole), details(&by_line));
        assert!(whole.lines() > 500 && whole.keys_seen().top(20).len() == 8);
    }
}
