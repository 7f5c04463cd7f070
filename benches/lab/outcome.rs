//! One run's outcome: a line of the results file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a run came to. Times are nominal seconds: what a run at scale 10 measures, times ten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) scale: f64,
    pub(crate) sampler: bool,
    pub(crate) nodes: usize,
    pub(crate) lookups_per_second: f64,
    pub(crate) zipf: f64,
    /// Empty for a quiet run.
    pub(crate) storms: Vec<StormOutcome>,
    /// Nodes called affected without a cause, the first three.
    pub(crate) false_alarms: Vec<String>,
    pub(crate) sketch_false_alarm: bool,
}

/// One storm of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StormOutcome {
    /// `None`: no type is claimed.
    pub(crate) truth: Option<String>,
    /// Large enough to be held against the bars.
    pub(crate) weighty: bool,
    pub(crate) drop_points: f64,
    pub(crate) misses_factor: f64,
    pub(crate) nodes_true: usize,
    pub(crate) nodes_affected: usize,
    pub(crate) detected: bool,
    /// From impact to announcement; negative where the cause was seen before its effect.
    pub(crate) delay: Option<f64>,
    /// Measured from a ratio of a half instead, for what comes slowly.
    pub(crate) slow: bool,
    pub(crate) type_right: Option<bool>,
    pub(crate) leading: Option<String>,
    pub(crate) sub_reason: Option<String>,
    pub(crate) types: Vec<String>,
    pub(crate) severity: u8,
    pub(crate) severity_right: bool,
    pub(crate) evidence: BTreeMap<String, f64>,
    pub(crate) sketch: SketchOutcome,
}

/// What the runbook's sketch made of the same storm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SketchOutcome {
    pub(crate) detected: bool,
    pub(crate) storm_type: Option<String>,
    pub(crate) type_right: Option<bool>,
}

impl Outcome {
    /// What tells runs apart: one with the same key is not done again.
    pub(crate) fn key(&self) -> (String, u64, u64) {
        (self.scenario.clone(), self.seed, self.scale.to_bits())
    }

    /// Everything that is wrong, in words; empty is right.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.false_alarms.iter().map(|alarm| format!("false alarm: {alarm}")).collect();
        for storm in &self.storms {
            let truth = storm.truth.as_deref().unwrap_or("storm");
            if storm.weighty && storm.nodes_affected < storm.nodes_true {
                faults.push(format!("{truth}: {} of {} nodes affected", storm.nodes_affected, storm.nodes_true));
            }
            if storm.type_right == Some(false) {
                let leading = storm.leading.as_deref().unwrap_or("nothing");
                let listed = storm.types.join(" ");
                faults.push(format!("{truth}: called {leading} ({listed}), evidence {:?}", storm.evidence));
            }
            if storm.weighty && storm.detected && storm.nodes_affected == storm.nodes_true && !storm.severity_right {
                faults.push(format!("{truth}: severity {}", storm.severity));
            }
            if let Some(delay) = storm.delay.filter(|delay| storm.weighty && *delay > 60.0) {
                faults.push(format!("{truth}: after {delay:.0} s"));
            }
        }
        faults
    }
}

/// Reads a results file; of runs done twice the later one counts. A missing file is an empty one.
pub(crate) fn read(file: &Path) -> io::Result<Vec<Outcome>> {
    let lines = match File::open(file) {
        Ok(file) => BufReader::new(file).lines(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut outcomes = BTreeMap::new();
    for line in lines {
        let outcome: Outcome = serde_json::from_str(&line?)?;
        outcomes.insert(outcome.key(), outcome);
    }
    Ok(outcomes.into_values().collect())
}

/// Adds a line.
pub(crate) fn append(file: &Path, outcome: &Outcome) -> io::Result<()> {
    let line = serde_json::to_string(outcome)? + "\n";
    File::options().create(true).append(true).open(file)?.write_all(line.as_bytes())
}
