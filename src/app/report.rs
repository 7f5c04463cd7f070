//! `report`: what a running exporter says, or what a minute of sampling here shows.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{AppError, ask};
use crate::cli::{ReportArgs, ReportFormat};
use crate::config::{Config, Poll};
use crate::exit::ExitStatus;
use crate::model::Severity;
use crate::poll::{FleetPoller, wall_unix_seconds};
use crate::publish::Publisher;
use crate::report::Report;

/// Pace of sampling: a minute holds enough polls for windows and, at the end, a first baseline.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);

/// Time for a first round: nodes may have to be found, rounds begin within one interval, and take as long at most.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(3 * SAMPLE_INTERVAL.as_secs());

/// From one look whether it has closed to the next.
const READY_PAUSE: Duration = Duration::from_millis(50);

/// Prints the report; the exit code is the worst severity.
pub(super) async fn run(args: &ReportArgs, config: Option<Config>) -> Result<ExitStatus, AppError> {
    let report = match (&args.url, config) {
        (Some(url), _) => ask(url).await?,
        (None, Some(config)) => sample(config, args.sample_for).await,
        (None, None) => return Ok(ExitStatus::Usage),
    };
    let text = match args.format {
        ReportFormat::Table => report.to_table(),
        ReportFormat::Json => serde_json::to_string_pretty(&report).map_err(std::io::Error::from)? + "\n",
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    let nodes = || report.caches.iter().flat_map(|cache| &cache.nodes);
    if nodes().count() > 0 && nodes().all(|node| !node.up) && report.severity == 0 {
        return Ok(ExitStatus::Unreachable);
    }
    let worst = Severity::ALL.iter().find(|severity| severity.ordinal() == report.exit_code());
    Ok(ExitStatus::Severity(worst.copied().unwrap_or(Severity::Critical)))
}

async fn ask(url: &str) -> Result<Report, AppError> {
    const WHAT: &str = "for its report";
    let body = ask::get(url, "api/v1/report", WHAT).await?;
    serde_json::from_str(&body).map_err(|error| AppError::Ask {
        whom: ask::whom(url),
        what: WHAT,
        reason: format!("its report cannot be read: {error}"),
    })
}

/// Samples the configured nodes for a while. A verdict after a minute rests on borrowed baselines at best.
async fn sample(mut config: Config, time: Duration) -> Report {
    config.poll = Poll { interval: SAMPLE_INTERVAL, timeout: config.poll.timeout.min(SAMPLE_INTERVAL) };
    let (publisher, stop) = (Arc::new(Publisher::default()), CancellationToken::new());
    let poller = FleetPoller::start(&config, Arc::clone(&publisher), &stop);
    tokio::time::sleep(time).await;
    // However short the time is: without a first round there is nothing to report.
    let deadline = Instant::now() + FIRST_ROUND_MAX;
    while !publisher.fleet().ready() && Instant::now() < deadline {
        tokio::time::sleep(READY_PAUSE).await;
    }
    poller.stop().await;
    let mut report = Report::new(&publisher.fleet(), wall_unix_seconds());
    for cache in &mut report.caches {
        cache.provisional = true;
    }
    report
}
