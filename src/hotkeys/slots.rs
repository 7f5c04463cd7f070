//! Which of a cluster's nodes to look at first: how much of a node's work is one slot's, by `CLUSTER SLOT-STATS`.
//!
//! A hot key's load is in one slot, so the node whose hottest slot has the largest share is the one to sample. The
//! reverse is no proof: only the slots with the most work since the server's start are asked for, as a list of all
//! of them takes a server milliseconds.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::watch::DEADLINE;
use crate::config::Endpoint;
use crate::model::{FailureReason, Flavor};
use crate::parse::info::Parts;
use crate::parse::{Info, Sample};
use crate::wire::{Connection, PollError, Reply, TlsStore};

/// How long the slots are looked at.
const TIME: Duration = Duration::from_millis(250);

/// The busiest slots, and in the same moment what all commands took.
const QUESTIONS: [&[&str]; 2] =
    [&["CLUSTER", "SLOT-STATS", "ORDERBY", "cpu-usec", "LIMIT", "100", "DESC"], &["INFO", "commandstats"]];

/// Commands of a poll or of this question, which belong to no slot: at little load they would be most of it.
const OWN: [&str; 4] = ["info", "cluster|", "client|", "auth"];

/// Less work than this in [`TIME`] says nothing. Microseconds.
const WORK_MIN: f64 = 100.0;

/// What all slots and the busiest ones had worked at one moment, microseconds.
#[derive(Debug)]
struct Work {
    all: f64,
    slots: HashMap<i64, f64>,
}

/// Whether the server has the command, by its version.
pub(super) fn are_offered(sample: &Sample) -> bool {
    match sample.flavor {
        Some(Flavor::Redis) => sample.version_number() >= (8, 2),
        Some(Flavor::Valkey) => sample.version_number() >= (8, 0),
        None => false,
    }
}

/// The share of the CPU time of all commands that the hottest slot takes at present; `None` where too little happens
/// to tell.
///
/// # Errors
/// `protocol` for a server that is no cluster or does not measure slots (`cluster-slot-stats-enabled`), `noperm` where
/// the question is not permitted, else what is wrong with the connection.
pub(super) async fn hottest_share(endpoint: &Endpoint, tls: &TlsStore) -> Result<Option<f64>, PollError> {
    let mut connection = Connection::open(endpoint, tls, Instant::now() + DEADLINE).await?;
    let before = ask(&mut connection).await?;
    sleep(TIME).await;
    let after = ask(&mut connection).await?;
    Ok(share(&before, &after))
}

/// Whether an error means that the node will never answer, as it is.
pub(super) fn is_refusal(error: &PollError) -> bool {
    matches!(error.reason, FailureReason::Protocol | FailureReason::NoPerm)
}

async fn ask(connection: &mut Connection) -> Result<Work, PollError> {
    let replies = connection.ask(&QUESTIONS, Instant::now() + DEADLINE).await?;
    for (question, reply) in QUESTIONS.iter().zip(&replies) {
        if let Reply::Error { code, text } = reply {
            return Err(connection.refusal(question, code, text));
        }
    }
    Ok(read(&replies))
}

/// Slots come as `[slot, [name, value, …]]`.
fn read(replies: &[Reply]) -> Work {
    let [slots, commands, ..] = replies else { return Work { all: 0.0, slots: HashMap::new() } };
    let slot = |reply: &Reply| match reply.items() {
        [slot, figures, ..] => Some((slot.integer()?, figures.field("cpu-usec")?.integer()? as f64)),
        _ => None,
    };
    let info = Info::parse(commands.text().unwrap_or_default());
    let commands = info.with_prefix("cmdstat_").filter(|(name, _)| !OWN.iter().any(|own| name.starts_with(own)));
    Work {
        all: commands.filter_map(|(_, value)| Parts(value).number("usec")).sum(),
        slots: slots.items().iter().filter_map(slot).collect(),
    }
}

fn share(before: &Work, after: &Work) -> Option<f64> {
    // A slot that was not among the busiest had worked no more than the last of them.
    let unseen = before.slots.values().copied().reduce(f64::min).unwrap_or(0.0);
    let worked = |(slot, now): (&i64, &f64)| now - before.slots.get(slot).unwrap_or(&unseen);
    let most = after.slots.iter().map(worked).reduce(f64::max)?;
    let all = after.all - before.all;
    (all >= WORK_MIN).then(|| (most / all).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::scripted::{Script, ScriptedServer, bulk};

    /// As Valkey 9.1.2 answers.
    fn slots(work: &[(i64, i64)]) -> Reply {
        let figures = |usec| {
            let names = ["key-count", "cpu-usec", "network-bytes-in", "network-bytes-out"];
            let values = [1, usec, 127, 40].map(Reply::Integer);
            let pairs = names.into_iter().zip(values);
            Reply::Array(pairs.flat_map(|(name, value)| [Reply::Text(name.to_owned()), value]).collect())
        };
        Reply::Array(
            work.iter().map(|(slot, usec)| Reply::Array(vec![Reply::Integer(*slot), figures(*usec)])).collect(),
        )
    }

    fn work(slot_work: &[(i64, i64)], get: u64) -> Work {
        let commands = format!(
            "# Commandstats\r\ncmdstat_get:calls=10,usec={get},usec_per_call=1.00\r\n\
             cmdstat_cluster|slot-stats:calls=62,usec=689066,usec_per_call=11113.97\r\ncmdstat_info:calls=3,usec=900\r\n"
        );
        read(&[slots(slot_work), Reply::Text(commands)])
    }

    #[test]
    fn the_share_is_of_what_was_worked_meanwhile() {
        let before = work(&[(7, 9_000), (15_495, 5_000)], 100_000);
        for (after, expected) in [
            (work(&[(7, 9_100), (15_495, 5_600)], 101_000), Some(0.6)),
            (work(&[(15_495, 16_000), (7, 9_000)], 101_000), Some(1.0)),
            // New among the busiest: at least what it is above the last of them.
            (work(&[(7, 9_000), (99, 5_400)], 101_000), Some(0.4)),
            // The server's counters were reset.
            (work(&[(7, 1), (15_495, 1)], 2), None),
            (work(&[(7, 9_000), (15_495, 5_099)], 100_099), None),
            (work(&[], 101_000), None),
        ] {
            assert_eq!(share(&before, &after), expected, "{after:?}");
        }
    }

    #[test]
    fn the_command_is_there_from_redis_8_2_and_valkey_8_0_on() {
        for (flavor, version, expected) in [
            (Flavor::Redis, "8.2.0", true),
            (Flavor::Redis, "8.0.6", false),
            (Flavor::Redis, "7.4.9", false),
            (Flavor::Valkey, "8.0.0", true),
            (Flavor::Valkey, "9.1.2", true),
            (Flavor::Valkey, "7.2.4", false),
        ] {
            let sample = Sample { flavor: Some(flavor), version: Some(version.into()), ..Sample::default() };
            assert_eq!(are_offered(&sample), expected, "{flavor:?} {version}");
        }
    }

    /// As Redis and Valkey word it: an older server, one without a cluster, one that measures no CPU, a user without the
    /// right.
    #[tokio::test]
    async fn a_server_that_does_not_measure_slots_refuses() {
        for refusal in [
            "-ERR unknown subcommand 'slot-stats'. Try CLUSTER HELP.\r\n",
            "-ERR This instance has cluster support disabled\r\n",
            "-ERR Unrecognized sort metric for ORDERBY.\r\n",
            "-NOPERM User x has no permissions to run the 'cluster|slot-stats' command\r\n",
        ] {
            let script =
                Script { others: Some(refusal.to_owned()), commandstats: bulk("a:1\r\n"), ..Script::default() };
            let server = ScriptedServer::start(script).await;
            let error = hottest_share(&server.endpoint(), &TlsStore::default()).await.unwrap_err();
            assert!(is_refusal(&error), "{error}");
        }
    }
}
