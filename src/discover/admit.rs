//! Who is let in: addresses that others named, held against what the configuration allows.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout_at};

use super::{Found, Member};
use crate::config::{Access, AllowList, CacheConfig, Discovery, Endpoint, Source};
use crate::model::{DiscoveryRefusal, NodeName, Role, without_credentials};
use crate::publish::NodePlace;

/// Longest host, characters: DNS knows no longer ones.
const HOST_CHARACTERS_MAX: usize = 255;

/// What addresses are held against.
pub(super) struct Admission<'a> {
    allow: &'a Arc<AllowList>,
    max_nodes: usize,
    /// Hosts that the operator wrote, and the addresses they have: whoever is asked may name itself.
    own_hosts: BTreeSet<&'a str>,
    own_addresses: BTreeSet<IpAddr>,
    deadline: Instant,
}

impl<'a> Admission<'a> {
    pub(super) async fn new(cache: &'a CacheConfig, discovery: &'a Discovery, deadline: Instant) -> Self {
        let seeds: &[Endpoint] = match &cache.source {
            Source::Cluster { seeds } => seeds,
            Source::Sentinel(source) => &source.sentinels,
            _ => &[],
        };
        let own_hosts: BTreeSet<&str> = seeds.iter().map(|seed| seed.host.as_str()).collect();
        let looked_up = join_all(own_hosts.iter().map(|host| resolve(host, deadline))).await;
        let own_addresses = looked_up.into_iter().flatten().collect();
        Self { allow: &discovery.allow, max_nodes: discovery.max_nodes, own_hosts, own_addresses, deadline }
    }

    /// Those that may be dialled, sorted by name, each once; notes those that may not. When there are too many, those
    /// that are known stay, then come masters.
    pub(super) async fn admit(
        &self,
        found: Vec<Found>,
        access: &Access,
        known: &[Member],
        refused: &mut Vec<(NodeName, DiscoveryRefusal)>,
    ) -> Vec<Member> {
        let mut seen = BTreeSet::new();
        let found: Vec<Found> = found
            .into_iter()
            .map(|found| Found { host: found.host.trim_end_matches('.').to_ascii_lowercase(), ..found })
            .filter(|found| seen.insert(NodeName::at(&presentable(&found.host), found.port)))
            .collect();
        let judged = join_all(found.iter().map(|found| self.judge(&found.host, found.port))).await;
        let mut members = Vec::new();
        for (found, verdict) in found.into_iter().zip(judged) {
            let node = NodeName::at(&presentable(&found.host), found.port);
            match verdict {
                Err(reason) => refused.push((node, reason)),
                Ok(allow) => members.push(Member {
                    endpoint: Endpoint {
                        node,
                        host: found.host,
                        port: found.port,
                        credentials: access.credentials.clone(),
                        tls: access.tls.clone(),
                        allow,
                    },
                    place: NodePlace {
                        role: found.role,
                        shard: found.shard.map(Arc::from),
                        id: found.id.map(Arc::from),
                        slots: found.slots,
                    },
                }),
            }
        }
        let is_new = |member: &Member| !known.iter().any(|known| known.endpoint.node == member.endpoint.node);
        members.sort_by_cached_key(|member| {
            (is_new(member), member.place.role != Some(Role::Master), member.endpoint.node.clone())
        });
        let surplus = members.split_off(members.len().min(self.max_nodes));
        refused.extend(surplus.into_iter().map(|member| (member.endpoint.node, DiscoveryRefusal::MaxNodes)));
        members.sort_by(|a, b| a.endpoint.node.cmp(&b.endpoint.node));
        members
    }

    /// Whether a host may be dialled; for a name, also what its addresses are held against whenever that happens: it
    /// may point elsewhere by then.
    async fn judge(&self, host: &str, port: u16) -> Result<Option<Arc<AllowList>>, DiscoveryRefusal> {
        let spelled = |letter: char| letter.is_ascii_alphanumeric() || "._-:".contains(letter);
        if host.is_empty() || host.len() > HOST_CHARACTERS_MAX || port == 0 || !host.chars().all(spelled) {
            return Err(DiscoveryRefusal::Invalid);
        }
        if self.own_hosts.contains(host) {
            return Ok(None);
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            let permitted = self.allow.permits(address) || self.own_addresses.contains(&address.to_canonical());
            return if permitted { Ok(None) } else { Err(DiscoveryRefusal::NotAllowed) };
        }
        let addresses = resolve(host, self.deadline).await;
        // A name without addresses stays: the node is down, and its name comes back with it.
        if addresses.is_empty() || addresses.iter().any(|address| self.allow.permits(*address)) {
            return Ok(Some(Arc::clone(self.allow)));
        }
        Err(DiscoveryRefusal::NotAllowed)
    }
}

async fn resolve(host: &str, deadline: Instant) -> Vec<IpAddr> {
    match timeout_at(deadline, lookup_host((host, 0))).await {
        Ok(Ok(addresses)) => addresses.map(|address| address.ip().to_canonical()).collect(),
        _ => Vec::new(),
    }
}

/// A host that nobody has checked, fit for a log line: it may be a whole URL with a password.
fn presentable(host: &str) -> String {
    without_credentials(host).chars().filter(|letter| !letter.is_control()).take(HOST_CHARACTERS_MAX).collect()
}

/// How to reach a cache's nodes. Addresses out of DNS have no name that a certificate could carry: it is that of
/// the records.
pub(super) fn access_to_nodes(cache: &CacheConfig) -> Cow<'_, Access> {
    match (&cache.source, &cache.access.tls) {
        (Source::Dns { name, port: Some(_) }, Some(tls)) if tls.server_name.is_none() => {
            let mut options = (**tls).clone();
            options.server_name = Some(name.trim_end_matches('.').to_owned());
            Cow::Owned(Access { credentials: cache.access.credentials.clone(), tls: Some(Arc::new(options)) })
        }
        _ => Cow::Borrowed(&cache.access),
    }
}
