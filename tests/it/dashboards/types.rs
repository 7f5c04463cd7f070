//! The rows of the investigation that belong to one storm type each: what to do, and the evidence for and against it.

use cache_storm_exporter::model::StormType;
use cache_storm_exporter::thresholds::Threshold;

use super::grafana::{Panel, RED, Row, Unit, words};
use super::investigation::heading;
use super::query::{self, keys, node, node_rate, node_with, sum};
use super::vocabulary::{advice, yes_no};

const SIZE: (u64, u64) = (8, 8);

/// The order of the runbook.
const ORDER: [StormType; 8] = [
    StormType::ColdStart,
    StormType::MassInvalidation,
    StormType::MassExpiration,
    StormType::HotKey,
    StormType::MemoryPressure,
    StormType::ReplicationLag,
    StormType::FailoverCascade,
    StormType::Unknown,
];

pub(super) fn rows() -> Vec<Row> {
    let row = |(number, storm_type): (usize, &StormType)| {
        let mut panels = vec![advice(*storm_type, SIZE)];
        panels.extend(evidence(*storm_type));
        Row::closed(&heading(number, *storm_type), panels)
    };
    ORDER.iter().enumerate().map(row).collect()
}

fn evidence(storm_type: StormType) -> Vec<Panel> {
    match storm_type {
        StormType::ColdStart => cold_start(),
        StormType::MassInvalidation => invalidation(),
        StormType::MassExpiration => expiration(),
        StormType::HotKey => hot_key(),
        StormType::MemoryPressure => memory_pressure(),
        StormType::ReplicationLag => replication(),
        StormType::FailoverCascade => failover(),
        StormType::Unknown => unknown(),
    }
}

fn held() -> Panel {
    Panel::lines("Keys held", "Keys by node.", SIZE)
        .ask(keys("redis_db_keys"), "{{cache_node}}")
        .range(0.0, None)
        .or("no keys")
}

fn indicator(name: &str, title: &str, description: &str) -> Panel {
    Panel::states(title, description, SIZE)
        .ask(node_with("cache_storm_indicator", &format!("indicator=\"{name}\""), ""), "{{cache_node}}")
        .words(&yes_no("yes", RED))
        .or("no exporter answers")
}

fn cold_start() -> Vec<Panel> {
    vec![
        Panel::lines("Uptime", "Seconds since each server started: a fall to zero is a restart.", SIZE)
            .ask(node("redis_uptime_in_seconds"), "{{cache_node}}")
            .unit(Unit::Seconds)
            .range(0.0, None)
            .or("no node answers"),
        held(),
        Panel::lines("Full again in", "Missing keys ÷ net insert rate.", SIZE)
            .ask(query::cache("cache_storm_refill_eta_seconds"), "{{cache}}")
            .unit(Unit::Seconds)
            .range(0.0, None)
            .or("nothing to refill"),
    ]
}

fn invalidation() -> Vec<Panel> {
    vec![
        held(),
        Panel::lines(
            "Net change of keys per second",
            "A deep fall without as many expired or evicted keys: somebody deletes or flushes.",
            SIZE,
        )
        .ask(query::key_changes("cache, cache_node"), "{{cache_node}}")
        .unit(Unit::PerSecond)
        .or("no keys"),
        Panel::lines("Expired and evicted keys per second", "What the fall is to be held against.", SIZE)
            .ask(sum(&node("cache_storm_expired_keys_per_second")), "expired")
            .ask(sum(&node("cache_storm_evicted_keys_per_second")), "evicted")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or("no node answers"),
        indicator("cause_seen", "Cause seen", "A loss of keys was seen, and the hit ratio fell in one poll."),
    ]
}

fn expiration() -> Vec<Panel> {
    let share = format!("{} / on (cache, cache_node) ({} > 0)", keys("redis_db_keys_expiring"), keys("redis_db_keys"));
    vec![
        Panel::lines("Expired keys per second", "By node. Replicas do not expire by themselves.", SIZE)
            .ask(node("cache_storm_expired_keys_per_second"), "{{cache_node}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or("no node answers"),
        Panel::lines("Keys with a TTL", "How large the next wave can be.", SIZE)
            .ask(keys("redis_db_keys_expiring"), "{{cache_node}}")
            .range(0.0, None)
            .or("no keys"),
        Panel::lines("Share of keys with a TTL", "Keys with a TTL ÷ keys.", SIZE)
            .ask(share, "{{cache_node}}")
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .or("no keys"),
    ]
}

fn hot_key() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Commands per second",
            "One node far above its peers carries a hot key. Red: from where that shows without a sample of keys.",
            SIZE,
        )
        .ask(node("cache_storm_commands_per_second"), "{{cache_node}}")
        .limit(Threshold::HotKeyCommandsPerSecond)
        .unit(Unit::PerSecond)
        .range(0.0, None)
        .or("no node answers"),
        Panel::lines("Times the median node", "Commands per second ÷ the median of the cache's nodes.", SIZE)
            .ask(query::skew("cache_storm_commands_per_second"), "{{cache_node}}")
            .range(0.0, None)
            .or("no node answers"),
        indicator("hot_overload", "Hot overload", "A node takes several times its own past and its peers' load."),
    ]
}

fn memory_pressure() -> Vec<Panel> {
    let full = format!(
        "{} / on (cache, cache_node) ({} > 0)",
        node("redis_memory_used_rss_bytes"),
        node("redis_memory_used_bytes")
    );
    vec![
        Panel::lines("Memory used", "Used ÷ maxmemory. Absent without a limit. Red: `memory_pressure_ratio`.", SIZE)
            .ask(node("cache_storm_memory_used_ratio"), "{{cache_node}}")
            .limit(Threshold::MemoryPressureRatio)
            .unit(Unit::Ratio)
            .range(0.0, None)
            .or("no node has a memory limit"),
        Panel::lines(
            "Evicted keys per second",
            "What the limit throws away. Under noeviction this stays 0 and writes are refused.",
            SIZE,
        )
        .ask(node("cache_storm_evicted_keys_per_second"), "{{cache_node}}")
        .unit(Unit::PerSecond)
        .range(0.0, None)
        .or("no node answers"),
        Panel::lines("Resident ÷ used memory", "Above 1.5 the memory is fragmented.", SIZE)
            .ask(full, "{{cache_node}}")
            .range(0.0, None)
            .or("no node answers"),
        Panel::lines("Bytes used", "Memory by node.", SIZE)
            .ask(node("redis_memory_used_bytes"), "{{cache_node}}")
            .unit(Unit::Bytes)
            .range(0.0, None)
            .or("no node answers"),
        indicator("write_refusal", "Writes refused", "Writes are refused for want of memory: the cache cannot refill."),
    ]
}

fn replication() -> Vec<Panel> {
    vec![
        Panel::lines("Lag of the replicas", "Age of a replica's data. Red: warning and storm.", SIZE)
            .ask(node("cache_storm_replication_lag_seconds"), "{{cache_node}}")
            .limit(Threshold::ReplicationLagWarningSeconds)
            .limit(Threshold::ReplicationLagSeconds)
            .unit(Unit::Seconds)
            .range(0.0, None)
            .or("no replicas"),
        Panel::states("Link to the master", "Whether each replica's link is up.", SIZE)
            .ask(node("redis_master_link_up"), "{{cache_node}}")
            .words(&words(&[("0", "down", RED), ("1", "up", super::grafana::GREEN)]))
            .or("no replicas"),
        Panel::lines("Bytes sent per second", "A master that synchronises anew sends its whole data set.", SIZE)
            .ask(node_rate("redis_net_output_bytes_total"), "{{cache_node}}")
            .unit(Unit::BytesPerSecond)
            .range(0.0, None)
            .or("no node answers"),
    ]
}

fn failover() -> Vec<Panel> {
    let roles = r#"count by (role) (max by (cache, cache_node, role) (cache_storm_node_info{job=~"$job", cache=~"$cache", cache_node=~"$cache_node", role=~"$role"}))"#;
    vec![
        indicator("failover", "Promoted", "The node was promoted, or the configuration epoch moved."),
        Panel::lines("Nodes by role", "A master that goes and comes back as another: a failover.", SIZE)
            .ask(roles, "{{role}}")
            .range(0.0, None)
            .decimals(0)
            .or("no node answers"),
        Panel::lines("Failovers within the hour before", "Red: from where a master is called flapping.", SIZE)
            .ask(query::cache("cache_storm_failovers_last_hour"), "{{cache}}")
            .limit(Threshold::FailoversPerHour)
            .range(0.0, None)
            .decimals(0)
            .or("no exporter answers"),
        Panel::states(
            "Split brain and partition",
            "Nodes that claim one master's place, and nodes that a Sentinel and we see differently.",
            SIZE,
        )
        .ask(format!("{} > bool 0", query::cache("cache_storm_split_brain")), "split brain")
        .ask(format!("{} > bool 0", query::cache("cache_storm_partition_suspected")), "partition")
        .words(&yes_no("yes", RED))
        .or("no exporter answers"),
        indicator(
            "unreachable",
            "Master unreachable",
            "An eligible master does not answer its clients: it is down, or loads its data set.",
        ),
        Panel::lines("Client connections", "Clients reconnect after a failover: a step on the promoted node.", SIZE)
            .ask(node("redis_connected_clients"), "{{cache_node}}")
            .range(0.0, None)
            .decimals(0)
            .or("no node answers"),
    ]
}

fn unknown() -> Vec<Panel> {
    vec![
        Panel::lines(
            "Misses and new keys per second",
            "Many misses and no new keys: lookups of keys that nobody stores (penetration).",
            SIZE,
        )
        .ask(query::misses(), "misses")
        .ask(query::key_changes("cache"), "new keys, net")
        .unit(Unit::PerSecond)
        .or("no lookups"),
        Panel::lines("Client connections", "A deployment of clients shows as a step.", SIZE)
            .ask(node("redis_connected_clients"), "{{cache_node}}")
            .range(0.0, None)
            .decimals(0)
            .or("no node answers"),
        Panel::lines("CPU of the servers", "Seconds of CPU per second; one is a full core.", SIZE)
            .ask(query::cpu(), "{{cache_node}}")
            .unit(Unit::Ratio)
            .range(0.0, None)
            .or("no node answers"),
    ]
}
