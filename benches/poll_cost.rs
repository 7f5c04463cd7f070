//! What a poll costs the server, against a plain `INFO`, and what it costs us.
//!
//! 20,000 polls back to back against as many plain `INFO`, alternating five times, on a `redis-server` of its own.
//! Server CPU is what the server accounts for itself (`used_cpu_user` + `used_cpu_sys`); our own is
//! `utime` + `stime` of this process. Fails when the median ratio passes 3 or a poll costs us more than 0.3 ms.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people; it stops where a premise fails")]

use std::future::pending;
use std::hint::black_box;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cache_storm_exporter::config::{Credentials, Endpoint};
use cache_storm_exporter::parse::Info;
use cache_storm_exporter::poll::{Depth, NodeLink, Outcome};
use cache_storm_exporter::wire::TlsStore;
use tokio::runtime::Runtime;
use tokio::time::Instant;

const POLLS: u32 = 20_000;
const ROUNDS: usize = 5;
const SERVER_RATIO_MAX: f64 = 3.0;
const OWN_CPU_MS_MAX: f64 = 0.3;

fn main() -> ExitCode {
    let server = Server::start();
    let mut observer = server.connect();
    server.make_lifelike(&mut observer);
    let (mut plain_connection, mut poller) = (server.connect(), Poller::new(server.port));

    let (mut ratios, mut own) = (Vec::new(), Vec::new());
    println!("round  plain INFO  poll      ratio  own CPU   ({POLLS} each; per request)");
    for round in 1..=ROUNDS {
        let plain_us = server_cpu_us(&mut observer, || plain(&mut plain_connection));
        let own_before = own_cpu_seconds();
        let poll_us = server_cpu_us(&mut observer, || poller.poll());
        let own_ms = (own_cpu_seconds() - own_before) * 1e3 / f64::from(POLLS);
        println!("{round:>5}  {plain_us:>7.1} µs  {poll_us:>5.1} µs  {:>5.2}  {own_ms:.3} ms", poll_us / plain_us);
        ratios.push(poll_us / plain_us);
        own.push(own_ms);
    }
    let (ratio, own) = (median(&mut ratios), median(&mut own));
    println!("median ratio {ratio:.2} (at most {SERVER_RATIO_MAX}), own CPU {own:.3} ms (at most {OWN_CPU_MS_MAX})");
    if ratio <= SERVER_RATIO_MAX && own <= OWN_CPU_MS_MAX { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plain(connection: &mut Connection) {
    connection.write(b"INFO\r\n");
    black_box(connection.bulk());
}

/// Polls as the exporter does: its own line to the node, question, answer, parsing.
struct Poller {
    runtime: Runtime,
    tls: Arc<TlsStore>,
    link: NodeLink,
}

impl Poller {
    fn new(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint {
            node: format!("127.0.0.1:{port}").into(),
            host: "127.0.0.1".to_owned(),
            port,
            credentials: Credentials::default(),
            tls: None,
            allow: None,
        };
        Self { runtime, tls: Arc::default(), link: NodeLink::new(endpoint) }
    }

    fn poll(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        match self.runtime.block_on(self.link.poll(Depth::Core, &self.tls, deadline, pending())) {
            Outcome::Answered(answer) => drop(black_box(answer)),
            other => panic!("a poll failed: {other:?}"),
        }
    }
}

/// Server CPU per request, µs.
fn server_cpu_us(observer: &mut Connection, mut request: impl FnMut()) -> f64 {
    let before = observer.server_cpu_seconds();
    for _ in 0..POLLS {
        request();
    }
    (observer.server_cpu_seconds() - before) * 1e6 / f64::from(POLLS)
}

/// CPU of this process so far: fields 14 and 15 of `/proc/self/stat`, in ticks of 10 ms.
fn own_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Server {
    port: u16,
    process: Child,
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed: make bench does that");
        Self { port, process }
    }

    /// Waits for the server to listen.
    fn connect(&self) -> Connection {
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => {
                    stream.set_nodelay(true).unwrap();
                    return Connection(BufReader::with_capacity(64 * 1024, stream));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Keys, and as many kinds of commands as an application's server has seen: `commandstats` lists each.
    fn make_lifelike(&self, connection: &mut Connection) {
        connection.write(b"EVAL \"for i=1,100000 do redis.call('SET','k'..i,i,'EX',3600) end\" 0\r\n");
        connection.line();
        let commands =
            ["GET a", "MGET a b", "EXISTS a", "TTL a", "INCR n", "EXPIRE n 9", "DEL x", "UNLINK x", "HSET h f v"];
        let more =
            ["HGET h f", "HGETALL h", "LPUSH l 1", "LRANGE l 0 1", "SADD s 1", "SMEMBERS s", "ZADD z 1 m", "PING"];
        for command in commands.iter().chain(&more) {
            connection.write(format!("{command}\r\n").as_bytes());
        }
        // Whatever shape their replies had, ECHO's comes last.
        connection.write(b"ECHO ready\r\n");
        while connection.line() != "ready" {}
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn write(&mut self, request: &[u8]) {
        self.0.get_mut().write_all(request).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn bulk(&mut self) -> String {
        let head = self.line();
        let length: usize =
            head.strip_prefix('$').unwrap_or_else(|| panic!("not a bulk reply: {head}")).parse().unwrap();
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn server_cpu_seconds(&mut self) -> f64 {
        self.write(b"INFO cpu\r\n");
        let text = self.bulk();
        let info = Info::parse(&text);
        info.number("used_cpu_user").unwrap() + info.number("used_cpu_sys").unwrap()
    }
}
