//! The storm lab: real fleets, real clients, every kind of storm, and the exporter as it ships.
//!
//! `make lab` runs what is not yet in the results file, writes `docs/accuracy.md` from it and prints the table.
//! `make lab-smoke` runs five scenarios and fails on any wrong verdict. By environment:
//!
//! | | |
//! |---|---|
//! | `ONLY=flush_one,steady` | only these scenarios |
//! | `SEED=1` | first seed |
//! | `RUNS=8` | seeds per storm; quiet scenarios get four times as many |
//! | `SCALE=10` | 1 is real time: polls of 5 s, four minutes of quiet first |
//! | `JOBS=4` | fleets side by side; default two per core |
//! | `SAMPLER=1` | hot-key sampling allowed where the type needs it |
//! | `RECORD=folder` | writes `INFO` of every second as CSV, in the form of `tests/fixtures/traces` |
//! | `RESULTS=file` | instead of `benches/lab/results.jsonl`; `docs/accuracy.md` is then left alone |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a program for people; a run stops where its premise fails"
)]
#![allow(missing_docs, reason = "nothing here is public")]

mod acts;
mod catalogue;
mod clients;
mod fleet;
#[path = "../../tests/it/harness/mod.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use the rest")]
mod harness;
mod judge;
mod naive;
mod observe;
mod outcome;
mod record;
mod run;
mod scenario;
mod summary;

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use outcome::Outcome;
use run::Plan;

const INTRODUCTION: &str = include_str!("accuracy.md");

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    // Runs keep to this thread, their clients and samplers do not.
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut terminate = signal(SignalKind::terminate()).expect("signals");
        tokio::select! {
            code = lab() => code,
            // Dropping the runs ends the servers they started.
            _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
            _ = terminate.recv() => ExitCode::FAILURE,
        }
    })
}

async fn lab() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if env::args().any(|argument| argument == "smoke") {
        return smoke().await;
    }
    let default = root.join("benches/lab/results.jsonl");
    let results = env::var_os("RESULTS").map_or_else(|| default.clone(), PathBuf::from);
    let done: BTreeSet<_> =
        outcome::read(&results).expect("a readable results file").iter().map(Outcome::key).collect();
    let mut plans = plans();
    plans.retain(|plan| !done.contains(&(plan.scenario.name.to_owned(), plan.seed, plan.scale.to_bits())));

    let mut failed = 0;
    run_all(plans, |outcome| match outcome {
        Some(outcome) => outcome::append(&results, &outcome).expect("the results file can be written"),
        None => failed += 1,
    })
    .await;

    let table = summary::table(&outcome::read(&results).expect("a readable results file"));
    println!("{table}");
    if results == default {
        std::fs::write(root.join("docs/accuracy.md"), format!("{INTRODUCTION}{table}")).expect("docs can be written");
    }
    if failed > 0 {
        eprintln!("{failed} runs ended without a result; the next `make lab` tries them again");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Five scenarios, one seed, no results file.
async fn smoke() -> ExitCode {
    let scenarios = catalogue::all().into_iter().filter(|scenario| scenario.smoke);
    let plans = scenarios.map(|scenario| Plan { scenario, seed: 1, scale: 10.0, sampler: false }).collect();
    let mut wrong = 0;
    run_all(plans, |outcome| wrong += usize::from(outcome.is_none_or(|outcome| !outcome.faults().is_empty()))).await;
    if wrong > 0 {
        eprintln!("{wrong} of the five scenarios have a wrong verdict");
        return ExitCode::FAILURE;
    }
    println!("all verdicts right");
    ExitCode::SUCCESS
}

/// What the environment asks for, seed by seed: an interrupted lab has seen every scenario.
fn plans() -> Vec<Plan> {
    let only = env::var("ONLY").ok();
    let only: Option<BTreeSet<&str>> = only.as_deref().map(|names| names.split(',').collect());
    let scenarios: Vec<_> = catalogue::all()
        .into_iter()
        .filter(|scenario| only.as_ref().is_none_or(|only| only.contains(scenario.name)))
        .collect();
    if let Some(unknown) = only.iter().flatten().find(|name| scenarios.iter().all(|scenario| scenario.name != **name)) {
        let names: Vec<&str> = catalogue::all().iter().map(|scenario| scenario.name).collect();
        panic!("no scenario {unknown}; there are {}", names.join(" "));
    }
    let (first, runs, scale) = (number("SEED", 1), number("RUNS", 8), number("SCALE", 10));
    let seeds = (first..).take(4 * runs as usize);
    seeds
        .flat_map(|seed| scenarios.iter().map(move |scenario| (seed, scenario)))
        .filter(|(seed, scenario)| scenario.truths.is_empty() || *seed < first + runs)
        .map(|(seed, scenario)| {
            let sampler = number("SAMPLER", 0) > 0 && scenario.truths.iter().any(|truth| truth.needs_sampler);
            let mut scenario = scenario.clone();
            if scale == 1 {
                // Recordings are replayed at slow polls too: ten slices of those, and a margin.
                scenario.quiet_before = scenario.quiet_before.max(330.0);
            }
            Plan { scenario, seed, scale: scale as f64, sampler }
        })
        .collect()
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}: a number, not {text}")))
}

/// Runs them, so many at a time, and hands over each outcome; `None` for a run that broke off.
async fn run_all(plans: Vec<Plan>, mut take: impl FnMut(Option<Outcome>)) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = number("JOBS", 2 * cores as u64).max(1) as usize;
    let seconds: f64 = plans.iter().map(run::seconds).sum();
    println!("{} runs, {jobs} at a time: about {:.0} min", plans.len(), seconds / jobs as f64 / 60.0);
    let record = env::var_os("RECORD").map(PathBuf::from);
    let slots = Arc::new(Semaphore::new(jobs));
    let mut runs = JoinSet::new();
    for plan in plans {
        let (slots, record) = (Arc::clone(&slots), record.clone());
        runs.spawn_local(async move {
            let _slot = slots.acquire_owned().await;
            let file = record.map(|folder| folder.join(format!("{}_{}.csv", plan.scenario.name, plan.seed)));
            judge::judge(&plan, &plan.run(file.as_deref()).await)
        });
    }
    while let Some(ended) = runs.join_next().await {
        match &ended {
            Ok(outcome) => println!("{}", line(outcome)),
            // The panic's own message stands above.
            Err(error) => eprintln!("a run broke off: {error}"),
        }
        take(ended.ok());
    }
}

fn line(outcome: &Outcome) -> String {
    let storms: Vec<String> = outcome
        .storms
        .iter()
        .map(|storm| {
            let delay = storm.delay.map_or_else(|| "–".to_owned(), |delay| format!("{delay:.0} s"));
            let leading = storm.leading.as_deref().unwrap_or("nothing");
            format!("{leading} after {delay} (−{} points, {}× misses)", storm.drop_points, storm.misses_factor)
        })
        .collect();
    let faults = outcome.faults();
    let verdict = if faults.is_empty() { "right".to_owned() } else { format!("WRONG: {}", faults.join("; ")) };
    format!("{} seed {} ({} nodes): {} {verdict}", outcome.scenario, outcome.seed, outcome.nodes, storms.join(", "))
}
