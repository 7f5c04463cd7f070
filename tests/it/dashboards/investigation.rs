//! One cache, in the order of the runbook: scope, hits and misses, classification, the type's own evidence, recovery.

use cache_storm_exporter::model::{NodeState, StormType};
use cache_storm_exporter::thresholds::Threshold;

use super::grafana::{BLUE, Dashboard, GREEN, ORANGE, PURPLE, Panel, RED, Row, Unit, YELLOW};
use super::query::{self, keys, node, node_rate, node_with, select, sum};
use super::types;
use super::vocabulary::{node_states, severities, storm_types, yes_no};

/// Panels that say little without traffic say so.
const NO_LOOKUPS: &str = "no lookups";

pub(crate) fn dashboard() -> Dashboard {
    let mut rows = vec![
        Row::open("1 · Scope: who is affected, how badly, since when", scope()),
        Row::open("2 · Hits and misses: what changed", pattern()),
        Row::open("3 · Classification: which type, on what evidence", classification()),
    ];
    rows.extend(types::rows());
    rows.push(Row::open("5 · Recovery and validation", recovery()));
    Dashboard {
        uid: "cache-storm-investigation",
        title: "Cache storm: investigation",
        question: "What happened to this cache, why, and is it over? The rows follow the runbook.",
        from: "now-30m",
        one_cache: true,
        rows,
    }
}

fn scope() -> Vec<Panel> {
    let tile = (4, 4);
    let (affected, eligible) = (sum(&node("cache_storm_node_affected")), sum(&node("cache_storm_node_eligible")));
    let sure = format!("max by (cache) ({})", query::by_type("cache_storm_confidence_ratio"));
    vec![
        Panel::stat("Severity", "By the affected share of the eligible nodes.", tile)
            .ask_now(query::cache("cache_storm_severity"), "{{cache}}")
            .words(&severities())
            .or("no exporter answers"),
        Panel::stat("Type", "The leading type of the storm; the row of that name below has its evidence and what to do.", tile)
            .ask_now(query::leading_type(), "{{cache}}")
            .words(&storm_types())
            .or("no exporter answers"),
        Panel::stat("Confidence", "How sure the most likely type is, 0–100 %. Below 40 % a storm is called unknown.", tile)
            .ask_now(sure, "{{cache}}")
            .unit(Unit::Ratio)
            .decimals(0)
            .or("no exporter answers"),
        Panel::stat("Since", "Onset of the storm: the last moment at which the cache was well.", tile)
            .ask_now(query::onset(), "{{cache}}")
            .unit(Unit::Ago)
            .steps(GREEN, &[(1.0, RED)])
            .or("no storm"),
        Panel::stat("Affected and eligible nodes", "Nodes that take part in the storm, and nodes that count for severity.", tile)
            .ask_now(affected, "affected")
            .ask_now(eligible, "eligible")
            .or("no traffic"),
        Panel::stat("Escalates in", "Time until the type's team is paged, from the onset; negative: it was. A storm that recovers is not escalated.", tile)
            .ask_now(escalates_in(), "{{cache}}")
            .unit(Unit::Seconds)
            .decimals(0)
            .steps(GREEN, &[(-1e9, RED), (0.0, ORANGE), (60.0, YELLOW)])
            .or("no storm"),
        Panel::states("State of the nodes", "By the windowed hit ratio; down is a state, too. Twenty nodes a page.", (24, 8))
            .ask(node_state(), "{{cache_node}}")
            .words(&node_states())
            .or("no exporter answers"),
        nodes(),
        Panel::heatmap("Hit ratios of the nodes", "How many nodes have which hit ratio: a storm of all nodes moves the band, one of a few splits it.", (12, 8), Unit::Ratio, Some(0.05))
            .ask(node("cache_storm_hit_ratio"), "{{cache_node}}")
            .or(NO_LOOKUPS),
        Panel::lines("Affected nodes", "Affected share of the eligible nodes. Red: where a storm becomes major and critical.", (12, 8))
            .ask(query::affected_share(), "affected")
            .limit(Threshold::SeverityMajorShare)
            .limit(Threshold::SeverityCriticalShare)
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .or("no traffic"),
    ]
}

/// The leading type's own time to escalation, less the storm's age.
fn escalates_in() -> String {
    let times = select("cache_storm_threshold", r#"threshold=~"escalate_after_seconds_.+""#);
    let by_type = format!(r#"label_replace({times}, "storm_type", "$1", "threshold", "escalate_after_seconds_(.+)")"#);
    let leading = format!("{} == 1", query::by_type("cache_storm_active"));
    let age = format!("(time() - min by (cache) ({}))", select("cache_storm_started_timestamp_seconds", ""));
    format!(
        "max by (cache) (max by (cache, storm_type) ({by_type}) and on (cache, storm_type) {leading}) - on (cache) {age}"
    )
}

/// A node's state as a number: its place in the table of states.
fn node_state() -> String {
    let one = |(index, state): (usize, &NodeState)| {
        format!("{index} * {}", select("cache_storm_node_state", &format!("state=\"{state}\"")))
    };
    let all: Vec<String> = NodeState::ALL.iter().enumerate().map(one).collect();
    let roles = node("cache_storm_node_up");
    format!("max by (cache, cache_node) ({}) and on (cache, cache_node) {roles}", all.join(" or "))
}

fn nodes() -> Panel {
    let info = r#"max by (cache, cache_node, role, version) (cache_storm_node_info{job=~"$job", cache=~"$cache", cache_node=~"$cache_node", role=~"$role"})"#;
    Panel::table(
        "Nodes",
        "One line per node, the affected ones first. A node that is down has neither role nor ratio.",
        (24, 9),
    )
    .ask_now(node("cache_storm_node_affected"), "")
    .ask_now(node_state(), "")
    .ask_now(node("cache_storm_hit_ratio"), "")
    .ask_now(node("cache_storm_hit_ratio_baseline"), "")
    .ask_now(node("cache_storm_lookups_per_second"), "")
    .ask_now(node("cache_storm_misses_per_second"), "")
    .ask_now(node("cache_storm_miss_amplification_ratio"), "")
    .ask_now(node("cache_storm_memory_used_ratio"), "")
    .ask_now(node("cache_storm_replication_lag_seconds"), "")
    .ask_now(format!("1000 * {}", node("cache_storm_node_last_poll_timestamp_seconds")), "")
    .ask_now(info, "")
    .column("cache_node", "Node", Unit::None)
    .column("role", "Role", Unit::None)
    .column("version", "Version", Unit::None)
    .column_of_words("Value #A", "Affected", &yes_no("affected", RED))
    .column_of_words("Value #B", "State", &node_states())
    .column("Value #C", "Hit ratio", Unit::Ratio)
    .column("Value #D", "Usual", Unit::Ratio)
    .column("Value #E", "Lookups", Unit::PerSecond)
    .column("Value #F", "Misses", Unit::Requests)
    .column_by_steps("Value #G", "Times usual misses", Unit::None, &[(0.0, GREEN), (2.0, YELLOW), (3.0, RED)])
    .column_by_steps("Value #H", "Memory", Unit::Ratio, &[(0.0, GREEN), (0.9, RED)])
    .column_by_steps("Value #I", "Lag", Unit::Seconds, &[(0.0, GREEN), (5.0, YELLOW), (15.0, RED)])
    .column("Value #J", "Last answer", Unit::Ago)
    .without(&["Time", "cache", "Value #K"])
    .sorted("Affected", true)
    .or("–")
}

fn pattern() -> Vec<Panel> {
    vec![
        Panel::lines("Hit ratio by node", "Share of lookups that hit within the window. Dashed: what the cache's own past promises. Red: floor and objective.", (12, 9))
            .ask(node("cache_storm_hit_ratio"), "{{cache_node}}")
            .ask(query::usual_hit_ratio(), "usually")
            .dashed()
            .limit(Threshold::LowHitRatio)
            .limit(Threshold::HitRatioObjective)
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .or(NO_LOOKUPS),
        Panel::lines("Misses per second: what reaches the database", "By node, on top of each other. Dashed: what today's lookups would cause on a usual day.", (12, 9))
            .ask(node("cache_storm_misses_per_second"), "{{cache_node}}")
            .stacked()
            .ask(query::usual_misses(), "usually")
            .dashed()
            .unit(Unit::Requests)
            .range(0.0, None)
            .or(NO_LOOKUPS),
        Panel::lines("Lookups per second", "Did the traffic change, or the answers? Usual traffic with many misses is a loss of keys.", (8, 8))
            .ask(node("cache_storm_lookups_per_second"), "{{cache_node}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or(NO_LOOKUPS),
        Panel::lines("Times the usual misses", "Misses per second ÷ their own baseline. Three times is an indicator, even where the ratio still looks fine.", (8, 8))
            .ask(node("cache_storm_miss_amplification_ratio"), "{{cache_node}}")
            .range(0.0, None)
            .or("no baseline yet"),
        Panel::lines("Deviations below the baseline", "How far the hit ratio lies below its baseline, in deviations of its own past. Four are significant.", (8, 8))
            .ask(node("cache_storm_hit_ratio_zscore"), "{{cache_node}}")
            .or("no baseline yet"),
        Panel::lines("Second opinion: hit ratio from the servers' counters", "Straight from `keyspace_hits` and `keyspace_misses`, past the detector.", (12, 8))
            .ask(from_counters(), "{{cache}}")
            .limit(Threshold::HitRatioObjective)
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .or(NO_LOOKUPS),
        Panel::lines("Keys held", "Keys by node, of all its databases. A step down is a loss; a slope up is a refill.", (12, 8))
            .ask(keys("redis_db_keys"), "{{cache_node}}")
            .range(0.0, None)
            .or("no keys"),
    ]
}

fn from_counters() -> String {
    let (hits, misses) = (sum(&node_rate("redis_keyspace_hits_total")), sum(&node_rate("redis_keyspace_misses_total")));
    query::share(&hits, &format!("({hits} + {misses})"))
}

fn classification() -> Vec<Panel> {
    let shown = node_with("cache_storm_indicator", "", ", indicator");
    vec![
        Panel::bars(
            "Confidence by type, now",
            "How sure each type of the running storm is. Two close together: read both rows.",
            (8, 9),
        )
        .ask_now(format!("sort_desc({})", query::by_type("cache_storm_confidence_ratio")), "{{storm_type}}")
        .unit(Unit::Ratio)
        .range(0.0, Some(1.0))
        .or("no exporter answers"),
        Panel::lines(
            "Confidence by type, over time",
            "The evidence of the first minute decides; later only stronger evidence counts.",
            (16, 9),
        )
        .ask(query::by_type("cache_storm_confidence_ratio"), "{{storm_type}}")
        .unit(Unit::Ratio)
        .range(0.0, Some(1.0))
        .or("no exporter answers"),
        Panel::lines(
            "Nodes by indicator",
            "How many nodes show which reason. The first that rose is nearest to the cause.",
            (12, 9),
        )
        .ask(format!("sum by (indicator) ({shown})"), "{{indicator}}")
        .range(0.0, None)
        .decimals(0)
        .or("no exporter answers"),
        Panel::lines(
            "Keys removed per second, by cause",
            "Expired and evicted keys of all nodes. Keys that go without either were deleted or flushed.",
            (12, 9),
        )
        .ask(sum(&node("cache_storm_expired_keys_per_second")), "expired")
        .ask(sum(&node("cache_storm_evicted_keys_per_second")), "evicted")
        .unit(Unit::PerSecond)
        .range(0.0, None)
        .or("no exporter answers"),
        Panel::table("Indicators now", "Which node shows which reason now.", (24, 7))
            .ask_now(format!("{shown} == 1"), "")
            .column("cache_node", "Node", Unit::None)
            .column("indicator", "Indicator", Unit::None)
            .without(&["Time", "Value", "cache"])
            .or("no node shows an indicator"),
    ]
}

fn recovery() -> Vec<Panel> {
    let gap = format!("{} - on (cache) ({})", query::usual_hit_ratio(), query::hit_ratio());
    let load = format!("{} / on (cache) ({} > 0)", query::misses(), query::usual_misses());
    let unlike = format!("sum({})", node("cache_storm_node_affected"));
    vec![
        Panel::stat("Recovering", "The last full slice of every affected node was good: escalation waits.", (6, 4))
            .ask_now(query::cache("cache_storm_recovering"), "{{cache}}")
            .words(&yes_no("recovering", BLUE))
            .or("no exporter answers"),
        Panel::stat("Nodes still affected", "The storm ends by itself a minute after the last node is well.", (6, 4))
            .ask_now(unlike, "")
            .steps(GREEN, &[(1.0, RED)])
            .or("no exporter answers"),
        Panel::stat(
            "Full again in",
            "Missing keys ÷ net insert rate: until the cache is as full as before the storm.",
            (6, 4),
        )
        .ask_now(query::cache("cache_storm_refill_eta_seconds"), "{{cache}}")
        .unit(Unit::Seconds)
        .decimals(0)
        .or("nothing to refill"),
        Panel::stat("Storm of half an hour", "A storm older than 30 minutes will not go by itself.", (6, 4))
            .ask_now(query::cache("cache_storm_sustained"), "{{cache}}")
            .words(&yes_no("sustained", RED))
            .or("no exporter answers"),
        Panel::lines(
            "Points below the usual hit ratio",
            "Usual less present hit ratio: well again within five points.",
            (8, 8),
        )
        .ask(gap, "below the usual")
        .unit(Unit::Ratio)
        .or(NO_LOOKUPS),
        Panel::lines(
            "Times the usual database load",
            "Misses per second ÷ what today's lookups would cause on a usual day: well again below two.",
            (8, 8),
        )
        .ask(load, "times usual")
        .range(0.0, None)
        .or(NO_LOOKUPS),
        Panel::lines(
            "Refill: net change of keys per second",
            "Slope of the number of keys: positive while the cache fills.",
            (8, 8),
        )
        .ask(query::key_changes("cache"), "keys per second")
        .unit(Unit::PerSecond)
        .or("no keys"),
        Panel::states(
            "Storm, recovering, planned",
            "How the storm went: its severity, whether it recovered, whether maintenance was planned.",
            (24, 6),
        )
        .ask(query::cache("cache_storm_severity"), "severity")
        .ask(query::cache("cache_storm_recovering"), "recovering")
        .ask(query::cache("cache_storm_planned"), "planned")
        .words(&severities())
        .words_of("recovering", &yes_no("recovering", BLUE))
        .words_of("planned", &yes_no("planned", PURPLE))
        .or("no exporter answers"),
    ]
}

/// Title of a type's row.
pub(super) fn heading(number: usize, storm_type: StormType) -> String {
    let letter = char::from(b'a' + u8::try_from(number).expect("a handful of types"));
    format!("4{letter} · {}", storm_type.as_str().replace('_', " "))
}
