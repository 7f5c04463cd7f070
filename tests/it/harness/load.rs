//! Cache-aside clients at a steady rate that count their own hits and misses.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::resp::{Client, Reply, encode};
use super::unix_now;

const TICK: Duration = Duration::from_millis(20);

/// What the clients of one node do.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    pub(crate) lookups_per_second: f64,
    pub(crate) keys: Keys,
    /// Share of the lookups that ask for keys nobody ever stores.
    pub(crate) absent_share: f64,
    /// A missed key is written, as cache-aside clients do.
    pub(crate) refill: bool,
    /// Fresh keys of 1 KB written per second.
    pub(crate) inserts_per_second: f64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            lookups_per_second: 500.0,
            keys: Keys::Uniform(5_000),
            absent_share: 0.05,
            refill: true,
            inserts_per_second: 0.0,
        }
    }
}

/// Which of the keys `k:0` … a lookup asks for.
#[derive(Debug, Clone)]
pub(crate) enum Keys {
    Uniform(usize),
    /// Cumulative popularity, the last 1.
    Weighted(Vec<f64>),
}

impl Keys {
    /// `count` keys, the i-th as popular as i⁻ˢ.
    pub(crate) fn zipf(count: usize, s: f64) -> Self {
        let weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-s)).collect();
        let total: f64 = weights.iter().sum();
        let cumulative = weights.iter().scan(0.0, |sum, weight| {
            *sum += weight / total;
            Some(*sum)
        });
        Self::Weighted(cumulative.collect())
    }

    fn pick(&self, random: &mut StdRng) -> usize {
        match self {
            Self::Uniform(count) => random.random_range(0..*count),
            Self::Weighted(cumulative) => {
                let point: f64 = random.random();
                cumulative.partition_point(|bound| *bound < point).min(cumulative.len() - 1)
            }
        }
    }
}

/// The clients' count at one moment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    unix: f64,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Shared {
    traffic: Mutex<Traffic>,
    marks: Mutex<Vec<Mark>>,
}

/// Running clients of one node; they stop when this is dropped and reconnect when the node comes back.
pub(crate) struct Load {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(port: u16, traffic: Traffic) -> Self {
        let start = Mark { unix: unix_now(), hits: 0, misses: 0 };
        let shared = Arc::new(Shared { traffic: Mutex::new(traffic), marks: Mutex::new(vec![start]) });
        let task = tokio::spawn(run(port, Arc::clone(&shared)));
        Self { shared, task }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Traffic)) {
        change(&mut self.shared.traffic.lock().unwrap());
    }

    /// Hits ÷ lookups between two moments, as the clients counted.
    pub(crate) fn hit_ratio(&self, from_unix: f64, to_unix: f64) -> f64 {
        let marks = self.shared.marks.lock().unwrap();
        let at = |unix: f64| marks[marks.partition_point(|mark| mark.unix <= unix).saturating_sub(1)];
        let (from, to) = (at(from_unix), at(to_unix));
        let (hits, misses) = (to.hits - from.hits, to.misses - from.misses);
        hits as f64 / (hits + misses) as f64
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(port: u16, shared: Arc<Shared>) {
    let mut random = StdRng::seed_from_u64(u64::from(port));
    loop {
        if let Ok(client) = Client::connect(port).await {
            // Ends when the server does; then the clients try again.
            drop(drive(client, &shared, &mut random).await);
        }
        sleep(TICK).await;
    }
}

async fn drive(mut client: Client, shared: &Shared, random: &mut StdRng) -> io::Result<()> {
    let mut ticks = interval(TICK);
    // Clients that were held up do not make up for it by a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut lookups_due, mut absent_due, mut inserts_due, mut inserted) = (0.0, 0.0, 0.0, 0_u64);
    let mut last = Instant::now();
    loop {
        ticks.tick().await;
        let seconds = last.elapsed().as_secs_f64().min(0.2);
        last = Instant::now();
        let traffic = shared.traffic.lock().unwrap().clone();
        lookups_due += traffic.lookups_per_second * seconds;
        inserts_due += traffic.inserts_per_second * seconds;

        let mut request = Vec::new();
        let mut asked = Vec::new();
        while lookups_due >= 1.0 {
            lookups_due -= 1.0;
            absent_due += traffic.absent_share;
            let key = if absent_due >= 1.0 {
                absent_due -= 1.0;
                None
            } else {
                Some(traffic.keys.pick(random))
            };
            encode(&mut request, &["GET", &key.map_or_else(|| "absent".to_owned(), |key| format!("k:{key}"))]);
            asked.push(key);
        }
        client.send(&request).await?;
        let (mut hits, mut missed) = (0, Vec::new());
        for key in asked {
            match client.reply().await? {
                Reply::Nil => missed.push(key),
                _ => hits += 1,
            }
        }
        shared.count(hits, missed.len() as u64);

        let mut writes = Vec::new();
        let mut replies = 0;
        for key in missed.into_iter().flatten().filter(|_| traffic.refill) {
            encode(&mut writes, &["SET", &format!("k:{key}"), &"x".repeat(32)]);
            replies += 1;
        }
        while inserts_due >= 1.0 {
            inserts_due -= 1.0;
            inserted += 1;
            encode(&mut writes, &["SET", &format!("fresh:{inserted}"), &"x".repeat(1024)]);
            replies += 1;
        }
        client.send(&writes).await?;
        for _ in 0..replies {
            client.reply().await?;
        }
    }
}

impl Shared {
    fn count(&self, hits: u64, misses: u64) {
        let mut marks = self.marks.lock().unwrap();
        let last = *marks.last().unwrap();
        marks.push(Mark { unix: unix_now(), hits: last.hits + hits, misses: last.misses + misses });
    }
}

/// The yardstick itself: the clients count what the server counts.
#[tokio::test]
async fn the_clients_count_is_the_servers() {
    let redis = super::redis::Redis::start(&[]).await;
    redis.fill(2_000).await;
    let traffic = Traffic { lookups_per_second: 1_000.0, keys: Keys::zipf(3_000, 0.9), ..Traffic::default() };
    let load = Load::start(redis.port, traffic);
    super::eventually("3,000 lookups in about three seconds", Duration::from_secs(5), async || {
        redis.info("keyspace_hits").await + redis.info("keyspace_misses").await >= 3_000.0
    })
    .await;
    load.task.abort();
    sleep(5 * TICK).await;
    let (hits, misses) = (redis.info("keyspace_hits").await, redis.info("keyspace_misses").await);
    let counted = load.hit_ratio(0.0, f64::MAX);
    assert!((counted - hits / (hits + misses)).abs() < 0.005, "counted {counted}, server {hits} and {misses}");
    assert!(misses > 100.0 && hits > misses, "absent keys and some that had to be refilled");
}
