//! Recordings in the form of `tests/fixtures/traces`: one row per node and second.

use std::path::Path;

use cache_storm_exporter::parse::Info;

use super::clients::{BIN, Bin};
use super::observe::Round;

/// In the order of the fixtures. Those that no arm of [`cell`] explains are fields of `INFO` by that name.
const COLUMNS: &str = "t,scenario,node,phase,label,up,run_id,uptime_in_seconds,role,loading,async_loading,used_memory,\
mem_not_counted_for_evict,maxmemory,maxmemory_policy,mem_fragmentation_ratio,mem_clients_normal,\
instantaneous_ops_per_sec,total_commands_processed,total_net_output_bytes,keyspace_hits,keyspace_misses,expired_keys,\
expired_stale_perc,expired_time_cap_reached_count,evicted_keys,total_eviction_exceeded_time,\
current_eviction_exceeded_time,lazyfreed_objects,rdb_changes_since_last_save,rdb_last_load_keys_loaded,\
rejected_connections,sync_full,sync_partial_ok,sync_partial_err,master_link_status,master_last_io_seconds_ago,\
master_sync_in_progress,slave_repl_offset,master_repl_offset,master_replid,master_replid2,connected_slaves,slave0,\
used_cpu_user_main_thread,used_cpu_sys_main_thread,total_error_replies,keys,expires,avg_ttl,c_flushall,c_flushdb,\
c_del,c_unlink,c_set,c_get,c_expire,err_OOM,mon_n,mon_top1,mon_key,sent_epoch,sent_flags,sent_addr";

/// A recording: rounds, and what they do not tell.
pub(crate) struct Recording<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) rounds: &'a [Round],
    /// Start of the clients' bins, Unix seconds.
    pub(crate) start_unix: f64,
    /// `n0` … and `r0`.
    pub(crate) names: Vec<String>,
    /// The cause on a node at a time, by the truth of the scenario.
    pub(crate) label: &'a dyn Fn(usize, f64) -> Option<&'static str>,
    /// The clients' counts by node, where the hottest key's share is to be told: every access is counted by whoever
    /// makes it, which is what a `MONITOR` of that second would have shown.
    pub(crate) accesses: Option<Vec<Vec<Bin>>>,
    /// The Sentinel's epoch, flags and address, from a time on.
    pub(crate) sentinel: Vec<(f64, [String; 3])>,
}

impl Recording<'_> {
    /// Writes it as CSV.
    pub(crate) fn write(&self, file: &Path) -> csv::Result<()> {
        let mut writer = csv::Writer::from_path(file)?;
        let columns: Vec<&str> = COLUMNS.split(',').collect();
        writer.write_record(&columns)?;
        for round in self.rounds {
            for node in 0..self.names.len() {
                let info = round.infos[node].as_deref().map(Info::parse);
                let row = columns.iter().map(|column| self.cell(column, node, round.unix, info.as_ref()));
                writer.write_record(row.collect::<Vec<_>>())?;
            }
        }
        writer.flush()?;
        Ok(())
    }

    fn cell(&self, column: &str, node: usize, unix: f64, info: Option<&Info<'_>>) -> String {
        let label = (self.label)(node, unix);
        match column {
            "t" => return format!("{:.3}", unix - self.start_unix),
            "scenario" => return self.scenario.to_owned(),
            "node" => return self.names[node].clone(),
            "phase" => return if label.is_some() { "storm" } else { "normal" }.to_owned(),
            "label" => return label.unwrap_or("none").to_owned(),
            "up" => return u8::from(info.is_some()).to_string(),
            _ => {}
        }
        let Some(info) = info else { return String::new() };
        if let Some(command) = column.strip_prefix("c_") {
            let calls = info.with_prefix("cmdstat_").find(|(name, _)| *name == command);
            return calls.and_then(|(_, stats)| part(stats, "calls")).unwrap_or("0").to_owned();
        }
        if let Some(hot) = column.strip_prefix("mon_") {
            return self.hot(hot, node, unix);
        }
        if let Some(word) = ["sent_epoch", "sent_flags", "sent_addr"].iter().position(|name| *name == column) {
            let view = self.sentinel.iter().rev().find(|(since, _)| *since <= unix);
            return view.map_or_else(String::new, |(_, view)| view[word].clone());
        }
        let text = match column {
            "keys" | "expires" | "avg_ttl" => {
                return info
                    .with_prefix("db")
                    .find(|(name, _)| *name == "0")
                    .and_then(|(_, stats)| part(stats, column))
                    .unwrap_or("0")
                    .to_owned();
            }
            "err_OOM" => {
                let errors = info.with_prefix("errorstat_").find(|(name, _)| *name == "OOM");
                return errors.and_then(|(_, stats)| part(stats, "count")).unwrap_or("0").to_owned();
            }
            field => info.text(field),
        };
        text.unwrap_or_default().to_owned()
    }

    fn hot(&self, column: &str, node: usize, unix: f64) -> String {
        let Some(bins) = &self.accesses else { return String::new() };
        let end = ((unix - self.start_unix) / BIN) as usize;
        let last = bins[node].get(end.saturating_sub((1.0 / BIN) as usize)..end.min(bins[node].len()));
        let (lookups, top) =
            last.unwrap_or_default().iter().fold((0, 0), |sum, bin| (sum.0 + bin.lookups, sum.1 + bin.top));
        match column {
            _ if lookups == 0 => String::new(),
            "n" => lookups.to_string(),
            "top1" => format!("{:.3}", f64::from(top) / f64::from(lookups)),
            _ => "top".to_owned(),
        }
    }
}

/// `value` of `name=value,…`.
fn part<'a>(stats: &'a str, name: &str) -> Option<&'a str> {
    stats.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
