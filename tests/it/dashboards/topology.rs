//! What Sentinels and the cluster say: rows of the replication dashboard.

use cache_storm_exporter::thresholds::Threshold;

use super::grafana::{GREEN, ORANGE, Panel, RED, Unit, YELLOW, words};
use super::query::{self, select};
use super::vocabulary::yes_no;

const NO_SENTINELS: &str = "no Sentinels are watched";
const NO_CLUSTER: &str = "no cluster";
const LISTED: &str = "every cache's nodes are listed in the configuration";
const NOBODY: &str = "no exporter answers";

/// The largest of what exporters say, by cache and these labels.
fn by(metric: &str, labels: &str) -> String {
    format!("max by (cache, {labels}) ({})", select(metric, ""))
}

fn per_second(metric: &str, label: &str) -> String {
    format!("sum by ({label}) (max by (cache, {label}) (rate({}[$__rate_interval])))", select(metric, ""))
}

pub(super) fn failovers() -> Vec<Panel> {
    let tile = (6, 4);
    let worst = |metric: &str| format!("max({})", query::cache(metric));
    vec![
        Panel::stat("Failovers in an hour", "Of the cache that had most. Three make a flapping master (default).", tile)
            .ask_now(worst("cache_storm_failovers_last_hour"), "")
            .steps(GREEN, &[(1.0, YELLOW), (3.0, RED)])
            .or(NOBODY),
        Panel::stat("Masters that flap", "How often within an hour a master was gone and one was there again.", tile)
            .ask_now(worst("cache_storm_master_flaps_last_hour"), "")
            .steps(GREEN, &[(1.0, YELLOW), (3.0, RED)])
            .or(NOBODY),
        Panel::stat("Split brain", "Nodes that claim one master's place at the same time: both take writes, one set of them will be lost.", tile)
            .ask_now(worst("cache_storm_split_brain"), "")
            .steps(GREEN, &[(1.0, RED)])
            .or(NOBODY),
        Panel::stat("Partition suspected", "Nodes that a Sentinel calls down and we reach, or the other way round.", tile)
            .ask_now(worst("cache_storm_partition_suspected"), "")
            .steps(GREEN, &[(1.0, ORANGE)])
            .or(NOBODY),
        Panel::lines("Failovers within the hour before", "By cache. Red: from where a master is called flapping.", (8, 8))
            .ask(query::cache("cache_storm_failovers_last_hour"), "{{cache}}")
            .limit(Threshold::FailoversPerHour)
            .range(0.0, None)
            .decimals(0)
            .or(NOBODY),
        Panel::lines("Replicas brought up to date, per second", "full: the whole data set was sent · partial: what was missing · partial_refused: the backlog is too short.", (8, 8))
            .ask(per_second("cache_storm_replica_syncs_total", "result"), "{{result}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or(NOBODY),
        Panel::lines("Master gone and back, within the hour before", "By cache.", (8, 8))
            .ask(query::cache("cache_storm_master_flaps_last_hour"), "{{cache}}")
            .range(0.0, None)
            .decimals(0)
            .or(NOBODY),
        Panel::lines("Shards that are not fully manned", "A shard is a master and its replicas, by discovery. no_replica: the master alone answers · no_master: no master of it answers.", (24, 7))
            .ask(format!("max by (cache, state) ({})", select("cache_storm_shards", "state!=\"ok\"")), "{{cache}} {{state}}")
            .range(0.0, None)
            .decimals(0)
            .or(LISTED),
    ]
}

/// Whether it is known which nodes there are: a row of the exporter's dashboard.
pub(super) fn discovery() -> Vec<Panel> {
    let age =
        format!("time() - min by (cache) ({})", select("cache_storm_discovery_last_success_timestamp_seconds", ""));
    let rejected = format!(
        "max by (cache, reason) (rate({}[$__rate_interval]))",
        select("cache_storm_discovery_rejected_total", "")
    );
    vec![
        Panel::states("Discovery", "Whether the last look found out which nodes the cache has. Failing: the last known ones are polled; the log, the report and the status page say why.", (12, 7))
            .ask(format!("min by (cache) ({})", select("cache_storm_discovery_up", "")), "{{cache}}")
            .words(&words(&[("0", "failing", RED), ("1", "up", GREEN)]))
            .or(LISTED),
        Panel::lines("Nodes found", "By the last look that found out.", (12, 7))
            .ask(query::cache("cache_storm_discovery_nodes"), "{{cache}}")
            .range(0.0, None)
            .decimals(0)
            .or(LISTED),
        Panel::lines("Seconds since a look succeeded", "By cache. It rises to `discovery.refresh` and falls again.", (12, 7))
            .ask(age, "{{cache}}")
            .unit(Unit::Seconds)
            .range(0.0, None)
            .or(LISTED),
        Panel::lines("Addresses refused, per second", "By reason, once per look: outside discovery.allow, past max_nodes, no address.", (12, 7))
            .ask(rejected, "{{cache}} {{reason}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or(LISTED),
    ]
}

pub(super) fn sentinels() -> Vec<Panel> {
    let up = words(&[("0", "down", RED), ("1", "up", GREEN)]);
    vec![
        Panel::states("Sentinels", "Whether each Sentinel answers.", (12, 7))
            .ask(by("cache_storm_sentinel_up", "sentinel"), "{{sentinel}}")
            .words(&up)
            .or(NO_SENTINELS),
        Panel::states("Quorum", "Whether a Sentinel that answers reaches the quorum and majority of a failover. Lost: a dead master stays dead.", (12, 7))
            .ask(by("cache_storm_sentinel_quorum_ok", "master_name"), "{{master_name}}")
            .words(&words(&[("0", "lost", RED), ("1", "reached", GREEN)]))
            .or(NO_SENTINELS),
        Panel::lines("Marks on masters", "How many Sentinels mark the master so: s_down is one's opinion, o_down that of enough.", (12, 8))
            .ask(by("cache_storm_sentinel_master_flags", "master_name, flag"), "{{master_name}} {{flag}}")
            .range(0.0, None)
            .decimals(0)
            .or(NO_SENTINELS),
        Panel::lines("Announcements per second", "Of all Sentinels together; each announces for itself.", (12, 8))
            .ask(per_second("cache_storm_sentinel_events_total", "event"), "{{event}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or(NO_SENTINELS),
        Panel::states("Who is master: do they agree", "Whether Sentinels name different addresses for the master.", (8, 7))
            .ask(by("cache_storm_sentinel_master_disagreement", "master_name"), "{{master_name}}")
            .words(&yes_no("they disagree", RED))
            .or(NO_SENTINELS),
        Panel::states("Tilt", "While in tilt a Sentinel distrusts its own clock and does nothing.", (8, 7))
            .ask(by("cache_storm_sentinel_tilt", "sentinel"), "{{sentinel}}")
            .words(&yes_no("tilt", RED))
            .or(NO_SENTINELS),
        Panel::lines("Sentinels and replicas known, epoch", "By the Sentinel that knows most. The epoch grows with every failover.", (8, 7))
            .ask(by("cache_storm_sentinel_known_sentinels", "master_name"), "{{master_name}}: sentinels")
            .ask(by("cache_storm_sentinel_known_replicas", "master_name"), "{{master_name}}: replicas")
            .ask(by("cache_storm_sentinel_config_epoch", "master_name"), "{{master_name}}: epoch")
            .range(0.0, None)
            .decimals(0)
            .or(NO_SENTINELS),
    ]
}

pub(super) fn cluster() -> Vec<Panel> {
    vec![
        Panel::states("State of the cluster", "Whether every node that answers reports `cluster_state:ok`.", (8, 7))
            .ask(query::cache("cache_storm_cluster_state_ok"), "{{cache}}")
            .words(&words(&[("0", "fail", RED), ("1", "ok", GREEN)]))
            .or(NO_CLUSTER),
        Panel::lines(
            "Slots by state",
            "As the most worried node sees them: pfail is its own opinion, fail that of the majority.",
            (8, 7),
        )
        .ask(by("cache_storm_cluster_slots", "state"), "{{cache}} {{state}}")
        .range(0.0, None)
        .decimals(0)
        .or(NO_CLUSTER),
        Panel::lines(
            "Nodes, masters, epoch",
            "By the node that sees most. The epoch grows with every failover and change of slots.",
            (8, 7),
        )
        .ask(query::cache("cache_storm_cluster_known_nodes"), "{{cache}}: nodes")
        .ask(query::cache("cache_storm_cluster_masters"), "{{cache}}: masters")
        .ask(query::cache("cache_storm_cluster_current_epoch"), "{{cache}}: epoch")
        .range(0.0, None)
        .decimals(0)
        .or(NO_CLUSTER),
    ]
}
