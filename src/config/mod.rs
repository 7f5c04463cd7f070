//! Validated configuration: what was written, after every value has been checked.

mod allow;
mod caches;
mod endpoint;
mod errors;
mod files;
mod load;
mod planned;
mod raw;
pub mod secret;
mod shard;
mod sources;
#[cfg(test)]
mod tests;
mod validate;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::detect::settings::{Settings, Timing};
use crate::model::{CacheName, NodeName, SeverityMode};
use crate::thresholds::Thresholds;
pub use allow::AllowList;
pub use errors::{ConfigError, ConfigErrors};
pub use load::{Overrides, environment, load};
pub use planned::Planned;
pub use secret::Credentials;
pub use shard::Shard;
pub(crate) use validate::listen_address;

/// The whole configuration. Everything in it has been checked; using it cannot fail on its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Pace of polling.
    pub poll: Poll,
    /// Durations of detection.
    pub timing: Timing,
    /// General thresholds: those of a cache that overrides none.
    pub thresholds: Arc<Thresholds>,
    /// Which `redis_*` families `/metrics` carries.
    pub redis_metrics: RedisMetrics,
    /// Where the detectors' memory outlives the process; `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// Whether and how accesses are sampled for hot keys.
    pub hotkeys: HotKeys,
    /// Maintenance that mutes the notice, not the page.
    pub planned: Vec<Planned>,
    /// How discovered nodes are found and which are refused.
    pub discovery: Discovery,
    /// Caches, in the order written; names are unique.
    pub caches: Vec<Arc<CacheConfig>>,
}

/// Pace of polling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// From the start of one round of a cache to the next.
    pub interval: Duration,
    /// Deadline of a round; at most the interval.
    pub timeout: Duration,
}

impl Default for Poll {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), timeout: Duration::from_secs(1) }
    }
}

/// Which `redis_*` families `/metrics` carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisMetrics {
    /// None.
    Off,
    /// At most 25 families, no per-command series.
    #[default]
    Core,
    /// All that `/scrape` shows, for every node.
    Full,
}

/// Whether accesses are sampled for hot keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HotKeyMode {
    /// Never.
    #[default]
    Off,
    /// On suspicion and, rarely, to know what is usual; from the sources that are allowed.
    Auto,
}

/// Sampling of accesses for hot keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HotKeys {
    /// Whether to sample.
    pub mode: HotKeyMode,
    /// `MONITOR` may be used. Without it only servers that count hot keys themselves are sampled.
    pub allow_monitor: bool,
    /// What keys are for.
    pub kinds: KindRules,
}

/// Globs over patterns of keys (`session:*`, in any case), by what such keys are for. The first kind that fits, in
/// this order, is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindRules {
    /// Sessions of users.
    pub session: Vec<String>,
    /// Numbers that are counted up.
    pub counter: Vec<String>,
    /// Settings that everyone reads.
    pub config: Vec<String>,
    /// What is shown to many.
    pub content: Vec<String>,
}

impl Default for KindRules {
    fn default() -> Self {
        let globs = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        Self {
            session: globs(&["sess:*", "sess_*", "*session*"]),
            counter: globs(&["*count*", "stats:*", "*:stats:*", "*views*", "hits:*"]),
            config: globs(&["config*", "*:config*", "*setting*", "*feature*", "*flag*"]),
            content: globs(&["*article*", "*product*", "*page*", "*post:*", "*content*", "*trending*"]),
        }
    }
}

impl HotKeys {
    /// Whether anything is to be sampled.
    #[must_use]
    pub fn sampled(&self) -> bool {
        self.mode == HotKeyMode::Auto
    }
}

/// One cache.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheConfig {
    /// Its name, unique.
    pub name: CacheName,
    /// Where its nodes come from.
    pub source: Source,
    /// How to reach a node that was discovered.
    pub access: Access,
    /// Thresholds in force: defaults, then `thresholds`, then the cache's own.
    pub thresholds: Arc<Thresholds>,
    /// What severity is the share of.
    pub severity_mode: SeverityMode,
    /// Several exporters share the cache by its replication groups: which of them this one is.
    pub shard: Option<Shard>,
}

/// Where a cache's nodes come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// They are listed; addresses are unique.
    Nodes(Vec<Endpoint>),
    /// A Redis Cluster tells: any of these nodes is asked for all others.
    Cluster {
        /// Nodes to ask, at least one.
        seeds: Vec<Endpoint>,
    },
    /// Sentinels tell.
    Sentinel(SentinelSource),
    /// Name servers tell.
    Dns {
        /// A host name, or one of SRV records.
        name: String,
        /// Port of every address; `None` for SRV records, which bring theirs.
        port: Option<u16>,
    },
    /// A file of targets in Prometheus' `file_sd` JSON tells.
    File(PathBuf),
}

impl Source {
    /// The key that it is written under.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Nodes(_) => "nodes",
            Self::Cluster { .. } => "cluster",
            Self::Sentinel(_) => "sentinel",
            Self::Dns { .. } => "dns",
            Self::File(_) => "file",
        }
    }
}

/// Sentinels and what to ask them for.
#[derive(Debug, Clone, PartialEq)]
pub struct SentinelSource {
    /// Sentinels to ask, at least one.
    pub sentinels: Vec<Endpoint>,
    /// Whose master and replicas are the cache's nodes.
    pub masters: Masters,
    /// How to reach a Sentinel that was discovered.
    pub access: Access,
}

/// Which of the masters that Sentinels watch belong to a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masters {
    /// One, by its name.
    Named(String),
    /// All of them.
    All,
}

/// How to reach a server whose address was discovered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Access {
    /// Who we are to it.
    pub credentials: Credentials,
    /// TLS, if it speaks that.
    pub tls: Option<Arc<TlsOptions>>,
}

/// Discovery, the same for all caches.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    /// From one look to the next.
    pub refresh: Duration,
    /// Nodes of one cache at most.
    pub max_nodes: usize,
    /// Where discovered addresses must lie.
    pub allow: Arc<AllowList>,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(30), max_nodes: 1000, allow: Arc::default() }
    }
}

/// How to reach one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `host:port`, an IPv6 host in brackets.
    pub node: NodeName,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Who we are to it.
    pub credentials: Credentials,
    /// TLS, for `rediss://`.
    pub tls: Option<Arc<TlsOptions>>,
    /// Addresses that the host may have, where someone else named it; `None`: any.
    pub allow: Option<Arc<AllowList>>,
}

/// TLS of a cache's `rediss://` nodes. The files have been found readable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsOptions {
    /// Authorities to trust, PEM; without it the operating system's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate and its key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Name to verify instead of the host.
    pub server_name: Option<String>,
}

impl CacheConfig {
    /// The nodes that are listed; none where they are discovered.
    #[must_use]
    pub fn listed(&self) -> &[Endpoint] {
        match &self.source {
            Source::Nodes(nodes) => nodes,
            _ => &[],
        }
    }

    /// The one master that its Sentinels are asked for, if there is one.
    #[must_use]
    pub fn watched_master(&self) -> Option<&str> {
        match &self.source {
            Source::Sentinel(SentinelSource { masters: Masters::Named(name), .. }) => Some(name),
            _ => None,
        }
    }
}

impl Config {
    /// Settings for a recording: those of the cache of its name, else the general ones.
    #[must_use]
    pub fn recording_settings(&self, name: &str) -> Settings {
        match self.caches.iter().find(|cache| cache.name.as_str() == name) {
            Some(cache) => self.detector_settings(cache),
            None => Settings { thresholds: (*self.thresholds).clone(), timing: self.timing, ..Settings::default() },
        }
    }

    /// Settings of one cache's detector.
    #[must_use]
    pub fn detector_settings(&self, cache: &CacheConfig) -> Settings {
        Settings {
            thresholds: (*cache.thresholds).clone(),
            timing: self.timing,
            severity_mode: cache.severity_mode,
            poll_interval: self.poll.interval.as_secs_f64(),
        }
    }
}
