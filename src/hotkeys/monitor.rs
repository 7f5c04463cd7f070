//! Lines of `MONITOR` as accesses to keys: exact counts, for as long as one sample lasts.
//!
//! `+1700000000.123456 [0 127.0.0.1:5000] "GET" "key\x00"`, or `[0 lua]` for what a script calls. Reading never
//! fails: whatever is no such line is no access. Of a key no more than a hash is kept, under a secret of the
//! sample's own; values are passed over.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::detect::verdict::HotKeySample;

/// Which arguments of a command are keys. The command is 0, its arguments count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Keys {
    first: usize,
    step: usize,
    last: usize,
}

const NONE: Keys = Keys { first: 1, step: 1, last: 0 };
const FIRST: Keys = Keys { first: 1, step: 1, last: 1 };
const SECOND: Keys = Keys { first: 2, step: 1, last: 2 };
const ALL: Keys = Keys { first: 1, step: 1, last: usize::MAX };
const ALL_BUT_FIRST: Keys = Keys { first: 2, step: 1, last: usize::MAX };
const EVERY_OTHER: Keys = Keys { first: 1, step: 2, last: usize::MAX };

/// Commands that do not simply name their one key first, in lower case. Scripts are among those without keys:
/// what they call comes in lines of its own. So are commands that count their keys or name them behind
/// `STREAMS`: caches do not live on them.
#[rustfmt::skip]
const EXCEPTIONS: &[(Keys, &[&str])] = &[
    (NONE, &[
        "acl", "asking", "auth", "bgrewriteaof", "bgsave", "blmpop", "bzmpop", "client", "cluster", "command",
        "commandlog", "config", "dbsize", "debug", "discard", "echo", "eval", "eval_ro", "evalsha", "evalsha_ro",
        "exec", "failover", "fcall", "fcall_ro", "flushall", "flushdb", "function", "hello", "hotkeys", "info",
        "keys", "lastsave", "latency", "lmpop", "lolwut", "migrate", "module", "monitor", "multi", "ping",
        "psubscribe", "psync", "publish", "pubsub", "punsubscribe", "quit", "randomkey", "readonly", "readwrite",
        "replconf", "replicaof", "reset", "role", "save", "scan", "script", "select", "sentinel", "shutdown",
        "sintercard", "slaveof", "slowlog", "spublish", "ssubscribe", "subscribe", "sunsubscribe", "swapdb", "sync",
        "time", "unsubscribe", "unwatch", "wait", "waitaof", "watch", "xread", "xreadgroup", "zdiff", "zinter",
        "zintercard", "zmpop", "zunion",
    ]),
    (SECOND, &["memory", "object", "xgroup", "xinfo"]),
    (ALL, &[
        "del", "exists", "mget", "pfcount", "pfmerge", "sdiff", "sdiffstore", "sinter", "sinterstore", "sunion",
        "sunionstore", "touch", "unlink",
    ]),
    (ALL_BUT_FIRST, &["bitop"]),
    (EVERY_OTHER, &["mset", "msetnx"]),
];

/// How often each key of one sample was accessed. Bounded by the feed: a key takes at least three of its bytes.
#[derive(Debug, Default)]
pub(crate) struct Accesses {
    hasher: RandomState,
    counts: HashMap<u64, u32>,
    total: u64,
    /// Reused from line to line.
    argument: Vec<u8>,
}

impl Accesses {
    /// Counts the keys of one line.
    pub(crate) fn count(&mut self, line: &[u8]) {
        let Self { hasher, counts, total, argument } = self;
        for_each_key(line, argument, |key| {
            *total += 1;
            *counts.entry(hasher.hash_one(key)).or_default() += 1;
        });
    }

    /// The share of the hottest key; `None` without a single access.
    pub(crate) fn hottest(&self) -> Option<HotKeySample> {
        let most = self.counts.values().max()?;
        Some(HotKeySample { share: f64::from(*most) / self.total as f64, accesses: self.total })
    }
}

/// Shows every key that the line's command accesses, unescaped; `argument` is room to unescape in.
fn for_each_key(line: &[u8], argument: &mut Vec<u8>, mut show: impl FnMut(&[u8])) {
    let Some(mut rest) = after_source(line).and_then(|command| unquote(command, argument)) else { return };
    let keys = keys_of(argument);
    for position in 1..=keys.last {
        let Some(after) = unquote(rest, argument) else { return };
        rest = after;
        if position >= keys.first && (position - keys.first).is_multiple_of(keys.step) {
            show(argument);
        }
    }
}

fn keys_of(command: &[u8]) -> Keys {
    let named = |name: &&str| command.eq_ignore_ascii_case(name.as_bytes());
    EXCEPTIONS.iter().find(|(_, names)| names.iter().any(named)).map_or(FIRST, |(keys, _)| *keys)
}

/// What follows `+1700000000.123456 [0 127.0.0.1:5000]`. The source may be `lua` or `unix:/path`, but holds no
/// blank after the one behind the database.
fn after_source(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"+")?;
    let bracket = rest.iter().position(|byte| *byte == b'[')?;
    let (time, source) = rest.split_at(bracket);
    let is_time = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b' ');
    let end = source.windows(2).position(|pair| pair == b"] ")?;
    time.iter().all(is_time).then_some(&source[end + 1..])
}

/// Unescapes the next argument into `into` and returns what follows it; `None` at the line's end, and where the
/// line is cut or is none of ours.
fn unquote<'a>(line: &'a [u8], into: &mut Vec<u8>) -> Option<&'a [u8]> {
    into.clear();
    let mut rest = line.strip_prefix(b" \"")?;
    loop {
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        into.extend_from_slice(&rest[..plain]);
        if rest[plain] == b'"' {
            return Some(&rest[plain + 1..]);
        }
        let (escape, after) = rest[plain + 1..].split_first()?;
        rest = after;
        into.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'a' => 0x07,
            b'b' => 0x08,
            b'x' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            itself => *itself,
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn keys(line: impl AsRef<[u8]>) -> Vec<String> {
        let mut found = Vec::new();
        for_each_key(line.as_ref(), &mut Vec::new(), |key| found.push(String::from_utf8_lossy(key).into_owned()));
        found
    }

    /// A command as the server writes it.
    fn line(source: &str, arguments: &[&[u8]]) -> Vec<u8> {
        let mut line = format!("+1700000000.123456 [0 {source}]").into_bytes();
        for argument in arguments {
            line.extend_from_slice(b" \"");
            for byte in *argument {
                match byte {
                    b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
                    b'\n' => line.extend_from_slice(b"\\n"),
                    b'\r' => line.extend_from_slice(b"\\r"),
                    b'\t' => line.extend_from_slice(b"\\t"),
                    0x07 => line.extend_from_slice(b"\\a"),
                    0x08 => line.extend_from_slice(b"\\b"),
                    byte if byte.is_ascii_graphic() || *byte == b' ' => line.push(*byte),
                    byte => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                }
            }
            line.push(b'"');
        }
        line.extend_from_slice(b"\r\n");
        line
    }

    #[test]
    fn keys_are_where_the_command_has_them() {
        for (command, expected) in [
            (r#""GET" "k""#, &["k"][..]),
            (r#""get" "k""#, &["k"]),
            (r#""SET" "k" "v" "EX" "10""#, &["k"]),
            (r#""JSON.GET" "k" "$""#, &["k"]),
            (r#""MGET" "a" "b" "c""#, &["a", "b", "c"]),
            (r#""UNLINK" "a" "a""#, &["a", "a"]),
            (r#""MSET" "a" "1" "b" "2""#, &["a", "b"]),
            (r#""BITOP" "AND" "to" "from""#, &["to", "from"]),
            (r#""OBJECT" "FREQ" "k""#, &["k"]),
            (r#""INFO" "commandstats""#, &[]),
            (r#""CLIENT" "SETNAME" "cache-storm-exporter""#, &[]),
            (r#""EVAL" "return 1" "1" "k""#, &[]),
            (r#""WAIT" "2147483647" "1000""#, &[]),
            (r#""GET""#, &[]),
            (r#""""#, &[]),
            (r#""GET" """#, &[""]),
        ] {
            assert_eq!(keys(format!("+1700000000.123456 [0 127.0.0.1:5000] {command}\r\n")), expected, "{command}");
        }
    }

    #[test]
    fn every_source_is_read() {
        for source in ["127.0.0.1:5000", "[::1]:5000", "lua", "unix:/run/redis.sock"] {
            assert_eq!(keys(line(source, &[b"GET", b"k"])), ["k"], "{source}");
        }
    }

    #[test]
    fn what_is_no_such_line_is_no_access() {
        for text in [
            "",
            "+OK\r\n",
            ":0\r\n",
            "-NOPERM \"GET\" \"k\"",
            "+[0 lua] ",
            "+17 [0 lua]\"GET\" \"k\"",
            "+now [0 lua] \"GET\" \"k\"",
            r#"+17 [0 lua] "GET" "k"#,
            r#"+17 [0 lua] "GET" "\x0"#,
            r#"+17 [0 lua] "GET" "\xzz""#,
            r#"+17 [0 lua] "GET" "k\"#,
        ] {
            assert!(keys(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_hottest_key_is_a_share_of_all_accesses() {
        let mut accesses = Accesses::default();
        assert_eq!(accesses.hottest(), None);
        for index in 0..100_u32 {
            let key = if index % 5 == 0 { format!("k:{index}") } else { "hot".to_owned() };
            accesses.count(&line("lua", &[b"GET", key.as_bytes()]));
            accesses.count(&line("lua", &[b"PING"]));
        }
        assert_eq!(accesses.hottest(), Some(HotKeySample { share: 0.8, accesses: 100 }));
        assert!(!format!("{accesses:?}").contains("k:"), "keys are not kept");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300)) {
            keys(&bytes);
            let mut cut = b"+1700000000.1 [0 lua] \"MGET\" \"".to_vec();
            cut.extend_from_slice(&bytes);
            keys(&cut);
        }

        #[test]
        fn a_key_is_read_back_as_it_was(key in vec(any::<u8>(), 0..100)) {
            let mut found = Vec::new();
            for_each_key(&line("lua", &[b"GET", &key]), &mut Vec::new(), |key| found.push(key.to_vec()));
            prop_assert_eq!(found, [key]);
        }
    }
}
