//! A file of targets in Prometheus' `file_sd` JSON: `[{"targets": ["10.0.0.1:6379"], "labels": {}}]`.

use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use super::Found;
use crate::model::target;

/// Largest file read, bytes: ten thousand targets take half a megabyte.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Labels are other programs' business.
#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
}

/// Reads the file. Blocks.
pub(super) fn read(path: &Path) -> Result<Vec<Found>, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    parse(&text)
}

/// When the file was last written, and how long it is: whether to read it again. Blocks.
pub(super) fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn parse(text: &str) -> Result<Vec<Found>, String> {
    let groups: Vec<Group> = serde_json::from_str(text)
        .map_err(|error| format!("is no JSON of the form [{{\"targets\": [\"HOST:PORT\"]}}]: {error}"))?;
    let targets = groups.into_iter().flat_map(|group| group.targets);
    Ok(targets.map(|target| found(&target)).collect())
}

/// What cannot be read keeps its text as a host: it is refused and counted with the other hosts that are none.
fn found(text: &str) -> Found {
    let (host, port) = target(text).unwrap_or((text, 0));
    Found { host: host.to_owned(), port, role: None, shard: None, id: None, slots: None }
}
