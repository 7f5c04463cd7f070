//! Which nodes a cache has: whoever knows is asked, at intervals and when something has moved.
//!
//! What comes back is a stranger's word. It is not dialled before it was held against `discovery.allow`, and a cache
//! never grows past `discovery.max_nodes`. Where nobody answers, the last known nodes stay.

mod admit;
mod cluster;
mod directory;
mod dns;
mod file;
mod part;
mod sentinel;
mod task;

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::config::{CacheConfig, Discovery, Endpoint, SentinelSource, Source};
use crate::model::{DiscoveryRefusal, NodeName, Role};
use crate::publish::NodePlace;
use crate::topology::SENTINELS_MAX;
use crate::wire::{PollError, TlsStore};
pub use directory::Directory;
pub use task::{Assignment, Finder, run};

/// Nodes that are asked in place of seeds when none of those answers.
const STAND_INS_MAX: usize = 8;

/// The nodes of a cache, as far as they are known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeSet {
    /// Masters and replicas, sorted by name; names are unique.
    pub members: Vec<Member>,
    /// Sentinels that watch them, sorted by name; names are unique.
    pub sentinels: Vec<Member>,
}

/// One node of a cache.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// How to reach it.
    pub endpoint: Endpoint,
    /// What it was said to be among its peers.
    pub place: NodePlace,
}

impl NodeSet {
    /// Nodes that are listed in the configuration.
    fn listed(nodes: &[Endpoint]) -> Self {
        let member = |endpoint: &Endpoint| Member { endpoint: endpoint.clone(), place: NodePlace::default() };
        let mut members: Vec<Member> = nodes.iter().map(member).collect();
        members.sort_by(|a, b| a.endpoint.node.cmp(&b.endpoint.node));
        Self { members, sentinels: Vec::new() }
    }

    /// The node of that name.
    #[must_use]
    pub fn member(&self, node: &NodeName) -> Option<&Member> {
        let index = self.members.binary_search_by(|member| member.endpoint.node.cmp(node));
        index.ok().and_then(|index| self.members.get(index))
    }
}

/// An address as somebody told it.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    host: String,
    port: u16,
    role: Option<Role>,
    shard: Option<String>,
    id: Option<String>,
    slots: Option<u64>,
}

/// What one look for a cache's nodes came to.
#[derive(Debug)]
pub struct Look {
    /// The nodes; `None` where nobody could say.
    pub set: Option<NodeSet>,
    /// Who could not be asked, or why nothing was said; `NAME: reason`. No passwords.
    pub faults: Vec<String>,
    /// Somebody who should have said answered, if only with a refusal.
    pub answered: bool,
    /// Addresses that were refused, with the reason.
    pub refused: Vec<(NodeName, DiscoveryRefusal)>,
}

/// Looks once for the nodes of a cache; `known` are those of the look before. Takes at most twice `timeout`.
pub async fn look(
    cache: &CacheConfig,
    discovery: &Discovery,
    timeout: Duration,
    tls: &TlsStore,
    known: Option<&NodeSet>,
) -> Look {
    let (mut faults, mut answer) = (Faults::default(), None);
    match &cache.source {
        Source::Nodes(nodes) => {
            return faults.look(Some(NodeSet::listed(nodes)), Vec::new());
        }
        Source::Cluster { seeds } => {
            answer = ask_cluster(seeds, known, timeout, tls, &mut faults).await.map(|nodes| (nodes, Vec::new()));
        }
        Source::Sentinel(source) => answer = ask_sentinels(source, known, timeout, tls, &mut faults).await,
        Source::Dns { name, port } => {
            let deadline = Instant::now() + timeout;
            let told = match port {
                Some(port) => timeout_at(deadline, dns::addresses(name, *port)).await,
                None => timeout_at(deadline, dns::services(name)).await,
            };
            match told.unwrap_or_else(|_| Err("was not resolved before the deadline".to_owned())) {
                Ok(found) => answer = Some((found, Vec::new())),
                Err(fault) => faults.said.push(format!("{name}: {fault}")),
            }
        }
        Source::File(path) => match read_file(path).await {
            Ok(found) => answer = Some((found, Vec::new())),
            Err(fault) => faults.said.push(format!("{}: {fault}", path.display())),
        },
    }
    let Some((nodes, sentinels)) = answer else {
        return faults.look(None, Vec::new());
    };
    let admission = admit::Admission::new(cache, discovery, Instant::now() + timeout).await;
    let mut refused = Vec::new();
    let access = admit::access_to_nodes(cache);
    let members = admission.admit(nodes, &access, known.map_or(&[][..], |known| &known.members), &mut refused).await;
    let sentinels = match &cache.source {
        Source::Sentinel(source) => {
            let named = admission.admit(sentinels, &source.access, &[], &mut refused).await;
            watched(&source.sentinels, named, &mut refused)
        }
        _ => Vec::new(),
    };
    faults.look(Some(NodeSet { members, sentinels }), refused)
}

/// Who could not be asked, while a look goes on.
#[derive(Debug, Default)]
struct Faults {
    said: Vec<String>,
    answered: bool,
}

impl Faults {
    fn look(self, set: Option<NodeSet>, refused: Vec<(NodeName, DiscoveryRefusal)>) -> Look {
        Look { answered: self.answered || set.is_some(), set, faults: self.said, refused }
    }
}

/// The Sentinels that are configured, whatever the others say, then those that they name: as many as are watched.
fn watched(
    configured: &[Endpoint],
    named: Vec<Member>,
    refused: &mut Vec<(NodeName, DiscoveryRefusal)>,
) -> Vec<Member> {
    let is_configured = |member: &Member| configured.iter().any(|sentinel| sentinel.node == member.endpoint.node);
    let (mut sentinels, further): (Vec<Member>, Vec<Member>) = named.into_iter().partition(is_configured);
    for sentinel in configured {
        if !sentinels.iter().any(|known| known.endpoint.node == sentinel.node) {
            let place = NodePlace { role: Some(Role::Sentinel), ..NodePlace::default() };
            sentinels.push(Member { endpoint: sentinel.clone(), place });
        }
    }
    sentinels.extend(further);
    let surplus = sentinels.split_off(sentinels.len().min(SENTINELS_MAX));
    refused.extend(surplus.into_iter().map(|member| (member.endpoint.node, DiscoveryRefusal::MaxNodes)));
    sentinels.sort_by(|a, b| a.endpoint.node.cmp(&b.endpoint.node));
    sentinels
}

async fn read_file(path: &Path) -> Result<Vec<Found>, String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || file::read(&path)).await;
    read.unwrap_or_else(|error| Err(format!("cannot be read: {error}")))
}

/// The best of what the seeds say. A cluster lives on without its seeds: if none answers, nodes known are asked.
async fn ask_cluster(
    seeds: &[Endpoint],
    known: Option<&NodeSet>,
    timeout: Duration,
    tls: &TlsStore,
    faults: &mut Faults,
) -> Option<Vec<Found>> {
    let deadline = Instant::now() + timeout;
    let mut views = answers(join_all(seeds.iter().map(|seed| cluster::ask(seed, tls, deadline))).await, faults);
    let members = known.map_or(&[][..], |known| &known.members);
    if views.is_empty() {
        let others = members.iter().map(|member| &member.endpoint).filter(|endpoint| !seeds.contains(endpoint));
        let deadline = Instant::now() + timeout;
        let asked = others.take(STAND_INS_MAX).map(|node| cluster::ask(node, tls, deadline));
        views = answers(join_all(asked).await, &mut Faults::default());
    }
    let best = views.into_iter().max_by_key(cluster::View::rank)?;
    let shard_of = |id: &str| {
        let member = members.iter().find(|member| member.place.id.as_deref() == Some(id));
        member.and_then(|member| member.place.shard.as_deref()).map(str::to_owned)
    };
    Some(best.into_nodes(shard_of))
}

/// Nodes and Sentinels, by all Sentinels that answer; if none of those configured does, by those known.
async fn ask_sentinels(
    source: &SentinelSource,
    known: Option<&NodeSet>,
    timeout: Duration,
    tls: &TlsStore,
    faults: &mut Faults,
) -> Option<(Vec<Found>, Vec<Found>)> {
    let deadline = Instant::now() + timeout;
    let asked = source.sentinels.iter().map(|sentinel| sentinel::ask(sentinel, &source.masters, tls, deadline));
    let mut views = answers(join_all(asked).await, faults);
    if views.is_empty() {
        let others = known.map_or(&[][..], |known| &known.sentinels).iter().map(|member| &member.endpoint);
        let others = others.filter(|endpoint| !source.sentinels.contains(endpoint)).take(STAND_INS_MAX);
        let deadline = Instant::now() + timeout;
        let asked = others.map(|sentinel| sentinel::ask(sentinel, &source.masters, tls, deadline));
        views = answers(join_all(asked).await, &mut Faults::default());
    }
    (!views.is_empty()).then(|| sentinel::merge(views.into_iter().flatten()))
}

/// Those that answered; the others become faults.
fn answers<T>(results: Vec<Result<T, PollError>>, faults: &mut Faults) -> Vec<T> {
    let mut answers = Vec::new();
    for result in results {
        match result {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                faults.answered |= error.reason.answered();
                faults.said.push(error.to_string());
            }
        }
    }
    answers
}

#[cfg(test)]
mod tests;
