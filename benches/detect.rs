//! What detection costs: CPU per node and poll, in quiet times and in a storm over a third of the nodes, and memory
//! per node after a day. Fails when a node-poll takes more than 5 µs or a node's history more than 16 KiB.
//!
//! CPU is this thread's own (other programs on the machine do not count), memory is what the process grew by.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people; it stops where a premise fails")]

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use cache_storm_exporter::detect::CacheDetector;
use cache_storm_exporter::detect::settings::Settings;
use cache_storm_exporter::detect::verdict::Observation;
use cache_storm_exporter::model::{NodeName, Role};
use cache_storm_exporter::parse::Sample;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODES: [usize; 3] = [100, 1000, 5000];
const POLL_SECONDS: f64 = 5.0;
const CPU_US_MAX: f64 = 5.0;
const HISTORY_BYTES_MAX: f64 = 16.0 * 1024.0;

/// Baselines are full after that many rounds: ten minutes, the delay, and a little.
const WARM_UP_ROUNDS: usize = 150;

/// Samples prepared at once: measured CPU is detection's alone, and the clock's steps (4 ms) are small against it.
const BATCH: usize = 50_000;

fn main() -> ExitCode {
    // First, while nothing else that was freed can be used again unseen.
    let bytes = history_bytes();
    let mut fine = bytes <= HISTORY_BYTES_MAX;
    println!("history of a day: {bytes:.0} bytes per node (at most {HISTORY_BYTES_MAX})");
    println!("nodes   quiet      storm      per node and poll, at most {CPU_US_MAX} µs");
    for nodes in NODES {
        let mut fleet = Fleet::new(nodes);
        let mut detector = CacheDetector::new(Settings::default());
        fleet.run(&mut detector, WARM_UP_ROUNDS);
        let quiet = fleet.cpu_us(&mut detector);
        fleet.storm = true;
        fleet.run(&mut detector, 2);
        let storm = fleet.cpu_us(&mut detector);
        fine &= quiet <= CPU_US_MAX && storm <= CPU_US_MAX;
        println!("{nodes:>5}  {quiet:>5.2} µs  {storm:>6.2} µs");
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Memory per node after a day of polls, when every ring is full: of the second of two like caches, for what the
/// allocator holds ready for any is not a node's.
fn history_bytes() -> f64 {
    const NODES: usize = 400;
    let filled = || {
        let (mut fleet, mut detector) = (Fleet::new(NODES), CacheDetector::new(Settings::default()));
        let before = resident_bytes();
        fleet.run(&mut detector, (86_400.0 / POLL_SECONDS) as usize);
        (detector, resident_bytes() - before)
    };
    let first = filled();
    let (_second, grown) = filled();
    drop(first);
    grown / NODES as f64
}

/// Masters, each with a replica that is read as well; they exist only as counters.
struct Fleet {
    servers: Vec<(NodeName, Sample)>,
    now: f64,
    storm: bool,
    chance: u64,
}

impl Fleet {
    fn new(nodes: usize) -> Self {
        let servers = (0..nodes).map(|index| {
            let role = if index % 2 == 0 { Role::Master } else { Role::Replica };
            let sample = Sample {
                run_id: Some(Arc::from(format!("{index:040}"))),
                replid: Some(Arc::from(format!("{:040}", index / 2))),
                role: Some(role),
                uptime_seconds: Some(1e6),
                server_time_seconds: Some(1.7e9),
                keys: Some(1_000_000),
                hits: Some(0),
                misses: Some(0),
                expired: Some(0),
                evicted: Some(0),
                commands: Some(0),
                set_calls: Some(0),
                delete_calls: Some(0),
                flush_calls: Some(0),
                migration_calls: Some(0),
                oom_errors: Some(0),
                used_memory_bytes: Some(1 << 30),
                maxmemory_bytes: Some(2 << 30),
                dataset_bytes: Some(1 << 30),
                master_offset_bytes: (role == Role::Master).then_some(0),
                replica_offset_bytes: (role == Role::Replica).then_some(0),
                link_up: (role == Role::Replica).then_some(true),
                ..Sample::default()
            };
            (NodeName::from(format!("10.{}.{}.7:6379", index / 256, index % 256)), sample)
        });
        Self { servers: servers.collect(), now: 1e6, storm: false, chance: 1 }
    }

    /// Up to `most`, by a linear congruence: the same at every run.
    fn random(&mut self, most: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % (most + 1)
    }

    fn round(&mut self) -> (f64, Vec<(NodeName, Observation)>) {
        self.now += POLL_SECONDS;
        let mut round = Vec::with_capacity(self.servers.len());
        for index in 0..self.servers.len() {
            let lookups = 4_500 + self.random(1_000);
            let misses = if self.storm && index % 3 == 0 { lookups * 6 / 10 } else { lookups / 10 + self.random(50) };
            let (name, sample) = &mut self.servers[index];
            let add = |counter: &mut Option<u64>, count: u64| *counter = counter.map(|before| before + count);
            add(&mut sample.hits, lookups - misses);
            add(&mut sample.misses, misses);
            add(&mut sample.commands, lookups + misses);
            add(&mut sample.set_calls, misses);
            add(&mut sample.expired, misses);
            add(&mut sample.master_offset_bytes, misses * 100);
            add(&mut sample.replica_offset_bytes, misses * 100);
            round.push((name.clone(), Observation::Up { sample: Box::new(sample.clone()), hot_key: None }));
        }
        (self.now, round)
    }

    fn run(&mut self, detector: &mut CacheDetector, rounds: usize) {
        for _ in 0..rounds {
            let (now, round) = self.round();
            black_box(detector.observe(now, false, round));
        }
    }

    /// CPU per node and poll, µs.
    fn cpu_us(&mut self, detector: &mut CacheDetector) -> f64 {
        const BATCHES: usize = 4;
        let rounds = (BATCH / self.servers.len()).max(1);
        let mut spent = 0.0;
        for _ in 0..BATCHES {
            let batch: Vec<_> = (0..rounds).map(|_| self.round()).collect();
            let before = cpu_us();
            for (now, round) in batch {
                black_box(detector.observe(now, false, round));
            }
            spent += cpu_us() - before;
        }
        spent / (BATCHES * rounds * self.servers.len()) as f64
    }
}

/// CPU of this thread so far, µs: the first field of `schedstat`, nanoseconds.
fn cpu_us() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e3
}

/// Resident memory of this process: the second field of `statm`, pages of 4 KiB.
fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}
