//! What a server answers to any command, as a tree.

/// One reply. A map reads as the flat list of its keys and values that RESP2 sends, a set as a list; numbers that are
/// not whole, booleans and big numbers are [`Reply::Null`], as no command that is sent here answers with one.
///
/// Bounded by the connection: at most 4 MiB per exchange, at most 100 levels deep. Text is a server's own and goes
/// into no log line as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A string of any kind; bytes that are not UTF-8 are replaced.
    Text(String),
    /// A list.
    Array(Vec<Reply>),
    /// A refusal: its first word (`NOPERM`), and the rest.
    Error {
        /// The first word.
        code: String,
        /// The rest.
        text: String,
    },
}

impl Reply {
    /// The text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number, or a string that spells one.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The items of a list; none of anything else.
    #[must_use]
    pub fn items(&self) -> &[Reply] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    /// The items of a list as text; empty where they are none.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.items().iter().map(|item| item.text().unwrap_or_default().to_owned()).collect()
    }

    /// The value that follows the key `name` in a list of keys and values.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Reply> {
        let mut pairs = self.items().chunks_exact(2);
        pairs.find(|pair| pair[0].text() == Some(name)).map(|pair| &pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name_and_only_at_the_place_of_keys() {
        let text = |text: &str| Reply::Text(text.to_owned());
        let node = Reply::Array(vec![text("role"), text("port"), text("port"), Reply::Integer(7000), text("odd")]);
        assert_eq!(node.field("role").and_then(Reply::text), Some("port"));
        assert_eq!(node.field("port").and_then(Reply::integer), Some(7000));
        assert_eq!(node.field("odd"), None);
        assert_eq!((text("12").integer(), text("x").integer()), (Some(12), None));
        assert_eq!((text("x").items().len(), text("x").field("x")), (0, None));
        assert_eq!(node.texts(), ["role", "port", "port", "", "odd"]);
    }
}
