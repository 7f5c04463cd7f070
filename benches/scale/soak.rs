//! Half an hour at 1,000 nodes while faults come and go: memory stays flat, no descriptor leaks, no node is lost.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use cache_storm_exporter::sim::mode::Mode;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::process::Program;
use crate::{fleet, quantile};

const NODES: usize = 1000;

/// Every fault lasts this long, on every tenth node; then all is well for as long.
const PHASE: Duration = Duration::from_secs(15);

/// How far memory may be from its median after the first sixth of the time, and descriptors above their number then.
const RSS_RANGE: RangeInclusive<f64> = 0.95..=1.05;
const DESCRIPTORS_MORE_MAX: usize = 64;

pub(crate) fn run(runtime: &Runtime) -> ExitCode {
    let minutes: f64 = std::env::var("MINUTES").map_or(30.0, |minutes| minutes.parse().expect("MINUTES is a number"));
    let span = Duration::from_secs_f64(minutes * 60.0);
    let (fleet, nodes, config) = fleet(runtime, NODES);
    let mut exporter = Program::exporter(&config);
    let faults = [
        ("hang", Mode::Hang),
        ("slow", Mode::Slow(Duration::from_millis(400))),
        ("drip", Mode::Drip(Duration::from_millis(20))),
        ("reset", Mode::Reset),
        ("garbage", Mode::Garbage),
        ("10 MB", Mode::Huge(10 << 20)),
        ("loading", Mode::Loading),
        ("wrong password", Mode::WrongPass),
        ("refuse", Mode::Refuse),
    ];
    let (begun, mut settled, mut descriptors) = (Instant::now(), Vec::new(), 0);
    for (phase, (name, mode)) in faults.iter().cycle().enumerate() {
        if begun.elapsed() >= span {
            break;
        }
        for node in nodes.iter().skip(phase % 10).step_by(10) {
            node.set_mode(mode.clone());
        }
        std::thread::sleep(PHASE);
        exporter.get("/metrics").unwrap();
        for node in &nodes {
            node.set_mode(Mode::Normal);
        }
        std::thread::sleep(PHASE);
        exporter.get("/metrics").unwrap();
        assert!(exporter.runs(), "the exporter has ended");
        let (rss, open) = (exporter.rss_mib(), exporter.descriptors());
        println!("{:>6.0} s  {name:<15} RSS {rss:>6.1} MiB  {open} descriptors", begun.elapsed().as_secs_f64());
        if begun.elapsed() >= span / 6 {
            if settled.is_empty() {
                descriptors = open;
            }
            settled.push(rss);
        }
    }
    // The longest pause of a node that failed, and two rounds.
    std::thread::sleep(Duration::from_secs(30));
    let up = exporter.get_plain("/api/v1/report").unwrap().matches("\"up\":true").count();
    let [low, median, high] = [0.0, 0.5, 1.0].map(|share| quantile(&settled, share));
    let ([low, high], open) = ([low / median, high / median], exporter.descriptors());
    println!(
        "{up} of {NODES} nodes up; after the first sixth RSS {low:.3} to {high:.3} × its median of {median:.1} MiB; {open} descriptors"
    );
    runtime.block_on(fleet.shutdown());
    if up == NODES
        && RSS_RANGE.contains(&low)
        && RSS_RANGE.contains(&high)
        && open <= descriptors + DESCRIPTORS_MORE_MAX
    {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
