//! Log lines: one per change of state, none per poll. Fields first, so that they can be searched.

use std::net::SocketAddr;
use std::path::Path;

use tracing::{debug, error, info, warn};

use crate::config::ConfigErrors;
use crate::detect::verdict::CacheVerdict;
use crate::model::{CacheName, DiscoveryRefusal, FailureReason, NodeName, SampleResult, Severity};

/// A node stopped answering, or fails for another reason than before.
pub fn node_down(cache: &CacheName, node: &NodeName, reason: FailureReason, detail: &str) {
    warn!(%cache, cache_node = %node, %reason, detail, "node is down");
}

/// A node that was down answers again.
pub fn node_up(cache: &CacheName, node: &NodeName) {
    info!(%cache, cache_node = %node, "node is up again");
}

/// A Sentinel stopped answering, or fails for another reason than before.
pub fn sentinel_down(cache: &CacheName, sentinel: &NodeName, reason: FailureReason, detail: &str) {
    warn!(%cache, %sentinel, %reason, detail, "Sentinel does not answer");
}

/// A Sentinel that did not answer does again.
pub fn sentinel_up(cache: &CacheName, sentinel: &NodeName) {
    info!(%cache, %sentinel, "Sentinel answers again");
}

/// A Sentinel's announcements are not heard; polls tell the same, later.
pub fn sentinel_unheard(cache: &CacheName, sentinel: &NodeName, reason: FailureReason, detail: &str) {
    debug!(%cache, %sentinel, %reason, detail, "subscription to a Sentinel ended");
}

/// A failover was seen.
pub fn failover_seen(cache: &CacheName, last_hour: u64) {
    warn!(%cache, last_hour, "failover");
}

/// Nodes claim one master's place at the same time, or no longer.
pub fn split_brain_changed(cache: &CacheName, nodes: &[NodeName]) {
    match nodes {
        [] => info!(%cache, "one master in every place again"),
        _ => error!(%cache, ?nodes, "split brain: several masters in one place"),
    }
}

/// One side reaches what another does not, or no longer.
pub fn partition_changed(cache: &CacheName, nodes: &[NodeName]) {
    match nodes {
        [] => info!(%cache, "no partition suspected any more"),
        _ => warn!(%cache, ?nodes, "partition suspected: some reach them, some do not"),
    }
}

/// A cache's storm began, ended, or changed in severity.
pub fn severity_changed(cache: &CacheName, from: Severity, verdict: &CacheVerdict) {
    let types: Vec<&str> = verdict.storm_types.iter().map(|verdict| verdict.storm_type.as_str()).collect();
    let (to, storm_types) = (verdict.severity, types.join(","));
    let (affected, eligible) = (verdict.affected_nodes, verdict.eligible_nodes);
    if to > from {
        warn!(%cache, %from, %to, storm_types, affected, eligible, "severity rose");
    } else {
        info!(%cache, %from, %to, storm_types, affected, eligible, "severity fell");
    }
}

/// Rounds of a cache start late, or on time again: the exporter has too little CPU for its fleet.
pub fn pace_changed(cache: &CacheName, late: bool, late_seconds: f64) {
    if late {
        warn!(%cache, late_seconds, "rounds start late: too little CPU, or too many nodes for one exporter");
    } else {
        info!(%cache, "rounds start on time again");
    }
}

/// The exporter suspects its own network, or no longer.
pub fn isolation_changed(isolated: bool) {
    if isolated {
        error!("several caches are unreachable at once: suspecting our own network, severities hold");
    } else {
        info!("caches are reachable again: severities move");
    }
}

/// Hot keys are to be sampled, but only from a source that few servers have.
pub fn hot_keys_without_source() {
    warn!("hotkeys.mode is auto, but hotkeys.allow_monitor is not set: below Redis 8.6 (HOTKEYS) nothing is sampled");
}

/// A node's accesses were not sampled, for another reason than before. Its own state is nobody's fault.
pub fn hot_keys_not_sampled(cache: &CacheName, node: &NodeName, result: SampleResult, detail: &str) {
    if result == SampleResult::Unsafe {
        debug!(%cache, cache_node = %node, %result, detail, "accesses are not sampled");
    } else {
        warn!(%cache, cache_node = %node, %result, detail, "accesses are not sampled");
    }
}

/// A cache is polled from now on.
pub fn cache_added(cache: &CacheName) {
    info!(%cache, "cache added");
}

/// A cache goes on with a changed configuration.
pub fn cache_changed(cache: &CacheName) {
    info!(%cache, "cache changed");
}

/// A cache's nodes are known, for the first time or anew.
pub fn nodes_changed(cache: &CacheName, nodes: usize, joined: &[NodeName], left: &[NodeName]) {
    info!(%cache, nodes, joined = shortened(joined), left = shortened(left), "nodes of the cache changed");
}

/// Nobody can say which nodes a cache has.
pub fn discovery_failed(cache: &CacheName, faults: &[String]) {
    warn!(%cache, faults = shortened(faults), "discovery fails: the last known nodes stay");
}

/// Discovery goes on, although not everybody answers.
pub fn discovery_impaired(cache: &CacheName, faults: &[String]) {
    warn!(%cache, faults = shortened(faults), "discovery works, but not everybody answers");
}

/// Everybody answers again.
pub fn discovery_recovered(cache: &CacheName) {
    info!(%cache, "discovery works again");
}

/// Addresses were named that are not polled.
pub fn discovery_refused(cache: &CacheName, refused: &[(NodeName, DiscoveryRefusal)]) {
    let refused: Vec<String> = refused.iter().map(|(node, reason)| format!("{node} ({reason})")).collect();
    warn!(%cache, refused = shortened(&refused), "discovered addresses are not polled; see discovery.allow and max_nodes");
}

/// The first few of a list: a log line is for people.
fn shortened(items: &[impl std::fmt::Display]) -> String {
    const SHOWN: usize = 8;
    let mut text = items.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN {
        text.push_str(&format!(" and {} more", items.len() - SHOWN));
    }
    text
}

/// A cache is no longer polled.
pub fn cache_removed(cache: &CacheName) {
    info!(%cache, "cache removed");
}

/// A cache's task panicked; it starts again without its memory.
pub fn cache_task_failed(cache: &CacheName, cause: &str) {
    error!(%cache, cause, "the cache's task failed and starts again without its history; please report this");
}

/// Tasks were still busy when the time for an orderly end was over.
pub fn shutdown_overran(tasks: usize) {
    debug!(tasks, "tasks were still busy at shutdown");
}

/// HTTP is being served.
pub fn serving(address: SocketAddr) {
    info!(%address, version = env!("CARGO_PKG_VERSION"), "serving http://{address}/");
}

/// A reload asked for another address.
pub fn listen_needs_restart(address: SocketAddr) {
    warn!(%address, "`listen` changed: takes effect at the next start");
}

/// A reload asked for another state file.
pub fn state_file_needs_restart() {
    warn!("`state_file` changed: takes effect at the next start");
}

/// Detectors go on from what an earlier process saved.
pub fn state_resumed(path: &Path, caches: usize, age_seconds: f64) {
    info!(state_file = %path.display(), caches, age_seconds, "going on from the state file");
}

/// The state file cannot be used.
pub fn state_refused(path: &Path, error: &dyn std::error::Error) {
    warn!(state_file = %path.display(), reason = %error, "state file not used: starting without baselines and episodes");
}

/// The state file cannot be written.
pub fn state_unwritable(path: &Path, error: &dyn std::error::Error) {
    warn!(state_file = %path.display(), reason = %error, "state file cannot be written: a restart would forget");
}

/// The state file can be written again.
pub fn state_writable_again(path: &Path) {
    info!(state_file = %path.display(), "state file is written again");
}

/// A configuration was taken.
pub fn reloaded(caches: usize) {
    info!(caches, "configuration reloaded");
}

/// A configuration was refused; the older one stays in force.
pub fn reload_refused(errors: &ConfigErrors) {
    for error in errors.iter() {
        error!(%error, "configuration refused, the older one stays in force");
    }
}

/// There may not be a descriptor for every node.
pub fn few_descriptors(limit: u64, nodes: usize) {
    warn!(limit, nodes, "too few open files are allowed for so many nodes: raise LimitNOFILE or ulimit -n");
}

/// The process was told to end.
pub fn stopping() {
    info!("stopping");
}
