//! The `redis_*` families, under the names, types and labels that published dashboards and rules expect.
//!
//! Where the common spelling is wrong (−1 s since the last I/O of a broken link, a start time that
//! flaps, series of empty databases) it is corrected: absent rather than wrong.

mod fields;
mod lists;
mod readings;

use std::sync::LazyLock;

use super::Answers;
use super::table::{Family, Kind, Sink};
use crate::model::FailureReason;
use crate::parse::Info;
use crate::parse::info::Parts;

pub use readings::Readings;

/// Databases shown per node, the lowest numbered that hold keys: keeps a node within its 70 series.
/// Servers with more than three databases in use are rare (a cluster has one).
pub const MAX_DATABASES: usize = 3;

/// Databases shown where a node may show all: a bound on what a server can make us keep, not on honest ones.
pub const ALL_DATABASES: usize = 256;

/// One server, as the rows read it.
#[derive(Debug, Clone, Default)]
pub struct ServerView<'a> {
    /// It answered in the last round.
    pub up: bool,
    /// Why it did not.
    pub down: Option<FailureReason>,
    /// What it said; empty while it is down.
    pub info: Info<'a>,
    /// Databases to show: [`MAX_DATABASES`] or [`ALL_DATABASES`].
    pub databases_max: usize,
    /// Polls since the node joined.
    pub polls: u64,
    /// Those that were answered.
    pub answers: Answers,
}

impl ServerView<'_> {
    /// A field that is not negative: −1 stands for "not supported" and "not now".
    fn number(&self, field: &str) -> Option<f64> {
        self.info.number(field).filter(|value| *value >= 0.0)
    }
}

/// Where the series of a family come from.
#[derive(Debug)]
pub enum Source {
    /// One field of `INFO`; absent where it is not sent, or sent as a negative number ("not supported").
    Field(&'static str),
    /// The same, in so many to the base unit. Divided: a product with 1e-6 is not the nearest number.
    Scaled(&'static str, f64),
    /// 1 if the field's text is this word, 0 for any other; absent where it is not sent.
    Word(&'static str, &'static str),
    /// Something that takes more than one field.
    Read(fn(&ServerView<'_>, &mut Sink<'_>)),
}

/// A family and where its series come from.
#[derive(Debug)]
pub struct DropInRow {
    /// The family.
    pub family: Family,
    /// Its source.
    pub source: Source,
}

impl DropInRow {
    /// Puts the server's series of the family into the sink.
    pub fn read(&self, server: &ServerView<'_>, out: &mut Sink<'_>) {
        match self.source {
            Source::Field(field) => out.number(server.number(field)),
            Source::Scaled(field, per) => out.number(server.number(field).map(|value| value / per)),
            Source::Word(field, word) => {
                out.number(server.info.text(field).map(|text| f64::from(u8::from(text == word))));
            }
            Source::Read(read) => read(server, out),
        }
    }
}

/// Every row: [`CORE`], then what only `full` and `/scrape` show.
pub fn rows() -> impl Iterator<Item = &'static DropInRow> {
    CORE.iter().chain(fields::FIELDS).chain(lists::LISTS)
}

/// The same rows, apart by how often their text changes: seldom, and with nearly every poll of a server in use.
pub static ROWS_BY_CHANGE: LazyLock<[Vec<&'static DropInRow>; 2]> = LazyLock::new(|| {
    let (moving, steady) = rows().partition(|row| MOVING.contains(&row.family.name));
    [steady, moving]
});

/// Families that read differently after nearly every poll of a server in use, or of one that uses some feature. One that
/// is missing here has all the others compressed anew with each poll: that costs time, nothing else. What is asked for
/// every half minute (latencies) changes seldom.
const MOVING: &[&str] = &[
    "redis_allocator_active_bytes",
    "redis_allocator_allocated_bytes",
    "redis_allocator_frag_bytes",
    "redis_allocator_frag_ratio",
    "redis_allocator_resident_bytes",
    "redis_allocator_rss_bytes",
    "redis_allocator_rss_ratio",
    "redis_aof_buffer_length",
    "redis_aof_current_size_bytes",
    "redis_client_recent_max_input_buffer_bytes",
    "redis_client_recent_max_output_buffer_bytes",
    "redis_cluster_messages_received_total",
    "redis_cluster_messages_sent_total",
    "redis_cluster_stats_bytes_received",
    "redis_cluster_stats_bytes_sent",
    "redis_cluster_stats_messages_ping_received",
    "redis_cluster_stats_messages_ping_sent",
    "redis_cluster_stats_messages_pong_received",
    "redis_cluster_stats_messages_pong_sent",
    "redis_cluster_stats_pubsub_bytes_received",
    "redis_cluster_stats_pubsub_bytes_sent",
    "redis_commands_duration_seconds_total",
    "redis_commands_failed_calls_total",
    "redis_commands_processed_total",
    "redis_commands_rejected_calls_total",
    "redis_commands_total",
    "redis_connected_clients",
    "redis_connected_slave_lag_seconds",
    "redis_connected_slave_offset_bytes",
    "redis_connections_received_total",
    "redis_cpu_sys_main_thread_seconds_total",
    "redis_cpu_sys_seconds_total",
    "redis_cpu_user_main_thread_seconds_total",
    "redis_cpu_user_seconds_total",
    "redis_current_client_thread",
    "redis_db_avg_ttl_seconds",
    "redis_db_keys",
    "redis_db_keys_expiring",
    "redis_errors_total",
    "redis_eventloop_cycles_total",
    "redis_eventloop_duration_cmd_sum_usec_total",
    "redis_eventloop_duration_sum_usec_total",
    "redis_evicted_keys_total",
    "redis_expire_cycle_cpu_time_ms_total",
    "redis_expired_keys_total",
    "redis_expired_stale_percentage",
    "redis_expired_subkeys_total",
    "redis_exporter_last_scrape_duration_seconds",
    "redis_exporter_scrape_duration_seconds",
    "redis_exporter_scrapes_total",
    "redis_instantaneous_eventloop_cycles_per_sec",
    "redis_instantaneous_eventloop_duration_usec",
    "redis_io_threaded_reads_processed",
    "redis_io_threaded_writes_processed",
    "redis_keyspace_hits_total",
    "redis_keyspace_misses_total",
    "redis_latency_percentiles_usec",
    "redis_lazyfreed_objects",
    "redis_master_last_io_seconds_ago",
    "redis_master_repl_offset",
    "redis_mem_aof_buffer_bytes",
    "redis_mem_clients_normal",
    "redis_mem_clients_slaves",
    "redis_mem_fragmentation_bytes",
    "redis_mem_fragmentation_ratio",
    "redis_mem_not_counted_for_eviction_bytes",
    "redis_mem_total_replication_buffers_bytes",
    "redis_memory_fragmentation_ratio",
    "redis_memory_used_bytes",
    "redis_memory_used_dataset_bytes",
    "redis_memory_used_overhead_bytes",
    "redis_memory_used_peak_bytes",
    "redis_memory_used_rss_bytes",
    "redis_net_input_bytes_total",
    "redis_net_output_bytes_total",
    "redis_net_repl_input_bytes_total",
    "redis_net_repl_output_bytes_total",
    "redis_rdb_changes_since_last_save",
    "redis_repl_backlog_first_byte_offset",
    "redis_repl_backlog_history_bytes",
    "redis_reply_buffer_expands_total",
    "redis_reply_buffer_shrinks_total",
    "redis_sentinel_master_last_ok_ping_reply_seconds",
    "redis_slave_repl_offset",
    "redis_start_time_seconds",
    "redis_storage_provider_read_hits",
    "redis_storage_provider_read_misses",
    "redis_total_error_replies",
    "redis_total_reads_processed",
    "redis_total_writes_processed",
    "redis_tracking_total_items",
    "redis_tracking_total_keys",
    "redis_uptime_in_seconds",
];

/// The table as Markdown, for `docs/compatibility.md`: every family with its type and labels.
#[must_use]
pub fn markdown() -> String {
    let mut rows: Vec<&DropInRow> = rows().collect();
    rows.sort_by_key(|row| row.family.name);
    let line = |row: &DropInRow| {
        let Family { name, kind, labels, help, .. } = row.family;
        format!("| `{name}` | {} | {} | {help} |\n", kind.as_str(), labels.join(", "))
    };
    let lines: String = rows.into_iter().map(line).collect();
    "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned() + &lines
}

const fn gauge(name: &'static str, field: &'static str, help: &'static str) -> DropInRow {
    DropInRow { family: Family::node_gauge(name, help), source: Source::Field(field) }
}

const fn counter(name: &'static str, field: &'static str, help: &'static str) -> DropInRow {
    DropInRow { family: Family::node_counter(name, help), source: Source::Field(field) }
}

const fn read(
    name: &'static str,
    labels: &'static [&'static str],
    max_series: usize,
    help: &'static str,
    read: fn(&ServerView<'_>, &mut Sink<'_>),
) -> DropInRow {
    DropInRow { family: Family::node_gauge(name, help).by(labels, max_series), source: Source::Read(read) }
}

const INSTANCE_LABELS: &[&str] = &[
    "role",
    "redis_version",
    "valkey_version",
    "valkey_release_stage",
    "redis_build_id",
    "redis_mode",
    "os",
    "maxmemory_policy",
    "tcp_port",
    "run_id",
    "process_id",
    "master_replid",
];

const MASTER_LABELS: &[&str] = &["master_host", "master_port"];

/// The `core` set: at most 25 families, none per command.
pub const CORE: &[DropInRow] = &[
    read("redis_up", &[], 1, "1 if the server answered the last poll.", |server, out| out.flag(server.up)),
    gauge("redis_uptime_in_seconds", "uptime_in_seconds", "Seconds since the server started (uptime_in_seconds)."),
    read(
        "redis_start_time_seconds",
        &[],
        1,
        "When the server started, Unix seconds by its own clock (server_time_usec − uptime_in_seconds).",
        |server, out| out.number(start_time_seconds(&server.info)),
    ),
    read(
        "redis_instance_info",
        INSTANCE_LABELS,
        1,
        "Always 1; identity of the server (sections Server, Memory and Replication).",
        instance_info,
    ),
    gauge("redis_connected_clients", "connected_clients", "Client connections, without replicas (connected_clients)."),
    gauge("redis_blocked_clients", "blocked_clients", "Clients waiting in a blocking call (blocked_clients)."),
    gauge("redis_memory_used_bytes", "used_memory", "Bytes allocated by the server (used_memory)."),
    gauge("redis_memory_used_rss_bytes", "used_memory_rss", "Resident bytes of the server (used_memory_rss)."),
    gauge("redis_memory_max_bytes", "maxmemory", "Limit of memory in bytes, 0 without a limit (maxmemory)."),
    counter(
        "redis_commands_processed_total",
        "total_commands_processed",
        "Commands processed (total_commands_processed).",
    ),
    counter("redis_keyspace_hits_total", "keyspace_hits", "Lookups that found their key (keyspace_hits)."),
    counter("redis_keyspace_misses_total", "keyspace_misses", "Lookups that did not (keyspace_misses)."),
    counter("redis_expired_keys_total", "expired_keys", "Keys removed at the end of their TTL (expired_keys)."),
    counter("redis_evicted_keys_total", "evicted_keys", "Keys removed for want of memory (evicted_keys)."),
    read("redis_db_keys", &["db"], MAX_DATABASES, "Keys by database, of databases that hold keys (dbN).", |s, out| {
        databases(s, "keys", 1.0, out);
    }),
    read(
        "redis_db_keys_expiring",
        &["db"],
        MAX_DATABASES,
        "Keys with a TTL by database, of databases that hold keys (dbN).",
        |server, out| databases(server, "expires", 1.0, out),
    ),
    counter("redis_net_input_bytes_total", "total_net_input_bytes", "Bytes received (total_net_input_bytes)."),
    counter("redis_net_output_bytes_total", "total_net_output_bytes", "Bytes sent (total_net_output_bytes)."),
    counter("redis_cpu_sys_seconds_total", "used_cpu_sys", "CPU seconds spent in the kernel (used_cpu_sys)."),
    counter("redis_cpu_user_seconds_total", "used_cpu_user", "CPU seconds spent in the server (used_cpu_user)."),
    gauge("redis_connected_slaves", "connected_slaves", "Replicas connected (connected_slaves)."),
    read(
        "redis_master_link_up",
        MASTER_LABELS,
        1,
        "1 if a replica's link to its master is up (master_link_status); absent on masters.",
        |server, out| {
            if let Some(status) = server.info.text("master_link_status") {
                out.labelled(&master(&server.info), f64::from(u8::from(status == "up")));
            }
        },
    ),
    read(
        "redis_master_last_io_seconds_ago",
        MASTER_LABELS,
        1,
        "Seconds since a replica last heard of its master (master_last_io_seconds_ago); absent while the link is down.",
        |server, out| of_master(server, "master_last_io_seconds_ago", out),
    ),
    gauge("redis_master_repl_offset", "master_repl_offset", "Replication offset of the server (master_repl_offset)."),
    read(
        "redis_slave_repl_offset",
        MASTER_LABELS,
        1,
        "Replication offset that a replica has applied (slave_repl_offset); absent on masters.",
        |server, out| of_master(server, "slave_repl_offset", out),
    ),
];

/// The server keeps both its clock and its uptime as of the same tick, and the uptime in whole
/// seconds: with the clock floored first, the difference is the same at every poll.
fn start_time_seconds(info: &Info<'_>) -> Option<f64> {
    let now = (info.number("server_time_usec")? / 1e6).floor();
    Some(now - info.number("uptime_in_seconds")?).filter(|start| *start > 0.0)
}

fn instance_info(server: &ServerView<'_>, out: &mut Sink<'_>) {
    let info = &server.info;
    if info.is_empty() {
        return;
    }
    let field = |name| info.text(name).unwrap_or("");
    let mode = info.text("redis_mode").or_else(|| info.text("server_mode")).unwrap_or("");
    out.labelled(
        &[
            field("role"),
            field("redis_version"),
            field("valkey_version"),
            field("valkey_release_stage"),
            field("redis_build_id"),
            mode,
            field("os"),
            field("maxmemory_policy"),
            field("tcp_port"),
            field("run_id"),
            field("process_id"),
            field("master_replid"),
        ],
        1.0,
    );
}

/// A part of every database that holds keys, `per` of it to the base unit.
fn databases(server: &ServerView<'_>, part: &str, per: f64, out: &mut Sink<'_>) {
    let mut databases: Vec<(u32, Parts<'_>)> =
        server.info.databases().filter(|(_, parts)| parts.counter("keys").is_some_and(|keys| keys > 0)).collect();
    databases.sort_by_key(|(number, _)| *number);
    // "db01" and "db1" read as the same number; two series of one name would spoil the whole scrape.
    databases.dedup_by_key(|(number, _)| *number);
    // Where there is room, an empty server shows that it is empty: a sum over a fleet must not lose it.
    if databases.is_empty() && server.databases_max == ALL_DATABASES && server.info.text("master_replid").is_some() {
        databases.push((0, Parts("keys=0,expires=0")));
    }
    for (number, parts) in databases.into_iter().take(server.databases_max) {
        if let Some(value) = parts.counter(part) {
            out.labelled(&[&format!("db{number}")], value as f64 / per);
        }
    }
}

fn of_master(server: &ServerView<'_>, field: &str, out: &mut Sink<'_>) {
    // Some servers send a replica's fields as masters, too.
    if server.info.text("master_host").is_none() {
        return;
    }
    if let Some(value) = server.number(field) {
        out.labelled(&master(&server.info), value);
    }
}

fn master<'a>(info: &Info<'a>) -> [&'a str; 2] {
    ["master_host", "master_port"].map(|field| info.text(field).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::super::table::Value;
    use super::*;

    fn series(text: &str) -> Vec<String> {
        let server =
            ServerView { up: true, info: Info::parse(text), databases_max: MAX_DATABASES, ..ServerView::default() };
        let mut series = Vec::new();
        for row in CORE {
            row.read(
                &server,
                &mut Sink(&mut |labels, value| {
                    let Value::Number(number) = value else { panic!("no distributions here") };
                    assert_eq!(labels.len(), row.family.labels.len(), "{}", row.family.name);
                    series.push(format!("{}{labels:?} {number}", row.family.name));
                }),
            );
        }
        series
    }

    #[test]
    fn the_core_set_is_small() {
        assert!(CORE.len() <= 25, "{} families", CORE.len());
    }

    #[test]
    fn what_moves_is_there() {
        let [steady, moving] = &*ROWS_BY_CHANGE;
        assert_eq!(steady.len() + moving.len(), rows().count());
        assert!(MOVING.is_sorted() && moving.len() == MOVING.len(), "each of them names a family, once");
    }

    #[test]
    fn start_time_does_not_flap_within_a_second() {
        for (usec, uptime) in
            [(1_000_000_010_000_001_u64, 10), (1_000_000_010_999_999, 10), (1_000_000_011_000_000, 11)]
        {
            let text = format!("server_time_usec:{usec}\nuptime_in_seconds:{uptime}\n");
            assert_eq!(start_time_seconds(&Info::parse(&text)), Some(1_000_000_000.0));
        }
        assert_eq!(start_time_seconds(&Info::parse("uptime_in_seconds:5\n")), None, "never by our own clock");
    }

    #[test]
    fn only_databases_with_keys_and_a_bounded_number_of_them() {
        let text: String = (0..20).map(|n| format!("db{n}:keys={},expires=1,avg_ttl=0\n", n % 2)).collect();
        let shown: Vec<String> = series(&text).into_iter().filter(|line| line.starts_with("redis_db_keys[")).collect();
        assert_eq!(shown, ["db1", "db3", "db5"].map(|db| format!("redis_db_keys[\"{db}\"] 1")));
    }

    #[test]
    fn a_broken_link_has_no_last_io() {
        let shown = series(
            "role:slave\nmaster_host:10.0.0.1\nmaster_port:6379\nmaster_link_status:down\nmaster_last_io_seconds_ago:-1\n\
             slave_repl_offset:7\nevicted_keys:-1\n",
        );
        assert!(shown.contains(&"redis_master_link_up[\"10.0.0.1\", \"6379\"] 0".to_owned()), "{shown:?}");
        assert!(shown.contains(&"redis_slave_repl_offset[\"10.0.0.1\", \"6379\"] 7".to_owned()), "{shown:?}");
        assert!(!shown.iter().any(|line| line.contains("last_io") || line.contains("evicted")), "{shown:?}");
    }

    #[test]
    fn a_node_that_is_down_has_only_its_up() {
        let mut shown = Vec::new();
        for row in CORE {
            row.read(&ServerView::default(), &mut Sink(&mut |_, _| shown.push(row.family.name)));
        }
        assert_eq!(shown, ["redis_up"]);
    }
}
