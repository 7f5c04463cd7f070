//! One round: all nodes of a cache asked at once, done at the deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::clock::wall_unix_seconds;
use super::connection::{Answer, NodeLink, Outcome};
use super::depth::Depth;
use super::isolation;
use crate::config::Endpoint;
use crate::detect::verdict::Observation;
use crate::discover::{Member, NodeSet};
use crate::events;
use crate::model::{CacheName, FailureReason, NodeName, Role};
use crate::parse::{Info, Sample};
use crate::publish::dropin::{Readings, ServerView};
use crate::publish::{Answers, Interest, NodePlace, NodeSnapshot, Steady};
use crate::topology::NodeFacts;
use crate::topology::cluster::ClusterInfo;
use crate::topology::sentinel::SentinelReport;
use crate::wire::TlsStore;

/// Nodes asked at the same moment. More would make their answers queue up in front of us and count
/// our own slowness as theirs.
const BURST_NODES_MAX: usize = 64;

/// A node that was down is waited for until all others are done, and this part of the timeout longer. The others' data
/// are not to grow old while it hangs, and who is well again answers about as fast as they do.
const PATIENCE: u32 = 10;

/// The nodes of one cache, sorted by name.
#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    link: NodeLink,
    /// What will be published of it; also our memory of how it was.
    snapshot: NodeSnapshot,
    /// It was a Sentinel when it last answered; until then, it is said to be one.
    sentinel: bool,
}

/// A node's part in its cache: a change of it is a sign that the topology changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    up: bool,
    role: Option<Role>,
    replicas: Option<u64>,
}

/// What a round brought.
#[derive(Debug)]
pub(super) struct Collected {
    /// Of every node, sorted by name.
    pub(super) observations: Vec<(NodeName, Observation)>,
    /// Durations of the polls that were answered.
    pub(super) took: Vec<Duration>,
    /// The round looks as if our own network were gone.
    pub(super) cut_off: bool,
}

impl Nodes {
    pub(super) fn new(set: &NodeSet) -> Self {
        let mut nodes = Self { nodes: Vec::new() };
        nodes.adopt(set);
        nodes
    }

    /// Goes over to a new list; Sentinels are polled, too. An endpoint that is unchanged keeps its line; a node that is still
    /// there under another endpoint (a new password) keeps its counters.
    pub(super) fn adopt(&mut self, set: &NodeSet) {
        let mut before = std::mem::take(&mut self.nodes);
        self.nodes = set
            .members
            .iter()
            .chain(&set.sentinels)
            .map(|Member { endpoint, place }| {
                let mut node = match before.iter().position(|node| node.snapshot.node == endpoint.node) {
                    Some(index) => before.swap_remove(index).reached_by(endpoint),
                    None => Node::new(endpoint),
                };
                node.sentinel |= place.role == Some(Role::Sentinel);
                node.snapshot.place = (*place != NodePlace::default()).then(|| Arc::new(place.clone()));
                node
            })
            .collect();
        self.nodes.sort_by(|a, b| a.snapshot.node.cmp(&b.snapshot.node));
    }

    /// Asks every node, none of them later than `timeout` after now.
    pub(super) async fn collect(
        &mut self,
        cache: &CacheName,
        depth: Depth,
        tls: &Arc<TlsStore>,
        timeout: Duration,
    ) -> Collected {
        let start = Instant::now();
        let deadline = start + timeout;
        let bursts = self.nodes.len().div_ceil(BURST_NODES_MAX).max(1) as u32;
        let others_done = CancellationToken::new();
        let polls = self.nodes.iter_mut().enumerate().map(|(index, node)| {
            let burst = (index / BURST_NODES_MAX) as u32;
            let at = start + timeout / 2 * burst / bursts;
            let patience = others_done.cancelled().then(|()| sleep(timeout / PATIENCE));
            let down = node.link.is_down();
            let poll = async move {
                if burst > 0 {
                    sleep_until(at).await;
                }
                node.poll(cache, depth, tls, deadline, patience).await
            };
            (down, poll)
        });
        let (down, others): (Vec<_>, Vec<_>) = polls.partition(|(down, _)| *down);
        let [down, others] = [down, others].map(|polls| join_all(polls.into_iter().map(|(_, poll)| poll)));
        let others = others.inspect(|_| others_done.cancel());
        let (mut polled, of_down) = join(others, down).await;
        polled.extend(of_down);
        polled.sort_by(|((a, _), _), ((b, _), _)| a.cmp(b));
        let (observations, took): (_, Vec<Option<Duration>>) = polled.into_iter().unzip();
        let cut_off = isolation::cut_off(self.nodes.iter().map(|node| node.snapshot.down));
        Collected { observations, took: took.into_iter().flatten().collect(), cut_off }
    }

    /// Those that are said, or turned out, to be Sentinels.
    pub(super) fn sentinels(&self) -> impl Iterator<Item = &Endpoint> {
        self.watching().map(|node| node.link.endpoint())
    }

    /// What they say in `INFO`.
    pub(super) fn told_by_sentinels(&self) -> impl Iterator<Item = (&NodeName, SentinelReport)> {
        let told = |node: &'_ Node| Some(SentinelReport::from_info(&Info::parse(node.snapshot.info.as_ref()?)));
        self.watching().filter_map(move |node| Some((&node.snapshot.node, told(node)?)))
    }

    fn watching(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.sentinel)
    }

    /// What the last round learnt of each.
    pub(super) fn facts(&self) -> impl Iterator<Item = NodeFacts<'_>> {
        self.nodes.iter().filter(|node| !node.sentinel).map(|node| NodeFacts {
            node: &node.snapshot.node,
            sample: node.snapshot.sample.as_deref(),
            down: node.snapshot.down,
            cluster: node.snapshot.info.as_deref().and_then(ClusterInfo::find),
        })
    }

    /// What the last round says of each node's part in the cache.
    pub(super) fn standing(&self) -> BTreeMap<NodeName, Standing> {
        let of = |snapshot: &NodeSnapshot| Standing {
            up: snapshot.up,
            role: snapshot.sample.as_ref().and_then(|sample| sample.role),
            replicas: snapshot.sample.as_ref().and_then(|sample| sample.connected_replicas),
        };
        self.nodes.iter().map(|node| (node.snapshot.node.clone(), of(&node.snapshot))).collect()
    }

    /// The nodes as of the last round, sorted by name.
    pub(super) fn snapshots(&self) -> Vec<NodeSnapshot> {
        self.nodes.iter().map(|node| node.snapshot.clone()).collect()
    }
}

impl Node {
    fn new(endpoint: &Endpoint) -> Self {
        let snapshot = NodeSnapshot {
            node: endpoint.node.clone(),
            up: false,
            down: None,
            last_poll_unix: None,
            sample: None,
            info: None,
            place: None,
            failures: [0; FailureReason::ALL.len()],
            answers: Answers::default(),
            core: Readings::default(),
            interest: Interest::default(),
            compressed: Arc::default(),
            steady: Steady::default(),
        };
        Self { link: NodeLink::new(endpoint.clone()), snapshot, sentinel: false }
    }

    fn reached_by(mut self, endpoint: &Endpoint) -> Self {
        if self.link.endpoint() != endpoint {
            self.link = NodeLink::new(endpoint.clone());
        }
        self
    }

    async fn poll(
        &mut self,
        cache: &CacheName,
        depth: Depth,
        tls: &Arc<TlsStore>,
        deadline: Instant,
        patience: impl Future<Output = ()>,
    ) -> ((NodeName, Observation), Option<Duration>) {
        let depth = if self.snapshot.interest.lasts() {
            Depth::Full
        } else {
            self.snapshot.steady = Steady::default();
            depth
        };
        self.snapshot.compressed = Arc::default();
        let outcome = self.link.poll(depth, tls, deadline, patience).await;
        let (observation, took) = match outcome {
            Outcome::Answered(Answer { sample, text, core, took }) => {
                if self.snapshot.down.take().is_some() {
                    events::node_up(cache, &self.snapshot.node);
                }
                self.sentinel = sample.role == Some(Role::Sentinel);
                self.snapshot.up = true;
                self.snapshot.last_poll_unix = Some(wall_unix_seconds());
                self.snapshot.sample = Some(Arc::new(Sample::clone(&sample)));
                self.snapshot.info = Some(text);
                self.snapshot.core = core;
                let Answers { count, seconds, .. } = self.snapshot.answers;
                let last_seconds = took.as_secs_f64();
                self.snapshot.answers = Answers { count: count + 1, seconds: seconds + last_seconds, last_seconds };
                (Observation::Up { sample, hot_key: None }, Some(took))
            }
            Outcome::Failed(error) => {
                self.snapshot.failures[error.reason as usize] += 1;
                if self.snapshot.down != Some(error.reason) {
                    events::node_down(cache, &self.snapshot.node, error.reason, &error.detail);
                }
                (self.fell(error.reason), None)
            }
            Outcome::Waiting(reason) => (self.fell(reason), None),
        };
        ((self.snapshot.node.clone(), observation), took)
    }

    fn fell(&mut self, reason: FailureReason) -> Observation {
        self.snapshot.down = Some(reason);
        self.snapshot.up = false;
        self.snapshot.sample = None;
        self.snapshot.info = None;
        self.snapshot.core = Readings::of(&ServerView::default());
        Observation::Down(reason)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Crc;

    use super::*;
    use crate::publish::snapshot::{Deflated, SteadyPart};
    use crate::wire::scripted::{Script, ScriptedServer, deserted};

    fn set(nodes: Vec<Endpoint>) -> NodeSet {
        let member = |endpoint| Member { endpoint, place: NodePlace::default() };
        NodeSet { members: nodes.into_iter().map(member).collect(), sentinels: Vec::new() }
    }

    async fn collect(nodes: &mut Nodes) -> Collected {
        nodes.collect(&"cache".into(), Depth::Core, &Arc::default(), Duration::from_secs(2)).await
    }

    #[tokio::test]
    async fn a_hung_node_costs_the_deadline_and_nobody_else_anything() {
        let well = ScriptedServer::start(Script::default()).await;
        let hung = ScriptedServer::start(Script { hang: true, ..Script::default() }).await;
        let (gone, begun) = (deserted().await, Instant::now());
        let mut nodes = Nodes::new(&set(vec![hung.endpoint(), well.endpoint(), gone.clone()]));
        let collected = collect(&mut nodes).await;
        let elapsed = begun.elapsed();
        assert!((Duration::from_millis(1900)..Duration::from_secs(6)).contains(&elapsed), "{elapsed:?}");
        assert!(collected.observations.is_sorted_by_key(|(node, _)| node.clone()));
        let of = |endpoint: &Endpoint| {
            let found = collected.observations.iter().find(|(node, _)| *node == endpoint.node);
            found.unwrap().1.clone()
        };
        assert!(matches!(of(&well.endpoint()), Observation::Up { .. }));
        assert_eq!(of(&hung.endpoint()), Observation::Down(FailureReason::Timeout));
        assert_eq!(of(&gone), Observation::Down(FailureReason::Refused));
        assert_eq!(collected.took.len(), 1);
        assert!(!collected.cut_off);
    }

    #[tokio::test]
    async fn a_node_that_was_down_holds_up_no_round_while_it_hangs() {
        let well = ScriptedServer::start(Script::default()).await;
        let hung = ScriptedServer::start(Script { hang: true, ..Script::default() }).await;
        let mut nodes = Nodes::new(&set(vec![hung.endpoint(), well.endpoint()]));
        let timeouts = |nodes: &Nodes| {
            let failures = nodes.snapshots().into_iter().map(|node| node.failures[FailureReason::Timeout as usize]);
            failures.sum::<u64>()
        };
        let mut shortest = Duration::MAX;
        while timeouts(&nodes) < 2 {
            let begun = Instant::now();
            let collected = collect(&mut nodes).await;
            assert_eq!(collected.took.len(), 1, "the other answers in every round");
            shortest = shortest.min(begun.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
        assert!(shortest < Duration::from_millis(1500), "{shortest:?} of a timeout of 2 s");
        hung.follow(Script::default());
        let begun = Instant::now();
        while collect(&mut nodes).await.took.len() < 2 {
            assert!(begun.elapsed() < Duration::from_secs(30), "it is seen to be well again");
            sleep(Duration::from_millis(100)).await;
        }
    }

    #[tokio::test]
    async fn what_was_made_of_an_answer_goes_with_it() {
        let server = ScriptedServer::start(Script::default()).await;
        let mut nodes = Nodes::new(&set(vec![server.endpoint()]));
        collect(&mut nodes).await;
        let before = nodes.snapshots().remove(0);
        before.compressed.get_or_init(|| vec!["made".into()]);
        assert!(nodes.snapshots()[0].compressed.get().is_some());
        collect(&mut nodes).await;
        assert!(nodes.snapshots()[0].compressed.get().is_none());
        assert!(before.compressed.get().is_some(), "whoever still reads the old one has it");
    }

    #[tokio::test]
    async fn what_seldom_changes_stays_while_somebody_reads_it() {
        let server = ScriptedServer::start(Script::default()).await;
        for is_read in [true, false] {
            let mut nodes = Nodes::new(&set(vec![server.endpoint()]));
            let node = nodes.snapshots().remove(0);
            if is_read {
                node.interest.note();
            }
            let deflated = Deflated { blocks: "made".into(), crc: Crc::new() };
            node.steady.keep(Arc::new(SteadyPart { hash: 1, deflated }));
            collect(&mut nodes).await;
            assert_eq!(nodes.snapshots()[0].steady.of(1).is_some(), is_read);
        }
    }

    #[tokio::test]
    async fn failures_count_attempts_not_rounds() {
        let mut nodes = Nodes::new(&set(vec![deserted().await]));
        for _ in 0..5 {
            collect(&mut nodes).await;
        }
        let node = nodes.snapshots().remove(0);
        assert_eq!(node.failures[FailureReason::Refused as usize], 2, "the others were pauses");
        assert!(!node.up && node.sample.is_none() && node.info.is_none());
    }

    /// Log lines of the test that holds the guard.
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn logs_a_line_per_change_not_per_poll() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);

        let refused = Script { auth: "-WRONGPASS no\r\n".into(), ..Script::default() };
        let server = ScriptedServer::start(refused).await;
        let mut endpoint = server.endpoint();
        endpoint.credentials.password = Some("hunter2".to_owned().into());
        let mut nodes = Nodes::new(&set(vec![endpoint]));
        for _ in 0..2 {
            collect(&mut nodes).await;
        }
        server.follow(Script::default());
        // The pause after the second failure is real time: a reload with another user ends it.
        let mut endpoint = server.endpoint();
        endpoint.credentials.username = Some("other".into());
        nodes.adopt(&set(vec![endpoint]));
        for _ in 0..2 {
            collect(&mut nodes).await;
        }
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let messages: Vec<&str> =
            text.lines().map(|line| if line.contains("is down") { "down" } else { "up" }).collect();
        assert_eq!(messages, ["down", "up"], "{text}");
        assert!(text.contains("reason=auth") && !text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    async fn a_new_list_keeps_unchanged_lines_and_counters_of_nodes_that_stay() {
        let server = ScriptedServer::start(Script::default()).await;
        let gone = deserted().await;
        let mut nodes = Nodes::new(&set(vec![server.endpoint(), gone.clone()]));
        collect(&mut nodes).await;

        let mut renamed = gone.clone();
        renamed.credentials.username = Some("other".into());
        nodes.adopt(&set(vec![renamed, server.endpoint()]));
        collect(&mut nodes).await;
        assert_eq!(server.connections(), 1);
        let refused = |nodes: &Nodes| {
            let snapshots = nodes.snapshots();
            snapshots.iter().map(|node| node.failures[FailureReason::Refused as usize]).sum::<u64>()
        };
        assert_eq!(refused(&nodes), 2);

        nodes.adopt(&set(vec![server.endpoint()]));
        assert_eq!((nodes.nodes.len(), refused(&nodes)), (1, 0));
    }

    #[tokio::test]
    async fn large_caches_are_sent_in_bursts_and_all_are_asked() {
        let server = ScriptedServer::start(Script::default()).await;
        let endpoints = (0..150).map(|index| {
            let mut endpoint = server.endpoint();
            endpoint.node = format!("node-{index:03}:1").into();
            endpoint
        });
        let mut nodes = Nodes::new(&set(endpoints.collect()));
        let begun = Instant::now();
        let collected = nodes.collect(&"cache".into(), Depth::Core, &Arc::default(), Duration::from_millis(1500)).await;
        assert_eq!(collected.took.len(), 150);
        // Three bursts in the first 0.75 s: the last leaves at 0.5 s.
        assert!(begun.elapsed() >= Duration::from_millis(500));
    }
}
