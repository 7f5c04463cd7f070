//! The report as text for a terminal.

use std::fmt::Write as _;

use super::{CacheReport, NodeReport, Report, UndiscoveredReport};

const HEADINGS: [&str; 8] = ["NODE", "ROLE", "STATE", "HIT RATIO", "BASELINE", "LOOKUPS/S", "MISSES/S", "FINDINGS"];

/// What a terminal shows for "not known".
const ABSENT: &str = "-";

pub(super) fn render(report: &Report) -> String {
    let health = &report.health;
    let mut text = format!(
        "{} healthy, {} degraded, {} critical, {} unknown, {} down\n",
        health.healthy, health.degraded, health.critical, health.unknown, health.down
    );
    if report.caches.is_empty() {
        text.push_str("no cache has had a round yet\n");
    }
    for UndiscoveredReport { cache, discovery } in &report.undiscovered {
        let remark = discovery.remark(report.time).unwrap_or_default();
        writeln!(text, "{cache}: nodes not known: {remark}").expect("writing to a string cannot fail");
    }
    for cache in &report.caches {
        text.push('\n');
        render_cache(&mut text, cache, report.time);
    }
    // A report may come from elsewhere: its text must not steer the terminal.
    text.replace(|c: char| c.is_control() && c != '\n', "?")
}

fn render_cache(text: &mut String, cache: &CacheReport, now: f64) {
    let mut headline = format!(
        "{}: severity {} ({}), {} of {} nodes affected",
        cache.cache, cache.severity, cache.severity_name, cache.affected_nodes, cache.eligible_nodes
    );
    for (index, named) in cache.storm_types.iter().enumerate() {
        let also = if index > 0 { "also " } else { "" };
        let sub_reason = named.sub_reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
        headline += &format!(", {also}{}{sub_reason} (confidence {:.2})", named.storm_type, named.confidence);
    }
    if let Some(started) = cache.started {
        headline += &format!(", for {:.0} s", (now - started).max(0.0));
    }
    for (set, word) in [
        (cache.recovering, "recovering"),
        (cache.sustained, "sustained"),
        (cache.provisional, "provisional"),
        (cache.planned, "planned"),
    ] {
        if set {
            headline += &format!(", {word}");
        }
    }
    text.push_str(&headline);
    text.push('\n');
    if let Some(remark) = cache.topology.remark(now) {
        writeln!(text, "  topology: {remark}").expect("writing to a string cannot fail");
    }
    let rows: Vec<[String; 8]> = cache.nodes.iter().map(row).collect();
    push_aligned(text, &rows);
    for advice in &cache.recommendations {
        writeln!(text, "  * {advice}").expect("writing to a string cannot fail");
    }
}

fn row(node: &NodeReport) -> [String; 8] {
    let share = |ratio: Option<f64>| ratio.map_or_else(|| ABSENT.to_owned(), |ratio| format!("{:.1} %", ratio * 100.0));
    let rate = |rate: Option<f64>| rate.map_or_else(|| ABSENT.to_owned(), |rate| format!("{rate:.1}"));
    let mut findings = node.indicators.clone();
    findings.extend(node.down_reason.iter().cloned());
    [
        node.node.clone(),
        node.role.clone().unwrap_or_else(|| ABSENT.to_owned()),
        node.state.clone(),
        share(node.hit_ratio),
        share(node.hit_ratio_baseline),
        rate(node.lookups_per_second),
        rate(node.misses_per_second),
        if findings.is_empty() { ABSENT.to_owned() } else { findings.join(" ") },
    ]
}

fn push_aligned(text: &mut String, rows: &[[String; 8]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(|column| width(column).max(HEADINGS[column].len()));
    let headings = HEADINGS.map(str::to_owned);
    for row in std::iter::once(&headings).chain(rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(format!("  {}", cells.join("  ")).trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::fixture;

    #[test]
    fn a_storm_reads_at_a_glance() {
        let text = Report::new(&fixture::publisher().fleet(), fixture::ROUND_UNIX).to_table();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "0 healthy, 0 degraded, 1 critical, 1 unknown, 1 down");
        assert_eq!(
            lines[2],
            "sessions: severity 2 (major), 1 of 3 nodes affected, mass_invalidation, key_space_shift (confidence 0.90), \
             for 30 s, provisional, planned"
        );
        assert_eq!(lines[3], "  NODE           ROLE     STATE     HIT RATIO  BASELINE  LOOKUPS/S  MISSES/S  FINDINGS");
        assert_eq!(
            lines[4],
            "  10.0.0.1:6379  master   critical  30.0 %     90.0 %    1000.0     700.0     low_hit_ratio hit_ratio_drop"
        );
        assert_eq!(lines[6], "  10.0.0.3:6379  -        down      -          -         -          -         refused");
        assert!(lines[7].starts_with("  * The clients ask"), "{text}");
    }

    #[test]
    fn discovery_that_fails_is_told_with_its_reason() {
        let publisher = fixture::publisher();
        for cache in ["sessions", "catalog"] {
            publisher.set_discovery(&cache.into(), Some(fixture::failing_discovery()));
        }
        let text = Report::new(&publisher.fleet(), fixture::ROUND_UNIX).to_table();
        let told = "discovery (sentinel) has failed for 42 s: s:26379: connection refused";
        assert!(text.contains(&format!("\ncatalog: nodes not known: {told}\n")), "{text}");
        assert!(text.contains(&format!("\n  topology: {told}; the last known nodes are polled\n")), "{text}");
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        let mut report = Report::new(&fixture::publisher().fleet(), fixture::ROUND_UNIX);
        report.caches[0].cache = "a\u{1b}[2Jb".to_owned();
        assert!(report.to_table().contains("a?[2Jb"));
    }
}
