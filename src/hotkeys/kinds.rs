//! What keys are for, by rules over their patterns.

use serde::Serialize;

use crate::config::KindRules;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A user's session.
    Session,
    /// Something that is shown to many.
    Content,
    /// A number that is counted up.
    Counter,
    /// Settings and flags that everyone reads.
    Config,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Content => "content",
            Self::Counter => "counter",
            Self::Config => "config",
        }
    }
}

/// The rules in force.
#[derive(Debug, Clone, Default)]
pub struct Kinds(KindRules);

impl Kinds {
    /// Rules as configured.
    #[must_use]
    pub fn new(rules: KindRules) -> Self {
        Self(rules)
    }

    /// The first kind one of whose globs fits the pattern.
    #[must_use]
    pub fn of(&self, pattern: &str) -> Option<Kind> {
        let rules = &self.0;
        [
            (Kind::Session, &rules.session),
            (Kind::Counter, &rules.counter),
            (Kind::Config, &rules.config),
            (Kind::Content, &rules.content),
        ]
        .into_iter()
        .find(|(_, globs)| globs.iter().any(|glob| fits(glob, pattern)))
        .map(|(kind, _)| kind)
    }
}

/// Whether `*` in the glob can stand for something, or nothing, so that it is the text; in any case.
fn fits(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.to_ascii_lowercase(), text.to_ascii_lowercase());
    let Some((first, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_fit_as_in_a_shell() {
        for (glob, text, expected) in [
            ("session:*", "session:user:*", true),
            ("session:*", "SESSION:*", true),
            ("session:*", "my:session:*", false),
            ("*:session:*", "my:session:*", true),
            ("*count*", "signup_counter", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("plain", "plain", true),
            ("plain", "plainly", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn the_usual_names_are_known_without_configuration() {
        let kinds = Kinds::default();
        for (pattern, expected) in [
            ("session:user:*", Some(Kind::Session)),
            ("article:trending:top10", Some(Kind::Content)),
            ("stats:page_views:global", Some(Kind::Counter)),
            ("config:feature_flags", Some(Kind::Config)),
            ("k:*", None),
        ] {
            assert_eq!(kinds.of(pattern), expected, "{pattern}");
        }
        let own = Kinds::new(KindRules { counter: vec!["k:*".to_owned()], ..KindRules::default() });
        assert_eq!(own.of("k:*"), Some(Kind::Counter));
    }
}
