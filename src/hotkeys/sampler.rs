//! One sample at a time: can the node bear it, for how long, and what was seen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::HotKeySlots;
use super::analysis::Analysis;
use super::commands::Commands;
use super::pattern::Patterns;
use super::schedule::{Schedule, Turn};
use crate::config::{Config, Endpoint, HotKeyMode};
use crate::detect::verdict::HotKeySample;
use crate::events;
use crate::model::{CacheName, FailureReason, NodeName, Role, SampleResult};
use crate::parse::info::Parts;
use crate::parse::{Info, Sample};
use crate::publish::Publisher;
use crate::wire::{Connection, FeedEnd, PollError, TlsStore};

/// How often the published state is looked at. Short against the pace of rounds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a connection and what we ask before the feed may take, each.
const DEADLINE: Duration = Duration::from_secs(2);

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

/// From this share of its memory limit on a node is left alone.
const MEMORY_RATIO_MAX: f64 = 0.9;

/// Largest hard limit on the output of a client that counts as one, bytes: what servers grant a replica unasked.
const OUTPUT_LIMIT_BYTES_MAX: u64 = 256 << 20;

/// Samples for ever, one node at a time, as the configuration of the day says. May be dropped at any point: the
/// server ends what is under way.
pub async fn run(mut configs: watch::Receiver<Arc<Config>>, publisher: Arc<Publisher>, slots: Arc<HotKeySlots>) {
    let mut config = Arc::clone(&configs.borrow_and_update());
    let mut sampler = Sampler {
        schedule: Schedule::new(&config),
        tls: TlsStore::default(),
        results: HashMap::new(),
        publisher,
        slots,
    };
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    announce(&config);
    loop {
        tokio::select! {
            changed = configs.changed() => {
                if changed.is_err() {
                    return;
                }
                config = Arc::clone(&configs.borrow_and_update());
                sampler.adopt(&config);
                announce(&config);
            }
            _ = looks.tick(), if config.hotkeys.sampled() => sampler.look(&config).await,
        }
    }
}

fn announce(config: &Config) {
    if config.hotkeys.mode == HotKeyMode::Auto && !config.hotkeys.sampled() {
        events::hot_keys_without_source();
    }
}

struct Sampler {
    schedule: Schedule,
    tls: TlsStore,
    /// How the last turn of a node ended: only changes are logged.
    results: HashMap<(CacheName, NodeName), SampleResult>,
    publisher: Arc<Publisher>,
    slots: Arc<HotKeySlots>,
}

impl Sampler {
    fn adopt(&mut self, config: &Config) {
        self.schedule.adopt(config);
        self.tls.forget();
        self.results.clear();
    }

    async fn look(&mut self, config: &Config) {
        let fleet = self.publisher.fleet();
        let Some(turn) = self.schedule.next(Instant::now(), &fleet) else { return };
        self.schedule.had(&turn, Instant::now());
        // The snapshot may still show what a reload has just removed.
        let Some(endpoint) = endpoint(config, &turn) else { return };
        let (result, detail) = match sample(endpoint, &self.tls, turn.commands_per_second).await {
            Ok(Some(sample)) => {
                self.slots.put(&turn.cache, &turn.node, sample);
                (SampleResult::Taken, String::new())
            }
            Ok(None) => (SampleResult::Empty, String::new()),
            Err(obstacle) => (obstacle.result(), obstacle.to_string()),
        };
        self.publisher.count_hot_key_sample(result);
        let before = self.results.insert((turn.cache.clone(), turn.node.clone()), result);
        if !detail.is_empty() && before != Some(result) {
            events::hot_keys_not_sampled(&turn.cache, &turn.node, result, &detail);
        }
    }
}

fn endpoint<'a>(config: &'a Config, turn: &Turn) -> Option<&'a Endpoint> {
    let cache = config.caches.iter().find(|cache| cache.name == turn.cache)?;
    cache.nodes.iter().find(|endpoint| endpoint.node == turn.node)
}

/// Why a node was not sampled.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Wire(#[from] PollError),
    #[error("{0}")]
    Unsafe(&'static str),
}

impl Obstacle {
    fn result(&self) -> SampleResult {
        match self {
            Self::Unsafe(_) => SampleResult::Unsafe,
            Self::Wire(error) if matches!(error.reason, FailureReason::NoPerm | FailureReason::Auth) => {
                SampleResult::Refused
            }
            Self::Wire(_) => SampleResult::Failed,
        }
    }
}

/// Samples one node over connections of its own. `None`: no key was accessed.
async fn sample(endpoint: &Endpoint, tls: &TlsStore, commands: f64) -> Result<Option<HotKeySample>, Obstacle> {
    let open = || Connection::open(endpoint, tls, Instant::now() + DEADLINE);
    let mut connection = open().await?;
    let text = connection.info(Instant::now() + DEADLINE).await?.text;
    let (time, end) = bearable(&Info::parse(&text), commands)?;
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
    let mut analysis = Analysis::new(Arc::new(Commands::built_in()), Patterns::default());
    feed.monitor(time, end, |line| analysis.line(line)).await?;
    Ok(analysis.hottest())
}

/// How long the node can be watched, and who has to end it. `commands` per second as last polled: the server's own
/// figure is 0 for a moment after CONFIG RESETSTAT.
fn bearable(info: &Info<'_>, commands: f64) -> Result<(Duration, FeedEnd), Obstacle> {
    let sample = Sample::from_info(info);
    let syncs = info.with_prefix("slave").any(|(_, value)| Parts(value).text("state").is_some_and(|at| at != "online"));
    if sample.loading || syncs || sample.sync_in_progress == Some(true) || sample.link_up == Some(false) {
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
    use super::*;

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
