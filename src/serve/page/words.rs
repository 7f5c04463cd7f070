//! Numbers, times and names as people read them.

use std::fmt;

use crate::detect::verdict::Evidence;

/// What is shown for "not known".
pub(super) const ABSENT: &str = "–";

/// `mass_expiration` as people write it.
pub(super) fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// A share as a percentage: one digit where it matters, below ten and above ninety.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = usize::from(percent > 0.0 && percent < 10.0 || percent > 90.0 && percent < 100.0);
    format!("{percent:.digits$} %")
}

/// A confidence: no better known than to the hundredth.
pub(super) fn confidence(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A rate or a count: three digits and a bit, thousands apart.
pub(super) fn number(value: f64) -> String {
    if value.abs() < 9.95 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < -0.5 { "−" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            // Narrow and unbreakable.
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// How sure a verdict is, in a word.
pub(super) fn certainty(confidence: f64) -> &'static str {
    match confidence {
        0.8.. => "clear",
        0.6.. => "likely",
        0.4.. => "possible",
        _ => "uncertain",
    }
}

/// With a capital, to begin a line.
pub(super) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// How bad, in a word.
pub(super) const fn severity(ordinal: u8) -> &'static str {
    match ordinal {
        0 => "no storm",
        1 => "minor",
        2 => "major",
        _ => "critical",
    }
}

/// `1 node`, `2 nodes`.
pub(super) fn count(number_of: usize, what: &str) -> String {
    format!("{} {what}{}", number(number_of as f64), if number_of == 1 { "" } else { "s" })
}

/// A span of seconds in the two units that matter.
pub(super) struct Span(pub(super) f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0) as u64;
        match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
            (0, 0, 0, seconds) => write!(f, "{seconds} s"),
            (0, 0, minutes, seconds) => write!(f, "{minutes} min {seconds} s"),
            (0, hours, minutes, _) => write!(f, "{hours} h {minutes} min"),
            (days, hours, ..) => write!(f, "{days} d {hours} h"),
        }
    }
}

/// A point in time, Unix seconds, in UTC: the one zone that everybody who is woken shares.
#[derive(Clone, Copy)]
pub(super) struct Utc(pub(super) f64);

impl Utc {
    /// `2026-11-25T03:12:04Z`, for machines.
    pub(super) fn machine(self) -> String {
        let (year, month, day, clock) = self.parts();
        format!("{year:04}-{month:02}-{day:02}T{clock}Z")
    }

    /// `03:12:04 UTC`, with the day in front unless `now` has the same.
    pub(super) fn since(self, now: f64) -> String {
        let (_, month, day, clock) = self.parts();
        if Self(now).days() == self.days() {
            return format!("{clock} UTC");
        }
        let month =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month as usize - 1];
        format!("{day} {month} {clock} UTC")
    }

    fn days(self) -> u64 {
        self.0.max(0.0) as u64 / 86_400
    }

    /// Year, month, day and time of day. The days are counted in eras of 400 years that begin in March, so that
    /// a leap day is always the last.
    fn parts(self) -> (u64, u64, u64, String) {
        let seconds = self.0.max(0.0) as u64;
        let day_number = self.days() + 719_468;
        let (era, day_of_era) = (day_number / 146_097, day_number % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let months_after_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * months_after_march + 2) / 5 + 1;
        let month = if months_after_march < 10 { months_after_march + 3 } else { months_after_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        (year, month, day, clock)
    }
}

/// The facts behind a verdict as sentences. Facts without a sentence of their own are told by name.
pub(super) fn evidence(facts: &Evidence) -> Vec<String> {
    let fact = |name: &str| facts.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let over = fact("evidence_seconds").map(|seconds| format!(" within {}", Span(seconds))).unwrap_or_default();
    let told = |(name, value): &(&'static str, f64)| -> Option<String> {
        let (name, value) = (*name, *value);
        if !value.is_finite() {
            return None;
        }
        let amount = number(value);
        Some(match name {
            "hit_ratio" => match (fact("hit_ratio_expected"), fact("hit_ratio_zscore")) {
                (Some(usual), Some(z)) if z >= 1.0 => format!(
                    "Hit ratio {} where {} is usual: {z:.0} standard deviations below.",
                    percent(value),
                    percent(usual)
                ),
                (Some(usual), _) => format!("Hit ratio {} where {} is usual.", percent(value), percent(usual)),
                _ => format!("Hit ratio {}.", percent(value)),
            },
            // Part of other sentences.
            "evidence_seconds" => return None,
            "hit_ratio_expected" | "hit_ratio_zscore" if fact("hit_ratio").is_some() => return None,
            "keys_now" if fact("keys_before").is_some() => return None,
            "keys_removed_estimated" => return None,
            "excess_misses" => format!("{amount} more misses than usual{over}."),
            "excess_sets" => format!("{amount} more keys than usual were written{over}."),
            "keys_before" => match fact("keys_now") {
                Some(now) => format!("Keys: {amount} before the storm, {} now.", number(now)),
                None => format!("Keys before the storm: {amount}."),
            },
            "keys_expired" => format!("{amount} more keys than usual expired{over}."),
            "keys_evicted" => format!("{amount} more keys than usual were evicted for want of memory{over}."),
            "keys_removed" => match fact("keys_removed_estimated") {
                Some(_) => format!("About {amount} keys were deleted by command{over} (refill makes it an estimate)."),
                None => format!("{amount} keys were deleted by command{over}."),
            },
            "flushed" => "A flush command was seen (FLUSHALL or FLUSHDB).".to_owned(),
            "writes_refused" => format!("{amount} writes were refused for want of memory{over}."),
            "memory_used_ratio" => format!("Memory at {} of its limit.", percent(value)),
            "replication_lag_seconds" => format!("Its data is {} behind its master.", Span(value)),
            "restart_seconds_ago" => match fact("restart_keys_before") {
                Some(keys) => format!("Restarted {} ago; it held {} keys before.", Span(value), number(keys)),
                None => format!("Restarted {} ago.", Span(value)),
            },
            "restart_keys_before" if fact("restart_seconds_ago").is_some() => return None,
            "promoted_seconds_ago" => format!("Promoted to master {} ago.", Span(value)),
            "fragmentation_ratio" => format!("Memory is fragmented: resident ÷ used is {amount}."),
            "new_connections_share" => format!("{} of its client connections are new.", percent(value)),
            "object_size_ratio" => format!("Values take {amount} times their usual memory."),
            "server_clock_skew_seconds" => format!("The servers' clocks differ by {}.", Span(value)),
            _ => format!("{}: {}.", words(name), if value.abs() < 1.0 { format!("{value:.2}") } else { amount }),
        })
    };
    facts.iter().filter_map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_in_two_units() {
        for (seconds, text) in
            [(-1.0, "0 s"), (59.9, "59 s"), (61.0, "1 min 1 s"), (3700.0, "1 h 1 min"), (9e4, "1 d 1 h")]
        {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }

    #[test]
    fn numbers_show_the_digits_that_matter() {
        for (value, text) in [
            (0.0, "0"),
            (0.04, "0.0"),
            (9.9, "9.9"),
            (99.97, "100"),
            (1234.5, "1\u{202f}234"),
            (1e6, "1\u{202f}000\u{202f}000"),
            (-12.0, "−12"),
        ] {
            assert_eq!(number(value), text);
        }
        for (share, text) in [(0.0, "0 %"), (0.034, "3.4 %"), (0.5, "50 %"), (0.9512, "95.1 %"), (1.0, "100 %")] {
            assert_eq!(percent(share), text);
        }
        assert_eq!((count(1, "node"), count(2, "node")), ("1 node".to_owned(), "2 nodes".to_owned()));
    }

    #[test]
    fn times_are_utc_and_name_the_day_only_when_it_is_another() {
        assert_eq!(Utc(0.0).machine(), "1970-01-01T00:00:00Z");
        assert_eq!(Utc(1_709_251_199.5).machine(), "2024-02-29T23:59:59Z");
        assert_eq!(Utc(1_709_251_200.0).machine(), "2024-03-01T00:00:00Z");
        assert_eq!(Utc(1_795_597_924.0).machine(), "2026-11-25T09:12:04Z");
        assert_eq!(Utc(1_795_597_924.0).since(1_795_597_930.0), "09:12:04 UTC");
        assert_eq!(Utc(1_795_597_924.0).since(1_795_684_330.0), "25 Nov 09:12:04 UTC");
    }

    #[test]
    fn evidence_is_told_in_sentences() {
        let facts = vec![
            ("hit_ratio", 0.312),
            ("hit_ratio_expected", 0.921),
            ("hit_ratio_zscore", 40.4),
            ("evidence_seconds", 60.0),
            ("keys_before", 51_000.0),
            ("keys_now", 20_100.0),
            ("keys_expired", 31_000.0),
            ("not_a_number", f64::NAN),
            ("something_new", 0.456),
        ];
        assert_eq!(
            evidence(&facts),
            [
                "Hit ratio 31 % where 92.1 % is usual: 40 standard deviations below.",
                "Keys: 51\u{202f}000 before the storm, 20\u{202f}100 now.",
                "31\u{202f}000 more keys than usual expired within 1 min 0 s.",
                "something new: 0.46.",
            ]
        );
    }
}
