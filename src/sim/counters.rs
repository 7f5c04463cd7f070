//! Counters of one server life, as `INFO` reports them.

macro_rules! commands {
    ($($variant:ident = $name:literal,)+) => {
        /// Commands that the simulated servers count by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)] // the name says it
        pub enum Command { $($variant,)+ }

        impl Command {
            /// Every command counted by name.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// As in `cmdstat_<name>`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

commands! {
    Get = "get",
    Set = "set",
    Del = "del",
    Unlink = "unlink",
    Flushall = "flushall",
    Info = "info",
    Ping = "ping",
    Auth = "auth",
    ClientSetname = "client|setname",
    ConfigGet = "config|get",
    Role = "role",
    Monitor = "monitor",
    Wait = "wait",
}

/// What a server has counted since its start or the last `CONFIG RESETSTAT`. Bytes for the `net` fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// `keyspace_hits`.
    pub hits: u64,
    /// `keyspace_misses`.
    pub misses: u64,
    /// `expired_keys`; always 0 on a replica, which never expires keys by itself.
    pub expired: u64,
    /// `evicted_keys`; always 0 on a replica.
    pub evicted: u64,
    /// `total_commands_processed`.
    pub commands: u64,
    /// `total_connections_received`.
    pub connections: u64,
    /// `total_net_input_bytes`.
    pub net_input_bytes: u64,
    /// `total_net_output_bytes`.
    pub net_output_bytes: u64,
    /// `errorstat_OOM`: SETs refused for want of memory. They count as rejected, not as calls.
    pub oom_errors: u64,
    /// `sync_full`: replicas given a full copy.
    pub full_syncs: u64,
    /// Calls by [`Command`].
    pub(super) calls: [u64; Command::ALL.len()],
}

impl Counters {
    /// Counts one call and its bytes on the wire.
    pub fn call(&mut self, command: Command, input_bytes: u64, output_bytes: u64) {
        self.add_calls(command, 1);
        self.net_input_bytes += input_bytes;
        self.net_output_bytes += output_bytes;
    }

    /// Counts calls without looking at their bytes.
    pub fn add_calls(&mut self, command: Command, calls: u64) {
        self.commands += calls;
        self.calls[command as usize] += calls;
    }

    /// Calls of one command.
    #[must_use]
    pub fn calls(&self, command: Command) -> u64 {
        self.calls[command as usize]
    }

    /// Hits plus misses.
    #[must_use]
    pub fn lookups(&self) -> u64 {
        self.hits + self.misses
    }
}
