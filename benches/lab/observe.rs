//! What is seen of a running fleet: the exporter's verdicts, and raw `INFO` for the sketch and for recordings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_storm_exporter::model::StormType;
use cache_storm_exporter::parse::Info;
use cache_storm_exporter::report::Report;
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::fleet::Guarded;
use super::harness::exporter::Exporter;
use super::harness::resp::{Client, Reply};
use super::harness::unix_now;
use super::naive::{Naive, Reading};

/// The exporter's word at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Look {
    pub(crate) unix: f64,
    pub(crate) severity: u8,
    /// Maintenance that was announced explains the storm: nobody is told.
    pub(crate) planned: bool,
    /// Affected nodes by index: their type and indicators.
    pub(crate) affected: BTreeMap<usize, (Option<String>, Vec<String>)>,
}

/// The sketch's word at one moment.
#[derive(Debug, Clone)]
pub(crate) struct NaiveRound {
    pub(crate) unix: f64,
    pub(crate) affected: Vec<usize>,
    pub(crate) storm_type: StormType,
}

/// `INFO` of every node at one moment; `None` where nobody answered in time.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) unix: f64,
    pub(crate) infos: Vec<Option<String>>,
}

/// All that was sampled so far.
#[derive(Debug, Default)]
pub(crate) struct Sampled {
    pub(crate) naive: Vec<NaiveRound>,
    /// Kept only for a recording.
    pub(crate) rounds: Vec<Round>,
}

/// Asks the exporter once.
pub(crate) async fn look(exporter: &Exporter, names: &[String]) -> Look {
    let (_, body) = exporter.get("/api/v1/report").await;
    let report: Report = serde_json::from_str(&body).expect("a report");
    let cache = &report.caches[0];
    let affected = cache.nodes.iter().filter(|node| node.affected).filter_map(|node| {
        let index = names.iter().position(|name| *name == node.node)?;
        Some((index, (node.storm_type.clone(), node.indicators.clone())))
    });
    Look { unix: report.time, severity: cache.severity, planned: cache.planned, affected: affected.collect() }
}

/// Samples `INFO` of the ports every `every` and shows it to the sketch every `naive_every`.
pub(crate) fn sample(
    ports: Vec<u16>,
    every: Duration,
    naive_every: Duration,
    keep: bool,
) -> (Arc<Mutex<Sampled>>, Guarded<()>) {
    let sampled = Arc::new(Mutex::new(Sampled::default()));
    let shared = Arc::clone(&sampled);
    let task = tokio::spawn(async move {
        let mut links: Vec<Option<Client>> = ports.iter().map(|_| None).collect();
        let mut naive = Naive::default();
        let mut naive_due = Instant::now();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let unix = unix_now();
            let asked = links.iter_mut().zip(&ports).map(|(link, port)| ask(link, *port, every.mul_f64(0.8)));
            let infos = join_all(asked).await;
            let mut sampled = shared.lock().unwrap();
            // Half a tick of tolerance: a late tick must not cost a round.
            if Instant::now() + every / 2 >= naive_due {
                naive_due = Instant::now() + naive_every;
                let readings: Vec<(usize, Reading)> = infos
                    .iter()
                    .enumerate()
                    .filter_map(|(node, info)| Some((node, reading(info.as_deref()?))))
                    .collect();
                let (affected, storm_type) = naive.judge(&readings);
                sampled.naive.push(NaiveRound { unix, affected, storm_type });
            }
            if keep {
                sampled.rounds.push(Round { unix, infos });
            }
        }
    });
    (sampled, Guarded(task))
}

async fn ask(link: &mut Option<Client>, port: u16, patience: Duration) -> Option<String> {
    let exchange = async {
        let client = match link {
            Some(client) => client,
            None => link.insert(Client::connect(port).await?),
        };
        client.call(&["INFO", "everything"]).await
    };
    match timeout(patience, exchange).await {
        Ok(Ok(Reply::Bulk(text))) => String::from_utf8(text).ok(),
        _ => {
            *link = None;
            None
        }
    }
}

fn reading(info: &str) -> Reading {
    let info = Info::parse(info);
    let number = |name| info.number(name).unwrap_or(0.0);
    Reading {
        hits: number("keyspace_hits"),
        misses: number("keyspace_misses"),
        operations_per_second: number("instantaneous_ops_per_sec"),
        used_memory: number("used_memory"),
        maxmemory: number("maxmemory"),
        evicted: number("evicted_keys"),
    }
}
