//! Sets of nodes out of what real servers said, played back by scripted ones.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::*;
use crate::config::{Access, AllowList, Credentials, Masters, Shard};
use crate::model::{CacheName, SeverityMode};
use crate::publish::Publisher;
use crate::topology::sentinel::{Instance, MasterView};
use crate::wire::scripted::{self, Script, ScriptedServer, bulk, deserted};

const TIMEOUT: Duration = Duration::from_secs(5);

fn recorded(name: &str) -> String {
    std::fs::read_to_string(format!("tests/fixtures/cluster/{name}.resp")).unwrap()
}

fn cache(source: Source) -> CacheConfig {
    let access =
        Access { credentials: Credentials { username: None, password: Some("s3cret".to_owned().into()) }, tls: None };
    let (name, thresholds) = (CacheName::from("main"), Arc::default());
    CacheConfig { name, source, access, thresholds, severity_mode: SeverityMode::Nodes, shard: None }
}

async fn look_at(source: Source, discovery: &Discovery, known: Option<&NodeSet>) -> Look {
    look(&cache(source), discovery, TIMEOUT, &TlsStore::default(), known).await
}

/// A server that answers everything with this reply.
async fn saying(reply: String) -> ScriptedServer {
    ScriptedServer::start(Script { info: reply, ..Script::default() }).await
}

/// Port, role, and the shard as the port of the master it was named after.
fn members(set: &NodeSet) -> Vec<(u16, &str, String)> {
    let port_of = |shard: &str| {
        let named = set.members.iter().find(|member| member.place.id.as_deref() == Some(shard));
        named.map_or(shard.to_owned(), |member| member.endpoint.port.to_string())
    };
    let row = |member: &Member| {
        let role = member.place.role.map_or("", Role::as_str);
        let role = if role == "master" { "m" } else { "r" };
        (member.endpoint.port, role, port_of(member.place.shard.as_deref().unwrap_or_default()))
    };
    set.members.iter().map(row).collect()
}

#[tokio::test]
async fn one_live_seed_of_three_tells_the_whole_cluster() {
    let server = saying(recorded("redis-7.0.15_shards")).await;
    let seeds = vec![deserted().await, server.endpoint(), deserted().await];
    let look = look_at(Source::Cluster { seeds }, &Discovery::default(), None).await;
    assert_eq!(look.faults.len(), 2, "{:?}", look.faults);
    assert!(look.refused.is_empty());
    let set = look.set.unwrap();
    let shards = [(21100, 21104), (21101, 21105), (21102, 21103)];
    for (master, replica) in shards {
        assert!(members(&set).contains(&(master, "m", master.to_string())), "{:?}", members(&set));
        assert!(members(&set).contains(&(replica, "r", master.to_string())), "{:?}", members(&set));
    }
    let slots = |set: &NodeSet| set.members.iter().filter_map(|member| member.place.slots).collect::<Vec<_>>();
    assert_eq!((set.members.len(), slots(&set)), (6, vec![5461, 5462, 5461]));
    assert!(set.members.iter().all(|member| member.endpoint.credentials.expose_password() == Some("s3cret")));
    assert_eq!(set.member(&"127.0.0.1:21103".into()).unwrap().endpoint.port, 21103);
}

#[tokio::test]
async fn a_promoted_replica_keeps_its_shard_and_the_failed_master_stays() {
    let server = saying(recorded("redis-7.0.15_shards")).await;
    let source = || Source::Cluster { seeds: vec![server.endpoint()] };
    let before = look_at(source(), &Discovery::default(), None).await.set.unwrap();
    for reply in ["redis-7.0.15_shards_failed", "redis-7.0.15_nodes_failed"] {
        server.follow(Script { info: recorded(reply), ..Script::default() });
        // The reply to CLUSTER NODES is no list of shards: it comes where SHARDS is refused.
        let nodes = cluster::from_nodes(&recorded(reply).replace("\r\n", "\n"), &server.endpoint());
        let after = match reply {
            "redis-7.0.15_shards_failed" => look_at(source(), &Discovery::default(), Some(&before)).await.set.unwrap(),
            _ => {
                let shard_of = |id: &str| {
                    let known = before.members.iter().find(|member| member.place.id.as_deref() == Some(id));
                    known.and_then(|member| member.place.shard.as_deref()).map(str::to_owned)
                };
                let (cache, discovery) = (cache(source()), Discovery::default());
                let admission = admit::Admission::new(&cache, &discovery, Instant::now()).await;
                let nodes = nodes.into_nodes(shard_of);
                NodeSet {
                    members: admission.admit(nodes, &Access::default(), &[], &mut Vec::new()).await,
                    sentinels: Vec::new(),
                }
            }
        };
        let rows = members(&after);
        assert_eq!(rows.len(), 6, "{rows:?}");
        assert!(rows.contains(&(21104, "m", "21100".to_owned())), "{rows:?}");
        assert!(rows.contains(&(21100, "m", "21100".to_owned())), "{rows:?}");
        assert!(rows.contains(&(21105, "r", "21101".to_owned())), "{rows:?}");
        let slots = |port| after.member(&format!("127.0.0.1:{port}").as_str().into()).unwrap().place.slots;
        assert_eq!((slots(21104), slots(21100).unwrap_or(0)), (Some(5461), 0), "slots moved with the promotion");
    }
}

/// Which of three exporters polls each node, in order of the nodes; every one is somebody's, and nobody else's.
fn owners(source: &Source, set: &NodeSet) -> Vec<usize> {
    let parts: Vec<NodeSet> = ["1/3", "2/3", "3/3"]
        .map(|shard| part::ours(&CacheConfig { shard: Shard::parse(shard), ..cache(source.clone()) }, set))
        .into();
    let owners = |member: &Member| -> Vec<usize> {
        (0..parts.len()).filter(|part| parts[*part].member(&member.endpoint.node).is_some()).collect()
    };
    let owners: Vec<Vec<usize>> = set.members.iter().map(owners).collect();
    assert!(owners.iter().all(|owners| owners.len() == 1), "{owners:?}");
    assert!(parts.iter().all(|part| part.sentinels == set.sentinels), "Sentinels are asked by everybody");
    owners.concat()
}

#[tokio::test]
async fn exporters_share_a_cluster_by_whole_groups_and_a_failover_moves_none() {
    let server = saying(recorded("redis-7.0.15_shards")).await;
    let source = Source::Cluster { seeds: vec![server.endpoint()] };
    let before = look_at(source.clone(), &Discovery::default(), None).await.set.unwrap();
    let owned = owners(&source, &before);
    // The replicas of the first three are the fifth, the sixth and the fourth.
    assert_eq!(owned[3..], [owned[2], owned[0], owned[1]]);
    server.follow(Script { info: recorded("redis-7.0.15_shards_failed"), ..Script::default() });
    let after = look_at(source.clone(), &Discovery::default(), Some(&before)).await.set.unwrap();
    assert_eq!(owners(&source, &after), owned, "an exporter that saw the failover");
    // One that is started now cannot know whose the failed master was; the others keep their places there, too.
    let fresh = look_at(source.clone(), &Discovery::default(), None).await.set.unwrap();
    assert_eq!(owners(&source, &fresh)[1..3], owned[1..3]);

    let named = saying(recorded("valkey-9.1.2_shards")).await;
    let source = Source::Cluster { seeds: vec![named.endpoint()] };
    let set = look_at(source.clone(), &Discovery::default(), None).await.set.unwrap();
    let owned = owners(&source, &set);
    for (member, owner) in set.members.iter().zip(&owned) {
        let siblings = set.members.iter().zip(&owned).filter(|(other, _)| other.place.shard == member.place.shard);
        assert!(siblings.clone().count() == 2 && siblings.clone().all(|(_, other)| other == owner), "{owned:?}");
    }
}

#[tokio::test]
async fn shards_that_the_server_names_are_called_so() {
    let server = saying(recorded("valkey-9.1.2_shards")).await;
    let look = look_at(Source::Cluster { seeds: vec![server.endpoint()] }, &Discovery::default(), None).await;
    let set = look.set.unwrap();
    let mut shards: Vec<&str> = set.members.iter().filter_map(|member| member.place.shard.as_deref()).collect();
    shards.sort_unstable();
    shards.dedup();
    assert_eq!((set.members.len(), shards.len()), (6, 3));
    assert!(set.members.iter().all(|member| member.place.id != member.place.shard));
}

#[tokio::test]
async fn nodes_that_shake_hands_are_not_of_the_cluster_yet() {
    let server = saying(recorded("redis-7.0.15_shards")).await;
    let view = cluster::from_nodes(&recorded("redis-7.0.15_nodes_handshake"), &server.endpoint());
    assert_eq!(view.rank(), (16_384, 6));
    let odd = "aa 10.0.0.1:6379@16379,redis-1.example,shard-id=x myself,master - 0 0 1 connected 0-99 200 [5->-bb]\n\
        bb [::1]:6380@16380 slave,fail aa 0 0 1 disconnected\ncc :0@0 slave,noaddr aa 0 0 1 disconnected\n\
        dd :7000@17000 master - 0 0 2 connected\nee garbage master - 0 0 2 connected\n\n";
    let found = cluster::from_nodes(odd, &server.endpoint()).into_nodes(|_| None);
    let hosts: Vec<_> = found.iter().map(|node| (node.host.as_str(), node.port, node.shard.as_deref())).collect();
    let aa = Some("aa");
    assert_eq!(hosts, [("redis-1.example", 6379, aa), ("::1", 6380, aa), ("127.0.0.1", 7000, Some("dd"))]);
    assert_eq!(cluster::from_nodes(odd, &server.endpoint()).rank(), (101, 3));
}

#[tokio::test]
async fn the_seed_that_sees_most_of_the_cluster_is_believed() {
    // One was forgotten and stands alone, one has not heard of the promotion.
    let alone = "*1\r\n*4\r\n$5\r\nslots\r\n*0\r\n$5\r\nnodes\r\n*1\r\n*10\r\n$2\r\nid\r\n$1\r\nx\r\n$4\r\nport\r\n:1\r\n\
        $2\r\nip\r\n$0\r\n\r\n$8\r\nendpoint\r\n$0\r\n\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
    let (alone, whole) = tokio::join!(saying(alone.to_owned()), saying(recorded("redis-7.0.15_shards_failed")));
    let seeds = vec![alone.endpoint(), whole.endpoint()];
    let set = look_at(Source::Cluster { seeds }, &Discovery::default(), None).await.set.unwrap();
    assert_eq!(set.members.len(), 6);
    // It names no address of its own: it is where it was asked.
    let set =
        look_at(Source::Cluster { seeds: vec![alone.endpoint()] }, &Discovery::default(), None).await.set.unwrap();
    assert_eq!(set.members[0].endpoint.node.as_str(), "127.0.0.1:1");
}

#[tokio::test]
async fn a_cluster_outlives_its_seeds() {
    let server = saying(recorded("redis-7.0.15_shards")).await;
    let known = NodeSet::listed(&[server.endpoint()]);
    let source = || Source::Cluster { seeds: Vec::new() };
    assert_eq!(look_at(source(), &Discovery::default(), Some(&known)).await.set.unwrap().members.len(), 6);
    let look = look_at(source(), &Discovery::default(), None).await;
    assert!(look.set.is_none());
}

#[tokio::test]
async fn strangers_are_counted_and_not_let_in() {
    let targets = r#"[{"targets": ["127.0.0.1:6379", "redis://:secret@10.0.0.2:6379/0", "127.0.0.1:6379", "8.8.8.8:6379",
        "169.254.169.254:80", "[2001:db8::1]:6379", "[2001:0DB8:0::1]:6379", "a b:1", "10.0.0.3:x",
        "http://user:secret@10.0.0.4"], "labels": {"env": "x"}}, {"targets": []}]"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("targets.json");
    std::fs::write(&path, targets).unwrap();
    let look = look_at(Source::File(path.clone()), &Discovery::default(), None).await;
    let names: Vec<String> = look.set.unwrap().members.iter().map(|member| member.endpoint.node.to_string()).collect();
    assert_eq!(names, ["10.0.0.2:6379", "127.0.0.1:6379"]);
    let refused: Vec<String> = look.refused.iter().map(|(node, reason)| format!("{node} {reason}")).collect();
    let not_allowed =
        ["8.8.8.8:6379", "169.254.169.254:80", "[2001:db8::1]:6379"].map(|node| format!("{node} not_allowed"));
    assert_eq!(refused[..3], not_allowed);
    assert_eq!(refused[3..], ["a b:1 invalid", "10.0.0.3:0 invalid", "10.0.0.4:0 invalid"], "without the password");

    let tight = Discovery { max_nodes: 1, ..Discovery::default() };
    let known = NodeSet::listed(&[Endpoint { node: "127.0.0.1:6379".into(), ..deserted().await }]);
    let look = look_at(Source::File(path.clone()), &tight, Some(&known)).await;
    assert_eq!(look.set.unwrap().members[0].endpoint.node.as_str(), "127.0.0.1:6379", "who is known stays");
    assert_eq!(look.refused.last().unwrap(), &("10.0.0.2:6379".into(), DiscoveryRefusal::MaxNodes));

    std::fs::write(&path, "{}").unwrap();
    let look = look_at(Source::File(path), &Discovery::default(), None).await;
    assert!(look.set.is_none() && look.faults[0].contains("is no JSON of the form"), "{:?}", look.faults);
}

#[tokio::test]
async fn a_name_may_only_point_where_it_is_allowed_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("targets.json");
    std::fs::write(&path, r#"[{"targets": ["localhost:6379"]}]"#).unwrap();
    let look = look_at(Source::File(path.clone()), &Discovery::default(), None).await;
    let member = look.set.unwrap().members.remove(0);
    assert!(member.endpoint.allow.is_some(), "held against the list again when it is dialled");
    let elsewhere: SocketAddr = (Ipv4Addr::new(192, 0, 2, 1), 0).into();
    let strict = Discovery { allow: Arc::new(AllowList::only(elsewhere.ip())), ..Discovery::default() };
    let look = look_at(Source::File(path), &strict, None).await;
    assert_eq!(look.refused, [("localhost:6379".into(), DiscoveryRefusal::NotAllowed)]);

    // The name points elsewhere since it was let in.
    let server = ScriptedServer::start(Script::default()).await;
    let moved = Endpoint { host: "localhost".to_owned(), allow: Some(strict.allow), ..server.endpoint() };
    let deadline = Instant::now() + TIMEOUT;
    let error = crate::wire::Connection::open(&moved, &TlsStore::default(), deadline).await.unwrap_err();
    assert!(error.detail.contains("outside discovery.allow"), "{error}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn names_give_a_node_per_address() {
    let source = Source::Dns { name: "127.0.0.1".to_owned(), port: Some(7000) };
    let look = look_at(source, &Discovery::default(), None).await;
    assert_eq!(look.set.unwrap().members[0].endpoint.node.as_str(), "127.0.0.1:7000");
    let source = Source::Dns { name: "nowhere.invalid".to_owned(), port: Some(7000) };
    let look = look_at(source, &Discovery::default(), None).await;
    assert!(look.set.is_none() && look.faults[0].starts_with("nowhere.invalid: does not resolve"), "{:?}", look.faults);
}

/// A master of a Sentinel in the form of its replies.
fn told(fields: &[(&str, &str)]) -> String {
    let words: String = fields.iter().flat_map(|(name, value)| [bulk(name), bulk(value)]).collect();
    format!("*{}\r\n{words}", fields.len() * 2)
}

#[tokio::test]
async fn sentinels_are_asked_with_their_own_password_and_give_the_nodes_theirs() {
    // Every command is answered alike: a master, its "replica" and its "other Sentinel" at three ports.
    let master =
        told(&[("name", "mymaster"), ("ip", "127.0.0.1"), ("port", "6379"), ("runid", "ab"), ("config-epoch", "3")]);
    let server = saying(master).await;
    let mut sentinel = server.endpoint();
    let theirs = Credentials { username: Some("watcher".to_owned()), password: Some("theirs".to_owned().into()) };
    sentinel.credentials = theirs.clone();
    let source = SentinelSource {
        sentinels: vec![deserted().await, sentinel],
        masters: Masters::Named("mymaster".to_owned()),
        access: Access { credentials: theirs, tls: None },
    };
    let look = look_at(Source::Sentinel(source), &Discovery::default(), None).await;
    assert_eq!(look.faults.len(), 1);
    let set = look.set.unwrap();
    let member = &set.members[0];
    assert_eq!((member.endpoint.node.as_str(), member.place.role), ("127.0.0.1:6379", Some(Role::Master)));
    assert_eq!((member.place.shard.as_deref(), member.place.id.as_deref()), (Some("mymaster"), Some("ab")));
    assert_eq!(member.endpoint.credentials.expose_password(), Some("s3cret"));
    assert_eq!(set.sentinels.len(), 2, "both that are configured");
    let asked = ["AUTH watcher theirs", "CLIENT SETNAME cache-storm-exporter", "SENTINEL MASTER mymaster"];
    assert_eq!(server.commands()[..3], asked);
    assert_eq!(server.commands()[3..], ["SENTINEL REPLICAS mymaster", "SENTINEL SENTINELS mymaster"]);
}

#[test]
fn sentinels_that_are_configured_come_before_those_that_are_named() {
    let at = |port: u16| Endpoint {
        node: format!("10.0.0.1:{port}").as_str().into(),
        port,
        ..scripted::endpoint(([127, 0, 0, 1], 1).into())
    };
    let named = (1000..1030).map(|port| Member { endpoint: at(port), place: NodePlace::default() }).collect();
    let mut refused = Vec::new();
    let watched = watched(&[at(1029), at(9999)], named, &mut refused);
    let ports: Vec<u16> = watched.iter().map(|member| member.endpoint.port).collect();
    assert_eq!(ports, (1000..1014).chain([1029, 9999]).collect::<Vec<_>>());
    let too_many = (1014..1029).map(|port| (at(port).node, DiscoveryRefusal::MaxNodes));
    assert_eq!(refused, too_many.collect::<Vec<_>>());
}

#[test]
fn of_two_masters_the_later_one_leads_and_replicas_of_all_views_count() {
    let view = |epoch: &str, master: &str, replica: &str| {
        let fields = |port: &str| {
            ["name", "m", "ip", "10.0.0.1", "port", port, "config-epoch", epoch, "runid", ""].map(str::to_owned)
        };
        let mut view = MasterView::read(&fields(master)).unwrap();
        view.replicas.extend(Instance::read(&fields(replica)));
        view
    };
    let (nodes, sentinels) = sentinel::merge([view("4", "1", "2"), view("5", "2", "1"), view("5", "2", "3")]);
    let of = |node: &Found| (node.port, node.role);
    assert_eq!(of(&nodes[0]), (2, Some(Role::Master)));
    assert!(nodes[1..].iter().all(|node| node.role == Some(Role::Replica) && node.id.is_none()));
    assert!(nodes.iter().any(|node| node.port == 1) && nodes.iter().any(|node| node.port == 3));
    assert!(sentinels.is_empty());
}

#[tokio::test]
async fn a_changed_file_is_followed_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("targets.json");
    std::fs::write(&path, r#"[{"targets": ["127.0.0.1:1"]}]"#).unwrap();
    let (publisher, name) = (Arc::new(Publisher::default()), CacheName::from("main"));
    publisher.expect(std::slice::from_ref(&name));
    let cache = Arc::new(cache(Source::File(path.clone())));
    let refresh = Duration::from_secs(3600);
    let discovery = Discovery { refresh, ..Discovery::default() };
    let assignment = watch::Sender::new(Arc::new(Assignment { cache, discovery, timeout: TIMEOUT }));
    let (found, mut sets) = watch::channel(None);
    let finder = Finder {
        assignments: assignment.subscribe(),
        found,
        moved: Arc::new(Notify::new()),
        publisher: Arc::clone(&publisher),
        unix_seconds: || 7.0,
    };
    let task = tokio::spawn(async move { run(finder, &TlsStore::default()).await });
    let nodes = |set: &Option<Arc<NodeSet>>| set.as_ref().map_or(0, |set| set.members.len());
    let wait = Duration::from_secs(20);
    tokio::time::timeout(wait, sets.wait_for(|set| nodes(set) == 1)).await.unwrap().unwrap();
    std::fs::write(&path, r#"[{"targets": ["127.0.0.1:1", "127.0.0.1:2"]}]"#).unwrap();
    tokio::time::timeout(wait, sets.wait_for(|set| nodes(set) == 2)).await.unwrap().unwrap();

    std::fs::write(&path, "[").unwrap();
    let state = || publisher.fleet().discovery.get(&name).cloned();
    let deadline = Instant::now() + wait;
    while state().is_none_or(|state| state.up()) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let state = state().unwrap();
    assert_eq!((state.nodes, state.last_success_unix, nodes(&sets.borrow())), (2, Some(7.0), 2));
    assert_eq!((state.source, state.failing_since_unix), ("file", Some(7.0)));
    assert!(state.faults[0].contains("is no JSON of the form"), "{:?}", state.faults);
    assert!(publisher.fleet().ready(), "discovery that fails keeps nobody waiting");
    task.abort();
}
