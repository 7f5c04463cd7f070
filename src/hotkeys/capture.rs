//! A running node, watched for a while in short, safe moments: the command `hotkeys --node`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::analysis::Analysis;
use super::commands::Commands;
use super::kinds::Kinds;
use super::pattern::Patterns;
use super::report::{Hits, HotKeyReport};
use super::specs;
use super::watch::{self, DEADLINE, Obstacle};
use crate::config::{Config, Endpoint};
use crate::discover;
use crate::model::SampleResult;
use crate::parse::{Info, Sample};
use crate::wire::{Connection, PollError, TlsStore};

/// From one moment to the next: a node is watched for at most one second in five.
const CYCLE: Duration = Duration::from_secs(5);

/// The node of this name among those of the configured caches, as listed or as found now.
pub async fn find(config: &Config, name: &str) -> Option<Endpoint> {
    let tls = TlsStore::default();
    for cache in &config.caches {
        let look = discover::look(cache, &config.discovery, config.poll.timeout, &tls, None).await;
        let mut members = look.set.into_iter().flat_map(|set| set.members);
        if let Some(member) = members.find(|member| member.endpoint.node.as_str() == name) {
            return Some(member.endpoint);
        }
    }
    None
}

/// Watches `endpoint` until `end`, or until `stop` is ready. `progress` is told the seconds watched and the accesses
/// seen so far.
///
/// # Errors
/// A node that cannot be asked, refuses to be watched, or could bear it at no time.
pub async fn capture(
    endpoint: &Endpoint,
    duration: Duration,
    kinds: &Kinds,
    stop: impl Future<Output = ()>,
    mut progress: impl FnMut(f64, u64),
) -> Result<HotKeyReport, Obstacle> {
    let (tls, begun) = (TlsStore::default(), Instant::now());
    let mut connection = Connection::open(endpoint, &tls, begun + DEADLINE).await?;
    let before = connection.info(Instant::now() + DEADLINE).await?;
    let (commands, mut warnings) = commands(&mut connection).await?;
    drop(connection);
    let mut analysis = Analysis::new(Arc::new(commands), Patterns::default());
    let (mut watched, mut obstacle) = (0.0, None);
    tokio::pin!(stop);
    for cycle in 0.. {
        match watch::watch(endpoint, &tls, 0.0, &mut analysis).await {
            Ok(cost) => watched += cost.seconds,
            Err(refusal) if refusal.result() == SampleResult::Refused => return Err(refusal),
            Err(passing) => obstacle = Some(passing),
        }
        progress(watched, analysis.keys_seen().total());
        let next = begun + CYCLE * (cycle + 1);
        if next >= begun + duration {
            break;
        }
        tokio::select! {
            () = sleep_until(next) => {}
            () = &mut stop => break,
        }
    }
    if let Some(obstacle) = obstacle {
        if watched == 0.0 {
            return Err(obstacle);
        }
        warnings.push(format!("at times it was not watched: {obstacle}"));
    }
    let mut connection = Connection::open(endpoint, &tls, Instant::now() + DEADLINE).await?;
    let after = connection.info(Instant::now() + DEADLINE).await?;
    let seconds = (watched > 0.0).then_some(watched);
    let mut report = HotKeyReport::new(endpoint.node.to_string(), &analysis, seconds, kinds);
    report.hits = hits(&before.text, &after.text, begun.elapsed().as_secs_f64());
    if let Err(error) = sizes(&mut connection, &analysis, &mut report).await {
        warnings.push(format!("sizes are unknown: {}", error.detail));
    }
    report.warnings = warnings;
    report.advise();
    Ok(report)
}

/// The server's own table of commands over ours; with a warning where it does not tell.
async fn commands(connection: &mut Connection) -> Result<(Commands, Vec<String>), PollError> {
    let mut commands = Commands::built_in();
    let reply = connection.call(&["COMMAND"], Instant::now() + DEADLINE).await;
    let warnings = match reply {
        Ok(reply) => {
            specs::adopt(&mut commands, &reply);
            Vec::new()
        }
        Err(error) if error.reason == crate::model::FailureReason::NoPerm => {
            vec!["the server does not tell its commands; keys are found by the built-in table".to_owned()]
        }
        Err(error) => return Err(error),
    };
    Ok((commands, warnings))
}

/// Asks for the memory of every key shown: `MEMORY USAGE` is no lookup, and leaves the hit ratio as it is.
async fn sizes(connection: &mut Connection, analysis: &Analysis, report: &mut HotKeyReport) -> Result<(), PollError> {
    for (row, watched) in report.keys.iter_mut().zip(analysis.keys_seen().top(super::report::SHOWN)) {
        // Keys that are no text cannot be asked for.
        let Ok(key) = std::str::from_utf8(&watched.key) else { continue };
        let reply = connection.call(&["MEMORY", "USAGE", key], Instant::now() + DEADLINE).await?;
        row.memory_bytes = reply.integer().and_then(|bytes| u64::try_from(bytes).ok());
    }
    Ok(())
}

/// What the server's counters say of the time between two `INFO`; nothing if it restarted or forgot them meanwhile.
fn hits(before: &str, after: &str, seconds: f64) -> Option<Hits> {
    let [before, after] = [before, after].map(|text| Sample::from_info(&Info::parse(text)));
    if before.run_id != after.run_id {
        return None;
    }
    let grown = |field: fn(&Sample) -> Option<u64>| field(&after)?.checked_sub(field(&before)?);
    let (hits, misses) = (grown(|sample| sample.hits)?, grown(|sample| sample.misses)?);
    let lookups = hits + misses;
    Some(Hits {
        seconds,
        hits,
        misses,
        hit_ratio: (lookups > 0).then(|| hits as f64 / lookups as f64),
        commands: grown(|sample| sample.commands)?,
        expired_keys: grown(|sample| sample.expired)?,
        evicted_keys: grown(|sample| sample.evicted)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "run_id:a\r\nkeyspace_hits:10\r\nkeyspace_misses:5\r\ntotal_commands_processed:100\r\n\
        expired_keys:1\r\nevicted_keys:0\r\n";

    #[test]
    fn hits_are_those_of_the_capture() {
        let after = BEFORE.replace("hits:10", "hits:40").replace("misses:5", "misses:15");
        let found = hits(BEFORE, &after, 2.0).unwrap();
        assert_eq!((found.hits, found.misses, found.hit_ratio, found.evicted_keys), (30, 10, Some(0.75), 0));
        assert_eq!(hits(BEFORE, BEFORE, 2.0).unwrap().hit_ratio, None);
        assert!(hits(BEFORE, &after.replace("run_id:a", "run_id:b"), 2.0).is_none());
        assert!(hits(&after, BEFORE, 2.0).is_none(), "RESETSTAT in between");
    }
}
