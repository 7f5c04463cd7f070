//! Tables from results, for the terminal and for `docs/accuracy.md`.

use super::outcome::{Outcome, StormOutcome};

/// Of how many, how many.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    yes: usize,
    of: usize,
}

impl Share {
    fn of(facts: impl Iterator<Item = bool>) -> Self {
        facts.fold(Self::default(), |share, fact| Self { yes: share.yes + usize::from(fact), of: share.of + 1 })
    }

    /// Wilson's interval at 95 %.
    fn interval(self) -> (f64, f64) {
        const Z: f64 = 1.96;
        if self.of == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.of as f64, self.yes as f64 / self.of as f64);
        let scale = 1.0 + Z * Z / n;
        let centre = (p + Z * Z / (2.0 * n)) / scale;
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }

    fn short(self) -> String {
        if self.of == 0 { "–".to_owned() } else { format!("{}/{}", self.yes, self.of) }
    }

    fn long(self) -> String {
        if self.of == 0 {
            return "–".to_owned();
        }
        let (low, high) = self.interval();
        let percent = 100.0 * self.yes as f64 / self.of as f64;
        format!("{}/{} = {percent:.1} % ({:.1}–{:.1} %)", self.yes, self.of, 100.0 * low, 100.0 * high)
    }
}

/// Median and 95th percentile in seconds.
fn delays(storms: &[&StormOutcome]) -> String {
    let mut delays: Vec<f64> = storms.iter().filter_map(|storm| storm.delay).map(|delay| delay.max(0.0)).collect();
    if delays.is_empty() {
        return "–".to_owned();
    }
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share).round() as usize];
    format!("{:.0} / {:.0}", at(0.5), at(0.95))
}

fn storms<'a>(runs: &[&'a Outcome]) -> Vec<&'a StormOutcome> {
    runs.iter().flat_map(|run| &run.storms).filter(|storm| storm.weighty).collect()
}

/// The whole summary as Markdown.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (scale, title) in [(10.0, "Scaled: `time_scale` 10, polls of 0.5 s"), (1.0, "Unscaled: polls of 5 s")] {
        let runs: Vec<&Outcome> = outcomes.iter().filter(|run| run.scale == scale).collect();
        if !runs.is_empty() {
            text.push_str(&format!("## {title}\n\n"));
            overall(&mut text, &runs);
            by_scenario(&mut text, &runs);
        }
    }
    text.push_str("## Wrong verdicts\n\n");
    let wrong: Vec<String> = outcomes
        .iter()
        .flat_map(|run| run.faults().into_iter().map(move |fault| (run, fault)))
        .map(|(run, fault)| {
            format!("- `{}` seed {} scale {} ({} nodes): {fault}\n", run.scenario, run.seed, run.scale, run.nodes)
        })
        .collect();
    text.push_str(&if wrong.is_empty() { "None.\n".to_owned() } else { wrong.concat() });
    text
}

fn overall(text: &mut String, runs: &[&Outcome]) {
    let (stormy, quiet): (Vec<&Outcome>, Vec<&Outcome>) = runs.iter().partition(|run| !run.storms.is_empty());
    let (single, several): (Vec<&Outcome>, Vec<&Outcome>) = stormy.iter().partition(|run| run.storms.len() == 1);
    let all = storms(&stormy);
    let fast: Vec<&StormOutcome> = all.iter().copied().filter(|storm| !storm.slow).collect();
    let deep = |points: f64| fast.iter().copied().filter(|storm| storm.drop_points >= points).collect::<Vec<_>>();
    let slow: Vec<&StormOutcome> = all.iter().copied().filter(|storm| storm.slow).collect();
    let typed = |runs: &[&Outcome]| Share::of(storms(runs).iter().filter_map(|storm| storm.type_right));
    let sketch_typed = Share::of(storms(&single).iter().filter_map(|storm| storm.sketch.type_right));
    let rows = [
        (
            "storms detected",
            Share::of(all.iter().map(|storm| storm.detected)).long(),
            Share::of(all.iter().map(|storm| storm.sketch.detected)).long(),
        ),
        ("type right, single causes", typed(&single).long(), sketch_typed.long()),
        ("type named, two causes", typed(&several).long(), "–".to_owned()),
        (
            "quiet runs with a false alarm",
            Share::of(quiet.iter().map(|run| !run.false_alarms.is_empty())).long(),
            Share::of(quiet.iter().map(|run| run.sketch_false_alarm)).long(),
        ),
        (
            "storm runs with a false alarm elsewhere",
            Share::of(stormy.iter().map(|run| !run.false_alarms.is_empty())).long(),
            Share::of(stormy.iter().map(|run| run.sketch_false_alarm)).long(),
        ),
        (
            "severity right",
            Share::of(all.iter().filter(|storm| storm.detected).map(|storm| storm.severity_right)).long(),
            "–".to_owned(),
        ),
        ("delay, drops of 50 points and more (s, median / p95)", delays(&deep(50.0)), "–".to_owned()),
        ("delay, drops of 20 points and more", delays(&deep(20.0)), "–".to_owned()),
        ("delay, all but ramps", delays(&fast), "–".to_owned()),
        ("ramps: delay after a half", delays(&slow), "–".to_owned()),
    ];
    text.push_str("| | this detector (95 % interval) | runbook's sketch |\n|---|---|---|\n");
    for (name, ours, theirs) in rows {
        text.push_str(&format!("| {name} | {ours} | {theirs} |\n"));
    }
    text.push('\n');
}

fn by_scenario(text: &mut String, runs: &[&Outcome]) {
    text.push_str("| scenario | runs | storms detected | type right | severity right | delay s | false alarms | drop, points | sketch: detected | sketch: type | sketch: false alarms |\n|---|---|---|---|---|---|---|---|---|---|---|\n");
    let mut names: Vec<&str> = runs.iter().map(|run| run.scenario.as_str()).collect();
    names.dedup();
    for name in names {
        let runs: Vec<&Outcome> = runs.iter().copied().filter(|run| run.scenario == name).collect();
        let storms = storms(&runs);
        let drops = storms.iter().map(|storm| storm.drop_points);
        let drops = match (drops.clone().reduce(f64::min), drops.reduce(f64::max)) {
            (Some(least), Some(most)) => format!("{least:.0}–{most:.0}"),
            _ => "–".to_owned(),
        };
        let share = |fact: &dyn Fn(&StormOutcome) -> Option<bool>| {
            Share::of(storms.iter().filter_map(|storm| fact(storm))).short()
        };
        let cells = [
            format!("`{name}`"),
            runs.len().to_string(),
            share(&|storm| Some(storm.detected)),
            share(&|storm| storm.type_right),
            share(&|storm| storm.detected.then_some(storm.severity_right)),
            delays(&storms),
            Share::of(runs.iter().map(|run| !run.false_alarms.is_empty())).short(),
            drops,
            share(&|storm| Some(storm.sketch.detected)),
            share(&|storm| storm.sketch.type_right),
            Share::of(runs.iter().map(|run| run.sketch_false_alarm)).short(),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push('\n');
}
