//! The text of `INFO` as Redis 7.0.15 writes it, from a few facts about a server.

use std::fmt::Write as _;

use super::counters::{Command, Counters};

/// `maxmemory_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Evicts what was read longest ago.
    AllkeysLru,
    /// Refuses writes.
    Noeviction,
}

impl Policy {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AllkeysLru => "allkeys-lru",
            Self::Noeviction => "noeviction",
        }
    }
}

/// What a server is to its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// A master, with the port and offset of each of its replicas.
    Master {
        /// Port, offset in bytes.
        replicas: Vec<(u16, u64)>,
    },
    /// A replica.
    Replica {
        /// Port of its master.
        master_port: u16,
        /// Seconds since its master was last heard of.
        last_io_seconds: u64,
    },
}

/// Everything about a server that its `INFO` depends on; the rest of the text is constant.
#[derive(Debug, Clone)]
pub struct Facts {
    /// 40 hex digits, new at every start.
    pub run_id: String,
    /// `tcp_port`.
    pub port: u16,
    /// Since its start.
    pub uptime_seconds: u64,
    /// Whether its data set is still being read.
    pub loading: bool,
    /// `connected_clients`.
    pub connected_clients: u64,
    /// 0 for no limit.
    pub maxmemory_bytes: u64,
    /// What happens at the limit.
    pub policy: Policy,
    /// `used_memory`.
    pub used_memory_bytes: u64,
    /// `used_memory_startup`.
    pub startup_bytes: u64,
    /// `used_memory_peak`.
    pub peak_bytes: u64,
    /// Keys in `db0`.
    pub keys: u64,
    /// For `avg_ttl`.
    pub mean_ttl_seconds: f64,
    /// `rdb_last_load_keys_loaded`.
    pub keys_loaded: u64,
    /// `instantaneous_ops_per_sec`.
    pub commands_per_second: f64,
    /// Counters since the start.
    pub counters: Counters,
    /// Its peers.
    pub replication: Replication,
    /// `master_replid`.
    pub replid: String,
    /// `master_replid2` and `second_repl_offset`, after a promotion.
    pub replid2: Option<(String, u64)>,
    /// `master_repl_offset`; a replica's own offset too.
    pub offset: u64,
}

/// Appends one section: its heading and fields, given the facts and the server's clock in Unix microseconds.
type Section = fn(&mut String, &Facts, u64);

/// Sections of `INFO`, in the order in which a server sends them.
const SECTIONS: [(&str, Section); 12] = [
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cpu", cpu),
    ("modules", modules),
    ("commandstats", commandstats),
    ("errorstats", errorstats),
    ("cluster", cluster),
    ("keyspace", keyspace),
];

/// The reply to `INFO` with these section names, in any case; none means the default sections, which
/// leave `commandstats` out. `unix_microseconds`: the server's clock. Latency percentiles are not simulated.
#[must_use]
pub fn render(facts: &Facts, sections: &[&str], unix_microseconds: u64) -> String {
    let asked = |name: &str| sections.iter().any(|section| section.eq_ignore_ascii_case(name));
    let all = asked("all") || asked("everything");
    let default = sections.is_empty() || asked("default");
    let mut text = String::with_capacity(6144);
    for (name, write) in SECTIONS {
        if all || asked(name) || (default && name != "commandstats") {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            write(&mut text, facts, unix_microseconds);
        }
    }
    text
}

/// Writing to a `String` cannot fail; the macro keeps the sections readable.
macro_rules! lines {
    ($text:expr, $($format:literal $(, $value:expr)*;)+) => {{
        $( write!($text, $format $(, $value)*).ok(); $text.push_str("\r\n"); )+
    }};
}

fn server(text: &mut String, facts: &Facts, unix_microseconds: u64) {
    lines! { text,
        "# Server\r\nredis_version:7.0.15\r\nredis_git_sha1:00000000\r\nredis_git_dirty:0";
        "redis_build_id:5106000000000000\r\nredis_mode:standalone\r\nos:Linux 6.1.0 x86_64\r\narch_bits:64";
        "monotonic_clock:POSIX clock_gettime\r\nmultiplexing_api:epoll\r\natomicvar_api:c11-builtin";
        "gcc_version:12.2.0\r\nprocess_id:{}\r\nprocess_supervised:no", 1000 + u32::from(facts.port);
        "run_id:{}\r\ntcp_port:{}\r\nserver_time_usec:{unix_microseconds}", facts.run_id, facts.port;
        "uptime_in_seconds:{}\r\nuptime_in_days:{}", facts.uptime_seconds, facts.uptime_seconds / 86_400;
        // The clock of LRU is the Unix time modulo 24 bits.
        "hz:10\r\nconfigured_hz:10\r\nlru_clock:{}", (unix_microseconds / 1_000_000) & 0xff_ffff;
        "executable:/usr/bin/redis-server\r\nconfig_file:\r\nio_threads_active:0";
    }
}

fn clients(text: &mut String, facts: &Facts, _: u64) {
    lines! { text,
        "# Clients\r\nconnected_clients:{}\r\ncluster_connections:0\r\nmaxclients:10000", facts.connected_clients;
        "client_recent_max_input_buffer:20480\r\nclient_recent_max_output_buffer:0\r\nblocked_clients:0";
        "tracking_clients:0\r\nclients_in_timeout_table:0";
    }
}

/// Bytes as `INFO` shows them to people.
fn human(bytes: u64) -> String {
    let units = [(1_u64 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let unit = units.iter().find(|(size, _)| bytes >= *size);
    unit.map_or_else(|| format!("{bytes}B"), |(size, name)| format!("{:.2}{name}", bytes as f64 / *size as f64))
}

fn memory(text: &mut String, facts: &Facts, _: u64) {
    let used = facts.used_memory_bytes;
    let dataset = used.saturating_sub(facts.startup_bytes);
    // Fragmentation as an allocator with little to do shows it.
    let (active, resident) = (used + used / 14, used + used / 9);
    lines! { text,
        "# Memory\r\nused_memory:{used}\r\nused_memory_human:{}", human(used);
        "used_memory_rss:{resident}\r\nused_memory_rss_human:{}", human(resident);
        "used_memory_peak:{}\r\nused_memory_peak_human:{}", facts.peak_bytes, human(facts.peak_bytes);
        "used_memory_peak_perc:{:.2}%", used as f64 / facts.peak_bytes.max(1) as f64 * 100.0;
        "used_memory_overhead:{0}\r\nused_memory_startup:{0}", facts.startup_bytes;
        "used_memory_dataset:{dataset}\r\nused_memory_dataset_perc:{:.2}%", dataset as f64 / used.max(1) as f64 * 100.0;
        "allocator_allocated:{used}\r\nallocator_active:{active}\r\nallocator_resident:{resident}";
        "total_system_memory:25276510208\r\ntotal_system_memory_human:23.54G";
        "used_memory_lua:31744\r\nused_memory_vm_eval:31744\r\nused_memory_lua_human:31.00K\r\nused_memory_scripts_eval:0";
        "number_of_cached_scripts:0\r\nnumber_of_functions:0\r\nnumber_of_libraries:0\r\nused_memory_vm_functions:32768";
        "used_memory_vm_total:64512\r\nused_memory_vm_total_human:63.00K\r\nused_memory_functions:184";
        "used_memory_scripts:184\r\nused_memory_scripts_human:184B";
        "maxmemory:{}\r\nmaxmemory_human:{}", facts.maxmemory_bytes, human(facts.maxmemory_bytes);
        "maxmemory_policy:{}", facts.policy.as_str();
        "allocator_frag_ratio:1.07\r\nallocator_frag_bytes:{}", active - used;
        "allocator_rss_ratio:1.04\r\nallocator_rss_bytes:{}\r\nrss_overhead_ratio:1.00\r\nrss_overhead_bytes:0", resident - active;
        "mem_fragmentation_ratio:1.11\r\nmem_fragmentation_bytes:{}", resident - used;
        "mem_not_counted_for_evict:0\r\nmem_replication_backlog:0\r\nmem_total_replication_buffers:0";
        "mem_clients_slaves:0\r\nmem_clients_normal:36000\r\nmem_cluster_links:0\r\nmem_aof_buffer:0";
        "mem_allocator:jemalloc-5.3.0\r\nactive_defrag_running:0\r\nlazyfree_pending_objects:0\r\nlazyfreed_objects:0";
    }
}

fn persistence(text: &mut String, facts: &Facts, unix_microseconds: u64) {
    let started = (unix_microseconds / 1_000_000).saturating_sub(facts.uptime_seconds);
    lines! { text,
        "# Persistence\r\nloading:{}\r\nasync_loading:0\r\ncurrent_cow_peak:0", u8::from(facts.loading);
        "current_cow_size:0\r\ncurrent_cow_size_age:0\r\ncurrent_fork_perc:0.00";
        "current_save_keys_processed:0\r\ncurrent_save_keys_total:0";
        "rdb_changes_since_last_save:{}", facts.counters.calls(Command::Set);
        "rdb_bgsave_in_progress:0\r\nrdb_last_save_time:{started}\r\nrdb_last_bgsave_status:ok";
        "rdb_last_bgsave_time_sec:-1\r\nrdb_current_bgsave_time_sec:-1\r\nrdb_saves:0\r\nrdb_last_cow_size:0";
        "rdb_last_load_keys_expired:0\r\nrdb_last_load_keys_loaded:{}", facts.keys_loaded;
        "aof_enabled:0\r\naof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0\r\naof_last_rewrite_time_sec:-1";
        "aof_current_rewrite_time_sec:-1\r\naof_last_bgrewrite_status:ok\r\naof_rewrites:0";
        "aof_rewrites_consecutive_failures:0\r\naof_last_write_status:ok\r\naof_last_cow_size:0";
        "module_fork_in_progress:0\r\nmodule_fork_last_cow_size:0";
    }
}

fn stats(text: &mut String, facts: &Facts, _: u64) {
    let counters = &facts.counters;
    lines! { text,
        "# Stats\r\ntotal_connections_received:{}", counters.connections;
        "total_commands_processed:{}", counters.commands;
        "instantaneous_ops_per_sec:{:.0}", facts.commands_per_second;
        "total_net_input_bytes:{}\r\ntotal_net_output_bytes:{}", counters.net_input_bytes, counters.net_output_bytes;
        "total_net_repl_input_bytes:0\r\ntotal_net_repl_output_bytes:0";
        "instantaneous_input_kbps:0.00\r\ninstantaneous_output_kbps:0.00";
        "instantaneous_input_repl_kbps:0.00\r\ninstantaneous_output_repl_kbps:0.00\r\nrejected_connections:0";
        "sync_full:{}\r\nsync_partial_ok:0\r\nsync_partial_err:0", counters.full_syncs;
        "expired_keys:{}\r\nexpired_stale_perc:0.00", counters.expired;
        "expired_time_cap_reached_count:0\r\nexpire_cycle_cpu_milliseconds:0\r\nevicted_keys:{}", counters.evicted;
        "evicted_clients:0\r\ntotal_eviction_exceeded_time:0\r\ncurrent_eviction_exceeded_time:0";
        "keyspace_hits:{}\r\nkeyspace_misses:{}", counters.hits, counters.misses;
        "pubsub_channels:0\r\npubsub_patterns:0\r\npubsubshard_channels:0\r\nlatest_fork_usec:0\r\ntotal_forks:0";
        "migrate_cached_sockets:0\r\nslave_expires_tracked_keys:0\r\nactive_defrag_hits:0\r\nactive_defrag_misses:0";
        "active_defrag_key_hits:0\r\nactive_defrag_key_misses:0\r\ntotal_active_defrag_time:0";
        "current_active_defrag_time:0\r\ntracking_total_keys:0\r\ntracking_total_items:0\r\ntracking_total_prefixes:0";
        "unexpected_error_replies:0\r\ntotal_error_replies:{}\r\ndump_payload_sanitizations:0", counters.oom_errors;
        "total_reads_processed:{0}\r\ntotal_writes_processed:{0}", counters.commands;
        "io_threaded_reads_processed:0\r\nio_threaded_writes_processed:0\r\nreply_buffer_shrinks:0\r\nreply_buffer_expands:0";
    }
}

fn replication(text: &mut String, facts: &Facts, _: u64) {
    let offset = facts.offset;
    text.push_str("# Replication\r\n");
    match &facts.replication {
        Replication::Master { replicas } => {
            lines! { text, "role:master\r\nconnected_slaves:{}", replicas.len(); }
            for (index, (port, offset)) in replicas.iter().enumerate() {
                // The lag that a master reports is the age of the last ACK: 0 even for a replica far behind.
                lines! { text, "slave{index}:ip=127.0.0.1,port={port},state=online,offset={offset},lag=0"; }
            }
        }
        Replication::Replica { master_port, last_io_seconds } => lines! { text,
            "role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:{master_port}\r\nmaster_link_status:up";
            "master_last_io_seconds_ago:{last_io_seconds}\r\nmaster_sync_in_progress:0";
            "slave_read_repl_offset:{offset}\r\nslave_repl_offset:{offset}";
            "slave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\nconnected_slaves:0";
        },
    }
    let (replid2, second) = facts.replid2.as_ref().map_or(("0".repeat(40), -1), |(id, at)| (id.clone(), *at as i64));
    let backlog = offset.min(1_048_576);
    lines! { text,
        "master_failover_state:no-failover\r\nmaster_replid:{}\r\nmaster_replid2:{replid2}", facts.replid;
        "master_repl_offset:{offset}\r\nsecond_repl_offset:{second}\r\nrepl_backlog_active:{}", u8::from(offset > 0);
        "repl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:{}", if offset > 0 { offset - backlog + 1 } else { 0 };
        "repl_backlog_histlen:{backlog}";
    }
}

fn cpu(text: &mut String, facts: &Facts, _: u64) {
    // Microseconds that a small command takes, and a third of it in the kernel.
    let user = facts.counters.commands as f64 * 6e-6;
    let sys = user / 2.0;
    lines! { text,
        "# CPU\r\nused_cpu_sys:{sys:.6}\r\nused_cpu_user:{user:.6}";
        "used_cpu_sys_children:0.000000\r\nused_cpu_user_children:0.000000";
        "used_cpu_sys_main_thread:{sys:.6}\r\nused_cpu_user_main_thread:{user:.6}";
    }
}

fn modules(text: &mut String, _: &Facts, _: u64) {
    text.push_str("# Modules\r\n");
}

fn commandstats(text: &mut String, facts: &Facts, _: u64) {
    text.push_str("# Commandstats\r\n");
    for command in Command::ALL {
        let calls = facts.counters.calls(*command);
        let rejected = if *command == Command::Set { facts.counters.oom_errors } else { 0 };
        if calls + rejected > 0 {
            lines! { text,
                "cmdstat_{}:calls={calls},usec={},usec_per_call=2.00,rejected_calls={rejected},failed_calls=0",
                command.as_str(), calls * 2;
            }
        }
    }
}

fn errorstats(text: &mut String, facts: &Facts, _: u64) {
    text.push_str("# Errorstats\r\n");
    if facts.counters.oom_errors > 0 {
        lines! { text, "errorstat_OOM:count={}", facts.counters.oom_errors; }
    }
}

fn cluster(text: &mut String, _: &Facts, _: u64) {
    text.push_str("# Cluster\r\ncluster_enabled:0\r\n");
}

fn keyspace(text: &mut String, facts: &Facts, _: u64) {
    text.push_str("# Keyspace\r\n");
    if facts.keys > 0 {
        lines! { text, "db0:keys={0},expires={0},avg_ttl={1:.0}", facts.keys, facts.mean_ttl_seconds * 1000.0; }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::parse::info::Info;
    use crate::parse::sample::Sample;
    use crate::sim::keyspace::Keyspace;
    use crate::sim::profile::Profile;

    fn captured(file: &str) -> String {
        let path = format!("{}/tests/fixtures/info/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    /// Field names outside the sections that depend on traffic.
    fn names(text: &str) -> BTreeSet<&str> {
        let fields = text.lines().filter_map(|line| line.split_once(':').map(|(name, _)| name));
        fields.filter(|name| !["cmdstat_", "errorstat_", "latency_"].iter().any(|p| name.starts_with(p))).collect()
    }

    #[test]
    fn fields_are_those_of_a_real_master_and_a_real_replica() {
        let profile = Profile { lookups_per_second: vec![500.0, 500.0], ..Profile::small("catalog") };
        let keyspace = Keyspace::new(profile, 1);
        for (member, file) in [(0, "redis-7.0.15_master.txt"), (1, "redis-7.0.15_replica.txt")] {
            let text = render(&keyspace.facts(member), &["everything"], 1_795_377_856_434_989);
            assert_eq!(names(&text), names(&captured(file)), "{file}");
            assert!(text.lines().count() == text.matches("\r\n").count());
        }
    }

    #[test]
    fn sections_are_sent_as_asked() {
        let facts = Keyspace::new(Profile::small("sessions"), 1).facts(0);
        let headings = |sections: &[&str]| {
            let text = render(&facts, sections, 0);
            text.lines().filter_map(|line| line.strip_prefix("# ").map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(headings(&["STATS", "server"]), ["Server", "Stats"]);
        assert!(!headings(&[]).contains(&"Commandstats".to_owned()));
        assert!(headings(&["default", "commandstats"]).contains(&"Commandstats".to_owned()));
        assert_eq!(headings(&[]).len() + 1, headings(&["all"]).len());
        assert!(headings(&["nonsense"]).is_empty());
    }

    #[test]
    fn our_own_parser_reads_it() {
        let facts = Keyspace::new(Profile::small("sessions"), 1).facts(0);
        let text = render(&facts, &["default", "commandstats"], 1_795_377_856_000_000);
        let sample = Sample::from_info(&Info::parse(&text));
        assert_eq!(sample.hits, Some(facts.counters.hits));
        assert_eq!(sample.keys, Some(facts.keys));
        assert_eq!(sample.set_calls, Some(facts.counters.calls(Command::Set)));
        assert_eq!(sample.oom_errors, Some(0));
        assert_eq!(sample.uptime_seconds, Some(200_000.0));
        assert!(sample.memory_used_ratio().is_some_and(|ratio| (0.83..0.93).contains(&ratio)));
    }
}
