//! Cache-aside clients of one node: they read, and what they miss they fetch from a slow database and store.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cache_storm_exporter::sim::zipf::{Zipf, poisson};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::harness::resp::{Client, Reply, encode};

/// Length of a bin of the clients' own count, real seconds.
pub(crate) const BIN: f64 = 0.1;
/// Groups of keys; a key's group is the first part of its name.
pub(crate) const GROUPS: u64 = 20;

const TICK: Duration = Duration::from_millis(20);
/// A request that takes longer is given up and counts as missed: the application asks its database.
const PATIENCE: Duration = Duration::from_millis(500);
/// More refills waiting for the database than this are not remembered: memory has a bound.
const WAITING_MAX: usize = 50_000;

/// What the clients of a node want just now. Durations are real, not nominal.
#[derive(Debug, Clone)]
pub(crate) struct Demand {
    /// Ports to read from and to write to; a replica's clients write to its master.
    pub(crate) read: u16,
    pub(crate) write: u16,
    pub(crate) rate: f64,
    pub(crate) popularity: Arc<Zipf>,
    /// Groups below this bear the new version in their names.
    pub(crate) bumped_groups: u64,
    pub(crate) absent_share: f64,
    pub(crate) hot: Option<Hot>,
    /// Least and greatest lifetime, seconds.
    pub(crate) ttl: (f64, f64),
    pub(crate) database: Duration,
    pub(crate) value_bytes: usize,
    pub(crate) junk_per_second: f64,
    /// Clients of an older generation reconnect.
    pub(crate) generation: u32,
}

/// Reads of one key beside all others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hot {
    pub(crate) rate: f64,
    pub(crate) ttl: f64,
    pub(crate) database: Duration,
}

/// What the clients counted in one bin.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bin {
    /// Lookups tried, with those that found nobody to answer.
    pub(crate) lookups: u32,
    pub(crate) hits: u32,
    /// Of the lookups, those of the most popular key.
    pub(crate) top: u32,
}

/// Running clients of one node; they stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Clients {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    demand: Mutex<Demand>,
    bins: Mutex<Vec<Bin>>,
    start: Instant,
}

impl Clients {
    /// Starts them; bins count from `start`.
    pub(crate) fn start(demand: Demand, start: Instant, seed: u64) -> Self {
        let shared = Arc::new(Shared { demand: Mutex::new(demand), bins: Mutex::default(), start });
        let task = tokio::spawn(drive(Arc::clone(&shared), StdRng::seed_from_u64(seed)));
        Self { shared, task }
    }

    pub(crate) fn demand(&self) -> MutexGuard<'_, Demand> {
        self.shared.demand.lock().unwrap()
    }

    /// The count so far.
    pub(crate) fn bins(&self) -> Vec<Bin> {
        self.shared.bins.lock().unwrap().clone()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Group of a key: independent of its popularity.
pub(crate) fn group(key: u32) -> u64 {
    (u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % GROUPS
}

/// Name of a key; groups below `bumped` bear the new version.
pub(crate) fn name(key: u32, bumped: u64) -> String {
    let group = group(key);
    format!("g{group}:v{}:{key}", u8::from(group < bumped))
}

/// A lookup: what is asked for, and how to get it into the cache if it is not there.
struct Lookup {
    key: String,
    /// Database delay and lifetime; `None` for what nobody stores.
    refill: Option<(Duration, f64)>,
    top: bool,
}

impl Demand {
    fn lookups(&self, seconds: f64, random: &mut StdRng) -> Vec<Lookup> {
        let hot = self.hot.map_or(0, |hot| poisson(hot.rate * seconds, random));
        let ordinary = poisson(self.rate * seconds, random);
        let mut lookups = Vec::with_capacity((hot + ordinary) as usize);
        for _ in 0..ordinary {
            if random.random::<f64>() < self.absent_share {
                let key = format!("absent:{}", random.random::<u32>());
                lookups.push(Lookup { key, refill: None, top: false });
                continue;
            }
            let key = self.popularity.sample(random);
            let ttl = self.ttl.0 + random.random::<f64>() * (self.ttl.1 - self.ttl.0);
            let top = key == 0 && self.hot.is_none();
            lookups.push(Lookup { key: name(key, self.bumped_groups), refill: Some((self.database, ttl)), top });
        }
        for _ in 0..hot {
            let refill = self.hot.map(|hot| (hot.database, hot.ttl));
            lookups.push(Lookup { key: "hot:1".to_owned(), refill, top: true });
        }
        lookups
    }
}

/// Connections of one generation to one pair of ports.
struct Link {
    route: (u16, u16, u32),
    read: Client,
    /// Writes go elsewhere only for a replica.
    write: Option<Client>,
}

impl Link {
    async fn open(demand: &Demand) -> io::Result<Self> {
        let read = Client::connect(demand.read).await?;
        let write = if demand.write == demand.read { None } else { Some(Client::connect(demand.write).await?) };
        Ok(Self { route: route(demand), read, write })
    }

    /// For each lookup: whether it was a hit.
    async fn look_up(&mut self, lookups: &[Lookup]) -> io::Result<Vec<bool>> {
        let mut request = Vec::new();
        for lookup in lookups {
            encode(&mut request, &["GET", &lookup.key]);
        }
        self.read.send(&request).await?;
        let mut hits = Vec::with_capacity(lookups.len());
        for _ in lookups {
            hits.push(matches!(self.read.reply().await?, Reply::Bulk(_)));
        }
        Ok(hits)
    }

    async fn store(&mut self, writes: &[u8], count: usize) -> io::Result<()> {
        let client = self.write.as_mut().unwrap_or(&mut self.read);
        client.send(writes).await?;
        for _ in 0..count {
            // Refusals are part of the storm.
            client.reply().await?;
        }
        Ok(())
    }
}

fn route(demand: &Demand) -> (u16, u16, u32) {
    (demand.read, demand.write, demand.generation)
}

async fn drive(shared: Arc<Shared>, mut random: StdRng) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = BinaryHeap::new();
    let mut link: Option<Link> = None;
    let (mut last, mut junk) = (Instant::now(), 0_u64);
    loop {
        ticks.tick().await;
        let seconds = last.elapsed().as_secs_f64().min(0.2);
        last = Instant::now();
        let demand = shared.demand.lock().unwrap().clone();
        link = link.filter(|link| link.route == route(&demand));
        if link.is_none() {
            link = timeout(PATIENCE, Link::open(&demand)).await.ok().and_then(Result::ok);
        }
        let lookups = demand.lookups(seconds, &mut random);
        let answer = match &mut link {
            Some(link) => timeout(PATIENCE, link.look_up(&lookups)).await.ok().and_then(Result::ok),
            None => None,
        };
        if answer.is_none() {
            link = None;
        }
        let hits = answer.unwrap_or_else(|| vec![false; lookups.len()]);
        shared.count(&lookups, &hits);
        let now = Instant::now();
        for (lookup, _) in lookups.into_iter().zip(hits).filter(|(_, hit)| !hit) {
            if let Some((database, ttl)) = lookup.refill.filter(|_| waiting.len() < WAITING_MAX) {
                waiting.push(Reverse((now + database, lookup.key, (ttl * 1e3) as u64)));
            }
        }
        let (mut writes, mut count) = (Vec::new(), 0);
        let value = "x".repeat(demand.value_bytes);
        while waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            let Some(Reverse((_, key, ttl))) = waiting.pop() else { break };
            encode(&mut writes, &["SET", &key, &value, "PX", &ttl.max(1).to_string()]);
            count += 1;
        }
        for _ in 0..poisson(demand.junk_per_second * seconds, &mut random) {
            junk += 1;
            encode(&mut writes, &["SET", &format!("junk:{junk}"), &value]);
            count += 1;
        }
        if let Some(open) = &mut link
            && !matches!(timeout(PATIENCE, open.store(&writes, count)).await, Ok(Ok(())))
        {
            link = None;
        }
    }
}

impl Shared {
    fn count(&self, lookups: &[Lookup], hits: &[bool]) {
        let mut bins = self.bins.lock().unwrap();
        let now = (self.start.elapsed().as_secs_f64() / BIN) as usize;
        if bins.len() <= now {
            bins.resize(now + 1, Bin::default());
        }
        let bin = &mut bins[now];
        bin.lookups += lookups.len() as u32;
        bin.hits += hits.iter().filter(|hit| **hit).count() as u32;
        bin.top += lookups.iter().filter(|lookup| lookup.top).count() as u32;
    }
}
