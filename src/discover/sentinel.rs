//! What Sentinels say: masters, their replicas, and other Sentinels.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Found;
use crate::config::{Endpoint, Masters};
use crate::model::{FailureReason, Role};
use crate::wire::{Connection, PollError, Reply, TlsStore};

/// Masters of one set of Sentinels that are followed.
const MASTERS_MAX: usize = 1_000;

/// One master as one Sentinel sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    name: String,
    /// `config-epoch`: grows with every failover, so that the highest knows of the last one.
    epoch: i64,
    master: Found,
    replicas: Vec<Found>,
    sentinels: Vec<Found>,
}

/// Asks one Sentinel for its masters, or the one of interest.
pub(super) async fn ask(
    sentinel: &Endpoint,
    masters: &Masters,
    tls: &TlsStore,
    deadline: Instant,
) -> Result<Vec<View>, PollError> {
    let mut connection = Connection::open(sentinel, tls, deadline).await?;
    let told = match masters {
        Masters::Named(name) => vec![connection.call(&["SENTINEL", "MASTER", name], deadline).await?],
        Masters::All => match connection.call(&["SENTINEL", "MASTERS"], deadline).await? {
            Reply::Array(masters) => masters,
            _ => Vec::new(),
        },
    };
    let names: Vec<&str> = told.iter().filter_map(|master| master.field("name")?.text()).take(MASTERS_MAX).collect();
    let words: Vec<[&str; 3]> =
        names.iter().flat_map(|name| [["SENTINEL", "REPLICAS", name], ["SENTINEL", "SENTINELS", name]]).collect();
    let commands: Vec<&[&str]> = words.iter().map(<[&str; 3]>::as_slice).collect();
    let replies = connection.ask(&commands, deadline).await?;
    let mut views = Vec::new();
    for (master, replies) in told.iter().zip(replies.chunks_exact(2)) {
        for (reply, command) in replies.iter().zip(&commands) {
            if let Reply::Error { code, text } = reply {
                return Err(connection.refusal(command, code, text));
            }
        }
        views.extend(view(master, &replies[0], &replies[1]));
    }
    if views.is_empty() {
        let detail = "the Sentinel watches no master".to_owned();
        return Err(PollError { node: sentinel.node.clone(), reason: FailureReason::Protocol, detail });
    }
    Ok(views)
}

pub(super) fn view(master: &Reply, replicas: &Reply, sentinels: &Reply) -> Option<View> {
    let name = master.field("name")?.text()?.to_owned();
    let list = |reply: &Reply, role| reply.items().iter().filter_map(|item| found(item, role, &name)).collect();
    Some(View {
        epoch: master.field("config-epoch").and_then(Reply::integer).unwrap_or(0),
        master: found(master, Role::Master, &name)?,
        replicas: list(replicas, Role::Replica),
        sentinels: list(sentinels, Role::Sentinel),
        name,
    })
}

/// The shard is the master's name: it stays when another node takes over.
fn found(item: &Reply, role: Role, name: &str) -> Option<Found> {
    let text = |field| item.field(field).and_then(Reply::text).filter(|text| !text.is_empty());
    Some(Found {
        host: text("ip")?.to_owned(),
        port: text("port")?.parse().ok().filter(|port| *port > 0)?,
        role: Some(role),
        shard: Some(name.to_owned()),
        id: text("runid").map(str::to_owned),
        slots: None,
    })
}

/// Nodes and Sentinels out of what several Sentinels say. The master is the one of the highest epoch; a replica is
/// one if any of them knows it.
pub(super) fn merge(views: impl IntoIterator<Item = View>) -> (Vec<Found>, Vec<Found>) {
    let mut by_name: BTreeMap<String, Vec<View>> = BTreeMap::new();
    for view in views {
        by_name.entry(view.name.clone()).or_default().push(view);
    }
    let (mut nodes, mut sentinels) = (Vec::new(), Vec::new());
    for mut views in by_name.into_values() {
        // Stable: of equal epochs the first that was asked.
        views.sort_by_key(|view| std::cmp::Reverse(view.epoch));
        let (masters, others): (Vec<_>, Vec<_>) =
            views.into_iter().map(|view| (view.master, (view.replicas, view.sentinels))).unzip();
        nodes.extend(masters.into_iter().take(1));
        for (replicas, known) in others {
            nodes.extend(replicas);
            sentinels.extend(known);
        }
    }
    (nodes, sentinels)
}
