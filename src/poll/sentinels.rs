//! The Sentinels of one cache: asked at the pace of its rounds, listened to in between. Each has a task of its own;
//! a round takes what they last said and waits for none of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::cache::Shared;
use crate::config::{Endpoint, Poll};
use crate::events;
use crate::model::{CacheName, FailureReason, NodeName};
use crate::parse::Info;
use crate::topology::SENTINELS_MAX;
use crate::topology::event::{CHANNELS, Event};
use crate::topology::sentinel::{INSTANCES_MAX, Instance, MASTERS_MAX, MasterView, SentinelReport};
use crate::wire::{Connection, PollError, Reply};

/// Announcements kept of one Sentinel until the next round: a failover makes about ten.
const EVENTS_MAX: usize = 256;

/// Pause before a lost subscription is tried again. What is missed meanwhile the polls tell.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(5);

/// The same where the server refuses us: nothing changes by itself, and it may log every attempt.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

/// The Sentinels of one cache.
#[derive(Debug)]
pub(super) struct Sentinels {
    watched: BTreeMap<NodeName, Watched>,
    /// Signalled when one announces a change: whoever looks for nodes looks again at once.
    changed: Arc<Notify>,
}

/// One of them.
#[derive(Debug)]
struct Watched {
    endpoint: Endpoint,
    heard: Arc<Heard>,
    _task: AbortOnDropHandle<()>,
}

/// What is asked, and of whom.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) cache: CacheName,
    pub(super) poll: Poll,
    /// The one master that is of interest; `None` for all.
    pub(super) master: Option<Arc<str>>,
}

/// What a Sentinel said, from its task to the next round.
#[derive(Debug, Default)]
struct Heard(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    /// Its last answer, and when it came.
    report: Option<(Instant, SentinelReport)>,
    events: VecDeque<Event>,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Said> {
        // Whole between calls, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sentinels {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { watched: BTreeMap::new(), changed }
    }

    /// Watches these Sentinels, the first sixteen by name, and no others.
    pub(super) fn follow(&mut self, shared: &Arc<Shared>, question: &Question, endpoints: Vec<Endpoint>) {
        let mut before = std::mem::take(&mut self.watched);
        let mut endpoints: Vec<Endpoint> = endpoints;
        endpoints.sort_by(|a, b| a.node.cmp(&b.node));
        endpoints.dedup_by(|a, b| a.node == b.node);
        for endpoint in endpoints.into_iter().take(SENTINELS_MAX) {
            let unchanged = before.remove(&endpoint.node).filter(|watched| watched.endpoint == endpoint);
            let watched = unchanged.unwrap_or_else(|| {
                let heard = Arc::new(Heard::default());
                let changed = Arc::clone(&self.changed);
                let task = watch(Arc::clone(shared), question.clone(), endpoint.clone(), Arc::clone(&heard), changed);
                Watched { endpoint: endpoint.clone(), heard, _task: AbortOnDropHandle::new(tokio::spawn(task)) }
            });
            self.watched.insert(endpoint.node, watched);
        }
    }

    /// What each said last, `None` of those that have been silent for longer than `patience`, and what all have
    /// announced since the call before.
    pub(super) fn hear(&self, patience: Duration) -> (Vec<(NodeName, Option<SentinelReport>)>, Vec<Event>) {
        let (mut reports, mut events) = (Vec::new(), Vec::new());
        for (name, watched) in &self.watched {
            let mut said = watched.heard.lock();
            events.extend(said.events.drain(..));
            let fresh = said.report.as_ref().filter(|(at, _)| at.elapsed() <= patience);
            reports.push((name.clone(), fresh.map(|(_, report)| report.clone())));
        }
        (reports, events)
    }
}

/// Asks and listens, for ever.
async fn watch(shared: Arc<Shared>, question: Question, endpoint: Endpoint, heard: Arc<Heard>, changed: Arc<Notify>) {
    tokio::join!(
        ask_for_ever(&shared, &question, &endpoint, &heard),
        listen_for_ever(&shared, &question, &endpoint, &heard, &changed)
    );
}

async fn ask_for_ever(shared: &Shared, question: &Question, endpoint: &Endpoint, heard: &Heard) {
    let mut ticks = interval(question.poll.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut connection, mut down): (Option<Connection>, Option<FailureReason>) = (None, None);
    loop {
        ticks.tick().await;
        let deadline = Instant::now() + question.poll.timeout;
        let kept = connection.is_some();
        let mut answer = ask(shared, endpoint, &mut connection, question, deadline).await;
        if answer.is_err() && kept {
            // It may have restarted since: once more, at once, on a new connection.
            connection = None;
            answer = ask(shared, endpoint, &mut connection, question, deadline).await;
        }
        match answer {
            Ok(report) => {
                heard.lock().report = Some((Instant::now(), report));
                if down.take().is_some() {
                    events::sentinel_up(&question.cache, &endpoint.node);
                }
            }
            Err(error) => {
                connection = None;
                heard.lock().report = None;
                if down != Some(error.reason) {
                    events::sentinel_down(&question.cache, &endpoint.node, error.reason, &error.detail);
                }
                down = Some(error.reason);
            }
        }
    }
}

/// One poll: two round trips, the second about every master that the first named.
async fn ask(
    shared: &Shared,
    endpoint: &Endpoint,
    connection: &mut Option<Connection>,
    question: &Question,
    deadline: Instant,
) -> Result<SentinelReport, PollError> {
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(Connection::open(endpoint, &shared.tls, deadline).await?),
    };
    let masters: &[&str] = match &question.master {
        Some(name) => &["SENTINEL", "MASTER", name],
        None => &["SENTINEL", "MASTERS"],
    };
    let replies = connection.ask(&[&["INFO", "sentinel"], &["SENTINEL", "MYID"], masters], deadline).await?;
    let [info, id, listed] = replies.as_slice() else { return Ok(SentinelReport::default()) };
    let mut report = info.text().map(|text| SentinelReport::from_info(&Info::parse(text))).unwrap_or_default();
    report.id = id.text().map(Arc::from);
    match listed {
        // What INFO says is better than nothing.
        Reply::Error { code, .. } if code == "NOPERM" && question.master.is_none() && !report.masters.is_empty() => {
            return Ok(report);
        }
        Reply::Error { code, text } => return Err(connection.refusal(masters, code, text)),
        _ => {}
    }
    report.masters = match question.master {
        Some(_) => MasterView::read(&listed.texts()).into_iter().collect(),
        None => listed.items().iter().filter_map(|master| MasterView::read(&master.texts())).collect(),
    };
    report.masters.sort_by(|a, b| a.name.cmp(&b.name));
    report.masters.truncate(MASTERS_MAX);
    let names: Vec<Arc<str>> = report.masters.iter().map(|master| Arc::clone(&master.name)).collect();
    let questions: Vec<[&str; 3]> = names
        .iter()
        .flat_map(|name| {
            ["CKQUORUM", "REPLICAS", "SENTINELS", "GET-MASTER-ADDR-BY-NAME"].map(|about| ["SENTINEL", about, name])
        })
        .collect();
    let questions: Vec<&[&str]> = questions.iter().map(|words| words.as_slice()).collect();
    let replies = connection.ask(&questions, deadline).await?;
    for (master, replies) in report.masters.iter_mut().zip(replies.chunks_exact(4)) {
        complete(master, replies);
    }
    Ok(report)
}

/// What the further commands tell of a master; a refusal leaves its part unknown.
fn complete(master: &mut MasterView, replies: &[Reply]) {
    let [quorum, replicas, sentinels, told] = replies else { return };
    master.quorum_ok = match quorum {
        Reply::Text(_) => Some(true),
        Reply::Error { code, .. } if code == "NOQUORUM" => Some(false),
        _ => None,
    };
    let instances = |list: &Reply| {
        list.items().iter().filter_map(|item| Instance::read(&item.texts())).take(INSTANCES_MAX).collect()
    };
    master.replicas = instances(replicas);
    master.sentinels = instances(sentinels);
    master.told(&told.texts());
}

/// Announcements only shorten the wait for the next poll: what is lost with a connection, polling finds.
async fn listen_for_ever(shared: &Shared, question: &Question, endpoint: &Endpoint, heard: &Heard, changed: &Notify) {
    let hear = |channel: &str, message: &str| {
        let Some(event) = Event::read(&endpoint.node, channel, message) else { return };
        let of_interest = question.master.is_none() || event.master.is_none() || event.master == question.master;
        if of_interest {
            let mut said = heard.lock();
            if said.events.len() == EVENTS_MAX {
                said.events.pop_front();
            }
            said.events.push_back(event);
            changed.notify_one();
        }
    };
    loop {
        let deadline = Instant::now() + question.poll.timeout;
        let error = match Connection::open(endpoint, &shared.tls, deadline).await {
            Ok(connection) => connection.subscribe(&CHANNELS, hear).await,
            Err(error) => error,
        };
        events::sentinel_unheard(&question.cache, &endpoint.node, error.reason, &error.detail);
        let refused = matches!(error.reason, FailureReason::NoPerm | FailureReason::Auth);
        sleep(if refused { REFUSED_PAUSE } else { RESUBSCRIBE_PAUSE }).await;
    }
}
