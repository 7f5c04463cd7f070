//! Which arguments of a command are keys, and whether it reads or writes them.
//!
//! A command's keys are described the way servers describe them (`COMMAND`, key specifications): where a group of
//! keys begins and how far it goes. `commands.txt` describes the commands of Redis 8 and Valkey 9; a server that is
//! asked may describe more, and differently.

use std::collections::HashMap;
use std::ops::Range;

const BUILT_IN: &str = include_str!("commands.txt");

/// Commands that are named in no table and yet told apart in counts; the rest is counted together.
const UNKNOWN_MAX: usize = 64;

/// Longest name of such a command.
const NAME_BYTES_MAX: usize = 32;

/// Slots of the index by name: a power of two, well above the number of commands.
const SLOTS: usize = 2048;

/// One group of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// The command changes these keys.
    pub write: bool,
    /// Where the group begins.
    pub begin: Begin,
    /// How far it goes.
    pub find: Find,
}

/// Where a group of keys begins. The command is argument 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    At(usize),
    /// Behind this word, in any case, looked for from an argument on; backwards from the end if negative.
    Behind(String, i64),
}

/// How far a group of keys goes, counted from its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// Up to `last` (−1: the last argument), every `step`-th; with `limit` 2 only half of what is there.
    Range {
        /// Last key after the first, or from the end of the arguments if negative.
        last: i64,
        /// From one key to the next.
        step: usize,
        /// Divides what is there; 0 and 1 do not.
        limit: usize,
    },
    /// As many as an argument says.
    Counted {
        /// Where the number stands.
        number: usize,
        /// Where the first key stands.
        first: usize,
        /// From one key to the next.
        step: usize,
    },
}

impl KeySpec {
    /// The one key that most commands name first.
    const fn first(write: bool) -> Self {
        Self { write, begin: Begin::At(1), find: Find::Range { last: 0, step: 1, limit: 0 } }
    }

    /// A position as the table writes it: `r1`, `w1..-1/2`, `r#1`, `wSTORE@6`.
    fn parse(text: &str) -> Option<Self> {
        let (access, text) = text.split_at_checked(1)?;
        let write = match access {
            "r" => false,
            "w" => true,
            _ => return None,
        };
        if let Some(counted) = text.strip_prefix('#') {
            let (at, step) = counted.split_once('/').unwrap_or((counted, "1"));
            let find = Find::Counted { number: 0, first: 1, step: step.parse().ok()? };
            return Some(Self { write, begin: Begin::At(at.parse().ok()?), find });
        }
        let (begin, range) = text.split_once("..").unwrap_or((text, "0"));
        let begin = match begin.split_once('@') {
            Some((word, from)) => Begin::Behind(word.to_owned(), from.parse().ok()?),
            None => Begin::At(begin.parse().ok()?),
        };
        let (range, limit) = range.split_once('%').unwrap_or((range, "0"));
        let (last, step) = range.split_once('/').unwrap_or((range, "1"));
        let find = Find::Range { last: last.parse().ok()?, step: step.parse().ok()?, limit: limit.parse().ok()? };
        Some(Self { write, begin, find })
    }

    /// The only key is argument 1, if need be because there is no other.
    fn is_first_only(&self, alone: bool) -> bool {
        matches!(self.begin, Begin::At(1))
            && match self.find {
                Find::Range { last, limit, .. } => last == 0 || alone && last == -1 && limit <= 1,
                Find::Counted { .. } => false,
            }
    }

    /// Positions of the keys among `count` arguments, the command included; never past the last of them.
    fn positions<'a>(&self, count: usize, argument: impl Fn(usize) -> &'a [u8]) -> (Range<usize>, usize) {
        let begin = match &self.begin {
            Begin::At(at) => *at,
            Begin::Behind(word, from) => {
                let is_it = |at: &usize| argument(*at).eq_ignore_ascii_case(word.as_bytes());
                let from_end = count.saturating_sub(usize::try_from(from.unsigned_abs()).unwrap_or(usize::MAX));
                let found = match usize::try_from(*from) {
                    Ok(from) => (from.max(1)..count).find(is_it),
                    Err(_) => (1..count.min(from_end + 1)).rev().find(is_it),
                };
                found.map_or(count, |at| at + 1)
            }
        };
        if begin >= count {
            return (0..0, 1);
        }
        match self.find {
            Find::Range { last, step, limit } => {
                let end = match usize::try_from(last) {
                    Ok(last) => begin.saturating_add(last).saturating_add(1),
                    Err(_) if limit > 1 => begin + (count - begin) / limit,
                    Err(_) => (count + 1).saturating_sub(usize::try_from(last.unsigned_abs()).unwrap_or(usize::MAX)),
                };
                (begin..end.min(count), step.max(1))
            }
            Find::Counted { number, first, step } => {
                let said = begin.saturating_add(number);
                let keys = if said < count { std::str::from_utf8(argument(said)).ok() } else { None };
                let keys: usize = keys.and_then(|keys| keys.parse().ok()).unwrap_or(0);
                let first = begin.saturating_add(first);
                (first.min(count)..first.saturating_add(keys.saturating_mul(step.max(1))).min(count), step.max(1))
            }
        }
    }
}

/// A command, by its place in the table it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandId(u16);

impl CommandId {
    /// As a place in a list.
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Commands and their keys.
#[derive(Debug, Clone)]
pub struct Commands {
    names: Vec<Box<[u8]>>,
    digests: Vec<Digest>,
    specs: Vec<Vec<KeySpec>>,
    /// Place + 1 of the command whose name falls here, by open addressing; 0: none.
    slots: Vec<u16>,
}

/// What a command that no table names is taken for: most name their one key first.
static UNKNOWN: [KeySpec; 1] = [KeySpec::first(false)];

impl Commands {
    /// The built-in table.
    #[must_use]
    pub fn built_in() -> Self {
        let mut commands = Self { names: Vec::new(), digests: Vec::new(), specs: Vec::new(), slots: vec![0; SLOTS] };
        for line in BUILT_IN.lines().filter(|line| !line.starts_with('#')) {
            let Some((specs, names)) = line.split_once(": ") else { continue };
            let specs: Vec<KeySpec> = specs.split(' ').filter_map(KeySpec::parse).collect();
            for name in names.split(' ') {
                commands.define(name, specs.clone());
            }
        }
        commands
    }

    /// Adds a command, or describes it anew. A table that is full stays as it is.
    pub fn define(&mut self, name: &str, specs: Vec<KeySpec>) {
        let name = name.to_ascii_lowercase().into_bytes();
        if let Some(CommandId(known)) = self.find(&name) {
            self.specs[known as usize] = specs;
        } else if self.names.len() < SLOTS / 2 {
            let digest = Digest::of(&name);
            let mut slot = digest.slot();
            while self.slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            self.names.push(name.into());
            self.digests.push(digest);
            self.specs.push(specs);
            self.slots[slot] = self.names.len() as u16;
        }
    }

    /// The command of this name, in any case.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let digest = Digest::of(name);
        let mut slot = digest.slot();
        loop {
            let place = self.slots[slot].checked_sub(1)?;
            let same = self.digests[place as usize] == digest;
            if same && (digest.is_whole() || self.names[place as usize].eq_ignore_ascii_case(name)) {
                return Some(CommandId(place));
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Its name, in capitals.
    #[must_use]
    pub fn name(&self, CommandId(command): CommandId) -> String {
        String::from_utf8_lossy(&self.names[command as usize]).to_ascii_uppercase()
    }

    /// Whether its only key is its first argument, and if so whether it writes it: what can be read without looking
    /// at the other arguments. `alone`: there are no others.
    #[must_use]
    pub fn only_first(&self, command: Option<CommandId>, alone: bool) -> Option<bool> {
        match self.specs(command) {
            [only] if only.is_first_only(alone) => Some(only.write),
            _ => None,
        }
    }

    /// Shows the position of every key of a command among its `count` arguments, itself included, and whether it is
    /// written.
    pub fn keys<'a>(
        &self,
        command: Option<CommandId>,
        count: usize,
        argument: impl Fn(usize) -> &'a [u8],
        mut show: impl FnMut(usize, bool),
    ) {
        for spec in self.specs(command) {
            let (range, step) = spec.positions(count, &argument);
            range.step_by(step).for_each(|at| show(at, spec.write));
        }
    }

    fn specs(&self, command: Option<CommandId>) -> &[KeySpec] {
        command.map_or(&UNKNOWN, |CommandId(command)| &self.specs[command as usize])
    }
}

/// A name in lower case: its first and its last eight bytes, which may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest {
    first: u64,
    last: u64,
    length: usize,
}

impl Digest {
    fn of(name: &[u8]) -> Self {
        let word = |bytes: [u8; 8]| u64::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase()));
        let half = |bytes: [u8; 4]| u64::from(u32::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase())));
        let (first, last) = match (name.first_chunk(), name.last_chunk(), name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last), ..) => (word(*first), word(*last)),
            (_, _, Some(first), Some(last)) => (half(*first), half(*last)),
            _ => (name.iter().fold(0, |word, byte| word << 8 | u64::from(byte.to_ascii_lowercase())), 0),
        };
        Self { first, last, length: name.len() }
    }

    /// It holds every byte of the name.
    fn is_whole(self) -> bool {
        self.length <= 16
    }

    /// Cheap, and good enough for a few hundred names that nobody chooses against us.
    fn slot(self) -> usize {
        let hash = (self.first ^ self.last.rotate_left(29) ^ self.length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (hash >> 32) as usize % SLOTS
    }
}

/// How often each command was called.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    known: Vec<u64>,
    unknown: HashMap<Vec<u8>, u64>,
    others: u64,
}

impl Calls {
    /// Counts a call.
    pub fn count(&mut self, command: Option<CommandId>, name: &[u8]) {
        match command {
            Some(CommandId(command)) => {
                let command = command as usize;
                if self.known.len() <= command {
                    self.known.resize(command + 1, 0);
                }
                self.known[command] += 1;
            }
            None => self.count_unknown(&name.to_ascii_uppercase(), 1),
        }
    }

    fn count_unknown(&mut self, name: &[u8], calls: u64) {
        let presentable = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'|');
        let fits = name.len() <= NAME_BYTES_MAX && !name.is_empty() && name.iter().all(presentable);
        if let Some(count) = self.unknown.get_mut(name) {
            *count += calls;
        } else if fits && self.unknown.len() < UNKNOWN_MAX {
            self.unknown.insert(name.to_vec(), calls);
        } else {
            self.others += calls;
        }
    }

    /// Adds the calls of another part of the stream, counted by the same table.
    pub fn merge(&mut self, other: &Self) {
        self.known.resize(self.known.len().max(other.known.len()), 0);
        for (ours, theirs) in self.known.iter_mut().zip(&other.known) {
            *ours += theirs;
        }
        for (name, calls) in &other.unknown {
            self.count_unknown(name, *calls);
        }
        self.others += other.others;
    }

    /// Calls by name, most first; what could not be told apart is called `other`.
    #[must_use]
    pub fn by_name(&self, commands: &Commands) -> Vec<(String, u64)> {
        let known =
            self.known.iter().enumerate().map(|(place, calls)| (commands.name(CommandId(place as u16)), *calls));
        let unknown = self.unknown.iter().map(|(name, calls)| (String::from_utf8_lossy(name).into_owned(), *calls));
        let all = known.chain(unknown).chain([("other".to_owned(), self.others)]);
        let mut all: Vec<(String, u64)> = all.filter(|(_, calls)| *calls > 0).collect();
        all.sort_unstable_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of a command line; those that are written with a `!` behind.
    fn keys(line: &str) -> String {
        let commands = Commands::built_in();
        let arguments: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut found = Vec::new();
        let show = |at: usize, write| {
            found.push(format!("{}{}", line.split(' ').nth(at).unwrap(), if write { "!" } else { "" }))
        };
        commands.keys(commands.find(arguments[0]), arguments.len(), |at| arguments[at], show);
        found.join(" ")
    }

    #[test]
    fn the_table_is_well_formed() {
        let mut names = std::collections::BTreeSet::new();
        for line in BUILT_IN.lines().filter(|line| !line.starts_with('#')) {
            let (specs, commands) = line.split_once(": ").expect(line);
            assert!(specs == "-" || specs.split(' ').all(|spec| KeySpec::parse(spec).is_some()), "{line}");
            assert!(commands.split(' ').all(|name| names.insert(name)), "{line}");
        }
        assert!(names.len() > 250);
    }

    #[test]
    fn keys_are_where_the_command_has_them() {
        for (line, expected) in [
            ("GET k", "k"),
            ("get k", "k"),
            ("GeT k", "k"),
            ("SET k v EX 10", "k!"),
            ("INCR k", "k!"),
            ("HGETALL k", "k"),
            ("JSON.GET k $", "k"),
            ("MGET a b c", "a b c"),
            ("DEL a b", "a! b!"),
            ("UNLINK a a", "a! a!"),
            ("MSET a 1 b 2", "a! b!"),
            ("MSETEX 2 a 1 b 2 EX 9", "a! b!"),
            ("BITOP AND to from1 from2", "to! from1 from2"),
            ("OBJECT FREQ k", "k"),
            ("MEMORY USAGE k", "k"),
            ("MEMORY DOCTOR", ""),
            ("EVAL script 2 a b c", "a! b!"),
            ("EVALSHA_RO sha 1 a b", "a"),
            ("EVAL script 0", ""),
            ("EVAL script many a", ""),
            ("FCALL f 1 a", "a!"),
            ("XREAD COUNT 5 STREAMS a b 0 0", "a b"),
            ("XREADGROUP GROUP g streams COUNT 1 streams a b > >", "a b"),
            ("XADD s * f v", "s!"),
            ("XGROUP CREATE s g $", "s!"),
            ("BLPOP a b 0", "a! b!"),
            ("BLMPOP 0 2 a b LEFT", "a! b!"),
            ("LMPOP 1 a LEFT", "a!"),
            ("LMOVE a b LEFT RIGHT", "a! b!"),
            ("COPY a b", "a b!"),
            ("SORT a BY w STORE b", "a b!"),
            ("SORT a", "a"),
            ("SUNIONSTORE to a b", "to! a b"),
            ("ZUNIONSTORE to 2 a b WEIGHTS 1 2", "to! a b"),
            ("ZINTER 2 a b", "a b"),
            ("GEORADIUS g 1 2 3 km STORE to", "g to!"),
            ("MIGRATE h 1 k 0 9", "k!"),
            ("MIGRATE h 1 - 0 9 KEYS a b", "-! a! b!"),
            ("LCS a b", "a b"),
            ("INFO commandstats", ""),
            ("CLIENT SETNAME cache-storm-exporter", ""),
            ("WAIT 2147483647 1000", ""),
            ("WATCH a", ""),
            ("GET", ""),
            ("MGET", ""),
            ("XREAD STREAMS", ""),
            ("ZUNIONSTORE to 99999999999999999999 a", "to!"),
            ("ZUNIONSTORE to 9999999999 a", "to! a"),
        ] {
            assert_eq!(keys(line), expected, "{line}");
        }
    }

    #[test]
    fn a_server_may_know_better() {
        let mut commands = Commands::built_in();
        commands.define("FT.SEARCH", Vec::new());
        let show = |_, _| panic!("no key");
        commands.keys(commands.find(b"ft.search"), 2, |_| b"index", show);
        assert_eq!(commands.only_first(commands.find(b"get"), false), Some(false));
        commands.define("GET", vec![KeySpec::first(true)]);
        assert_eq!(commands.only_first(commands.find(b"get"), false), Some(true));
        let of = |name: &[u8], alone| commands.only_first(commands.find(name), alone);
        assert_eq!(["del", "mget"].map(|name| of(name.as_bytes(), true)), [Some(true), Some(false)]);
        for (name, alone) in [("del", false), ("msetnx", false), ("eval", true), ("bitop", true), ("blpop", true)] {
            assert_eq!(of(name.as_bytes(), alone), None, "{name}");
        }
    }

    #[test]
    fn calls_are_counted_by_name_within_bounds() {
        let (commands, mut calls) = (Commands::built_in(), Calls::default());
        for name in ["GET", "get", "SET", "JSON.GET", "json.get", "json.get", "<script>"] {
            calls.count(commands.find(name.as_bytes()), name.as_bytes());
        }
        let expected =
            [("JSON.GET", 3), ("GET", 2), ("SET", 1), ("other", 1)].map(|(name, calls)| (name.to_owned(), calls));
        assert_eq!(calls.by_name(&commands), expected);
        let mut many = Calls::default();
        (0..1000).for_each(|index| many.count(None, format!("X{index}").as_bytes()));
        many.merge(&calls);
        assert!(many.by_name(&commands).len() <= UNKNOWN_MAX + 3);
        assert_eq!(many.by_name(&commands).iter().map(|(_, calls)| calls).sum::<u64>(), 1007);
    }
}
