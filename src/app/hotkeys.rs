//! `hotkeys`: the keys that carry a node's load, from a moment's watching or from a saved capture.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::{Instant, interval};

use super::AppError;
use crate::cli::{HotKeysArgs, HotKeysFormat};
use crate::config::{Config, Endpoint};
use crate::exit::ExitStatus;
use crate::hotkeys::analysis::Analysis;
use crate::hotkeys::capture::{capture, find};
use crate::hotkeys::commands::Commands;
use crate::hotkeys::input::{self, Input};
use crate::hotkeys::kinds::Kinds;
use crate::hotkeys::pattern::Patterns;
use crate::hotkeys::report::HotKeyReport;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Prints what is hot.
pub(super) async fn run(args: &HotKeysArgs, config: &Config) -> Result<ExitStatus, AppError> {
    let kinds = Kinds::new(config.hotkeys.kinds.clone());
    let (report, status) = match &args.from_file {
        Some(path) => from_file(path, &kinds).await?,
        None => (from_node(args, config, &kinds).await?, ExitStatus::Fine),
    };
    let text = match args.format {
        HotKeysFormat::Table => report.to_table(),
        HotKeysFormat::Json => serde_json::to_string_pretty(&report).map_err(io::Error::from)? + "\n",
        HotKeysFormat::Csv => report.to_csv().map_err(io::Error::other)?,
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(status)
}

async fn from_node(args: &HotKeysArgs, config: &Config, kinds: &Kinds) -> Result<HotKeyReport, AppError> {
    let endpoint = endpoint(args, config).await?;
    let show = io::stderr().is_terminal();
    let interrupted = async {
        // Without signals there is no early end.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let progress = |seconds: f64, accesses: u64| {
        if show {
            overwrite(&format!("{}: {accesses} accesses in {seconds:.1} s of watching", endpoint.node));
        }
    };
    let report = capture(&endpoint, args.duration, kinds, interrupted, progress).await;
    if show {
        overwrite("");
    }
    Ok(report?)
}

/// The node of a URL is the only one configured; one without a scheme is looked for among all nodes.
async fn endpoint(args: &HotKeysArgs, config: &Config) -> Result<Endpoint, AppError> {
    let Some(name) = args.node.as_ref().map(ExposeSecret::expose_secret) else { return Err(AppError::NoNode) };
    let found = if name.contains("://") {
        config.caches.iter().flat_map(|cache| cache.listed()).next().cloned()
    } else {
        find(config, name).await
    };
    found.ok_or(AppError::NoNode)
}

/// A capture that breaks off is reported as far as it goes; the status then says that something failed.
async fn from_file(path: &Path, kinds: &Kinds) -> Result<(HotKeyReport, ExitStatus), AppError> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let failed = |source| AppError::Capture { name: name.clone(), source };
    let input = Input::open(path).map_err(failed)?;
    let (read, size, begun) = (Arc::clone(&input.read), input.size, Instant::now());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut work = tokio::task::spawn_blocking(move || {
        let mut analysis = Analysis::new(Arc::new(Commands::built_in()), Patterns::default());
        let result = input::analyse(input, threads, &mut analysis);
        (analysis, result)
    });
    let (show, mut shows) = (io::stderr().is_terminal(), interval(SHOW_EVERY));
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = shows.tick(), if show => {
                let megabytes = read.load(Ordering::Relaxed) as f64 / 1e6;
                let of = size.map_or_else(String::new, |size| format!(" of {:.0}", size as f64 / 1e6));
                overwrite(&format!("read {megabytes:.0}{of} MB in {:.1} s", begun.elapsed().as_secs_f64()));
            }
        }
    };
    if show {
        overwrite("");
    }
    let (analysis, result) = done.map_err(|error| failed(io::Error::other(error)))?;
    let mut report = HotKeyReport::new(name, &analysis, analysis.seconds(), kinds);
    let status = match result {
        Ok(()) => ExitStatus::Fine,
        Err(error) => {
            report.warnings.push(format!("the capture breaks off: {error}"));
            ExitStatus::Failed
        }
    };
    report.advise();
    Ok((report, status))
}

/// Replaces the line on the terminal. Nobody is harmed if it is gone.
fn overwrite(text: &str) {
    drop(write!(io::stderr(), "\r\x1b[K{text}"));
}
