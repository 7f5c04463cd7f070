//! One run: a fleet, the exporter beside it, the events, and what everybody saw.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cache_storm_exporter::report::{EpisodeReport, Episodes};
use humantime_serde::re::humantime;
use tokio::time::{MissedTickBehavior, interval, timeout_at};

use super::clients::Bin;
use super::fleet::{Fleet, Guarded, Parameters};
use super::harness::exporter::Exporter;
use super::observe::{Look, NaiveRound, look, sample};
use super::record::Recording;
use super::scenario::{Act, From, Scenario};

/// The exporter is asked so often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What `poll.interval` and `poll.timeout` are by default, seconds; the former is divided by the scale.
const POLL_INTERVAL: f64 = 5.0;
const POLL_TIMEOUT: f64 = 1.0;

/// What a run is.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    /// `detection.time_scale`; events, lifetimes and polls are as much faster.
    pub(crate) scale: f64,
    /// Hot-key sampling is allowed.
    pub(crate) sampler: bool,
}

/// What everybody saw of a run.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) parameters: Parameters,
    pub(crate) start_unix: f64,
    /// Per truth of the scenario: indices of its nodes, and of those that may be touched.
    pub(crate) nodes: Vec<(Vec<usize>, Vec<usize>)>,
    pub(crate) node_count: usize,
    /// By node: what its clients counted.
    pub(crate) bins: Vec<Vec<Bin>>,
    pub(crate) switched: Option<f64>,
    /// Changes only.
    pub(crate) looks: Vec<Look>,
    pub(crate) episodes: Vec<EpisodeReport>,
    pub(crate) naive: Vec<NaiveRound>,
    /// `host:port` by index.
    pub(crate) names: Vec<String>,
}

impl Plan {
    /// Does the run; a recording is written to the file, if one is given.
    pub(crate) async fn run(&self, record: Option<&Path>) -> Seen {
        let scenario = &self.scenario;
        let parameters = Parameters::draw(scenario, self.seed);
        let mut fleet = Fleet::start(scenario, &parameters, self.scale, self.seed).await;
        let names: Vec<String> = fleet.nodes.iter().map(|node| node.node()).collect();
        let exporter = Arc::new(Exporter::serve(&self.config(&names), &[]).await);

        let poll = Duration::from_secs_f64(POLL_INTERVAL / self.scale);
        let every = if record.is_some() { Duration::from_secs(1).min(poll) } else { poll };
        let ports = fleet.nodes.iter().map(|node| node.port).collect();
        let (sampled, _sampling) = sample(ports, every, poll, record.is_some());
        let looks = Arc::new(Mutex::new(Vec::new()));
        let _looking = Guarded(tokio::spawn(keep_looking(Arc::clone(&exporter), names.clone(), Arc::clone(&looks))));

        let mut sentinel = Vec::new();
        let end = fleet.start + Duration::from_secs_f64((scenario.quiet_before + scenario.watched) / self.scale);
        if let Some(view) = view(&fleet).await {
            sentinel.push((0.0, view));
        }
        let mut switched = None;
        for step in &scenario.steps {
            fleet.until(scenario.quiet_before + step.at).await;
            // What takes longer than the run, a ramp, ends with it.
            if let Ok(Some(at)) = timeout_at(end, fleet.perform(step)).await {
                switched = Some(at);
                sentinel.extend(view(&fleet).await.map(|view| (at, view)));
            }
        }
        tokio::time::sleep_until(end).await;

        let (_, body) = exporter.get("/api/v1/episodes").await;
        let episodes: Episodes = serde_json::from_str(&body).expect("episodes");
        let nodes = scenario
            .truths
            .iter()
            .map(|truth| (fleet.resolve(truth.on), truth.may.map(|may| fleet.resolve(may)).unwrap_or_default()));
        let seen = Seen {
            parameters,
            start_unix: fleet.start_unix,
            nodes: nodes.collect(),
            node_count: fleet.nodes.len(),
            bins: fleet.clients.iter().map(|clients| clients.bins()).collect(),
            switched,
            looks: looks.lock().unwrap().clone(),
            episodes: episodes.episodes,
            naive: std::mem::take(&mut sampled.lock().unwrap().naive),
            names,
        };
        if let Some(file) = record {
            let label = |node: usize, unix: f64| self.label(&seen, node, unix);
            let hot = scenario.steps.iter().any(|step| matches!(step.act, Act::HotReads { .. } | Act::Stampede { .. }));
            let name =
                |node| if node < fleet.masters { format!("n{node}") } else { format!("r{}", node - fleet.masters) };
            let recording = Recording {
                scenario: scenario.name,
                rounds: &sampled.lock().unwrap().rounds,
                start_unix: seen.start_unix,
                names: (0..seen.node_count).map(name).collect(),
                label: &label,
                accesses: hot.then(|| seen.bins.clone()),
                sentinel,
            };
            file.parent().map_or(Ok(()), std::fs::create_dir_all).expect("the folder of recordings can be made");
            recording.write(file).expect("the recording can be written");
        }
        seen
    }

    /// When a storm began, Unix seconds.
    pub(crate) fn began(&self, seen: &Seen, truth: usize) -> f64 {
        let truth = &self.scenario.truths[truth];
        let planned = seen.start_unix + (self.scenario.quiet_before + truth.at) / self.scale;
        if truth.from == From::Switch { seen.switched.unwrap_or(planned) } else { planned }
    }

    fn label(&self, seen: &Seen, node: usize, unix: f64) -> Option<&'static str> {
        let mut truths = self.scenario.truths.iter().enumerate().rev();
        truths.find_map(|(index, truth)| {
            (seen.nodes[index].0.contains(&node) && unix >= self.began(seen, index))
                .then(|| truth.storm_type.map_or("unknown", |storm_type| storm_type.as_str()))
        })
    }

    fn config(&self, names: &[String]) -> String {
        let interval = POLL_INTERVAL / self.scale;
        let timeout = POLL_TIMEOUT.min(0.8 * interval);
        let nodes: Vec<String> = names.iter().map(|name| format!("redis://{name}")).collect();
        let hotkeys = if self.sampler { "hotkeys: { mode: auto, allow_monitor: true }\n" } else { "" };
        let planned = if self.scenario.planned {
            let start = humantime::format_rfc3339_seconds(SystemTime::now());
            format!("planned: [{{ cache: lab, start: {start}, duration: 1h, causes: [mass_invalidation] }}]\n")
        } else {
            String::new()
        };
        format!(
            "poll: {{ interval: {}ms, timeout: {}ms }}\ndetection: {{ time_scale: {} }}\n{hotkeys}{planned}caches:\n  - name: lab\n    nodes: [{}]\n",
            (interval * 1e3) as u64,
            (timeout * 1e3) as u64,
            self.scale,
            nodes.join(", ")
        )
    }
}

/// The master's state in its Sentinel's words: configuration epoch, flags, address.
async fn view(fleet: &Fleet) -> Option<[String; 3]> {
    let told = fleet.sentinel.as_ref()?.view().await;
    Some([told["config-epoch"].clone(), told["flags"].clone(), format!("{}:{}", told["ip"], told["port"])])
}

async fn keep_looking(exporter: Arc<Exporter>, names: Vec<String>, looks: Arc<Mutex<Vec<Look>>>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let look = look(&exporter, &names).await;
        let mut looks = looks.lock().unwrap();
        let changed = looks.last().is_none_or(|last: &Look| {
            (&last.affected, last.severity, last.planned) != (&look.affected, look.severity, look.planned)
        });
        if changed {
            looks.push(look);
        }
    }
}

/// How long a run takes, roughly: for the estimate that is printed first.
pub(crate) fn seconds(plan: &Plan) -> f64 {
    (plan.scenario.quiet_before + plan.scenario.watched) / plan.scale + 5.0
}
