//! What a run shows: impact by the clients' own count, delay, type, severity and false alarms, of the exporter and
//! of the runbook's sketch.

use cache_storm_exporter::report::EpisodeReport;

use super::clients::{BIN, Bin};
use super::outcome::{Outcome, SketchOutcome, StormOutcome};
use super::run::{Plan, Seen};
use super::scenario::{From, Truth};

/// A fall of the clients' ratio that counts as impact.
const IMPACT: f64 = 0.10;
/// Storms are held against the bars from this fall …
const WEIGHTY_DROP: f64 = 0.15;
/// … or this growth of misses on, if it is as many misses a second as the indicator asks for.
const WEIGHTY_FACTOR: f64 = 3.0;
const WEIGHTY_MISSES_PER_SECOND: f64 = 50.0;
/// Fewer lookups in a bin say nothing.
const BIN_LOOKUPS: f64 = 50.0;
/// Half of a run's clock: an announcement is stamped with the round's time, an event with the moment it is begun.
const CLOCK_SLACK: f64 = 0.05;

/// The clients' count of a storm's nodes, in nominal time.
struct Course<'a> {
    bins: Vec<&'a [Bin]>,
    scale: f64,
}

impl Course<'_> {
    /// Hits and lookups between two moments, nominal seconds since the clients' start.
    fn sum(&self, from: f64, to: f64) -> (f64, f64) {
        let index = |nominal: f64| (nominal.max(0.0) / self.scale / BIN).round() as usize;
        let (from, to) = (index(from), index(to));
        self.bins
            .iter()
            .flat_map(|bins| &bins[from.min(bins.len())..to.min(bins.len())])
            .fold((0.0, 0.0), |sum, bin| (sum.0 + f64::from(bin.hits), sum.1 + f64::from(bin.lookups)))
    }

    fn ratio(&self, from: f64, to: f64) -> Option<f64> {
        let (hits, lookups) = self.sum(from, to);
        (lookups > 0.0).then(|| hits / lookups)
    }

    /// Misses per real second.
    fn misses(&self, from: f64, to: f64) -> f64 {
        let (hits, lookups) = self.sum(from, to);
        (lookups - hits) * self.scale / (to - from)
    }
}

/// Size of a storm by the clients' count.
struct Size {
    /// Nominal seconds since the clients' start.
    impact: Option<f64>,
    half: Option<f64>,
    drop: f64,
    misses_factor: f64,
    weighty: bool,
}

fn size(course: &Course<'_>, from: f64, to: f64) -> Size {
    let normal = course.ratio(from - 150.0, from).unwrap_or(0.0);
    let normal_misses = course.misses(from - 150.0, from);
    let (_, lookups) = course.sum(from - 150.0, from);
    // A second, or as long as enough lookups for a ratio take.
    let width = (BIN_LOOKUPS * 150.0 / lookups.max(1.0)).max(1.0).max(BIN * course.scale);
    let bins = |width: f64| (0..((to - from) / width) as usize).map(move |bin| from + bin as f64 * width);
    let low = |at: f64, width: f64, limit: f64| course.ratio(at, at + width).is_some_and(|ratio| ratio <= limit);
    let fallen = |at: f64| low(at, width, normal - IMPACT) && low(at + width, width, normal - IMPACT);
    let wide = width.max(10.0);
    let drop =
        bins(wide).filter_map(|at| course.ratio(at, at + wide)).fold(0.0_f64, |most, ratio| most.max(normal - ratio));
    let misses = bins(wide).map(|at| course.misses(at, at + wide)).fold(0.0, f64::max);
    let misses_factor = misses / normal_misses.max(1.0);
    Size {
        impact: bins(width).find(|at| fallen(*at)),
        half: passes_half(course, from, to),
        drop,
        misses_factor,
        weighty: drop >= WEIGHTY_DROP
            || (misses_factor >= WEIGHTY_FACTOR && misses - normal_misses >= WEIGHTY_MISSES_PER_SECOND),
    }
}

/// When a straight line through the later half of the course passes a half. The first low bin would come minutes too
/// early: a slow ramp moves less from bin to bin than chance does.
fn passes_half(course: &Course<'_>, from: f64, to: f64) -> Option<f64> {
    const WIDTH: f64 = 10.0;
    let middle = f64::midpoint(from, to);
    let points: Vec<(f64, f64)> = (0..((to - middle) / WIDTH) as usize)
        .map(|bin| middle + bin as f64 * WIDTH)
        .filter_map(|at| Some((at + WIDTH / 2.0, course.ratio(at, at + WIDTH)?)))
        .collect();
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (time, ratio) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - time).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - time) * (point.1 - ratio)).sum::<f64>() / spread;
    let at = time + (0.5 - ratio) / slope;
    (slope < 0.0 && (from..=to).contains(&at)).then_some(at)
}

/// Judges a run.
pub(crate) fn judge(plan: &Plan, seen: &Seen) -> Outcome {
    let truths = &plan.scenario.truths;
    let storms = (0..truths.len()).map(|index| storm(plan, seen, index)).collect();
    let excused = |node: usize, unix: f64| {
        (0..truths.len()).any(|index| {
            let (on, may) = &seen.nodes[index];
            // From the event on: a Sentinel's switch comes later than the death it answers.
            let began = seen.start_unix + (plan.scenario.quiet_before + truths[index].at) / plan.scale;
            unix >= began - CLOCK_SLACK && (on.contains(&node) || may.contains(&node))
        })
    };
    let mut false_alarms: Vec<String> = seen
        .looks
        .iter()
        .filter(|look| !look.planned)
        .flat_map(|look| look.affected.iter().map(move |(node, said)| (look.unix, *node, said)))
        .filter(|(unix, node, _)| !excused(*node, *unix))
        .map(|(unix, node, (storm_type, indicators))| {
            let at = (unix - seen.start_unix) * plan.scale - plan.scenario.quiet_before;
            let storm_type = storm_type.as_deref().unwrap_or("untyped");
            format!("node {node} at {at:.0} s: {storm_type} by {}", indicators.join(" "))
        })
        .collect();
    // What is wrong stays wrong for many looks: the first few tell it.
    false_alarms.truncate(3);
    let sketch_false = seen.naive.iter().any(|round| round.affected.iter().any(|node| !excused(*node, round.unix)));
    Outcome {
        scenario: plan.scenario.name.to_owned(),
        seed: plan.seed,
        scale: plan.scale,
        sampler: plan.sampler,
        nodes: seen.node_count,
        lookups_per_second: seen.parameters.rate,
        zipf: seen.parameters.zipf,
        storms,
        false_alarms,
        sketch_false_alarm: sketch_false,
    }
}

fn storm(plan: &Plan, seen: &Seen, index: usize) -> StormOutcome {
    let truth = &plan.scenario.truths[index];
    let (on, may) = &seen.nodes[index];
    let nominal = |unix: f64| (unix - seen.start_unix) * plan.scale;
    let unix = |nominal: f64| seen.start_unix + nominal / plan.scale;
    let event = plan.scenario.quiet_before + truth.at;
    let from = nominal(plan.began(seen, index));
    let to = plan
        .scenario
        .truths
        .iter()
        .map(|truth| plan.scenario.quiet_before + truth.at)
        .filter(|at| *at > event)
        .fold(plan.scenario.quiet_before + plan.scenario.watched, f64::min);
    let course = Course { bins: on.iter().map(|node| &seen.bins[*node][..]).collect(), scale: plan.scale };
    let size = size(&course, event, to);
    let base = match truth.from {
        From::Event | From::Switch => Some(from),
        From::Half => size.half,
        // Three times the misses need not be ten points: then the event itself is the beginning.
        From::Impact => size.impact.or(size.weighty.then_some(event)),
    };

    let during = |at: f64| at >= event - CLOCK_SLACK * plan.scale && at <= to;
    let looks = || seen.looks.iter().filter(|look| during(nominal(look.unix)));
    let first_look = looks().find(|look| on.iter().any(|node| look.affected.contains_key(node)));
    let affected = on.iter().filter(|node| looks().any(|look| look.affected.contains_key(node))).count();
    let episode = episode(seen, unix(event) - CLOCK_SLACK, unix(to), on, plan.scenario.truths.len() > 1);
    // Of several storms that share an episode only the looks tell when this one's nodes joined.
    let announced = if plan.scenario.truths.len() == 1 {
        episode.as_ref().map(|episode| episode.announced)
    } else {
        first_look.map(|look| look.unix)
    };
    let types: Vec<String> = episode
        .iter()
        .flat_map(|episode| &episode.storm_types)
        .map(|seen| seen.storm_type.clone())
        .chain(looks().flat_map(|look| on.iter().filter_map(|node| look.affected.get(node)?.0.clone())))
        .fold(Vec::new(), |mut types, seen| {
            if !types.contains(&seen) {
                types.push(seen);
            }
            types
        });
    let leading = episode.as_ref().map(|episode| episode.leading_type.clone());
    let severity = looks().map(|look| look.severity).max().unwrap_or(0);
    StormOutcome {
        truth: truth.storm_type.map(|storm_type| storm_type.as_str().to_owned()),
        // What does not show in the ratio is a storm by its nature.
        weighty: size.weighty || matches!(truth.from, From::Event | From::Switch),
        drop_points: (100.0 * size.drop).round(),
        misses_factor: (10.0 * size.misses_factor).round() / 10.0,
        nodes_true: on.len(),
        nodes_affected: affected,
        detected: affected > 0,
        delay: announced.zip(base).map(|(announced, base)| ((nominal(announced) - base) * 10.0).round() / 10.0),
        slow: truth.from == From::Half,
        type_right: type_right(plan, truth, leading.as_deref(), &types, affected > 0),
        leading,
        sub_reason: episode.as_ref().and_then(|episode| episode.sub_reason.clone()),
        types,
        severity,
        severity_right: (severity_of(on.len(), seen.node_count)..=severity_of(on.len() + may.len(), seen.node_count))
            .contains(&severity)
            || plan.scenario.truths.len() > 1,
        evidence: episode.map(|episode| episode.evidence).unwrap_or_default(),
        sketch: sketch(plan, seen, index, event, to),
    }
}

/// The episode of these nodes: announced in the storm's time, or, in a run of several storms, running then.
fn episode(seen: &Seen, from: f64, to: f64, on: &[usize], several: bool) -> Option<EpisodeReport> {
    let of_nodes = |episode: &&EpisodeReport| on.iter().any(|node| episode.nodes.contains(&seen.names[*node]));
    let announced = |episode: &&EpisodeReport| (from..=to).contains(&episode.announced);
    let running = |episode: &&EpisodeReport| episode.announced <= to && episode.ended.is_none_or(|ended| ended >= from);
    let mut oldest_first = seen.episodes.iter().rev();
    oldest_first
        .find(|episode| of_nodes(episode) && announced(episode))
        .or_else(|| seen.episodes.iter().find(|episode| several && of_nodes(episode) && running(episode)))
        .cloned()
}

/// The leading type of a single storm; of several at once each must be listed.
fn type_right(plan: &Plan, truth: &Truth, leading: Option<&str>, types: &[String], detected: bool) -> Option<bool> {
    let expected = truth.storm_type?.as_str();
    if !detected || (truth.needs_sampler && !plan.sampler) {
        return None;
    }
    Some(if plan.scenario.truths.len() > 1 {
        types.iter().any(|seen| seen == expected)
    } else {
        leading == Some(expected)
    })
}

/// Severity by the runbook's shares.
fn severity_of(affected: usize, nodes: usize) -> u8 {
    let share = affected as f64 / nodes as f64;
    match share {
        _ if affected == 0 => 0,
        _ if share >= 0.70 => 3,
        _ if share >= 0.30 => 2,
        _ => 1,
    }
}

/// The sketch is credited only with a node it did not already call affected before.
fn sketch(plan: &Plan, seen: &Seen, index: usize, event: f64, to: f64) -> SketchOutcome {
    let nominal = |unix: f64| (unix - seen.start_unix) * plan.scale;
    let (on, _) = &seen.nodes[index];
    let before = seen.naive.iter().rev().find(|round| nominal(round.unix) < event);
    let fresh = |node: &usize| on.contains(node) && before.is_none_or(|before| !before.affected.contains(node));
    let first =
        seen.naive.iter().find(|round| (event..=to).contains(&nominal(round.unix)) && round.affected.iter().any(fresh));
    let expected = plan.scenario.truths[index].storm_type;
    SketchOutcome {
        detected: first.is_some(),
        storm_type: first.map(|round| round.storm_type.as_str().to_owned()),
        type_right: first.and_then(|round| Some(round.storm_type == expected?)),
    }
}
