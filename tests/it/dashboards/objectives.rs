//! Is what was promised kept: hit ratio, time to announce, time to recover, fewer repeats?

use cache_storm_exporter::thresholds::Threshold;

use super::grafana::{DOCS, Dashboard, GREEN, Panel, RED, Row, Unit, YELLOW};
use super::query::{self, node_growth, select, sum};

const NO_STORM: &str = "no storm in this time range";

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "cache-storm-objectives",
        title: "Cache storm: objectives",
        question: "Is what was promised kept: 85 % hits, storms announced within two minutes and over within ten, fewer repeats?",
        from: "now-24h",
        one_cache: false,
        rows: vec![
            Row::open("Hit ratio", hit_ratio()),
            Row::open("Time to announce and to recover", times()),
            Row::open("Repeats", repeats()),
        ],
    }
}

/// Over the whole time range, from the servers' own counters.
fn ratio_of_range() -> String {
    let (hits, misses) =
        (sum(&node_growth("redis_keyspace_hits_total")), sum(&node_growth("redis_keyspace_misses_total")));
    query::share(&hits, &format!("({hits} + {misses})"))
}

fn hit_ratio() -> Vec<Panel> {
    let objective = query::threshold(Threshold::HitRatioObjective);
    let below = format!("avg_over_time((({}) < bool on (cache) {objective})[$__range:5m])", query::hit_ratio());
    let left = format!("1 - (1 - {}) / on (cache) (1 - {objective})", ratio_of_range());
    vec![
        Panel::bars("Hit ratio of the time range", "Hits ÷ lookups over the time range that is shown, by the servers' own counters. Objective by default: 85 %.", (8, 8))
            .ask_now(ratio_of_range(), "{{cache}}")
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .steps(RED, &[(0.85, GREEN)])
            .or("no lookups"),
        Panel::bars("Budget of misses that is left", "1 − misses ÷ the misses that the objective allows: 100 % is untouched, below 0 % the objective is missed.", (8, 8))
            .ask_now(left, "{{cache}}")
            .unit(Unit::Ratio)
            .range(-1.0, Some(1.0))
            .steps(RED, &[(0.0, YELLOW), (0.25, GREEN)])
            .or("no lookups"),
        Panel::bars("Time below the objective", "Share of the five-minute steps at which the cache's hit ratio was below its objective.", (8, 8))
            .ask_now(below, "{{cache}}")
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .steps(GREEN, &[(0.01, YELLOW), (0.05, RED)])
            .or("no lookups"),
        Panel::lines("Hit ratio", "By cache; red: the objective.", (24, 8))
            .ask(query::hit_ratio(), "{{cache}}")
            .limit(Threshold::HitRatioObjective)
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .or("no lookups"),
    ]
}

/// Growth of one part of a histogram over the time range; two exporters count the same storms.
fn growth(metric: &str, by: &str) -> String {
    format!("max by (cache{by}) (sum by (job, instance, cache{by}) (increase({}[$__range])))", select(metric, ""))
}

/// Absent without a storm, where a quantile would be NaN.
fn quantile(part: f64, histogram: &str) -> String {
    format!("histogram_quantile({part}, {}) > 0", growth(&format!("{histogram}_bucket"), ", le"))
}

fn mean(histogram: &str) -> String {
    query::share(&growth(&format!("{histogram}_sum"), ""), &growth(&format!("{histogram}_count"), ""))
}

fn times() -> Vec<Panel> {
    let (delay, length) = ("cache_storm_detection_delay_seconds", "cache_storm_episode_duration_seconds");
    let buckets = |metric: &str| {
        let increase = format!("increase({}[$__rate_interval])", select(&format!("{metric}_bucket"), ""));
        format!("sum by (le) (max by (cache, le) (sum by (job, instance, cache, le) ({increase})))")
    };
    let bars = |title: &str, description: &str, histogram: &str, limit: f64| {
        Panel::bars(title, description, (8, 8))
            .ask_now(mean(histogram), "{{cache}}, mean")
            .ask_now(quantile(0.5, histogram), "{{cache}}, median")
            .ask_now(quantile(0.95, histogram), "{{cache}}, 95 %")
            .unit(Unit::Seconds)
            .steps(GREEN, &[(limit / 2.0, YELLOW), (limit, RED)])
            .or(NO_STORM)
    };
    vec![
        bars(
            "Time to announce",
            "From the last normal poll to the announcement. Objective by default: 120 s.",
            delay,
            120.0,
        ),
        bars(
            "Time to recover",
            "From the onset of a storm to its end. Objective by default: 600 s. Running storms are not in it.",
            length,
            600.0,
        ),
        Panel::lines(
            "Objectives in force",
            "The thresholds that the exporter has for these caches: an override moves them.",
            (8, 8),
        )
        .ask(query::threshold(Threshold::DetectionObjectiveSeconds), "announce: {{cache}}")
        .ask(query::threshold(Threshold::RecoveryObjectiveSeconds), "recover: {{cache}}")
        .unit(Unit::Seconds)
        .range(0.0, None)
        .or("no exporter answers"),
        Panel::heatmap(
            "Times to announce",
            "Storms by the seconds until they were announced, when they were.",
            (12, 8),
            Unit::Seconds,
            None,
        )
        .ask_buckets(buckets(delay))
        .or(NO_STORM),
        Panel::heatmap("Lengths of storms", "Storms by their length, when they ended.", (12, 8), Unit::Seconds, None)
            .ask_buckets(buckets(length))
            .or(NO_STORM),
    ]
}

fn repeats() -> Vec<Panel> {
    let storms = select("cache_storm_episodes_total", "");
    let count = format!("max by (cache, storm_type) (increase({storms}[$__range]))");
    let before = format!("max by (cache, storm_type) (increase({storms}[$__range] offset $__range))");
    let fewer = format!("1 - sum by (cache) ({count}) / (sum by (cache) ({before}) > 0)");
    vec![
        Panel::bars("Storms of the time range", "Counted once each, under the leading type.", (8, 9))
            .ask_now(format!("sort_desc(sum by (storm_type) ({count}))"), "{{storm_type}}")
            .decimals(0)
            .or("no exporter answers"),
        Panel::bars(
            "Fewer than in the time range before",
            "1 − storms ÷ storms of the equally long time before. Objective: 75 % fewer repeats.",
            (8, 9),
        )
        .ask_now(fewer, "{{cache}}")
        .unit(Unit::Ratio)
        .range(-1.0, Some(1.0))
        .steps(RED, &[(0.0, YELLOW), (0.75, GREEN)])
        .or("no storm before to compare with"),
        Panel::table(
            "By cache and type",
            "Storms of the time range that is shown. A type that comes again has a cause that was not removed.",
            (8, 9),
        )
        .ask_now(format!("{count} > 0.5"), "")
        .column("cache", "Cache", Unit::None)
        .column("storm_type", "Type", Unit::None)
        .column("Value", "Storms", Unit::None)
        .without(&["Time"])
        .decimals(0)
        .sorted("Storms", true)
        .or(NO_STORM),
        Panel::text("How to read this", "Where the objectives come from.", (24, 4), &how_to_read()),
    ]
}

fn how_to_read() -> String {
    format!(
        "Each figure is of the time range that is shown: choose 30 days for the month's account, if Prometheus keeps \
         them. The alerts judge the same objectives by recording rules: \
         [fast burn]({DOCS}/runbooks/CacheHitRatioObjectiveFastBurn.md) · \
         [slow burn]({DOCS}/runbooks/CacheHitRatioObjectiveSlowBurn.md) · \
         [missed]({DOCS}/runbooks/CacheHitRatioObjectiveMissed.md) · \
         [announced late]({DOCS}/runbooks/CacheStormDetectionSlow.md) · \
         [recovered late]({DOCS}/runbooks/CacheStormRecoverySlow.md) · \
         [repeats]({DOCS}/runbooks/CacheStormRepeats.md)."
    )
}
