//! Does one node, and in it one key, carry the load?

use cache_storm_exporter::model::StormType;
use cache_storm_exporter::thresholds::Threshold;

use super::grafana::{Dashboard, GREEN, Panel, RED, Row, Unit, YELLOW};
use super::query::{self, node, node_rate, node_with, select};
use super::vocabulary::{advice, yes_no};

const NOT_SAMPLED: &str = "no sample: `hotkeys` is off, or nothing was hot";
const NOBODY: &str = "no exporter answers";
const SKEW: &[(f64, &str)] = &[(2.0, YELLOW), (3.0, RED)];

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "cache-storm-hot-keys",
        title: "Cache storm: hot keys",
        question: "Does one node, and in it one key, carry the load, and do the samples say so?",
        from: "now-1h",
        one_cache: false,
        rows: vec![
            Row::open("Now", now()),
            Row::open("Skew: one node above its peers", skew()),
            Row::open("Patterns of keys", patterns()),
            Row::open("Samples of keys", samples()),
        ],
    }
}

fn now() -> Vec<Panel> {
    let confidence = select("cache_storm_confidence_ratio", "storm_type=\"hot_key\"");
    vec![
        Panel::stat("Confidence: hot key", "How sure the type is where it is surest.", (6, 4))
            .ask_now(format!("max({confidence})"), "")
            .unit(Unit::Ratio)
            .decimals(0)
            .steps(GREEN, &[(0.4, YELLOW), (0.7, RED)])
            .or("no exporter answers"),
        Panel::stat(
            "Overloaded nodes",
            "Nodes that show `hot_overload`: several times their own past and their peers' load.",
            (6, 4),
        )
        .ask_now(format!("sum({})", node_with("cache_storm_indicator", "indicator=\"hot_overload\"", "")), "")
        .steps(GREEN, &[(1.0, RED)])
        .or("no exporter answers"),
        Panel::stat(
            "Busiest node",
            "Its commands per second ÷ the median of its cache. Three times is an indicator.",
            (6, 4),
        )
        .ask_now(format!("max({})", query::skew("cache_storm_commands_per_second")), "")
        .decimals(1)
        .steps(GREEN, SKEW)
        .or("no traffic"),
        Panel::stat("Samples taken", "Within the time range that is shown; 0 while `hotkeys` is off.", (6, 4))
            .ask_now(
                format!(
                    "sum(increase({}[$__range]))",
                    select("cache_storm_exporter_hot_key_samples_total", "result=\"taken\"")
                ),
                "",
            )
            .decimals(0)
            .or("no exporter answers"),
    ]
}

fn skew() -> Vec<Panel> {
    vec![
        Panel::lines("Commands per second", "Red: from where a skewed node is called overloaded without a sample of its keys.", (12, 9))
            .ask(node("cache_storm_commands_per_second"), "{{cache_node}}")
            .limit(Threshold::HotKeyCommandsPerSecond)
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or("no node answers"),
        Panel::lines("Times the median node", "Commands per second ÷ the median of the cache's nodes. Masters and replicas differ by nature: choose a role.", (12, 9))
            .ask(query::skew("cache_storm_commands_per_second"), "{{cache_node}}")
            .range(0.0, None)
            .or("no traffic"),
        Panel::states("Overloaded", "The indicator `hot_overload` by node.", (12, 8))
            .ask(node_with("cache_storm_indicator", "indicator=\"hot_overload\"", ""), "{{cache_node}}")
            .words(&yes_no("overloaded", RED))
            .or("no exporter answers"),
        Panel::lines("Lookups per second", "A hot key is mostly read: lookups rise with the commands.", (12, 8))
            .ask(node("cache_storm_lookups_per_second"), "{{cache_node}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or("no lookups"),
        Panel::lines("CPU of the servers", "Seconds of CPU per second; a Redis at one full core is at its end.", (12, 8))
            .ask(query::cpu(), "{{cache_node}}")
            .unit(Unit::Ratio)
            .range(0.0, None)
            .or("no node answers"),
        Panel::lines("Bytes sent per second", "One large hot value fills the network before it fills the CPU.", (12, 8))
            .ask(node_rate("redis_net_output_bytes_total"), "{{cache_node}}")
            .unit(Unit::BytesPerSecond)
            .range(0.0, None)
            .or("no node answers"),
    ]
}

fn patterns() -> Vec<Panel> {
    let by_pattern = |metric: &str| format!("max by (cache, cache_node, pattern) ({})", select(metric, ""));
    let cost = |metric: &str| format!("sum(rate({}[$__rate_interval]))", select(metric, ""));
    vec![
        Panel::table("Hottest patterns of keys", "As each node's last sample saw them, for ten minutes. A pattern has `*` where keys differ: no key is served.", (24, 9))
            .ask_now(by_pattern("cache_storm_hot_key_share_ratio"), "")
            .ask_now(by_pattern("cache_storm_hot_key_operations_per_second"), "")
            .ask_now(by_pattern("cache_storm_hot_key_write_ratio"), "")
            .column("cache", "Cache", Unit::None)
            .column("cache_node", "Node", Unit::None)
            .column("pattern", "Pattern", Unit::None)
            .column_by_steps("Value #A", "Share of accesses", Unit::Ratio, &[(0.0, GREEN), (0.2, YELLOW), (0.5, RED)])
            .column("Value #B", "Accesses", Unit::PerSecond)
            .column("Value #C", "Writes", Unit::Ratio)
            .without(&["Time"])
            .sorted("Share of accesses", true)
            .or(NOT_SAMPLED),
        Panel::lines("Share of accesses by pattern", "A key of a fifth of a node's accesses, and twice its usual share, is hot.", (12, 9))
            .ask(by_pattern("cache_storm_hot_key_share_ratio"), "{{cache_node}} {{pattern}}")
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .or(NOT_SAMPLED),
        Panel::lines("Accesses per second by pattern", "In the last sample of each node.", (12, 9))
            .ask(by_pattern("cache_storm_hot_key_operations_per_second"), "{{cache_node}} {{pattern}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or(NOT_SAMPLED),
        Panel::lines("Time that servers were watched", "Seconds of sampling per second: what it costs them is while this is above 0.", (12, 8))
            .ask(cost("cache_storm_exporter_hot_key_sampled_seconds_total"), "seconds per second")
            .unit(Unit::Ratio)
            .range(0.0, None)
            .or(NOBODY),
        Panel::lines("Bytes that servers sent for it", "Per second.", (12, 8))
            .ask(cost("cache_storm_exporter_hot_key_sampled_bytes_total"), "bytes per second")
            .unit(Unit::BytesPerSecond)
            .range(0.0, None)
            .or(NOBODY),
    ]
}

fn samples() -> Vec<Panel> {
    let attempts = format!(
        "sum by (result) (rate({}[$__rate_interval]))",
        select("cache_storm_exporter_hot_key_samples_total", "")
    );
    vec![
        Panel::lines("Attempts to sample, by result", "taken · empty: nothing was read · unsafe: the node is too full or too busy · refused: not permitted · failed: the connection broke.", (12, 9))
            .ask(attempts, "{{result}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or("no exporter answers"),
        advice(StormType::HotKey, (12, 9)),
    ]
}
