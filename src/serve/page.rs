//! The page for people: what `/api/v1/report` says, as HTML without scripts.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::App;
use super::api::{failed, now_unix, waiting};
use crate::report::{CacheReport, EpisodeReport, NodeReport, Report};

/// Where the style sheet is: the page's policy allows none inside it.
pub(super) const STYLE_PATH: &str = "/style.css";

/// Rows of a cache's node table; those in trouble come first, the report has them all.
const MAX_NODES: usize = 200;

/// Rows of the table of episodes.
const MAX_EPISODES: usize = 10;

/// The query that makes the page reload itself every ten seconds. Never by default: a page that moves
/// by itself is a barrier to those who read slowly or listen.
const REFRESH: &str = "refresh=10";

const ABSENT: &str = "–";

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css")).into_response()
}

pub(super) async fn page(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let rendered = tokio::task::spawn_blocking(move || {
        let fleet = app.publisher.fleet();
        Page {
            report: &Report::new(&fleet, now_unix()),
            waiting: &waiting(&fleet),
            isolated: fleet.isolated,
            notice: app.notice.as_deref(),
            refresh: query.as_deref() == Some(REFRESH),
        }
        .to_string()
    });
    match rendered.await {
        Ok(html) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(error) => failed(&error),
    }
}

struct Page<'a> {
    report: &'a Report,
    waiting: &'a [&'a str],
    isolated: bool,
    notice: Option<&'a str>,
    refresh: bool,
}

/// Text with the characters that mean something to HTML replaced.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")?;
        f.write_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")?;
        if self.refresh {
            f.write_str("<meta http-equiv=\"refresh\" content=\"10\">\n")?;
        }
        writeln!(f, "<title>{} – cache-storm-exporter</title>", self.summary())?;
        writeln!(f, "<link rel=\"stylesheet\" href=\"{STYLE_PATH}\">\n</head>\n<body>")?;
        f.write_str("<header><h1>cache-storm-exporter</h1>\n")?;
        self.navigation(f)?;
        f.write_str("</header>\n<main>\n")?;
        if let Some(notice) = self.notice {
            writeln!(f, "<p class=\"notice\">{}</p>", Escaped(notice))?;
        }
        if self.isolated {
            f.write_str(
                "<p class=\"notice\">The exporter suspects its own network: severities hold their last value.</p>\n",
            )?;
        }
        if !self.waiting.is_empty() {
            writeln!(
                f,
                "<p class=\"notice\">Waiting for the first round of: {}</p>",
                Escaped(&self.waiting.join(", "))
            )?;
        }
        let health = &self.report.health;
        writeln!(
            f,
            "<p class=\"summary\"><strong>{}.</strong> Nodes: {} healthy, {} degraded, {} critical, {} unknown, {} down.</p>",
            self.summary(),
            health.healthy,
            health.degraded,
            health.critical,
            health.unknown,
            health.down
        )?;
        for (index, cache) in self.report.caches.iter().enumerate() {
            section(f, index, cache, self.report.time)?;
        }
        episodes(f, &self.report.episodes, self.report.time)?;
        f.write_str("</main>\n</body>\n</html>\n")
    }
}

impl Page<'_> {
    fn summary(&self) -> String {
        let storms = self.report.caches.iter().filter(|cache| cache.severity > 0).count();
        match storms {
            0 => "No storm".to_owned(),
            1 => "1 cache in a storm".to_owned(),
            storms => format!("{storms} caches in a storm"),
        }
    }

    fn navigation(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<nav aria-label=\"Endpoints\"><ul>\n")?;
        let refresh = if self.refresh { ("/", "Stop reloading") } else { ("/?refresh=10", "Reload every 10 s") };
        for (path, name) in [
            refresh,
            ("/metrics", "Metrics"),
            ("/api/v1/report", "Report (JSON)"),
            ("/api/v1/episodes", "Episodes (JSON)"),
            ("/-/healthy", "Healthy"),
            ("/-/ready", "Ready"),
        ] {
            writeln!(f, "<li><a href=\"{path}\">{name}</a></li>")?;
        }
        f.write_str("</ul></nav>\n")
    }
}

fn section(f: &mut fmt::Formatter<'_>, index: usize, cache: &CacheReport, now: f64) -> fmt::Result {
    let severity = severity_name(cache.severity);
    writeln!(f, "<section aria-labelledby=\"cache-{index}\" class=\"severity-{}\">", cache.severity.min(3))?;
    writeln!(
        f,
        "<h2 id=\"cache-{index}\">{} <span class=\"badge\">severity: {severity}</span></h2>",
        Escaped(&cache.cache)
    )?;
    if cache.severity > 0 {
        storm(f, cache, now)?;
    } else {
        writeln!(f, "<p>No storm. {} nodes count.</p>", cache.eligible_nodes)?;
    }
    if !cache.recommendations.is_empty() {
        f.write_str("<h3>What to do now</h3>\n<ol>\n")?;
        for advice in &cache.recommendations {
            writeln!(f, "<li>{}</li>", Escaped(advice))?;
        }
        f.write_str("</ol>\n")?;
    }
    nodes(f, cache)?;
    f.write_str("</section>\n")
}

fn storm(f: &mut fmt::Formatter<'_>, cache: &CacheReport, now: f64) -> fmt::Result {
    write!(f, "<p>{} of {} nodes affected", cache.affected_nodes, cache.eligible_nodes)?;
    if let Some(started) = cache.started {
        write!(f, ", for {}", Span(now - started))?;
    }
    for (set, word) in [
        (cache.recovering, "recovering"),
        (cache.sustained, "longer than 30 minutes"),
        (cache.provisional, "verdict provisional"),
    ] {
        if set {
            write!(f, ", {word}")?;
        }
    }
    f.write_str(".</p>\n")?;
    if cache.storm_types.is_empty() {
        return f.write_str("<p>No cause has shown yet.</p>\n");
    }
    f.write_str("<ul>\n")?;
    for storm in &cache.storm_types {
        write!(f, "<li><strong>{}</strong>", Escaped(&words(&storm.storm_type)))?;
        if let Some(sub_reason) = &storm.sub_reason {
            write!(f, " ({})", Escaped(&words(sub_reason)))?;
        }
        write!(f, ", confidence {:.0} %", storm.confidence * 100.0)?;
        for (name, value) in &storm.evidence {
            write!(f, "; {} {value:.3}", Escaped(&words(name)))?;
        }
        f.write_str("</li>\n")?;
    }
    f.write_str("</ul>\n")
}

fn nodes(f: &mut fmt::Formatter<'_>, cache: &CacheReport) -> fmt::Result {
    let mut nodes: Vec<&NodeReport> = cache.nodes.iter().collect();
    // Stable: within each group they stay sorted by name.
    nodes.sort_by_key(|node| (!node.affected, node.up));
    writeln!(
        f,
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Nodes of {0}\"><table>\n\
         <caption>Nodes of {0}</caption>\n<thead><tr>",
        Escaped(&cache.cache)
    )?;
    for heading in ["Node", "Role", "State"] {
        write!(f, "<th scope=\"col\">{heading}</th>")?;
    }
    for heading in ["Hit ratio", "Usual", "Lookups/s", "Misses/s", "Commands/s", "Evicted/s", "Memory"] {
        write!(f, "<th scope=\"col\" class=\"number\">{heading}</th>")?;
    }
    f.write_str("<th scope=\"col\">Findings</th>")?;
    f.write_str("</tr></thead>\n<tbody>\n")?;
    for node in nodes.iter().take(MAX_NODES) {
        row(f, node)?;
    }
    f.write_str("</tbody>\n</table></div>\n")?;
    if nodes.len() > MAX_NODES {
        writeln!(f, "<p>{} more nodes are in the report.</p>", nodes.len() - MAX_NODES)?;
    }
    Ok(())
}

fn row(f: &mut fmt::Formatter<'_>, node: &NodeReport) -> fmt::Result {
    let class = if node.affected { " class=\"affected\"" } else { "" };
    write!(f, "<tr{class}><th scope=\"row\">{}</th>", Escaped(&node.node))?;
    write!(f, "<td>{}</td>", Escaped(node.role.as_deref().unwrap_or(ABSENT)))?;
    let affected = if node.affected { ", affected" } else { "" };
    write!(f, "<td>{}{affected}</td>", Escaped(&node.state))?;
    for ratio in [node.hit_ratio, node.hit_ratio_baseline] {
        number(f, ratio.map(|ratio| ratio * 100.0), " %")?;
    }
    for rate in
        [node.lookups_per_second, node.misses_per_second, node.commands_per_second, node.evicted_keys_per_second]
    {
        number(f, rate, "")?;
    }
    number(f, node.memory_used_ratio.map(|ratio| ratio * 100.0), " %")?;
    let mut findings: Vec<String> = node.indicators.iter().map(|indicator| words(indicator)).collect();
    findings.extend(node.down_reason.as_ref().map(|reason| format!("no answer: {}", words(reason))));
    writeln!(f, "<td>{}</td></tr>", Escaped(&findings.join(", ")))
}

fn number(f: &mut fmt::Formatter<'_>, value: Option<f64>, unit: &str) -> fmt::Result {
    match value {
        Some(value) => write!(f, "<td class=\"number\">{value:.1}{unit}</td>"),
        None => write!(f, "<td class=\"number\">{ABSENT}</td>"),
    }
}

fn episodes(f: &mut fmt::Formatter<'_>, episodes: &[EpisodeReport], now: f64) -> fmt::Result {
    if episodes.is_empty() {
        return Ok(());
    }
    f.write_str(
        "<section aria-labelledby=\"episodes\">\n<h2 id=\"episodes\">Latest storms</h2>\n\
         <div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Latest storms\"><table>\n<thead><tr>",
    )?;
    for heading in ["Cache", "Cause", "Worst severity", "Began", "Lasted", "Nodes"] {
        write!(f, "<th scope=\"col\">{heading}</th>")?;
    }
    f.write_str("</tr></thead>\n<tbody>\n")?;
    for episode in episodes.iter().take(MAX_EPISODES) {
        let lasted = episode.duration_seconds.map_or_else(|| "goes on".to_owned(), |seconds| Span(seconds).to_string());
        writeln!(
            f,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{} ago</td><td>{lasted}</td>\
             <td class=\"number\">{}</td></tr>",
            Escaped(&episode.cache),
            Escaped(&words(&episode.leading_type)),
            severity_name(episode.peak_severity),
            Span(now - episode.onset),
            episode.affected_nodes_max
        )?;
    }
    f.write_str("</tbody>\n</table></div>\n</section>\n")
}

/// `mass_expiration` as people write it.
fn words(name: &str) -> String {
    name.replace('_', " ")
}

const fn severity_name(ordinal: u8) -> &'static str {
    match ordinal {
        0 => "none",
        1 => "minor",
        2 => "major",
        _ => "critical",
    }
}

/// A span of seconds in the two units that matter.
struct Span(f64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0) as u64;
        match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
            (0, 0, 0, seconds) => write!(f, "{seconds} s"),
            (0, 0, minutes, seconds) => write!(f, "{minutes} min {seconds} s"),
            (0, hours, minutes, _) => write!(f, "{hours} h {minutes} min"),
            (days, hours, ..) => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_in_two_units() {
        for (seconds, text) in
            [(-1.0, "0 s"), (59.9, "59 s"), (61.0, "1 min 1 s"), (3700.0, "1 h 1 min"), (9e4, "1 d 1 h")]
        {
            assert_eq!(Span(seconds).to_string(), text);
        }
    }
}
