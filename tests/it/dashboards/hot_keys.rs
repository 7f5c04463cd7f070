//! Does one node, and in it one key, carry the load?

use cache_storm_exporter::model::StormType;
use cache_storm_exporter::thresholds::Threshold;

use super::grafana::{Dashboard, GREEN, Panel, RED, Row, Unit, YELLOW};
use super::query::{self, node, node_rate, node_with, select};
use super::vocabulary::{advice, yes_no};

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
