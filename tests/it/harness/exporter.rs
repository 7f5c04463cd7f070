//! The built binary as a process.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::metrics::Metrics;
use super::redis::Redis;
use super::{eventually, free_port, unix_now};

const BINARY: &str = env!("CARGO_BIN_EXE_cache-storm-exporter");

/// A running exporter; killed when dropped.
pub(crate) struct Exporter {
    pub(crate) port: u16,
    process: Child,
    directory: TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    /// Standard output and standard error, one after the other.
    pub(crate) output: String,
}

/// A configuration with one cache `main` of these nodes; `detection` is YAML (`time_scale: 10`).
pub(crate) fn config(nodes: &[Redis], poll: &str, detection: &str) -> String {
    let urls: Vec<String> = nodes.iter().map(Redis::url).collect();
    format!(
        "poll: {{ {poll} }}\ndetection: {{ {detection} }}\ncaches:\n  - name: main\n    nodes: [{}]\n",
        urls.join(", ")
    )
}

impl Exporter {
    /// Starts `serve` and waits until the first round of every cache has closed.
    pub(crate) async fn serve(config: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.envs(env.iter().copied());
        Self::serve_by(command, config).await
    }

    /// As [`Exporter::serve`], with at most this many open files.
    pub(crate) async fn serve_limited(config: &str, open_files: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {open_files} && exec \"$0\" \"$@\""), BINARY]);
        Self::serve_by(command, config).await
    }

    async fn serve_by(mut command: Command, config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        command.arg("--config").arg(write_config(&directory, config));
        let exporter = Self::start_by(command, directory).await;
        eventually("/-/ready says yes", Duration::from_secs(20), async || exporter.get("/-/ready").await.0 == 200)
            .await;
        exporter
    }

    /// Starts a command that serves HTTP and waits until it does.
    pub(crate) async fn start(directory: TempDir, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments).envs(env.iter().copied());
        Self::start_by(command, directory).await
    }

    async fn start_by(mut command: Command, directory: TempDir) -> Self {
        let port = free_port();
        let log = File::create(directory.path().join("log")).unwrap();
        let process = command
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut exporter = Self { port, process, directory };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = exporter.process.try_wait().unwrap() {
                panic!("the exporter ended with {status}: {}", exporter.log());
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the exporter does not listen: {}", exporter.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        exporter
    }

    /// GET: status and body. Panics when nobody answers within ten seconds.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.port, path).await
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let (status, body) = self.get("/metrics").await;
        assert_eq!(status, 200, "{body}");
        Metrics::parse(body)
    }

    /// Severity of the cache `main`.
    pub(crate) async fn severity(&self) -> u8 {
        self.metrics().await.sample("cache_storm_severity", &[("cache", "main")]).expect("a severity") as u8
    }

    /// The report on the node, as `/api/v1/report` gives it.
    pub(crate) async fn node_report(&self, node: &str) -> serde_json::Value {
        let (_, body) = self.get("/api/v1/report").await;
        let report: serde_json::Value = serde_json::from_str(&body).unwrap();
        let nodes = report["caches"].as_array().unwrap().iter().flat_map(|cache| cache["nodes"].as_array().unwrap());
        nodes.clone().find(|entry| entry["node"] == node).unwrap_or_else(|| panic!("no {node} in {body}")).clone()
    }

    /// Waits until the node's newest poll is this much later than now: what was before it has left a window of that
    /// length.
    pub(crate) async fn polled_for(&self, node: &str, span: Duration) {
        let until = unix_now() + span.as_secs_f64();
        eventually(&format!("a poll of {node} {span:?} from now"), 3 * span + Duration::from_secs(10), async || {
            let newest = self.metrics().await.node("cache_storm_node_last_poll_timestamp_seconds", node);
            newest.is_some_and(|newest| newest >= until)
        })
        .await;
    }

    /// Writes another configuration in place of the first.
    pub(crate) fn rewrite_config(&self, config: &str) {
        write_config(&self.directory, config);
    }

    /// Asks it by signal to reload.
    pub(crate) fn hang_up(&self) {
        signal(self.process.id(), "HUP");
    }

    /// Sends `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Asks it to end and returns the exit code and how long it took.
    pub(crate) async fn terminate(&mut self) -> (Option<i32>, Duration) {
        signal(self.process.id(), "TERM");
        let process = &mut self.process;
        let took = eventually("the exporter ends after SIGTERM", Duration::from_secs(10), async || {
            process.try_wait().unwrap().is_some()
        })
        .await;
        (self.process.wait().unwrap().code(), took)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        if std::thread::panicking() {
            // The runner shows this beside the failure: half of every diagnosis.
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the exporter's last lines:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Runs a command to its end.
pub(crate) async fn run(config: &str, arguments: &[&str], env: &[(&str, &str)]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let file = write_config(&directory, config);
    let mut command = Command::new(BINARY);
    command.args(arguments).arg("--config").arg(file).envs(env.iter().copied()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Outcome { code: output.status.code(), output: String::from_utf8_lossy(&text).into_owned() }
}

/// GET of a server on this machine: status and body. Panics when nobody answers within ten seconds.
pub(crate) async fn get(port: u16, path: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        // HTTP/1.0: the body ends with the connection, never in chunks.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a complete answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (status, body.to_owned())
}

/// Sends a signal by the shell's own `kill`: std has none, and this needs no further package.
pub(crate) fn signal(process: u32, signal: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {process}")]).status().unwrap();
    assert!(status.success(), "kill -{signal} {process}");
}

fn write_config(directory: &TempDir, config: &str) -> PathBuf {
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    file
}
