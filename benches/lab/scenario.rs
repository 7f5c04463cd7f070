//! What a run does and what is true of it. All times and durations are nominal seconds: a run at scale 10 does
//! everything ten times faster, rates apart.

use cache_storm_exporter::model::StormType;

/// Quiet before the first event: the detector needs a past of ten slices and a window.
const QUIET_BEFORE: f64 = 250.0;

/// One kind of run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) setting: Setting,
    /// What happens, from the end of the quiet start on.
    pub(crate) steps: Vec<Step>,
    /// The storms; none in a quiet run.
    pub(crate) truths: Vec<Truth>,
    /// Quiet before the first event.
    pub(crate) quiet_before: f64,
    /// How long it is watched after that.
    pub(crate) watched: f64,
    /// One of the five of the smoke test.
    pub(crate) smoke: bool,
    /// The configuration announces the run as maintenance: a storm is no alarm while the exporter says so.
    pub(crate) planned: bool,
}

/// Fleet and traffic; what is `None` varies with the seed.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) masters: Option<usize>,
    /// Lookups per second and master.
    pub(crate) rate: Option<f64>,
    /// Rate of the first master, where it differs.
    pub(crate) rate_first: Option<f64>,
    pub(crate) zipf: Option<f64>,
    /// Share of lookups of keys nobody stores.
    pub(crate) absent_share: f64,
    /// Lifetimes are as the seed says (150–750 s), times this.
    pub(crate) ttl_factor: f64,
    pub(crate) value_bytes: usize,
    /// Memory limit over what is used after loading, and the policy.
    pub(crate) memory: Option<(f64, &'static str)>,
    pub(crate) replica: Replica,
    /// Share of the first master's keys that was loaded with one lifetime, ending at the first event.
    pub(crate) common_expiry: Option<(Which, f64)>,
}

/// Whether the first master has a replica, with reads of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replica {
    None,
    /// Replicates through a proxy that can stop forwarding.
    Proxied,
    /// Watched over by a Sentinel.
    Sentinel,
}

/// Which nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Masters,
    First,
    Second,
    Replica,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) at: f64,
    pub(crate) on: Which,
    pub(crate) act: Act,
}

/// Everything that can happen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    Flush,
    RestartCold,
    RestartWarm,
    /// Removes this share of the keys by SCAN and UNLINK or DEL, in chunks over so many seconds.
    Remove {
        share: f64,
        over: f64,
        command: &'static str,
    },
    /// This share of the keys gets new names.
    BumpVersion {
        share: f64,
    },
    /// The keys that are asked for become so many times as many.
    Outgrow {
        factor: f64,
    },
    /// Junk without a lifetime is written, per second.
    Junk {
        per_second: f64,
    },
    /// One stored key is read so many times a second, beside everything else.
    HotReads {
        per_second: f64,
    },
    /// This share of lookups wants one key that lives 20 s and takes the database 30 s to compute.
    Stampede {
        share: f64,
    },
    /// Of all lookups this share asks for what nobody stores …
    Absent {
        share: f64,
    },
    /// … growing by so many points a minute, up to that share.
    AbsentRamp {
        points_per_minute: f64,
        share: f64,
    },
    StallReplication,
    /// The process dies. A Sentinel, where there is one, promotes the replica.
    Kill,
    ResetStatistics,
    /// Traffic times this.
    Surge {
        factor: f64,
    },
    /// All clients drop their connections and open new ones.
    ReconnectClients,
}

/// One storm.
#[derive(Debug, Clone)]
pub(crate) struct Truth {
    pub(crate) at: f64,
    pub(crate) on: Which,
    /// Also touched, so neither missed nor a false alarm.
    pub(crate) may: Option<Which>,
    /// The cause; `None` where no type is claimed.
    pub(crate) storm_type: Option<StormType>,
    pub(crate) from: From,
    /// Seen to judge the type only by sampling keys.
    pub(crate) needs_sampler: bool,
}

/// From when the delay counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// The clients' ratio lies ten points under its normal, for two seconds.
    Impact,
    /// The event: its effect is not in the ratio.
    Event,
    /// The clients' ratio passes a half: what comes slowly.
    Half,
    /// The Sentinel names the new master.
    Switch,
}

/// What the clients do in a normal run.
impl Default for Setting {
    fn default() -> Self {
        Self {
            masters: None,
            rate: None,
            rate_first: None,
            zipf: None,
            absent_share: 0.0,
            ttl_factor: 1.0,
            value_bytes: 64,
            memory: None,
            replica: Replica::None,
            common_expiry: None,
        }
    }
}

impl Scenario {
    pub(crate) fn quiet(name: &'static str) -> Self {
        Self {
            name,
            setting: Setting::default(),
            steps: Vec::new(),
            truths: Vec::new(),
            quiet_before: QUIET_BEFORE,
            watched: 240.0,
            smoke: false,
            planned: false,
        }
    }

    /// A storm at the end of the quiet start.
    pub(crate) fn storm(name: &'static str, on: Which, storm_type: Option<StormType>) -> Self {
        Self { watched: 120.0, ..Self::quiet(name) }.truth(0.0, on, storm_type)
    }

    pub(crate) fn truth(mut self, at: f64, on: Which, storm_type: Option<StormType>) -> Self {
        self.truths.push(Truth { at, on, may: None, storm_type, from: From::Impact, needs_sampler: false });
        self
    }

    pub(crate) fn step(mut self, at: f64, on: Which, act: Act) -> Self {
        self.steps.push(Step { at, on, act });
        self
    }

    pub(crate) fn set(mut self, change: impl FnOnce(&mut Setting)) -> Self {
        change(&mut self.setting);
        self
    }

    /// Changes the last storm named.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Truth)) -> Self {
        change(self.truths.last_mut().expect("a storm"));
        self
    }

    pub(crate) fn watched(mut self, seconds: f64) -> Self {
        self.watched = seconds;
        self
    }

    pub(crate) fn smoke(mut self) -> Self {
        self.smoke = true;
        self
    }

    pub(crate) fn planned(mut self) -> Self {
        self.planned = true;
        self
    }
}
