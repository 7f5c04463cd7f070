//! Wiring: reads the configuration and hands each command what it needs. No logic of its own.

use std::io::Write;

use thiserror::Error;

use crate::cli::{CheckArgs, Command, Common, DemoArgs, LogFormat, ReplayArgs, ReportArgs, ServeArgs};
use crate::config::{self, Config, ConfigErrors, Overrides};
use crate::exit::ExitStatus;

/// Why a command could not do its work.
#[derive(Debug, Error)]
pub enum AppError {
    /// The configuration is faulty.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The runtime could not start.
    #[error("start runtime: {0}")]
    Runtime(std::io::Error),
    /// The command is not there yet.
    #[error("{0} is not supported in this release")]
    Unsupported(&'static str),
}

impl AppError {
    fn status(&self) -> ExitStatus {
        match self {
            Self::Config(_) => ExitStatus::Config,
            Self::Runtime(_) | Self::Unsupported(_) => ExitStatus::Failed,
        }
    }
}

/// Runs a command to its end.
#[must_use]
pub fn run(command: Command) -> ExitStatus {
    let format = command.common().log_format;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(AppError::Runtime);
    runtime.and_then(|runtime| runtime.block_on(dispatch(command))).unwrap_or_else(|error| {
        complain(format, &error);
        error.status()
    })
}

async fn dispatch(command: Command) -> Result<ExitStatus, AppError> {
    let overrides = command.overrides();
    match command {
        Command::Serve(args) => {
            let config = configure(&args.common, &overrides)?;
            serve(args, config).await
        }
        Command::Demo(args) => {
            let config = configure(&args.common, &overrides)?;
            demo(args, config).await
        }
        Command::Check(args) => {
            let config = configure(&args.common, &overrides)?;
            check(args, config).await
        }
        // A running exporter has its own configuration; ours would only stand in the way.
        Command::Report(args) if args.url.is_some() => report(args, None).await,
        Command::Report(args) => {
            let config = configure(&args.common, &overrides)?;
            report(args, Some(config)).await
        }
        Command::Replay(args) => {
            let config = configure(&args.common, &overrides)?;
            replay(args, config).await
        }
    }
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

/// Polls the configured caches and serves what it sees, until told to stop.
///
/// # Errors
/// What kept it from starting.
pub async fn serve(_args: ServeArgs, _config: Config) -> Result<ExitStatus, AppError> {
    Err(AppError::Unsupported("serve"))
}

/// Serves an embedded fleet on which storms break out.
///
/// # Errors
/// What kept it from starting.
pub async fn demo(_args: DemoArgs, _config: Config) -> Result<ExitStatus, AppError> {
    Err(AppError::Unsupported("demo"))
}

/// Looks at every node once and says what it can give.
///
/// # Errors
/// What kept it from looking; a node that is not usable is no error but a status.
pub async fn check(_args: CheckArgs, _config: Config) -> Result<ExitStatus, AppError> {
    Err(AppError::Unsupported("check"))
}

/// Prints the report of a running exporter, or of its own sampling if it is given a configuration.
///
/// # Errors
/// What kept it from reporting.
pub async fn report(_args: ReportArgs, _config: Option<Config>) -> Result<ExitStatus, AppError> {
    Err(AppError::Unsupported("report"))
}

/// Judges recorded samples.
///
/// # Errors
/// What kept it from reading them.
pub async fn replay(_args: ReplayArgs, _config: Config) -> Result<ExitStatus, AppError> {
    Err(AppError::Unsupported("replay"))
}
