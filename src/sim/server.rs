//! Nodes on loopback ports: enough RESP2 for a monitor, pipelined, with every way to misbehave.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counters::Command;
use super::info::Replication;
use super::mode::Mode;
use super::node::{Control, Node};
use super::resp::take_request;

/// How often `MONITOR` is fed.
const FEED_INTERVAL: Duration = Duration::from_millis(50);
/// Pause before a port is tried again, or after a failed accept (too many open files).
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
const DRIP_BYTES: usize = 16;
static FILLER: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// The tasks of a fleet, and what ends them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks {
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// Serves one node on a listener of its own until the tasks are stopped. While the node refuses, the
/// listener is closed; afterwards the same port is bound again.
pub(super) fn serve_node(listener: TcpListener, node: Arc<Node>, tasks: &Tasks) {
    let accepting = tasks.clone();
    tasks.tracker.spawn(async move {
        tokio::select! {
            () = accepting.stop.cancelled() => {}
            () = accept_for(listener, node, &accepting) => {}
        }
    });
}

async fn accept_for(mut listener: TcpListener, node: Arc<Node>, tasks: &Tasks) {
    let mut control = node.watch();
    loop {
        let refused = async { drop(control.wait_for(|control| matches!(control.mode, Mode::Refuse)).await) };
        tokio::select! {
            () = refused => {
                drop(listener);
                listener = listen_again(&node).await;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => spawn_connection(stream, &node, tasks),
                Err(_) => sleep(RETRY_INTERVAL).await,
            }
        }
    }
}

/// Waits until the node no longer refuses, then for its port.
async fn listen_again(node: &Node) -> TcpListener {
    let mut control = node.watch();
    drop(control.wait_for(|control| !matches!(control.mode, Mode::Refuse)).await);
    let mut reported = false;
    loop {
        match TcpListener::bind(node.address()).await {
            Ok(listener) => return listener,
            Err(error) if !reported => {
                reported = true;
                tracing::warn!(node = %node.name(), %error, "simulated node cannot listen again yet");
            }
            Err(_) => {}
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Serves many nodes on one listener, told apart by the loopback address that was dialled. Others, and
/// nodes that refuse, are reset at once.
pub(super) fn serve_addresses(listener: TcpListener, nodes: HashMap<IpAddr, Arc<Node>>, tasks: &Tasks) {
    let accepting = tasks.clone();
    let accept = async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(RETRY_INTERVAL).await;
                continue;
            };
            let dialled = stream.local_addr().ok().and_then(|address| nodes.get(&address.ip()));
            match dialled.filter(|node| !matches!(node.watch().borrow().mode, Mode::Refuse)) {
                Some(node) => spawn_connection(stream, node, &accepting),
                None => reset(stream),
            }
        }
    };
    let stop = tasks.stop.clone();
    tasks.tracker.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = accept => {}
        }
    });
}

fn spawn_connection(stream: TcpStream, node: &Arc<Node>, tasks: &Tasks) {
    node.note_connection();
    let (node, stop) = (node.clone(), tasks.stop.clone());
    tasks.tracker.spawn(async move {
        let mut control = node.watch();
        let cuts = control.borrow().cuts;
        let mut connection = Connection::new(stream, node);
        let cut = control.wait_for(|control| control.cuts != cuts || matches!(control.mode, Mode::Refuse));
        let ended = tokio::select! {
            () = stop.cancelled() => End::Closed,
            _ = cut => End::Reset,
            ended = connection.converse() => ended.unwrap_or(End::Closed),
        };
        if ended == End::Reset {
            reset(connection.stream);
        }
    });
}

/// Closes a connection so that the peer sees a reset instead of an orderly end.
fn reset(stream: TcpStream) {
    // Where the option fails the peer sees an end of file: a cut connection all the same.
    stream.set_zero_linger().ok();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

/// What follows a request.
enum Next {
    Reply(String),
    /// The reply is on its way already.
    Done,
    Close,
}

struct Connection {
    stream: TcpStream,
    node: Arc<Node>,
    control: watch::Receiver<Control>,
    input: BytesMut,
    output: String,
    authenticated: bool,
    monitoring: bool,
}

impl Connection {
    fn new(stream: TcpStream, node: Arc<Node>) -> Self {
        // Latency of the loopback is all that is at stake.
        stream.set_nodelay(true).ok();
        let control = node.watch();
        Self {
            stream,
            node,
            control,
            input: BytesMut::new(),
            output: String::new(),
            authenticated: false,
            monitoring: false,
        }
    }

    fn mode(&self) -> Mode {
        self.control.borrow().mode.clone()
    }

    async fn converse(&mut self) -> io::Result<End> {
        if matches!(self.mode(), Mode::MaxClients) {
            self.stream.write_all(b"-ERR max number of clients reached\r\n").await?;
            return Ok(End::Closed);
        }
        loop {
            if !self.read().await? {
                return Ok(End::Closed);
            }
            loop {
                match take_request(&mut self.input) {
                    Ok(Some(request)) if request.is_empty() => {}
                    Ok(Some(request)) => match self.answer(&request).await? {
                        Next::Reply(reply) => self.output.push_str(&reply),
                        Next::Done => {}
                        Next::Close => {
                            self.output.push_str("+OK\r\n");
                            self.flush().await?;
                            return Ok(End::Closed);
                        }
                    },
                    Ok(None) => break,
                    Err(bad) => {
                        self.output.push_str(&format!("-ERR {bad}\r\n"));
                        self.flush().await?;
                        return Ok(End::Closed);
                    }
                }
            }
            if self.flush().await? == End::Reset {
                return Ok(End::Reset);
            }
        }
    }

    /// Waits for bytes, or for a mode that answers what came during one that does not; false at the end of the stream.
    async fn read(&mut self) -> io::Result<bool> {
        loop {
            tokio::select! {
                read = self.stream.read_buf(&mut self.input) => {
                    if read? == 0 {
                        return Ok(false);
                    }
                    if !matches!(self.mode(), Mode::Hang) {
                        return Ok(true);
                    }
                }
                changed = self.control.changed() => {
                    if changed.is_err() {
                        return Ok(false);
                    }
                    if !matches!(self.mode(), Mode::Hang) {
                        return Ok(true);
                    }
                }
                () = sleep(FEED_INTERVAL), if self.monitoring => self.feed().await?,
            }
        }
    }

    async fn feed(&mut self) -> io::Result<()> {
        let lines = self.node.monitor_lines(FEED_INTERVAL.as_secs_f64());
        self.stream.write_all(lines.as_bytes()).await
    }

    /// Sends what has been gathered, in the manner of the mode.
    async fn flush(&mut self) -> io::Result<End> {
        if self.output.is_empty() {
            return Ok(End::Closed);
        }
        let output = std::mem::take(&mut self.output);
        let bytes = output.as_bytes();
        self.node.count(|counters| counters.net_output_bytes += bytes.len() as u64);
        match self.mode() {
            Mode::Reset => {
                self.stream.write_all(&bytes[..bytes.len() / 2]).await?;
                return Ok(End::Reset);
            }
            Mode::Garbage => {
                let noise: Vec<u8> = bytes.iter().enumerate().map(|(at, byte)| byte ^ (at as u8) | 0x80).collect();
                self.stream.write_all(&noise).await?;
            }
            Mode::Slow(delay) => {
                sleep(delay).await;
                self.stream.write_all(bytes).await?;
            }
            Mode::Drip(pause) => {
                for part in bytes.chunks(DRIP_BYTES) {
                    self.stream.write_all(part).await?;
                    sleep(pause).await;
                }
            }
            _ => self.stream.write_all(bytes).await?,
        }
        Ok(End::Closed)
    }

    async fn answer(&mut self, request: &[String]) -> io::Result<Next> {
        let Some((command, arguments)) = request.split_first() else { return Ok(Next::Done) };
        let command = command.to_ascii_uppercase();
        let mode = self.mode();
        let request_bytes: usize = request.iter().map(|argument| argument.len() + 6).sum();
        self.node.count(|counters| counters.net_input_bytes += request_bytes as u64);
        if command == "INFO" {
            self.node.note_info();
        }
        match command.as_str() {
            "QUIT" => return Ok(Next::Close),
            "AUTH" => {
                let (reply, known) = mode.authenticate(arguments);
                self.authenticated |= known;
                self.node.count(|counters| counters.add_calls(Command::Auth, 1));
                return Ok(Next::Reply(reply.to_owned()));
            }
            _ => {}
        }
        if let Some(refusal) = mode.refusal(&command, self.authenticated) {
            return Ok(Next::Reply(format!("-{refusal}\r\n")));
        }
        match command.as_str() {
            "INFO" => self.answer_info(arguments, &mode).await,
            "MONITOR" => {
                self.monitoring = true;
                self.node.count(|counters| counters.add_calls(Command::Monitor, 1));
                Ok(Next::Reply("+OK\r\n".to_owned()))
            }
            "WAIT" => self.answer_wait(arguments).await,
            _ => Ok(Next::Reply(plain_reply(&self.node, &command, arguments, self.stream.peer_addr().ok()))),
        }
    }

    async fn answer_info(&mut self, sections: &[String], mode: &Mode) -> io::Result<Next> {
        self.node.count(|counters| counters.add_calls(Command::Info, 1));
        if let Mode::Huge(bytes) = mode {
            self.flush().await?;
            self.stream.write_all(format!("${bytes}\r\n").as_bytes()).await?;
            let mut left = *bytes;
            while left > 0 {
                let part = left.min(FILLER.len() as u64);
                self.stream.write_all(&FILLER[..part as usize]).await?;
                left -= part;
            }
            return Ok(Next::Reply("\r\n".to_owned()));
        }
        let sections: Vec<&str> = sections.iter().map(String::as_str).collect();
        let text = self.node.info(&sections, matches!(mode, Mode::LoadingInfo));
        Ok(Next::Reply(bulk(&text)))
    }

    /// Blocks the connection for as long as the client allows: no replica acknowledges anything here.
    /// A feed started by `MONITOR` goes on meanwhile, as it does on a real server.
    async fn answer_wait(&mut self, arguments: &[String]) -> io::Result<Next> {
        let [replicas, timeout] = arguments else {
            return Ok(Next::Reply("-ERR wrong number of arguments for 'wait' command\r\n".to_owned()));
        };
        let (Ok(replicas), Ok(milliseconds)) = (replicas.parse::<usize>(), timeout.parse::<u64>()) else {
            return Ok(Next::Reply("-ERR value is not an integer or out of range\r\n".to_owned()));
        };
        if self.node.is_replica() {
            return Ok(Next::Reply("-ERR WAIT cannot be used with replica instances.\r\n".to_owned()));
        }
        self.node.count(|counters| counters.add_calls(Command::Wait, 1));
        self.flush().await?;
        let connected = match self.node.facts().replication {
            Replication::Master { replicas } => replicas.len(),
            Replication::Replica { .. } => 0,
        };
        let mut left = Duration::from_millis(if milliseconds == 0 { u64::MAX / 2 } else { milliseconds });
        while connected < replicas && !left.is_zero() {
            let pause = left.min(FEED_INTERVAL);
            sleep(pause).await;
            left -= pause;
            if self.monitoring {
                self.feed().await?;
            }
        }
        Ok(Next::Reply(format!(":{connected}\r\n")))
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Replies that depend on the node alone. What is not listed here is an unknown command, and is counted
/// as one that touches keys or changes the server.
fn plain_reply(node: &Node, command: &str, arguments: &[String], peer: Option<SocketAddr>) -> String {
    let sub = arguments.first().map(|argument| argument.to_ascii_uppercase()).unwrap_or_default();
    let named = match (command, sub.as_str()) {
        ("PING", _) => Some(Command::Ping),
        ("ROLE", _) => Some(Command::Role),
        ("CLIENT", "SETNAME") => Some(Command::ClientSetname),
        ("CONFIG", "GET") => Some(Command::ConfigGet),
        _ => None,
    };
    node.count(|counters| match named {
        Some(command) => counters.add_calls(command, 1),
        None => counters.commands += 1,
    });
    match (command, sub.as_str()) {
        ("PING", _) => "+PONG\r\n".to_owned(),
        ("SELECT", _) | ("CLIENT", "SETNAME" | "SETINFO" | "NO-EVICT") => "+OK\r\n".to_owned(),
        ("CLIENT", "ID") => ":7\r\n".to_owned(),
        ("CLIENT", "LIST") => bulk(&format!("id=7 addr={} name= db=0 cmd=client|list\n", shown(peer))),
        ("CLIENT", _) => format!("-ERR unknown subcommand '{}'. Try CLIENT HELP.\r\n", printable(&sub)),
        ("CONFIG", "GET") | ("COMMAND" | "LATENCY", _) => "*0\r\n".to_owned(),
        ("SLOWLOG", "LEN") => ":0\r\n".to_owned(),
        ("CLUSTER", _) => "-ERR This instance has cluster support disabled\r\n".to_owned(),
        ("ROLE", _) => role_reply(node),
        // As servers before 6.0 do: clients must manage with RESP2.
        ("HELLO", _) => "-ERR unknown command 'HELLO'\r\n".to_owned(),
        _ => {
            node.note_key_command();
            format!("-ERR unknown command '{}'\r\n", printable(command))
        }
    }
}

fn shown(peer: Option<SocketAddr>) -> String {
    peer.map(|address| address.to_string()).unwrap_or_default()
}

fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(128).collect()
}

fn role_reply(node: &Node) -> String {
    let facts = node.facts();
    let offset = facts.offset.to_string();
    match facts.replication {
        Replication::Master { replicas } => {
            let entry = |(port, offset): &(u16, u64)| {
                let parts = [bulk("127.0.0.1"), bulk(&port.to_string()), bulk(&offset.to_string())];
                format!("*3\r\n{}", parts.concat())
            };
            let entries: String = replicas.iter().map(entry).collect();
            format!("*3\r\n{}:{offset}\r\n*{}\r\n{entries}", bulk("master"), replicas.len())
        }
        Replication::Replica { master_port, .. } => {
            let (role, host, state) = (bulk("slave"), bulk("127.0.0.1"), bulk("connected"));
            format!("*5\r\n{role}{host}:{master_port}\r\n{state}:{offset}\r\n")
        }
    }
}

#[cfg(test)]
mod tests;
