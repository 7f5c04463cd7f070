//! The table of past and running storms.

use maud::{Markup, html};

use super::level;
use super::words::{Span, Utc, number, severity, words};
use crate::publish::FleetSnapshot;
use crate::report::{EpisodeReport, Episodes};

/// Rows of the table; `/api/v1/episodes` has a hundred.
const ROWS_MAX: usize = 12;

pub(super) fn table(fleet: &FleetSnapshot, now: f64) -> Markup {
    let episodes = Episodes::new(fleet).episodes;
    html! {
        section.episodes aria-labelledby="episodes" {
            h2 id="episodes" { "Latest storms" }
            @if episodes.is_empty() {
                p { "None since the exporter began to watch." }
            } @else {
                div.scroll role="region" tabindex="0" aria-label="Table of the latest storms" {
                    table {
                        thead {
                            tr {
                                @for heading in ["Began", "Cache", "Cause", "At worst", "Lasted"] { th scope="col" { (heading) } }
                                th.number scope="col" { "Nodes" }
                            }
                        }
                        tbody { @for episode in episodes.iter().take(ROWS_MAX) { (row(episode, now)) } }
                    }
                }
            }
        }
    }
}

fn row(episode: &EpisodeReport, now: f64) -> Markup {
    let cause = match &episode.sub_reason {
        Some(sub_reason) => format!("{}: {}", words(&episode.leading_type), words(sub_reason)),
        None => words(&episode.leading_type),
    };
    html! {
        tr data-key=(episode.id) {
            td {
                time datetime=(Utc(episode.onset).machine()) { (Utc(episode.onset).since(now)) }
                span.note { (Span(now - episode.onset)) " ago" }
            }
            th scope="row" { (episode.cache) }
            td { (cause) }
            td { span class={ "state severity-" (episode.peak_severity) } { (level(episode.peak_severity)) (severity(episode.peak_severity)) } }
            td {
                @match (episode.duration_seconds, &episode.end_reason) {
                    (Some(seconds), reason) => {
                        (Span(seconds))
                        span.note { @if let Some(reason) = reason { (words(reason)) } }
                    },
                    _ => strong { "goes on" },
                }
            }
            td.number { (number(episode.affected_nodes_max as f64)) }
        }
    }
}
