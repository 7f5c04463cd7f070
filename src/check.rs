//! `check`: asks every node once and says what it can give.

use std::fmt::Write as _;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::config::{Config, Endpoint};
use crate::exit::ExitStatus;
use crate::model::{FailureReason, Role};
use crate::parse::{Info, Sample};
use crate::wire::{Connection, PollError, TlsStore};

/// Looks at every node of every cache. The text is for people; the status is 1 where a node is not usable and 69
/// where none can be reached.
pub async fn check(config: &Config) -> (String, ExitStatus) {
    let (tls, mut text) = (TlsStore::default(), String::new());
    let (mut nodes, mut unusable, mut unreached) = (0, 0, 0);
    for cache in &config.caches {
        let deadline = Instant::now() + config.poll.timeout;
        let answers = join_all(cache.nodes.iter().map(|endpoint| look(endpoint, &tls, deadline))).await;
        line(&mut text, format_args!("{}", cache.name));
        for (endpoint, answer) in cache.nodes.iter().zip(answers) {
            nodes += 1;
            match answer {
                Ok(sample) => line(&mut text, format_args!("  {}  {}", endpoint.node, describe(&sample))),
                Err(error) => {
                    unusable += 1;
                    unreached += usize::from(!answered(error.reason));
                    line(
                        &mut text,
                        format_args!("  {}  NOT USABLE ({}): {}", endpoint.node, error.reason, error.detail),
                    );
                }
            }
        }
    }
    let status = match (unusable, unreached) {
        (0, _) => ExitStatus::Fine,
        (_, unreached) if unreached == nodes => ExitStatus::Unreachable,
        _ => ExitStatus::Failed,
    };
    line(&mut text, format_args!("{} of {nodes} nodes usable", nodes - unusable));
    (text, status)
}

async fn look(endpoint: &Endpoint, tls: &TlsStore, deadline: Instant) -> Result<Sample, PollError> {
    let reply = Connection::open(endpoint, tls, deadline).await?.info(deadline).await?;
    Ok(Sample::from_info(&Info::parse(&reply.text)))
}

/// A refusal that only a server can give.
pub(crate) fn answered(reason: FailureReason) -> bool {
    use FailureReason::{Auth, Busy, Loading, MaxClients, NoPerm, TooLarge};
    matches!(reason, Auth | Busy | Loading | MaxClients | NoPerm | TooLarge)
}

/// Who it is, and which signals it gives or withholds and why.
fn describe(sample: &Sample) -> String {
    let role = sample.role.map_or("role unknown", Role::as_str);
    let flavor = sample.flavor.map_or("server", |flavor| flavor.as_str());
    let version = sample.version.as_deref().unwrap_or("of unknown version");
    let mut text = format!("ok: {role}, {flavor} {version}{}", if sample.loading { ", loading" } else { "" });
    let mut signal = |name: &str, given: bool, why_not: &str| {
        let rest = if given { name.to_owned() } else { format!("no {name} ({why_not})") };
        text.push_str("; ");
        text.push_str(&rest);
    };
    if sample.role == Some(Role::Sentinel) {
        signal("cache signals", false, "a Sentinel holds no keys");
        return text;
    }
    let quiet = sample.lookups() == Some(0);
    signal("hit ratio", sample.lookups().is_some() && !quiet, if quiet { "no lookups yet" } else { "not reported" });
    signal("key balance", sample.set_calls.is_some(), "`INFO commandstats` is empty or not permitted");
    signal("refused writes", sample.oom_errors.is_some(), "`INFO errorstats` is not reported");
    signal("memory share", sample.memory_used_ratio().is_some(), "maxmemory is 0");
    if sample.role == Some(Role::Replica) {
        signal("replication lag", sample.replica_offset_bytes.is_some(), "no offset reported");
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
}
