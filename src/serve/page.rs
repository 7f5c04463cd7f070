//! The page for people. The server renders all of it, charts and order included, so that it is whole without a
//! script; the script (`page.js`) fetches it again and puts the differences in place. One renderer, one escaping.

mod chart;
mod episodes;
mod nodes;
mod section;
mod view;
mod words;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

use self::section::Section;
use self::view::View;
use self::words::{Utc, capital, count, number, severity, words};
use super::App;
use super::api::{failed, now_unix, waiting};
use crate::model::{NodeState, Severity};
use crate::publish::{CacheSnapshot, FleetSnapshot, Publisher, Recent};
use crate::report::{UndiscoveredReport, undiscovered};

/// Where style, script and icon are: the page's policy allows none inside it.
pub(super) const STYLE_PATH: &str = "/page.css";
pub(super) const SCRIPT_PATH: &str = "/page.js";
pub(super) const ICON_PATH: &str = "/icon.svg";

/// A fleet of so few nodes is listed whole, storm or not.
const FLEET_SMALL: usize = 20;

/// Bars of the sign that says how bad, beside the word.
const BARS: u8 = 3;

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css")).into_response()
}

pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js")).into_response()
}

pub(super) async fn icon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("page.svg")).into_response()
}

pub(super) async fn page(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let rendered = tokio::task::spawn_blocking(move || {
        let view = View::read(query.as_deref().unwrap_or_default());
        render(&app.publisher, &view, app.notice.as_deref(), now_unix()).into_string()
    });
    match rendered.await {
        Ok(html) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(error) => failed(&error),
    }
}

/// The whole document as of `now`, Unix seconds.
fn render(publisher: &Publisher, view: &View, notice: Option<&str>, now: f64) -> Markup {
    let fleet = publisher.fleet();
    let headline = headline(&fleet);
    html! {
        (DOCTYPE)
        // A page of another release must not be mended with this one's parts.
        html lang="en" data-release=(env!("CARGO_PKG_VERSION")) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if view.refresh { noscript { meta http-equiv="refresh" content="10"; } }
                title { (headline) " – cache-storm-exporter" }
                link rel="icon" type="image/svg+xml" href=(ICON_PATH);
                link rel="stylesheet" href=(STYLE_PATH);
                // Not deferred: it sets the colours before anything is painted.
                script src=(SCRIPT_PATH) {}
            }
            body {
                a.skip href="#main" { "Skip to the verdict" }
                (bar(view))
                main id="main" tabindex="-1" data-news=(news(&fleet)) data-time=(Utc(now).since(now)) {
                    (notices(&fleet, notice, now))
                    (verdict(&fleet, &headline))
                    (caches(publisher, &fleet, view, now))
                    (episodes::table(&fleet, now))
                }
                (footer())
            }
        }
    }
}

/// What stays while the rest is brought up to date.
fn bar(view: &View) -> Markup {
    let other = View { refresh: !view.refresh, ..view.clone() };
    html! {
        header.bar {
            p.brand { (level(2)) "cache-storm-exporter" }
            p.live id="live" { "As of the last load" }
            noscript {
                a href=(other.address()) { @if view.refresh { "Stop reloading" } @else { "Reload every 10 s" } }
            }
            div.buttons {
                button id="pause" type="button" aria-pressed="false" hidden { "Pause" }
                button id="theme" type="button" aria-pressed="false" hidden { "Dark" }
            }
        }
        // Written by the script: what lies between two looks is said once, and only what matters.
        p.stale id="stale" hidden {}
        p.unseen id="news" role="status" {}
    }
}

fn notices(fleet: &FleetSnapshot, notice: Option<&str>, now: f64) -> Markup {
    let waiting = waiting(fleet);
    html! {
        @if let Some(notice) = notice { p.notice { (notice) } }
        @if fleet.isolated {
            p.notice.bad { "The exporter suspects its own network: severities hold their last value." }
        }
        @if !waiting.is_empty() {
            p.notice { "Waiting for the first round of: " (waiting.join(", ")) }
        }
        @for UndiscoveredReport { cache, discovery } in undiscovered(fleet) {
            p.notice.bad { "Nobody says which nodes " (cache) " has: " (discovery.remark(now).unwrap_or_default()) "." }
        }
    }
}

/// The answer to "is it us?", in a line.
fn verdict(fleet: &FleetSnapshot, headline: &str) -> Markup {
    let worst = fleet.caches.values().map(|cache| cache.verdict.severity).max().unwrap_or(Severity::None).ordinal();
    let nodes = || fleet.caches.values().flat_map(|cache| &cache.verdict.nodes);
    let of = |state: NodeState| nodes().filter(|node| node.state == state).count();
    html! {
        div class={ "verdict severity-" (worst) } {
            h1 { (level(worst)) (headline) }
            p.health {
                (count(fleet.caches.len(), "cache")) ", " (count(nodes().count(), "node")) ": "
                @for (index, (state, word)) in [
                    (NodeState::Healthy, "healthy"),
                    (NodeState::Degraded, "degraded"),
                    (NodeState::Critical, "critical"),
                    (NodeState::Unknown, "without lookups"),
                    (NodeState::Down, "down"),
                ].into_iter().filter(|(state, _)| *state == NodeState::Healthy || of(*state) > 0).enumerate() {
                    @if index > 0 { ", " }
                    (number(of(state) as f64)) " " (word)
                }
            }
        }
    }
}

fn headline(fleet: &FleetSnapshot) -> String {
    let storms = storms(fleet);
    match &storms[..] {
        [] if fleet.caches.is_empty() => "No cache has been looked at yet".to_owned(),
        [] => "No storm".to_owned(),
        [only] => format!("{} storm in {}", capital(severity(only.verdict.severity.ordinal())), only.cache),
        storms => format!("{} caches in a storm", storms.len()),
    }
}

/// What a listener is told when it changes: who is in a storm, how bad, why. Without numbers, which always change.
fn news(fleet: &FleetSnapshot) -> String {
    let told: Vec<String> = storms(fleet)
        .into_iter()
        .map(|CacheSnapshot { cache, verdict, .. }| {
            let kind = verdict.storm_types.first().map_or("cause not clear yet", |first| first.storm_type.as_str());
            format!("{cache}: {} storm, {}", severity(verdict.severity.ordinal()), words(kind))
        })
        .collect();
    if told.is_empty() { "No storm".to_owned() } else { told.join(". ") }
}

/// Caches in a storm: the worst first, and of equals the oldest.
fn storms(fleet: &FleetSnapshot) -> Vec<&CacheSnapshot> {
    let mut storms: Vec<&CacheSnapshot> = fleet.caches.values().map(|cache| &**cache).filter(in_storm).collect();
    let started = |cache: &CacheSnapshot| cache.verdict.started.unwrap_or(f64::MAX);
    storms.sort_by(|a, b| b.verdict.severity.cmp(&a.verdict.severity).then_with(|| started(a).total_cmp(&started(b))));
    storms
}

fn in_storm(cache: &&CacheSnapshot) -> bool {
    cache.verdict.severity > Severity::None
}

fn caches(publisher: &Publisher, fleet: &FleetSnapshot, view: &View, now: f64) -> Markup {
    let recents = publisher.recent();
    let nothing = Recent::default();
    let small = fleet.caches.values().map(|cache| cache.verdict.nodes.len()).sum::<usize>() <= FLEET_SMALL;
    let searched = !small || !view.filter.is_empty();
    let section = |id: usize, snapshot: &CacheSnapshot| {
        let recent = recents.get(&snapshot.cache).unwrap_or(&nothing);
        let discovery = fleet.discovery.get(&snapshot.cache).map(|discovery| &**discovery);
        Section { snapshot, discovery, recent, span: chart::Span::until(now), view, now, id, open: small }.render()
    };
    let storms = storms(fleet);
    let quiet: Vec<&CacheSnapshot> =
        fleet.caches.values().map(|cache| &**cache).filter(|cache| !in_storm(cache)).collect();
    html! {
        @if searched { (search(view)) }
        @for (id, cache) in storms.iter().enumerate() { (section(id, cache)) }
        @if !storms.is_empty() && !quiet.is_empty() { h2.others { "Who is fine" } }
        @for (id, cache) in quiet.iter().enumerate() { (section(storms.len() + id, cache)) }
    }
}

fn search(view: &View) -> Markup {
    html! {
        form.search role="search" action="/" data-live {
            label for="filter" { "Find nodes" }
            input id="filter" name="q" type="search" value=(view.filter) autocomplete="off" spellcheck="false"
                placeholder="name, role, state or finding";
            @for (name, value) in view.parts().into_iter().filter(|(name, _)| *name != "q") {
                input type="hidden" name=(name) value=(value);
            }
            button type="submit" { "Find" }
        }
    }
}

fn footer() -> Markup {
    html! {
        footer {
            nav aria-label="Endpoints" {
                ul {
                    @for (path, name) in [
                        ("/metrics", "Metrics"),
                        ("/api/v1/report", "Report (JSON)"),
                        ("/api/v1/episodes", "Storms (JSON)"),
                        ("/-/healthy", "Healthy"),
                        ("/-/ready", "Ready"),
                    ] { li { a href=(path) { (name) } } }
                }
            }
            p { "cache-storm-exporter " (env!("CARGO_PKG_VERSION")) }
        }
    }
}

/// A sign of three bars, `filled` of them full; a word always stands beside it.
fn level(filled: u8) -> Markup {
    html! {
        svg.level viewBox="0 0 16 12" aria-hidden="true" {
            @for bar in 0..BARS {
                rect.full[bar < filled] x=(bar * 6) y=(8 - bar * 4) width="4" height=(4 + bar * 4) {}
            }
        }
    }
}
