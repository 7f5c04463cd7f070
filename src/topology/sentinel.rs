//! What one Sentinel answers: `SENTINEL MASTERS`, `MASTER`, `REPLICAS`, `SENTINELS`, `CKQUORUM`,
//! `GET-MASTER-ADDR-BY-NAME`, and the section `sentinel` of `INFO`. Never fails: what cannot be read is absent.

use std::sync::Arc;

use crate::model::{NodeName, Role, SentinelFlag};
use crate::parse::Info;
use crate::parse::info::Parts;

/// Masters read of one Sentinel. A Sentinel that watches more serves more than one cache: the first by name count.
pub const MASTERS_MAX: usize = 32;

/// Replicas, and Sentinels, read of one master. More than that have no use, and no room in a verdict.
pub const INSTANCES_MAX: usize = 64;

/// A server as one Sentinel sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `ip:port`, as the Sentinel tells clients; an IPv6 address in brackets.
    pub address: NodeName,
    /// `runid`: the server's own name of its life; `None` until the Sentinel has spoken with it.
    pub run_id: Option<Arc<str>>,
    /// `flags`, those that speak of its health.
    pub flags: Vec<SentinelFlag>,
    /// `role-reported`: what the server said it is.
    pub reported: Option<Role>,
}

/// A master as one Sentinel sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct MasterView {
    /// The name under which it is configured.
    pub name: Arc<str>,
    /// Where it is.
    pub instance: Instance,
    /// `config-epoch`: grows with every failover of this master.
    pub config_epoch: Option<u64>,
    /// `num-slaves`.
    pub known_replicas: Option<u64>,
    /// `num-other-sentinels` and the Sentinel itself.
    pub known_sentinels: Option<u64>,
    /// `down-after-milliseconds`, in seconds: how long a silence it takes for down.
    pub down_after_seconds: Option<f64>,
    /// Enough Sentinels can be reached to fail over (`SENTINEL CKQUORUM`).
    pub quorum_ok: Option<bool>,
    /// Its replicas, at most [`INSTANCES_MAX`].
    pub replicas: Vec<Instance>,
    /// The other Sentinels that watch it, at most [`INSTANCES_MAX`].
    pub sentinels: Vec<Instance>,
}

/// What one Sentinel said in one poll.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SentinelReport {
    /// `SENTINEL MYID`, by which the others know it whatever its address.
    pub id: Option<Arc<str>>,
    /// It distrusts its own clock and does nothing (`sentinel_tilt`).
    pub tilt: Option<bool>,
    /// The masters it watches, by name, at most [`MASTERS_MAX`].
    pub masters: Vec<MasterView>,
}

impl Instance {
    /// Reads one instance from names and values in turn.
    #[must_use]
    pub fn read(fields: &[String]) -> Option<Self> {
        let field = |name| field(fields, name);
        Some(Self {
            address: NodeName::at(field("ip")?, field("port")?),
            run_id: field("runid").filter(|id| !id.is_empty()).map(Arc::from),
            flags: flags(field("flags").unwrap_or_default()),
            reported: match field("role-reported") {
                Some("master") => Some(Role::Master),
                Some("slave" | "replica") => Some(Role::Replica),
                _ => None,
            },
        })
    }

    /// Host and port of its address; `None` of what is no address.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.as_str().rsplit_once(':')?;
        let (host, port) = (host.trim_matches(['[', ']']), port.parse().ok()?);
        (!host.is_empty() && port > 0).then_some((host, port))
    }

    /// The Sentinel marks it so.
    #[must_use]
    pub fn has(&self, flag: SentinelFlag) -> bool {
        self.flags.contains(&flag)
    }

    /// The Sentinel gets no answer from it.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.has(SentinelFlag::SubjectivelyDown) || self.has(SentinelFlag::ObjectivelyDown)
    }
}

impl MasterView {
    /// Reads one master of `SENTINEL MASTERS` or `SENTINEL MASTER name`, names and values in turn. What other
    /// commands tell is still absent.
    #[must_use]
    pub fn read(fields: &[String]) -> Option<Self> {
        let number = |name| field(fields, name).and_then(|text| text.parse::<u64>().ok());
        Some(Self {
            name: Arc::from(field(fields, "name")?),
            instance: Instance::read(fields)?,
            config_epoch: number("config-epoch"),
            known_replicas: number("num-slaves"),
            known_sentinels: number("num-other-sentinels").map(|others| others + 1),
            down_after_seconds: number("down-after-milliseconds").map(|milliseconds| milliseconds as f64 / 1e3),
            quorum_ok: None,
            replicas: Vec::new(),
            sentinels: Vec::new(),
        })
    }

    /// Takes the reply to `SENTINEL GET-MASTER-ADDR-BY-NAME`, host and port: what clients are told. In the middle
    /// of a failover that is the new master already.
    pub fn told(&mut self, reply: &[String]) {
        if let [host, port] = reply {
            let told = NodeName::at(host, port);
            if told != self.instance.address {
                let promoted = self.replicas.iter().find(|replica| replica.address == told);
                self.instance = promoted.cloned().unwrap_or(Instance {
                    address: told,
                    run_id: None,
                    flags: Vec::new(),
                    reported: None,
                });
            }
        }
    }
}

impl SentinelReport {
    /// What `INFO` alone tells: address, health and counts of every master.
    #[must_use]
    pub fn from_info(info: &Info<'_>) -> Self {
        let mut masters: Vec<MasterView> = info
            .with_prefix("master")
            .filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))
            .filter_map(|(_, value)| master_line(Parts(value)))
            .collect();
        masters.sort_by(|a, b| a.name.cmp(&b.name));
        masters.truncate(MASTERS_MAX);
        Self { id: None, tilt: info.flag("sentinel_tilt"), masters }
    }
}

/// `name=mymaster,status=ok,address=127.0.0.1:6379,slaves=2,sentinels=3`.
fn master_line(parts: Parts<'_>) -> Option<MasterView> {
    let (ip, port) = parts.text("address")?.rsplit_once(':')?;
    let flags = match parts.text("status") {
        Some("sdown") => vec![SentinelFlag::SubjectivelyDown],
        Some("odown") => vec![SentinelFlag::SubjectivelyDown, SentinelFlag::ObjectivelyDown],
        _ => Vec::new(),
    };
    Some(MasterView {
        name: Arc::from(parts.text("name")?),
        instance: Instance { address: NodeName::at(ip, port), run_id: None, flags, reported: None },
        config_epoch: None,
        known_replicas: parts.counter("slaves"),
        known_sentinels: parts.counter("sentinels"),
        down_after_seconds: None,
        quorum_ok: None,
        replicas: Vec::new(),
        sentinels: Vec::new(),
    })
}

fn field<'a>(fields: &'a [String], name: &str) -> Option<&'a str> {
    fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str())
}

fn flags(text: &str) -> Vec<SentinelFlag> {
    let has = |flag: &&SentinelFlag| text.split(',').any(|word| word == flag.as_str());
    SentinelFlag::ALL.iter().filter(has).copied().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const COMMANDS: [&str; 3] = [
        include_str!("../../tests/fixtures/sentinel/redis-7.0.15_commands.txt"),
        include_str!("../../tests/fixtures/sentinel/redis-8.0.6_commands.txt"),
        include_str!("../../tests/fixtures/sentinel/valkey-9.1.2_commands.txt"),
    ];

    /// The lines that follow the heading.
    fn section(text: &str, heading: &str) -> Vec<String> {
        let (_, rest) = text.split_once(&format!("# {heading}\n")).unwrap();
        rest.lines().take_while(|line| !line.starts_with("# ")).map(str::to_owned).collect()
    }

    #[test]
    fn captured_replies_are_read() {
        for text in COMMANDS {
            let master = MasterView::read(&section(text, "SENTINEL MASTERS")).unwrap();
            assert_eq!((&*master.name, master.config_epoch), ("mymaster", Some(0)));
            assert_eq!((master.known_replicas, master.known_sentinels), (Some(1), Some(1)));
            assert_eq!((master.down_after_seconds, master.instance.reported), (Some(3.0), Some(Role::Master)));
            assert!(master.instance.flags.is_empty() && master.instance.run_id.is_some());
            let replica = Instance::read(&section(text, "SENTINEL REPLICAS mymaster")).unwrap();
            assert_eq!(replica.reported, Some(Role::Replica));
            assert!(replica.address.as_str().starts_with("127.0.0.1:171"), "{}", replica.address);
        }
    }

    #[test]
    fn flags_are_told_apart() {
        let fields = ["ip", "::1", "port", "6379", "runid", "", "flags", "s_down,o_down,master,disconnected"];
        let instance = Instance::read(&fields.map(str::to_owned)).unwrap();
        use SentinelFlag::{Disconnected, ObjectivelyDown, SubjectivelyDown};
        assert_eq!(instance.flags, [SubjectivelyDown, ObjectivelyDown, Disconnected]);
        assert_eq!((instance.address.as_str(), &instance.run_id), ("[::1]:6379", &None));
        assert_eq!(instance.host_and_port(), Some(("::1", 6379)));
        for [host, port] in [["", "6379"], ["a", "0"], ["a", "x"]] {
            assert_eq!(Instance { address: NodeName::at(host, port), ..instance.clone() }.host_and_port(), None);
        }
    }

    #[test]
    fn what_clients_are_told_counts() {
        let fields = ["name", "m", "ip", "10.0.0.1", "port", "6379", "flags", "master,s_down"].map(str::to_owned);
        let mut master = MasterView::read(&fields).unwrap();
        master.told(&["10.0.0.1", "6379"].map(str::to_owned));
        assert!(master.instance.is_down());
        master.told(&["10.0.0.2", "6379"].map(str::to_owned));
        assert_eq!((master.instance.address.as_str(), master.instance.is_down()), ("10.0.0.2:6379", false));
    }

    #[test]
    fn info_alone_says_where_masters_are_and_whether_they_are_down() {
        for text in [
            include_str!("../../tests/fixtures/info/redis-7.0.15_sentinel_after_failover.txt"),
            include_str!("../../tests/fixtures/info/valkey-9.1.2_sentinel_after_failover.txt"),
        ] {
            let report = SentinelReport::from_info(&Info::parse(text));
            assert_eq!((report.tilt, report.masters.len()), (Some(false), 1));
            assert_eq!((report.masters[0].known_replicas, report.masters[0].known_sentinels), (Some(1), Some(1)));
            assert!(!report.masters[0].instance.is_down());
        }
        let info = "master0:name=a,status=odown,address=::1:6379,slaves=0,sentinels=3\nmaster_host:x\nmaster1:junk\n";
        let report = SentinelReport::from_info(&Info::parse(info));
        assert_eq!(report.masters[0].instance.address.as_str(), "[::1]:6379");
        assert!(report.masters[0].instance.has(SentinelFlag::ObjectivelyDown) && report.masters.len() == 1);
    }
}
