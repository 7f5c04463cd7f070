//! A server that does what a test tells it to, on a port of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::{Credentials, Endpoint};

/// How commands are answered; each field is a whole RESP reply.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) auth: String,
    pub(crate) set_name: String,
    pub(crate) info: String,
    /// To `INFO` from the second on; `None`: as the first.
    pub(crate) later_info: Option<String>,
    pub(crate) commandstats: String,
    /// To every command that has no reply of its own here; `None`: as to `INFO`.
    pub(crate) others: Option<String>,
    /// Said at once to whoever connects, who is then hung up on.
    pub(crate) greeting: Option<String>,
    /// Takes commands and answers none.
    pub(crate) hang: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            auth: "+OK\r\n".into(),
            set_name: "+OK\r\n".into(),
            info: bulk("# Server\r\nredis_version:7.0.15\r\nrun_id:a\r\nrole:master\r\nkeyspace_hits:1\r\n"),
            later_info: None,
            commandstats: bulk("# Commandstats\r\ncmdstat_set:calls=3\r\n"),
            others: None,
            greeting: None,
            hang: false,
        }
    }
}

pub(crate) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

#[derive(Debug)]
pub(crate) struct ScriptedServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    connections: AtomicUsize,
    commands: Mutex<Vec<String>>,
    cut: watch::Sender<usize>,
    /// The last thing announced, as a whole reply.
    announced: watch::Sender<String>,
}

impl ScriptedServer {
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_with(script, None).await
    }

    pub(crate) async fn start_with(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            connections: AtomicUsize::new(0),
            commands: Mutex::default(),
            cut: watch::Sender::new(0),
            announced: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        endpoint(self.address)
    }

    pub(crate) fn follow(&self, script: Script) {
        *self.shared.script.lock().unwrap() = script;
    }

    /// Hangs up on every client.
    pub(crate) fn cut_connections(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Says it to every subscriber, whatever he subscribed to.
    pub(crate) fn announce(&self, channel: &str, message: &str) {
        let words = ["message", channel, message].map(bulk).concat();
        self.shared.announced.send_replace(format!("*3\r\n{words}"));
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Commands received so far, arguments joined by blanks.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.shared.commands.lock().unwrap().clone()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut_connections();
    }
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        node: address.to_string().into(),
        host: address.ip().to_string(),
        port: address.port(),
        credentials: Credentials::default(),
        tls: None,
        allow: None,
    }
}

/// An address where nobody listens.
pub(crate) async fn deserted() -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    endpoint(listener.local_addr().unwrap())
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        // As Redis does; without it the second reply waits 40 ms for our delayed ACK of the first.
        tcp.set_nodelay(true).unwrap();
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        let mut cut = shared.cut.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                _ = converse(tcp, tls, shared) => {}
            }
        });
    }
}

async fn converse(tcp: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) -> Option<()> {
    match tls {
        None => answer(tcp, shared).await,
        Some(tls) => answer(tls.accept(tcp).await.ok()?, shared).await,
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite, shared: Arc<Shared>) -> Option<()> {
    let (read, mut write) = split(stream);
    let greeting = shared.script.lock().unwrap().greeting.clone();
    if let Some(greeting) = greeting {
        return write.write_all(greeting.as_bytes()).await.ok();
    }
    let mut lines = BufReader::new(read).lines();
    loop {
        let command = read_command(&mut lines).await?;
        let asked_before = shared.commands.lock().unwrap().contains(&command);
        shared.commands.lock().unwrap().push(command.clone());
        let script = shared.script.lock().unwrap().clone();
        if script.hang {
            continue;
        }
        let reply = match command.split_once(' ').map_or(&*command, |(name, _)| name) {
            "SUBSCRIBE" => return announce(write, shared.announced.subscribe()).await,
            "AUTH" => script.auth,
            "CLIENT" => script.set_name,
            "INFO" if command.ends_with("commandstats") => script.commandstats,
            "INFO" if asked_before => script.later_info.unwrap_or(script.info),
            "INFO" => script.info,
            _ => script.others.unwrap_or(script.info),
        };
        write.write_all(reply.as_bytes()).await.ok()?;
        write.flush().await.ok()?;
    }
}

/// Listens no more, and says what is announced from now on.
async fn announce(mut write: impl AsyncWrite + Unpin, mut announced: watch::Receiver<String>) -> Option<()> {
    loop {
        announced.changed().await.ok()?;
        let said = announced.borrow_and_update().clone();
        write.write_all(said.as_bytes()).await.ok()?;
        write.flush().await.ok()?;
    }
}

/// `*2`, then per argument `$4` and the argument.
async fn read_command(lines: &mut tokio::io::Lines<impl AsyncBufReadExt + Unpin>) -> Option<String> {
    let arguments: usize = lines.next_line().await.ok()??.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..arguments {
        lines.next_line().await.ok()??;
        words.push(lines.next_line().await.ok()??);
    }
    Some(words.join(" "))
}
