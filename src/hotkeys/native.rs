//! The server's own count of hot keys: `HOTKEYS`, from Redis 8.6 on. It sends no traffic to a reader, so nothing can
//! stall.
//!
//! A server has one session for everyone. One that is not ours is read by its owner, not by us, and never stopped or
//! reset: whoever started it waits for its numbers. Ours ends by the server's timer, should we be gone.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::watch::DEADLINE;
use crate::model::{FailureReason, Flavor};
use crate::parse::Sample;
use crate::wire::{Connection, PollError, Reply};

/// How long the server counts.
const TIME: Duration = Duration::from_secs(1);

/// Later than its timer the session has ended.
const SLACK: Duration = Duration::from_millis(200);

/// Keys asked for.
const KEYS: &str = "20";

/// A busy server counts one command in so many …
const BUSY_RATIO: &str = "10";

/// … from this many commands per second on.
const BUSY_COMMANDS: f64 = 10_000.0;

/// What the server counted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NativeSample {
    /// How long it counted.
    pub(super) seconds: f64,
    /// The heaviest keys with their share of the CPU time of all commands.
    pub(super) keys: Vec<(String, f64)>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Native {
    /// With a count.
    Sampled(NativeSample),
    /// Somebody else's session is under way, or its result not yet fetched.
    Foreign,
    /// The server has no such command, or does not let us use it.
    Unavailable,
}

/// Whether the server has the command, by its version.
pub(super) fn is_offered(sample: &Sample) -> bool {
    sample.flavor == Some(Flavor::Redis) && sample.version_number() >= (8, 6)
}

/// Lets the server count for a second.
pub(super) async fn sample(connection: &mut Connection, commands: f64) -> Result<Native, PollError> {
    // Whatever is there is somebody's: a session under way, or a result that waits to be fetched.
    match connection.call(&["HOTKEYS", "GET"], Instant::now() + DEADLINE).await {
        Ok(Reply::Null) => {}
        Ok(_) => return Ok(Native::Foreign),
        Err(error) if matches!(error.reason, FailureReason::Protocol | FailureReason::NoPerm) => {
            return Ok(Native::Unavailable);
        }
        Err(error) => return Err(error),
    }
    let ratio = if commands >= BUSY_COMMANDS { BUSY_RATIO } else { "1" };
    let start = ["HOTKEYS", "START", "METRICS", "1", "CPU", "COUNT", KEYS, "DURATION", "1", "SAMPLE", ratio];
    match connection.call(&start, Instant::now() + DEADLINE).await {
        Ok(_) => {}
        // Someone was faster than we.
        Err(error) if error.reason == FailureReason::Protocol => return Ok(Native::Foreign),
        Err(error) if error.reason == FailureReason::NoPerm => return Ok(Native::Unavailable),
        Err(error) => return Err(error),
    }
    sleep(TIME + SLACK).await;
    let reply = connection.call(&["HOTKEYS", "GET"], Instant::now() + DEADLINE).await?;
    // Ours, as the server refuses a second one: what is left of it takes memory.
    connection.call(&["HOTKEYS", "RESET"], Instant::now() + DEADLINE).await?;
    Ok(read(&reply).map_or(Native::Unavailable, Native::Sampled))
}

/// Reads the reply to `HOTKEYS GET`: names and values in turn, in some versions as the only item of a list.
fn read(reply: &Reply) -> Option<NativeSample> {
    let fields = match reply.items() {
        [only @ Reply::Array(_)] => only,
        _ => reply,
    };
    let number = |name: &str| fields.field(name).and_then(Reply::integer).map(|number| number as f64);
    let all = number("all-commands-all-slots-us").filter(|all| *all > 0.0)?;
    // Only one command in so many was counted for the keys, but all of them for the sum.
    let ratio = number("sample-ratio").unwrap_or(1.0).max(1.0);
    let keys = fields.field("by-cpu-time-us")?.items().chunks_exact(2).filter_map(|pair| {
        let micros = pair[1].integer()? as f64;
        Some((pair[0].text()?.to_owned(), (micros * ratio / all).clamp(0.0, 1.0)))
    });
    Some(NativeSample { seconds: number("collection-duration-ms")? / 1e3, keys: keys.collect() })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::wire::TlsStore;
    use crate::wire::scripted::endpoint;

    fn text(text: &str) -> Reply {
        Reply::Text(text.to_owned())
    }

    /// The shape of the documentation's example and of a recorded reply.
    fn reply(ratio: i64, all: i64, keys: &[(&str, i64)]) -> Reply {
        let keys = keys.iter().flat_map(|(key, micros)| [text(key), Reply::Integer(*micros)]).collect();
        let slots = Reply::Array(vec![Reply::Array(vec![Reply::Integer(0), Reply::Integer(16383)])]);
        let fields = [
            ("tracking-active", Reply::Integer(0)),
            ("sample-ratio", Reply::Integer(ratio)),
            ("selected-slots", slots),
            ("all-commands-all-slots-us", Reply::Integer(all)),
            ("net-bytes-all-commands-all-slots", Reply::Integer(200)),
            ("collection-start-time-unix-ms", Reply::Integer(1_769_420_604_522)),
            ("collection-duration-ms", Reply::Integer(1003)),
            ("total-cpu-time-user-ms", Reply::Integer(3)),
            ("total-cpu-time-sys-ms", Reply::Integer(11)),
            ("by-cpu-time-us", Reply::Array(keys)),
        ];
        Reply::Array(fields.into_iter().flat_map(|(name, value)| [text(name), value]).collect())
    }

    #[test]
    fn redis_offers_it_from_8_6_on() {
        for (flavor, version, expected) in [
            (Flavor::Redis, "8.6.0", true),
            (Flavor::Redis, "10.0.1", true),
            (Flavor::Redis, "8.4.9", false),
            (Flavor::Redis, "7.0.15", false),
            (Flavor::Valkey, "9.1.2", false),
            (Flavor::Redis, "unstable", false),
        ] {
            let sample = Sample { flavor: Some(flavor), version: Some(version.into()), ..Sample::default() };
            assert_eq!(is_offered(&sample), expected, "{version}");
        }
    }

    /// A server that answers with these replies in turn; returns how the attempt ended, and what it was asked.
    async fn converse(replies: &'static [&'static str], commands: f64) -> (Result<Native, PollError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = endpoint(listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut asked, mut room) = (String::new(), [0; 1024]);
            for reply in ["+OK\r\n"].iter().chain(replies) {
                let length = stream.read(&mut room).await.unwrap();
                asked.push_str(&String::from_utf8_lossy(&room[..length]));
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
            asked
        });
        let soon = Instant::now() + Duration::from_secs(5);
        let mut connection = Connection::open(&endpoint, &TlsStore::default(), soon).await.unwrap();
        let ended = sample(&mut connection, commands).await;
        (ended, server.await.unwrap())
    }

    const COUNTED: &str = "*8\r\n$12\r\nsample-ratio\r\n:10\r\n$25\r\nall-commands-all-slots-us\r\n:1000\r\n\
        $22\r\ncollection-duration-ms\r\n:1000\r\n$14\r\nby-cpu-time-us\r\n*2\r\n$1\r\nx\r\n:50\r\n";

    #[tokio::test]
    async fn a_session_of_ours_is_started_read_and_cleared() {
        let (ended, asked) = converse(&["*-1\r\n", "+OK\r\n", COUNTED, "+OK\r\n"], 50_000.0).await;
        let expected = NativeSample { seconds: 1.0, keys: vec![("x".to_owned(), 0.5)] };
        assert_eq!(ended.unwrap(), Native::Sampled(expected));
        for words in ["DURATION\r\n$1\r\n1\r\n", "SAMPLE\r\n$2\r\n10\r\n", "RESET"] {
            assert!(asked.contains(words), "{words} in {asked}");
        }
    }

    #[tokio::test]
    async fn a_session_of_others_is_left_alone() {
        const THERE: &[&str] = &[COUNTED];
        const BETWEEN: &[&str] = &["*-1\r\n", "-ERR hotkeys tracking session already in progress\r\n"];
        for replies in [THERE, BETWEEN] {
            let (ended, asked) = converse(replies, 1.0).await;
            assert_eq!(ended.unwrap(), Native::Foreign);
            assert!(!asked.contains("RESET") && !asked.contains("STOP"), "{asked}");
        }
    }

    #[tokio::test]
    async fn a_server_that_refuses_has_no_such_source() {
        for refusal in
            [&["-NOPERM no permissions to run 'hotkeys|get'\r\n"][..], &["-ERR unknown command 'HOTKEYS'\r\n"]]
        {
            assert_eq!(converse(refusal, 1.0).await.0.unwrap(), Native::Unavailable);
        }
    }

    #[test]
    fn shares_are_those_of_all_commands() {
        let plain = reply(1, 220, &[("x", 104), ("y", 98), ("z", 18)]);
        for reply in [plain.clone(), Reply::Array(vec![plain])] {
            let sample = read(&reply).unwrap();
            let shares: Vec<(&str, f64)> = sample.keys.iter().map(|(key, share)| (key.as_str(), *share)).collect();
            assert_eq!(shares, [("x", 104.0 / 220.0), ("y", 98.0 / 220.0), ("z", 18.0 / 220.0)]);
            assert_eq!(sample.seconds, 1.003);
        }
    }

    #[test]
    fn what_was_sampled_is_multiplied() {
        let sample = read(&reply(10, 1000, &[("x", 40), ("y", 200)])).unwrap();
        assert_eq!(sample.keys, [("x".to_owned(), 0.4), ("y".to_owned(), 1.0)]);
    }

    #[test]
    fn nothing_counted_is_no_sample() {
        for reply in [Reply::Null, reply(1, 0, &[]), Reply::Array(Vec::new())] {
            assert_eq!(read(&reply), None);
        }
    }
}
