//! Real Sentinels.

use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::redis::{self, Redis};
use super::resp::{Client, Reply};
use super::{eventually, free_port};

/// The name under which every Sentinel here watches its master.
pub(crate) const MASTER: &str = "m";

/// After which silence a Sentinel calls a server down, unless told otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);

/// A Sentinel; killed when dropped.
pub(crate) struct Sentinel {
    pub(crate) port: u16,
    password: Option<&'static str>,
    process: Child,
    _directory: TempDir,
}

/// What stands in a Sentinel's file beside its port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// Its master: host and port.
    pub(crate) master: (&'a str, u16),
    pub(crate) quorum: usize,
    /// After which silence it calls a server down.
    pub(crate) patience: Duration,
    /// What its own clients need.
    pub(crate) password: Option<&'static str>,
    /// Lines before the one that names the master, and after it.
    pub(crate) further: [&'a str; 2],
}

impl Sentinel {
    /// Starts one that watches `master`, and tells the others that it is reached at `announced`, if that is given.
    pub(crate) async fn start(port: u16, master: u16, quorum: usize, announced: Option<u16>) -> Self {
        let announced = announced
            .map_or(String::new(), |port| format!("sentinel announce-ip 127.0.0.1\nsentinel announce-port {port}\n"));
        let (master, patience, further) = (("127.0.0.1", master), PATIENCE, [&*announced, ""]);
        let setup = Setup { master, quorum, patience, password: None, further };
        Self::set_up(port, setup).await
    }

    pub(crate) async fn set_up(port: u16, setup: Setup<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let Setup { master: (host, master), quorum, patience, password, further: [before, after] } = setup;
        let password_line = password.map(|password| format!("requirepass {password}\n")).unwrap_or_default();
        let config = format!(
            "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {}\n{password_line}{before}\
             sentinel monitor {MASTER} {host} {master} {quorum}\nsentinel down-after-milliseconds {MASTER} {}\n\
             sentinel failover-timeout {MASTER} 6000\n{after}",
            directory.path().display(),
            patience.as_millis()
        );
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, config).unwrap();
        let program = redis::program();
        let process = Command::new(&program)
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} must be installed (`make test` installs redis-server): {error}"));
        let sentinel = Self { port, password, process, _directory: directory };
        eventually("a Sentinel answers", Duration::from_secs(10), async || {
            let Ok(mut client) = sentinel.client().await else { return false };
            matches!(client.call(&["PING"]).await, Ok(Reply::Status(_)))
        })
        .await;
        sentinel
    }

    /// So many that watch one master, once they know each other and so many replicas.
    pub(crate) async fn group(count: usize, master: &Redis, replicas: usize) -> Vec<Self> {
        let mut group = Vec::new();
        for _ in 0..count {
            group.push(Self::start(free_port(), master.port, count / 2 + 1, None).await);
        }
        for sentinel in &group {
            sentinel.knows(count - 1, replicas).await;
        }
        group
    }

    /// Waits until it knows so many other Sentinels and replicas.
    pub(crate) async fn knows(&self, others: usize, replicas: usize) {
        eventually("Sentinels know each other and the replicas", Duration::from_secs(30), async || {
            let told = self.view().await;
            let number = |name: &str| told[name].parse::<usize>().unwrap();
            (others, replicas) == (number("num-other-sentinels"), number("num-slaves"))
        })
        .await;
    }

    /// What it says of its master (`SENTINEL MASTER`), by field.
    pub(crate) async fn view(&self) -> BTreeMap<String, String> {
        let Reply::Array(told) = self.run(&["SENTINEL", "MASTER", MASTER]).await else { panic!("a list of fields") };
        told.chunks(2).map(|pair| (pair[0].text(), pair[1].text())).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.node())
    }

    pub(crate) fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs a command that must succeed.
    pub(crate) async fn run(&self, command: &[&str]) -> Reply {
        let reply = self.client().await.unwrap().call(command).await.unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{command:?}: {reply:?}");
        reply
    }

    async fn client(&self) -> io::Result<Client> {
        let mut client = Client::connect(self.port).await?;
        if let Some(password) = self.password {
            client.call(&["AUTH", password]).await?;
        }
        Ok(client)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
