//! A fleet of real servers with clients at work, and the things that can happen to it.

use std::sync::Arc;
use std::time::Duration;

use cache_storm_exporter::sim::zipf::Zipf;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::clients::{self, Clients, Demand};
use super::harness::proxy::Proxy;
use super::harness::redis::Redis;
use super::harness::resp::{Client, Reply, encode};
use super::harness::sentinel::{Sentinel, Setup};
use super::harness::{eventually, free_port, unix_now};
use super::scenario::{Replica, Scenario, Setting, Which};

/// What the seed decides. Durations are nominal seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameters {
    pub(crate) masters: usize,
    pub(crate) rate: f64,
    pub(crate) zipf: f64,
    /// Least and greatest lifetime.
    pub(crate) ttl: (f64, f64),
    /// Real, as databases are not scaled.
    pub(crate) database: Duration,
}

impl Parameters {
    /// A quarter of the fleets has 12 masters, the others 3; 100–400 lookups/s per master.
    pub(crate) fn draw(scenario: &Scenario, seed: u64) -> Self {
        let setting = &scenario.setting;
        // The name counts too, else all scenarios of one seed would share one fleet.
        let name = scenario.name.bytes().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = StdRng::seed_from_u64(name);
        let (size, rate, zipf): (f64, f64, f64) = (random.random(), random.random(), random.random());
        let ttl_min = 100.0 + 100.0 * random.random::<f64>();
        let ttl_max = ttl_min * (3.0 + 2.0 * random.random::<f64>());
        Self {
            masters: setting.masters.unwrap_or(if size < 0.25 { 12 } else { 3 }),
            rate: setting.rate.unwrap_or(100.0 + 300.0 * rate),
            zipf: setting.zipf.unwrap_or(0.8 + 0.3 * zipf),
            ttl: (ttl_min * setting.ttl_factor, ttl_max * setting.ttl_factor),
            database: Duration::from_millis(10 + (70.0 * random.random::<f64>()) as u64),
        }
    }

    /// About as many keys as are asked for in eight seconds: at scale 10 some 90 % of lookups hit.
    fn keys(rate: f64) -> u32 {
        (7.5 * rate).max(300.0) as u32
    }
}

/// Servers, masters first, each with its clients.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Redis>,
    pub(crate) clients: Vec<Clients>,
    pub(crate) masters: usize,
    /// When the clients started.
    pub(crate) start: Instant,
    pub(crate) start_unix: f64,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) sentinel: Option<Sentinel>,
    pub(crate) scale: f64,
}

impl Fleet {
    /// Starts and loads the servers, then the clients.
    pub(crate) async fn start(scenario: &Scenario, parameters: &Parameters, scale: f64, seed: u64) -> Self {
        let setting = &scenario.setting;
        let mut nodes = Vec::new();
        while nodes.len() < parameters.masters {
            let some = (parameters.masters - nodes.len()).min(10);
            nodes.extend(join_all((0..some).map(|_| Redis::start(&[]))).await);
        }
        let mut proxy = None;
        if setting.replica != Replica::None {
            let replica = Redis::start(&[]).await;
            let source = match setting.replica {
                Replica::Proxied => proxy.insert(Proxy::start(nodes[0].port).await).port,
                _ => nodes[0].port,
            };
            replica.run(&["REPLICAOF", "127.0.0.1", &source.to_string()]).await;
            nodes.push(replica);
        }
        let sentinel = match setting.replica {
            Replica::Sentinel => Some(sentinel(nodes[0].port, 10.0 / scale).await),
            _ => None,
        };

        let start = Instant::now();
        let event = start + Duration::from_secs_f64(scenario.quiet_before / scale);
        let mut fleet = Self {
            masters: parameters.masters,
            nodes,
            clients: Vec::new(),
            start,
            start_unix: unix_now(),
            proxy,
            sentinel,
            scale,
        };
        let demands: Vec<Demand> = (0..fleet.nodes.len()).map(|node| fleet.demand(node, setting, parameters)).collect();
        let common = setting.common_expiry.map(|(which, share)| (fleet.resolve(which), share));
        let loads = demands[..fleet.masters].iter().enumerate().map(|(node, demand)| {
            let share = common.as_ref().filter(|(on, _)| on.contains(&node)).map(|(_, share)| (*share, event));
            load(demand, share, seed + node as u64)
        });
        join_all(loads).await;
        let replica_at = fleet.masters;
        for (node, demand) in demands.into_iter().enumerate() {
            let seed = seed.wrapping_mul(1_000).wrapping_add(node as u64);
            if node == replica_at {
                fleet.replica_is_in_sync().await;
            }
            fleet.clients.push(Clients::start(demand, start, seed));
        }
        if let Some((headroom, policy)) = setting.memory {
            fleet.limit_memory(headroom, policy).await;
        }
        fleet
    }

    fn demand(&self, node: usize, setting: &Setting, parameters: &Parameters) -> Demand {
        let replica = node >= self.masters;
        let rate = if node == 0 { setting.rate_first.unwrap_or(parameters.rate) } else { parameters.rate };
        // The replica holds the first master's keys.
        let rate = if replica { setting.rate_first.unwrap_or(parameters.rate) } else { rate };
        let popularity = Zipf::new(Parameters::keys(rate), parameters.zipf);
        Demand {
            read: self.nodes[node].port,
            write: self.nodes[if replica { 0 } else { node }].port,
            rate,
            popularity: Arc::new(popularity),
            bumped_groups: 0,
            absent_share: setting.absent_share,
            hot: None,
            ttl: (parameters.ttl.0 / self.scale, parameters.ttl.1 / self.scale),
            database: parameters.database,
            value_bytes: setting.value_bytes,
            junk_per_second: 0.0,
            generation: 0,
        }
    }

    async fn replica_is_in_sync(&self) {
        let replica = &self.nodes[self.masters];
        eventually("the replica is in sync", Duration::from_secs(20), async || {
            replica.run(&["INFO", "replication"]).await.text().contains("master_link_status:up")
        })
        .await;
    }

    async fn limit_memory(&self, headroom: f64, policy: &str) {
        // The clients' buffers are in use by then.
        sleep(Duration::from_secs_f64(20.0 / self.scale)).await;
        for node in &self.nodes {
            let limit = (node.info("used_memory").await * headroom) as u64;
            node.run(&["CONFIG", "SET", "maxmemory", &limit.to_string(), "maxmemory-policy", policy]).await;
        }
    }

    /// Indices of the nodes meant.
    pub(crate) fn resolve(&self, which: Which) -> Vec<usize> {
        match which {
            Which::Masters => (0..self.masters).collect(),
            Which::First => vec![0],
            Which::Second => vec![1],
            Which::Replica => (self.masters..self.nodes.len()).collect(),
        }
    }

    /// Seconds of nominal time since the clients started.
    pub(crate) fn nominal(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * self.scale
    }

    /// Sleeps until a moment of nominal time since the clients started.
    pub(crate) async fn until(&self, nominal: f64) {
        tokio::time::sleep_until(self.start + Duration::from_secs_f64(nominal.max(0.0) / self.scale)).await;
    }
}

/// Stores what clients would have left behind: a key is there with the probability that it was asked for within its
/// lifetime. A full cache would begin with a fall of its ratio. The share given was loaded at once, and ends at once.
async fn load(demand: &Demand, common: Option<(f64, Instant)>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client = Client::connect(demand.write).await.unwrap();
    let value = "x".repeat(demand.value_bytes);
    let popularity: Vec<(usize, &f64)> = demand.popularity.probabilities().iter().enumerate().collect();
    for chunk in popularity.chunks(500) {
        let (mut request, mut count) = (Vec::new(), 0);
        for (key, popularity) in chunk {
            let key = *key as u32;
            let lifetime = demand.ttl.0 + random.random::<f64>() * (demand.ttl.1 - demand.ttl.0);
            let asked = demand.rate * (1.0 - demand.absent_share) * **popularity * lifetime;
            let there = random.random::<f64>() < asked / (1.0 + asked);
            let shared = common.filter(|(share, _)| (clients::group(key) as f64) < share * clients::GROUPS as f64);
            let seconds = match shared {
                Some((_, moment)) => moment.saturating_duration_since(Instant::now()).as_secs_f64(),
                None if there => lifetime * random.random::<f64>(),
                None => continue,
            };
            let millis = (seconds * 1e3).max(1.0) as u64;
            encode(&mut request, &["SET", &clients::name(key, 0), &value, "PX", &millis.to_string()]);
            count += 1;
        }
        client.send(&request).await.unwrap();
        for _ in 0..count {
            let reply = client.reply().await.unwrap();
            assert!(!matches!(reply, Reply::Error(_)), "loading: {reply:?}");
        }
    }
}

/// One that watches over that master, and calls it dead after so many seconds.
async fn sentinel(master: u16, patience: f64) -> Sentinel {
    let (master, patience) = (("127.0.0.1", master), Duration::from_secs_f64(patience));
    Sentinel::set_up(free_port(), Setup { master, quorum: 1, patience, password: None, further: [""; 2] }).await
}

/// A task that ends with the value that started it.
#[derive(Debug)]
pub(crate) struct Guarded<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
