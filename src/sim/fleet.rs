//! Fleets of simulated nodes on loopback addresses.
//!
//! Nodes with a keyspace have a port of 127.0.0.1 each, so that they work wherever a loopback does and a
//! dead one refuses for real. A plain fleet may have thousands of nodes: they share one listener on all
//! addresses and are told apart by the one dialled (127.1.0.0 and up, same port, Linux only), which saves
//! a descriptor and a task per node; a connection to any other address is reset unread.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;

use super::keyspace::Keyspace;
use super::mode::Mode;
use super::node::{Clock, Node, World, lock};
use super::plain::Plain;
use super::profile::Profile;
use super::server::{Tasks, serve_addresses, serve_node};
use crate::config::Endpoint;
use crate::model::{CacheName, StormType};

/// A master, its replicas, and the keyspace they share.
#[derive(Debug)]
pub struct Shard {
    keyspace: Arc<Mutex<Keyspace>>,
    nodes: Vec<Arc<Node>>,
    clock: Clock,
}

impl Shard {
    async fn start(profile: Profile, seed: u64, clock: Clock, tasks: &Tasks) -> io::Result<Self> {
        let members = profile.lookups_per_second.len();
        let keyspace = Arc::new(Mutex::new(Keyspace::new(profile, seed)));
        lock(&keyspace).advance(clock.seconds());
        let mut nodes = Vec::with_capacity(members);
        for member in 0..members {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let world = World::Keyspace(keyspace.clone(), member);
            let node = Arc::new(Node::new(listener.local_addr()?, clock, world));
            serve_node(listener, node.clone(), tasks);
            nodes.push(node);
        }
        Ok(Self { keyspace, nodes, clock })
    }

    /// Its nodes; the first was the master at the start.
    #[must_use]
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Does something to the keyspace, brought up to now, and lets the nodes follow: a restart or a
    /// change of role cuts connections, a dead server refuses until it is back.
    pub fn change<T>(&self, change: impl FnOnce(&mut Keyspace) -> T) -> T {
        let mut keyspace = lock(&self.keyspace);
        keyspace.advance(self.clock.seconds());
        let states = |keyspace: &Keyspace| -> Vec<_> {
            let state = |member| (keyspace.is_alive(member), keyspace.role(member), keyspace.facts(member).run_id);
            (0..keyspace.members()).map(state).collect()
        };
        let before = states(&keyspace);
        let result = change(&mut keyspace);
        let after = states(&keyspace);
        drop(keyspace);
        for (node, (before, after)) in self.nodes.iter().zip(before.iter().zip(&after)) {
            match (before.0, after.0) {
                (true, false) => node.set_mode(Mode::Refuse),
                (false, true) => node.set_mode(Mode::Normal),
                _ if before != after => node.cut_connections(),
                _ => {}
            }
        }
        result
    }
}

/// A named cache of the fleet.
#[derive(Debug)]
pub struct SimulatedCache {
    name: CacheName,
    shards: Vec<Shard>,
    nodes: Vec<Arc<Node>>,
}

impl SimulatedCache {
    fn of_shards(name: &str, shards: Vec<Shard>) -> Self {
        let nodes = shards.iter().flat_map(|shard| shard.nodes.iter().cloned()).collect();
        Self { name: CacheName::from(name), shards, nodes }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &CacheName {
        &self.name
    }

    /// Its nodes, shard by shard.
    #[must_use]
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Its shards; none in a plain fleet.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// How to reach its nodes.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.nodes.iter().map(|node| node.endpoint()).collect()
    }
}

/// Simulated caches with their servers; dropped, the servers end.
#[derive(Debug)]
pub struct Fleet {
    caches: Vec<SimulatedCache>,
    tasks: Tasks,
}

impl Fleet {
    /// The fleet of the demo: `sessions`, that many masters of their own, and `catalog`, one master with
    /// the rest as its replicas (at least one: its storms need a replica). Errors: no port to be had.
    pub async fn demo(nodes_per_cache: usize, seed: u64) -> io::Result<Self> {
        let (clock, tasks) = (Clock::start(), Tasks::default());
        let mut sessions = Vec::with_capacity(nodes_per_cache);
        for index in 0..nodes_per_cache.max(1) as u64 {
            let shard = Shard::start(Profile::small("sessions"), seed.wrapping_add(index), clock, &tasks).await?;
            sessions.push(shard);
        }
        let mut lookups_per_second = vec![800.0; nodes_per_cache.max(2)];
        // The master takes the writes of all and few of the reads.
        lookups_per_second[0] = 400.0;
        let catalog = Profile { lookups_per_second, memory_fill: None, ..Profile::small("catalog") };
        // Far from the seeds of the sessions.
        let catalog = Shard::start(catalog, !seed, clock, &tasks).await?;
        let caches =
            vec![SimulatedCache::of_shards("sessions", sessions), SimulatedCache::of_shards("catalog", vec![catalog])];
        Ok(Self { caches, tasks })
    }

    /// One shard, as a cache of its own: the master first, a replica for every further rate of the profile.
    /// Errors: no port to be had.
    pub async fn shard(name: &str, profile: Profile, seed: u64) -> io::Result<Self> {
        let (clock, tasks) = (Clock::start(), Tasks::default());
        let shard = Shard::start(profile, seed, clock, &tasks).await?;
        Ok(Self { caches: vec![SimulatedCache::of_shards(name, vec![shard])], tasks })
    }

    /// Cache `plain` of `count` nodes without keys, at most 65,536. Errors: no port to be had, or too many nodes.
    pub async fn plain(count: usize, seed: u64) -> io::Result<Self> {
        let (clock, tasks) = (Clock::start(), Tasks::default());
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let port = listener.local_addr()?.port();
        let addresses = (0..count).map(|index| {
            let [high, low] = u16::try_from(index).map_err(io::Error::other)?.to_be_bytes();
            Ok(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)))
        });
        let addresses: Vec<IpAddr> = addresses.collect::<io::Result<_>>()?;
        let node = |(index, address): (u64, &IpAddr)| {
            let world = World::Plain(Box::new(Mutex::new(Plain::new(port, seed.wrapping_add(index)))));
            Arc::new(Node::new(SocketAddr::new(*address, port), clock, world))
        };
        let nodes: Vec<Arc<Node>> = (0_u64..).zip(&addresses).map(node).collect();
        let by_address: HashMap<_, _> = addresses.into_iter().zip(nodes.iter().cloned()).collect();
        serve_addresses(listener, by_address, &tasks);
        Ok(Self { caches: vec![SimulatedCache { name: CacheName::from("plain"), shards: Vec::new(), nodes }], tasks })
    }

    /// Its caches.
    #[must_use]
    pub fn caches(&self) -> &[SimulatedCache] {
        &self.caches
    }

    /// The cache of that name.
    #[must_use]
    pub fn cache(&self, name: &str) -> Option<&SimulatedCache> {
        self.caches.iter().find(|cache| cache.name.as_str() == name)
    }

    /// How to reach the nodes, by cache.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(CacheName, Vec<Endpoint>)> {
        self.caches.iter().map(|cache| (cache.name.clone(), cache.endpoints())).collect()
    }

    /// Lets a storm break out on the first `shards` shards of a cache. Does nothing on an unknown cache.
    pub fn break_out(&self, cache: &str, storm: StormType, shards: usize) {
        for shard in self.cache(cache).iter().flat_map(|cache| cache.shards()).take(shards) {
            shard.change(|keyspace| keyspace.break_out(storm));
        }
    }

    /// Ends whatever storm is on in a cache; its nodes recover by ordinary refill.
    pub fn end_storm(&self, cache: &str) {
        for shard in self.cache(cache).iter().flat_map(|cache| cache.shards()) {
            shard.change(Keyspace::end_storm);
        }
    }

    /// Ends the servers and waits for their tasks.
    pub async fn shutdown(self) {
        self.tasks.stop.cancel();
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}
