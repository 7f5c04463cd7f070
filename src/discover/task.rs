//! The task that keeps a cache's nodes known.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Look, NodeSet, file, look, part};
use crate::config::{CacheConfig, Discovery, Source};
use crate::events;
use crate::model::{DiscoveryRefusal, NodeName};
use crate::publish::{DiscoverySnapshot, Publisher};
use crate::wire::TlsStore;

/// Between two looks at least, however much moves.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// After a look that was asked for, a second one: whoever answered may not have heard yet.
const SECOND_LOOK: Duration = Duration::from_secs(3);

/// After a look that found nobody to ask.
const RETRY: Duration = Duration::from_secs(5);

/// Who could not be asked is published of so many: enough to see why.
const FAULTS_SHOWN: usize = 8;

/// How often a file is held against its last state.
const FILE_PAUSE: Duration = Duration::from_secs(1);

/// What a discovery task has to do. Compared at a reload: equal assignments disturb nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The cache whose nodes to find.
    pub cache: Arc<CacheConfig>,
    /// How often, and whom to let in.
    pub discovery: Discovery,
    /// Longest wait for whoever is asked.
    pub timeout: Duration,
}

/// What a discovery task works with.
#[derive(Debug, Clone)]
pub struct Finder {
    /// What to do; may change.
    pub assignments: watch::Receiver<Arc<Assignment>>,
    /// Where the nodes go; `None` until they are first known.
    pub found: watch::Sender<Option<Arc<NodeSet>>>,
    /// Notified when the topology seems to have changed: the next look comes at once.
    pub moved: Arc<Notify>,
    /// Where the state of discovery is published.
    pub publisher: Arc<Publisher>,
    /// The wall clock, Unix seconds.
    pub unix_seconds: fn() -> f64,
}

/// Why the next look comes.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    /// It is time.
    Due,
    /// Something moved.
    Moved,
    /// There is another assignment, or the file has changed.
    Changed,
}

/// Looks for a cache's nodes, again and again, until its assignments end. May be dropped at any point.
pub async fn run(mut finder: Finder, tls: &TlsStore) {
    let (mut record, mut reason) = (Record::default(), Reason::Changed);
    loop {
        let assignment = Arc::clone(&finder.assignments.borrow_and_update());
        let Assignment { cache, discovery, timeout } = &*assignment;
        let known = record.known.clone().or_else(|| finder.found.borrow().clone());
        let stamp = stamp(&cache.source).await;
        let look = look(cache, discovery, *timeout, tls, known.as_deref()).await;
        let looked = Instant::now();
        let pause = match (&look.set, reason) {
            (None, _) => RETRY.min(discovery.refresh),
            (Some(_), Reason::Moved) => SECOND_LOOK.min(discovery.refresh),
            (Some(_), _) => discovery.refresh,
        };
        record.take(&finder, cache, look);
        let Some(next) = wait(&mut finder, &cache.source, stamp, looked, pause).await else { return };
        reason = next;
    }
}

/// Waits for a reason to look again; `None` when there will be none.
async fn wait(
    finder: &mut Finder,
    source: &Source,
    stamp: Option<(SystemTime, u64)>,
    looked: Instant,
    pause: Duration,
) -> Option<Reason> {
    let listed = matches!(source, Source::Nodes(_));
    tokio::select! {
        changed = finder.assignments.changed() => changed.ok().map(|()| Reason::Changed),
        () = sleep_until(looked + pause), if !listed => Some(Reason::Due),
        () = finder.moved.notified(), if !listed => {
            sleep_until(looked + PAUSE_MIN).await;
            Some(Reason::Moved)
        }
        () = file_changed(source, stamp) => Some(Reason::Changed),
    }
}

/// Completes when the file is no longer what it was; never for other sources. Files are held against their last
/// state, not watched by the kernel: that misses no rename, no link that is turned, no network file system.
async fn file_changed(source: &Source, before: Option<(SystemTime, u64)>) {
    if !matches!(source, Source::File(_)) {
        return std::future::pending().await;
    }
    while stamp(source).await == before {
        sleep(FILE_PAUSE).await;
    }
}

async fn stamp(source: &Source) -> Option<(SystemTime, u64)> {
    let Source::File(path) = source else { return None };
    let path = path.clone();
    tokio::task::spawn_blocking(move || file::stamp(&path)).await.ok().flatten()
}

/// What has come of the looks so far.
#[derive(Debug, Default)]
struct Record {
    state: DiscoverySnapshot,
    /// All nodes of the cache, those that other exporters watch among them.
    known: Option<Arc<NodeSet>>,
    faults: Vec<String>,
    refused: Vec<(NodeName, DiscoveryRefusal)>,
}

impl Record {
    /// Hands the nodes on and publishes how discovery goes; a line in the log per change.
    fn take(&mut self, finder: &Finder, cache: &CacheConfig, look: Look) {
        let Finder { found, publisher, .. } = finder;
        let Look { set, faults, refused, .. } = look;
        let (name, up) = (&cache.name, set.is_some());
        if faults != self.faults || up != self.state.up() {
            match (up, faults.is_empty()) {
                (false, _) => events::discovery_failed(name, &faults),
                (true, false) => events::discovery_impaired(name, &faults),
                (true, true) if !self.faults.is_empty() => events::discovery_recovered(name),
                (true, true) => {}
            }
        }
        self.state.faults = faults.iter().take(FAULTS_SHOWN).cloned().collect();
        self.faults = faults;
        for (_, reason) in &refused {
            self.state.refused[*reason as usize] += 1;
        }
        if !refused.is_empty() && refused != self.refused {
            events::discovery_refused(name, &refused);
        }
        self.refused = refused;
        self.state.source = cache.source.key();
        let now = (finder.unix_seconds)();
        self.state.failing_since_unix = (!up).then(|| self.state.failing_since_unix.unwrap_or(now));
        if let Some(set) = set {
            self.state.last_success_unix = Some(now);
            let (before, ours) = (found.borrow().clone(), part::ours(cache, &set));
            self.state.nodes = ours.members.len();
            if before.as_deref() != Some(&ours) {
                note_change(cache, before.as_deref(), &ours);
                found.send_replace(Some(Arc::new(ours)));
            }
            self.known = Some(Arc::new(set));
        }
        let discovered = !matches!(cache.source, Source::Nodes(_));
        publisher.set_discovery(name, discovered.then(|| self.state.clone()));
    }
}

/// Nodes that joined or left, for the log; a change of roles alone is told by the nodes themselves.
fn note_change(cache: &CacheConfig, known: Option<&NodeSet>, set: &NodeSet) {
    let names =
        |set: &'_ NodeSet| -> Vec<NodeName> { set.members.iter().map(|member| member.endpoint.node.clone()).collect() };
    let (before, after) = (known.map(names).unwrap_or_default(), names(set));
    let only = |these: &'_ [NodeName], those: &[NodeName]| -> Vec<NodeName> {
        these.iter().filter(|node| !those.contains(node)).cloned().collect()
    };
    let (joined, left) = (only(&after, &before), only(&before, &after));
    if !joined.is_empty() || !left.is_empty() {
        events::nodes_changed(&cache.name, after.len(), &joined, &left);
    }
}
