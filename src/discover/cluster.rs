//! What a Redis Cluster says of itself: `CLUSTER SHARDS`, and `CLUSTER NODES` of servers before 7.0.

use tokio::time::Instant;

use super::Found;
use crate::config::Endpoint;
use crate::model::{FailureReason, Role};
use crate::wire::{Connection, PollError, Reply, TlsStore};

/// A cluster as one of its nodes sees it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct View {
    shards: Vec<Shard>,
}

/// A master with its replicas.
#[derive(Debug, Default, PartialEq)]
struct Shard {
    /// What the server calls it; older ones have no name for it.
    id: Option<String>,
    nodes: Vec<Found>,
    /// Slots of a master that is not known to have failed.
    slots_served: i64,
}

impl View {
    /// How far to trust it: a node that was cut off sees the masters of the others fail, and one that has not heard
    /// of a promotion still sees the failed master of its slots; then one that knows more nodes is right.
    pub(super) fn rank(&self) -> (i64, usize) {
        let nodes = self.shards.iter().map(|shard| shard.nodes.len()).sum();
        (self.shards.iter().map(|shard| shard.slots_served).sum(), nodes)
    }

    /// The nodes, each with its shard. Where the server has no name for a shard it keeps the one its master had
    /// before (`known`: by node id), else it is called by its master's id: the shard of a promoted replica stays the
    /// same.
    pub(super) fn into_nodes(mut self, known: impl Fn(&str) -> Option<String>) -> Vec<Found> {
        // The owner of slots comes first: a failed master without them is the rest of a shard.
        self.shards.sort_by_key(|shard| std::cmp::Reverse(shard.slots_served));
        let mut taken: Vec<String> = Vec::new();
        let mut found = Vec::new();
        for shard in self.shards {
            let master = shard.nodes.iter().find(|node| node.role == Some(Role::Master)).or(shard.nodes.first());
            let Some(own) = master.and_then(|master| master.id.clone()) else { continue };
            let kept = known(&own).filter(|id| shard.slots_served == 0 || !taken.contains(id));
            let id = shard.id.or(kept).unwrap_or(own);
            taken.push(id.clone());
            found.extend(shard.nodes.into_iter().map(|node| Found { shard: Some(id.clone()), ..node }));
        }
        found
    }
}

/// Asks one node how it sees its cluster.
pub(super) async fn ask(seed: &Endpoint, tls: &TlsStore, deadline: Instant) -> Result<View, PollError> {
    let mut connection = Connection::open(seed, tls, deadline).await?;
    let view = match connection.call(&["CLUSTER", "SHARDS"], deadline).await {
        Ok(reply) => from_shards(&reply, seed),
        // An older server, or a user who may only do the other.
        Err(refused) if matches!(refused.reason, FailureReason::Protocol | FailureReason::NoPerm) => {
            let reply = connection.call(&["CLUSTER", "NODES"], deadline).await.map_err(|_| refused)?;
            from_nodes(reply.text().unwrap_or_default(), seed)
        }
        Err(error) => return Err(error),
    };
    if view.shards.is_empty() {
        let detail = "the server names no node of its cluster".to_owned();
        return Err(PollError { node: seed.node.clone(), reason: FailureReason::Protocol, detail });
    }
    Ok(view)
}

fn from_shards(reply: &Reply, asked: &Endpoint) -> View {
    let shard = |shard: &Reply| {
        let text = |reply: &Reply, field| reply.field(field).and_then(Reply::text).map(str::to_owned);
        let written = shard.field("nodes").map_or(&[][..], Reply::items);
        let masters = written.iter().filter(|node| text(node, "role").as_deref() == Some("master"));
        let online = |node: &&Reply| text(node, "health").as_deref() == Some("online");
        let serves = masters.clone().any(|node| online(&node));
        let owner = masters.max_by_key(online).and_then(|node| text(node, "id"));
        let slots = shard.field("slots").map_or(&[][..], Reply::items).chunks_exact(2).map(|range| {
            let [first, last] = [&range[0], &range[1]].map(|slot| slot.integer().unwrap_or(0));
            (last - first + 1).clamp(0, SLOTS)
        });
        let slots: i64 = slots.sum();
        let mut nodes: Vec<Found> = written.iter().filter_map(|node| from_shard_node(node, asked)).collect();
        if let Some(owner) = nodes.iter_mut().find(|node| node.id == owner) {
            owner.slots = u64::try_from(slots).ok();
        }
        Shard { id: text(shard, "id"), nodes, slots_served: if serves { slots } else { 0 } }
    };
    View { shards: reply.items().iter().map(shard).filter(|shard| !shard.nodes.is_empty()).collect() }
}

/// Slots of every cluster.
const SLOTS: i64 = 16_384;

/// `endpoint` is what the operator wants clients to use; where it says nothing, that is the host that was asked. A
/// node that knows no address of its own says nothing at all.
fn from_shard_node(node: &Reply, asked: &Endpoint) -> Option<Found> {
    let text = |field| node.field(field).and_then(Reply::text).filter(|text| !text.is_empty() && *text != "?");
    let host = match (node.field("endpoint"), text("endpoint"), text("ip")) {
        (Some(Reply::Null), ..) | (_, None, None) => &asked.host,
        (_, Some(host), _) | (_, None, Some(host)) => host,
    };
    let port = |field| node.field(field).and_then(Reply::integer).filter(|port| *port > 0);
    let port = if asked.tls.is_some() { port("tls-port").or(port("port")) } else { port("port") };
    Some(Found {
        host: host.to_owned(),
        port: port.and_then(|port| u16::try_from(port).ok())?,
        role: role(text("role")?),
        shard: None,
        id: Some(text("id")?.to_owned()),
        slots: None,
    })
}

/// Lines of `id ip:port@busport[,hostname[,key=value…]] flags master ping pong epoch link slot…`. The port is that
/// of the protocol we asked by.
pub(super) fn from_nodes(text: &str, asked: &Endpoint) -> View {
    let mut shards: Vec<(String, Shard)> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, master, _, _, _, _, slots @ ..] = words.as_slice() else { continue };
        let flags: Vec<&str> = flags.split(',').collect();
        if ["handshake", "noaddr"].iter().any(|flag| flags.contains(flag)) {
            continue;
        }
        let mut parts = address.split(',');
        let Some((ip, port)) =
            parts.next().and_then(|part| part.split('@').next()).and_then(|part| part.rsplit_once(':'))
        else {
            continue;
        };
        let Some(port) = port.parse().ok().filter(|port| *port > 0) else { continue };
        let hostname = parts.next().filter(|name| !name.is_empty() && *name != "?");
        let host = hostname.unwrap_or(if ip.is_empty() { &asked.host } else { ip.trim_matches(['[', ']']) }).to_owned();
        let is_master = flags.contains(&"master");
        let role = Some(if is_master { Role::Master } else { Role::Replica });
        let owned: i64 = slots.iter().map(|range| slots_in(range)).sum();
        let owner = if is_master { *id } else { *master };
        let shard = match shards.iter_mut().find(|(known, _)| known == owner) {
            Some((_, shard)) => shard,
            None => {
                shards.push((owner.to_owned(), Shard::default()));
                let Some((_, shard)) = shards.last_mut() else { continue };
                shard
            }
        };
        if is_master && !flags.contains(&"fail") {
            shard.slots_served += owned;
        }
        let slots = is_master.then(|| u64::try_from(owned).ok()).flatten();
        shard.nodes.push(Found { host, port, role, shard: None, id: Some((*id).to_owned()), slots });
    }
    View { shards: shards.into_iter().map(|(_, shard)| shard).collect() }
}

/// Slots in `7`, `0-5460`; none in `[93-<-id]`, which is on its way.
fn slots_in(range: &str) -> i64 {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<i64>(), last.parse::<i64>()) {
        (Ok(first), Ok(last)) => (last - first + 1).clamp(0, SLOTS),
        _ => 0,
    }
}

fn role(text: &str) -> Option<Role> {
    match text {
        "master" => Some(Role::Master),
        "replica" | "slave" => Some(Role::Replica),
        _ => None,
    }
}
