//! The feed of `MONITOR`: everything a server executes, for a moment, within bounds that hold even if we do not.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::{Instant, timeout_at};

use super::{Connection, Fault, PollError, presentable, write};
use crate::model::FailureReason;

/// Lines read of one feed.
const LINES_MAX: usize = 5_000;

/// Bytes read of one feed.
const BYTES_MAX: u64 = 2_000_000;

/// How much longer than its time a feed is read: the round trip, and a server that is busy at its end.
const SLACK: Duration = Duration::from_secs(1);

/// Buffer for reading, bytes: a feed of small commands comes in packets of about this.
const BUFFER_BYTES: usize = 32 << 10;

/// Who ends a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedEnd {
    /// The server, after the feed's time, whatever becomes of us: masters only.
    ByServer,
    /// We do, by hanging up. The server must have a limit on what it keeps for us, should we freeze.
    ByUs,
}

impl Connection {
    /// Watches what the server executes for `time`, at most 5,000 lines and 2 MB, then hangs up. Every line is
    /// shown to `see` as sent, with its line end.
    ///
    /// # Errors
    /// `noperm` where `MONITOR` or `WAIT` is refused, `io` for a connection that breaks, `timeout` for a server that
    /// does not answer at all.
    pub async fn monitor(mut self, time: Duration, end: FeedEnd, see: impl FnMut(&[u8])) -> Result<(), PollError> {
        self.feed(time, end, see).await.map_err(|fault| fault.at(&self.node))
    }

    async fn feed(&mut self, time: Duration, end: FeedEnd, mut see: impl FnMut(&[u8])) -> Result<(), Fault> {
        let (started, password) = (Instant::now(), self.credentials.expose_password().map(str::to_owned));
        write(&mut self.stream, &request(time, end)).await.map_err(|error| Fault::from_io(&error))?;
        let deadline = match end {
            FeedEnd::ByServer => started + time + SLACK,
            FeedEnd::ByUs => started + time,
        };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, (&mut self.stream).take(BYTES_MAX));
        let mut line = Vec::new();
        for seen in 0..=LINES_MAX {
            line.clear();
            match timeout_at(deadline, reader.read_until(b'\n', &mut line)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(Fault::from_io(&error)),
                Err(_) if seen == 0 => return Err(Fault::new(FailureReason::Timeout, "MONITOR was not answered")),
                Err(_) => return Ok(()),
            }
            match line.as_slice() {
                [b'-', ..] => return Err(refusal(&line, password.as_deref())),
                // WAIT is over: the rest is the good-bye.
                [b':', ..] => return Ok(()),
                [.., b'\n'] => see(&line),
                [] if seen == 0 => return Err(Fault::from_io(&io::ErrorKind::UnexpectedEof.into())),
                // The end of the feed, or of the bytes that we read of it.
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

fn refusal(line: &[u8], password: Option<&str>) -> Fault {
    let said = presentable(&String::from_utf8_lossy(line), password);
    let reason = if line.starts_with(b"-NOPERM") { FailureReason::NoPerm } else { FailureReason::Protocol };
    let advice = "the server refuses to be watched; grant it: ACL SETUSER <user> +monitor +wait +quit";
    Fault::new(reason, format!("{advice} (the server said: {said})"))
}

/// In one write: should we freeze right after it, the server's own timer ends the feed. `WAIT` for replicas that
/// nobody has keeps the connection from reading `QUIT` until its time is over. Its time is never 0: that would be
/// for ever.
fn request(time: Duration, end: FeedEnd) -> Vec<u8> {
    let mut request = b"*1\r\n$7\r\nMONITOR\r\n".to_vec();
    if end == FeedEnd::ByServer {
        let time = time.as_millis().max(1).to_string();
        let wait =
            format!("*3\r\n$4\r\nWAIT\r\n$10\r\n2147483647\r\n${}\r\n{time}\r\n*1\r\n$4\r\nQUIT\r\n", time.len());
        request.extend_from_slice(wait.as_bytes());
    }
    request
}
