//! A month of ordinary life of fifty nodes: how often does the detector cry wolf?
//!
//! Ten caches of five nodes, polled every 5 s, with what production does when nothing is wrong: days, nights and
//! weekends, surges up to fivefold, deploys that cut off and reconnect all clients, slow drift of the hit ratio,
//! bursts, waves of expiry, warm restarts, `CONFIG RESETSTAT`. Any episode is a false one. Fails at more than one.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people; it stops where a premise fails")]

use std::f64::consts::TAU;
use std::process::ExitCode;
use std::sync::Arc;

use cache_storm_exporter::detect::CacheDetector;
use cache_storm_exporter::detect::settings::Settings;
use cache_storm_exporter::detect::verdict::Observation;
use cache_storm_exporter::model::{NodeName, Role};
use cache_storm_exporter::parse::Sample;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const CACHES: usize = 10;
const NODES_PER_CACHE: usize = 5;
const DAYS: f64 = 30.0;
const DAY: f64 = 86_400.0;
const POLL_SECONDS: f64 = 5.0;
const FALSE_EPISODES_MAX: usize = 1;

fn main() -> ExitCode {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut episodes, mut affected_polls) = (0, 0);
    for index in 0..CACHES {
        let mut cache = Cache::new(index, seed);
        let mut detector = CacheDetector::new(Settings::default());
        let (mut t, mut running) = (0.0, false);
        while t < DAYS * DAY {
            t += POLL_SECONDS;
            let verdict = detector.observe(t, false, cache.round(t));
            affected_polls += verdict.affected_nodes;
            if verdict.affected_nodes > 0 && !running {
                episodes += 1;
                let hit = verdict.nodes.iter().find(|node| node.affected).unwrap();
                let (day, node) = (t / DAY, hit.node.as_str());
                println!("day {day:.3}: {node}: {:?} {:?} {:?}", hit.indicators, hit.storm_type, hit.signals);
            }
            running = verdict.affected_nodes > 0;
        }
    }
    let node_months = (CACHES * NODES_PER_CACHE) as f64 * DAYS / 30.0;
    let rate = episodes as f64 / node_months;
    println!("{node_months} node-months at {POLL_SECONDS} s polls, seed {seed}: {episodes} false episodes");
    println!("{rate:.3} per node-month (at most 0.02), {affected_polls} affected node-polls");
    if episodes <= FALSE_EPISODES_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Something that happens to all nodes of a cache for a while.
#[derive(Default)]
struct Spell {
    begin: f64,
    end: f64,
    strength: f64,
}

impl Spell {
    /// Its strength at `t`, reached and left within a minute; 0 outside.
    fn at(&self, t: f64) -> f64 {
        if t < self.begin || t > self.end {
            return 0.0;
        }
        self.strength * ((t - self.begin).min(self.end - t) / 60.0).min(1.0)
    }
}

struct Cache {
    nodes: Vec<Node>,
    random: StdRng,
    /// Lookups per second and node on an average day.
    lookups: f64,
    surge: Spell,
    deploy: Spell,
    next_surge: f64,
    next_deploy: f64,
    next_wave: f64,
}

struct Node {
    name: NodeName,
    sample: Sample,
    /// Its part of the traffic, around 1.
    weight: f64,
    hit_ratio: f64,
    /// Points that the ratio wanders by within minutes, and within weeks.
    wandering: f64,
    drift: f64,
    next_oddity: f64,
}

impl Cache {
    fn new(index: usize, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed * 1000 + index as u64);
        // From caches too thin to be judged node by node to busy ones, from structurally poor to excellent ratios.
        let lookups = [4.0, 15.0, 40.0, 100.0, 200.0, 400.0, 800.0, 1500.0, 3000.0, 8000.0][index];
        let hit_ratio = [0.90, 0.80, 0.42, 0.97, 0.55, 0.85, 0.62, 0.995, 0.93, 0.75][index];
        let nodes = (0..NODES_PER_CACHE).map(|node| Node::new(index, node, hit_ratio, &mut random)).collect();
        let next = |random: &mut StdRng| random.random_range(0.0..DAY);
        Self {
            nodes,
            lookups,
            surge: Spell::default(),
            deploy: Spell::default(),
            next_surge: next(&mut random),
            next_deploy: next(&mut random),
            next_wave: next(&mut random),
            random,
        }
    }

    fn round(&mut self, t: f64) -> Vec<(NodeName, Observation)> {
        let Self { random, surge, deploy, .. } = self;
        if t >= self.next_surge {
            // Twice a day traffic multiplies, for five minutes to an hour.
            *surge = Spell {
                begin: t,
                end: t + random.random_range(300.0..3600.0),
                strength: random.random_range(0.5..4.0),
            };
            self.next_surge = t + random.random_range(0.2..0.8) * DAY;
        }
        let deployed = t >= self.next_deploy;
        if deployed {
            // Clients come back with empty caches of their own and ask for more, for some minutes.
            *deploy = Spell { begin: t, end: t + random.random_range(60.0..400.0), strength: 0.5 };
            self.next_deploy = t + random.random_range(0.3..1.5) * DAY;
        }
        let wave = t >= self.next_wave;
        if wave {
            self.next_wave = t + random.random_range(1200.0..7200.0);
        }
        let day = 1.0 + 0.6 * (TAU * (t / DAY - 0.3)).sin();
        let week = if (t / DAY) % 7.0 >= 5.0 { 0.6 } else { 1.0 };
        // A quarter of a minute without clients, while they restart.
        let cut = if t - deploy.begin < 15.0 { 0.2 } else { 1.0 };
        let lookups = self.lookups * day * week * cut * (1.0 + surge.at(t)) * (1.0 + deploy.at(t));
        for node in &mut self.nodes {
            node.live(t, lookups, day, random);
            if deployed {
                node.sample.connections_received = node.sample.connections_received.map(|count| count + 200);
            }
            if wave && node.sample.role == Some(Role::Master) {
                // Up to three keys in a hundred reach their end together, and nobody misses most of them.
                let gone = node.sample.keys.unwrap() * random.random_range(1..=3) / 100;
                add(&mut node.sample.expired, gone);
                node.sample.keys = node.sample.keys.map(|keys| keys - gone);
            }
        }
        // Replicas keep up with their masters: the first two have one each.
        for index in 3..NODES_PER_CACHE {
            let offset = self.nodes[index % 3].sample.master_offset_bytes;
            self.nodes[index].sample.replica_offset_bytes = offset;
        }
        let answer =
            |node: &Node| (node.name.clone(), Observation::Up { sample: Box::new(node.sample.clone()), hot_key: None });
        self.nodes.iter().map(answer).collect()
    }
}

/// Keys that a node holds when nothing has just expired.
const KEYS: u64 = 500_000;

impl Node {
    fn new(cache: usize, index: usize, hit_ratio: f64, random: &mut StdRng) -> Self {
        // Three masters; the last two nodes are replicas that are read as well.
        let role = if index < 3 { Role::Master } else { Role::Replica };
        let hit_ratio = hit_ratio + (1.0 - hit_ratio) * random.random_range(-0.1..0.1);
        let sample = Sample {
            run_id: Some(Arc::from(format!("{cache}-{index}"))),
            replid: Some(Arc::from(format!("{cache}-{}", index % 3))),
            role: Some(role),
            uptime_seconds: Some(1e6),
            keys: Some(KEYS),
            hits: Some((1e7 * hit_ratio) as u64),
            misses: Some((1e7 * (1.0 - hit_ratio)) as u64),
            expired: Some(0),
            evicted: Some(0),
            commands: Some(0),
            connections_received: Some(0),
            connected_clients: Some(200),
            set_calls: Some(0),
            delete_calls: Some(0),
            flush_calls: Some(0),
            migration_calls: Some(0),
            oom_errors: Some(0),
            used_memory_bytes: Some(95),
            // One cache in two lives at its limit and evicts as it goes.
            maxmemory_bytes: Some(if cache.is_multiple_of(2) { 100 } else { 0 }),
            master_offset_bytes: Some(0),
            replica_offset_bytes: (role == Role::Replica).then_some(0),
            link_up: (role == Role::Replica).then_some(true),
            ..Sample::default()
        };
        Self {
            name: NodeName::from(format!("cache-{cache}-{index}:6379")),
            sample,
            weight: random.random_range(0.6..1.5),
            hit_ratio,
            wandering: 0.0,
            drift: 0.0,
            next_oddity: random.random_range(0.0..10.0) * DAY,
        }
    }

    /// One poll's traffic at that many lookups per second, `day` telling the hour (0.4 at night to 1.6).
    fn live(&mut self, t: f64, lookups: f64, day: f64, random: &mut StdRng) {
        let mean = lookups * self.weight * POLL_SECONDS;
        let asked = (mean + normal(random) * (4.0 * mean).sqrt() + normal(random) * 0.03 * mean).max(0.0);
        // Minutes of memory and a deviation of half a point; weeks of drift, up to a few points; and at night
        // other keys are asked for than by day. All in proportion to what there is to miss.
        self.wandering = 0.98 * self.wandering + 0.1 * normal(random);
        self.drift = (self.drift + 2e-4 * normal(random)).clamp(-0.3, 0.3);
        let missing = (1.0 - self.hit_ratio).min(0.3);
        let swing = missing * (0.04 * self.wandering + self.drift + 0.15 * (day - 1.0));
        let miss_ratio = (1.0 - self.hit_ratio + swing).clamp(0.0005, 0.95);
        // Misses come in bursts of four, as pages and pipelines do.
        let expected = asked * miss_ratio;
        let missed = (expected + normal(random) * (4.0 * expected * (1.0 - miss_ratio)).sqrt()).clamp(0.0, asked);
        let (asked, missed) = (asked as u64, missed as u64);
        let sample = &mut self.sample;
        add(&mut sample.hits, asked - missed);
        add(&mut sample.misses, missed);
        add(&mut sample.commands, asked + missed + 5);
        sample.uptime_seconds = sample.uptime_seconds.map(|uptime| uptime + POLL_SECONDS);
        add(&mut sample.master_offset_bytes, 100 * missed + 10);
        if sample.role == Some(Role::Replica) {
            return;
        }
        // What is missed is stored; as much goes, by its TTL or for want of room; what a wave took comes back.
        let keys = sample.keys.unwrap();
        let grown = (KEYS.saturating_sub(keys)).min(missed / 2);
        let gone = missed - grown;
        let evicted = if sample.maxmemory_bytes == Some(0) { 0 } else { gone / 2 };
        add(&mut sample.set_calls, missed);
        add(&mut sample.evicted, evicted);
        add(&mut sample.expired, gone - evicted);
        sample.keys = Some(keys + grown);
        if t >= self.next_oddity {
            self.next_oddity = t + random.random_range(5.0..15.0) * DAY;
            self.odd(random);
        }
    }

    /// A restart that loads everything from disk, or `CONFIG RESETSTAT`.
    fn odd(&mut self, random: &mut StdRng) {
        let sample = &mut self.sample;
        if random.random_bool(0.5) {
            sample.run_id = Some(Arc::from(format!("{}+", sample.run_id.as_deref().unwrap().trim_end_matches("+++"))));
            sample.uptime_seconds = Some(2.0);
            sample.keys_loaded_at_start = sample.keys;
        }
        for counter in [
            &mut sample.hits,
            &mut sample.misses,
            &mut sample.expired,
            &mut sample.evicted,
            &mut sample.commands,
            &mut sample.connections_received,
            &mut sample.set_calls,
        ] {
            *counter = Some(0);
        }
    }
}

fn add(counter: &mut Option<u64>, count: u64) {
    *counter = counter.map(|before| before + count);
}

/// Nearly normal, deviation 1: the sum of four even ones.
fn normal(random: &mut StdRng) -> f64 {
    let sum: f64 = (0..4).map(|_| random.random::<f64>()).sum();
    (sum - 2.0) * 3.0_f64.sqrt()
}
