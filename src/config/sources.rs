//! Where a cache's nodes come from: exactly one of five keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::caches::{self, Login};
use super::endpoint::{self, Address};
use super::raw::{Item, Section};
use super::{Access, Endpoint, Masters, SentinelSource, Source, TlsOptions};

/// Port of a Sentinel's URL without one.
const SENTINEL_PORT: u16 = 26379;

/// Every key that says where nodes come from.
const KEYS: [&str; 5] = ["nodes", "cluster", "sentinel", "dns", "file"];

/// Seeds or Sentinels that are asked; more make nothing surer.
const SEEDS_MAX: usize = 64;

const NODES_FORM: &str = "a list of URLs such as [redis://10.0.0.1:6379]";
const SENTINELS_FORM: &str = "a list of URLs such as [redis://10.0.0.9:26379]";

/// A source as written; who we are to its nodes is written elsewhere in the cache.
pub(super) enum Written<'a> {
    Nodes(Vec<(Item<'a>, Address)>),
    Cluster(Vec<(Item<'a>, Address)>),
    /// Says nothing of nodes themselves.
    Elsewhere(Source),
}

/// The one source of a cache; a faulty one reads as an empty list.
pub(super) fn read<'a>(section: &mut Section<'a>, environment: &BTreeMap<String, String>) -> Written<'a> {
    let written: Vec<&str> = KEYS.into_iter().filter(|key| section.has(key)).collect();
    for second in written.iter().skip(1) {
        let problem = format!("is a second source beside {}, expected one of {}", written[0], KEYS.join(", "));
        section.blame(&[second], problem);
    }
    // Asked for in any case, so that they are known keys; the first that was written counts.
    let [nodes, cluster, sentinel, dns, file] = KEYS.map(|key| section.get(key));
    let first = written.first().copied();
    if first.is_none() {
        section
            .missing("nodes", "a list of URLs such as redis://10.0.0.1:6379, or one of cluster, sentinel, dns, file");
    }
    let nothing = || Written::Nodes(Vec::new());
    match (nodes, cluster, sentinel, dns, file) {
        (Some(list), ..) => Written::Nodes(addresses(&list, NODES_FORM, endpoint::PORT, usize::MAX)),
        (_, Some(item), ..) => Written::Cluster(seeds(item.section())),
        (_, _, Some(item), ..) => Written::Elsewhere(Source::Sentinel(self::sentinel(item.section(), environment))),
        (_, _, _, Some(item), _) => self::dns(item.section()).map_or_else(nothing, Written::Elsewhere),
        (_, _, _, _, Some(item)) => {
            self::file(&item).map_or_else(nothing, |path| Written::Elsewhere(Source::File(path)))
        }
        _ => nothing(),
    }
}

fn seeds(mut section: Section<'_>) -> Vec<(Item<'_>, Address)> {
    let seeds = listed(&mut section, "seeds", NODES_FORM, endpoint::PORT);
    section.finish();
    seeds
}

fn sentinel(mut section: Section<'_>, environment: &BTreeMap<String, String>) -> SentinelSource {
    let sentinels = listed(&mut section, "sentinels", SENTINELS_FORM, SENTINEL_PORT);
    let master = section.get("master").and_then(|item| {
        let name = item.text("the name of a master, as in `sentinel monitor`")?;
        if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            item.reject("is no name of a master, expected one as in `sentinel monitor`");
        }
        Some(name.to_owned())
    });
    let all = section.get("all_masters").and_then(|item| item.flag()).unwrap_or_default();
    match (section.has("master"), all) {
        (true, true) => section.blame(&["all_masters"], "is true beside master, expected one of them"),
        (false, false) => section.missing("master", "the name of a master, or all_masters: true"),
        _ => {}
    }
    let (login, options) = (Login::read(&mut section, environment), Arc::new(caches::tls(&mut section)));
    let (sentinels, access) = alike(&section, sentinels, &login, &options);
    section.refuse("password", caches::NO_PASSWORD);
    section.finish();
    SentinelSource { sentinels, masters: master.map_or(Masters::All, Masters::Named), access }
}

/// Endpoints that speak for each other: the same scheme and credentials for all, and for whom they name.
pub(super) fn alike(
    section: &Section<'_>,
    written: Vec<(Item<'_>, Address)>,
    login: &Login,
    options: &Arc<TlsOptions>,
) -> (Vec<Endpoint>, Access) {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let encrypted = written.first().is_some_and(|(_, address)| address.tls);
    for (item, address) in written {
        if address.tls != encrypted {
            item.reject("is of another scheme than the first, expected all to speak TLS (rediss://) or none");
        }
        let endpoint = login.endpoint(&item, address, options);
        if endpoints.first().is_some_and(|first| first.credentials != endpoint.credentials) {
            item.reject(
                "has other credentials than the first, expected the same for all: discovered ones get them too",
            );
        }
        endpoints.push(endpoint);
    }
    if !encrypted && !endpoints.is_empty() {
        section.blame(&["tls"], "applies to no node, expected a node with rediss:// for it");
    }
    login.complete(section, &endpoints);
    let credentials = endpoints.first().map_or_else(|| login.credentials(), |first| first.credentials.clone());
    (endpoints, Access { credentials, tls: encrypted.then(|| Arc::clone(options)) })
}

fn dns(mut section: Section<'_>) -> Option<Source> {
    const FORM: &str = "a host name, or one of SRV records such as _redis._tcp.example.com";
    let name = section.get("name");
    if name.is_none() {
        section.missing("name", FORM);
    }
    let name = name.and_then(|item| {
        let name = item.text(FORM)?.to_ascii_lowercase();
        let labels = name.trim_end_matches('.').split('.');
        let spelled = |label: &str| {
            !label.is_empty() && label.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter))
        };
        if !labels.into_iter().all(spelled) {
            item.reject(format!("is no name, expected {FORM}"));
        }
        Some(name)
    });
    let port = section.get("port").map(|item| item.whole(1, 65_535, "the port of every node"));
    let services = name.as_deref().is_some_and(|name| name.starts_with('_'));
    match (&port, services) {
        (Some(_), true) => section.blame(&["port"], "stands beside those of SRV records, expected it to be left out"),
        (None, false) if name.is_some() => {
            section.missing("port", "the port of every node; only SRV records bring theirs")
        }
        _ => {}
    }
    section.finish();
    Some(Source::Dns { name: name?, port: port.flatten().and_then(|port| u16::try_from(port).ok()) })
}

/// It need not exist yet: whoever writes it may start later than we do.
fn file(item: &Item<'_>) -> Option<PathBuf> {
    let path = item.path()?;
    if path.extension().is_none_or(|extension| extension != "json") {
        item.reject("is not named .json, expected a file of targets in the JSON of Prometheus' file_sd");
    }
    Some(path)
}

fn listed<'a>(section: &mut Section<'a>, key: &'static str, form: &str, port: u16) -> Vec<(Item<'a>, Address)> {
    match section.get(key) {
        Some(list) => addresses(&list, form, port, SEEDS_MAX),
        None => {
            section.missing(key, form);
            Vec::new()
        }
    }
}

/// The URLs of a list that can be read, each with the place it was written at.
fn addresses<'a>(list: &Item<'a>, form: &str, port: u16, count_max: usize) -> Vec<(Item<'a>, Address)> {
    let Some(items) = list.list(form) else {
        return Vec::new();
    };
    if items.is_empty() {
        list.reject(format!("is empty, expected at least one URL such as redis://10.0.0.1:{port}"));
    }
    if items.len() > count_max {
        list.reject(format!("names {}, expected at most {count_max}", items.len()));
    }
    let mut seen = BTreeSet::new();
    let pair = |item| address(&item, port, &mut seen).map(|address| (item, address));
    items.into_iter().filter_map(pair).collect()
}

fn address(item: &Item<'_>, port: u16, seen: &mut BTreeSet<String>) -> Option<Address> {
    match endpoint::parse(item.text(endpoint::FORM)?, port) {
        Ok(address) if seen.insert(address.node().to_string()) => Some(address),
        Ok(address) => {
            item.reject(format!("{} is listed twice, expected each node once", address.node()));
            None
        }
        Err(fault) => {
            item.reject(format!("{fault}, expected {}", endpoint::FORM));
            None
        }
    }
}
