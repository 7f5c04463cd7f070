//! The table of a cache's nodes.

use maud::{Markup, html};

use super::section::Section;
use super::view::{Column, Order};
use super::words::{ABSENT, confidence, count, number, percent, words};
use super::{chart, level};
use crate::detect::verdict::NodeVerdict;
use crate::model::NodeState;

/// Rows shown before someone asks for all.
const ROWS_FEW: usize = 25;

/// Most rows of one table: more help nobody, a filter does.
const ROWS_MAX: usize = 2000;

pub(super) fn table(section: &Section<'_>) -> Markup {
    let (name, view) = (section.name(), section.view);
    let nodes = view.arrange(&section.verdict().nodes);
    let all = view.all.contains(name);
    let shown = nodes.len().min(if all { ROWS_MAX } else { ROWS_FEW });
    html! {
        div.scroll role="region" tabindex="0" aria-label={ "Nodes of " (name) } {
            table.nodes {
                caption { (caption(section, nodes.len(), shown)) }
                thead { tr { @for column in Column::ALL { (heading(section, column)) } } }
                tbody { @for node in nodes.iter().take(shown) { (row(section, node)) } }
            }
        }
        @if nodes.len() > ROWS_FEW {
            p.more {
                a href=(view.toggled_all(name)) data-live {
                    @if all { "Show fewer nodes" } @else { "Show all " (number(nodes.len() as f64)) " nodes" }
                }
            }
        }
    }
}

fn caption(section: &Section<'_>, found: usize, shown: usize) -> String {
    let total = section.verdict().nodes.len();
    let order = if section.view.order.is_none() { ", those in trouble first" } else { "" };
    let matching = if found == total { String::new() } else { format!(" that match, of {}", number(total as f64)) };
    let cut = if shown == found { String::new() } else { format!(", the first {} shown", number(shown as f64)) };
    format!("{}{matching}{cut}{order}", count(found, "node"))
}

fn heading(section: &Section<'_>, column: Column) -> Markup {
    let sort = match section.view.order {
        Some(Order { column: by, descending }) if by == column => {
            Some(if descending { "descending" } else { "ascending" })
        }
        _ => None,
    };
    html! {
        th scope="col" class=[column.numeric().then_some("number")] aria-sort=[sort] {
            a href=(section.view.sorted_by(column)) data-live { (column.heading()) }
        }
    }
}

fn row(section: &Section<'_>, node: &NodeVerdict) -> Markup {
    html! {
        tr.affected[node.affected] data-key=(node.node) {
            th scope="row" { span.name { (node.node) } span.note { (standing(node)) } }
            td { (state(node)) (findings(section, node)) }
            td.number {
                (chart::spark(section.recent, section.span, Some(&node.node)))
                span.value { (node.signals.hit_ratio.map_or_else(|| ABSENT.to_owned(), percent)) }
                span.note { @if let Some(usual) = node.signals.hit_ratio_baseline { "usual " (percent(usual)) } }
            }
            @for column in Column::ALL.into_iter().skip(3) {
                td.number { (value(column, node)) }
            }
        }
    }
}

fn value(column: Column, node: &NodeVerdict) -> String {
    let Some(value) = column.value(node) else { return ABSENT.to_owned() };
    match column {
        Column::Memory => percent(value),
        Column::Lag => format!("{} s", number(value)),
        _ => number(value),
    }
}

/// Role, and whether it counts.
fn standing(node: &NodeVerdict) -> String {
    let role = node.role.map_or("role unknown", |role| role.as_str());
    if node.eligible { role.to_owned() } else { format!("{role}, no traffic, does not count") }
}

fn state(node: &NodeVerdict) -> Markup {
    let (bars, word) = match node.state {
        NodeState::Healthy => (0, "healthy"),
        NodeState::Degraded => (1, "degraded"),
        NodeState::Critical => (2, "critical"),
        NodeState::Down => (3, "down"),
        NodeState::Unknown => (0, "no lookups"),
    };
    html! {
        span class={ "state state-" (node.state) } { (level(bars)) (word) }
        @if node.affected { span.tag { "in the storm" } }
    }
}

fn findings(section: &Section<'_>, node: &NodeVerdict) -> Markup {
    let mut findings: Vec<String> = Vec::new();
    findings.extend(node.down_reason.map(|reason| format!("no answer: {}", words(reason.as_str()))));
    // What the whole cache is said to have needs no repetition.
    let differs = |kind: &_| Some(*kind) != section.verdict().leading_type;
    findings.extend(
        node.storm_type
            .filter(differs)
            .map(|kind| format!("{} ({})", words(kind.as_str()), confidence(node.confidence))),
    );
    findings.extend(node.indicators.iter().map(|indicator| words(indicator.as_str())));
    html! { span.note { (findings.join(", ")) } }
}
