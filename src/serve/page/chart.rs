//! Hit ratio against what is usual over the last quarter of an hour, as SVG.
//!
//! One unit across is a slot of history, one down a hundredth of the ratio. Images are stretched to the place they
//! get (`preserveAspectRatio="none"`); lines keep their width by the style sheet.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::words::percent;
use crate::detect::verdict::Episode;
use crate::model::NodeName;
use crate::publish::recent::{Moment, Ratios, Recent, SLOT_SECONDS, SLOTS_MAX};

/// Slots that a node's small chart puts into one point, the lowest: 60 points are as many as it has pixels.
const SPARK_SLOTS: u64 = 3;

/// The stretch of time that a chart shows.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// Slot at the left edge.
    first: u64,
}

/// A point: slot and what is known of it.
type Point = (u64, Option<f64>);

impl Span {
    /// The quarter of an hour that ends at `now`, Unix seconds.
    pub(super) fn until(now: f64) -> Self {
        Self { first: ((now.max(0.0) / SLOT_SECONDS) as u64 + 1).saturating_sub(SLOTS_MAX) }
    }

    fn x(self, slot: f64) -> f64 {
        (slot - self.first as f64).clamp(0.0, SLOTS_MAX as f64)
    }

    fn shows(self, moment: &&Moment) -> bool {
        moment.slot >= self.first
    }
}

/// The chart of a cache. `storms` are shaded; their times are detector time, `detector_to_unix` makes them Unix.
pub(super) fn of_cache(recent: &Recent, span: Span, storms: &[Episode], detector_to_unix: f64) -> Markup {
    let moments: Vec<&Moment> = recent.moments().filter(|moment| span.shows(moment)).collect();
    let line = |of: fn(Ratios) -> Option<f64>| moments.iter().map(move |moment| (moment.slot, of(moment.cache)));
    let ratios: Vec<Point> = line(Ratios::hit_ratio).collect();
    html! {
        figure.chart {
            svg viewBox={ "0 0 " (SLOTS_MAX) " 100" } preserveAspectRatio="none" role="img" aria-label=(summary(&ratios)) {
                @for x in (1..15).map(|minute| minute * 12) {
                    path.grid d={ "M" (x) " 0V100" } {}
                }
                @for y in [25, 50, 75] {
                    path.grid d={ "M0 " (y) "H180" } {}
                }
                @for (from, to) in bands(storms, span, detector_to_unix) {
                    rect.storm x=(coordinate(from)) y="0" width=(coordinate((to - from).max(0.5))) height="100" {}
                }
                path.usual d=(path(span, line(Ratios::usual))) {}
                path.ratio d=(path(span, ratios.iter().copied())) {}
                @if let Some((slot, Some(ratio))) = ratios.last() {
                    path.now d={ "M" (coordinate(span.x(*slot as f64 + 0.5))) " " (coordinate(100.0 - ratio * 100.0)) "h0" } {}
                }
            }
            div.scale aria-hidden="true" { span { "100 %" } span { "50" } span { "0" } }
            div.times aria-hidden="true" { span { "15 min ago" } span { "10" } span { "5" } span { "now" } }
            figcaption {
                span.key.ratio { "hit ratio" } span.key.usual { "usual" } span.key.storm { "storm" }
            }
        }
    }
}

/// The small chart of a cache or, with `node`, of one of its nodes.
pub(super) fn spark(recent: &Recent, span: Span, node: Option<&NodeName>) -> Markup {
    let of = |moment: &Moment| node.map_or(Some(moment.cache), |node| moment.node(node));
    let mut ratios: Vec<Point> = Vec::with_capacity(64);
    let mut usual: Vec<Point> = Vec::with_capacity(64);
    for moment in recent.moments().filter(|moment| span.shows(moment)) {
        let slot = moment.slot - moment.slot % SPARK_SLOTS;
        let here = of(moment);
        let ratio = here.and_then(Ratios::hit_ratio);
        match ratios.last_mut() {
            Some(last) if last.0 == slot => last.1 = lowest(last.1, ratio),
            _ => {
                ratios.push((slot, ratio));
                usual.push((slot, here.and_then(Ratios::usual)));
            }
        }
    }
    html! {
        svg.spark viewBox={ "0 -4 " (SLOTS_MAX) " 108" } preserveAspectRatio="none" aria-hidden="true" {
            path.usual d=(path(span, usual.into_iter())) {}
            path.ratio d=(path(span, ratios.into_iter())) {}
        }
    }
}

fn lowest(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A line through the points, broken where nothing is known and where rounds are missing.
fn path(span: Span, points: impl Iterator<Item = Point> + Clone) -> String {
    let slots = points.clone().map(|(slot, _)| slot);
    let pace = slots.clone().zip(slots.skip(1)).map(|(a, b)| b - a).min().unwrap_or(1);
    let mut path = String::new();
    let mut before: Option<u64> = None;
    for (slot, ratio) in points {
        let Some(ratio) = ratio else {
            before = None;
            continue;
        };
        let joined = before.is_some_and(|before| slot - before <= 2 * pace + 1);
        let (x, y) = (coordinate(span.x(slot as f64 + 0.5)), coordinate(100.0 - ratio * 100.0));
        // `h0` makes a lone point a dot.
        let end = if joined { "" } else { "h0" };
        write!(path, "{}{x} {y}{end}", if joined { 'L' } else { 'M' }).expect("writing to a string cannot fail");
        before = Some(slot);
    }
    path
}

/// From where to where storms last that reach into the span.
fn bands(storms: &[Episode], span: Span, detector_to_unix: f64) -> Vec<(f64, f64)> {
    let x = |time: f64| span.x((time + detector_to_unix) / SLOT_SECONDS);
    let bands = storms.iter().map(|storm| (x(storm.onset), storm.ended.map_or(SLOTS_MAX as f64, x)));
    bands.filter(|(_, to)| *to > 0.0).collect()
}

fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// The chart for those who do not see it.
fn summary(ratios: &[Point]) -> String {
    let known = || ratios.iter().filter_map(|(_, ratio)| *ratio);
    let (Some(now), Some(low)) = (known().next_back(), known().reduce(f64::min)) else {
        return "Hit ratio over the last 15 minutes: not known".to_owned();
    };
    let high = known().fold(now, f64::max);
    format!("Hit ratio over the last 15 minutes: between {} and {}, now {}", percent(low), percent(high), percent(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_where_nothing_is_known() {
        let span = Span { first: 100 };
        let line = |points: &[Point]| path(span, points.iter().copied());
        assert_eq!(line(&[]), "");
        assert_eq!(line(&[(100, Some(1.0)), (101, Some(0.5))]), "M0.5 0h0L1.5 50");
        assert_eq!(line(&[(100, Some(1.0)), (101, None), (102, Some(0.0))]), "M0.5 0h0M2.5 100h0");
        let gap = [(100, Some(1.0)), (101, Some(1.0)), (110, Some(1.0))];
        assert_eq!(line(&gap), "M0.5 0h0L1.5 0M10.5 0h0", "rounds are missing");
        let slow = [(100, Some(1.0)), (112, Some(1.0)), (124, Some(1.0))];
        assert_eq!(line(&slow), "M0.5 0h0L12.5 0L24.5 0", "polled every minute");
    }

    #[test]
    fn the_span_ends_now() {
        let span = Span::until(10_000.0);
        assert_eq!(span.first, 2001 - 180);
        assert_eq!(span.x(2001.0), 180.0);
        assert_eq!(span.x(0.0), 0.0);
    }
}
