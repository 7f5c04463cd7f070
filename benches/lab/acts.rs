//! How each thing that can happen is done to a fleet.

use std::sync::Arc;
use std::time::Duration;

use cache_storm_exporter::sim::zipf::Zipf;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::clients::{self, Hot};
use super::fleet::Fleet;
use super::harness::resp::{Client, Reply};
use super::harness::sentinel::{MASTER, Sentinel};
use super::harness::unix_now;
use super::scenario::{Act, Step};

/// Keys per SCAN call of a bulk removal.
const SCAN_COUNT: &str = "100";

impl Fleet {
    /// Does it; returns when it is done. The result: when a Sentinel named a new master, Unix seconds.
    pub(crate) async fn perform(&mut self, step: &Step) -> Option<f64> {
        let on = self.resolve(step.on);
        match step.act {
            Act::Flush => self.all(&on, &["FLUSHALL"]).await,
            Act::ResetStatistics => self.all(&on, &["CONFIG", "RESETSTAT"]).await,
            Act::RestartCold => {
                for node in on {
                    self.nodes[node].kill();
                    self.nodes[node].start_again().await;
                }
            }
            Act::RestartWarm => {
                for node in on {
                    self.nodes[node].restart_warm().await;
                }
            }
            Act::Remove { share, over, command } => {
                let over = Duration::from_secs_f64(over / self.scale);
                join_all(on.iter().map(|node| remove(self.nodes[*node].port, share, over, command))).await;
            }
            Act::Kill => {
                for node in on {
                    self.nodes[node].kill();
                }
                if self.sentinel.is_some() {
                    return self.follow_the_sentinel().await;
                }
            }
            Act::StallReplication => self.proxy.as_ref().expect("a proxy").stall(),
            Act::AbsentRamp { points_per_minute, share } => self.ramp(&on, points_per_minute, share).await,
            _ => on.into_iter().for_each(|node| self.change_demand(node, &step.act)),
        }
        None
    }

    fn change_demand(&self, node: usize, act: &Act) {
        let mut demand = self.clients[node].demand();
        match *act {
            Act::BumpVersion { share } => demand.bumped_groups = (share * clients::GROUPS as f64) as u64,
            Act::Outgrow { factor } => {
                let keys = (demand.popularity.probabilities().len() as f64 * factor) as u32;
                demand.popularity = Arc::new(Zipf::new(keys, 0.8));
            }
            Act::Junk { per_second } => demand.junk_per_second = per_second,
            Act::HotReads { per_second } => {
                let database = demand.database;
                demand.hot = Some(Hot { rate: per_second, ttl: demand.ttl.1, database });
            }
            Act::Stampede { share } => {
                let (ttl, database) = (20.0 / self.scale, Duration::from_secs_f64(30.0 / self.scale));
                demand.hot = Some(Hot { rate: demand.rate * share / (1.0 - share), ttl, database });
            }
            Act::Absent { share } => demand.absent_share = share,
            Act::Surge { factor } => demand.rate *= factor,
            Act::ReconnectClients => demand.generation += 1,
            _ => unreachable!("{act:?} happens to servers"),
        }
    }

    async fn all(&self, on: &[usize], command: &[&str]) {
        join_all(on.iter().map(|node| self.nodes[*node].run(command))).await;
    }

    /// The clients of the first master move to whom the Sentinel names.
    async fn follow_the_sentinel(&self) -> Option<f64> {
        let sentinel = self.sentinel.as_ref()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let port = master_port(sentinel).await;
            if port != self.nodes[0].port {
                let at = unix_now();
                for clients in [0, self.masters] {
                    let mut demand = self.clients[clients].demand();
                    (demand.read, demand.write) = (port, port);
                }
                return Some(at);
            }
            sleep(Duration::from_millis(50)).await;
        }
        None
    }

    async fn ramp(&self, on: &[usize], points_per_minute: f64, share: f64) {
        let (begin, from) = (self.nominal(), self.clients[on[0]].demand().absent_share);
        loop {
            let now = (from + points_per_minute / 100.0 * (self.nominal() - begin) / 60.0).min(share);
            for node in on {
                self.clients[*node].demand().absent_share = now;
            }
            if now >= share {
                return;
            }
            sleep(Duration::from_secs_f64(2.0 / self.scale)).await;
        }
    }
}

/// Where clients are told that the master is.
async fn master_port(sentinel: &Sentinel) -> u16 {
    match sentinel.run(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).await {
        Reply::Array(told) => told[1].text().parse().expect("a port"),
        told => panic!("host and port, not {told:?}"),
    }
}

/// Removes the groups of the share by SCAN, evenly over the time given.
async fn remove(port: u16, share: f64, over: Duration, command: &str) {
    let groups: Vec<String> =
        (0..(share * clients::GROUPS as f64).round() as u64).map(|group| format!("g{group}:")).collect();
    let mut client = Client::connect(port).await.unwrap();
    let Reply::Integer(keys) = client.call(&["DBSIZE"]).await.unwrap() else { panic!("DBSIZE gives a number") };
    let (start, mut seen, mut cursor) = (Instant::now(), 0.0, "0".to_owned());
    loop {
        let Reply::Array(reply) = client.call(&["SCAN", &cursor, "COUNT", SCAN_COUNT]).await.unwrap() else {
            panic!("SCAN gives a cursor and keys")
        };
        let [next, Reply::Array(found)] = &reply[..] else { panic!("SCAN gives a cursor and keys") };
        let found: Vec<String> = found.iter().map(Reply::text).collect();
        let doomed: Vec<&str> = found
            .iter()
            .map(String::as_str)
            .filter(|key| groups.iter().any(|group| key.starts_with(group.as_str())))
            .collect();
        if !doomed.is_empty() {
            client.call(&[&[command], &doomed[..]].concat()).await.unwrap();
        }
        cursor = next.text();
        if cursor == "0" {
            return;
        }
        seen += found.len() as f64;
        tokio::time::sleep_until(start + over.mul_f64((seen / keys as f64).min(1.0))).await;
    }
}
