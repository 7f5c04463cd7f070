//! How fast the command `hotkeys` reads a capture, against what an on-call engineer would do with gawk, in the same
//! run; how much memory it takes; how many patterns random keys make.
//!
//! `LINES=n` for another size than two million, `RUNS=n` for another number of runs than five.
#![allow(clippy::print_stdout, reason = "that is what a bench is for")]
#![allow(clippy::unwrap_used, reason = "a bench stops where its premise fails")]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "it measures real time of other processes")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cache_storm_exporter::hotkeys::pattern::Patterns;
use cache_storm_exporter::sim::zipf::Zipf;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// For each line the first field that is one of these commands, in quotes and in any case; the next field is its key.
/// Counts per key, per key with every run of digits as `*`, and per command; prints the top 20 of each. A table of
/// words and not a regular expression, and no field is looked at twice: the fastest of several ways to write it.
const GAWK: &str = r#"
BEGIN {
    split("GET SET DEL INCR DECR HGET HSET LPUSH RPUSH LPOP RPOP", words, " ")
    for (word in words) wanted["\"" words[word] "\""] = 1
}
{
    for (field = 1; field < NF; field++) {
        command = toupper($field)
        if (command in wanted) {
            key = $(field + 1)
            gsub(/"/, "", key)
            keys[key]++
            gsub(/[0-9]+/, "*", key)
            patterns[key]++
            commands[command]++
            break
        }
    }
}
function top(counts,   name, shown) {
    PROCINFO["sorted_in"] = "@val_num_desc"
    for (name in counts) {
        if (shown++ == 20) break
        print name, counts[name]
    }
}
END { top(keys); top(patterns); top(commands) }
"#;

/// What the bench demands.
const FASTER_ON_ONE: f64 = 10.0;
const FASTER_ON_TWO: f64 = 15.0;
const MEGABYTES_PER_SECOND: f64 = 250.0;
const MEMORY_MIB: f64 = 32.0;
const PATTERNS: usize = 200;

/// How often a process's memory is looked at; its peak only grows.
const LOOK_EVERY: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let number =
        |name: &str, usual: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (lines, runs) = (number("LINES", 2_000_000), number("RUNS", 5));
    let folder = tempfile::tempdir().unwrap();
    let (usual, distinct) = (folder.path().join("usual.txt"), folder.path().join("distinct.txt"));
    let zipf = Zipf::new(200_000, 1.0);
    write_capture(&usual, lines, |rng| u64::from(zipf.sample(rng)));
    let mut next = 0;
    write_capture(&distinct, lines, |_| {
        next += 1;
        next
    });
    let megabytes = std::fs::metadata(&usual).unwrap().len() as f64 / 1e6;
    println!("{lines} lines, {megabytes:.0} MB; median of {runs} runs, in turn");

    let (mut gawk, mut one, mut two, mut memory) = (Vec::new(), Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..runs {
        gawk.push(run("0", "gawk", &[GAWK.as_ref(), &usual]).0);
        for (cores, times) in [("0", &mut one), ("0,1", &mut two)] {
            let (seconds, mib) = hotkeys(cores, &usual);
            times.push(seconds);
            memory = memory.max(mib);
        }
    }
    let (_, many) = hotkeys("0,1", &distinct);
    let [gawk, one, two] = [gawk, one, two].map(median);
    let patterns = random_patterns();
    let figures = [
        ("gawk: million lines per second", lines as f64 / gawk / 1e6, None),
        ("hotkeys, one core: times as fast", gawk / one, Some(FASTER_ON_ONE)),
        ("hotkeys, two cores: times as fast", gawk / two, Some(FASTER_ON_TWO)),
        ("hotkeys, one core: MB per second", megabytes / one, Some(MEGABYTES_PER_SECOND)),
        ("hotkeys, two cores: MB per second", megabytes / two, None),
    ];
    let limits = [
        ("peak memory, MiB", memory, MEMORY_MIB),
        ("peak memory with every key another, MiB", many, MEMORY_MIB),
        ("patterns of a million random keys", patterns as f64, PATTERNS as f64),
    ];
    let mut met = true;
    for (name, figure, bar) in figures {
        met &= bar.is_none_or(|bar| figure >= bar);
        println!("{name:<42}{figure:>9.2}{}", bar.map_or(String::new(), |bar| format!("   at least {bar}")));
    }
    for (name, figure, limit) in limits {
        met &= figure <= limit;
        println!("{name:<42}{figure:>9.2}   at most {limit}");
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lines as `redis-cli MONITOR` writes them, of about 65 bytes: an application with sessions, carts, articles and
/// counters, a fifth of the calls writing.
fn write_capture(path: &Path, lines: usize, mut key: impl FnMut(&mut StdRng) -> u64) {
    let (mut out, mut rng) = (BufWriter::new(File::create(path).unwrap()), StdRng::seed_from_u64(7));
    for line in 0..lines {
        let (key, client) = (key(&mut rng), rng.random_range(0..200_u32));
        let micros = line * 30;
        let (seconds, micros) = (1_700_000_000 + micros / 1_000_000, micros % 1_000_000);
        write!(out, "{seconds}.{micros:06} [0 10.0.{}.{}:{}] ", client % 4, client, 40_000 + client).unwrap();
        match (key % 4, rng.random_range(0..5)) {
            (0, 0) => writeln!(out, "\"SET\" \"user:{key}:cart\" \"{:016x}\"", key.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            (0, _) => writeln!(out, "\"GET\" \"user:{key}:cart\""),
            (1, 0) => writeln!(out, "\"HSET\" \"session:{key}\" \"seen\" \"{seconds}\""),
            (1, _) => writeln!(out, "\"HGET\" \"session:{key}\" \"user\""),
            (2, 0) => writeln!(out, "\"DEL\" \"article:{key}:body\""),
            (2, _) => writeln!(out, "\"GET\" \"article:{key}:body\""),
            (_, 0) => writeln!(out, "\"INCR\" \"stats:views:{key}\""),
            (_, _) => writeln!(out, "\"get\" \"product:{key}:price:eur\""),
        }
        .unwrap();
    }
    out.flush().unwrap();
}

fn hotkeys(cores: &str, capture: &Path) -> (f64, f64) {
    let binary = env!("CARGO_BIN_EXE_cache-storm-exporter");
    run(cores, binary, &["hotkeys".as_ref(), "--from-file".as_ref(), capture])
}

/// Runs a program on these cores; seconds and peak memory in MiB.
fn run(cores: &str, program: &str, arguments: &[&Path]) -> (f64, f64) {
    let begun = Instant::now();
    let mut command = Command::new("taskset");
    command.args(["-c", cores, program]).args(arguments).env("LC_ALL", "C").stdout(Stdio::null());
    let mut process = command.spawn().expect("taskset of util-linux, and gawk");
    let status = format!("/proc/{}/status", process.id());
    let mut peak = 0.0;
    let ended = loop {
        if let Some(ended) = process.try_wait().unwrap() {
            break ended;
        }
        peak = peak_mib(&status).unwrap_or(peak);
        std::thread::sleep(LOOK_EVERY);
    };
    assert!(ended.success(), "{program} failed: {ended}");
    (begun.elapsed().as_secs_f64(), peak)
}

fn peak_mib(status: &str) -> Option<f64> {
    let text = std::fs::read_to_string(status).ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    Some(kib.parse::<f64>().ok()? / 1024.0)
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_unstable_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Keys of every shape: words, numbers, hashes, any bytes, any separators, any depth.
fn random_patterns() -> usize {
    let (mut patterns, mut rng, mut key) = (Patterns::default(), StdRng::seed_from_u64(1), Vec::new());
    let alphabets: [&[u8]; 4] =
        [b"abcdefghijklmnopqrstuvwxyz0123456789", b"abcdefghij:_-./|", b"ab:", b"aeiourstln:@=&?{}[]()"];
    for index in 0..1_000_000 {
        key.clear();
        let alphabet = alphabets.get(index % 5);
        for _ in 0..rng.random_range(0..40) {
            key.push(match alphabet {
                Some(letters) => letters[rng.random_range(0..letters.len())],
                None => rng.random(),
            });
        }
        patterns.learn(&key);
    }
    patterns.count()
}
