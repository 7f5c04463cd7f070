//! What thousands of nodes cost, and what faults among them do: `make bench`. The peer stands beside it where
//! `PEER=/path/to/redis_exporter` names one. With the argument `soak`: half an hour of faults that come and go
//! (`MINUTES`), `make soak`.
//!
//! The servers are simulated by this process (`sim`), so that their cost is not the exporter's; what a poll costs a
//! server is measured on a real one. Everything is seen from outside, by `/proc` and over HTTP. Fails when a bar is
//! missed. `ONLY=sizes,scrapes,hanging,large,peer` runs some of it.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people; it stops where a premise fails")]
#![allow(clippy::disallowed_methods, reason = "what sleeps here is no reactor")]

mod peer;
mod process;
mod soak;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_storm_exporter::sim::fleet::Fleet;
use cache_storm_exporter::sim::mode::Mode;
use cache_storm_exporter::sim::node::Node;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use process::Program;

/// Nodes of one cache: the fleet is many caches, as fleets are.
const NODES_PER_CACHE: usize = 50;

/// Rounds measured; two before them are not.
const ROUNDS: u32 = 8;
const INTERVAL: Duration = Duration::from_secs(5);

/// How often whoever watches a fault scrapes, and for how long.
const WATCH_EVERY: Duration = Duration::from_millis(100);
const WATCH: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if std::env::args().any(|argument| argument == "soak") {
        return soak::run(&runtime);
    }
    let only = std::env::var("ONLY").ok();
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == part));
    let mut table = Table::default();
    if wanted("sizes") {
        sizes(&runtime, &mut table);
    }
    if wanted("scrapes") {
        scrapes(&runtime, &mut table);
    }
    if wanted("hanging") {
        hanging(&runtime, &mut table);
    }
    if wanted("large") {
        large(&runtime, &mut table);
    }
    match std::env::var("PEER") {
        Ok(peer) if wanted("peer") => peer::beside(&runtime, &peer, &mut table),
        Ok(_) => {}
        Err(_) => println!("PEER is not set, nothing is compared: PEER=/path/to/redis_exporter make bench"),
    }
    table.print();
    if table.missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The table of bars.
#[derive(Default)]
pub(crate) struct Table {
    text: String,
    missed: usize,
}

impl Table {
    /// A value that passes up to `bar`.
    pub(crate) fn at_most(&mut self, what: &str, value: f64, bar: f64, unit: &str) {
        self.line(what, value, value <= bar, &format!("≤ {bar} {unit}"), unit);
    }

    /// A value that passes from `bar` on.
    pub(crate) fn at_least(&mut self, what: &str, value: f64, bar: f64, unit: &str) {
        self.line(what, value, value >= bar, &format!("≥ {bar} {unit}"), unit);
    }

    /// A value without a bar.
    pub(crate) fn note(&mut self, what: &str, value: f64, unit: &str) {
        self.line(what, value, true, "", unit);
    }

    fn line(&mut self, what: &str, value: f64, passed: bool, bar: &str, unit: &str) {
        let verdict = if passed { "" } else { "MISSED" };
        let line = format!("{what:<66} {value:>9.3} {unit:<4} {bar:<12} {verdict}");
        println!("{line}");
        writeln!(self.text, "{line}").unwrap();
        self.missed += usize::from(!passed);
    }

    fn print(&self) {
        println!("\n{:<66} {:>9} {:<4} bar\n{}", "", "value", "", self.text);
    }
}

/// A simulated fleet and the configuration that polls it.
pub(crate) fn fleet(runtime: &Runtime, nodes: usize) -> (Fleet, Vec<Arc<Node>>, String) {
    let fleet = runtime.block_on(Fleet::plain(nodes, 7)).expect("a listener on the loopback");
    let nodes = fleet.caches()[0].nodes().to_vec();
    let mut config = "poll: { interval: 5s, timeout: 1s }\ncaches:\n".to_owned();
    for (index, nodes) in nodes.chunks(NODES_PER_CACHE).enumerate() {
        let urls: Vec<String> = nodes.iter().map(|node| format!("redis://{}", node.name())).collect();
        writeln!(config, "  - {{ name: cache-{index}, nodes: [{}] }}", urls.join(", ")).unwrap();
    }
    (fleet, nodes, config)
}

/// Polls that the nodes have seen.
fn polls(nodes: &[Arc<Node>]) -> f64 {
    // INFO and INFO commandstats.
    nodes.iter().map(|node| node.info_calls()).sum::<u64>() as f64 / 2.0
}

/// So many nodes, and who polls them.
type Polled = (usize, Fleet, Vec<Arc<Node>>, Program);

/// What fleets of 100, 1,000 and 5,000 nodes cost, and whether that grows with the nodes alone. All at the same time:
/// the machine's speed changes from minute to minute.
fn sizes(runtime: &Runtime, table: &mut Table) {
    let sized = [100, 1000, 5000].map(|count| {
        let (fleet, nodes, config) = fleet(runtime, count);
        (count, fleet, nodes, Program::exporter(&config))
    });
    std::thread::sleep(2 * INTERVAL);
    let state = |(_, _, nodes, exporter): &Polled| (exporter.cpu_seconds(), polls(nodes));
    let before = sized.each_ref().map(state);
    std::thread::sleep(ROUNDS * INTERVAL);
    let after = sized.each_ref().map(state);
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for ((sized, before), after) in sized.iter().zip(before).zip(after) {
        let ((count, _, _, exporter), polled) = (sized, after.1 - before.1);
        let (per_poll, rss) = ((after.0 - before.0) * 1e3 / polled, exporter.rss_mib());
        table.note(&format!("{count} nodes: own CPU per node-poll"), per_poll, "ms");
        let due = *count as f64 * f64::from(ROUNDS);
        table.at_least(&format!("{count} nodes: polls made of those due"), polled / due, 0.97, "");
        match count {
            1000 => table.at_most("1000 nodes: RSS", rss, 80.0, "MiB"),
            5000 => table.at_most("5000 nodes: RSS", rss, 300.0, "MiB"),
            _ => table.note(&format!("{count} nodes: RSS"), rss, "MiB"),
        }
        cpu.push(per_poll);
        memory.push(rss);
    }
    for (_, fleet, _, exporter) in sized {
        drop(exporter);
        runtime.block_on(fleet.shutdown());
    }
    let spread = |of: &[f64]| {
        of.iter().fold(0.0, |most, &value| value.max(most)) / of.iter().fold(f64::MAX, |least, &value| value.min(least))
    };
    table.at_most("own CPU per node-poll: dearest of the three against cheapest", spread(&cpu), 1.2, "×");
    // What a process costs without a node is not the nodes'.
    let (low, high) = ((memory[1] - memory[0]) / 900.0 * 1024.0, (memory[2] - memory[1]) / 4000.0 * 1024.0);
    table.note("memory of a further node, 100 to 1000", low, "KiB");
    table.at_most("memory of a further node, 1000 to 5000 against that", high / low, 1.2, "×");
}

fn scrapes(runtime: &Runtime, table: &mut Table) {
    let (fleet, nodes, config) = fleet(runtime, 1000);
    let exporter = Program::exporter(&config);
    std::thread::sleep(INTERVAL);
    // Twenty caches close a round each in five seconds: nearly every scrape has a snapshot of its own.
    let took: Vec<f64> = (0..200)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(260));
            exporter.get("/metrics").unwrap().took.as_secs_f64() * 1e3
        })
        .collect();
    table.note("1000 nodes: /metrics after a new snapshot, gzip: median", quantile(&took, 0.5), "ms");
    table.at_most("1000 nodes: /metrics after a new snapshot, gzip: p99", quantile(&took, 0.99), 30.0, "ms");
    let scrape = cpu_per(&exporter, 400, &format!("/scrape?target={}", nodes[0].name()));
    table.note("/scrape of one simulated node, gzip: own CPU", scrape, "ms");
    drop(exporter);
    // Rounds so far apart that none falls into the measurement.
    let exporter = Program::exporter(&config.replace("interval: 5s", "interval: 300s"));
    let unchanged = cpu_per(&exporter, 400, "/metrics");
    table.at_most("1000 nodes: /metrics of an unchanged snapshot, gzip: own CPU", unchanged, 2.0, "ms");
    runtime.block_on(fleet.shutdown());
}

/// The value below which that share of them lies.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// CPU of the program per request, milliseconds.
pub(crate) fn cpu_per(program: &Program, requests: u32, path: &str) -> f64 {
    program.get(path).unwrap();
    let before = program.cpu_seconds();
    for _ in 0..requests {
        program.get(path).unwrap();
    }
    (program.cpu_seconds() - before) * 1e3 / f64::from(requests)
}

/// One node in ten hangs.
fn hanging(runtime: &Runtime, table: &mut Table) {
    let (fleet, nodes, config) = fleet(runtime, 1000);
    let exporter = Program::exporter(&config);
    std::thread::sleep(2 * INTERVAL);
    let healthy: Vec<&str> =
        nodes.iter().enumerate().filter(|(index, _)| index % 10 != 0).map(|(_, node)| node.name().as_str()).collect();
    let without = Watched::of(&exporter, &healthy);
    for node in nodes.iter().step_by(10) {
        node.set_mode(Mode::Hang);
    }
    std::thread::sleep(2 * INTERVAL);
    let with = Watched::of(&exporter, &healthy);
    table.note("10 % hang: age of a healthy node's data, p99, before", quantile(&without.ages, 0.99), "s");
    let later = |share| quantile(&with.ages, share) / quantile(&without.ages, share);
    table.at_most("10 % hang: age of a healthy node's data, p99, against before", later(0.99), 1.2, "×");
    table.note("10 % hang: age of a healthy node's data, median, against before", later(0.5), "×");
    let (p99, p99_before) = (quantile(&with.took_ms, 0.99), quantile(&without.took_ms, 0.99));
    table.note("10 % hang: /metrics p99, before", p99_before, "ms");
    table.at_most("10 % hang: /metrics p99, against before", p99 / p99_before, 1.25, "×");
    table.at_most("10 % hang: slowest request", quantile(&with.took_ms, 1.0) / 1e3, 1.5, "s");
    runtime.block_on(fleet.shutdown());
}

/// What a scraper sees.
struct Watched {
    took_ms: Vec<f64>,
    /// At each scrape, how long ago each of the nodes was last seen to have answered: seconds.
    ages: Vec<f64>,
}

impl Watched {
    fn of(exporter: &Program, nodes: &[&str]) -> Self {
        let nodes: HashSet<&str> = nodes.iter().copied().collect();
        let (mut took_ms, mut ages, begun) = (Vec::new(), Vec::new(), Instant::now());
        while begun.elapsed() < WATCH {
            took_ms.push(exporter.get("/metrics").unwrap().took.as_secs_f64() * 1e3);
            let text = exporter.get_plain("/metrics?collect[]=node").unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            let polled =
                text.lines().filter_map(|line| line.strip_prefix("cache_storm_node_last_poll_timestamp_seconds{"));
            for (labels, time) in polled.filter_map(|line| line.split_once("\"} ")) {
                if labels.rsplit_once('"').is_some_and(|(_, node)| nodes.contains(node)) {
                    ages.push(now - time.parse::<f64>().unwrap());
                }
            }
            std::thread::sleep(WATCH_EVERY);
        }
        assert!(!ages.is_empty(), "/metrics tells when nodes were polled");
        Self { took_ms, ages }
    }
}

/// Replies of 10 and 100 MB are cut at 4 MiB.
fn large(runtime: &Runtime, table: &mut Table) {
    const LIMIT_MIB: f64 = 4.0;
    // Some rounds: the node is asked again, and cut again.
    const SPAN: Duration = Duration::from_secs(20);
    for megabytes in [10, 100] {
        let (fleet, nodes, config) = fleet(runtime, 100);
        let exporter = Program::exporter(&config);
        std::thread::sleep(2 * INTERVAL);
        let before = exporter.rss_mib();
        nodes[0].set_mode(Mode::Huge(megabytes << 20));
        let (begun, mut most) = (Instant::now(), before);
        while begun.elapsed() < SPAN {
            most = most.max(exporter.rss_mib());
            std::thread::sleep(Duration::from_millis(20));
        }
        let what = format!("a reply of {megabytes} MB: growth of RSS against the limit of 4 MiB");
        table.at_most(&what, (most - before) / LIMIT_MIB, 2.0, "×");
        let told = exporter.get_plain("/api/v1/report").unwrap().contains("\"down_reason\":\"too_large\"");
        table.at_least(&format!("a reply of {megabytes} MB: told as too_large"), f64::from(u8::from(told)), 1.0, "");
        runtime.block_on(fleet.shutdown());
    }
}
