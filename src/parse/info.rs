//! The text of `INFO` as borrowed fields.

use memchr::{memchr, memchr_iter};

/// Fields of one `INFO` reply. A field sent twice counts once, by its last value.
#[derive(Debug, Clone, Default)]
pub struct Info<'a> {
    /// By name.
    fields: Vec<Field<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    name: Name<'a>,
    value: &'a str,
}

/// A name that is ordered as its text is, by its first sixteen bytes as a number first: comparing names is most of what
/// a reply costs to read, and most names differ within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name<'a> {
    head: u128,
    text: &'a str,
}

impl<'a> Name<'a> {
    fn new(text: &'a str) -> Self {
        let head = match text.as_bytes().first_chunk() {
            Some(head) => *head,
            None => std::array::from_fn(|index| text.as_bytes().get(index).copied().unwrap_or(0)),
        };
        Self { head: u128::from_be_bytes(head), text }
    }
}

/// Bytes of a line, at least: room for the fields is taken once.
const LINE_BYTES: usize = 20;

impl<'a> Info<'a> {
    /// Reads `name:value` lines; headings, blank lines and lines without a colon are passed over.
    /// A line is split at its first colon only: values hold colons too (`master0:…address=127.0.0.1:6379`).
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let mut fields = Vec::with_capacity(text.len() / LINE_BYTES);
        for (name, value) in pairs(text, b'\n', b':') {
            let (heading, name) = (name.starts_with('#'), name.trim_ascii());
            if !heading && !name.is_empty() {
                fields.push(Field { name: Name::new(name), value: value.trim_end_matches('\r') });
            }
        }
        // Stable, so that of equal names the last sent stays the last.
        fields.sort_by_key(|field| field.name);
        Self { fields }
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The field's text, if it was sent.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let name = Name::new(name);
        let after = self.fields.partition_point(|field| field.name <= name);
        let field = self.fields.get(after.checked_sub(1)?)?;
        (field.name == name).then_some(field.value)
    }

    /// The field as a finite number. A trailing `%` is dropped (`used_memory_peak_perc:99.53%`).
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        parse_number(self.text(name)?)
    }

    /// The field as a counter. Some forks send −1 for "not supported": that is absent, not −1.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The field as a switch: `1` or `0`.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.text(name)? {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        }
    }

    /// Fields whose name starts with `prefix`, as (rest of the name, value), by name.
    pub fn with_prefix<'p>(&self, prefix: &'p str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'_, 'a, 'p> {
        let first = Name::new(prefix);
        let start = self.fields.partition_point(|field| field.name < first);
        self.fields[start..].iter().map_while(move |field| Some((field.name.text.strip_prefix(prefix)?, field.value)))
    }

    /// Databases with keys, as (number, the value's parts).
    pub fn databases(&self) -> impl Iterator<Item = (u32, Parts<'a>)> + use<'_, 'a> {
        self.with_prefix("db").filter_map(|(number, value)| Some((number.parse().ok()?, Parts(value))))
    }
}

/// A value of the form `keys=3000,expires=2999,avg_ttl=40601`, read by name, never by position:
/// servers add parts (`subexpiry`, `keys_with_volatile_items`).
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a>(pub &'a str);

impl<'a> Parts<'a> {
    /// All parts, as (name, text), in the order sent; what has no `=` is passed over.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        pairs(self.0, b',', b'=')
    }

    /// The part's text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(part, _)| *part == name).map(|(_, text)| text)
    }

    /// The part as a finite number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        parse_number(self.text(name)?)
    }

    /// The part as a counter; absent when negative.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// The pieces of a text between one separator, each parted at its first `sign`; those without it are passed over.
/// By `memchr`, as `split` and `split_once` were what reading a reply took most time for.
fn pairs(text: &str, separator: u8, sign: u8) -> impl Iterator<Item = (&str, &str)> {
    let mut begin = 0;
    memchr_iter(separator, text.as_bytes()).chain([text.len()]).filter_map(move |end| {
        let piece = &text[begin..end];
        begin = end + 1;
        let at = memchr(sign, piece.as_bytes())?;
        Some((&piece[..at], &piece[at + 1..]))
    })
}

fn parse_number(text: &str) -> Option<f64> {
    text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok().filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_first_colon_and_keeps_the_last_of_equal_names() {
        let info =
            Info::parse("# Server\r\nmaster0:name=m,address=127.0.0.1:6379\r\nuptime:1\r\nuptime:2\r\nnonsense\r\n");
        assert_eq!(info.text("master0"), Some("name=m,address=127.0.0.1:6379"));
        assert_eq!(info.counter("uptime"), Some(2));
        assert_eq!(info.text("nonsense"), None);
    }

    #[test]
    fn minus_one_is_absent_as_a_counter() {
        let info = Info::parse("evicted_keys:-1\nmaster_last_io_seconds_ago:-1\nratio:nan\n");
        assert_eq!(info.counter("evicted_keys"), None);
        assert_eq!(info.number("master_last_io_seconds_ago"), Some(-1.0));
        assert_eq!(info.number("ratio"), None);
    }

    #[test]
    fn parts_are_read_by_name() {
        let info = Info::parse("db0:keys=5,subexpiry=1,expires=4\ndb11:keys=2,expires=0,avg_ttl=0\ndbx:keys=9\n");
        let databases: Vec<_> = info.databases().map(|(number, parts)| (number, parts.counter("expires"))).collect();
        assert_eq!(databases, [(0, Some(4)), (11, Some(0))]);
    }
}
