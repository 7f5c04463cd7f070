//! What Sentinels say: masters, their replicas, and other Sentinels.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::Found;
use crate::config::{Endpoint, Masters};
use crate::model::{FailureReason, Role};
use crate::topology::sentinel::{Instance, MasterView};
use crate::wire::{Connection, PollError, Reply, TlsStore};

/// Masters of one set of Sentinels that are followed.
const MASTERS_MAX: usize = 1_000;

/// Asks one Sentinel for its masters, or the one of interest.
pub(super) async fn ask(
    sentinel: &Endpoint,
    masters: &Masters,
    tls: &TlsStore,
    deadline: Instant,
) -> Result<Vec<MasterView>, PollError> {
    let mut connection = Connection::open(sentinel, tls, deadline).await?;
    let told = match masters {
        Masters::Named(name) => vec![connection.call(&["SENTINEL", "MASTER", name], deadline).await?],
        Masters::All => match connection.call(&["SENTINEL", "MASTERS"], deadline).await? {
            Reply::Array(masters) => masters,
            _ => Vec::new(),
        },
    };
    let mut views: Vec<MasterView> =
        told.iter().filter_map(|master| MasterView::read(&master.texts())).take(MASTERS_MAX).collect();
    if views.is_empty() {
        let detail = "the Sentinel watches no master".to_owned();
        return Err(PollError { node: sentinel.node.clone(), reason: FailureReason::Protocol, detail });
    }
    let names: Vec<Arc<str>> = views.iter().map(|view| Arc::clone(&view.name)).collect();
    let words: Vec<[&str; 3]> =
        names.iter().flat_map(|name| ["REPLICAS", "SENTINELS"].map(|list| ["SENTINEL", list, name])).collect();
    let commands: Vec<&[&str]> = words.iter().map(<[&str; 3]>::as_slice).collect();
    let replies = connection.ask(&commands, deadline).await?;
    for (reply, command) in replies.iter().zip(&commands) {
        if let Reply::Error { code, text } = reply {
            return Err(connection.refusal(command, code, text));
        }
    }
    for (view, lists) in views.iter_mut().zip(replies.chunks_exact(2)) {
        let instances = |list: &Reply| list.items().iter().filter_map(|item| Instance::read(&item.texts())).collect();
        (view.replicas, view.sentinels) = (instances(&lists[0]), instances(&lists[1]));
    }
    Ok(views)
}

/// Nodes and Sentinels out of what several Sentinels say. The master is the one of the highest epoch, which knows of
/// the last failover; a replica is one if any of them knows it. The shard is the master's name: it stays when another
/// node takes over.
pub(super) fn merge(views: impl IntoIterator<Item = MasterView>) -> (Vec<Found>, Vec<Found>) {
    let mut by_name: BTreeMap<Arc<str>, Vec<MasterView>> = BTreeMap::new();
    for view in views {
        by_name.entry(Arc::clone(&view.name)).or_default().push(view);
    }
    let (mut nodes, mut sentinels) = (Vec::new(), Vec::new());
    for (name, mut views) in by_name {
        // Stable: of equal epochs the first that was asked.
        views.sort_by_key(|view| std::cmp::Reverse(view.config_epoch));
        let of = |list: &[Instance], role| list.iter().filter_map(|one| found(one, role, &name)).collect::<Vec<_>>();
        nodes.extend(views.first().and_then(|view| found(&view.instance, Role::Master, &name)));
        for view in &views {
            nodes.extend(of(&view.replicas, Role::Replica));
            sentinels.extend(of(&view.sentinels, Role::Sentinel));
        }
    }
    (nodes, sentinels)
}

fn found(instance: &Instance, role: Role, master: &str) -> Option<Found> {
    let (host, port) = instance.host_and_port()?;
    Some(Found {
        host: host.to_owned(),
        port,
        role: Some(role),
        shard: Some(master.to_owned()),
        id: instance.run_id.as_deref().map(str::to_owned),
        slots: None,
    })
}
