//! Shared nouns: what the rest of the program talks about. Of libraries only serde's derives.

// Of `core`, which has addresses as values and, unlike `std::net`, no sockets.
use core::net::Ipv6Addr;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as it appears in labels and documents.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $type {
            fn from(name: &str) -> Self {
                Self(Arc::from(name))
            }
        }

        impl From<String> for $type {
            fn from(name: String) -> Self {
                Self(Arc::from(name))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// Name of a cache: a group of nodes that serve one purpose. Severity is judged per cache.
    CacheName
}

name! {
    /// Address of one server process, `host:port`; the value of the label `cache_node`.
    NodeName
}

impl NodeName {
    /// The name of the server there, in lower case; an IPv6 address is written the one short way, in the brackets that
    /// it needs.
    #[must_use]
    pub fn at(host: &str, port: impl fmt::Display) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let bare = host.trim_matches(['[', ']']);
        if !bare.contains(':') {
            return Self::from(format!("{host}:{port}"));
        }
        match bare.parse::<Ipv6Addr>() {
            Ok(address) => Self::from(format!("[{address}]:{port}")),
            Err(_) => Self::from(format!("[{bare}]:{port}")),
        }
    }
}

/// Port of a server that is named without one.
const REDIS_PORT: u16 = 6379;

/// Host, without brackets, and port of a target as scrape jobs and target files write it: `HOST`, `HOST:PORT`,
/// `[IPV6]:PORT`, `IPV6`, each also as `redis://` (`rediss://`, `valkey://`, `valkeys://`, in any case) with or without
/// credentials before it and a database behind it. A port that is none is 0; `None` of another scheme.
#[must_use]
pub fn target(text: &str) -> Option<(&str, u16)> {
    let known = |scheme| ["redis", "rediss", "valkey", "valkeys"].iter().any(|one| one.eq_ignore_ascii_case(scheme));
    let address = match text.split_once("://") {
        Some((scheme, address)) if known(scheme) => without_credentials(address),
        Some(_) => return None,
        None => without_credentials(text),
    };
    let address = address.split(['/', '?']).next()?;
    let (host, port) = match address.rsplit_once(':') {
        // An IPv6 address has colons of its own, within brackets.
        Some((host, port)) if !address.ends_with(']') && (!host.contains(':') || host.ends_with(']')) => {
            (host, port.parse().unwrap_or(0))
        }
        _ => (address, REDIS_PORT),
    };
    Some((host.trim_matches(['[', ']']), port))
}

/// A target without `USER:PASSWORD@`, which goes into no log and no label.
#[must_use]
pub fn without_credentials(target: &str) -> &str {
    target.rsplit('@').next().unwrap_or_default()
}

macro_rules! vocabulary {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+ }

        impl $type {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The value as it appears in labels and documents.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The value that [`Self::as_str`] spells, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

vocabulary! {
    /// What a server process is to its peers.
    Role {
        /// Takes writes.
        Master = "master",
        /// Follows a master.
        Replica = "replica",
        /// Watches masters and replicas; holds no keys.
        Sentinel = "sentinel",
    }
}

vocabulary! {
    /// Which program answers.
    Flavor {
        /// Redis, or a service that calls itself so.
        Redis = "redis",
        /// Valkey.
        Valkey = "valkey",
    }
}

vocabulary! {
    /// What an attempt to sample a node's accesses came to; value of the label `result`.
    SampleResult {
        /// The sample was taken.
        Taken = "taken",
        /// Nothing accessed a key meanwhile.
        Empty = "empty",
        /// The node's state does not allow it: too full, too busy, loading, syncing, or without a limit for us.
        Unsafe = "unsafe",
        /// The server does not permit it.
        Refused = "refused",
        /// The connection failed.
        Failed = "failed",
    }
}

vocabulary! {
    /// Why a discovered address is not polled; value of the label `reason`.
    DiscoveryRefusal {
        /// It lies outside `discovery.allow`.
        NotAllowed = "not_allowed",
        /// The cache has `discovery.max_nodes` already.
        MaxNodes = "max_nodes",
        /// It is no address.
        Invalid = "invalid",
    }
}

vocabulary! {
    /// Cause of a storm; value of the label `storm_type`. The order decides between equal scores.
    StormType {
        /// A promotion or a flapping master moved the load to a colder node.
        FailoverCascade = "failover_cascade",
        /// A server restarted empty, or a new one has nothing yet.
        ColdStart = "cold_start",
        /// A replica answers from a past that its master has left.
        ReplicationLag = "replication_lag",
        /// Keys were removed, or made unreachable by a new naming, at once.
        MassInvalidation = "mass_invalidation",
        /// A wave of keys reached the end of its TTL together.
        MassExpiration = "mass_expiration",
        /// The memory limit evicts what is still asked for, or refuses the refill.
        MemoryPressure = "memory_pressure",
        /// One key carries the load.
        HotKey = "hot_key",
        /// A storm whose cause the evidence does not show.
        Unknown = "unknown",
    }
}

vocabulary! {
    /// One named reason why a node looks bad now; value of the label `indicator`.
    Indicator {
        /// The hit ratio is below an absolute floor.
        LowHitRatio = "low_hit_ratio",
        /// Many commands and a poor hit ratio.
        HighLoadPoorHitRatio = "high_load_poor_hit_ratio",
        /// Memory near its limit, evicting, and the hit ratio falls.
        MemoryPressure = "memory_pressure",
        /// The hit ratio fell against the node's own past.
        HitRatioDrop = "hit_ratio_drop",
        /// Misses multiplied against the node's own past.
        MissAmplification = "miss_amplification",
        /// One node takes several times its usual and its peers' load.
        HotOverload = "hot_overload",
        /// Writes are refused for want of memory: the cache cannot refill.
        WriteRefusal = "write_refusal",
        /// A cause was seen and the hit ratio fell in one poll.
        CauseSeen = "cause_seen",
        /// An eligible master does not answer its clients; a replica, where nobody is left to be read instead.
        Unreachable = "unreachable",
        /// A replica's data is old.
        ReplicationLag = "replication_lag",
        /// A replica has lost its master.
        ReplicationLinkDown = "replication_link_down",
        /// The node was promoted, or the configuration epoch moved.
        Failover = "failover",
    }
}

vocabulary! {
    /// Condition of a node by its hit ratio; value of the label `state`.
    NodeState {
        /// Hit ratio above `healthy_hit_ratio`.
        Healthy = "healthy",
        /// Between `critical_hit_ratio` and `healthy_hit_ratio`.
        Degraded = "degraded",
        /// Below `critical_hit_ratio`.
        Critical = "critical",
        /// Up, without lookups to judge by.
        Unknown = "unknown",
        /// Does not answer.
        Down = "down",
    }
}

vocabulary! {
    /// How much of a cache is affected; exposed as its ordinal 0–3.
    Severity {
        /// No storm.
        None = "none",
        /// Some nodes, fewer than `severity_major_share`.
        Minor = "minor",
        /// At least `severity_major_share` of the nodes.
        Major = "major",
        /// At least `severity_critical_share` of the nodes.
        Critical = "critical",
    }
}

impl Severity {
    /// 0 none, 1 minor, 2 major, 3 critical: the value of `cache_storm_severity` and the exit code of `report`.
    #[must_use]
    pub const fn ordinal(self) -> u8 {
        self as u8
    }
}

vocabulary! {
    /// Why a poll failed: the closed set behind `cache_storm_poll_failures_total{reason}`.
    FailureReason {
        /// Nobody listens there.
        Refused = "refused",
        /// No answer before the deadline.
        Timeout = "timeout",
        /// The password is wrong or missing.
        Auth = "auth",
        /// The user may not run `INFO`.
        NoPerm = "noperm",
        /// The server is loading its data set.
        Loading = "loading",
        /// A script blocks the server.
        Busy = "busy",
        /// The server has no room for another client.
        MaxClients = "maxclients",
        /// The TLS handshake failed.
        Tls = "tls",
        /// The name does not resolve.
        Dns = "dns",
        /// What answered does not speak RESP, or not as expected.
        Protocol = "protocol",
        /// The reply passed the size limit.
        TooLarge = "too_large",
        /// Any other fault of the connection.
        Io = "io",
    }
}

impl FailureReason {
    /// Whether the cache's clients meet the same failure. What a server answers to us alone (our password, our
    /// permissions, our TLS, our reading of its reply) is a fault of the exporter's set-up.
    #[must_use]
    pub const fn clients_feel(self) -> bool {
        !matches!(self, Self::Auth | Self::NoPerm | Self::Protocol | Self::Tls | Self::TooLarge)
    }

    /// Whether somebody answered, if only with a refusal.
    #[must_use]
    pub const fn answered(self) -> bool {
        use FailureReason::{Auth, Busy, Loading, MaxClients, NoPerm, Protocol, TooLarge};
        matches!(self, Auth | Busy | Loading | MaxClients | NoPerm | Protocol | TooLarge)
    }
}

vocabulary! {
    /// What a Sentinel marks a server with; value of the label `flag`.
    SentinelFlag {
        /// This Sentinel gets no answer from it.
        SubjectivelyDown = "s_down",
        /// Enough Sentinels get none: it is to be replaced.
        ObjectivelyDown = "o_down",
        /// This Sentinel has no connection to it.
        Disconnected = "disconnected",
        /// A replica is being promoted in its place.
        FailoverInProgress = "failover_in_progress",
    }
}

vocabulary! {
    /// How a shard (a master and its replicas) is manned; value of the label `state`.
    ShardState {
        /// A master and a replica answer.
        Ok = "ok",
        /// Its master answers alone: nobody could take its place.
        NoReplica = "no_replica",
        /// No master answers.
        NoMaster = "no_master",
    }
}

vocabulary! {
    /// What a Sentinel announced; value of the label `event`.
    SentinelEvent {
        /// A master has another address now (`+switch-master`).
        SwitchMaster = "switch_master",
        /// A server does not answer this Sentinel (`+sdown`).
        Down = "sdown",
        /// It answers again (`-sdown`).
        Up = "sdown_over",
        /// Enough Sentinels call a master down (`+odown`).
        ObjectivelyDown = "odown",
        /// A failover was given up (`-failover-abort-…`).
        FailoverAborted = "failover_abort",
        /// A server restarted (`+reboot`).
        Reboot = "reboot",
        /// The Sentinel distrusts its own clock and does nothing (`+tilt`).
        Tilt = "tilt",
    }
}

/// Which share a cache's severity is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SeverityMode {
    /// Affected ÷ eligible nodes.
    #[default]
    Nodes,
    /// Lookups per second of affected nodes ÷ those of eligible nodes, by their storm-free baseline.
    Traffic,
    /// The larger of the two.
    Max,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severity_orders_and_counts_as_the_contract_says() {
        let ordinals: Vec<u8> = Severity::ALL.iter().map(|severity| severity.ordinal()).collect();
        assert_eq!(ordinals, [0, 1, 2, 3]);
        assert!(Severity::Critical > Severity::Major);
    }

    #[test]
    fn targets_are_read_as_scrape_jobs_write_them() {
        for (text, expected) in [
            ("10.0.0.1:6379", Some(("10.0.0.1", 6379))),
            ("redis://10.0.0.1:6380", Some(("10.0.0.1", 6380))),
            ("REDIS://10.0.0.1:6380", Some(("10.0.0.1", 6380))),
            ("rediss://cache.example.com:6380/0", Some(("cache.example.com", 6380))),
            ("valkey://cache/", Some(("cache", 6379))),
            ("redis://user:pa/ss@10.0.0.1:6380/0?x=y", Some(("10.0.0.1", 6380))),
            ("cache", Some(("cache", 6379))),
            ("[::1]:7000", Some(("::1", 7000))),
            ("[::1]", Some(("::1", 6379))),
            ("2001:db8::1", Some(("2001:db8::1", 6379))),
            ("10.0.0.3:x", Some(("10.0.0.3", 0))),
            ("http://10.0.0.1:80", None),
        ] {
            assert_eq!(target(text), expected, "{text}");
        }
        for host in ["::1", "[::1]", "0:0:0:0:0:0:0:1", "[::0001]"] {
            assert_eq!(NodeName::at(host, 7000).as_str(), "[::1]:7000", "{host}");
        }
        assert_eq!(NodeName::at("FE80::1%eth0", 1).as_str(), "[fe80::1%eth0]:1");
        assert_eq!(NodeName::at("Cache.Example.com.", 1).as_str(), "cache.example.com:1");
    }

    #[test]
    fn names_are_read_back() {
        for storm_type in StormType::ALL {
            assert_eq!(StormType::from_name(storm_type.as_str()), Some(*storm_type));
        }
        assert_eq!(StormType::from_name("weather"), None);
    }
}
