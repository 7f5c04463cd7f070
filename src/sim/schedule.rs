//! When which storm breaks out in the demo.

use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use super::fleet::Fleet;
use crate::model::StormType;

/// Which storms break out: the values of `--storm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Program {
    /// Every type in turn.
    #[default]
    Cycle,
    /// None: a quiet fleet.
    None,
    /// One type, over and over.
    Only(StormType),
}

/// No storm of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown storm \"{0}\": expected cycle, none or one of {types}", types = names())]
pub struct UnknownStorm(pub String);

fn names() -> String {
    StormType::ALL.iter().map(|storm| storm.as_str()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Program {
    type Err = UnknownStorm;

    fn from_str(text: &str) -> Result<Self, UnknownStorm> {
        match text {
            "cycle" => Ok(Self::Cycle),
            "none" => Ok(Self::None),
            name => StormType::from_name(name).map(Self::Only).ok_or_else(|| UnknownStorm(name.to_owned())),
        }
    }
}

/// Order of the cycle: what shows at once comes first, so that a newcomer need not wait.
const CYCLE: [StormType; 8] = [
    StormType::MassExpiration,
    StormType::MemoryPressure,
    StormType::FailoverCascade,
    StormType::ColdStart,
    StormType::HotKey,
    StormType::ReplicationLag,
    StormType::MassInvalidation,
    StormType::Unknown,
];

/// How long a storm's cause lasts: with the demo's time scale of 5 it spans four windows.
const STORM_LENGTH: Duration = Duration::from_secs(25);
/// A dead master's absence: a restart by its supervisor.
const FAILOVER_LENGTH: Duration = Duration::from_secs(10);

/// When storms break out.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Which.
    pub program: Program,
    /// From the start to the first.
    pub first: Duration,
    /// From one beginning to the next; a storm's cause ends after half of it at the latest.
    pub every: Duration,
    /// Decides how many nodes are hit.
    pub seed: u64,
}

/// One storm to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbreak {
    /// Its type.
    pub storm: StormType,
    /// The cache it hits.
    pub cache: &'static str,
    /// How many shards of it.
    pub shards: usize,
    /// From its beginning to the end of its cause.
    pub length: Duration,
}

impl Schedule {
    /// The storms in order, for a cache `sessions` of that many masters; endless unless there are none.
    pub fn outbreaks(self, masters: usize) -> impl Iterator<Item = Outbreak> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let storms: &[StormType] = match self.program {
            Program::Cycle => &CYCLE,
            Program::None => &[],
            Program::Only(ref storm) => &[*storm],
        };
        let storms = storms.to_vec();
        storms.into_iter().cycle().map(move |storm| {
            let cache = match storm {
                StormType::ReplicationLag | StormType::FailoverCascade => "catalog",
                _ => "sessions",
            };
            let shards = match storm {
                // Jobs that write or delete reach every master; one key lives on one.
                StormType::MassExpiration | StormType::MassInvalidation => masters,
                StormType::HotKey | StormType::ReplicationLag | StormType::FailoverCascade => 1,
                _ => rng.random_range(masters.div_ceil(2)..=masters),
            };
            let cause = if storm == StormType::FailoverCascade { FAILOVER_LENGTH } else { STORM_LENGTH };
            Outbreak { storm, cache, shards, length: cause.min(self.every / 2) }
        })
    }

    /// Lets the storms break out in the demo's fleet; returns at once if there are none, else never.
    /// Logs one line when a cause sets in and one when it ends.
    pub async fn run(self, fleet: &Fleet) {
        let masters = fleet.cache("sessions").map_or(1, |cache| cache.shards().len());
        let mut pause = self.first;
        for Outbreak { storm, cache, shards, length } in self.outbreaks(masters) {
            sleep(pause).await;
            fleet.break_out(cache, storm, shards);
            tracing::info!(storm_type = %storm, cache, "demo: {storm} breaks out on {cache}");
            sleep(length).await;
            fleet.end_storm(cache);
            tracing::info!(storm_type = %storm, cache, "demo: {storm} ends on {cache}");
            pause = self.every - length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(program: Program, seed: u64) -> Schedule {
        Schedule { program, first: Duration::from_secs(20), every: Duration::from_secs(60), seed }
    }

    #[test]
    fn the_cycle_visits_every_type_on_a_cache_that_can_have_it() {
        let outbreaks: Vec<_> = schedule(Program::Cycle, 1).outbreaks(3).take(8).collect();
        for storm in StormType::ALL {
            let outbreak = outbreaks.iter().find(|outbreak| outbreak.storm == *storm).unwrap();
            let replicas = [StormType::ReplicationLag, StormType::FailoverCascade].contains(storm);
            assert_eq!(outbreak.cache == "catalog", replicas, "{storm}");
            assert!((1..=3).contains(&outbreak.shards) && outbreak.length <= STORM_LENGTH);
        }
    }

    #[test]
    fn the_seed_decides() {
        let storms = |seed| schedule(Program::Cycle, seed).outbreaks(20).take(50).collect::<Vec<_>>();
        assert_eq!(storms(1), storms(1));
        assert_ne!(storms(1), storms(2));
        assert_eq!(schedule(Program::None, 1).outbreaks(3).count(), 0);
    }

    #[test]
    fn programs_are_read_by_name() {
        assert_eq!("cycle".parse(), Ok(Program::Cycle));
        assert_eq!("hot_key".parse(), Ok(Program::Only(StormType::HotKey)));
        let error = "weather".parse::<Program>().unwrap_err().to_string();
        assert!(error.contains("weather") && error.contains("mass_expiration"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_breaks_out_and_ends() {
        let fleet = Fleet::demo(2, 1).await.unwrap();
        let node = fleet.cache("sessions").unwrap().nodes()[0].clone();
        let expired = || node.facts().counters.expired;
        let storms = schedule(Program::Only(StormType::MassExpiration), 1);
        let quiet = async {
            sleep(Duration::from_secs(19)).await;
            let before = expired();
            sleep(Duration::from_secs(6)).await;
            expired() - before
        };
        let in_storm = tokio::select! {
            () = storms.run(&fleet) => unreachable!("the program has no end"),
            expired = quiet => expired,
        };
        assert!(in_storm > 2500, "{in_storm} expired");
    }
}
