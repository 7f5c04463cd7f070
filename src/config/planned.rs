//! Planned maintenance: when, on which cache, and which storms it is known to cause.

use std::time::{Duration, UNIX_EPOCH};

use humantime_serde::re::humantime;

use super::raw::{Item, Section};
use crate::model::{CacheName, StormType};

/// A shorter window would be over before anything can be seen, let alone announced.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// Whatever lasts longer is how the cache is run, and no maintenance.
const DURATION_MAX: Duration = Duration::from_secs(7 * 86_400);

/// One window of planned maintenance.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The cache it is carried out on.
    pub cache: CacheName,
    /// When it begins, Unix seconds.
    pub start_unix: f64,
    /// How long it takes.
    pub duration: Duration,
    /// Storm types it is known to cause; empty: whatever comes.
    pub causes: Vec<StormType>,
}

impl Planned {
    /// Whether it covers what a cache goes through at a time, Unix seconds: the window is open, and the storm that is
    /// on, if any has a name yet, is one that was foreseen.
    #[must_use]
    pub fn covers(&self, now_unix: f64, storm: Option<StormType>) -> bool {
        let open = (self.start_unix..self.start_unix + self.duration.as_secs_f64()).contains(&now_unix);
        open && (self.causes.is_empty() || storm.is_none_or(|storm| self.causes.contains(&storm)))
    }
}

/// All windows, past ones included: they do no harm, and a file is not wrong because time went by. `known`: whether
/// there is a cache of that name.
pub(super) fn planned(item: Option<Item<'_>>, known: impl Fn(&str) -> bool) -> Vec<Planned> {
    let items = item.and_then(|item| item.list("a list of windows, each with cache, start and duration"));
    items.into_iter().flatten().map(|item| window(item.section(), &known)).collect()
}

fn window(mut section: Section<'_>, known: &impl Fn(&str) -> bool) -> Planned {
    let cache = section.get("cache");
    let start = section.get("start");
    let duration = section.get("duration");
    for (key, expected, item) in [
        ("cache", "the name of a cache", &cache),
        ("start", START, &start),
        ("duration", "a duration such as \"30m\"", &duration),
    ] {
        if item.is_none() {
            section.missing(key, expected);
        }
    }
    let name = cache.and_then(|item| {
        let name = item.text("the name of a cache")?;
        if !known(name) {
            item.reject(format!("there is no cache {name}, expected the name of one under caches"));
        }
        Some(name)
    });
    let causes = section.get("causes").and_then(|item| item.list("a list of storm types"));
    let types: Vec<_> = StormType::ALL.iter().map(|storm_type| (storm_type.as_str(), *storm_type)).collect();
    let planned = Planned {
        cache: CacheName::from(name.unwrap_or_default()),
        start_unix: start.and_then(|item| time(&item)).unwrap_or(f64::NAN),
        duration: duration.and_then(|item| item.duration(DURATION_MIN, DURATION_MAX)).unwrap_or_default(),
        causes: causes.into_iter().flatten().filter_map(|item| item.choice(&types)).collect(),
    };
    section.finish();
    planned
}

const START: &str = "a time in UTC such as \"2026-11-25T02:00:00Z\"";

/// RFC 3339 in UTC: a window that moves with somebody's time zone, or twice a year, is none to rely on.
fn time(item: &Item<'_>) -> Option<f64> {
    let time = humantime::parse_rfc3339(item.text(&format!("{START}, in quotes"))?.trim());
    let since_epoch = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    if since_epoch.is_none() {
        item.reject(format!("is no time, expected {START}"));
    }
    since_epoch.map(|since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_covers_its_time_and_what_it_is_known_to_cause() {
        let any =
            Planned { cache: "c".into(), start_unix: 1000.0, duration: Duration::from_secs(60), causes: Vec::new() };
        let (flush, hot) = (Some(StormType::MassInvalidation), Some(StormType::HotKey));
        for (now, covered) in [(999.9, false), (1000.0, true), (1059.9, true), (1060.0, false), (1e9, false)] {
            assert_eq!(any.covers(now, None), covered, "{now}");
            assert_eq!(any.covers(now, hot), covered, "{now}");
        }
        let flush_only = Planned { causes: vec![StormType::MassInvalidation], ..any };
        assert!(flush_only.covers(1030.0, None), "before anything has a name");
        assert!(flush_only.covers(1030.0, flush) && !flush_only.covers(1030.0, hot));
    }
}
