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
    /// shown to `see` as sent, with its line end. `false`: there was more.
    ///
    /// # Errors
    /// `noperm` where `MONITOR` or `WAIT` is refused, `io` for a connection that breaks, `timeout` for a server that
    /// does not answer at all.
    pub async fn monitor(mut self, time: Duration, end: FeedEnd, see: impl FnMut(&[u8])) -> Result<bool, PollError> {
        self.feed(time, end, see).await.map_err(|fault| fault.at(&self.node))
    }

    async fn feed(&mut self, time: Duration, end: FeedEnd, mut see: impl FnMut(&[u8])) -> Result<bool, Fault> {
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
                Err(_) => return Ok(true),
            }
            match line.as_slice() {
                [b'-', ..] => return Err(refusal(&line, password.as_deref())),
                // WAIT is over: the rest is the good-bye.
                [b':', ..] => return Ok(true),
                [.., b'\n'] => see(&line),
                [] if seen == 0 => return Err(Fault::from_io(&io::ErrorKind::UnexpectedEof.into())),
                [] => return Ok(true),
                // The end of the bytes that we read of it.
                _ => return Ok(false),
            }
        }
        Ok(false)
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::super::scripted::endpoint;
    use super::super::{Credentials, TlsStore};
    use super::*;

    const LINE: &str = "+1700000000.123456 [0 127.0.0.1:5000] \"GET\" \"k\"\r\n";

    /// What is seen of a feed of `bytes` in a time of 100 ms, and what was asked for it. The server never hangs up.
    async fn watch(bytes: Vec<u8>, end: FeedEnd) -> (Result<Vec<String>, PollError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut endpoint = endpoint(listener.local_addr().unwrap());
        endpoint.credentials = Credentials { username: None, password: Some("hunter2".to_owned().into()) };
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(b"+OK\r\n+OK\r\n").await.unwrap();
            let length = stream.read(&mut request).await.unwrap();
            // Whoever watches may have seen enough.
            stream.write_all(&bytes).await.ok();
            (String::from_utf8_lossy(&request[..length]).into_owned(), stream)
        };
        let client = async {
            let soon = Instant::now() + Duration::from_secs(5);
            let connection = Connection::open(&endpoint, &TlsStore::default(), soon).await.unwrap();
            let mut lines = Vec::new();
            let see = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
            connection.monitor(Duration::from_millis(100), end, see).await.map(|_| lines)
        };
        let ((request, _stream), seen) = tokio::join!(server, client);
        (seen, request)
    }

    #[tokio::test]
    async fn one_write_holds_the_feed_and_its_end() {
        let (seen, request) = watch(format!("+OK\r\n{LINE}{LINE}:0\r\n+OK\r\n").into(), FeedEnd::ByServer).await;
        assert_eq!(seen.unwrap(), ["+OK\r\n", LINE, LINE]);
        let commands =
            "*1\r\n$7\r\nMONITOR\r\n*3\r\n$4\r\nWAIT\r\n$10\r\n2147483647\r\n$3\r\n100\r\n*1\r\n$4\r\nQUIT\r\n";
        assert_eq!(request, commands);
        let (_, request) = watch(b"+OK\r\n".into(), FeedEnd::ByUs).await;
        assert_eq!(request, "*1\r\n$7\r\nMONITOR\r\n");
    }

    #[tokio::test]
    async fn lines_and_bytes_are_bounded() {
        let (seen, _) = watch(LINE.repeat(LINES_MAX + 1000).into(), FeedEnd::ByServer).await;
        assert_eq!(seen.unwrap().len(), LINES_MAX + 1);

        let long = format!("{LINE}{}", "x".repeat(BYTES_MAX as usize));
        let (seen, _) = watch(long.into(), FeedEnd::ByServer).await;
        assert_eq!(seen.unwrap(), [LINE], "the line that was cut is not shown");
    }

    #[tokio::test]
    async fn time_is_bounded() {
        let begun = Instant::now();
        let (seen, _) = watch(format!("+OK\r\n{LINE}+17").into(), FeedEnd::ByUs).await;
        assert_eq!(seen.unwrap().len(), 2);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let (seen, _) = watch(Vec::new(), FeedEnd::ByUs).await;
        assert_eq!(seen.unwrap_err().reason, FailureReason::Timeout);
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_grant_and_no_password() {
        for (reply, reason) in [
            ("-NOPERM User hunter2 may not 'monitor'\r\n", FailureReason::NoPerm),
            ("+OK\r\n-NOPERM User hunter2 may not 'wait'\r\n", FailureReason::NoPerm),
            ("+OK\r\n-ERR WAIT cannot be used with replica instances\r\n", FailureReason::Protocol),
        ] {
            let error = watch(reply.into(), FeedEnd::ByServer).await.0.unwrap_err();
            assert_eq!(error.reason, reason, "{reply}");
            assert!(error.detail.contains("+monitor +wait +quit") && !error.detail.contains("hunter2"), "{error}");
        }
    }
}
