//! The same servers, asked by the peer.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::process::{Program, get};
use crate::{INTERVAL, Table, cpu_per, fleet, polls, quantile};

/// Scrapes of the fleet through us of which the median counts.
const SCRAPES: usize = 9;

/// How often each side of a comparison is measured.
const TURNS: usize = 7;

/// Addresses of the one real server, each of which we take for a node.
const FACES: usize = 100;

pub(crate) fn beside(runtime: &Runtime, path: &str, table: &mut Table) {
    let (lean, full) = (Program::peer(path, true), Program::peer(path, false));
    one_server(&lean, &full, runtime, table);
    fleet_of_1000(&lean, runtime, table);
}

/// A real server. The machine's speed changes from minute to minute: what is compared is measured in turn, and the
/// median of the ratios counts.
fn one_server(lean: &Program, full: &Program, runtime: &Runtime, table: &mut Table) {
    let redis = Program::redis();
    let target = format!("/scrape?target=redis://127.0.0.1:{}", redis.port);
    own_cpu(lean, full, &target, runtime, table);
    scrape_of_one(lean, &redis, &target, table);
    cpu_of_the_server(lean, &redis, &target, table);
}

/// The median over the turns of something that each shows.
fn median<const N: usize>(turns: &[[f64; N]; TURNS], of: impl FnMut(&[f64; N]) -> f64) -> f64 {
    quantile(&turns.each_ref().map(of), 0.5)
}

fn own_cpu(lean: &Program, full: &Program, target: &str, runtime: &Runtime, table: &mut Table) {
    let (simulated, nodes, config) = fleet(runtime, 1000);
    let exporter = Program::exporter(&config);
    std::thread::sleep(2 * INTERVAL);
    let turns: [[f64; 3]; TURNS] = std::array::from_fn(|_| {
        let theirs = [cpu_per(lean, 60, target), cpu_per(full, 20, target)];
        let (cpu, polled) = (exporter.cpu_seconds(), polls(&nodes));
        std::thread::sleep(INTERVAL);
        [theirs[0], theirs[1], (exporter.cpu_seconds() - cpu) * 1e3 / (polls(&nodes) - polled)]
    });
    drop(exporter);
    runtime.block_on(simulated.shutdown());
    table.note("peer, lean: CPU per scrape of a real server", median(&turns, |turn| turn[0]), "ms");
    table.note("peer, as it comes: CPU per scrape of a real server", median(&turns, |turn| turn[1]), "ms");
    table.note("own CPU per node-poll, of 1000", median(&turns, |turn| turn[2]), "ms");
    let (below_lean, below_full) = (median(&turns, |turn| turn[0] / turn[2]), median(&turns, |turn| turn[1] / turn[2]));
    table.at_least("own CPU per node-poll, below the lean peer's scrape", below_lean, 20.0, "×");
    table.at_least("own CPU per node-poll, below the scrape of the peer as it comes", below_full, 100.0, "×");
}

/// All that the server can tell: as the first scrape after a poll, and once more before the next.
fn scrape_of_one(lean: &Program, redis: &Program, target: &str, table: &mut Table) {
    let (nodes, config) = faces(redis, INTERVAL);
    let exporter = Program::exporter(&config);
    let scrape = || {
        let before = exporter.cpu_seconds();
        nodes.iter().for_each(|node| drop(exporter.get(&format!("/scrape?target={node}")).unwrap()));
        (exporter.cpu_seconds() - before) * 1e3 / nodes.len() as f64
    };
    // Scraped once, a node is asked for all; the next polls bring it.
    scrape();
    std::thread::sleep(2 * INTERVAL);
    let turns: [[f64; 3]; TURNS] = std::array::from_fn(|_| {
        let of_lean = cpu_per(lean, 60, target);
        let before = polls_answered(&exporter);
        while polls_answered(&exporter) < before + nodes.len() {
            std::thread::sleep(Duration::from_millis(50));
        }
        [of_lean, scrape(), scrape()]
    });
    table.note("peer, lean: CPU per scrape of the same server", median(&turns, |turn| turn[0]), "ms");
    table.note("/scrape of the same server, first after a poll, gzip: own CPU", median(&turns, |turn| turn[1]), "ms");
    // Every half minute there are new latencies, and all is compressed.
    let mean = turns.iter().map(|turn| turn[1]).sum::<f64>() / TURNS as f64;
    table.note("the same, mean of the turns", mean, "ms");
    let (first, again) = (median(&turns, |turn| turn[0] / turn[1]), median(&turns, |turn| turn[0] / turn[2]));
    table.at_least("/scrape of the same server, below the lean peer's", first, 10.0, "×");
    table.note("the same, once more before the next poll", again, "×");
}

/// The server as so many nodes of one cache: their names, and a configuration.
fn faces(redis: &Program, interval: Duration) -> (Vec<String>, String) {
    let nodes: Vec<String> = (1..=FACES).map(|face| format!("127.0.1.{face}:{}", redis.port)).collect();
    let urls: Vec<String> = nodes.iter().map(|node| format!("redis://{node}")).collect();
    let (interval, urls) = (interval.as_secs(), urls.join(", "));
    let config = format!("poll: {{ interval: {interval}s, timeout: 1s }}\ncaches: [{{ name: a, nodes: [{urls}] }}]\n");
    (nodes, config)
}

fn cpu_of_the_server(lean: &Program, redis: &Program, target: &str, table: &mut Table) {
    // A hundred times a second by both: a server that is asked less often has colder caches, and pays for them.
    const PACE: Duration = Duration::from_millis(10);
    let (_, config) = faces(redis, FACES as u32 * PACE);
    let idle = idle(redis);
    let turns: [[f64; 2]; TURNS] = std::array::from_fn(|_| {
        let of_lean = idle.beyond(redis, || {
            let begun = Instant::now();
            for scrape in 0..200 {
                std::thread::sleep((scrape * PACE).saturating_sub(begun.elapsed()));
                lean.get(target).unwrap();
            }
            200
        });
        let exporter = Program::exporter(&config);
        std::thread::sleep(Duration::from_secs(2));
        let of_ours = idle.beyond(redis, || {
            let before = polls_answered(&exporter);
            std::thread::sleep(Duration::from_secs(5));
            polls_answered(&exporter) - before
        });
        [of_lean, of_ours]
    });
    table.note("peer, lean: server's CPU per scrape", median(&turns, |turn| turn[0]), "ms");
    table.note("server's CPU per poll", median(&turns, |turn| turn[1]), "ms");
    let below = median(&turns, |turn| turn[0] / turn[1]);
    table.at_least("server's CPU per poll, below the lean peer's scrape", below, 8.0, "×");
}

/// All of 1,000 nodes in the scraper's hands.
fn fleet_of_1000(lean: &Program, runtime: &Runtime, table: &mut Table) {
    let (simulated, nodes, config) = fleet(runtime, 1000);
    let exporter = Program::exporter(&config);
    std::thread::sleep(INTERVAL);
    let mut ours: Vec<Duration> = (0..SCRAPES)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(500));
            exporter.get("/metrics").unwrap().took
        })
        .collect();
    ours.sort();
    drop(exporter);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for node in &nodes {
            let (path, port) = (format!("/scrape?target=redis://{}", node.name()), lean.port);
            scope.spawn(move || get(port, &path).unwrap());
        }
    });
    let burst = begun.elapsed().as_secs_f64();
    table.note("1000 nodes at the scraper: burst of 1000 lean scrapes", burst, "s");
    let ours = ours[SCRAPES / 2].as_secs_f64();
    table.at_least("1000 nodes at the scraper: one /metrics, faster than that", burst / ours, 20.0, "×");
    table.note("1000 nodes: RSS of the lean peer after it", lean.rss_mib(), "MiB");
    runtime.block_on(simulated.shutdown());
}

/// What a server costs that nobody asks.
struct Idle {
    cpu_per_second: f64,
}

fn idle(server: &Program) -> Idle {
    const SPAN: Duration = Duration::from_secs(10);
    let before = server.cpu_seconds();
    std::thread::sleep(SPAN);
    Idle { cpu_per_second: (server.cpu_seconds() - before) / SPAN.as_secs_f64() }
}

impl Idle {
    /// CPU of the server beyond that per piece of the work, which says how many it was; ms.
    fn beyond(&self, server: &Program, work: impl FnOnce() -> usize) -> f64 {
        let (before, begun) = (server.cpu_seconds(), Instant::now());
        let pieces = work();
        let idle = self.cpu_per_second * begun.elapsed().as_secs_f64();
        (server.cpu_seconds() - before - idle) * 1e3 / pieces as f64
    }
}

/// Polls that were answered so far.
fn polls_answered(exporter: &Program) -> usize {
    let text = exporter.get_plain("/metrics?collect[]=cache").unwrap();
    let count =
        text.lines().find_map(|line| line.strip_prefix("cache_storm_poll_duration_seconds_count{cache=\"a\"} "));
    count.expect("a count of polls").parse().unwrap()
}
