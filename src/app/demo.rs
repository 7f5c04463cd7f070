//! `demo`: the exporter on an embedded fleet, so that a newcomer sees storms without a Redis.

use std::sync::Arc;
use std::time::Duration;

use super::AppError;
use super::live;
use crate::cli::DemoArgs;
use crate::config::{CacheConfig, Config, Poll, Source};
use crate::exit::ExitStatus;
use crate::sim::fleet::Fleet;
use crate::sim::schedule::Schedule;

/// Pace of the demo's polls.
const INTERVAL: Duration = Duration::from_secs(1);

/// Durations of detection are divided by this: a storm of half a minute then passes through every stage.
const TIME_SCALE: f64 = 5.0;

/// Serves the embedded fleet with the thresholds and the address of `base`, until told to stop.
pub(super) async fn run(args: &DemoArgs, base: Config) -> Result<ExitStatus, AppError> {
    let fleet = Fleet::demo(args.nodes_per_cache.into(), args.seed).await.map_err(AppError::Fleet)?;
    let config = embedded(base, &fleet);
    let schedule = Schedule { program: args.storm, first: args.first_storm, every: args.every, seed: args.seed };
    let notice = format!(
        "Demo: an embedded fleet, no Redis. Polls every second; all detection times are divided by {TIME_SCALE}."
    );
    tracing::info!(storms = ?args.storm, "{notice}");
    let again = config.clone();
    let storms = async {
        schedule.run(&fleet).await;
        // A quiet demo goes on.
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        status = live::run(config, false, Some(notice), || Ok(again.clone())) => status,
        () = storms => Ok(ExitStatus::Fine),
    };
    fleet.shutdown().await;
    status
}

fn embedded(base: Config, fleet: &Fleet) -> Config {
    let poll = Poll { interval: INTERVAL, timeout: INTERVAL / 2 };
    // A demo must not write over what a real fleet is remembered by.
    let mut config = Config { poll, state_file: None, ..base };
    config.timing.time_scale = TIME_SCALE;
    let cache = |(name, nodes)| {
        Arc::new(CacheConfig {
            name,
            source: Source::Nodes(nodes),
            access: Default::default(),
            thresholds: Arc::clone(&config.thresholds),
            severity_mode: Default::default(),
            shard: None,
        })
    };
    config.caches = fleet.endpoints().into_iter().map(cache).collect();
    config
}
