//! What the sampler of hot keys costs a busy server: commands per second under `redis-benchmark`, sampler on and off in
//! turn, the exporter polling all the time. Under two loads: as many clients as the server can serve, where the sampler
//! sees its main thread at the limit and declines; and one client, which leaves it time, and where samples are taken.
//! Fails where a median loss is above 5 %, and where no sample was taken under the lesser load: nothing was measured then.
//!
//! A turn is a quarter of a side's time. The exporter is started anew for each, so that it samples once a turn: more often
//! than one that stays, which does so once a minute. The server has one core to itself, as far as the machine allows.
//! Commands per second of the server's CPU stand beside: what others take of its core does not touch them. `PAIRS=n` (10)
//! and `SECONDS=n` (60) shorten it, and so does `CLIENTS=20` or `CLIENTS=1`, one of the loads alone.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people; it stops where a premise fails")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "it measures real time of other processes")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const LOSS_MAX: f64 = 0.05;

/// Times that each side of a pair has its turn.
const TURNS: usize = 4;

/// Left out at the begin of each turn: the exporter starts.
const SETTLE: Duration = Duration::from_secs(1);

/// A program that ends with its owner.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn main() -> ExitCode {
    let number = |name: &str, usual: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (pairs, seconds) = (number("PAIRS", 10), number("SECONDS", 60));
    let (server, folder) = (free_port(), tempfile::tempdir().unwrap());
    let _server = start("0", "redis-server", &["--port", &server, "--save", "", "--maxmemory", "200mb"]);
    wait_for("the server", || ask(&server, &["PING"]) == "PONG");
    // Reads: a node without lookups is never sampled, and `-t set,get` comes to its reads after all its writes.
    let load = |test, count, clients| {
        let keys = ["-p", &server, "-t", test, "-r", "100000", "-n", count, "-c", clients, "-q"];
        start("1", "redis-benchmark", &keys)
    };
    load("set", "200000", "20").0.wait().unwrap();
    let mut passed = true;
    let only = std::env::var("CLIENTS").ok();
    for (clients, is_sampled) in [("20", false), ("1", true)] {
        if only.as_ref().is_some_and(|only| only != clients) {
            continue;
        }
        let _load = load("get", "1000000000", clients);
        let run = Run::of(&server, folder.path(), pairs, Duration::from_secs(seconds));
        println!("{clients} clients: {} samples taken in {} attempts", run.taken, run.attempts);
        passed &= run.lost("commands per second", 0) <= LOSS_MAX;
        run.lost("commands per second of the server's CPU", 1);
        passed &= !is_sampled || run.taken > 0.0;
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What pairs of measurements came to.
#[derive(Default)]
struct Run {
    /// Of each pair, by the clock and by the server's CPU.
    losses: Vec<[f64; 2]>,
    taken: f64,
    attempts: f64,
}

impl Run {
    fn of(server: &str, folder: &Path, pairs: u64, time: Duration) -> Self {
        let mut run = Self::default();
        for pair in 0..pairs {
            let mut totals = [Work::default(); 2];
            // Whoever comes first has a machine in another state, and its speed changes within seconds: they take turns.
            let turns = if pair % 2 == 0 { [false, true, true, false] } else { [true, false, false, true] };
            for sampled in turns.repeat(TURNS / 2) {
                let (mode, web) = (if sampled { "auto" } else { "off" }, free_port());
                let config = format!(
                    "hotkeys: {{ mode: {mode}, allow_monitor: true }}\ncaches: [{{ name: a, nodes: ['redis://127.0.0.1:{server}'] }}]\n"
                );
                let file = folder.join("config.yaml");
                std::fs::write(&file, config).unwrap();
                let _exporter = exporter(&file, &web);
                totals[usize::from(sampled)].add(server, time / TURNS as u32);
                if sampled {
                    let metrics = get(&web);
                    run.taken += sum(&metrics, "hot_key_samples_total{result=\"taken\"}");
                    run.attempts += sum(&metrics, "hot_key_samples_total");
                }
            }
            let [off, on] = totals.map(Work::speeds);
            let loss = [0, 1].map(|by| 1.0 - on[by] / off[by]);
            println!("off {:>8.0}/s  on {:>8.0}/s  loss {:>6.2} %", off[0], on[0], loss[0] * 100.0);
            run.losses.push(loss);
        }
        run
    }

    /// The median loss, told with its quartiles.
    fn lost(&self, what: &str, by: usize) -> f64 {
        let mut losses: Vec<f64> = self.losses.iter().map(|loss| loss[by]).collect();
        losses.sort_unstable_by(f64::total_cmp);
        // Between the two middle values where there is no middle one.
        let quantile = |share: f64| {
            let place = (losses.len() - 1) as f64 * share;
            let (below, above) = (losses[place.floor() as usize], losses[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| quantile(share) * 100.0);
        println!(
            "loss of {what}: median {median:.2} %, quartiles {low:.2} to {high:.2} %, at most {:.0} %",
            LOSS_MAX * 100.0
        );
        median / 100.0
    }
}

fn exporter(config: &Path, web: &str) -> Program {
    let (binary, listen) = (env!("CARGO_BIN_EXE_cache-storm-exporter"), format!("127.0.0.1:{web}"));
    let exporter = start("1", binary, &["--config", config.to_str().unwrap(), "--listen", &listen]);
    wait_for("the exporter", || get(web).contains("cache_storm_node_up"));
    exporter
}

/// What a server has done.
#[derive(Default, Clone, Copy)]
struct Work {
    commands: f64,
    seconds: f64,
    cpu_seconds: f64,
}

impl Work {
    /// Adds what it does in this time.
    fn add(&mut self, server: &str, time: Duration) {
        std::thread::sleep(SETTLE);
        let state = || {
            let info = ask(server, &["INFO", "everything"]).replace(':', " ");
            let cpu = sum(&info, "used_cpu_user ") + sum(&info, "used_cpu_sys ");
            (Instant::now(), sum(&info, "total_commands_processed"), cpu)
        };
        let (begun, commands, cpu) = state();
        std::thread::sleep(time);
        let (ended, commands_then, cpu_then) = state();
        self.commands += commands_then - commands;
        self.seconds += (ended - begun).as_secs_f64();
        self.cpu_seconds += cpu_then - cpu;
    }

    /// Commands per second: by the clock, and of the server's CPU.
    fn speeds(self) -> [f64; 2] {
        [self.commands / self.seconds, self.commands / self.cpu_seconds]
    }
}

fn start(core: &str, program: &str, arguments: &[&str]) -> Program {
    let mut command = Command::new("taskset");
    command.args(["-c", core, program]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    Program(command.spawn().expect("taskset, of util-linux"))
}

fn ask(server: &str, words: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-p", server]).args(words).output().expect("redis-cli");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The metrics of an exporter; nothing while it does not answer.
fn get(web: &str) -> String {
    let answer = ureq::get(format!("http://127.0.0.1:{web}/metrics")).call();
    answer.ok().and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default()
}

/// The sum of all lines that name this.
fn sum(text: &str, name: &str) -> f64 {
    let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains(name));
    lines.filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok()).sum()
}

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} does not come up");
        std::thread::sleep(Duration::from_millis(100));
    }
}
