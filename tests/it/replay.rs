//! The command `replay` on recordings of real servers: every storm is seen on every node it hit, under its true
//! name, and quiet traffic stays quiet. The recordings carry the truth in their column `label`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const TRACES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/traces");

/// True causes in one recording: by node, when each began, and which.
type Truth = BTreeMap<String, (f64, String)>;

/// What the detector made of one node.
#[derive(Default)]
struct Seen {
    /// Rounds affected before the storm began, or at all where there was none.
    false_rounds: usize,
    /// Rounds affected since.
    rounds: usize,
    /// How often each type was named.
    types: BTreeMap<String, usize>,
}

fn replay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cache-storm-exporter")).arg("replay").args(arguments).output().unwrap()
}

fn traces() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(TRACES).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "csv"));
    files.sort();
    files
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// The distinct times of a recording, and what truly happened on its nodes.
fn truth(file: &Path) -> (Vec<f64>, Truth) {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let headings = reader.headers().unwrap().clone();
    let column = |name: &str| headings.iter().position(|heading| heading == name).unwrap();
    let (at, node, label) = (column("t"), column("node"), column("label"));
    let (mut times, mut truth): (Vec<f64>, Truth) = (Vec::new(), Truth::new());
    for row in reader.records().map(Result::unwrap) {
        let t: f64 = row[at].parse().unwrap();
        if times.last() != Some(&t) {
            times.push(t);
        }
        if &row[label] != "none" {
            truth.entry(row[node].to_owned()).or_insert_with(|| (t, row[label].to_owned()));
        }
    }
    (times, truth)
}

/// Every line of output, by the recording it speaks of.
fn lines(arguments: &[&str]) -> BTreeMap<String, Vec<Value>> {
    let output = replay(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        lines.entry(line["cache"].as_str().unwrap().to_owned()).or_default().push(line);
    }
    lines
}

/// `replay` of every recording at the time scale they were made at.
fn verdicts(more: &[&str]) -> BTreeMap<String, Vec<Value>> {
    let files: Vec<String> = traces().iter().map(|file| file.to_str().unwrap().to_owned()).collect();
    let arguments = ["--time-scale", "10"].into_iter().chain(more.iter().copied());
    lines(&arguments.chain(files.iter().map(String::as_str)).collect::<Vec<_>>())
}

fn seen(lines: &[Value], truth: &Truth) -> BTreeMap<String, Seen> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let outbreak = truth.values().map(|(t, _)| *t).reduce(f64::min);
    for line in lines {
        let t = line["t"].as_f64().unwrap();
        for verdict in line["nodes"].as_array().unwrap() {
            let seen = seen.entry(verdict["node"].as_str().unwrap().to_owned()).or_default();
            if verdict["affected"] != true {
                continue;
            }
            if outbreak.is_none_or(|outbreak| t < outbreak) {
                seen.false_rounds += 1;
                continue;
            }
            seen.rounds += 1;
            if let Some(storm_type) = verdict["storm_type"].as_str() {
                *seen.types.entry(storm_type.to_owned()).or_default() += 1;
            }
        }
    }
    seen
}

/// The type named most often.
fn modal(types: &BTreeMap<String, usize>) -> &str {
    types.iter().max_by_key(|(_, count)| **count).map_or("-", |(storm_type, _)| storm_type)
}

/// Compares verdicts with the truth: what is wrong, and everything as a table.
fn judge(verdicts: &BTreeMap<String, Vec<Value>>) -> (Vec<String>, String) {
    let mut faults = Vec::new();
    let mut table =
        format!("{:<16} {:<4} {:<18} {:<18} rounds false types\n", "recording", "node", "truth", "modal type");
    for file in traces() {
        let (recording, (_, truth)) = (name(&file), truth(&file));
        for (node, seen) in seen(&verdicts[&recording], &truth) {
            let label = truth.get(&node).map_or("none", |(_, label)| label);
            let Seen { false_rounds, rounds, types } = seen;
            let modal = modal(&types);
            writeln!(
                table,
                "{recording:<16} {node:<4} {label:<18} {modal:<18} {rounds:>6} {false_rounds:>5} {types:?}"
            )
            .unwrap();
            if false_rounds > 0 {
                faults.push(format!("{recording}: {node} was affected before anything happened"));
            }
            if label != "none" && rounds == 0 {
                faults.push(format!("{recording}: {node} was never affected"));
            } else if label != "none" && modal != label {
                faults.push(format!("{recording}: {node} is {label}, not {modal}"));
            }
        }
    }
    (faults, table)
}

#[test]
fn every_storm_is_seen_and_named_and_quiet_traffic_stays_quiet() {
    let storms = traces().iter().filter(|file| !truth(file).1.is_empty()).count();
    assert_eq!((storms, traces().len() - storms), (13, 6), "storms and quiet recordings");
    let (faults, table) = judge(&verdicts(&[]));
    assert!(faults.is_empty(), "{}\n{table}", faults.join("\n"));
}

/// The recordings begin seconds before their storm: of every second round too few are left for a baseline, so only
/// what must not happen is asked here.
#[test]
fn every_second_round_invents_nothing() {
    let verdicts = verdicts(&["--every", "2"]);
    for file in traces() {
        let (times, truth) = truth(&file);
        let lines = &verdicts[&name(&file)];
        assert!(lines.len().abs_diff(times.len().div_ceil(2)) <= 1, "{}: {}", file.display(), lines.len());
        for (node, seen) in seen(lines, &truth) {
            assert_eq!(seen.false_rounds, 0, "{}: {node}", file.display());
        }
    }
}

#[test]
fn a_line_says_what_the_contract_says() {
    let file = format!("{TRACES}/mass_expire.csv");
    let (times, truth) = truth(Path::new(&file));
    let verdicts = lines(&["--time-scale", "10", &file]).remove("mass_expire").unwrap();
    assert_eq!(verdicts.iter().map(|line| line["t"].as_f64().unwrap()).collect::<Vec<_>>(), times);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    for line in &verdicts {
        assert_eq!(keys(line), named(&["t", "cache", "severity", "storm_types", "nodes"]));
        assert!(line["severity"].as_u64().unwrap() <= 3);
        let nodes = line["nodes"].as_array().unwrap();
        let listed: Vec<&str> = nodes.iter().map(|node| node["node"].as_str().unwrap()).collect();
        assert_eq!(listed, ["n0", "n1", "n2"], "all nodes of the round, by name");
        for node in nodes {
            let fields = ["node", "up", "affected", "storm_type", "confidence", "indicators"];
            assert_eq!(keys(node), named(&fields));
            assert!(node["indicators"].is_array() && node["up"].is_boolean() && node["affected"].is_boolean());
            assert_eq!(node["storm_type"].is_null(), node["confidence"].is_null());
            assert!(node["confidence"].as_f64().is_none_or(|confidence| (0.0..=1.0).contains(&confidence)));
        }
        let affected = nodes.iter().filter(|node| node["affected"] == true).count();
        assert_eq!(affected > 0, line["severity"] != 0);
    }
    let first = &verdicts[0];
    assert!(first["storm_types"].as_array().unwrap().is_empty() && first["nodes"][0]["storm_type"].is_null());
    let (began, _) = &truth.values().next().unwrap();
    let storm = verdicts.iter().find(|line| line["severity"] != 0).unwrap();
    assert!(storm["t"].as_f64().unwrap() >= *began && storm["storm_types"][0] == "mass_expiration", "{storm}");
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let good = std::fs::read_to_string(format!("{TRACES}/steady.csv")).unwrap();
    let refused = |name: &str, text: &str, complaint: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        let output = replay(&[file.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&format!("{}{complaint}", file.display())), "{error}");
    };
    let heading = good.lines().next().unwrap();
    let hits = heading.split(',').position(|column| column == "keyspace_hits").unwrap();
    let broken = |column: usize, value: &str| {
        let change = |line: &str| {
            let mut cells: Vec<&str> = line.split(',').collect();
            cells[column] = value;
            cells.join(",")
        };
        let lines =
            good.lines().enumerate().map(|(index, line)| if index == 4 { change(line) } else { line.to_owned() });
        lines.collect::<Vec<_>>().join("\n")
    };
    refused("letters.csv", &broken(hits, "many"), ":5: column `keyspace_hits`: expected a whole number");
    refused("endless.csv", &broken(hits, "inf"), ":5: column `keyspace_hits`: expected a whole number");
    refused("back.csv", &broken(0, "-1"), ":5: column `t`: expected a time");
    refused("narrow.csv", "t,node\n1,n0\n", ": column `up` is missing");
    refused("ragged.csv", &format!("{heading}\n1,n0\n"), ": cannot be read as CSV");
    assert_eq!(replay(&[]).status.code(), Some(64), "no file is a fault of usage");
    let missing = directory.path().join("missing.csv");
    assert_eq!(replay(&[missing.to_str().unwrap()]).status.code(), Some(1));
}
