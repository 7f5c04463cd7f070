//! Grafana's dashboards: rendered here from the exporter's own tables, committed in `dashboards/`, and checked.
//!
//! `docs/dashboards.md` says which question each answers and why they are made this way.

mod exporter;
mod grafana;
mod hot_keys;
mod investigation;
mod objectives;
mod overview;
mod query;
mod replication;
mod types;
mod vocabulary;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Set to anything, it makes the drift test write the files instead.
const WRITE: &str = "DASHBOARDS_WRITE";

/// Every dashboard, by its file's name.
pub(crate) fn all() -> Vec<(String, Value)> {
    let dashboards = [
        overview::dashboard(),
        investigation::dashboard(),
        replication::dashboard(),
        hot_keys::dashboard(),
        objectives::dashboard(),
        exporter::dashboard(),
    ];
    dashboards.into_iter().map(|dashboard| (format!("{}.json", dashboard.uid), dashboard.json())).collect()
}

#[test]
fn files_are_what_is_rendered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards");
    let write = std::env::var_os(WRITE).is_some();
    for (name, dashboard) in all() {
        let rendered = serde_json::to_string_pretty(&dashboard).unwrap() + "\n";
        let file = folder.join(&name);
        if write {
            std::fs::write(&file, &rendered).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == rendered, "dashboards/{name} differs from what is rendered: run `make dashboards`");
    }
    let expected: Vec<PathBuf> = all().iter().map(|(name, _)| folder.join(name)).collect();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let json = path.extension().is_some_and(|extension| extension == "json");
        assert!(!json || expected.contains(&path), "nothing renders {}: remove it", path.display());
    }
}
