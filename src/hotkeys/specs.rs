//! The reply to `COMMAND` as descriptions of keys.
//!
//! Each command is a list: name, arity, flags, first key, last key, step, ACL categories, and from 7.0 on tips, key
//! specifications and subcommands.

use super::commands::{Begin, Commands, Find, KeySpec};
use crate::wire::Reply;

/// Announces accesses and makes none, whatever servers call its arguments.
const ANNOUNCEMENT: &str = "watch";

/// Describes every command as the server does. One that the server describes incompletely (`SORT`), or by its
/// subcommands, stays as the built-in table has it.
pub(super) fn adopt(commands: &mut Commands, reply: &Reply) {
    for command in reply.items() {
        let fields = command.items();
        let (Some(name), Some(specs)) = (fields.first().and_then(Reply::text), specs(fields)) else { continue };
        let known = commands.find(name.as_bytes()).is_some();
        if !(name.eq_ignore_ascii_case(ANNOUNCEMENT) || known && specs.is_empty()) {
            commands.define(name, specs);
        }
    }
}

fn specs(fields: &[Reply]) -> Option<Vec<KeySpec>> {
    let flags: Vec<&str> = fields.get(2)?.items().iter().filter_map(Reply::text).collect();
    let write = !flags.contains(&"readonly");
    if let Some(described) = fields.get(8) {
        return described.items().iter().map(|spec| modern(spec, write)).collect();
    }
    let number = |at: usize| fields.get(at).and_then(Reply::integer);
    let (first, last, step) = (usize::try_from(number(3)?).ok()?, number(4)?, usize::try_from(number(5)?).ok()?);
    if first == 0 {
        return (!flags.contains(&"movablekeys")).then(Vec::new);
    }
    // `last` counts from the command; a range counts from its begin.
    let last = if last < 0 { last } else { last - i64::try_from(first).ok()? };
    Some(vec![KeySpec { write, begin: Begin::At(first), find: Find::Range { last, step, limit: 0 } }])
}

/// One key specification: a list of names and values.
fn modern(spec: &Reply, command_writes: bool) -> Option<KeySpec> {
    let flags: Vec<&str> = spec.field("flags")?.items().iter().filter_map(Reply::text).collect();
    let write = command_writes && !flags.contains(&"RO");
    let (begin, find) = (spec.field("begin_search")?, spec.field("find_keys")?);
    let number = |tree: &Reply, name: &str| tree.field("spec")?.field(name)?.integer();
    let place = |tree: &Reply, name: &str| usize::try_from(number(tree, name)?).ok();
    let begin = match begin.field("type")?.text()? {
        "index" => Begin::At(place(begin, "index")?),
        "keyword" => {
            let word = begin.field("spec")?.field("keyword")?.text()?.to_owned();
            Begin::Behind(word, number(begin, "startfrom")?)
        }
        _ => return None,
    };
    let find = match find.field("type")?.text()? {
        "range" => {
            Find::Range { last: number(find, "lastkey")?, step: place(find, "keystep")?, limit: place(find, "limit")? }
        }
        "keynum" => Find::Counted {
            number: place(find, "keynumidx")?,
            first: place(find, "firstkey")?,
            step: place(find, "keystep")?,
        },
        _ => return None,
    };
    Some(KeySpec { write, begin, find })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply from Redis-like JSON: lists, texts, numbers.
    fn tree(value: &serde_json::Value) -> Reply {
        match value {
            serde_json::Value::Array(items) => Reply::Array(items.iter().map(tree).collect()),
            serde_json::Value::Object(entries) => {
                let pairs = entries.iter().flat_map(|(name, value)| [Reply::Text(name.clone()), tree(value)]);
                Reply::Array(pairs.collect())
            }
            serde_json::Value::Number(number) => Reply::Integer(number.as_i64().unwrap()),
            serde_json::Value::String(text) => Reply::Text(text.clone()),
            _ => Reply::Null,
        }
    }

    fn keys(commands: &Commands, line: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        let mut found = Vec::new();
        let show = |at: usize, write| found.push(format!("{}{}", arguments[at], if write { "!" } else { "" }));
        commands.keys(commands.find(arguments[0].as_bytes()), arguments.len(), |at| arguments[at].as_bytes(), show);
        found.join(" ")
    }

    #[test]
    fn the_servers_words_are_understood() {
        let range =
            |last: i64| serde_json::json!({"type": "range", "spec": {"lastkey": last, "keystep": 1, "limit": 0}});
        let at = |index: i64| serde_json::json!({"type": "index", "spec": {"index": index}});
        let reply = serde_json::json!([
            ["mod.copy", -3, ["write"], 1, 2, 1, [], [], [
                {"flags": ["RO", "access"], "begin_search": at(1), "find_keys": range(0)},
                {"flags": ["OW", "update"], "begin_search": at(2), "find_keys": range(0)},
            ], []],
            ["mod.count", -2, ["readonly"], 1, -1, 1, [], [], [
                {"flags": ["RW"], "begin_search": at(1), "find_keys": range(-1)},
            ], []],
            ["mod.read", -3, ["readonly"], 0, 0, 0, [], [], [
                {"flags": ["RO"], "begin_search": {"type": "keyword", "spec": {"keyword": "FROM", "startfrom": 1}},
                 "find_keys": {"type": "keynum", "spec": {"keynumidx": 0, "firstkey": 1, "keystep": 1}}},
            ], []],
            ["sort", -2, ["write"], 1, 1, 1, [], [], [
                {"flags": ["RO"], "begin_search": at(1), "find_keys": range(0)},
                {"flags": ["OW"], "begin_search": {"type": "unknown", "spec": {}}, "find_keys": {"type": "unknown", "spec": {}}},
            ], []],
            ["object", -2, [], 0, 0, 0, [], [], [], [["object|freq"]]],
            ["watch", -2, [], 1, -1, 1, [], [], [{"flags": ["RO"], "begin_search": at(1), "find_keys": range(-1)}], []],
            ["old.mset", -3, ["write"], 1, -1, 2],
            ["old.one", 2, ["readonly"], 2, 2, 1],
            ["old.none", 1, ["readonly"], 0, 0, 0],
            "not a command",
        ]);
        let mut commands = Commands::built_in();
        adopt(&mut commands, &tree(&reply));
        for (line, expected) in [
            ("MOD.COPY a b", "a b!"),
            ("MOD.COUNT a b", "a b"),
            ("MOD.READ x from 2 a b c", "a b"),
            ("SORT a STORE b", "a b!"),
            ("OBJECT FREQ a", "a"),
            ("WATCH a", ""),
            ("OLD.MSET a 1 b 2", "a! b!"),
            ("OLD.ONE x a", "a"),
            ("OLD.NONE a", ""),
            ("GET a", "a"),
        ] {
            assert_eq!(keys(&commands, line), expected, "{line}");
        }
    }
}
