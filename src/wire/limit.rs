//! A reader that ends in an error, never in silence, and remembers which.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Reads until `bytes_max` are passed, by one buffer at most, and no further than the size of a text that is announced
/// as larger: most replies that are too large cost no memory at all. An announcement that comes in two pieces, or within
/// an array, is not looked for; the count ends those.
///
/// The first error stays in [`Limited::fault`]: redis-rs' parser wraps errors until their kind is
/// lost, and calls a stream that was cut in mid-reply a syntax error. The end of the stream is
/// [`io::ErrorKind::UnexpectedEof`] here, passing the limit [`io::ErrorKind::FileTooLarge`].
pub(super) struct Limited<'a, S> {
    stream: &'a mut S,
    bytes_max: usize,
    bytes_left: usize,
    pub(super) fault: Option<io::Error>,
}

impl<'a, S> Limited<'a, S> {
    pub(super) fn new(stream: &'a mut S, bytes_max: usize) -> Self {
        Self { stream, bytes_max, bytes_left: bytes_max, fault: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut *self.stream).poll_read(cx, buf));
        let new = buf.filled().get(before..).unwrap_or_default();
        let read = new.len();
        let too_large = self.bytes_left == self.bytes_max && announced(new).is_some_and(|size| size > self.bytes_max);
        let fault = match (result, self.bytes_left.checked_sub(read)) {
            (Err(error), _) => error,
            (Ok(()), _) if read == 0 => io::ErrorKind::UnexpectedEof.into(),
            (Ok(()), _) if too_large => io::ErrorKind::FileTooLarge.into(),
            (Ok(()), None) => io::ErrorKind::FileTooLarge.into(),
            (Ok(()), Some(left)) => {
                self.bytes_left = left;
                return Poll::Ready(Ok(()));
            }
        };
        let kind = fault.kind();
        self.fault = Some(fault);
        Poll::Ready(Err(kind.into()))
    }
}

/// Bytes of the text that a reply begins with, where it says so: `$1234\r\n`, or `=` for a verbatim one.
fn announced(reply: &[u8]) -> Option<usize> {
    let head = reply.strip_prefix(b"$").or_else(|| reply.strip_prefix(b"="))?;
    let digits = head.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
