//! Can the verdicts be trusted: is the exporter there, in time, and does it reach the nodes?

use super::grafana::{DOCS, Dashboard, GREEN, ORANGE, Panel, RED, Row, Unit, words};
use super::query::{self, node, select};
use super::topology;
use super::vocabulary::yes_no;

const NOBODY: &str = "no exporter answers";

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "cache-storm-exporter",
        title: "Cache storm: exporter",
        question: "Can the verdicts be trusted: is the exporter there, is it in time, does it reach the nodes?",
        from: "now-1h",
        one_cache: false,
        rows: vec![
            Row::open("Now", now()),
            Row::open("Rounds and polls", polls()),
            Row::open("Which nodes there are", topology::discovery()),
            Row::open("The process", process()),
        ],
    }
}

/// Series that every exporter has once, by instance.
fn own(metric: &str) -> String {
    format!("max by (job, instance) ({})", select(metric, ""))
}

/// Series of the metrics library and of Prometheus itself, which are in no table of ours.
fn foreign(metric: &str) -> String {
    format!("{metric}{{job=~\"$job\"}}")
}

fn now() -> Vec<Panel> {
    let tile = (4, 4);
    let round = format!("time() - max by (cache) ({})", select("cache_storm_last_round_timestamp_seconds", ""));
    let build = format!("max by (instance, version) ({})", select("cache_storm_exporter_build_info", ""));
    let age = |metric: &str| format!("1000 * {}", own(metric));
    vec![
        Panel::stat("Exporters up", "Exporters that Prometheus reaches, of those it knows.", tile)
            .ask_now(format!("sum({})", foreign("up")), "up")
            .ask_now(format!("count({})", foreign("up")), "known")
            .or("Prometheus has no such job"),
        Panel::stat("Isolated", "The exporter suspects its own network: severities hold their last value.", tile)
            .ask_now(format!("max({})", own("cache_storm_exporter_isolated")), "")
            .words(&yes_no("isolated", RED))
            .or(NOBODY),
        Panel::stat("Configuration", "Whether the last reload was taken. Refused: an older one is in force, and the log says why.", tile)
            .ask_now(format!("min({})", own("cache_storm_exporter_config_last_reload_successful")), "")
            .words(&words(&[("0", "refused", RED), ("1", "taken", GREEN)]))
            .or(NOBODY),
        Panel::stat("Oldest round", "Seconds since the last round of the cache that waits longest. Polls run at their own pace, not at that of scrapes.", tile)
            .ask_now(format!("max({round})"), "")
            .unit(Unit::Seconds)
            .decimals(0)
            .steps(GREEN, &[(30.0, ORANGE), (60.0, RED)])
            .or(NOBODY),
        Panel::stat("Nodes that do not answer", "Nodes that are down as the exporter sees it.", tile)
            .ask_now(format!("sum({} == bool 0)", node("cache_storm_node_up")), "")
            .steps(GREEN, &[(1.0, RED)])
            .or(NOBODY),
        Panel::stat("Nodes watched", "Nodes of the chosen caches.", tile)
            .ask_now(format!("count({})", node("cache_storm_node_up")), "")
            .or(NOBODY),
        Panel::table("Exporters", "Version, and when the configuration in force was taken.", (12, 6))
            .ask_now(build, "")
            .ask_now(format!("max by (instance) ({})", age("cache_storm_exporter_config_last_reload_success_timestamp_seconds")), "")
            .ask_now(format!("max by (instance) ({})", foreign("up")), "")
            .column("instance", "Exporter", Unit::None)
            .column("version", "Version", Unit::None)
            .column("Value #B", "Configured", Unit::Time)
            .column_of_words("Value #C", "Answers", &words(&[("0", "no", RED), ("1", "yes", GREEN)]))
            .without(&["Time", "Value #A"])
            .or(NOBODY),
        Panel::text("What to do", "The pages of the exporter's own alerts.", (12, 6), &what_to_do()),
    ]
}

fn what_to_do() -> String {
    let page = |name: &str, text: &str| format!("- **{text}** [{name}]({DOCS}/runbooks/{name}.md)");
    [
        page("CacheStormExporterDown", "Prometheus does not reach it."),
        page("CacheStormExporterIsolated", "It reaches hardly any node: its own network."),
        page("CacheStormConfigReloadFailed", "A configuration was refused."),
        page("CacheDetectorStalled", "Rounds do not close."),
        page("CacheSamplesStale", "A node's numbers are old."),
        page("CacheNodeDown", "A node does not answer."),
        page("CacheDiscoveryFailing", "Nobody says which nodes a cache has."),
    ]
    .join("\n")
}

fn polls() -> Vec<Panel> {
    let failures = format!(
        "sum by (reason) (max by (cache, cache_node, reason) (rate({}[$__rate_interval])))",
        select("cache_storm_poll_failures_total", "")
    );
    let failing = format!(
        "max by (cache, cache_node, reason) (increase({}[$__range])) > 0",
        select("cache_storm_poll_failures_total", "")
    );
    let quantile = |part: f64| {
        let rate = format!("rate({}[$__rate_interval])", select("cache_storm_poll_duration_seconds_bucket", ""));
        format!("histogram_quantile({part}, sum by (cache, le) ({rate})) > 0")
    };
    let age = format!("max by (cache) (time() - {})", node("cache_storm_node_last_poll_timestamp_seconds"));
    let round = format!("time() - max by (cache) ({})", select("cache_storm_last_round_timestamp_seconds", ""));
    let buckets =
        format!("sum by (le) (rate({}[$__rate_interval]))", select("cache_storm_poll_duration_seconds_bucket", ""));
    vec![
        Panel::lines(
            "Time of a poll",
            "From sending to the answer, of polls that were answered: median and 99 %.",
            (12, 8),
        )
        .ask(quantile(0.5), "{{cache}}, median")
        .ask(quantile(0.99), "{{cache}}, 99 %")
        .unit(Unit::Seconds)
        .range(0.0, None)
        .or("no poll was answered"),
        Panel::heatmap("Times of polls", "Polls per second by their time.", (12, 8), Unit::Seconds, None)
            .ask_buckets(buckets)
            .or("no poll was answered"),
        Panel::lines("Seconds since the last round", "By cache. It rises to the interval and falls again.", (8, 8))
            .ask(round, "{{cache}}")
            .unit(Unit::Seconds)
            .range(0.0, None)
            .or(NOBODY),
        Panel::lines(
            "Age of the oldest answer",
            "Seconds since the node that was silent longest last answered, by cache.",
            (8, 8),
        )
        .ask(age, "{{cache}}")
        .unit(Unit::Seconds)
        .range(0.0, None)
        .or(NOBODY),
        Panel::lines("Failed polls per second", "By reason.", (8, 8))
            .ask(failures, "{{reason}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or(NOBODY),
        Panel::table("Nodes whose polls failed", "Within the time range that is shown, by reason.", (24, 7))
            .ask_now(failing, "")
            .column("cache", "Cache", Unit::None)
            .column("cache_node", "Node", Unit::None)
            .column("reason", "Reason", Unit::None)
            .column("Value", "Failed polls", Unit::None)
            .without(&["Time"])
            .decimals(0)
            .sorted("Failed polls", true)
            .or("no poll failed in this time range"),
        Panel::lines(
            "Nodes that are judged",
            "Nodes by cache, and how many of them have traffic and a past to be judged by.",
            (12, 8),
        )
        .ask(query::sum(&node("cache_storm_node_up")), "{{cache}}: up")
        .ask(query::sum(&node("cache_storm_node_judged")), "{{cache}}: judged")
        .dashed()
        .range(0.0, None)
        .decimals(0)
        .or(NOBODY),
        Panel::lines(
            "Answers of servers",
            "As `redis_up` says it, by cache: the name that other dashboards use.",
            (12, 8),
        )
        .ask(query::sum(&node("redis_up")), "{{cache}}")
        .range(0.0, None)
        .decimals(0)
        .or("`metrics: redis` is off, or no exporter answers"),
    ]
}

fn process() -> Vec<Panel> {
    let cpu = "sum by (instance) (rate(process_cpu_seconds_total{job=~\"$job\"}[$__rate_interval]))";
    vec![
        Panel::lines("CPU", "Seconds of CPU per second.", (8, 8))
            .ask(cpu, "{{instance}}")
            .unit(Unit::Ratio)
            .range(0.0, None)
            .or(NOBODY),
        Panel::lines("Memory", "Resident bytes.", (8, 8))
            .ask(foreign("process_resident_memory_bytes"), "{{instance}}")
            .unit(Unit::Bytes)
            .range(0.0, None)
            .or(NOBODY),
        Panel::lines("Open files", "Connections are files: one per node. Dashed: the limit.", (8, 8))
            .ask(foreign("process_open_fds"), "{{instance}}")
            .ask(foreign("process_max_fds"), "limit of {{instance}}")
            .dashed()
            .range(0.0, None)
            .decimals(0)
            .or(NOBODY),
        Panel::lines(
            "Time of a scrape",
            "As Prometheus measures it. A scrape reads what the last round left, and polls nobody.",
            (12, 8),
        )
        .ask(foreign("scrape_duration_seconds"), "{{instance}}")
        .unit(Unit::Seconds)
        .range(0.0, None)
        .or("Prometheus has no such job"),
        Panel::lines("Series of a scrape", "What the exporter costs Prometheus: at most 70 per node.", (12, 8))
            .ask(foreign("scrape_samples_scraped"), "{{instance}}")
            .range(0.0, None)
            .decimals(0)
            .or("Prometheus has no such job"),
        Panel::states("Up", "When Prometheus reached which exporter.", (24, 6))
            .ask(foreign("up"), "{{instance}}")
            .words(&words(&[("0", "down", RED), ("1", "up", GREEN)]))
            .or("Prometheus has no such job"),
    ]
}
