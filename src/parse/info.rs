//! The text of `INFO` as borrowed fields.

/// Fields of one `INFO` reply, in the order sent. A field sent twice counts once, by its last value.
#[derive(Debug, Clone, Default)]
pub struct Info<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> Info<'a> {
    /// Reads `name:value` lines; headings, blank lines and lines without a colon are passed over.
    /// A line is split at its first colon only: values hold colons too (`master0:…address=127.0.0.1:6379`).
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let mut fields: Vec<(&str, &str)> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim(), value.trim_end_matches('\r')))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        // Stable, so that of equal names the last sent stays the last.
        fields.sort_by_key(|(name, _)| *name);
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
        let after = self.fields.partition_point(|(field, _)| *field <= name);
        let (field, value) = *self.fields.get(after.checked_sub(1)?)?;
        (field == name).then_some(value)
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
        let start = self.fields.partition_point(|(field, _)| *field < prefix);
        self.fields[start..].iter().map_while(move |(field, value)| Some((field.strip_prefix(prefix)?, *value)))
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
    /// The part's text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.0
            .split(',')
            .filter_map(|part| part.split_once('='))
            .find(|(part, _)| *part == name)
            .map(|(_, value)| value)
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
