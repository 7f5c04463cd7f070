//! Requests as clients send them: RESP arrays of bulk strings, or one line of words.

use bytes::{Buf, BytesMut};

/// Larger requests than these have no place in monitoring; a real server allows more.
const ARGUMENTS_MAX: usize = 1024;
const ARGUMENT_BYTES_MAX: usize = 64 * 1024;
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What came in is not RESP, or too large; the text to answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadRequest(pub(super) &'static str);

/// Takes one whole request off the buffer; `None` while more bytes are needed. Bytes that are not
/// UTF-8 become replacement characters: only names of commands matter here.
pub(super) fn take_request(input: &mut BytesMut) -> Result<Option<Vec<String>>, BadRequest> {
    let Some((line, mut at)) = line_at(input, 0)? else { return Ok(None) };
    let Some(count) = line.strip_prefix(b"*") else {
        let words = String::from_utf8_lossy(line).split_whitespace().map(str::to_owned).collect();
        input.advance(at);
        return Ok(Some(words));
    };
    let count = number(count, ARGUMENTS_MAX).ok_or(BadRequest("Protocol error: invalid multibulk length"))?;
    let mut arguments = Vec::with_capacity(count);
    for _ in 0..count {
        let Some((line, start)) = line_at(input, at)? else { return Ok(None) };
        let length = line.strip_prefix(b"$").ok_or(BadRequest("Protocol error: expected '$'"))?;
        let length = number(length, ARGUMENT_BYTES_MAX).ok_or(BadRequest("Protocol error: invalid bulk length"))?;
        let Some(bytes) = input.get(start..start + length) else { return Ok(None) };
        if input.len() < start + length + 2 {
            return Ok(None);
        }
        arguments.push(String::from_utf8_lossy(bytes).into_owned());
        at = start + length + 2;
    }
    input.advance(at);
    Ok(Some(arguments))
}

/// The line that begins at `start`, without its end, and where the next begins.
fn line_at(input: &[u8], start: usize) -> Result<Option<(&[u8], usize)>, BadRequest> {
    let rest = input.get(start..).unwrap_or_default();
    let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
        let too_long = rest.len() > LINE_BYTES_MAX;
        return if too_long { Err(BadRequest("Protocol error: too big inline request")) } else { Ok(None) };
    };
    let line = &rest[..length];
    Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), start + length + 1)))
}

fn number(digits: &[u8], max: usize) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|number| *number <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_whole_and_in_order() {
        let mut input = BytesMut::from(&b"*2\r\n$4\r\nINFO\r\n$5\r\nstats\r\nping\r\n*1\r\n$4\r\nQU"[..]);
        assert_eq!(take_request(&mut input), Ok(Some(vec!["INFO".to_owned(), "stats".to_owned()])));
        assert_eq!(take_request(&mut input), Ok(Some(vec!["ping".to_owned()])));
        assert_eq!(take_request(&mut input), Ok(None));
        input.extend_from_slice(b"IT\r\n");
        assert_eq!(take_request(&mut input), Ok(Some(vec!["QUIT".to_owned()])));
        assert!(input.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["*9999999\r\n", "*-1\r\n", "*1\r\n+OK\r\n", "*1\r\n$99999999\r\n"] {
            assert!(take_request(&mut BytesMut::from(text)).is_err(), "{text}");
        }
    }
}
