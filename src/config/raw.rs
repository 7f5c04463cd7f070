//! What was written: untyped values that know who wrote them, and the cursors that read them.
//!
//! Reading never stops at a fault. A cursor notes it and yields nothing, so that one run reports a
//! misspelt key, a wrong type and a missing file together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use humantime_serde::re::humantime;

use super::errors::{Origin, Problems};

/// A value as written. Has no `Debug`: it may hold a password.
pub(super) struct Raw {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// The shapes a value can have in YAML, TOML and the environment alike.
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Raw>),
    Map(BTreeMap<String, Raw>),
}

impl Value {
    fn asks_for_nothing(&self) -> bool {
        match self {
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// One value at its place.
pub(super) struct Item<'a> {
    raw: &'a Raw,
    key: String,
    problems: &'a Problems,
}

impl<'a> Item<'a> {
    /// The top of the tree.
    pub(super) fn root(raw: &'a Raw, problems: &'a Problems) -> Self {
        Self { raw, key: String::new(), problems }
    }

    /// Notes a fault of this value.
    pub(super) fn reject(&self, problem: impl Into<String>) {
        self.problems.note(&self.raw.origin, &self.key, problem);
    }

    /// The value is of the wrong shape. Says which, and never the value: it may be a secret.
    fn mistyped<T>(&self, expected: &str) -> Option<T> {
        self.reject(format!("is {}, expected {expected}", self.raw.value.kind()));
        None
    }

    /// Text; `expected` completes "is a number, expected …".
    pub(super) fn text(&self, expected: &str) -> Option<&'a str> {
        match &self.raw.value {
            Value::Text(text) => Some(text),
            _ => self.mistyped(expected),
        }
    }

    /// A number between `min` and `max`, both included; `meaning` goes into the error.
    pub(super) fn number(&self, min: f64, max: f64, meaning: &str) -> Option<f64> {
        let number = match (&self.raw.value, &self.raw.origin) {
            (Value::Number(number), _) => Some(*number),
            // The environment knows only text.
            (Value::Text(text), Origin::Variable(_)) => text.trim().parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            return self.mistyped(&format!("a number from {min} to {max} ({meaning})"));
        };
        if !(min..=max).contains(&number) {
            self.reject(format!("{number} is out of range, expected {min} to {max} ({meaning})"));
            return None;
        }
        Some(number)
    }

    /// A whole number between `min` and `max`, both included; `meaning` goes into the error.
    pub(super) fn whole(&self, min: u32, max: u32, meaning: &str) -> Option<u32> {
        let number = self.number(f64::from(min), f64::from(max), meaning)?;
        if number.fract() != 0.0 {
            self.reject(format!("{number} is not whole, expected {min} to {max} ({meaning})"));
            return None;
        }
        Some(number as u32)
    }

    /// True or false.
    pub(super) fn flag(&self) -> Option<bool> {
        match (&self.raw.value, &self.raw.origin) {
            (Value::Bool(flag), _) => Some(*flag),
            // The environment knows only text.
            (Value::Text(text), Origin::Variable(_)) if text == "true" => Some(true),
            (Value::Text(text), Origin::Variable(_)) if text == "false" => Some(false),
            _ => self.mistyped("true or false"),
        }
    }

    /// A duration with its unit, between `min` and `max`, both included.
    pub(super) fn duration(&self, min: Duration, max: Duration) -> Option<Duration> {
        let range = format!("{} to {}", humantime::format_duration(min), humantime::format_duration(max));
        let (text, number) = match &self.raw.value {
            Value::Text(text) => (text.trim(), text.trim().parse().ok()),
            Value::Number(number) => ("", Some(*number)),
            _ => return self.mistyped(&format!("a duration such as \"5s\", from {range}")),
        };
        // No unit makes a duration of what is negative or endless.
        if let Some(number) = number.filter(|number| (0.0..f64::INFINITY).contains(number)) {
            self.reject(format!("a duration needs its unit: write \"{number}s\""));
            return None;
        }
        let Ok(duration) = humantime::parse_duration(text) else {
            self.reject(format!("is not a duration, expected one such as \"5s\" or \"1m 30s\", from {range}"));
            return None;
        };
        if !(min..=max).contains(&duration) {
            let written = humantime::format_duration(duration);
            self.reject(format!("{written} is out of range, expected {range}"));
            return None;
        }
        Some(duration)
    }

    /// Whether it was given on the command line.
    pub(super) fn is_flag(&self) -> bool {
        matches!(self.raw.origin, Origin::Flag(_))
    }

    /// The option that the text spells.
    pub(super) fn choice<T: Copy>(&self, options: &[(&str, T)]) -> Option<T> {
        let names = options.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let text = self.text(&format!("one of {names}"))?;
        let found = options.iter().find(|(name, _)| *name == text).map(|(_, option)| *option);
        if found.is_none() {
            self.reject(format!("is none of the choices, expected one of {names}"));
        }
        found
    }

    /// A path; a relative one starts at the folder of the file it is written in, otherwise at the
    /// working directory.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text("the path of a file")?;
        if text.is_empty() {
            self.reject("is empty, expected the path of a file");
            return None;
        }
        let folder = match &self.raw.origin {
            Origin::File(file) => file.parent(),
            _ => None,
        };
        Some(folder.map_or_else(|| PathBuf::from(text), |folder| folder.join(text)))
    }

    /// The items of a list.
    pub(super) fn list(&self, expected: &str) -> Option<Vec<Item<'a>>> {
        let Value::List(items) = &self.raw.value else {
            return self.mistyped(expected);
        };
        let key = |index| format!("{}[{index}]", self.key);
        let item = |(index, raw)| Item { raw, key: key(index), problems: self.problems };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The value as a mapping; a wrong shape is noted and reads as an empty one.
    pub(super) fn section(&self) -> Section<'a> {
        let entries = match &self.raw.value {
            Value::Map(entries) => Some(entries),
            _ => self.mistyped("a mapping of keys to values"),
        };
        Section {
            entries,
            origin: &self.raw.origin,
            key: self.key.clone(),
            problems: self.problems,
            known: Vec::new(),
            refused: Vec::new(),
        }
    }
}

/// A mapping while it is read: remembers which keys were asked for, so that [`Section::finish`]
/// can name those that mean nothing.
pub(super) struct Section<'a> {
    entries: Option<&'a BTreeMap<String, Raw>>,
    origin: &'a Origin,
    key: String,
    problems: &'a Problems,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
}

impl<'a> Section<'a> {
    fn path_of(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    fn peek(&self, key: &str) -> Option<Item<'a>> {
        let raw = self.entries?.get(key).filter(|raw| !matches!(raw.value, Value::Null))?;
        Some(Item { raw, key: self.path_of(key), problems: self.problems })
    }

    /// The value of a key; `null` is the same as leaving it out.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        self.peek(key)
    }

    /// The mapping under a key; empty when it was left out.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        match self.get(key) {
            Some(item) => item.section(),
            None => Section {
                entries: None,
                origin: self.origin,
                key: self.path_of(key),
                problems: self.problems,
                known: Vec::new(),
                refused: Vec::new(),
            },
        }
    }

    /// Refuses a key that people expect, saying what to do instead; it is not listed among the known. An empty
    /// list or mapping asks for nothing and passes.
    pub(super) fn refuse(&mut self, key: &'static str, instead: &str) {
        self.refused.push(key);
        if let Some(item) = self.peek(key).filter(|item| !item.raw.value.asks_for_nothing()) {
            item.reject(instead);
        }
    }

    /// Whether the key was written at all, with whatever value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    /// Notes a fault between several values at the first of them that was written. If none was,
    /// the fault stands elsewhere and is noted there.
    pub(super) fn blame(&self, keys: &[&str], problem: impl Into<String>) {
        if let Some(item) = keys.iter().find_map(|key| self.peek(key)) {
            item.reject(problem);
        }
    }

    /// Notes that a key is missing, unless the section's shape has been faulted already.
    pub(super) fn missing(&self, key: &str, expected: &str) {
        if self.entries.is_some() {
            self.problems.note(self.origin, &self.path_of(key), format!("is missing, expected {expected}"));
        }
    }

    /// Notes every key that was not asked for.
    pub(super) fn finish(self) {
        for (key, raw) in self.entries.into_iter().flatten() {
            if !self.known.iter().chain(&self.refused).any(|known| known == key) {
                let problem = format!("unknown key, expected one of {}", self.known.join(", "));
                self.problems.note(&raw.origin, &self.path_of(key), problem);
            }
        }
    }
}
