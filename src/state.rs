//! The state file: what the detectors remember, kept over a restart of the exporter.
//!
//! One JSON document, replaced as a whole, readable by its owner only. It is a help, never a need: a file that
//! cannot be used costs its content, a folder that cannot be written costs the next restart its memory, and each
//! costs one line in the log. Watching goes on.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::detect::CacheState;
use crate::events;
use crate::model::CacheName;

/// Raised with every change of what is written that an older release would misread.
const VERSION: u32 = 1;

/// Older than this a memory says too little of the present, seconds.
const AGE_MAX: f64 = 900.0;

/// A file may come from this far in the future, seconds: clocks are set back by a little now and then.
const FUTURE_MAX: f64 = 60.0;

/// Largest file read or left behind, bytes. A node takes up to 20 KB: this is more than ten thousand of them.
const BYTES_MAX: u64 = 256 << 20;

/// From one write to the next.
const INTERVAL: Duration = Duration::from_secs(30);

/// A change of severity is written at once, but not sooner than this after the last write.
const PAUSE: Duration = Duration::from_secs(5);

/// The last write has this long.
const LAST_WRITE_TIME_MAX: Duration = Duration::from_secs(2);

/// Memory of all caches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FleetState {
    version: u32,
    /// The moment it was taken: by the wall clock, Unix seconds …
    unix_seconds: f64,
    /// … and in detector time, which all times of the caches are in.
    detector_seconds: f64,
    /// By cache.
    pub caches: BTreeMap<CacheName, CacheState>,
}

/// What is read first: of another version nothing else can be relied on.
#[derive(Deserialize)]
struct Heading {
    version: u32,
}

/// Why a state file was not used or not written.
#[derive(Debug, Error)]
pub enum StateError {
    /// The operating system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Larger than any fleet's.
    #[error("is larger than {} MiB", BYTES_MAX >> 20)]
    TooLarge,
    /// Not what this program writes.
    #[error("is corrupt: {0}")]
    Corrupt(#[from] serde_json::Error),
    /// Written by another release.
    #[error("is of version {0}, expected {VERSION}: written by another release")]
    Version(u32),
    /// Too old.
    #[error("is {:.0} minutes old, expected at most {:.0}", .0 / 60.0, AGE_MAX / 60.0)]
    Old(f64),
    /// Not yet written, by our clock.
    #[error("comes from {:.0} s in the future: was the clock set back?", .0)]
    Future(f64),
}

impl FleetState {
    /// A memory taken now: `unix_seconds` by the wall clock, `detector_seconds` in detector time.
    #[must_use]
    pub fn new(unix_seconds: f64, detector_seconds: f64, caches: BTreeMap<CacheName, CacheState>) -> Self {
        Self { version: VERSION, unix_seconds, detector_seconds, caches }
    }

    /// Seconds since it was taken.
    #[must_use]
    pub fn age(&self, now_unix: f64) -> f64 {
        // Never below 0: detector time goes forward only, whatever was done to the wall clock.
        (now_unix - self.unix_seconds).max(0.0)
    }

    /// The present in its detector time. Going on in it keeps the times in it comparable even where the wall clock
    /// was set since that time began.
    #[must_use]
    pub fn detector_now(&self, now_unix: f64) -> f64 {
        self.detector_seconds + self.age(now_unix)
    }
}

/// Reads a state file; `None` where there is none yet.
///
/// # Errors
/// Whatever makes the file unusable: see [`StateError`].
pub fn read(path: &Path, now_unix: f64) -> Result<Option<FleetState>, StateError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(StateError::TooLarge);
    }
    let Heading { version } = serde_json::from_slice(&bytes)?;
    if version != VERSION {
        return Err(StateError::Version(version));
    }
    let state: FleetState = serde_json::from_slice(&bytes)?;
    match now_unix - state.unix_seconds {
        age if age > AGE_MAX => Err(StateError::Old(age)),
        age if age < -FUTURE_MAX => Err(StateError::Future(-age)),
        _ => Ok(Some(state)),
    }
}

/// As [`read`], for a start of the exporter: says in the log what came of it.
#[must_use]
pub fn resume(path: &Path, now_unix: f64) -> Option<FleetState> {
    read(path, now_unix)
        .inspect(|state| {
            if let Some(state) = state {
                events::state_resumed(path, state.caches.len(), state.age(now_unix));
            }
        })
        .unwrap_or_else(|error| {
            events::state_refused(path, &error);
            None
        })
}

/// Replaces a state file. Whoever reads, now or after a power cut, finds the old one or the new one, whole.
///
/// # Errors
/// What the operating system says; [`StateError::TooLarge`], leaving the old one in place.
pub fn write(path: &Path, state: &FleetState) -> Result<(), StateError> {
    let beside = beside(path);
    let written = fill(&beside, state).and_then(|()| Ok(fs::rename(&beside, path)?));
    if written.is_err() {
        // It may not even exist; the error that counts is the first one.
        fs::remove_file(&beside).unwrap_or_default();
    }
    written?;
    // Makes the new name last. Where folders cannot be synced, the file itself already is.
    File::open(folder(path)).and_then(|folder| folder.sync_all()).unwrap_or_default();
    Ok(())
}

fn fill(beside: &Path, state: &FleetState) -> Result<(), StateError> {
    let mut out = BufWriter::new(create(beside)?);
    serde_json::to_writer(&mut out, state).map_err(io::Error::from)?;
    out.flush()?;
    let file = out.get_ref();
    if file.metadata()?.len() > BYTES_MAX {
        return Err(StateError::TooLarge);
    }
    Ok(file.sync_all()?)
}

/// Whether the file could be written, without writing it.
fn probe(path: &Path) -> io::Result<()> {
    let beside = beside(path);
    create(&beside).and_then(|_| fs::remove_file(&beside))
}

/// A new file of nobody else's: what a crash left there is removed, a link is not followed.
fn create(beside: &Path) -> io::Result<File> {
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)
}

/// In the same folder: only within one file system is a rename atomic.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Keeps a state file up to date: every 30 s, soon after a change of severity, and at the end.
#[derive(Debug)]
pub struct Keeper {
    task: JoinHandle<Writer>,
    stop: CancellationToken,
}

impl Keeper {
    /// Starts writing what `export` gives, off the runtime's threads. `moved` tells of changes worth writing at
    /// once. A folder that cannot be written is told now, not in half a minute. Must be called within a runtime.
    #[must_use]
    pub fn start(path: PathBuf, moved: Arc<Notify>, export: impl Fn() -> FleetState + Send + Sync + 'static) -> Self {
        let mut writer = Writer { path, export: Export(Arc::new(export)), failing: false };
        writer.note(probe(&writer.path).map_err(StateError::from));
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(writer.run(moved, stop.clone())), stop }
    }

    /// Writes a last time, when everyone else has stopped; gives up after 2 s.
    pub async fn finish(self) {
        self.stop.cancel();
        let last_write = async {
            if let Ok(mut writer) = self.task.await {
                writer.write().await;
            }
        };
        // Given up, the file is the one before.
        timeout(LAST_WRITE_TIME_MAX, last_write).await.unwrap_or_default();
    }
}

#[derive(Clone)]
struct Export(Arc<dyn Fn() -> FleetState + Send + Sync>);

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Export")
    }
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    export: Export,
    /// The last attempt failed: told once, not every 30 s.
    failing: bool,
}

impl Writer {
    async fn run(mut self, moved: Arc<Notify>, stop: CancellationToken) -> Self {
        // Nothing has been written yet, so the first change of severity need not wait.
        let mut earliest = Instant::now();
        loop {
            let due = async {
                tokio::select! {
                    () = sleep(INTERVAL) => {}
                    () = moved.notified() => sleep_until(earliest).await,
                }
            };
            if stop.run_until_cancelled(due).await.is_none() {
                return self;
            }
            self.write().await;
            earliest = Instant::now() + PAUSE;
        }
    }

    async fn write(&mut self) {
        let (path, export) = (self.path.clone(), self.export.clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &(export.0)())).await;
        self.note(written.unwrap_or_else(|error| Err(io::Error::other(error).into())));
    }

    fn note(&mut self, outcome: Result<(), StateError>) {
        let failed = outcome.is_err();
        match outcome {
            Err(error) if !self.failing => events::state_unwritable(&self.path, &error),
            Ok(()) if self.failing => events::state_writable_again(&self.path),
            _ => {}
        }
        self.failing = failed;
    }
}

#[cfg(test)]
mod tests;
