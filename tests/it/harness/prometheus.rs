//! A real Prometheus by itself, to ask.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{eventually, exporter, free_port};

/// A running Prometheus; killed when dropped.
pub(crate) struct Prometheus {
    port: u16,
    process: Child,
    directory: TempDir,
}

impl Prometheus {
    /// Scrapes these addresses every second as job `cache-storm`, with the alert rules that ship.
    pub(crate) async fn scraping(targets: &[String]) -> Self {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/*.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\nrule_files: ['{}']\n\
             scrape_configs: [{{job_name: cache-storm, static_configs: [{{targets: {targets:?}}}]}}]\n",
            rules.display()
        );
        Self::start(&config).await
    }

    /// With this configuration.
    pub(crate) async fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let port = free_port();
        let log = File::create(directory.path().join("log")).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus must be installed (`make test` does that): {error}"));
        let prometheus = Self { port, process, directory };
        // It listens before it answers questions: those get "Service Unavailable".
        eventually("Prometheus is ready", Duration::from_secs(30), async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok() && exporter::get(port, "/-/ready").await.0 == 200
        })
        .await;
        prometheus
    }

    /// What it answers to an expression at this moment: also that it does not take it.
    pub(crate) async fn instant(&self, expr: &str) -> Value {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("query", expr).finish();
        self.answer(&format!("/api/v1/query?{query}")).await
    }

    /// The series of an expression from `start` to `end` (Unix seconds). Panics if Prometheus does not take it.
    pub(crate) async fn range(&self, expr: &str, start: f64, end: f64, step: f64) -> Vec<Value> {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("query", expr)
            .append_pair("start", &start.to_string())
            .append_pair("end", &end.to_string())
            .append_pair("step", &step.to_string())
            .finish();
        self.ask(&format!("/api/v1/query_range?{query}")).await["result"].as_array().unwrap().clone()
    }

    /// The values of a label of these series.
    pub(crate) async fn label_values(&self, series: &str, label: &str) -> Vec<Value> {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("match[]", series).finish();
        self.ask(&format!("/api/v1/label/{label}/values?{query}")).await.as_array().unwrap().clone()
    }

    async fn answer(&self, path: &str) -> Value {
        let (_, body) = exporter::get(self.port, path).await;
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    async fn ask(&self, path: &str) -> Value {
        let answer = self.answer(path).await;
        assert_eq!(answer["status"], "success", "{path}: {}", answer["error"]);
        answer["data"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let faults: Vec<&str> = log.lines().filter(|line| !line.contains("level=info")).take(20).collect();
            eprintln!("Prometheus: {}", faults.join("\n"));
        }
    }
}
