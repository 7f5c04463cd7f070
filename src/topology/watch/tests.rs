use super::*;

fn instance(address: &str, flags: &[SentinelFlag], reported: Role) -> Instance {
    Instance { address: address.into(), run_id: None, flags: flags.to_vec(), reported: Some(reported) }
}

/// Three Sentinels that watch one master of two replicas, and the exporter that polls all.
struct Rig {
    now: f64,
    watch: Watch,
    views: Vec<Option<MasterView>>,
    samples: Vec<(NodeName, Option<Sample>)>,
    /// Why who has no sample gives none.
    down: FailureReason,
    events: Vec<Event>,
}

const NODES: [&str; 3] = ["a:1", "b:1", "c:1"];
const SENTINELS: [&str; 3] = ["s1:2", "s2:2", "s3:2"];

impl Rig {
    fn new() -> Self {
        let down = FailureReason::Timeout;
        let mut rig =
            Self { now: 0.0, watch: Watch::default(), views: Vec::new(), samples: Vec::new(), down, events: vec![] };
        rig.views = SENTINELS.iter().map(|own| Some(view(own, "a:1", 1))).collect();
        rig.samples = NODES.iter().map(|node| (NodeName::from(*node), Some(sample(node, *node == "a:1")))).collect();
        rig.run(3);
        rig
    }

    fn round(&mut self) -> Topology {
        self.now += 1.0;
        let nodes: Vec<NodeFacts<'_>> = self
            .samples
            .iter()
            .map(|(node, sample)| {
                let down = sample.is_none().then_some(self.down);
                NodeFacts { node, sample: sample.as_ref(), down, cluster: None }
            })
            .collect();
        let report = |view: &Option<MasterView>| {
            view.clone().map(|view| SentinelReport { id: None, tilt: Some(false), masters: vec![view] })
        };
        let sentinels: Vec<_> =
            SENTINELS.iter().zip(&self.views).map(|(name, view)| ((*name).into(), report(view))).collect();
        let events = std::mem::take(&mut self.events);
        self.watch.observe(&Round { now: self.now, nodes: &nodes, sentinels: &sentinels, events: &events })
    }

    fn run(&mut self, rounds: usize) -> Topology {
        (0..rounds).map(|_| self.round()).last().unwrap()
    }

    fn each_view(&mut self, change: impl Fn(&mut MasterView)) {
        self.views.iter_mut().flatten().for_each(change);
    }

    fn announce(&mut self, sentinel: &str, channel: &str, message: &str) {
        self.events.push(Event::read(&sentinel.into(), channel, message).unwrap());
    }

    /// The master dies and `b:1` takes over, under that epoch.
    fn fail_over(&mut self, epoch: u64) {
        self.samples[0].1 = None;
        self.each_view(|view| view.instance.flags = vec![SentinelFlag::SubjectivelyDown]);
        self.run(2);
        self.samples[1].1 = Some(sample("b:1", true));
        for sentinel in SENTINELS {
            self.announce(sentinel, "+switch-master", "m a 1 b 1");
        }
        self.run(1);
        for (own, view) in SENTINELS.iter().zip(&mut self.views) {
            *view = Some(self::view(own, "b:1", epoch));
        }
        self.each_view(|view| view.replicas[0].flags = vec![SentinelFlag::SubjectivelyDown]);
    }
}

fn view(own: &str, master: &str, epoch: u64) -> MasterView {
    let others = |all: [&str; 3], but: &str, role| {
        all.iter().filter(|other| **other != but).map(|other| instance(other, &[], role)).collect()
    };
    MasterView {
        name: "m".into(),
        instance: instance(master, &[], Role::Master),
        config_epoch: Some(epoch),
        known_replicas: Some(2),
        known_sentinels: Some(3),
        down_after_seconds: Some(2.0),
        quorum_ok: Some(true),
        replicas: others(NODES, master, Role::Replica),
        sentinels: others(SENTINELS, own, Role::Sentinel),
    }
}

fn sample(node: &str, master: bool) -> Sample {
    let role = if master { Role::Master } else { Role::Replica };
    Sample { run_id: Some(node.into()), role: Some(role), replid: Some("h".into()), ..Sample::default() }
}

#[test]
fn all_is_well() {
    let topology = Rig::new().round();
    assert_eq!(topology.sentinels.len(), 3);
    let master = &topology.masters[0];
    assert_eq!((master.quorum_ok, master.known_sentinels, master.config_epoch), (Some(true), Some(3), Some(1)));
    assert!(!master.disputed() && topology.split_brain.is_empty() && topology.partition_suspected.is_empty());
    assert_eq!((topology.failovers_total, topology.master_flaps_last_hour), (0, 0));
}

#[test]
fn a_failover_that_everybody_tells_of_is_one() {
    let mut rig = Rig::new();
    rig.fail_over(2);
    let topology = rig.run(5);
    assert_eq!((topology.failovers_total, topology.failovers_last_hour), (1, 1));
    assert_eq!(topology.master_flaps_last_hour, 1, "it was down, and another one is there");
    assert_eq!(topology.events_total[SentinelEvent::SwitchMaster as usize], 3);
    // The old master comes back as a replica: nothing new.
    rig.samples[0].1 = Some(sample("a:1", false));
    rig.each_view(|view| view.replicas[0].flags.clear());
    let topology = rig.run(100);
    assert_eq!((topology.failovers_total, topology.master_flaps_last_hour), (1, 1));
    rig.now += 3600.0;
    let topology = rig.round();
    assert_eq!((topology.failovers_total, topology.failovers_last_hour), (1, 0));
}

#[test]
fn without_announcements_and_promotions_the_epoch_tells() {
    let mut rig = Rig::new();
    rig.each_view(|view| view.config_epoch = Some(4));
    assert_eq!(rig.round().failovers_total, 1);
    rig.each_view(|view| view.config_epoch = Some(5));
    assert_eq!(rig.round().failovers_total, 2, "another epoch is another failover, however soon");
    rig.views[0].as_mut().unwrap().config_epoch = Some(4);
    assert_eq!(rig.run(3).failovers_total, 2, "a Sentinel that lags behind says nothing");
    rig.views = vec![None, None, None];
    assert_eq!(rig.run(3).failovers_total, 2);
}

#[test]
fn stops_too_short_for_a_failover_are_flaps() {
    let mut rig = Rig::new();
    for stop in 1..=3 {
        rig.samples[0].1 = None;
        rig.run(2);
        rig.samples[0].1 = Some(sample("a:1", true));
        assert_eq!(rig.run(2).master_flaps_last_hour, stop);
    }
    // Between two polls, told by announcements alone: three Sentinels, one turn.
    for channel in ["+sdown", "-sdown"] {
        for sentinel in SENTINELS {
            rig.announce(sentinel, channel, "master m a 1");
        }
    }
    assert_eq!(rig.run(2).master_flaps_last_hour, 4);
    assert_eq!(rig.run(2).failovers_total, 0);
}

#[test]
fn one_late_answer_is_no_flap() {
    let mut rig = Rig::new();
    for late in [FailureReason::Timeout, FailureReason::Busy, FailureReason::Io] {
        rig.samples[0].1 = None;
        rig.down = late;
        rig.run(1);
        rig.samples[0].1 = Some(sample("a:1", true));
        assert_eq!(rig.run(1).master_flaps_last_hour, 0, "{late}");
    }
    // Refused once it was gone, and what follows until it answers belongs to the same turn.
    for reason in [FailureReason::Refused, FailureReason::Timeout, FailureReason::Refused, FailureReason::Loading] {
        rig.samples[0].1 = None;
        rig.down = reason;
        assert_eq!(rig.run(1).master_flaps_last_hour, 0, "{reason}");
    }
    rig.samples[0].1 = Some(sample("a:1", true));
    assert_eq!(rig.run(3).master_flaps_last_hour, 1);
}

#[test]
fn a_sentinel_that_falls_silent_ends_no_flap_by_itself() {
    let mut rig = Rig::new();
    rig.each_view(|view| view.instance.flags = vec![SentinelFlag::SubjectivelyDown]);
    rig.samples[0].1 = None;
    rig.round();
    rig.views = vec![None, None, None];
    assert_eq!(rig.run(3).master_flaps_last_hour, 0);
}

#[test]
fn two_masters_under_one_name_are_a_split_brain() {
    let mut rig = Rig::new();
    rig.samples[2].1 = Some(sample("c:1", true));
    assert_eq!(rig.round().split_brain, ["a:1", "c:1"].map(NodeName::from));
    // One Sentinel was pointed at another master, which nobody polls.
    let mut rig = Rig::new();
    rig.views[2] = Some(view("s3:2", "z:1", 1));
    let topology = rig.round();
    assert_eq!(topology.split_brain, ["a:1", "z:1"].map(NodeName::from));
    assert!(topology.masters[0].disputed());
}

#[test]
fn a_master_that_goes_on_beside_its_successor_is_a_split_brain_without_any_sentinel() {
    let mut watch = Watch::default();
    let (a, mut b) = (sample("a:1", true), sample("b:1", true));
    (b.replid, b.replid2) = (Some("new".into()), Some("h".into()));
    let names = ["a:1", "b:1"].map(NodeName::from);
    let fact = |node, sample| NodeFacts { node, sample: Some(sample), down: None, cluster: None };
    let nodes = [fact(&names[0], &a), fact(&names[1], &b)];
    let round = Round { now: 1.0, nodes: &nodes, sentinels: &[], events: &[] };
    assert_eq!(watch.observe(&round).split_brain, names);
    let nodes = [NodeFacts { sample: None, down: Some(FailureReason::Timeout), ..nodes[0] }, nodes[1]];
    assert!(watch.observe(&Round { now: 2.0, nodes: &nodes, ..round }).split_brain.is_empty());
}

#[test]
fn what_one_side_reaches_and_the_other_does_not_is_a_partition_once_it_lasts() {
    let mut rig = Rig::new();
    rig.views[0].as_mut().unwrap().sentinels[0].flags = vec![SentinelFlag::SubjectivelyDown];
    assert!(rig.run(5).partition_suspected.is_empty(), "views are taken at different moments");
    assert_eq!(rig.round().partition_suspected, [NodeName::from("s2:2")]);

    let mut rig = Rig::new();
    rig.samples[1].1 = None;
    assert!(rig.run(7).partition_suspected.is_empty(), "a Sentinel waits before it calls a node down");
    assert_eq!(rig.round().partition_suspected, [NodeName::from("b:1")]);
    rig.each_view(|view| view.replicas[0].flags = vec![SentinelFlag::SubjectivelyDown]);
    assert!(rig.round().partition_suspected.is_empty(), "all agree that it is down");
}

#[test]
fn syncs_add_up_over_nodes_resets_and_restarts() {
    let mut rig = Rig::new();
    let syncs = |rig: &mut Rig, node: usize, run_id: &str, counts| {
        let sample = rig.samples[node].1.as_mut().unwrap();
        (sample.run_id, sample.syncs) = (Some(run_id.into()), Some(counts));
        rig.round().syncs_total
    };
    assert_eq!(syncs(&mut rig, 0, "a:1", [5, 5, 5]), [0, 0, 0], "what was before is not ours");
    assert_eq!(syncs(&mut rig, 0, "a:1", [6, 5, 7]), [1, 0, 2]);
    assert_eq!(syncs(&mut rig, 0, "a:1", [1, 0, 0]), [2, 0, 2], "set back");
    assert_eq!(syncs(&mut rig, 0, "another", [9, 9, 9]), [2, 0, 2], "another life");
    assert_eq!(syncs(&mut rig, 1, "b:1", [0, 0, 0]), [2, 0, 2]);
    assert_eq!(syncs(&mut rig, 1, "b:1", [0, 3, 0]), [2, 3, 2]);
}

#[test]
fn a_node_is_known_by_its_life_where_addresses_differ() {
    let mut rig = Rig::new();
    rig.samples[0].0 = "alias:1".into();
    rig.each_view(|view| view.instance.run_id = Some("a:1".into()));
    rig.samples[1].1 = Some(sample("b:1", true));
    assert_eq!(rig.round().split_brain, ["alias:1", "b:1"].map(NodeName::from));
}
