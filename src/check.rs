//! `check`: asks every node once and says what it can give.

use std::fmt::Write as _;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::config::{Config, Endpoint};
use crate::discover::{self, Look, Member, NodeSet};
use crate::exit::ExitStatus;
use crate::model::{FailureReason, Role};
use crate::parse::{Info, Sample};
use crate::wire::{Connection, PollError, TlsStore};

/// Looks at every node of every cache. The text is for people; the status is 1 where a node is not usable and 69
/// where none can be reached.
pub async fn check(config: &Config) -> (String, ExitStatus) {
    let (tls, mut text) = (TlsStore::default(), String::new());
    let mut count = Count::default();
    for cache in &config.caches {
        line(&mut text, format_args!("{}", cache.name));
        let timeout = config.poll.timeout;
        let Look { set, faults, answered, refused } =
            discover::look(cache, &config.discovery, timeout, &tls, None).await;
        for fault in faults {
            line(&mut text, format_args!("  MISSING: {fault}"));
        }
        for (node, reason) in refused {
            line(
                &mut text,
                format_args!("  {node}  NOT POLLED ({reason}): see discovery.allow and discovery.max_nodes"),
            );
        }
        let Some(NodeSet { members, sentinels }) = set else {
            line(&mut text, format_args!("  NO NODES: nobody could say which there are"));
            count.add_unusable(answered);
            continue;
        };
        let deadline = Instant::now() + timeout;
        let ask = |member: Member| {
            let tls = &tls;
            async move { (look(&member.endpoint, tls, deadline).await, member) }
        };
        let mut nodes = join_all(members.into_iter().map(ask)).await;
        // Shard by shard, the master above its replicas; as listed where there are none.
        nodes.sort_by_cached_key(|(answer, member)| (member.place.shard.clone(), is_replica(answer, member)));
        for shard in nodes.chunk_by(|(_, one), (_, other)| one.place.shard == other.place.shard) {
            describe_shard(&mut text, shard);
        }
        nodes.into_iter().for_each(|(answer, _)| count.add(answer.map(drop).map_err(|error| error.reason)));
        for (answer, member) in join_all(sentinels.into_iter().map(ask)).await {
            describe_node(&mut text, "  ", &member, &answer);
            count.add(answer.map(drop).map_err(|error| error.reason));
        }
    }
    line(&mut text, format_args!("{} of {} nodes usable", count.nodes - count.unusable, count.nodes));
    (text, count.status())
}

/// How many there are, and how they fare.
#[derive(Debug, Default)]
struct Count {
    nodes: usize,
    unusable: usize,
    unreached: usize,
}

impl Count {
    fn add(&mut self, answer: Result<(), FailureReason>) {
        match answer {
            Ok(()) => self.nodes += 1,
            Err(reason) => self.add_unusable(reason.answered()),
        }
    }

    fn add_unusable(&mut self, answered: bool) {
        self.nodes += 1;
        self.unusable += 1;
        self.unreached += usize::from(!answered);
    }

    fn status(&self) -> ExitStatus {
        match (self.unusable, self.unreached) {
            (0, _) => ExitStatus::Fine,
            (_, unreached) if unreached == self.nodes => ExitStatus::Unreachable,
            _ => ExitStatus::Failed,
        }
    }
}

/// By its own word, else by that of its peers.
fn is_replica(answer: &Result<Sample, PollError>, member: &Member) -> bool {
    answer.as_ref().ok().and_then(|sample| sample.role).or(member.place.role) == Some(Role::Replica)
}

/// A line for the shard, where they are of one, then each of them.
fn describe_shard(text: &mut String, nodes: &[(Result<Sample, PollError>, Member)]) {
    let name = nodes.first().and_then(|(_, member)| member.place.shard.as_ref());
    if let Some(name) = name {
        let usable = nodes.iter().filter(|(answer, _)| answer.is_ok()).count();
        let slots = nodes.iter().filter_map(|(_, member)| member.place.slots).reduce(|sum, slots| sum + slots);
        let slots = slots.map(|slots| format!(", {slots} slots")).unwrap_or_default();
        line(text, format_args!("  shard {name}: {usable} of {} nodes usable{slots}", nodes.len()));
    }
    for (answer, member) in nodes {
        let indent = match (name, is_replica(answer, member)) {
            (None, _) => "  ",
            (Some(_), false) => "    ",
            (Some(_), true) => "      ",
        };
        describe_node(text, indent, member, answer);
    }
}

fn describe_node(text: &mut String, indent: &str, member: &Member, answer: &Result<Sample, PollError>) {
    let node = &member.endpoint.node;
    match answer {
        Ok(sample) => line(text, format_args!("{indent}{node}  {}", describe(sample))),
        Err(error) => line(text, format_args!("{indent}{node}  NOT USABLE ({}): {}", error.reason, error.detail)),
    }
}

async fn look(endpoint: &Endpoint, tls: &TlsStore, deadline: Instant) -> Result<Sample, PollError> {
    let reply = Connection::open(endpoint, tls, deadline).await?.info(deadline).await?;
    Ok(Sample::from_info(&Info::parse(&reply.text)))
}

/// Who it is, and which signals it gives or withholds and why.
fn describe(sample: &Sample) -> String {
    let role = sample.role.map_or("role unknown", Role::as_str);
    let flavor = sample.flavor.map_or("server", |flavor| flavor.as_str());
    let version = sample.version.as_deref().unwrap_or("of unknown version");
    let mut text = format!("ok: {role}, {flavor} {version}{}", if sample.is_loading() { ", loading" } else { "" });
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
