//! A line of `MONITOR`, as a server sends it or `redis-cli` writes it down.
//!
//! `1700000000.123456 [0 127.0.0.1:5000] "GET" "key\x00"`, or `[0 lua]` for what a script calls; sent with a `+` in
//! front. Reading never fails: whatever is no such line is `None`, a line that is cut ends early. Only keys are ever
//! unescaped; values are passed over.

use memchr::{memchr, memchr2};

use super::marks::MarkedLine;

/// The beginning of a line: who called what, and the arguments, not yet read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// When, as written: Unix seconds.
    pub(super) time: &'a [u8],
    /// Who.
    pub(super) source: Source<'a>,
    /// The command's name, as written.
    pub(super) command: &'a [u8],
    /// What follows the command.
    pub(super) arguments: Arguments<'a>,
}

/// Who called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// A client, by its host, or `unix:/path`.
    Client(&'a [u8]),
    /// A script. Its line comes after that of the call that runs it.
    Script,
}

impl<'a> Line<'a> {
    /// Reads a line, with or without its end.
    #[must_use]
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let quote = memchr(b'"', line)?;
        let (time, source) = head(&line[..quote])?;
        let (command, arguments) = Arguments(&line[quote - 1..]).next()?;
        Some(Self { time, source, command: command.raw, arguments })
    }

    /// The same for a line of the usual kind, with its first argument, in which nothing is escaped, and those behind it.
    /// `None`: another line, or none at all.
    #[must_use]
    pub(super) fn usual(line: &MarkedLine<'a>) -> Option<(Self, &'a [u8], Arguments<'a>)> {
        let [begin, end, first_begin, first_end] = line.first_quotes()?;
        let text = line.text;
        let quoted = [begin, end, first_begin, first_end].iter().fold(true, |all, at| all & (text[*at] == b'"'));
        if !quoted || first_begin != end + 2 || text[end + 1] != b' ' {
            return None;
        }
        let (time, source) = head(&text[..begin])?;
        let line = Self { time, source, command: &text[begin + 1..end], arguments: Arguments(&text[end + 1..]) };
        Some((line, &text[first_begin + 1..first_end], Arguments(&text[first_end + 1..])))
    }
}

/// Time and source: what stands before the command.
fn head(head: &[u8]) -> Option<(&[u8], Source<'_>)> {
    let head = head.strip_prefix(b"+").unwrap_or(head);
    let (time, source) = head.split_at(time_length(head));
    // Behind the database, which is a number.
    let who = source.strip_prefix(b" [").filter(|_| !time.is_empty())?.strip_suffix(b"] ")?;
    let database = who.iter().position(|byte| *byte == b' ')?;
    Some((time, Source::of(&who[database + 1..])))
}

/// The length of a time, 0 for none.
fn time_length(text: &[u8]) -> usize {
    // As servers write it: ten digits, a point, six digits; looked at together.
    if let Some([start @ .., s8, s9, b'.', f0, f1, f2, f3, f4, f5, b' ']) = text.first_chunk::<18>()
        && are_digits(start)
        && are_digits(&[*s8, *s9, *f0, *f1, *f2, *f3, *f4, *f5])
    {
        return 17;
    }
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let seconds = digits(text);
    if seconds == 0 {
        return 0;
    }
    seconds + text[seconds..].strip_prefix(b".").map_or(0, |fraction| 1 + digits(fraction))
}

fn are_digits(bytes: &[u8; 8]) -> bool {
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let word = u64::from_le_bytes(*bytes);
    // Past 9 the sum has another high half.
    word & HIGH == ZEROS && (word + 0x0606_0606_0606_0606) & HIGH == ZEROS
}

impl<'a> Source<'a> {
    fn of(who: &'a [u8]) -> Self {
        if who == b"lua" {
            return Self::Script;
        }
        // A client has a port for each connection; its host is what people know it by.
        let port = who.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        Self::Client(who[..who.len() - port].strip_suffix(b":").unwrap_or(who))
    }
}

/// Arguments that have not been read yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    /// There is none.
    #[must_use]
    pub(super) fn is_empty(self) -> bool {
        !self.0.starts_with(b" \"")
    }

    /// The next argument, and those after it; `None` at the line's end, and where it is cut or is none of ours.
    #[must_use]
    pub(super) fn next(self) -> Option<(Argument<'a>, Self)> {
        let text = self.0.strip_prefix(b" \"")?;
        let (mut end, mut escaped) = (0, false);
        loop {
            end += memchr2(b'"', b'\\', &text[end..])?;
            if text[end] == b'"' {
                return Some((Argument { raw: &text[..end], escaped }, Self(&text[end + 1..])));
            }
            escaped = true;
            end += 2;
            if end > text.len() {
                return None;
            }
        }
    }
}

/// One argument, as written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Argument<'a> {
    /// Between the quotes.
    pub(super) raw: &'a [u8],
    escaped: bool,
}

impl<'a> Argument<'a> {
    /// One that holds nothing escaped.
    pub(super) fn plain(raw: &'a [u8]) -> Self {
        Self { raw, escaped: false }
    }

    /// The bytes that were sent; `room` is used where they have to be unescaped.
    #[must_use]
    pub(super) fn decode(self, room: &'a mut Vec<u8>) -> &'a [u8] {
        if !self.escaped {
            return self.raw;
        }
        room.clear();
        self.unescape(|byte| room.push(byte));
        room
    }

    /// How many bytes were sent.
    #[must_use]
    pub(super) fn length(self) -> usize {
        let mut length = 0;
        if self.escaped {
            self.unescape(|_| length += 1)
        } else {
            length = self.raw.len()
        }
        length
    }

    fn unescape(self, mut put: impl FnMut(u8)) {
        let mut rest = self.raw;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte != b'\\' {
                put(*byte);
                continue;
            }
            let Some((escape, after)) = rest.split_first() else { return };
            rest = after;
            put(match escape {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 0x07,
                b'b' => 0x08,
                b'x' => match rest.split_first_chunk() {
                    Some((digits, after)) if let Some(byte) = from_hex(*digits) => {
                        rest = after;
                        byte
                    }
                    _ => b'x',
                },
                itself => *itself,
            });
        }
    }
}

fn from_hex([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A command as the server writes it.
    pub(in super::super) fn line(source: &str, arguments: &[&[u8]]) -> Vec<u8> {
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

    /// Command and arguments of a line; empty if it is none.
    fn arguments(line: &[u8]) -> Vec<Vec<u8>> {
        let Some(line) = Line::parse(line) else { return Vec::new() };
        let (mut found, mut rest) = (vec![line.command.to_vec()], line.arguments);
        while let Some((argument, after)) = rest.next() {
            found.push(argument.decode(&mut Vec::new()).to_vec());
            assert_eq!(argument.length(), found.last().unwrap().len());
            rest = after;
        }
        found
    }

    #[test]
    fn clients_are_known_by_their_host() {
        for (source, expected) in [
            ("127.0.0.1:5000", Source::Client(b"127.0.0.1")),
            ("[::1]:5000", Source::Client(b"[::1]")),
            ("unix:/run/redis.sock", Source::Client(b"unix:/run/redis.sock")),
            ("lua", Source::Script),
        ] {
            for text in [line(source, &[b"GET", b"k"]), line(source, &[b"GET", b"k"])[1..].to_vec()] {
                let line = Line::parse(&text).unwrap();
                assert_eq!((line.source, line.time, line.command), (expected, &b"1700000000.123456"[..], &b"GET"[..]));
            }
        }
    }

    #[test]
    fn what_is_no_such_line_is_none() {
        for text in [
            "",
            "OK",
            "+OK\r\n",
            ":0\r\n",
            "-NOPERM \"GET\" \"k\"",
            "+[0 lua] ",
            "+[0 lua] \"GET\" \"k\"",
            "+17 [0 lua]\"GET\" \"k\"",
            "+now [0 lua] \"GET\" \"k\"",
            "+17 [lua] \"GET\" \"k\"",
            "+17 [0 lua] \"GET",
        ] {
            assert!(Line::parse(text.as_bytes()).is_none(), "{text}");
        }
        for cut in [r#"+17 [0 lua] "GET" "k"#, r#"+17 [0 lua] "GET" "k\"#, r#"+17 [0 lua] "GET" "k\""#] {
            assert_eq!(arguments(cut.as_bytes()), [b"GET"], "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300)) {
            arguments(&bytes);
            let mut cut = b"+1700000000.1 [0 lua] \"MGET\" \"".to_vec();
            cut.extend_from_slice(&bytes);
            arguments(&cut);
        }

        #[test]
        fn arguments_are_read_back_as_they_were(sent in vec(vec(any::<u8>(), 0..40), 0..5)) {
            let mut expected = vec![b"SET".to_vec()];
            expected.extend(sent);
            let borrowed: Vec<&[u8]> = expected.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(arguments(&line("10.0.0.1:77", &borrowed)), expected);
        }
    }
}
