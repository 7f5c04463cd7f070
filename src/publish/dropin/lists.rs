//! Families with a series per command, error, replica, event or watched master, and those about the polls themselves.
//!
//! Every list is cut at a bound: a server decides what it says, not what it makes us keep.

use super::{
    ALL_DATABASES, DropInRow, Family, Kind, MASTER_LABELS, ServerView, Sink, Source, databases, master, of_master,
};
use crate::model::FailureReason;
use crate::parse::info::Parts;
use crate::publish::table::Distribution;

/// Commands shown, first by name. Redis 8 knows about 400, subcommands among them; a server lists those it was sent.
const MAX_COMMANDS: usize = 500;
/// Errors shown; Redis itself keeps 128.
const MAX_ERRORS: usize = 128;
/// Replicas shown of one master.
const MAX_REPLICAS: usize = 64;
/// Latency events shown; Redis knows about 20.
const MAX_EVENTS: usize = 64;
/// Settings shown: as many as are asked for.
const MAX_SETTINGS: usize = 6;
/// Masters shown of one Sentinel.
const MAX_MASTERS: usize = 100;

/// Upper bounds of `redis_commands_latencies_usec`, microseconds, as `LATENCY HISTOGRAM` has them. It sends those
/// whose count differs from the one before; here all are there from the start, so that none appears in the middle of a
/// `rate()`.
const LATENCY_BOUNDS_USEC: [f64; 21] = [
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
    33.0,
    66.0,
    132.0,
    264.0,
    528.0,
    1056.0,
    2113.0,
    4227.0,
    8454.0,
    16_908.0,
    33_816.0,
    67_633.0,
    135_266.0,
    270_532.0,
    541_065.0,
    1_073_741.0,
];

/// Percentiles that `latencystats` gives by default, as (part of the value, label `quantile`). Not the 0.99 of other
/// summaries: a rule that selects `quantile="99.9"`, as rules for redis_exporter do, must not fall silent.
const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)];

const COMMAND: &[&str] = &["cmd"];
const REPLICA: &[&str] = &["slave_ip", "slave_port", "slave_state"];
const WATCHED: &[&str] = &["master_name", "master_address"];

type Read = fn(&ServerView<'_>, &mut Sink<'_>);

const fn row(
    kind: Kind,
    name: &'static str,
    labels: &'static [&'static str],
    max_series: usize,
    help: &'static str,
    read: Read,
) -> DropInRow {
    DropInRow {
        family: Family::node_gauge(name, help).by(labels, max_series).of_kind(kind),
        source: Source::Read(read),
    }
}

const fn of_commands(name: &'static str, help: &'static str, read: Read) -> DropInRow {
    row(Kind::Counter, name, COMMAND, MAX_COMMANDS, help, read)
}

const fn of_sentinel(name: &'static str, help: &'static str, read: Read) -> DropInRow {
    row(Kind::Gauge, name, WATCHED, MAX_MASTERS, help, read)
}

const fn of_polls(kind: Kind, name: &'static str, help: &'static str, read: Read) -> DropInRow {
    row(kind, name, &[], 1, help, read)
}

/// More than one series each, or more than one field.
pub(super) const LISTS: &[DropInRow] = &[
    of_commands("redis_commands_total", "Calls by command (cmdstat calls).", |server, out| {
        commands(server, "calls", 1.0, out);
    }),
    of_commands("redis_commands_duration_seconds_total", "Seconds spent by command (cmdstat usec).", |server, out| {
        commands(server, "usec", 1e6, out);
    }),
    of_commands(
        "redis_commands_rejected_calls_total",
        "Calls refused before they ran, by command (cmdstat rejected_calls).",
        |server, out| commands(server, "rejected_calls", 1.0, out),
    ),
    of_commands(
        "redis_commands_failed_calls_total",
        "Calls that failed while they ran, by command (cmdstat failed_calls).",
        |server, out| commands(server, "failed_calls", 1.0, out),
    ),
    row(
        Kind::Histogram,
        "redis_commands_latencies_usec",
        COMMAND,
        MAX_COMMANDS,
        "Microseconds a call took, by command; up to 30 s old (LATENCY HISTOGRAM).",
        latencies,
    ),
    row(
        Kind::Summary,
        "redis_latency_percentiles_usec",
        COMMAND,
        MAX_COMMANDS,
        "Microseconds a call took, by command; the quantiles up to 30 s old (latencystats, cmdstat).",
        percentiles,
    ),
    row(
        Kind::Counter,
        "redis_errors_total",
        &["err"],
        MAX_ERRORS,
        "Errors by their first word (errorstat count).",
        |server, out| {
            for (error, value) in server.info.with_prefix("errorstat_").take(MAX_ERRORS) {
                if let Some(count) = Parts(value).counter("count") {
                    out.labelled(&[error], count as f64);
                }
            }
        },
    ),
    row(
        Kind::Gauge,
        "redis_db_avg_ttl_seconds",
        &["db"],
        ALL_DATABASES,
        "Estimated mean TTL in seconds by database, of databases that hold keys (dbN avg_ttl).",
        |server, out| databases(server, "avg_ttl", 1e3, out),
    ),
    row(
        Kind::Gauge,
        "redis_db_keys_cached",
        &["db"],
        ALL_DATABASES,
        "Keys kept in memory of a storage that holds more, by database (dbN cached, sent by KeyDB).",
        |server, out| databases(server, "cached", 1.0, out),
    ),
    row(
        Kind::Gauge,
        "redis_connected_slave_lag_seconds",
        REPLICA,
        MAX_REPLICAS,
        "Seconds since a replica last acknowledged, not the age of its data (slaveN lag).",
        |server, out| replicas(server, "lag", out),
    ),
    row(
        Kind::Gauge,
        "redis_connected_slave_offset_bytes",
        REPLICA,
        MAX_REPLICAS,
        "Offset that a replica has acknowledged (slaveN offset).",
        |server, out| replicas(server, "offset", out),
    ),
    row(
        Kind::Gauge,
        "redis_slave_info",
        &["master_host", "master_port", "read_only"],
        1,
        "Always 1, on replicas (master_host, master_port, slave_read_only).",
        |server, out| {
            if server.info.text("master_host").is_some() {
                let [host, port] = master(&server.info);
                out.labelled(&[host, port, server.info.text("slave_read_only").unwrap_or("")], 1.0);
            }
        },
    ),
    row(
        Kind::Gauge,
        "redis_master_sync_in_progress",
        MASTER_LABELS,
        1,
        "1 while a replica copies its master's data (master_sync_in_progress); absent on masters.",
        |server, out| of_master(server, "master_sync_in_progress", out),
    ),
    row(
        Kind::Gauge,
        "redis_config_value",
        &["key"],
        MAX_SETTINGS,
        "Settings that are numbers: io-threads, slowlog-log-slower-than, slowlog-max-len (CONFIG GET).",
        |server, out| {
            for (key, value) in settings(server) {
                if let Ok(value) = value.parse() {
                    out.labelled(&[key], value);
                }
            }
        },
    ),
    row(
        Kind::Gauge,
        "redis_config_key_value",
        &["key", "value"],
        MAX_SETTINGS,
        "Always 1; those settings and appendfsync, client-output-buffer-limit, save as text (CONFIG GET).",
        |server, out| {
            for (key, value) in settings(server) {
                out.labelled(&[key, value], 1.0);
            }
        },
    ),
    row(
        Kind::Gauge,
        "redis_config_client_output_buffer_limit_bytes",
        &["class", "limit"],
        6,
        "Limits of output buffers in bytes by class (CONFIG GET client-output-buffer-limit).",
        |server, out| {
            for [class, hard, soft, _] in buffer_limits(server) {
                limit(&[class, "hard"], hard, out);
                limit(&[class, "soft"], soft, out);
            }
        },
    ),
    row(
        Kind::Gauge,
        "redis_config_client_output_buffer_limit_overcome_seconds",
        &["class", "limit"],
        3,
        "Seconds for which the soft limit may be passed, by class (CONFIG GET client-output-buffer-limit).",
        |server, out| {
            for [class, _, _, seconds] in buffer_limits(server) {
                limit(&[class, "soft"], seconds, out);
            }
        },
    ),
    row(
        Kind::Gauge,
        "redis_latency_spike_last",
        &["event_name"],
        MAX_EVENTS,
        "When an event was last too slow, Unix seconds (LATENCY LATEST).",
        |server, out| spikes(server, "at", 1.0, out),
    ),
    row(
        Kind::Gauge,
        "redis_latency_spike_duration_seconds",
        &["event_name"],
        MAX_EVENTS,
        "Seconds that took (LATENCY LATEST).",
        |server, out| spikes(server, "last", 1e3, out),
    ),
    row(
        Kind::Gauge,
        "redis_sentinel_master_status",
        &["master_name", "master_address", "master_status"],
        MAX_MASTERS,
        "1 if the Sentinel finds the master well; how it sees it otherwise stands in master_status (masterN status).",
        |server, out| {
            for master in listed_masters(server) {
                let status = master.parts.text("status").unwrap_or("");
                let well = f64::from(u8::from(status == "ok"));
                out.labelled(&[master.name, master.address, status], well);
            }
        },
    ),
    of_sentinel("redis_sentinel_master_slaves", "Replicas of the master (masterN slaves).", |server, out| {
        listed(server, "slaves", out);
    }),
    of_sentinel(
        "redis_sentinel_master_sentinels",
        "Sentinels that watch the master, this one among them (masterN sentinels).",
        |server, out| listed(server, "sentinels", out),
    ),
    of_sentinel(
        "redis_sentinel_master_ok_slaves",
        "Replicas of the master that are not down (SENTINEL REPLICAS).",
        |server, out| watched(server, "ok-slaves", 1.0, out),
    ),
    of_sentinel(
        "redis_sentinel_master_ok_sentinels",
        "Sentinels that watch the master and are not down, this one among them (SENTINEL SENTINELS).",
        |server, out| watched(server, "ok-sentinels", 1.0, out),
    ),
    of_sentinel(
        "redis_sentinel_master_last_ok_ping_reply_seconds",
        "Seconds since the master last answered well (SENTINEL MASTERS last-ok-ping-reply).",
        |server, out| watched(server, "last-ok-ping-reply", 1e3, out),
    ),
    of_sentinel(
        "redis_sentinel_master_config_epoch",
        "Grows with every failover of the master (SENTINEL MASTERS config-epoch).",
        |server, out| watched(server, "config-epoch", 1.0, out),
    ),
    row(
        Kind::Gauge,
        "redis_sentinel_master_ckquorum_status",
        &["master_name", "message"],
        MAX_MASTERS,
        "1 if enough Sentinels answer for a failover; in message, what the Sentinel says of it (SENTINEL CKQUORUM).",
        |server, out| {
            for (name, message) in server.info.with_prefix("+ckquorum_").take(MAX_MASTERS) {
                out.labelled(&[name, message], f64::from(u8::from(!message.starts_with("NOQUORUM"))));
            }
        },
    ),
    of_sentinel(
        "redis_sentinel_master_setting_ckquorum",
        "Sentinels that must agree, as configured (SENTINEL MASTERS quorum).",
        |server, out| watched(server, "quorum", 1.0, out),
    ),
    of_sentinel(
        "redis_sentinel_master_setting_failover_timeout",
        "Milliseconds a failover may take, as configured (SENTINEL MASTERS failover-timeout).",
        |server, out| watched(server, "failover-timeout", 1.0, out),
    ),
    of_sentinel(
        "redis_sentinel_master_setting_parallel_syncs",
        "Replicas that may synchronise at once, as configured (SENTINEL MASTERS parallel-syncs).",
        |server, out| watched(server, "parallel-syncs", 1.0, out),
    ),
    of_sentinel(
        "redis_sentinel_master_setting_down_after_milliseconds",
        "Milliseconds of silence that mean down, as configured (SENTINEL MASTERS down-after-milliseconds).",
        |server, out| watched(server, "down-after-milliseconds", 1.0, out),
    ),
    of_polls(Kind::Counter, "redis_exporter_scrapes_total", "Polls of the server, answered or not.", |server, out| {
        out.number(Some(server.polls as f64));
    }),
    row(
        Kind::Gauge,
        "redis_exporter_last_scrape_error",
        &["err"],
        1,
        "1 if the last poll was not answered; in err, why: a reason of cache_storm_poll_failures_total.",
        |server, out| {
            let reason = server.down.map_or("", FailureReason::as_str);
            out.labelled(&[reason], f64::from(u8::from(!server.up)));
        },
    ),
    of_polls(
        Kind::Gauge,
        "redis_exporter_last_scrape_duration_seconds",
        "Seconds the last answer took.",
        |server, out| out.number((server.answers.count > 0).then_some(server.answers.last_seconds)),
    ),
    of_polls(Kind::Summary, "redis_exporter_scrape_duration_seconds", "Seconds answers took.", |server, out| {
        let (sum, count) = (server.answers.seconds, server.answers.count as f64);
        out.distribution(&[], Distribution { points: &[], sum, count });
    }),
    row(
        Kind::Gauge,
        "redis_exporter_build_info",
        &["version"],
        1,
        "Always 1; the version of cache-storm-exporter.",
        |_, out| out.labelled(&[env!("CARGO_PKG_VERSION")], 1.0),
    ),
];

fn commands(server: &ServerView<'_>, part: &str, per: f64, out: &mut Sink<'_>) {
    for (command, value) in server.info.with_prefix("cmdstat_").take(MAX_COMMANDS) {
        if let Some(value) = Parts(value).counter(part) {
            out.labelled(&[command], value as f64 / per);
        }
    }
}

fn percentiles(server: &ServerView<'_>, out: &mut Sink<'_>) {
    for (command, value) in server.info.with_prefix("latency_percentiles_usec_").take(MAX_COMMANDS) {
        let (values, calls) = (Parts(value), server.info.text(&format!("cmdstat_{command}")).map(Parts));
        let Some((sum, count)) = calls.and_then(|calls| Some((calls.counter("usec")?, calls.counter("calls")?))) else {
            continue;
        };
        let points: Vec<(f64, f64)> =
            PERCENTILES.iter().filter_map(|(part, quantile)| Some((*quantile, values.number(part)?))).collect();
        out.distribution(&[command], Distribution { points: &points, sum: sum as f64, count: count as f64 });
    }
}

fn latencies(server: &ServerView<'_>, out: &mut Sink<'_>) {
    for (command, value) in server.info.with_prefix("+histogram_").take(MAX_COMMANDS) {
        let parts = Parts(value);
        let (Some(count), Some(sum)) = (parts.counter("calls"), parts.counter("usec")) else { continue };
        let mut sent =
            parts.iter().filter_map(|(bound, below)| Some((bound.parse::<f64>().ok()?, below.parse::<u64>().ok()?)));
        let (mut next, mut below) = (sent.next(), 0);
        let points = LATENCY_BOUNDS_USEC.map(|bound| {
            // Half way to the next, as each is twice the one before: some servers round differently.
            while let Some((_, more)) = next.filter(|(at, _)| *at < bound * 1.5) {
                below = more;
                next = sent.next();
            }
            (bound, below as f64)
        });
        out.distribution(&[command], Distribution { points: &points, sum: sum as f64, count: count as f64 });
    }
}

fn replicas(server: &ServerView<'_>, part: &str, out: &mut Sink<'_>) {
    let replicas = server.info.with_prefix("slave").filter(|(number, _)| number.parse::<u32>().is_ok());
    let mut seen = std::collections::BTreeSet::new();
    for (_, value) in replicas.take(MAX_REPLICAS) {
        let parts = Parts(value);
        let labels = ["ip", "port", "state"].map(|label| parts.text(label).unwrap_or(""));
        if let Some(value) = parts.counter(part).filter(|_| seen.insert(labels)) {
            out.labelled(&labels, value as f64);
        }
    }
}

fn spikes(server: &ServerView<'_>, part: &str, per: f64, out: &mut Sink<'_>) {
    for (event, value) in server.info.with_prefix("+spike_").take(MAX_EVENTS) {
        if let Some(value) = Parts(value).counter(part) {
            out.labelled(&[event], value as f64 / per);
        }
    }
}

/// Settings that were asked for, as (name, value).
fn settings<'a>(server: &ServerView<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    server.info.with_prefix("+config_").take(MAX_SETTINGS)
}

/// `normal 0 0 0 slave 268435456 67108864 60 …` as (class, hard bytes, soft bytes, seconds).
fn buffer_limits<'a>(server: &ServerView<'a>) -> impl Iterator<Item = [&'a str; 4]> + use<'a> {
    let words = server.info.text("+config_client-output-buffer-limit").unwrap_or("").split(' ');
    let words: Vec<&str> = words.collect();
    let limits: Vec<[&str; 4]> =
        words.chunks_exact(4).take(3).map(|limit| [limit[0], limit[1], limit[2], limit[3]]).collect();
    limits.into_iter()
}

fn limit(labels: &[&str], value: &str, out: &mut Sink<'_>) {
    if let Ok(value) = value.parse::<u64>() {
        out.labelled(labels, value as f64);
    }
}

/// A master as the Sentinel's `INFO` lists it: `masterN:name=…,status=…,address=…,slaves=…,sentinels=…`.
struct Listed<'a> {
    name: &'a str,
    address: &'a str,
    parts: Parts<'a>,
}

fn listed_masters<'a>(server: &ServerView<'a>) -> impl Iterator<Item = Listed<'a>> {
    let masters = server.info.with_prefix("master").filter(|(number, _)| number.parse::<u32>().is_ok());
    masters.take(MAX_MASTERS).filter_map(|(_, value)| {
        let parts = Parts(value);
        Some(Listed { name: parts.text("name")?, address: parts.text("address")?, parts })
    })
}

fn listed(server: &ServerView<'_>, part: &str, out: &mut Sink<'_>) {
    for master in listed_masters(server) {
        if let Some(value) = master.parts.counter(part) {
            out.labelled(&[master.name, master.address], value as f64);
        }
    }
}

/// Masters of a Sentinel as it was asked about them, by name.
fn watched_masters<'a>(server: &ServerView<'a>) -> impl Iterator<Item = (&'a str, Parts<'a>)> {
    server.info.with_prefix("+watched_").take(MAX_MASTERS).map(|(name, value)| (name, Parts(value)))
}

fn watched(server: &ServerView<'_>, part: &str, per: f64, out: &mut Sink<'_>) {
    for (name, parts) in watched_masters(server) {
        if let (Some(address), Some(value)) = (parts.text("address"), parts.counter(part)) {
            out.labelled(&[name, address], value as f64 / per);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Info;
    use crate::publish::table::Value;

    #[test]
    fn the_bounds_are_those_that_servers_send() {
        // Powers of two from 1,024 ns on, of a histogram that keeps two significant digits: the last value that it
        // does not tell from the power, in whole microseconds.
        for (power, bound) in (10..30).zip(LATENCY_BOUNDS_USEC) {
            let nanoseconds = (1_u64 << power) + (1 << (power - 7)) - 1;
            assert_eq!(bound, (nanoseconds / 1000) as f64);
        }
        // Beyond what it tells apart, the power itself.
        assert_eq!(LATENCY_BOUNDS_USEC[20], ((1_u64 << 30) / 1000) as f64);
    }

    #[test]
    fn each_bucket_counts_what_is_not_above_its_own_bound() {
        // 33 is 32 to some servers, and what is not sent is what was sent before.
        let info = Info::parse("+histogram_get:calls=9,usec=99,1=1,2=3,8=4,32=7,1056=9\n");
        let mut below = Vec::new();
        let mut sink = |_: &[&str], value: Value<'_>| {
            if let Value::Distribution(of) = value {
                below = of.points.iter().map(|(_, count)| *count).collect();
            }
        };
        latencies(&ServerView { info, ..ServerView::default() }, &mut Sink(&mut sink));
        assert_eq!(below[..12], [1.0, 3.0, 3.0, 4.0, 4.0, 7.0, 7.0, 7.0, 7.0, 7.0, 9.0, 9.0]);
    }

    #[test]
    fn a_sentinel_says_itself_why_there_is_no_quorum() {
        let info = Info::parse(
            "+ckquorum_a:OK 3 usable Sentinels. Quorum can be reached\n+ckquorum_b:NOQUORUM 1 usable Sentinels.\n",
        );
        let mut shown = Vec::new();
        let row = LISTS.iter().find(|row| row.family.name == "redis_sentinel_master_ckquorum_status").unwrap();
        let mut sink = |labels: &[&str], value: Value<'_>| {
            if let Value::Number(status) = value {
                shown.push((labels.join(": "), status));
            }
        };
        row.read(&ServerView { info, ..ServerView::default() }, &mut Sink(&mut sink));
        let expected =
            [("a: OK 3 usable Sentinels. Quorum can be reached", 1.0), ("b: NOQUORUM 1 usable Sentinels.", 0.0)];
        assert_eq!(shown, expected.map(|(labels, status)| (labels.to_owned(), status)));
    }
}
