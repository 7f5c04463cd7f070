//! A reader that ends in an error, never in silence, and remembers which.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Reads until `bytes_max` are passed, by one buffer at most.
///
/// The first error stays in [`Limited::fault`]: redis-rs' parser wraps errors until their kind is
/// lost, and calls a stream that was cut in mid-reply a syntax error. The end of the stream is
/// [`io::ErrorKind::UnexpectedEof`] here, passing the limit [`io::ErrorKind::FileTooLarge`].
pub(super) struct Limited<'a, S> {
    stream: &'a mut S,
    bytes_left: usize,
    pub(super) fault: Option<io::Error>,
}

impl<'a, S> Limited<'a, S> {
    pub(super) fn new(stream: &'a mut S, bytes_max: usize) -> Self {
        Self { stream, bytes_left: bytes_max, fault: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut *self.stream).poll_read(cx, buf));
        let read = buf.filled().len() - before;
        let fault = match (result, self.bytes_left.checked_sub(read)) {
            (Err(error), _) => error,
            (Ok(()), _) if read == 0 => io::ErrorKind::UnexpectedEof.into(),
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
