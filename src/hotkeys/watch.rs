//! One moment of a node's traffic: can the node bear to be watched, for how long, and what was seen.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::analysis::Analysis;
use crate::config::Endpoint;
use crate::model::{FailureReason, Role, SampleResult};
use crate::parse::info::Parts;
use crate::parse::{Info, Sample};
use crate::publish::SamplingCost;
use crate::wire::{Connection, FeedEnd, PollError, TlsStore};

/// How long a connection and what we ask before the feed may take, each.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);

/// Longest feed.
const FEED_TIME_MAX: f64 = 1.0;

/// A shorter feed says nothing: such a node is left alone. Seconds.
const FEED_TIME_MIN: f64 = 0.02;

/// What a server may come to hold for us if we never read, bytes.
const OUTPUT_BYTES_MAX: f64 = (1 << 20) as f64;

/// Output of `MONITOR` per byte of input: a byte that does not print becomes four.
const OUTPUT_PER_INPUT: f64 = 4.0;

/// Output of `MONITOR` per command that took no input to speak of, bytes: those that scripts call.
const OUTPUT_PER_COMMAND: f64 = 128.0;

/// Commands that are enough: they give a share within three points. A loaded server is watched no longer than
/// they take …
const COMMANDS_ENOUGH: f64 = 2_000.0;

/// … but over enough bursts of its clients to be of all of them. Seconds.
const FEED_TIME_ENOUGH: f64 = 0.25;

/// From this share of one core, taken by its main thread, a node is left alone.
const CPU_SHARE_MAX: f64 = 0.7;

/// How long a server's use of its CPU is looked at.
const CPU_TIME: Duration = Duration::from_millis(250);

/// From this share of its memory limit on a node is left alone.
const MEMORY_RATIO_MAX: f64 = 0.9;

/// Largest hard limit on the output of a client that counts as one, bytes: what servers grant a replica unasked.
const OUTPUT_LIMIT_BYTES_MAX: u64 = 256 << 20;

/// Why a node was not sampled.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// It could not be asked.
    #[error(transparent)]
    Wire(#[from] PollError),
    /// It could be harmed.
    #[error("{0}")]
    Unsafe(&'static str),
}

impl Obstacle {
    /// As samples are counted.
    #[must_use]
    pub fn result(&self) -> SampleResult {
        match self {
            Self::Unsafe(_) => SampleResult::Unsafe,
            Self::Wire(error) if matches!(error.reason, FailureReason::NoPerm | FailureReason::Auth) => {
                SampleResult::Refused
            }
            Self::Wire(_) => SampleResult::Failed,
        }
    }
}

/// Watches one node for a moment, over connections of its own, and returns for how long, 0 seconds if it was too short
/// to tell, and how many bytes came. `commands` per second as last polled, where that is known.
pub(super) async fn watch(
    endpoint: &Endpoint,
    tls: &TlsStore,
    commands: f64,
    analysis: &mut Analysis,
) -> Result<SamplingCost, Obstacle> {
    let open = || Connection::open(endpoint, tls, Instant::now() + DEADLINE);
    let mut connection = open().await?;
    let first = connection.info(Instant::now() + DEADLINE).await?.text;
    bearable(&Info::parse(&first), commands)?;
    sleep(CPU_TIME).await;
    let text = connection.info(Instant::now() + DEADLINE).await?.text;
    let (time, end) = bearable(&Info::parse(&text), commands)?;
    if cpu_share(&Info::parse(&first), &Info::parse(&text)).is_some_and(|share| share >= CPU_SHARE_MAX) {
        return Err(Obstacle::Unsafe("its main thread has no CPU time to spare"));
    }
    let feed = match end {
        FeedEnd::ByServer => {
            // Without the right to QUIT the server would not end the feed: proven on this connection first.
            connection.quit(Instant::now() + DEADLINE).await?;
            open().await?
        }
        FeedEnd::ByUs => {
            let names = ["client-output-buffer-limit", "maxmemory-clients"];
            let settings = connection.settings(names, Instant::now() + DEADLINE).await?;
            if !limited(settings.each_ref().map(Option::as_deref), &Sample::from_info(&Info::parse(&text))) {
                return Err(Obstacle::Unsafe("a replica without client-output-buffer-limit or maxmemory-clients"));
            }
            connection
        }
    };
    analysis.pause();
    let mut bytes = 0;
    let see = |line: &[u8]| {
        bytes += line.len() as u64;
        analysis.line(line);
    };
    let whole = feed.monitor(time, end, see).await?;
    // Of a feed that was cut, its lines tell how long it was.
    let seconds = if whole { time.as_secs_f64() } else { analysis.seconds_since_pause().unwrap_or(0.0) };
    Ok(SamplingCost { seconds, bytes })
}

/// The share of one core that the server's main thread took between two `INFO`; `None` where it does not tell.
fn cpu_share(before: &Info<'_>, after: &Info<'_>) -> Option<f64> {
    let used = |info: &Info<'_>| {
        let main = info.number("used_cpu_user_main_thread").zip(info.number("used_cpu_sys_main_thread"));
        main.or_else(|| info.number("used_cpu_user").zip(info.number("used_cpu_sys"))).map(|(user, sys)| user + sys)
    };
    let micros = after.number("server_time_usec")? - before.number("server_time_usec")?;
    (micros > 0.0).then_some((used(after)? - used(before)?) * 1e6 / micros)
}

/// How long the node can be watched, and who has to end it. `commands` per second as last polled: the server's own
/// figure is 0 for a moment after CONFIG RESETSTAT.
fn bearable(info: &Info<'_>, commands: f64) -> Result<(Duration, FeedEnd), Obstacle> {
    let sample = Sample::from_info(info);
    let syncs = info.with_prefix("slave").any(|(_, value)| Parts(value).text("state").is_some_and(|at| at != "online"));
    if sample.is_loading() || syncs || sample.sync_in_progress == Some(true) || sample.link_up == Some(false) {
        return Err(Obstacle::Unsafe("it is loading or syncing"));
    }
    let memory = sample.memory_used_ratio();
    if memory.is_some_and(|ratio| ratio >= MEMORY_RATIO_MAX) {
        return Err(Obstacle::Unsafe("its memory is nearly full"));
    }
    let end = match sample.role {
        Some(Role::Master) => FeedEnd::ByServer,
        Some(Role::Replica) => FeedEnd::ByUs,
        Some(Role::Sentinel) | None => return Err(Obstacle::Unsafe("it is neither master nor replica")),
    };
    let (Some(input_kib), Some(own)) =
        (info.number("instantaneous_input_kbps"), info.number("instantaneous_ops_per_sec"))
    else {
        return Err(Obstacle::Unsafe("it does not tell its present load"));
    };
    let free = sample.maxmemory_bytes.zip(memory).map(|(limit, ratio)| limit as f64 * (1.0 - ratio));
    let time = feed_time(input_kib * 1024.0, commands.max(own), free);
    time.map(|time| (time, end)).ok_or(Obstacle::Unsafe("its load is too high for a sample that is safe"))
}

/// How long `MONITOR` may run so that what the server would have to hold for a reader that never reads stays within
/// 1 MiB and half of its `free` bytes, and no longer than a sample needs. `None`: too short to say anything.
fn feed_time(input_bytes_per_second: f64, commands_per_second: f64, free: Option<f64>) -> Option<Duration> {
    let output = (OUTPUT_PER_INPUT * input_bytes_per_second).max(OUTPUT_PER_COMMAND * commands_per_second);
    let harmless = free.map_or(OUTPUT_BYTES_MAX, |free| OUTPUT_BYTES_MAX.min(free / 2.0)) / output.max(1.0);
    let enough = (COMMANDS_ENOUGH / commands_per_second.max(1.0)).max(FEED_TIME_ENOUGH);
    let seconds = FEED_TIME_MAX.min(harmless).min(enough);
    (seconds >= FEED_TIME_MIN).then(|| Duration::from_secs_f64(seconds))
}

/// Whether the server itself limits what it holds for a client: a hard `client-output-buffer-limit` for normal
/// ones, or `maxmemory-clients`. A percentage of a memory limit that is not set limits nothing.
fn limited([output, clients]: [Option<&str>; 2], sample: &Sample) -> bool {
    let mut words = output.unwrap_or_default().split_whitespace();
    let hard = words.find(|word| *word == "normal").and_then(|_| words.next()?.parse::<u64>().ok());
    let by_output = hard.is_some_and(|bytes| (1..=OUTPUT_LIMIT_BYTES_MAX).contains(&bytes));
    let by_memory = clients.is_some_and(|limit| match limit.strip_suffix('%') {
        Some(percent) => percent != "0" && sample.maxmemory_bytes.is_some_and(|bytes| bytes > 0),
        None => limit.parse::<u64>().is_ok_and(|bytes| (1..=OUTPUT_LIMIT_BYTES_MAX).contains(&bytes)),
    });
    by_output || by_memory
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::commands::Commands;
    use super::super::pattern::Patterns;
    use super::*;
    use crate::wire::scripted::{Script, ScriptedServer, bulk};

    const CALM: &str = "role:master\r\nloading:0\r\ninstantaneous_input_kbps:10\r\ninstantaneous_ops_per_sec:100\r\n\
        used_memory:50000000\r\nmaxmemory:100000000\r\nslave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0\r\n";

    fn verdict(info: &str) -> Result<(Duration, FeedEnd), SampleResult> {
        bearable(&Info::parse(info), 0.0).map_err(|obstacle| obstacle.result())
    }

    #[test]
    fn a_calm_master_is_watched_for_a_second() {
        assert_eq!(verdict(CALM), Ok((Duration::from_secs(1), FeedEnd::ByServer)));
        let replica = CALM.replace("role:master", "role:slave\r\nmaster_link_status:up\r\nmaster_sync_in_progress:0");
        assert_eq!(verdict(&replica), Ok((Duration::from_secs(1), FeedEnd::ByUs)));
    }

    #[test]
    fn a_node_that_could_be_harmed_is_left_alone() {
        for (from, to) in [
            ("used_memory:50000000", "used_memory:90000000"),
            ("loading:0", "loading:1"),
            ("state=online", "state=send_bulk"),
            ("state=online", "state=wait_bgsave"),
            ("role:master", "role:slave\r\nmaster_sync_in_progress:1"),
            ("role:master", "role:slave\r\nmaster_link_status:down"),
            ("role:master", "redis_mode:sentinel"),
            ("role:master\r\n", ""),
            ("kbps:10\r", "kbps:20000\r"),
            ("per_sec:100", "per_sec:1000000"),
            ("instantaneous_input_kbps:10\r\n", ""),
            ("instantaneous_ops_per_sec:100\r\n", ""),
        ] {
            let info = CALM.replace(from, to);
            assert_ne!(info, CALM, "{from}");
            assert_eq!(verdict(&info), Err(SampleResult::Unsafe), "{to}");
        }
    }

    #[test]
    fn a_busy_main_thread_is_seen() {
        let info = |time: u64, user: f64, main: bool| {
            let suffix = if main { "_main_thread" } else { "" };
            format!("server_time_usec:{time}\r\nused_cpu_user{suffix}:{user}\r\nused_cpu_sys{suffix}:1.0\r\n")
        };
        let share = |before: &str, after: &str| cpu_share(&Info::parse(before), &Info::parse(after));
        for main in [true, false] {
            let found = share(&info(1_000_000, 5.0, main), &info(1_250_000, 5.2, main)).unwrap();
            assert!((found - 0.8).abs() < 1e-9, "{found}");
        }
        assert_eq!(share(CALM, CALM), None);
    }

    /// As the server is at first, and a quarter of a second later: what was asked of it.
    async fn asked(first: &str, later: &str) -> (Option<SampleResult>, Vec<String>) {
        let script = Script { info: bulk(first), later_info: Some(bulk(later)), ..Script::default() };
        let server = ScriptedServer::start(script).await;
        let mut analysis = Analysis::new(Arc::new(Commands::built_in()), Patterns::default());
        let watched = watch(&server.endpoint(), &TlsStore::default(), 0.0, &mut analysis).await;
        (watched.err().map(|obstacle| obstacle.result()), server.commands())
    }

    #[tokio::test]
    async fn a_node_that_is_or_becomes_busy_is_not_watched() {
        let at = |time: u64, user: f64| {
            format!(
                "{CALM}server_time_usec:{time}\r\nused_cpu_user_main_thread:{user}\r\nused_cpu_sys_main_thread:1\r\n"
            )
        };
        let (calm, full) = (at(1_250_000, 5.05), at(1_250_000, 5.05).replace("memory:50000000", "memory:95000000"));
        for later in [at(1_250_000, 5.2), full, calm.replace("loading:0", "loading:1")] {
            let (result, commands) = asked(&at(1_000_000, 5.0), &later).await;
            assert_eq!(result, Some(SampleResult::Unsafe), "{later}");
            assert!(
                commands.iter().all(|command| !command.starts_with("MONITOR") && command != "QUIT"),
                "{commands:?}"
            );
        }
        // Nothing else held it back.
        let (_, commands) = asked(&at(1_000_000, 5.0), &calm).await;
        assert!(commands.contains(&"QUIT".to_owned()), "{commands:?}");
    }

    #[test]
    fn a_loaded_server_is_watched_for_less_time() {
        let seconds = |input, commands, free| feed_time(input, commands, free).map(|time| time.as_secs_f64());
        assert_eq!(seconds(0.0, 0.0, None), Some(1.0));
        assert_eq!(seconds(100e3, 1_000.0, None), Some(1.0));
        assert_eq!(seconds(100e3, 4_000.0, None), Some(0.5), "2,000 commands are enough");
        assert_eq!(seconds(500e3, 16_000.0, None), Some(0.25), "but not if all came at once");
        assert_eq!(seconds(1e6, 1_000.0, None), Some(f64::from(1 << 20) / 4e6), "1 MiB at four times the input");
        assert_eq!(seconds(1e6, 1_000.0, Some(1e6)), Some(0.125), "half of what is free");
        assert_eq!(seconds(1e6, 81_920.0, None), Some(0.1), "scripts call without input");
        assert_eq!(seconds(20e6, 1_000.0, None), None);
    }

    #[test]
    fn a_limit_counts_when_it_limits() {
        let normal =
            |limit: &str| Some(format!("normal {limit} slave 268435456 67108864 60 pubsub 33554432 8388608 60"));
        let with_limit = Sample { maxmemory_bytes: Some(1 << 30), ..Sample::default() };
        let without = Sample { maxmemory_bytes: Some(0), ..Sample::default() };
        for (output, clients, sample, expected) in [
            (normal("0 0 0"), Some("0"), &with_limit, false),
            (normal("33554432 0 0"), Some("0"), &without, true),
            (normal("33554432 0 0"), None, &without, true),
            (normal("10737418240 0 0"), None, &without, false),
            (normal("0 1048576 10"), None, &without, false),
            (normal("0 0 0"), Some("5%"), &with_limit, true),
            (normal("0 0 0"), Some("0%"), &with_limit, false),
            (normal("0 0 0"), Some("5%"), &without, false),
            (normal("0 0 0"), Some("104857600"), &without, true),
            (Some("slave normal".to_owned()), Some(""), &with_limit, false),
            (None, None, &with_limit, false),
        ] {
            assert_eq!(limited([output.as_deref(), clients], sample), expected, "{output:?} {clients:?}");
        }
    }
}
