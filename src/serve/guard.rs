//! What a client may cost: connections, and time to take its answer. Without it a thousand clients that never read
//! would hold a thousand answers and descriptors.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections at a time; more are closed unanswered.
const CONNECTIONS_MAX: usize = 512;

/// A client that waits for bytes takes at least [`BYTES_MIN`] of them in this time, or is cut: a sixteenth of a modem.
const SPAN: Duration = Duration::from_secs(10);
const BYTES_MIN: usize = 64 << 10;

/// For so long, and so much, what a client goes on to send is thrown away before its connection is closed. Closed with
/// something unread (a body, which nobody here reads) it would be reset, and the end of the answer lost on its way.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1 << 20;

/// Lets connections in while there is room.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    room: Arc<Semaphore>,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl<S> Accept<TcpStream, S> for Guard {
    type Stream = Guarded;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Guarded, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| io::ErrorKind::ConnectionRefused.into());
        let guarded = permit.and_then(|permit| {
            stream.set_nodelay(true)?;
            Ok((Guarded { stream, _permit: permit, waiting: None, taken: 0, parting: None, thrown_away: 0 }, service))
        });
        std::future::ready(guarded)
    }
}

/// One connection that was let in.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    /// Runs from the first byte that found no room, until enough were taken.
    waiting: Option<Pin<Box<Sleep>>>,
    taken: usize,
    /// Runs from when all was said, until the client hangs up.
    parting: Option<Pin<Box<Sleep>>>,
    thrown_away: usize,
}

impl Guarded {
    fn note(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.taken += bytes;
                if self.taken >= BYTES_MIN {
                    self.waiting = None;
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                if self.waiting.is_none() {
                    self.taken = 0;
                }
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(SPAN)));
                ready!(waiting.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all that was to be written has been.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Says that nothing more will come, and waits a little for the client to have read it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, parting, thrown_away, .. } = &mut *self;
        if parting.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
        }
        let parting = parting.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut room = [0; 4 << 10];
        while *thrown_away < LINGER_BYTES_MAX && parting.as_mut().poll(cx).is_pending() {
            let mut room = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut room))?;
            match room.filled().len() {
                0 => break,
                length => *thrown_away += length,
            }
        }
        Poll::Ready(Ok(()))
    }
}
