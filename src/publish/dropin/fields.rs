//! Families that are one field of `INFO` each, beyond the core.
//!
//! A field whose name begins with `+` is no field of `INFO`: it was asked for on top of it (see `wire`).

use super::{DropInRow, Family, Kind, Source};

macro_rules! gauge {
    ($name:literal, $field:literal, $what:literal) => {
        row(concat!("redis_", $name), Kind::Gauge, Source::Field($field), concat!($what, " (", $field, ")."))
    };
}

macro_rules! counter {
    ($name:literal, $field:literal, $what:literal) => {
        row(concat!("redis_", $name), Kind::Counter, Source::Field($field), concat!($what, " (", $field, ")."))
    };
}

macro_rules! seconds {
    ($name:literal, $field:literal, $what:literal) => {
        row(concat!("redis_", $name), Kind::Gauge, Source::Scaled($field, 1e6), concat!($what, " (", $field, ")."))
    };
}

macro_rules! ok {
    ($name:literal, $field:literal, $what:literal) => {
        row(concat!("redis_", $name), Kind::Gauge, Source::Word($field, "ok"), concat!($what, " (", $field, ")."))
    };
}

const fn row(name: &'static str, kind: Kind, source: Source, help: &'static str) -> DropInRow {
    DropInRow { family: Family::node_gauge(name, help).of_kind(kind), source }
}

/// One field each, in the order of `INFO`.
#[rustfmt::skip]
pub(super) const FIELDS: &[DropInRow] = &[
    // Server
    gauge!("process_id", "process_id", "Process of the server"),
    gauge!("hz", "hz", "Runs of the server’s cron per second, as adapted"),
    gauge!("configured_hz", "configured_hz", "Runs of the server’s cron per second, as configured"),
    gauge!("io_threads_active", "io_threads_active", "Threads of input and output in use; 1 or 0 on older servers"),
    // Clients
    gauge!("max_clients", "maxclients", "Limit of client connections"),
    gauge!("config_maxclients", "maxclients", "Limit of client connections"),
    gauge!("cluster_connections", "cluster_connections", "Sockets of the cluster bus"),
    gauge!("client_recent_max_input_buffer_bytes", "client_recent_max_input_buffer", "Largest input buffer of a client of late"),
    gauge!("client_recent_max_output_buffer_bytes", "client_recent_max_output_buffer", "Largest output buffer of a client of late"),
    gauge!("client_biggest_input_buf", "client_biggest_input_buf", "Largest input buffer of a client, of servers before 5.0"),
    gauge!("client_longest_output_list", "client_longest_output_list", "Longest list of replies to a client, of servers before 5.0"),
    gauge!("clients_in_timeout_table", "clients_in_timeout_table", "Clients in the table of timeouts"),
    gauge!("tracking_clients", "tracking_clients", "Clients that use client-side caching"),
    gauge!("pubsub_clients", "pubsub_clients", "Clients in subscriber mode"),
    gauge!("watching_clients", "watching_clients", "Clients that watch keys"),
    gauge!("total_watched_keys", "total_watched_keys", "Keys that are watched"),
    gauge!("total_blocking_keys", "total_blocking_keys", "Keys that clients block on"),
    gauge!("total_blocking_keys_on_nokey", "total_blocking_keys_on_nokey", "Keys that clients block on until they are deleted"),
    // Memory
    gauge!("config_maxmemory", "maxmemory", "Limit of memory in bytes, 0 without a limit"),
    gauge!("memory_max_reservation_bytes", "maxmemory_reservation", "Bytes kept free for replication and failover, at Azure"),
    gauge!("memory_max_reservation_desired_bytes", "maxmemory_desired_reservation", "Bytes to be kept free for replication and failover, at Azure"),
    gauge!("memory_max_fragmentation_reservation_bytes", "maxfragmentationmemory_reservation", "Bytes kept free for fragmentation, at Azure"),
    gauge!("memory_max_fragmentation_reservation_desired_bytes", "maxfragmentationmemory_desired_reservation", "Bytes to be kept free for fragmentation, at Azure"),
    gauge!("total_system_memory_bytes", "total_system_memory", "Memory of the server’s machine"),
    gauge!("memory_used_peak_bytes", "used_memory_peak", "Most bytes allocated since the start"),
    gauge!("memory_used_lua_bytes", "used_memory_lua", "Bytes of the Lua engine"),
    gauge!("memory_used_overhead_bytes", "used_memory_overhead", "Bytes of everything but the keys"),
    gauge!("memory_used_startup_bytes", "used_memory_startup", "Bytes allocated at the start"),
    gauge!("memory_used_dataset_bytes", "used_memory_dataset", "Bytes of the keys"),
    gauge!("memory_used_vm_eval_bytes", "used_memory_vm_eval", "Bytes of the virtual machines for EVAL"),
    gauge!("memory_used_scripts_eval_bytes", "used_memory_scripts_eval", "Bytes of cached EVAL scripts"),
    gauge!("memory_used_vm_functions_bytes", "used_memory_vm_functions", "Bytes of the virtual machines for functions"),
    gauge!("memory_used_functions_bytes", "used_memory_functions", "Bytes of functions"),
    gauge!("memory_used_scripts_bytes", "used_memory_scripts", "Bytes of scripts and functions"),
    gauge!("memory_used_vm_total", "used_memory_vm_total", "Bytes of all virtual machines"),
    gauge!("number_of_cached_scripts", "number_of_cached_scripts", "EVAL scripts that are cached"),
    gauge!("number_of_functions", "number_of_functions", "Functions that are loaded"),
    gauge!("number_of_libraries", "number_of_libraries", "Libraries of functions that are loaded"),
    gauge!("allocator_allocated_bytes", "allocator_allocated", "Bytes the allocator gave out"),
    gauge!("allocator_active_bytes", "allocator_active", "Bytes in the allocator’s active pages"),
    gauge!("allocator_resident_bytes", "allocator_resident", "Resident bytes of the allocator"),
    gauge!("allocator_muzzy_bytes", "allocator_muzzy", "Bytes the allocator could return to the kernel"),
    gauge!("allocator_frag_ratio", "allocator_frag_ratio", "allocator_active ÷ allocator_allocated"),
    gauge!("allocator_frag_bytes", "allocator_frag_bytes", "Bytes lost to fragmentation within the allocator"),
    gauge!("allocator_rss_ratio", "allocator_rss_ratio", "allocator_resident ÷ allocator_active"),
    gauge!("allocator_rss_bytes", "allocator_rss_bytes", "Bytes between resident and active"),
    gauge!("mem_fragmentation_ratio", "mem_fragmentation_ratio", "used_memory_rss ÷ used_memory"),
    gauge!("memory_fragmentation_ratio", "mem_fragmentation_ratio", "used_memory_rss ÷ used_memory, under the name of older releases"),
    gauge!("mem_fragmentation_bytes", "mem_fragmentation_bytes", "Bytes between used_memory_rss and used_memory"),
    gauge!("mem_not_counted_for_eviction_bytes", "mem_not_counted_for_evict", "Bytes that do not count against maxmemory"),
    gauge!("mem_replication_backlog_bytes", "mem_replication_backlog", "Bytes of the replication backlog"),
    gauge!("mem_total_replication_buffers_bytes", "mem_total_replication_buffers", "Bytes of all replication buffers"),
    gauge!("mem_clients_slaves", "mem_clients_slaves", "Bytes of the replicas’ buffers"),
    gauge!("mem_clients_normal", "mem_clients_normal", "Bytes of the clients’ buffers"),
    gauge!("mem_cluster_links_bytes", "mem_cluster_links", "Bytes of the links of the cluster bus"),
    gauge!("mem_aof_buffer_bytes", "mem_aof_buffer", "Bytes of the buffers of the append-only file"),
    gauge!("mem_overhead_db_hashtable_rehashing_bytes", "mem_overhead_db_hashtable_rehashing", "Bytes of tables that are being resized"),
    gauge!("active_defrag_running", "active_defrag_running", "Percentage of CPU that defragmentation takes, 0 while it rests"),
    gauge!("lazyfree_pending_objects", "lazyfree_pending_objects", "Objects that wait to be freed"),
    counter!("lazyfreed_objects", "lazyfreed_objects", "Objects freed in the background"),
    // Persistence
    gauge!("loading_dump_file", "loading", "1 while the data set is loaded"),
    gauge!("async_loading", "async_loading", "1 while a replica loads and serves old data"),
    gauge!("rdb_changes_since_last_save", "rdb_changes_since_last_save", "Changes since the last save"),
    gauge!("rdb_bgsave_in_progress", "rdb_bgsave_in_progress", "1 while a save runs"),
    gauge!("rdb_last_save_timestamp_seconds", "rdb_last_save_time", "When it was last saved, Unix seconds"),
    ok!("rdb_last_bgsave_status", "rdb_last_bgsave_status", "1 if the last save succeeded"),
    gauge!("rdb_last_bgsave_duration_sec", "rdb_last_bgsave_time_sec", "Seconds the last save took; absent before the first"),
    gauge!("rdb_current_bgsave_duration_sec", "rdb_current_bgsave_time_sec", "Seconds the running save has taken; absent without one"),
    counter!("rdb_saves_total", "rdb_saves", "Saves since the start"),
    gauge!("rdb_last_cow_size_bytes", "rdb_last_cow_size", "Bytes copied on write during the last save"),
    gauge!("rdb_last_load_expired_keys", "rdb_last_load_keys_expired", "Keys dropped as expired by the last load"),
    gauge!("rdb_last_load_loaded_keys", "rdb_last_load_keys_loaded", "Keys read by the last load"),
    gauge!("aof_enabled", "aof_enabled", "1 if there is an append-only file"),
    gauge!("aof_rewrite_in_progress", "aof_rewrite_in_progress", "1 while it is rewritten"),
    gauge!("aof_rewrite_scheduled", "aof_rewrite_scheduled", "1 if a rewrite waits for a save to end"),
    gauge!("aof_last_rewrite_duration_sec", "aof_last_rewrite_time_sec", "Seconds the last rewrite took; absent before the first"),
    gauge!("aof_current_rewrite_duration_sec", "aof_current_rewrite_time_sec", "Seconds the running rewrite has taken; absent without one"),
    ok!("aof_last_bgrewrite_status", "aof_last_bgrewrite_status", "1 if the last rewrite succeeded"),
    ok!("aof_last_write_status", "aof_last_write_status", "1 if the last write succeeded"),
    gauge!("aof_last_cow_size_bytes", "aof_last_cow_size", "Bytes copied on write during the last rewrite"),
    gauge!("aof_current_size_bytes", "aof_current_size", "Bytes of the append-only file"),
    gauge!("aof_base_size_bytes", "aof_base_size", "Bytes after the last rewrite"),
    gauge!("aof_pending_rewrite", "aof_pending_rewrite", "1 if a rewrite waits"),
    gauge!("aof_buffer_length", "aof_buffer_length", "Bytes of its buffer"),
    gauge!("aof_rewrite_buffer_length", "aof_rewrite_buffer_length", "Bytes of the rewrite’s buffer"),
    gauge!("aof_pending_bio_fsync", "aof_pending_bio_fsync", "Syncs to disk that wait"),
    counter!("aof_delayed_fsync", "aof_delayed_fsync", "Syncs to disk that were late"),
    gauge!("module_fork_in_progress", "module_fork_in_progress", "1 while a module’s child runs"),
    gauge!("module_fork_last_cow_size", "module_fork_last_cow_size", "Bytes copied on write by a module’s last child"),
    // Stats
    counter!("connections_received_total", "total_connections_received", "Connections accepted"),
    counter!("rejected_connections_total", "rejected_connections", "Connections rejected for want of room"),
    counter!("net_repl_input_bytes_total", "total_net_repl_input_bytes", "Bytes received by replication"),
    counter!("net_repl_output_bytes_total", "total_net_repl_output_bytes", "Bytes sent by replication"),
    counter!("replica_resyncs_full", "sync_full", "Full synchronisations given to replicas"),
    counter!("replica_partial_resync_accepted", "sync_partial_ok", "Partial synchronisations given"),
    counter!("replica_partial_resync_denied", "sync_partial_err", "Partial synchronisations denied"),
    counter!("expired_subkeys_total", "expired_subkeys", "Hash fields removed at the end of their TTL"),
    gauge!("expired_stale_percentage", "expired_stale_perc", "Estimated percentage of keys that have expired and are still there"),
    counter!("expired_time_cap_reached_total", "expired_time_cap_reached_count", "Times the search for expired keys ran out of time"),
    counter!("expire_cycle_cpu_time_ms_total", "expire_cycle_cpu_milliseconds", "Milliseconds of CPU spent on expiry"),
    counter!("evicted_clients_total", "evicted_clients", "Clients closed for want of memory"),
    counter!("evicted_scripts_total", "evicted_scripts", "Cached scripts dropped"),
    counter!("eviction_exceeded_time_ms_total", "total_eviction_exceeded_time", "Milliseconds with memory above its limit"),
    gauge!("current_eviction_exceeded_time_ms", "current_eviction_exceeded_time", "Milliseconds since memory passed its limit, 0 below it"),
    gauge!("pubsub_channels", "pubsub_channels", "Channels with subscribers"),
    gauge!("pubsub_patterns", "pubsub_patterns", "Patterns with subscribers"),
    gauge!("pubsubshard_channels", "pubsubshard_channels", "Shard channels with subscribers"),
    seconds!("latest_fork_seconds", "latest_fork_usec", "Seconds the last fork took"),
    gauge!("migrate_cached_sockets_total", "migrate_cached_sockets", "Sockets kept open for MIGRATE; goes up and down, whatever its name says"),
    gauge!("slave_expires_tracked_keys", "slave_expires_tracked_keys", "Keys with a TTL that a writable replica looks after"),
    counter!("defrag_hits", "active_defrag_hits", "Values moved by defragmentation"),
    counter!("defrag_misses", "active_defrag_misses", "Values it tried to move in vain"),
    counter!("defrag_key_hits", "active_defrag_key_hits", "Keys moved by defragmentation"),
    counter!("defrag_key_misses", "active_defrag_key_misses", "Keys it passed over"),
    gauge!("tracking_total_keys", "tracking_total_keys", "Keys that are tracked for clients"),
    gauge!("tracking_total_items", "tracking_total_items", "Clients tracked, summed over keys"),
    gauge!("tracking_total_prefixes", "tracking_total_prefixes", "Prefixes that are tracked"),
    counter!("unexpected_error_replies", "unexpected_error_replies", "Errors from loading or from a master"),
    counter!("total_error_replies", "total_error_replies", "Commands that ended in an error"),
    counter!("dump_payload_sanitizations", "dump_payload_sanitizations", "Payloads checked in depth"),
    counter!("total_reads_processed", "total_reads_processed", "Reads from sockets"),
    counter!("total_writes_processed", "total_writes_processed", "Writes to sockets"),
    counter!("io_threaded_reads_processed", "io_threaded_reads_processed", "Reads by other threads"),
    counter!("io_threaded_writes_processed", "io_threaded_writes_processed", "Writes by other threads"),
    counter!("client_query_buffer_limit_disconnections_total", "client_query_buffer_limit_disconnections", "Clients cut for the size of their query buffer"),
    counter!("client_output_buffer_limit_disconnections_total", "client_output_buffer_limit_disconnections", "Clients cut for the size of their output buffer"),
    counter!("reply_buffer_shrinks_total", "reply_buffer_shrinks", "Reply buffers made smaller"),
    counter!("reply_buffer_expands_total", "reply_buffer_expands", "Reply buffers made larger"),
    counter!("eventloop_cycles_total", "eventloop_cycles", "Turns of the event loop"),
    counter!("eventloop_duration_sum_usec_total", "eventloop_duration_sum", "Microseconds spent in the event loop"),
    counter!("eventloop_duration_cmd_sum_usec_total", "eventloop_duration_cmd_sum", "Microseconds of them spent on commands"),
    gauge!("instantaneous_eventloop_cycles_per_sec", "instantaneous_eventloop_cycles_per_sec", "Turns of the event loop per second"),
    gauge!("instantaneous_eventloop_duration_usec", "instantaneous_eventloop_duration_usec", "Microseconds a turn takes on average"),
    counter!("acl_access_denied_auth_total", "acl_access_denied_auth", "Logins refused"),
    counter!("acl_access_denied_cmd_total", "acl_access_denied_cmd", "Commands refused by ACL"),
    counter!("acl_access_denied_key_total", "acl_access_denied_key", "Keys refused by ACL"),
    counter!("acl_access_denied_channel_total", "acl_access_denied_channel", "Channels refused by ACL"),
    // Replication
    gauge!("second_repl_offset", "second_repl_offset", "Offset up to which the former history is accepted; absent without one"),
    gauge!("repl_backlog_is_active", "repl_backlog_active", "1 if there is a backlog"),
    gauge!("replication_backlog_bytes", "repl_backlog_size", "Size of the backlog"),
    gauge!("config_repl_backlog_size", "repl_backlog_size", "Size of the backlog"),
    gauge!("repl_backlog_first_byte_offset", "repl_backlog_first_byte_offset", "Offset of the first byte in the backlog"),
    gauge!("repl_backlog_history_bytes", "repl_backlog_histlen", "Bytes of history in the backlog"),
    gauge!("slave_priority", "slave_priority", "Priority of a replica in a failover"),
    // CPU
    counter!("cpu_sys_children_seconds_total", "used_cpu_sys_children", "CPU seconds spent in the kernel by children"),
    counter!("cpu_user_children_seconds_total", "used_cpu_user_children", "CPU seconds spent in the server by children"),
    counter!("cpu_sys_main_thread_seconds_total", "used_cpu_sys_main_thread", "CPU seconds spent in the kernel by the main thread"),
    counter!("cpu_user_main_thread_seconds_total", "used_cpu_user_main_thread", "CPU seconds spent in the server by the main thread"),
    // KeyDB
    gauge!("server_threads_total", "server_threads", "Threads that serve clients, of KeyDB"),
    gauge!("current_client_thread", "current_client_thread", "Thread that answered, of KeyDB"),
    counter!("long_lock_waits_total", "long_lock_waits", "Long waits for a lock, of KeyDB"),
    gauge!("cached_keys_total", "cached_keys", "Keys in memory, of KeyDB with a storage behind"),
    counter!("storage_provider_read_hits", "storage_provider_read_hits", "Lookups that KeyDB’s storage answered"),
    counter!("storage_provider_read_misses", "storage_provider_read_misses", "Lookups that it did not"),
    // Cluster
    gauge!("cluster_enabled", "cluster_enabled", "1 if the server belongs to a cluster"),
    ok!("cluster_state", "cluster_state", "1 if the cluster serves; asked by CLUSTER INFO as all that follows"),
    gauge!("cluster_slots_assigned", "cluster_slots_assigned", "Slots that have a node"),
    gauge!("cluster_slots_ok", "cluster_slots_ok", "Slots whose node answers"),
    gauge!("cluster_slots_pfail", "cluster_slots_pfail", "Slots whose node may have failed"),
    gauge!("cluster_slots_fail", "cluster_slots_fail", "Slots whose node has failed"),
    gauge!("cluster_nodes_pfail", "cluster_nodes_pfail", "Nodes that may have failed"),
    gauge!("cluster_nodes_fail", "cluster_nodes_fail", "Nodes that have failed"),
    gauge!("cluster_voting_nodes_pfail", "cluster_voting_nodes_pfail", "Voting nodes that may have failed"),
    gauge!("cluster_voting_nodes_fail", "cluster_voting_nodes_fail", "Voting nodes that have failed"),
    gauge!("cluster_known_nodes", "cluster_known_nodes", "Nodes that are known"),
    gauge!("cluster_size", "cluster_size", "Masters with slots"),
    gauge!("cluster_current_epoch", "cluster_current_epoch", "Epoch of the cluster"),
    gauge!("cluster_my_epoch", "cluster_my_epoch", "Epoch of the node"),
    counter!("cluster_messages_sent_total", "cluster_stats_messages_sent", "Messages sent on the bus"),
    counter!("cluster_messages_received_total", "cluster_stats_messages_received", "Messages received on the bus"),
    counter!("cluster_stats_bytes_sent", "cluster_stats_bytes_sent", "Bytes sent on the bus"),
    counter!("cluster_stats_bytes_received", "cluster_stats_bytes_received", "Bytes received on the bus"),
    counter!("cluster_stats_pubsub_bytes_sent", "cluster_stats_pubsub_bytes_sent", "Bytes sent for publish/subscribe"),
    counter!("cluster_stats_pubsub_bytes_received", "cluster_stats_pubsub_bytes_received", "Bytes received for publish/subscribe"),
    counter!("cluster_stats_module_bytes_sent", "cluster_stats_module_bytes_sent", "Bytes sent for modules"),
    counter!("cluster_stats_module_bytes_received", "cluster_stats_module_bytes_received", "Bytes received for modules"),
    // Sentinel
    gauge!("sentinel_masters", "sentinel_masters", "Masters that the Sentinel watches"),
    gauge!("sentinel_tilt", "sentinel_tilt", "1 while it mistrusts its clock"),
    gauge!("sentinel_running_scripts", "sentinel_running_scripts", "Scripts that run"),
    gauge!("sentinel_scripts_queue_length", "sentinel_scripts_queue_length", "Scripts that wait"),
    gauge!("sentinel_simulate_failure_flags", "sentinel_simulate_failure_flags", "Failures that are simulated"),
    // asked on top of INFO
    row("redis_config_io_threads", Kind::Gauge, Source::Field("+config_io-threads"), "Threads of input and output, as configured (CONFIG GET io-threads)."),
    row("redis_slowlog_length", Kind::Gauge, Source::Field("+slowlog_length"), "Entries of the slow log (SLOWLOG LEN)."),
    row("redis_slowlog_last_id", Kind::Gauge, Source::Field("+slowlog_last_id"), "Number of the latest entry of the slow log (SLOWLOG GET 1)."),
    row("redis_last_slow_execution_duration_seconds", Kind::Gauge, Source::Scaled("+slowlog_last_usec", 1e6), "Seconds the latest entry of the slow log took (SLOWLOG GET 1)."),
];
