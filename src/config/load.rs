//! Layers of configuration, file < environment < flags, put together by figment; the only file that
//! knows it. Defaults lie below them, where each value is checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml, YamlExtended};
use figment::value::{Dict, Map, Tag, Value as Figure};
use figment::{Figment, Metadata, Profile, Provider, Source};
use secrecy::{ExposeSecret, SecretString};

use super::errors::{ConfigErrors, Origin, Problems};
use super::raw::{Item, Raw, Value};
use super::{Config, validate};

/// What every variable of ours begins with. Those with one underscore are not ours: Kubernetes
/// sets `CACHE_STORM_PORT=tcp://…` for a service of that name.
const PREFIX: &str = "CACHE_STORM__";

/// What marks a layer as an environment variable in figment's metadata.
const ENVIRONMENT: &str = "environment";

/// Largest configuration file read, bytes: 1,000 nodes take 100 kB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What flags say; stronger than file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--redis`, URLs: the nodes of a cache `default` that replaces all configured caches.
    pub redis: Vec<SecretString>,
}

/// The process's environment, without variables that are not UTF-8.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Reads and checks the whole configuration. Reads the files it names, opens no connection.
///
/// # Errors
/// All faults of all layers at once; those of a file that cannot be parsed alone, because without it
/// the other layers cannot be judged.
pub fn load(
    path: Option<&Path>,
    overrides: &Overrides,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigErrors> {
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let problems = Problems::default();
    let mut figment = Figment::new();
    if let Some(path) = path {
        match document(path) {
            Ok(dict) => figment = figment.merge(Layer { metadata: file_metadata(path), dict }),
            Err(problem) => problems.note(&Origin::File(path.to_owned()), "", problem),
        }
    }
    problems.unless_any(())?;

    let problems = Problems::default();
    for layer in variables(&environment).chain(flags(overrides)) {
        figment = figment.merge(layer);
    }
    let origin = path.map_or(Origin::Nobody, |path| Origin::File(path.to_owned()));
    let value = match figment.find_value("") {
        Ok(value) => raw(&figment, value).value,
        // Our layers never fail; should one, its values may be secret.
        Err(_) => {
            problems.note(&origin, "", "the layers of configuration cannot be merged");
            Value::Map(BTreeMap::new())
        }
    };
    let tree = Raw { origin, value };
    let config = validate::config(&Item::root(&tree, &problems), &environment);
    problems.unless_any(config)
}

/// The top mapping of a YAML or TOML file, by extension.
fn document(path: &Path) -> Result<Dict, String> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let parse: fn(&str) -> Result<Figure, String> = match extension {
        // Unlike `Yaml`, this one knows `<<` and refuses a key that is given twice.
        "yaml" | "yml" => |text| YamlExtended::from_str(text).map_err(|error| error.to_string()),
        "toml" => parse_toml,
        _ => return Err("unknown format, expected a file named .yaml, .yml or .toml".to_owned()),
    };
    let text =
        super::files::read_to_string(path, FILE_BYTES_MAX).map_err(|error| format!("cannot be read: {error}"))?;
    match parse(&text)? {
        Figure::Dict(_, dict) => Ok(dict),
        Figure::Empty(..) => Ok(Dict::new()),
        _ => Err("is no mapping, expected keys such as caches:".to_owned()),
    }
}

/// The `Display` of a TOML error quotes the faulty line, which may hold a password.
fn parse_toml(text: &str) -> Result<Figure, String> {
    Toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&character| character != '\n').count() + 1;
        format!("{} at line {line} column {column}", error.message())
    })
}

/// One layer whose metadata says who wrote it: figment hands it back for every single value.
struct Layer {
    metadata: Metadata,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

fn file_metadata(path: &Path) -> Metadata {
    Metadata::from("file", Source::File(path.to_owned()))
}

/// One layer per variable, so that an error can name it.
fn variables(environment: &BTreeMap<String, String>) -> impl Iterator<Item = Layer> {
    environment.iter().filter_map(|(name, text)| {
        let keys = name.strip_prefix(PREFIX)?.to_lowercase();
        let mut keys = keys.rsplit("__");
        let innermost = Dict::from([(keys.next()?.to_owned(), variable_value(text))]);
        let dict = keys.fold(innermost, |inner, key| Dict::from([(key.to_owned(), inner.into())]));
        Some(Layer { metadata: Metadata::from(name.clone(), Source::Custom(ENVIRONMENT.to_owned())), dict })
    })
}

/// Lists and mappings in figment's notation, `[{name="a", nodes=["redis://h"]}]`. All else stays text
/// as it stands: figment would make 7 of 007, and a number of a user name.
fn variable_value(text: &str) -> Figure {
    let parsed = text.parse::<Figure>();
    match parsed {
        Ok(value @ (Figure::Array(..) | Figure::Dict(..))) => value,
        _ => Figure::from(text),
    }
}

fn flags(overrides: &Overrides) -> impl Iterator<Item = Layer> {
    let listen = overrides.listen.map(|listen| ("--listen", "listen", Figure::from(listen.to_string())));
    let redis = (!overrides.redis.is_empty()).then(|| {
        let nodes: Vec<&str> = overrides.redis.iter().map(ExposeSecret::expose_secret).collect();
        let cache = Dict::from([("name".to_owned(), "default".into()), ("nodes".to_owned(), nodes.into())]);
        ("--redis", "caches", Figure::from(vec![Figure::from(cache)]))
    });
    [listen, redis].into_iter().flatten().map(|(flag, key, value)| Layer {
        metadata: Metadata::named(flag),
        dict: Dict::from([(key.to_owned(), value)]),
    })
}

/// figment's tree as ours.
fn raw(figment: &Figment, value: Figure) -> Raw {
    let origin = origin(figment, value.tag());
    let value = match value {
        Figure::Empty(..) => Value::Null,
        Figure::Bool(_, flag) => Value::Bool(flag),
        Figure::Num(_, number) => {
            let unsigned = || number.to_u128().map(|integer| integer as f64);
            let signed = || number.to_i128().map(|integer| integer as f64);
            Value::Number(number.to_f64().or_else(unsigned).or_else(signed).unwrap_or(f64::NAN))
        }
        Figure::Char(_, character) => Value::Text(character.to_string()),
        Figure::String(_, text) => Value::Text(text),
        Figure::Array(_, items) => Value::List(items.into_iter().map(|item| raw(figment, item)).collect()),
        Figure::Dict(_, dict) => Value::Map(dict.into_iter().map(|(key, value)| (key, raw(figment, value))).collect()),
    };
    Raw { origin, value }
}

fn origin(figment: &Figment, tag: Tag) -> Origin {
    let Some(metadata) = figment.get_metadata(tag) else {
        return Origin::Nobody;
    };
    match &metadata.source {
        Some(Source::File(path)) => Origin::File(PathBuf::from(path)),
        Some(Source::Custom(_)) => Origin::Variable(metadata.name.to_string()),
        _ => Origin::Flag(metadata.name.to_string()),
    }
}
