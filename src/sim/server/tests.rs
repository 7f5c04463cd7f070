//! Every mode, seen from a raw connection.

use tokio::time::{Instant, timeout};

use super::*;
use crate::parse::info::Info;
use crate::parse::sample::Sample;
use crate::sim::fleet::Fleet;
use crate::sim::plain::Rates;
use crate::sim::profile::Profile;

const DEADLINE: Duration = Duration::from_secs(5);
/// Long enough for an answer over the loopback, short enough to wait for silence.
const SILENCE: Duration = Duration::from_millis(200);

async fn one_node() -> (Fleet, Arc<Node>) {
    let fleet = Fleet::shard("sessions", Profile::small("sessions"), 1).await.unwrap();
    let node = fleet.caches()[0].nodes()[0].clone();
    (fleet, node)
}

async fn connect(node: &Node) -> TcpStream {
    TcpStream::connect(node.address()).await.unwrap()
}

/// Reads until the text ends with `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        while !seen.ends_with(end.as_bytes()) {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "ended after {}", String::from_utf8_lossy(&seen));
        }
    };
    timeout(DEADLINE, read).await.unwrap();
    String::from_utf8(seen).unwrap()
}

/// Sends one line and reads everything up to the end of the stream, or an error.
async fn read_all(stream: &mut TcpStream, request: &str) -> (Vec<u8>, io::Result<()>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let ended = timeout(DEADLINE, stream.read_to_end(&mut seen)).await.unwrap().map(drop);
    (seen, ended)
}

async fn exchange(node: &Node, request: &str) -> String {
    let mut stream = connect(node).await;
    let (reply, _) = read_all(&mut stream, &format!("{request}\r\nQUIT\r\n")).await;
    String::from_utf8(reply).unwrap()
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order() {
    let (_fleet, node) = one_node().await;
    let mut stream = connect(&node).await;
    let request = "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1\r\nx\r\n*3\r\n$4\r\nINFO\r\n$7\r\ndefault\r\n$12\r\ncommandstats\r\nPING\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let reply = read_until(&mut stream, "+PONG\r\n").await;
    assert!(reply.starts_with("+OK\r\n$"), "{reply}");
    let (length, text) = reply["+OK\r\n$".len()..].split_once("\r\n").unwrap();
    let text = &text[..length.parse().unwrap()];
    let sample = Sample::from_info(&Info::parse(text));
    assert!(sample.lookups().is_some_and(|lookups| lookups > 1_000_000));
    assert!(sample.set_calls.is_some() && sample.flush_calls == Some(0));
    assert_eq!((node.info_calls(), node.key_commands(), node.connections()), (1, 0, 1));
}

#[tokio::test]
async fn harmless_commands_are_answered_and_others_counted() {
    let (_fleet, node) = one_node().await;
    let table = [
        ("CLIENT SETINFO LIB-NAME x", "+OK"),
        ("CLIENT NO-EVICT on", "+OK"),
        ("CLIENT ID", ":7"),
        ("CLIENT LIST", "$"),
        ("HELLO 3", "-ERR unknown command"),
        ("COMMAND", "*0"),
        ("CONFIG GET maxmemory", "*0"),
        ("CLUSTER INFO", "-ERR"),
        ("ROLE", "*3\r\n$6\r\nmaster"),
    ];
    for (request, reply) in table {
        let answer = exchange(&node, request).await;
        assert!(answer.starts_with(reply) && answer.ends_with("+OK\r\n"), "{request}: {answer}");
    }
    assert_eq!(node.key_commands(), 0);
    for request in ["GET a", "CONFIG RESETSTAT", "OBJECT FREQ a", "FLUSHALL"] {
        let answer = exchange(&node, request).await;
        assert!(answer.starts_with("-ERR"), "{request}: {answer}");
    }
    assert_eq!(node.key_commands(), 4);
}

#[tokio::test]
async fn refusals_say_which() {
    let (_fleet, node) = one_node().await;
    let table = [
        (Mode::Loading, "INFO", "-LOADING"),
        (Mode::LoadingInfo, "PING", "-LOADING"),
        (Mode::LoadingInfo, "INFO persistence", "$"),
        (Mode::NoAuth("s3cret".into()), "INFO", "-NOAUTH"),
        (Mode::NoAuth("s3cret".into()), "AUTH wrong", "-WRONGPASS"),
        (Mode::NoAuth("s3cret".into()), "AUTH s3cret\r\nINFO server", "+OK\r\n$"),
        (Mode::NoAuth("s3cret".into()), "AUTH default s3cret\r\nINFO server", "+OK\r\n$"),
        (Mode::WrongPass, "AUTH s3cret", "-WRONGPASS"),
        (Mode::WrongPass, "PING", "-NOAUTH"),
        (Mode::NoPerm, "INFO", "-NOPERM"),
        (Mode::NoPerm, "PING", "+PONG"),
        (Mode::Busy, "INFO", "-BUSY"),
        (Mode::MaxClients, "", "-ERR max number of clients reached"),
        (Mode::Normal, "AUTH x", "-ERR AUTH"),
    ];
    for (mode, request, reply) in table {
        assert!(!format!("{mode:?}").contains("s3cret"));
        node.set_mode(mode);
        let answer = exchange(&node, request).await;
        assert!(answer.starts_with(reply), "{request}: {answer}");
    }
}

#[tokio::test]
async fn hang_is_silent_until_it_ends() {
    let (_fleet, node) = one_node().await;
    node.set_mode(Mode::Hang);
    let mut stream = connect(&node).await;
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut byte = [0];
    assert!(timeout(SILENCE, stream.read(&mut byte)).await.is_err());
    node.set_mode(Mode::Normal);
    assert_eq!(read_until(&mut stream, "\r\n").await, "+PONG\r\n");
}

#[tokio::test]
async fn slow_and_drip_take_their_time() {
    let (_fleet, node) = one_node().await;
    for mode in [Mode::Slow(SILENCE), Mode::Drip(SILENCE / 10)] {
        node.set_mode(mode);
        let mut stream = connect(&node).await;
        let begun = Instant::now();
        stream.write_all(b"INFO cpu\r\n").await.unwrap();
        read_until(&mut stream, "\r\n\r\n").await;
        assert!(begun.elapsed() >= SILENCE, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn reset_cuts_in_mid_reply() {
    let (_fleet, node) = one_node().await;
    node.set_mode(Mode::Reset);
    let (reply, ended) = read_all(&mut connect(&node).await, "INFO\r\n").await;
    assert!(ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
    assert!(reply.len() < 6000, "{}", reply.len());
}

#[tokio::test]
async fn garbage_is_not_resp() {
    let (_fleet, node) = one_node().await;
    node.set_mode(Mode::Garbage);
    let mut stream = connect(&node).await;
    let (reply, _) = read_all(&mut stream, "PING\r\nQUIT\r\n").await;
    assert!(!reply.is_empty() && reply.iter().all(|byte| *byte >= 0x80));
}

#[tokio::test]
async fn huge_sends_what_it_announces() {
    let (_fleet, node) = one_node().await;
    node.set_mode(Mode::Huge(300_000));
    let (reply, _) = read_all(&mut connect(&node).await, "PING\r\nINFO\r\nQUIT\r\n").await;
    assert!(reply.starts_with(b"+PONG\r\n$300000\r\nxxx") && reply.ends_with(b"x\r\n+OK\r\n"));
    assert_eq!(reply.iter().filter(|byte| **byte == b'x').count(), 300_000);
}

#[tokio::test]
async fn refuse_closes_the_port_and_cuts_until_it_ends() {
    let (_fleet, node) = one_node().await;
    let mut standing = connect(&node).await;
    standing.write_all(b"PING\r\n").await.unwrap();
    read_until(&mut standing, "+PONG\r\n").await;
    node.set_mode(Mode::Refuse);
    let (_, ended) = read_all(&mut standing, "").await;
    assert!(ended.is_err(), "the standing connection ends by a reset");
    let until = |refused: bool| {
        let node = node.clone();
        timeout(DEADLINE, async move {
            while TcpStream::connect(node.address()).await.is_err() != refused {
                sleep(Duration::from_millis(5)).await;
            }
        })
    };
    until(true).await.unwrap();
    node.set_mode(Mode::Normal);
    until(false).await.unwrap();
    assert_eq!(exchange(&node, "PING").await, "+PONG\r\n+OK\r\n");
}

#[tokio::test]
async fn monitor_with_wait_ends_by_the_servers_timer() {
    let (_fleet, node) = one_node().await;
    let begun = Instant::now();
    let (feed, _) = read_all(&mut connect(&node).await, "MONITOR\r\nWAIT 2147483647 300\r\nQUIT\r\n").await;
    let feed = String::from_utf8(feed).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(feed.starts_with("+OK\r\n+") && feed.ends_with("\r\n:0\r\n+OK\r\n"), "{feed}");
    let lines = feed.lines().filter(|line| line.contains("\"GET\" \"sessions:user:")).count();
    assert!((200..500).contains(&lines), "{lines} lines");
}

#[tokio::test]
async fn a_failover_moves_the_master_and_a_dead_one_refuses() {
    let profile = Profile { lookups_per_second: vec![100.0, 100.0], ..Profile::small("catalog") };
    let fleet = Fleet::shard("catalog", profile, 1).await.unwrap();
    let [old, new] = fleet.caches()[0].nodes() else { panic!("two nodes") };
    assert!(exchange(new, "INFO replication").await.contains("role:slave"));
    assert!(exchange(new, "WAIT 1 0").await.starts_with("-ERR"));
    fleet.break_out("catalog", crate::model::StormType::FailoverCascade, 1);
    assert!(exchange(new, "INFO replication").await.contains("role:master"));
    let refused = timeout(DEADLINE, async {
        while TcpStream::connect(old.address()).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    refused.await.unwrap();
    fleet.end_storm("catalog");
    let back = timeout(DEADLINE, async {
        while TcpStream::connect(old.address()).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    back.await.unwrap();
    assert!(exchange(old, "INFO replication").await.contains(&format!("master_port:{}", new.address().port())));
}

#[tokio::test]
async fn thousands_of_plain_nodes_share_a_listener() {
    let fleet = Fleet::plain(3000, 1).await.unwrap();
    let nodes = fleet.caches()[0].nodes();
    assert_eq!(nodes.len(), 3000);
    for index in [0, 255, 256, 2999] {
        assert!(exchange(&nodes[index], "INFO stats").await.contains("keyspace_hits:"));
        assert_eq!((nodes[index].info_calls(), nodes[index].connections()), (1, 1));
    }
    let rates = Rates { lookups_per_second: 1e6, hit_ratio: 0.0, expired_per_second: 0.0, evicted_per_second: 0.0 };
    let before = nodes[1].facts().counters.misses;
    nodes[1].set_rates(rates);
    let missed = timeout(DEADLINE, async {
        while nodes[1].facts().counters.misses < before + 1000 {
            sleep(Duration::from_millis(1)).await;
        }
    });
    missed.await.unwrap();
    // An address that is no node's is not served.
    let stray = SocketAddr::new([127, 0, 0, 1].into(), nodes[0].address().port());
    let mut stream = TcpStream::connect(stray).await.unwrap();
    let mut byte = [0];
    assert!(matches!(timeout(DEADLINE, stream.read(&mut byte)).await.unwrap(), Err(_) | Ok(0)));
}

#[tokio::test]
async fn shutdown_leaves_no_task_behind() {
    let (fleet, node) = one_node().await;
    let mut stream = connect(&node).await;
    timeout(DEADLINE, fleet.shutdown()).await.unwrap();
    assert!(stream.read_u8().await.is_err());
}
