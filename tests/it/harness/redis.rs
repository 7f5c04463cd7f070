//! Real servers: `redis-server`, or what `REDIS_SERVER` names (`REDIS_SERVER=valkey-server`).

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::resp::{Client, Reply};
use super::{eventually, free_port};

pub(crate) struct Redis {
    pub(crate) port: u16,
    process: Child,
    directory: TempDir,
    options: Vec<String>,
}

impl Redis {
    /// Starts a server with further options (`["--maxmemory", "8mb"]`) and waits until it answers.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let port = free_port();
        let mut redis = Self { port, process: spawn(port, &directory, &options), directory, options };
        redis.answers().await;
        redis
    }

    /// Several servers with the same options.
    pub(crate) async fn fleet(count: usize, options: &[&str]) -> Vec<Self> {
        let mut fleet = Vec::new();
        for _ in 0..count {
            fleet.push(Self::start(options).await);
        }
        fleet
    }

    /// The node's name in metrics and documents.
    pub(crate) fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.node())
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.port).await.unwrap()
    }

    /// Stops the server in good order, its keys saved, and starts it again on the same port.
    pub(crate) async fn restart_warm(&mut self) {
        self.save_and_stop().await;
        self.start_again().await;
    }

    /// The same, but that it takes so long for each key to load it, and is not waited for.
    pub(crate) async fn restart_loading(&mut self, per_key: Duration) {
        self.save_and_stop().await;
        let delay = per_key.as_micros().to_string();
        // It looks for clients every so many bytes, of which few keys have few.
        let slow = ["--key-load-delay", &delay, "--loading-process-events-interval-bytes", "1024"];
        self.options.extend(slow.map(str::to_owned));
        self.process = spawn(self.port, &self.directory, &self.options);
    }

    async fn save_and_stop(&mut self) {
        // The server closes the connection instead of answering.
        drop(self.client().await.call(&["SHUTDOWN", "SAVE"]).await);
        self.process.wait().unwrap();
    }

    /// Starts a server that ended again on the same port; it loads what was saved in good order.
    pub(crate) async fn start_again(&mut self) {
        self.process = spawn(self.port, &self.directory, &self.options);
        self.answers().await;
    }

    /// Kills the process: whoever asks is refused from now on.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Sends `STOP` or `CONT`: a stopped server accepts connections and never answers.
    pub(crate) fn signal(&self, signal: &str) {
        super::exporter::signal(self.process.id(), signal);
    }

    /// Runs a command that must succeed.
    pub(crate) async fn run(&self, command: &[&str]) -> Reply {
        let reply = self.client().await.call(command).await.unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{command:?}: {reply:?}");
        reply
    }

    /// A counter or gauge of `INFO`.
    pub(crate) async fn info(&self, field: &str) -> f64 {
        let text = self.run(&["INFO", "everything"]).await.text();
        let info = cache_storm_exporter::parse::Info::parse(&text);
        info.number(field).unwrap_or_else(|| panic!("no number {field} in INFO"))
    }

    /// Writes the keys `k:0` … `k:{count - 1}`: on the server, so that it takes no time worth mentioning.
    pub(crate) async fn fill(&self, count: usize) {
        let script = "for i = 0, ARGV[1] - 1 do redis.call('SET', 'k:' .. i, string.rep('x', 32)) end";
        self.run(&["EVAL", script, "0", &count.to_string()]).await;
    }

    async fn answers(&mut self) {
        let port = self.port;
        let log = self.directory.path().join("log");
        let process = &mut self.process;
        eventually("redis-server answers PING", Duration::from_secs(10), async || {
            if let Some(status) = process.try_wait().unwrap() {
                panic!("redis-server ended with {status}: {}", std::fs::read_to_string(&log).unwrap());
            }
            let Ok(mut client) = Client::connect(port).await else { return false };
            // A server with a password refuses PING: it is there all the same.
            matches!(client.call(&["PING"]).await, Ok(Reply::Status(_)))
                || matches!(client.call(&["PING"]).await, Ok(Reply::Error(text)) if text.starts_with("NOAUTH"))
        })
        .await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A second kill of a dead process is refused: nothing to do about it, nothing lost.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn spawn(port: u16, directory: &TempDir, options: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(directory.path().join("log")).unwrap();
    let program = program();
    Command::new(&program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(directory.path())
        .args(options)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed (`make test` installs redis-server): {error}"))
}

/// The server to test with.
pub(crate) fn program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}
