//! The lifetime that a command gives a key. It is read from what clients send: asking the server for it would count
//! as a lookup.

use super::line::Arguments;

/// What a command says of a key's lifetime.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lifetime {
    /// It ends after so many seconds.
    Seconds(f64),
    /// It does not end.
    Endless,
}

/// How a command gives a lifetime, by what follows its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grant {
    /// The next argument, in this unit.
    Next(Unit),
    /// Options behind a value.
    OptionsAfterValue,
    /// Options.
    Options,
    /// None: it ends whatever there was.
    Endless,
}

/// The unit of a lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    /// Unix time.
    AtSeconds,
    AtMilliseconds,
}

/// Commands that give a lifetime, in lower case.
pub(super) const GRANTS: &[(&[u8], Grant)] = &[
    (b"set", Grant::OptionsAfterValue),
    (b"getex", Grant::Options),
    (b"setex", Grant::Next(Unit::Seconds)),
    (b"expire", Grant::Next(Unit::Seconds)),
    (b"psetex", Grant::Next(Unit::Milliseconds)),
    (b"pexpire", Grant::Next(Unit::Milliseconds)),
    (b"expireat", Grant::Next(Unit::AtSeconds)),
    (b"pexpireat", Grant::Next(Unit::AtMilliseconds)),
    (b"persist", Grant::Endless),
    (b"getset", Grant::Endless),
];

impl Grant {
    /// The lifetime that `arguments`, those behind the key, give at the time of the line. `None`: it stays as it was.
    pub(super) fn read(self, arguments: Arguments<'_>, time: &[u8]) -> Option<Lifetime> {
        match self {
            Self::Endless => Some(Lifetime::Endless),
            Self::Next(unit) => unit.read(arguments.next()?.0.raw, time).map(Lifetime::Seconds),
            Self::Options => options(arguments, time, None),
            Self::OptionsAfterValue => options(arguments.next()?.1, time, Some(Lifetime::Endless)),
        }
    }
}

fn options(mut rest: Arguments<'_>, time: &[u8], without: Option<Lifetime>) -> Option<Lifetime> {
    while let Some((option, after)) = rest.next() {
        let is = |name: &[u8]| option.raw.eq_ignore_ascii_case(name);
        let unit = match option.raw {
            _ if is(b"EX") => Unit::Seconds,
            _ if is(b"PX") => Unit::Milliseconds,
            _ if is(b"EXAT") => Unit::AtSeconds,
            _ if is(b"PXAT") => Unit::AtMilliseconds,
            _ if is(b"KEEPTTL") => return None,
            _ if is(b"PERSIST") => return Some(Lifetime::Endless),
            _ => {
                rest = after;
                continue;
            }
        };
        return unit.read(after.next()?.0.raw, time).map(Lifetime::Seconds);
    }
    without
}

impl Unit {
    fn read(self, number: &[u8], time: &[u8]) -> Option<f64> {
        let number: f64 = std::str::from_utf8(number).ok()?.parse().ok()?;
        let now = || std::str::from_utf8(time).ok()?.parse::<f64>().ok();
        let seconds = match self {
            Self::Seconds => number,
            Self::Milliseconds => number / 1e3,
            Self::AtSeconds => number - now()?,
            Self::AtMilliseconds => number / 1e3 - now()?,
        };
        (seconds.is_finite() && seconds > 0.0).then_some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::*;

    #[test]
    fn lifetimes_are_read_from_what_clients_send() {
        use Lifetime::{Endless, Seconds};
        for (arguments, expected) in [
            (r#""SET" "k" "v""#, Some(Endless)),
            (r#""SET" "k" "v" "NX""#, Some(Endless)),
            (r#""SET" "k" "EX" "NX" "ex" "60""#, Some(Seconds(60.0))),
            (r#""SET" "k" "v" "PX" "1500""#, Some(Seconds(1.5))),
            (r#""SET" "k" "v" "EXAT" "1700000060""#, Some(Seconds(60.0))),
            (r#""SET" "k" "v" "PXAT" "1700000060000""#, Some(Seconds(60.0))),
            (r#""SET" "k" "v" "KEEPTTL""#, None),
            (r#""SETEX" "k" "300" "v""#, Some(Seconds(300.0))),
            (r#""PSETEX" "k" "300" "v""#, Some(Seconds(0.3))),
            (r#""EXPIRE" "k" "30""#, Some(Seconds(30.0))),
            (r#""EXPIREAT" "k" "1700000030" "NX""#, Some(Seconds(30.0))),
            (r#""PEXPIREAT" "k" "1""#, None),
            (r#""GETEX" "k""#, None),
            (r#""GETEX" "k" "PERSIST""#, Some(Endless)),
            (r#""PERSIST" "k""#, Some(Endless)),
            (r#""EXPIRE" "k" "soon""#, None),
            (r#""EXPIRE" "k""#, None),
            (r#""SET" "k" "v" "EX""#, None),
        ] {
            let text = format!("1700000000.000000 [0 lua] {arguments}");
            let line = Line::parse(text.as_bytes()).unwrap();
            let name = line.command.to_ascii_lowercase();
            let (_, grant) = GRANTS.iter().find(|(command, _)| *command == name).unwrap();
            assert_eq!(grant.read(line.arguments.next().unwrap().1, line.time), expected, "{arguments}");
        }
    }
}
