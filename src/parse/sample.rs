//! What the detector needs of one `INFO` reply, in base units.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::info::{Info, Parts};
use crate::model::{Flavor, Role};

/// One node at one poll. Whatever the server did not report is `None`: absent, never 0.
///
/// Counters are as the server keeps them (since its start or the last `CONFIG RESETSTAT`); memory in
/// bytes, times in seconds. The field of `INFO` stands in each doc.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// `run_id`: changes with every start of the server.
    pub run_id: Option<Arc<str>>,
    /// `role`; `redis_mode`/`server_mode` for a Sentinel.
    pub role: Option<Role>,
    /// Redis or Valkey.
    pub flavor: Option<Flavor>,
    /// `valkey_version`, else `redis_version`.
    pub version: Option<Arc<str>>,
    /// `uptime_in_seconds`.
    pub uptime_seconds: Option<f64>,
    /// `server_time_usec`, as Unix seconds.
    pub server_time_seconds: Option<f64>,
    /// `loading`: until its data set is there it refuses every client but for `INFO` and the like.
    pub loading: bool,
    /// `async_loading`: a replica loads a new data set, and serves the old one meanwhile.
    #[serde(default)]
    pub async_loading: bool,

    /// `keyspace_hits`.
    pub hits: Option<u64>,
    /// `keyspace_misses`.
    pub misses: Option<u64>,
    /// `expired_keys`.
    pub expired: Option<u64>,
    /// `evicted_keys`.
    pub evicted: Option<u64>,
    /// `total_commands_processed`.
    pub commands: Option<u64>,
    /// `total_connections_received`.
    pub connections_received: Option<u64>,
    /// `connected_clients`.
    pub connected_clients: Option<u64>,
    /// `total_net_input_bytes`.
    pub net_input_bytes: Option<u64>,

    /// Keys in all databases.
    pub keys: Option<u64>,
    /// `used_memory`.
    pub used_memory_bytes: Option<u64>,
    /// `mem_not_counted_for_evict`.
    pub not_counted_for_evict_bytes: Option<u64>,
    /// `maxmemory`; `Some(0)` means no limit.
    pub maxmemory_bytes: Option<u64>,
    /// `mem_fragmentation_ratio`.
    pub fragmentation_ratio: Option<f64>,
    /// `used_memory_dataset`.
    pub dataset_bytes: Option<u64>,
    /// `current_eviction_exceeded_time`, milliseconds as sent: only its being above 0 is used.
    pub eviction_exceeded_time: Option<f64>,
    /// `rdb_last_load_keys_loaded`.
    pub keys_loaded_at_start: Option<u64>,

    /// Calls of SET, SETEX, PSETEX, SETNX, GETSET, MSET, HSET, HMSET; `None` without `commandstats`.
    pub set_calls: Option<u64>,
    /// Calls of DEL and UNLINK.
    pub delete_calls: Option<u64>,
    /// Calls of FLUSHALL and FLUSHDB.
    pub flush_calls: Option<u64>,
    /// Calls that move slots or say whose they are now: MIGRATE, RESTORE-ASKING, CLUSTER SETSLOT, and what newer
    /// servers move whole slots with (CLUSTER MIGRATESLOTS, MIGRATION, SYNCSLOTS).
    pub migration_calls: Option<u64>,
    /// `errorstat_OOM`: writes refused for want of memory.
    pub oom_errors: Option<u64>,

    /// `master_replid`.
    pub replid: Option<Arc<str>>,
    /// `master_replid2`, where it names a former history.
    pub replid2: Option<Arc<str>>,
    /// `master_repl_offset`, bytes.
    pub master_offset_bytes: Option<u64>,
    /// `slave_repl_offset`, bytes; replicas only.
    pub replica_offset_bytes: Option<u64>,
    /// `master_link_status`; replicas only.
    pub link_up: Option<bool>,
    /// `master_last_io_seconds_ago`; replicas only; absent (sent as −1) while the link is down.
    pub master_last_io_seconds: Option<f64>,
    /// `master_sync_in_progress`; replicas only.
    pub sync_in_progress: Option<bool>,
    /// `connected_slaves`.
    pub connected_replicas: Option<u64>,
    /// How replicas were brought up to date: `sync_full`, `sync_partial_ok`, `sync_partial_err`.
    pub syncs: Option<[u64; 3]>,
}

const MIGRATION_COMMANDS: [&str; 6] =
    ["migrate", "restore-asking", "cluster|setslot", "cluster|migrateslots", "cluster|migration", "cluster|syncslots"];

const SET_COMMANDS: [&str; 8] = ["set", "setex", "psetex", "setnx", "getset", "mset", "hset", "hmset"];

impl Sample {
    /// Reads the fields of one `INFO` reply (default sections and `commandstats`, any order).
    #[must_use]
    pub fn from_info(info: &Info<'_>) -> Self {
        let valkey = info.text("valkey_version");
        let sentinel = [info.text("redis_mode"), info.text("server_mode")].contains(&Some("sentinel"));
        let calls = CommandCalls::of(info);
        let oom_errors = match info.text("errorstat_OOM") {
            Some(value) => Parts(value).counter("count"),
            // The section lists only errors that happened: silence is 0 where the section exists (6.2+).
            None => info.text("total_error_replies").map(|_| 0),
        };
        Self {
            run_id: info.text("run_id").map(Arc::from),
            role: match info.text("role") {
                _ if sentinel => Some(Role::Sentinel),
                Some("master") => Some(Role::Master),
                Some("slave" | "replica") => Some(Role::Replica),
                _ => None,
            },
            flavor: valkey.map(|_| Flavor::Valkey).or_else(|| info.text("redis_version").map(|_| Flavor::Redis)),
            version: valkey.or_else(|| info.text("redis_version")).map(Arc::from),
            uptime_seconds: info.number("uptime_in_seconds"),
            server_time_seconds: info.number("server_time_usec").map(|usec| usec / 1e6),
            loading: info.flag("loading") == Some(true),
            async_loading: info.flag("async_loading") == Some(true),
            hits: info.counter("keyspace_hits"),
            misses: info.counter("keyspace_misses"),
            expired: info.counter("expired_keys"),
            evicted: info.counter("evicted_keys"),
            commands: info.counter("total_commands_processed"),
            connections_received: info.counter("total_connections_received"),
            connected_clients: info.counter("connected_clients"),
            net_input_bytes: info.counter("total_net_input_bytes"),
            // A server without keys sends no dbN line: that is 0 keys if it sent statistics at all.
            keys: info
                .text("keyspace_hits")
                .map(|_| info.databases().filter_map(|(_, parts)| parts.counter("keys")).fold(0, u64::saturating_add)),
            used_memory_bytes: info.counter("used_memory"),
            not_counted_for_evict_bytes: info.counter("mem_not_counted_for_evict"),
            maxmemory_bytes: info.counter("maxmemory"),
            fragmentation_ratio: info.number("mem_fragmentation_ratio"),
            dataset_bytes: info.counter("used_memory_dataset"),
            eviction_exceeded_time: info.number("current_eviction_exceeded_time").filter(|time| *time >= 0.0),
            keys_loaded_at_start: info.counter("rdb_last_load_keys_loaded"),
            set_calls: calls.map(|calls| calls.set),
            delete_calls: calls.map(|calls| calls.delete),
            flush_calls: calls.map(|calls| calls.flush),
            migration_calls: calls.map(|calls| calls.migration),
            oom_errors,
            replid: info.text("master_replid").map(Arc::from),
            replid2: info.text("master_replid2").filter(|id| id.bytes().any(|byte| byte != b'0')).map(Arc::from),
            master_offset_bytes: info.counter("master_repl_offset"),
            replica_offset_bytes: info.counter("slave_repl_offset"),
            link_up: info.text("master_link_status").map(|status| status == "up"),
            master_last_io_seconds: info.number("master_last_io_seconds_ago").filter(|seconds| *seconds >= 0.0),
            sync_in_progress: info.flag("master_sync_in_progress"),
            connected_replicas: info.counter("connected_slaves"),
            syncs: ["sync_full", "sync_partial_ok", "sync_partial_err"]
                .map(|field| info.counter(field))
                .into_iter()
                .collect::<Option<Vec<u64>>>()
                .and_then(|counts| counts.try_into().ok()),
        }
    }

    /// Lookups since start: hits plus misses.
    #[must_use]
    pub fn lookups(&self) -> Option<u64> {
        self.hits?.checked_add(self.misses?)
    }

    /// A data set is being loaded, whether or not an old one is served meanwhile.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.loading || self.async_loading
    }

    /// Share of the memory limit in use, as eviction counts it:
    /// (`used_memory` − `mem_not_counted_for_evict`) ÷ `maxmemory`; `None` without a limit.
    #[must_use]
    pub fn memory_used_ratio(&self) -> Option<f64> {
        let limit = self.maxmemory_bytes.filter(|bytes| *bytes > 0)?;
        let counted = self.used_memory_bytes?.saturating_sub(self.not_counted_for_evict_bytes.unwrap_or(0));
        Some(counted as f64 / limit as f64)
    }

    /// Major and minor number of the version; zeros where there are none.
    #[must_use]
    pub fn version_number(&self) -> (u32, u32) {
        let version = self.version.as_deref().unwrap_or_default();
        let mut numbers = version.split('.').map_while(|part| part.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// When the server started, Unix seconds by the server's own clock, never ours.
    #[must_use]
    pub fn start_time_seconds(&self) -> Option<f64> {
        Some(self.server_time_seconds? - self.uptime_seconds?)
    }
}

/// Calls summed by what they do to the key balance.
#[derive(Debug, Clone, Copy, Default)]
struct CommandCalls {
    set: u64,
    delete: u64,
    flush: u64,
    migration: u64,
}

impl CommandCalls {
    /// `None` where the server sent no `commandstats` at all (not permitted, or not supported).
    /// Command names may hold `|`, `_`, `-` and `.`; after CONFIG RESETSTAT only what ran since is listed.
    fn of(info: &Info<'_>) -> Option<Self> {
        let mut sums = None;
        for (command, value) in info.with_prefix("cmdstat_") {
            let sums: &mut Self = sums.get_or_insert_default();
            let calls = Parts(value).counter("calls").unwrap_or(0);
            let sum = if SET_COMMANDS.iter().any(|name| command.eq_ignore_ascii_case(name)) {
                &mut sums.set
            } else if ["del", "unlink"].iter().any(|name| command.eq_ignore_ascii_case(name)) {
                &mut sums.delete
            } else if ["flushall", "flushdb"].iter().any(|name| command.eq_ignore_ascii_case(name)) {
                &mut sums.flush
            } else if MIGRATION_COMMANDS.iter().any(|name| command.eq_ignore_ascii_case(name)) {
                &mut sums.migration
            } else {
                continue;
            };
            *sum = sum.saturating_add(calls);
        }
        sums
    }
}
