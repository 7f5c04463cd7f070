//! Do the replicas follow, and who is master?

use cache_storm_exporter::model::StormType;
use cache_storm_exporter::thresholds::Threshold;

use super::grafana::{Dashboard, GREEN, Panel, RED, Row, Unit, YELLOW, words};
use super::query::{self, node, node_rate, node_with, select, sum};
use super::topology;
use super::vocabulary::{advice, severities, yes_no};

const NO_REPLICAS: &str = "no replicas";

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "cache-storm-replication",
        title: "Cache storm: replication",
        question: "Do the replicas follow their masters, how old is what they answer, and did a master change?",
        from: "now-1h",
        one_cache: false,
        rows: vec![
            Row::open("Now", now()),
            Row::open("Lag and links", lag()),
            Row::open("Roles", roles()),
            Row::open("Failovers", topology::failovers()),
            Row::open("Sentinels", topology::sentinels()),
            Row::open("Redis Cluster", topology::cluster()),
            Row::open("Reads from replicas", reads()),
        ],
    }
}

fn info(by: &str, matchers: &str) -> String {
    let series = select("cache_storm_node_info", &format!(r#"role=~"$role"{matchers}"#));
    format!("max by (cache, cache_node{by}) ({series})")
}

fn now() -> Vec<Panel> {
    let tile = (4, 4);
    let links = node("redis_master_link_up");
    vec![
        Panel::stat("Masters", "Nodes that say they are masters.", tile)
            .ask_now(format!("count({})", info("", r#", role="master""#)), "")
            .or("none"),
        Panel::stat("Replicas", "Nodes that say they are replicas.", tile)
            .ask_now(format!("count({})", info("", r#", role="replica""#)), "")
            .or("none"),
        Panel::stat("Links down", "Replicas that have lost their master and answer from the past.", tile)
            .ask_now(format!("sum({links} == bool 0)"), "")
            .steps(GREEN, &[(1.0, RED)])
            .or(NO_REPLICAS),
        Panel::stat(
            "Largest lag",
            "Age of the data of the replica that is furthest behind. Defaults: 5 s warns, 15 s is a storm.",
            tile,
        )
        .ask_now(format!("max({})", node("cache_storm_replication_lag_seconds")), "")
        .unit(Unit::Seconds)
        .steps(GREEN, &[(5.0, YELLOW), (15.0, RED)])
        .or(NO_REPLICAS),
        Panel::stat(
            "Promoted a moment ago",
            "Nodes that show the indicator `failover`: it is held for a minute.",
            tile,
        )
        .ask_now(format!("sum({})", node_with("cache_storm_indicator", "indicator=\"failover\"", "")), "")
        .steps(GREEN, &[(1.0, RED)])
        .or("no exporter answers"),
        Panel::stat("Severity", "Severity of the worst cache.", tile)
            .ask_now(format!("max({})", query::cache("cache_storm_severity")), "")
            .words(&severities())
            .or("no exporter answers"),
    ]
}

fn lag() -> Vec<Panel> {
    vec![
        Panel::lines("Lag", "Age of a replica's data, by the offsets of master and replica: the server's own `lag` is only that of acknowledgements. Red: warning and storm.", (12, 9))
            .ask(node("cache_storm_replication_lag_seconds"), "{{cache_node}}")
            .limit(Threshold::ReplicationLagWarningSeconds)
            .limit(Threshold::ReplicationLagSeconds)
            .unit(Unit::Seconds)
            .range(0.0, None)
            .or(NO_REPLICAS),
        Panel::lines("Bytes behind", "Bytes of its master's stream that a replica has not got. What the backlog does not hold any more is sent whole.", (12, 9))
            .ask(node("cache_storm_replication_lag_bytes"), "{{cache_node}}")
            .unit(Unit::Bytes)
            .range(0.0, None)
            .or(NO_REPLICAS),
        Panel::states("Link to the master", "Whether each replica's link is up.", (12, 8))
            .ask(node("redis_master_link_up"), "{{cache_node}}")
            .words(&words(&[("0", "down", RED), ("1", "up", GREEN)]))
            .or(NO_REPLICAS),
        Panel::lines("Seconds since the master was heard", "Absent while the link is down.", (12, 8))
            .ask(node("redis_master_last_io_seconds_ago"), "{{cache_node}}")
            .unit(Unit::Seconds)
            .range(0.0, None)
            .or(NO_REPLICAS),
    ]
}

fn roles() -> Vec<Panel> {
    let is_master = format!("({} or 0 * {})", info("", r#", role="master""#), info("", r#", role="replica""#));
    vec![
        Panel::states("Master or replica", "Who was master when. A node without a colour did not answer.", (12, 9))
            .ask(is_master, "{{cache_node}}")
            .words(&words(&[("0", "replica", super::grafana::BLUE), ("1", "master", super::grafana::PURPLE)]))
            .or("no node answers"),
        Panel::states(
            "Promotions",
            "The indicator `failover`, held for a minute after a promotion or an epoch bump.",
            (12, 9),
        )
        .ask(node_with("cache_storm_indicator", "indicator=\"failover\"", ""), "{{cache_node}}")
        .words(&yes_no("promoted", RED))
        .or("no exporter answers"),
        Panel::lines("Replicas connected", "As the masters count them.", (8, 8))
            .ask(node("redis_connected_slaves"), "{{cache_node}}")
            .range(0.0, None)
            .decimals(0)
            .or("no node answers"),
        Panel::lines("Replication offset", "Two masters whose offsets both grow: both take writes.", (8, 8))
            .ask(node("redis_master_repl_offset"), "{{cache_node}}")
            .unit(Unit::Bytes)
            .or("no node answers"),
        Panel::lines("Uptime", "A server that restarted synchronises anew.", (8, 8))
            .ask(node("redis_uptime_in_seconds"), "{{cache_node}}")
            .unit(Unit::Seconds)
            .range(0.0, None)
            .or("no node answers"),
    ]
}

fn reads() -> Vec<Panel> {
    let of_replicas =
        |metric: &str| format!("{} and on (cache, cache_node) {}", node(metric), info("", r#", role="replica""#));
    vec![
        Panel::lines(
            "Hit ratio of replicas",
            "Their own reads only. A key that ended on the master is a miss on a replica, too.",
            (12, 8),
        )
        .ask(of_replicas("cache_storm_hit_ratio"), "{{cache_node}}")
        .limit(Threshold::LowHitRatio)
        .unit(Unit::Ratio)
        .range(0.0, Some(1.0))
        .or("no replica is read from"),
        Panel::lines("Lookups on replicas", "How much of the reading depends on them.", (12, 8))
            .ask(sum(&of_replicas("cache_storm_lookups_per_second")), "{{cache}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or("no replica is read from"),
        Panel::lines("Bytes received per second", "What arrives from the master, and from clients.", (12, 8))
            .ask(node_rate("redis_net_input_bytes_total"), "{{cache_node}}")
            .unit(Unit::BytesPerSecond)
            .range(0.0, None)
            .or("no node answers"),
        Panel::lines(
            "Bytes sent per second",
            "A master that synchronises a replica anew sends its whole data set.",
            (12, 8),
        )
        .ask(node_rate("redis_net_output_bytes_total"), "{{cache_node}}")
        .unit(Unit::BytesPerSecond)
        .range(0.0, None)
        .or("no node answers"),
        advice(StormType::ReplicationLag, (12, 6)),
        advice(StormType::FailoverCascade, (12, 6)),
    ]
}
