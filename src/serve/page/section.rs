//! One cache: in full when it is in a storm, in a line when it is not.

use maud::{Markup, html};

use super::chart::{self, Span as Stretch};
use super::view::View;
use super::words::{
    ABSENT, Span, Utc, capital, certainty, confidence, count, evidence, number, percent, severity, words,
};
use super::{level, nodes};
use crate::detect::verdict::{CacheVerdict, NodeVerdict, TypeVerdict};
use crate::model::{Indicator, Severity};
use crate::publish::recent::{Recent, Totals};
use crate::publish::{CacheSnapshot, DiscoverySnapshot};
use crate::recommend;
use crate::report::TopologyReport;

/// A cache whose last round is older than this many seconds is said to be old.
const ROUND_AGE_MAX: f64 = 60.0;

/// Misses up to this many times the usual are told as usual.
const FACTOR_MIN: f64 = 1.2;

/// What a cache's part of the page is made from.
pub(super) struct Section<'a> {
    pub(super) snapshot: &'a CacheSnapshot,
    pub(super) discovery: Option<&'a DiscoverySnapshot>,
    pub(super) recent: &'a Recent,
    pub(super) span: Stretch,
    pub(super) view: &'a View,
    /// Unix seconds.
    pub(super) now: f64,
    /// Unique on the page.
    pub(super) id: usize,
    /// The nodes are listed though nobody asked.
    pub(super) open: bool,
}

impl Section<'_> {
    pub(super) fn name(&self) -> &str {
        self.snapshot.cache.as_str()
    }

    pub(super) fn verdict(&self) -> &CacheVerdict {
        &self.snapshot.verdict
    }

    pub(super) fn render(&self) -> Markup {
        match self.verdict().severity {
            Severity::None => self.quiet(),
            _ => self.storm(),
        }
    }

    fn storm(&self) -> Markup {
        let verdict = self.verdict();
        let bad = verdict.severity.ordinal();
        html! {
            section class={ "cache severity-" (bad) } aria-labelledby={ "cache-" (self.id) } data-key={ "cache " (self.name()) } {
                header {
                    h2 id={ "cache-" (self.id) } { (self.name()) }
                    p.badge { (level(bad)) (severity(bad)) " storm" span.of { "severity " (bad) " of 3" } }
                    @if self.snapshot.planned { p.tag { "planned maintenance" } }
                    @for remark in remarks(verdict) { p.tag { (remark) } }
                }
                (self.notices())
                (kind(verdict))
                div.overview {
                    (self.facts())
                    (chart::of_cache(self.recent, self.span, &self.snapshot.episodes, self.snapshot.detector_to_unix))
                }
                div.columns {
                    div {
                        h3 { "What to do now" }
                        ol.advice { @for advice in recommend::for_cache(verdict) { li { (advice) } } }
                    }
                    (proof(verdict))
                }
                (nodes::table(self))
            }
        }
    }

    fn quiet(&self) -> Markup {
        let verdict = self.verdict();
        let totals = Totals::of(&verdict.nodes);
        let down = verdict.nodes.iter().filter(|node| !node.up).count();
        let listed = self.open || self.view.open.contains(self.name()) || !self.view.filter.is_empty();
        html! {
            section.cache.quiet aria-labelledby={ "cache-" (self.id) } data-key={ "cache " (self.name()) } {
                header {
                    h2 id={ "cache-" (self.id) } { (self.name()) }
                    p.badge { (level(0)) "no storm" }
                    @if self.snapshot.planned { p.tag { "planned maintenance" } }
                    @if down > 0 { p.tag.bad { (count(down, "node")) " down" } }
                    (chart::spark(self.recent, self.span, None))
                    p.line {
                        "Hit ratio " strong { (totals.hit_ratio.map_or_else(|| ABSENT.to_owned(), percent)) }
                        @if let Some(usual) = totals.usual { ", usual " (percent(usual)) }
                        "; " (number(totals.misses)) " misses/s of " (number(totals.lookups)) " lookups/s; "
                        (count(verdict.nodes.len(), "node"))
                    }
                    @if !self.open && self.view.filter.is_empty() {
                        a.toggle href=(self.view.toggled_open(self.name())) data-live aria-expanded=(listed) {
                            @if listed { "Hide nodes" } @else { "Show nodes" }
                            span.unseen { " of " (self.name()) }
                        }
                    }
                }
                (self.notices())
                @if listed { (nodes::table(self)) }
            }
        }
    }

    /// Says that rounds have stopped, and what is wrong with the topology.
    fn notices(&self) -> Markup {
        let age = self.now - self.snapshot.time_unix;
        html! {
            @if age > ROUND_AGE_MAX {
                p.notice.bad { "The last round of this cache closed " (Span(age)) " ago: what is said of it may be old." }
            }
            @if let Some(remark) = TopologyReport::new(self.snapshot, self.discovery).remark(self.now) {
                p.notice { "Topology: " (remark) "." }
            }
        }
    }

    fn facts(&self) -> Markup {
        let verdict = self.verdict();
        let totals = Totals::of(&verdict.nodes);
        let started = verdict.started.map(|started| started + self.snapshot.detector_to_unix);
        html! {
            dl.facts {
                div {
                    dt { "Since" }
                    dd {
                        @match started {
                            Some(started) => {
                                strong { (Span(self.now - started)) }
                                time datetime=(Utc(started).machine()) { (Utc(started).since(self.now)) }
                            },
                            None => strong { (ABSENT) },
                        }
                    }
                }
                div {
                    dt { "Nodes affected" }
                    dd {
                        strong { (number(verdict.affected_nodes as f64)) " of " (number(verdict.eligible_nodes as f64)) }
                        span { (percent(verdict.affected_share)) " of nodes, " (percent(verdict.affected_share_traffic)) " of traffic" }
                        meter min="0" max="1" value=(verdict.affected_share) aria-label="Share of nodes affected" {}
                    }
                }
                div {
                    dt { "Hit ratio now" }
                    dd {
                        strong { (totals.hit_ratio.map_or_else(|| ABSENT.to_owned(), percent)) }
                        span { @if let Some(usual) = totals.usual { "usual " (percent(usual)) } }
                    }
                }
                div {
                    dt { "Misses to the database" }
                    dd {
                        strong { (number(totals.misses)) "/s" }
                        span { (against_usual(&totals)) }
                    }
                }
            }
        }
    }
}

/// Misses against what the same lookups usually miss.
fn against_usual(totals: &Totals) -> String {
    let Some(usual) = totals.usual_misses else { return String::new() };
    let factor = totals.misses / usual.max(1.0);
    if factor < FACTOR_MIN {
        return format!("no more than the usual {}/s", number(usual));
    }
    format!("{} times the usual {}/s", number(factor), number(usual))
}

fn remarks(verdict: &CacheVerdict) -> Vec<&'static str> {
    [
        (verdict.recovering, "recovering"),
        (verdict.sustained, "longer than 30 minutes"),
        (verdict.provisional, "provisional: no past to compare with"),
        (verdict.held, "held: the exporter suspects its own network"),
    ]
    .into_iter()
    .filter_map(|(set, remark)| set.then_some(remark))
    .collect()
}

/// The types of the storm, in words.
fn kind(verdict: &CacheVerdict) -> Markup {
    let Some((leading, others)) = verdict.storm_types.split_first() else {
        return html! { p.kind { strong { "Cause not clear yet" } " No cause has shown so far." } };
    };
    html! {
        p.kind {
            strong { (capital(&named(leading))) }
            (certainty(leading.confidence)) ", confidence " (confidence(leading.confidence))
            @if !others.is_empty() {
                span.others {
                    "also: "
                    @for (index, other) in others.iter().enumerate() {
                        @if index > 0 { "; " }
                        (named(other)) " (" (confidence(other.confidence)) ")"
                    }
                }
            }
        }
    }
}

fn named(storm: &TypeVerdict) -> String {
    let kind = words(storm.storm_type.as_str());
    storm.sub_reason.map_or_else(|| kind.clone(), |sub_reason| format!("{kind}: {}", words(sub_reason)))
}

/// The numbers behind the leading type, and on which node they were taken.
fn proof(verdict: &CacheVerdict) -> Markup {
    let Some(leading) = verdict.storm_types.first() else { return html! {} };
    let of = |node: &&NodeVerdict| {
        node.affected && node.storm_type == Some(leading.storm_type) && node.evidence == leading.evidence
    };
    let loudest = verdict.nodes.iter().find(of);
    html! {
        div {
            h3 { "On what evidence" }
            @if let Some(node) = loudest {
                p.note { "Measured on " span.name { (node.node) } ", the affected node that says it loudest." }
            }
            ul.evidence {
                @if let Some(load) = loudest.and_then(load) { li { (load) } }
                @for fact in evidence(&leading.evidence) { li { (fact) } }
            }
        }
    }
}

/// The load of a node that takes too much of it.
fn load(node: &NodeVerdict) -> Option<String> {
    let (now, usual) = (node.signals.commands_per_second?, node.signals.commands_per_second_baseline?);
    let overloaded = node.indicators.contains(&Indicator::HotOverload);
    overloaded.then(|| format!("{} commands/s where {} are usual.", number(now), number(usual)))
}
