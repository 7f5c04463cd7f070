//! One simulated node: its world, its manners, and what has been asked of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

use super::counters::Counters;
use super::info::{self, Facts, Replication};
use super::keyspace::Keyspace;
use super::mode::Mode;
use super::plain::{Plain, Rates};
use crate::config::{Credentials, Endpoint};
use crate::model::NodeName;

/// Seconds since the fleet began; obeys tokio's paused time.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that reads 0 now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since its start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Where a node's numbers come from.
#[derive(Debug)]
pub(super) enum World {
    /// One server of a simulated keyspace, which it shares with its replicas or its master.
    Keyspace(Arc<Mutex<Keyspace>>, usize),
    /// Rates.
    Plain(Box<Mutex<Plain>>),
}

/// How the node behaves, and how often its connections have been cut.
#[derive(Debug, Clone, Default)]
pub(super) struct Control {
    pub(super) mode: Mode,
    pub(super) cuts: u64,
}

/// One simulated node.
#[derive(Debug)]
pub struct Node {
    name: NodeName,
    address: SocketAddr,
    clock: Clock,
    world: World,
    control: watch::Sender<Control>,
    info_calls: AtomicU64,
    key_commands: AtomicU64,
    connections: AtomicU64,
}

impl Node {
    pub(super) fn new(address: SocketAddr, clock: Clock, world: World) -> Self {
        if let World::Keyspace(keyspace, member) = &world {
            lock(keyspace).set_port(*member, address.port());
        }
        Self {
            name: NodeName::from(address.to_string()),
            address,
            clock,
            world,
            control: watch::Sender::new(Control::default()),
            info_calls: AtomicU64::new(0),
            key_commands: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    /// `host:port`.
    #[must_use]
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How to reach it, without credentials.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            node: self.name.clone(),
            host: IpAddr::to_string(&self.address.ip()),
            port: self.address.port(),
            credentials: Credentials::default(),
            tls: None,
            allow: None,
        }
    }

    /// Changes its behaviour, from the next request on; [`Mode::Refuse`] cuts its connections.
    pub fn set_mode(&self, mode: Mode) {
        self.control.send_modify(|control| control.mode = mode);
    }

    /// Resets every connection to it.
    pub fn cut_connections(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }

    /// Times that `INFO` was asked for, answered or not.
    #[must_use]
    pub fn info_calls(&self) -> u64 {
        self.info_calls.load(Ordering::Relaxed)
    }

    /// Requests that touch keys or change the server: everything outside a short list of harmless
    /// commands, so that a test can assert that none is ever sent.
    #[must_use]
    pub fn key_commands(&self) -> u64 {
        self.key_commands.load(Ordering::Relaxed)
    }

    /// Connections accepted since the start.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// What it would say of itself now.
    #[must_use]
    pub fn facts(&self) -> Facts {
        match &self.world {
            World::Keyspace(keyspace, member) => self.advanced(keyspace).facts(*member),
            World::Plain(plain) => {
                let mut plain = lock(plain);
                plain.advance(self.clock.seconds());
                plain.facts()
            }
        }
    }

    /// Changes the rates of a plain node; nothing on a node with keys.
    pub fn set_rates(&self, rates: Rates) {
        if let World::Plain(plain) = &self.world {
            let mut plain = lock(plain);
            plain.advance(self.clock.seconds());
            plain.set_rates(rates);
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Control> {
        self.control.subscribe()
    }

    pub(super) fn note_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.count(|counters| counters.connections += 1);
    }

    pub(super) fn note_info(&self) {
        self.info_calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_key_command(&self) {
        self.key_commands.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what arrives by the wire, as a server does with its monitoring too.
    pub(super) fn count(&self, count: impl FnOnce(&mut Counters)) {
        match &self.world {
            World::Keyspace(keyspace, member) => count(lock(keyspace).counters_mut(*member)),
            World::Plain(plain) => count(lock(plain).counters_mut()),
        }
    }

    pub(super) fn info(&self, sections: &[&str], loading: bool) -> String {
        info::render(&Facts { loading, ..self.facts() }, sections, unix_microseconds())
    }

    pub(super) fn is_replica(&self) -> bool {
        matches!(self.facts().replication, Replication::Replica { .. })
    }

    /// Lines of `MONITOR` for this many seconds of traffic.
    pub(super) fn monitor_lines(&self, seconds: f64) -> String {
        let keys = match &self.world {
            World::Keyspace(keyspace, member) => {
                let mut keyspace = self.advanced(keyspace);
                let count = (keyspace.lookups_per_second(*member) * seconds).round() as usize;
                keyspace.sample_keys(count)
            }
            World::Plain(plain) => {
                let count = (lock(plain).rates().lookups_per_second * seconds).round() as usize;
                (0..count).map(|key| format!("plain:user:{key}")).collect()
            }
        };
        let at = unix_microseconds() as f64 / 1e6;
        keys.iter().map(|key| format!("+{at:.6} [0 127.0.0.1:49152] \"GET\" \"{key}\"\r\n")).collect()
    }

    fn advanced<'k>(&self, keyspace: &'k Mutex<Keyspace>) -> MutexGuard<'k, Keyspace> {
        let mut keyspace = lock(keyspace);
        keyspace.advance(self.clock.seconds());
        keyspace
    }
}

/// A test that panicked while holding the lock has failed already; the others may go on.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The servers' own clock.
fn unix_microseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
