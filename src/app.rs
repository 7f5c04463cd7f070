//! Wiring: reads the configuration and hands each command what it needs. No logic of its own.

mod ask;
mod demo;
mod hotkeys;
mod live;
mod report;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::check;
use crate::cli::{CheckArgs, Command, Common, LogFormat, ReplayArgs};
use crate::config::{self, Config, ConfigErrors, Overrides};
use crate::exit::ExitStatus;
use crate::hotkeys::watch::Obstacle;
use crate::replay::{Recording, ReplayError};

/// Time that threads stuck in a name look-up get at the end.
const THREADS_TIME_MAX: Duration = Duration::from_millis(100);

/// Why a command could not do its work.
#[derive(Debug, Error)]
pub enum AppError {
    /// The configuration is faulty.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The runtime could not start.
    #[error("start runtime: {0}")]
    Runtime(std::io::Error),
    /// Nobody can be served.
    #[error("listen on {address}: {source}; choose another address with --listen or `listen`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Serving broke off.
    #[error("serve HTTP: {0}")]
    Serve(std::io::Error),
    /// The embedded fleet found no port.
    #[error("start embedded fleet on 127.0.0.1: {0}")]
    Fleet(std::io::Error),
    /// The exporter's own metrics are faulty.
    #[error("register own metrics: {0}")]
    Metrics(#[from] crate::metrics::RegisterError),
    /// Signals cannot be listened to.
    #[error("listen to signals: {0}")]
    Signals(std::io::Error),
    /// No exporter can be asked there.
    #[error("the --url given is no address of an exporter; expected http://HOST:9736, https:// is not spoken")]
    NoUrl,
    /// A running exporter did not answer, or not as one.
    #[error("ask {whom} {what}: {reason}; expected a running exporter, as http://HOST:9736")]
    Ask {
        /// Host and port.
        whom: String,
        /// What was asked: "for its report".
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// A recording was refused.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A node could not be watched.
    #[error("watch for hot keys: {0}")]
    Watch(#[from] Obstacle),
    /// The node to watch is none of the configured.
    #[error(
        "the --node given is none of the configured caches; expected HOST:PORT as listed or discovered, or redis://HOST:PORT"
    )]
    NoNode,
    /// A capture cannot be read.
    #[error("read capture {name}: {source}")]
    Capture {
        /// Its name.
        name: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The result cannot be written.
    #[error("write result: {0}")]
    Output(#[from] std::io::Error),
}

impl AppError {
    fn status(&self) -> ExitStatus {
        match self {
            Self::Config(_) => ExitStatus::Config,
            Self::Ask { .. } => ExitStatus::Unreachable,
            Self::Watch(Obstacle::Wire(error)) if !error.reason.answered() => ExitStatus::Unreachable,
            Self::NoNode | Self::NoUrl => ExitStatus::Usage,
            _ => ExitStatus::Failed,
        }
    }
}

/// Runs a command to its end.
#[must_use]
pub fn run(command: Command) -> ExitStatus {
    let format = command.common().log_format;
    let result = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(AppError::Runtime).and_then(
        |runtime| {
            let result = runtime.block_on(dispatch(command));
            runtime.shutdown_timeout(THREADS_TIME_MAX);
            result
        },
    );
    result.unwrap_or_else(|error| {
        complain(format, &error);
        error.status()
    })
}

async fn dispatch(command: Command) -> Result<ExitStatus, AppError> {
    let overrides = command.overrides();
    match command {
        Command::Serve(args) => {
            let config = configure(&args.common, &overrides)?;
            let again = move || configure(&args.common, &overrides);
            live::run(config, args.web.enable_lifecycle, None, again).await
        }
        Command::Demo(args) => {
            let base = configure(&args.common, &overrides)?;
            demo::run(&args, base).await
        }
        // A running exporter has its own configuration; ours would only stand in the way.
        Command::Check(CheckArgs { url: Some(url), .. }) => {
            let answer = ask::get(&url, "-/ready", "whether it is ready").await?;
            std::io::stdout().lock().write_all(answer.as_bytes())?;
            Ok(ExitStatus::Fine)
        }
        Command::Check(args) => {
            let config = configure(&args.common, &overrides)?;
            let (text, status) = check::check(&config).await;
            std::io::stdout().lock().write_all(text.as_bytes())?;
            Ok(status)
        }
        Command::Report(args) if args.url.is_some() => report::run(&args, None).await,
        Command::Report(args) => {
            let config = configure(&args.common, &overrides)?;
            report::run(&args, Some(config)).await
        }
        Command::Hotkeys(args) => {
            let config = configure(&args.common, &overrides)?;
            hotkeys::run(&args, &config).await
        }
        Command::Replay(args) => {
            let config = configure(&args.common, &overrides)?;
            replay(&args, &config)
        }
    }
}

/// Every file is read before the first verdict: a bad one among many must not show after minutes of output.
fn replay(args: &ReplayArgs, config: &Config) -> Result<ExitStatus, AppError> {
    let recordings = args.files.iter().map(|file| Recording::open(file)).collect::<Result<Vec<_>, _>>()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for mut recording in recordings {
        if let Some(every) = args.every {
            recording.thin(every);
        }
        let mut settings = config.recording_settings(&recording.cache);
        settings.timing.time_scale = args.time_scale.unwrap_or(settings.timing.time_scale);
        recording.run(settings, &mut out)?;
    }
    out.flush()?;
    Ok(ExitStatus::Fine)
}

/// Reads the configuration that a command line asks for; again at every reload.
///
/// # Errors
/// Every fault of every layer.
pub fn configure(common: &Common, overrides: &Overrides) -> Result<Config, ConfigErrors> {
    config::load(common.config.as_deref(), overrides, config::environment())
}

/// One line per fault: bare for people, events where every line must be an object.
fn complain(format: LogFormat, error: &AppError) {
    for line in error.to_string().lines() {
        match format {
            // Nobody is left to tell if stderr is gone.
            LogFormat::Text => drop(writeln!(std::io::stderr(), "{line}")),
            LogFormat::Json => tracing::error!("{line}"),
        }
    }
}
