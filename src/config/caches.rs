//! The list of caches: names, nodes, credentials, TLS.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use secrecy::SecretString;

use super::endpoint::{self, Address};
use super::raw::{Item, Section};
use super::sources::{self, Written};
use super::{Access, CacheConfig, Credentials, Endpoint, Shard, Source, TlsOptions, files, validate};
use crate::model::{CacheName, NodeName, SeverityMode};
use crate::thresholds::Thresholds;

/// Longest name of a cache, characters: it becomes a label value of every series.
const NAME_CHARACTERS_MAX: usize = 64;

/// Why there is no key `password`.
pub(super) const NO_PASSWORD: &str = "passwords do not stand in the configuration: use password_file or password_env";

/// Largest password file read, bytes; Redis hashes passwords of any length, people write short ones.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// All caches; without the key, one cache `default` on this machine. `shard` is which exporter this one is of several.
pub(super) fn caches(
    item: Option<Item<'_>>,
    thresholds: &Arc<Thresholds>,
    shard: Option<Shard>,
    environment: &BTreeMap<String, String>,
) -> Vec<Arc<CacheConfig>> {
    let Some(item) = item else {
        return vec![Arc::new(local(thresholds))];
    };
    let Some(items) = item.list("a list of caches, each with name and nodes") else {
        return Vec::new();
    };
    if items.is_empty() {
        item.reject("names no cache, expected at least one, or no key `caches` for redis://127.0.0.1:6379");
    }
    let mut names = BTreeSet::new();
    items.iter().map(|item| Arc::new(cache(item.section(), thresholds, shard, environment, &mut names))).collect()
}

/// The cache of someone who has configured none.
fn local(thresholds: &Arc<Thresholds>) -> CacheConfig {
    let host = "127.0.0.1".to_owned();
    let port = endpoint::PORT;
    let node = NodeName::from(format!("{host}:{port}"));
    CacheConfig {
        name: CacheName::from("default"),
        source: Source::Nodes(vec![Endpoint {
            node,
            host,
            port,
            credentials: Credentials::default(),
            tls: None,
            allow: None,
        }]),
        access: Access::default(),
        thresholds: Arc::clone(thresholds),
        severity_mode: SeverityMode::default(),
        shard: None,
    }
}

fn cache(
    mut section: Section<'_>,
    inherited: &Arc<Thresholds>,
    shard: Option<Shard>,
    environment: &BTreeMap<String, String>,
    names: &mut BTreeSet<String>,
) -> CacheConfig {
    let name = name(&mut section, names);
    let written = sources::read(&mut section, environment);
    let login = Login::read(&mut section, environment);
    let asked_for_tls = section.has("tls");
    let options = Arc::new(tls(&mut section));
    let (source, access) = match written {
        Written::Nodes(addresses) => {
            let encrypted = addresses.iter().any(|(_, address)| address.tls);
            if !encrypted && !addresses.is_empty() {
                section.blame(&["tls"], "applies to no node, expected a node with rediss:// for it");
            }
            let nodes: Vec<_> =
                addresses.into_iter().map(|(item, address)| login.endpoint(&item, address, &options)).collect();
            login.complete(&section, &nodes);
            (Source::Nodes(nodes), Access::default())
        }
        Written::Cluster(seeds) => {
            let (seeds, access) = sources::alike(&section, seeds, &login, &options);
            (Source::Cluster { seeds }, access)
        }
        Written::Elsewhere(source) => {
            login.complete(&section, &[]);
            (source, Access { credentials: login.credentials(), tls: asked_for_tls.then_some(options) })
        }
    };
    let modes = [("nodes", SeverityMode::Nodes), ("traffic", SeverityMode::Traffic), ("max", SeverityMode::Max)];
    let severity_mode = section.get("severity_mode").and_then(|item| item.choice(&modes)).unwrap_or_default();
    let shared = section.get("shard_by").and_then(|item| item.choice(&[("cache", false), ("group", true)]));
    let shard = shard.filter(|_| shared == Some(true));
    if shared == Some(true) && !matches!(source, Source::Cluster { .. } | Source::Sentinel(_)) {
        section.blame(&["shard_by"], "is group, which only cluster and sentinel can tell, expected cache");
    }
    let thresholds = validate::thresholds(section.section("thresholds"), inherited);
    section.refuse("password", NO_PASSWORD);
    section.finish();
    CacheConfig { name, source, access, thresholds, severity_mode, shard }
}

fn name(section: &mut Section<'_>, names: &mut BTreeSet<String>) -> CacheName {
    const FORM: &str = "1 to 64 of the characters a-z A-Z 0-9 _ . -";
    let Some(item) = section.get("name") else {
        section.missing("name", FORM);
        return CacheName::from("");
    };
    let Some(name) = item.text(FORM) else {
        return CacheName::from("");
    };
    let spelled = name.chars().all(|character| character.is_ascii_alphanumeric() || "_.-".contains(character));
    if name.is_empty() || name.len() > NAME_CHARACTERS_MAX || !spelled {
        item.reject(format!("is no name of a cache, expected {FORM}"));
    } else if !names.insert(name.to_owned()) {
        item.reject(format!("{name} is the name of an earlier cache, expected names to be unique"));
    }
    CacheName::from(name)
}

/// What a cache says about who we are; a node's URL can say it instead.
pub(super) struct Login {
    username: Option<String>,
    password: Option<SecretString>,
    /// A password was asked for, whether or not it could be read.
    asked: bool,
}

impl Login {
    pub(super) fn read(section: &mut Section<'_>, environment: &BTreeMap<String, String>) -> Self {
        let username = section.get("username").and_then(|item| {
            let name = item.text("a user name; one that looks like a number needs quotes")?;
            if name.is_empty() {
                item.reject("is empty, expected a user name, or no key for the user `default`");
            }
            Some(name.to_owned())
        });
        let file = section.get("password_file");
        let variable = section.get("password_env");
        if let (Some(_), Some(variable)) = (&file, &variable) {
            variable.reject("is a second password beside password_file, expected one of them");
        }
        let asked = file.is_some() || variable.is_some();
        let password = file.and_then(|item| from_file(&item));
        let password = password.or(variable.and_then(|item| from_variable(&item, environment)));
        Self { username, password, asked }
    }

    /// The cache's credentials.
    pub(super) fn credentials(&self) -> Credentials {
        Credentials { username: self.username.clone(), password: self.password.clone() }
    }

    /// Notes a user name without a password: here, and in none of the nodes' own URLs.
    pub(super) fn complete(&self, section: &Section<'_>, nodes: &[Endpoint]) {
        let bare = nodes.is_empty() || nodes.iter().any(|node| node.credentials.password.is_none());
        if self.username.is_some() && !self.asked && bare {
            section.blame(&["username"], "needs a password, expected password_file or password_env beside it");
        }
    }

    /// One node with the cache's credentials, or its own.
    pub(super) fn endpoint(&self, item: &Item<'_>, address: Address, tls: &Arc<TlsOptions>) -> Endpoint {
        let node = address.node();
        let Address { host, port, tls: encrypted, username, password } = address;
        if password.is_some() && self.asked {
            item.reject("is a second password beside the cache's, expected it in the URL or in password_file/_env");
        }
        if username.is_some() && self.username.is_some() {
            item.reject("is a second user name beside the cache's, expected it in the URL or in username");
        }
        if username.is_some() && password.is_none() && !self.asked {
            item.reject("has a user but no password, expected password_file or password_env, or USER:PASSWORD@");
        }
        let credentials = Credentials {
            username: username.or_else(|| self.username.clone()),
            password: password.or_else(|| self.password.clone()),
        };
        Endpoint { node, host, port, credentials, tls: encrypted.then(|| Arc::clone(tls)), allow: None }
    }
}

/// A password from a file. Errors name neither path nor content: someone may have written the
/// password itself here.
fn from_file(item: &Item<'_>) -> Option<SecretString> {
    match files::read_to_string(&item.path()?, SECRET_BYTES_MAX) {
        Ok(text) => secret(item, text.trim_end_matches(['\r', '\n']), "the file"),
        Err(error) => {
            item.reject(format!(
                "the file cannot be read: {error}; a relative path starts at the folder of the configuration file"
            ));
            None
        }
    }
}

/// A password from a variable, verbatim: `007` stays `007`.
fn from_variable(item: &Item<'_>, environment: &BTreeMap<String, String>) -> Option<SecretString> {
    let name = item.text("the name of an environment variable")?;
    let Some(text) = environment.get(name) else {
        item.reject("no environment variable of this name is set, expected the name of one that holds the password");
        return None;
    };
    secret(item, text, "the environment variable")
}

fn secret(item: &Item<'_>, text: &str, holder: &str) -> Option<SecretString> {
    if text.is_empty() {
        item.reject(format!("{holder} is empty, expected a password"));
        return None;
    }
    Some(SecretString::from(text))
}

/// TLS of the cache's nodes; a bare `rediss://` trusts the system's authorities.
pub(super) fn tls(section: &mut Section<'_>) -> TlsOptions {
    let mut options = section.section("tls");
    let mut file = |key| options.get(key).and_then(|item| readable(&item));
    let (ca_file, cert_file, key_file) = (file("ca_file"), file("cert_file"), file("key_file"));
    for (present, absent) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
        if options.has(present) && !options.has(absent) {
            options.blame(&[present], format!("needs {absent} beside it, expected both or neither"));
        }
    }
    let server_name = options.get("server_name").and_then(|item| {
        let name = item.text("the host name to verify")?.to_owned();
        if ServerName::try_from(name.as_str()).is_err() {
            item.reject("is no host name, expected one such as redis.example.com");
        }
        Some(name)
    });
    options.finish();
    TlsOptions { ca_file, client: cert_file.zip(key_file), server_name }
}

/// A path whose file can be read now; what it contains is judged by TLS itself.
fn readable(item: &Item<'_>) -> Option<std::path::PathBuf> {
    let path = item.path()?;
    match files::probe(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            item.reject(format!("{} cannot be read: {error}, expected a PEM file", path.display()));
            None
        }
    }
}
