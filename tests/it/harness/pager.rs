//! A real Prometheus, a real Alertmanager and the receivers of all teams, by the files that ship, in a hurry.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::{self, State};
use axum::routing::post;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::exporter::Exporter;
use super::{eventually, free_port, unix_now};

/// 30-day figures mean nothing in the first minute of a server's life.
const LEFT_OUT: &str = "objectives.yml";

/// What a receiver was told of one alert.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    /// The last part of the webhook's address: the receiver's name.
    pub(crate) receiver: String,
    pub(crate) alert: String,
    pub(crate) cache: String,
    pub(crate) resolved: bool,
    /// When the rule began to hold, as Prometheus says (RFC 3339).
    pub(crate) starts_at: String,
    /// When it was told, Unix seconds.
    pub(crate) at: f64,
    /// Its description.
    pub(crate) text: String,
    /// Alerts in the same message.
    pub(crate) alerts: usize,
}

impl Notice {
    /// Receiver, alert and cache.
    pub(crate) fn key(&self) -> (String, String, String) {
        (self.receiver.clone(), self.alert.clone(), self.cache.clone())
    }
}

type Notices = Arc<Mutex<Vec<Notice>>>;

/// Everything behind the exporter; killed when dropped.
pub(crate) struct Pager {
    notices: Notices,
    prometheus: u16,
    processes: Vec<Child>,
    directory: TempDir,
}

impl Pager {
    /// Starts all of it, scraping these exporters, with every duration of the shipped files divided by `speed`.
    pub(crate) async fn start(exporters: &[&Exporter], speed: f64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (prometheus, alertmanager) = (free_port(), free_port());
        let (receivers, notices) = receivers().await;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), shorten(text, speed)).unwrap();

        fs::create_dir(directory.path().join("rules")).unwrap();
        for entry in fs::read_dir(root.join("alerts")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".yml") && name != LEFT_OUT {
                write(&format!("rules/{name}"), &read(&format!("alerts/{name}")));
            }
        }
        let targets: Vec<String> = exporters.iter().map(|exporter| format!("127.0.0.1:{}", exporter.port)).collect();
        let text = read("deploy/prometheus/prometheus.yml")
            .replace("../../alerts/", "rules/")
            .replace("127.0.0.1:9736", &targets.join(", "))
            .replace("127.0.0.1:9090", &format!("127.0.0.1:{prometheus}"))
            .replace("127.0.0.1:9093", &format!("127.0.0.1:{alertmanager}"));
        write("prometheus.yml", &text);
        let templates = root.join("deploy/alertmanager/templates");
        let text = read("deploy/alertmanager/alertmanager.yml")
            .replace("templates/*.tmpl", &format!("{}/*.tmpl", templates.display()))
            .replace("127.0.0.1:9099", &format!("127.0.0.1:{receivers}"));
        write("alertmanager.yml", &text);

        let mut pager = Self { notices, prometheus, processes: Vec::new(), directory };
        pager.run("prometheus-alertmanager", "alertmanager", alertmanager, &["--cluster.listen-address="]).await;
        pager.run("prometheus", "prometheus", prometheus, &[]).await;
        pager
    }

    /// What was told so far, the oldest first, without `review`: a channel to look at, in office hours only.
    pub(crate) fn told(&self) -> Vec<Notice> {
        let notices = self.notices.lock().unwrap();
        notices.iter().filter(|notice| notice.receiver != "review").cloned().collect()
    }

    /// Unix seconds of an RFC 3339 time, by Prometheus' own reading.
    pub(crate) async fn seconds(&self, time: &str) -> f64 {
        let answer = self.ask(&format!("time()&time={time}")).await;
        answer["data"]["result"][0].as_f64().unwrap_or_else(|| panic!("no time in {answer}"))
    }

    /// The value of an expression that gives one series; `None` where it gives none.
    pub(crate) async fn query(&self, expression: &str) -> Option<f64> {
        let answer = self.ask(expression).await;
        let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
        assert!(series.len() < 2, "{expression}: {answer}");
        series.first()?["value"][1].as_str()?.parse().ok()
    }

    async fn ask(&self, query: &str) -> Value {
        let (_, body) = super::exporter::get(self.prometheus, &format!("/api/v1/query?query={query}")).await;
        serde_json::from_str(&body).unwrap()
    }

    async fn run(&mut self, program: &str, name: &str, port: u16, options: &[&str]) {
        let file = |suffix: &str| self.directory.path().join(format!("{name}{suffix}"));
        let log = File::create(file(".log")).unwrap();
        let storage = if name == "prometheus" { "--storage.tsdb.path" } else { "--storage.path" };
        let child = Command::new(program)
            .arg(format!("--config.file={}", file(".yml").display()))
            .arg(format!("{storage}={}", file("-data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} must be installed (`make test` does that): {error}"));
        self.processes.push(child);
        eventually(&format!("{name} listens"), Duration::from_secs(30), async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        for process in &mut self.processes {
            drop(process.kill());
            drop(process.wait());
        }
        if std::thread::panicking() {
            for name in ["prometheus.log", "alertmanager.log"] {
                let log = fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
                let faults: Vec<&str> = log.lines().filter(|line| !line.contains("level=info")).take(20).collect();
                eprintln!("{name}:\n{}", faults.join("\n"));
            }
            eprintln!("told: {:#?}", self.told());
        }
    }
}

/// One webhook for all receivers, which tell themselves apart by the path: its port, and what it is told.
async fn receivers() -> (u16, Notices) {
    let notices = Notices::default();
    let webhook = post(
        |extract::Path(receiver): extract::Path<String>, State(notices): State<Notices>, Json(body): Json<Value>| async move {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let alerts = body["alerts"].as_array().unwrap();
            for alert in alerts {
                notices.lock().unwrap().push(Notice {
                    receiver: receiver.clone(),
                    alert: text(&alert["labels"]["alertname"]),
                    cache: text(&alert["labels"]["cache"]),
                    resolved: alert["status"] == "resolved",
                    starts_at: text(&alert["startsAt"]),
                    at: unix_now(),
                    text: text(&alert["annotations"]["description"]),
                    alerts: alerts.len(),
                });
            }
        },
    );
    let router = axum::Router::new().route("/{receiver}", webhook).with_state(Arc::clone(&notices));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(axum::serve(listener, router).into_future());
    (port, notices)
}

/// Divides every duration (`15s`, `[5m]`, `offset 1h`) in a text by `speed`; numbers without a unit stay: what rules
/// compare in seconds, they compare with thresholds of the exporter, which its configuration shortens.
fn shorten(text: &str, speed: f64) -> String {
    const UNITS: [(&str, f64); 6] =
        [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3_600e3), ("d", 86_400e3), ("w", 604_800e3)];
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let milliseconds = |word: &str| {
        let unit = word.find(|character: char| !character.is_ascii_digit())?;
        let (_, length) = UNITS.iter().find(|(name, _)| *name == &word[unit..])?;
        Some(word[..unit].parse::<f64>().ok()? * length)
    };
    let mut short = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        let end = rest[start..].find(|character| !is_word(character)).map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        short.push_str(&rest[..start]);
        match milliseconds(word) {
            Some(long) => short.push_str(&format!("{}ms", (long / speed).round())),
            None => short.push_str(word),
        }
        rest = &rest[end..];
    }
    short + rest
}

#[test]
fn durations_are_divided_and_nothing_else() {
    for (long, short) in [
        ("for: 30s", "for: 3000ms"),
        ("rate(x_total[1m]) > 10", "rate(x_total[6000ms]) > 10"),
        ("y[1h:5m] offset 7d", "y[360000ms:30000ms] offset 60480000ms"),
        ("a:x:rate1m_median1h / 2", "a:x:rate1m_median1h / 2"),
        ("group_wait: 5s\n", "group_wait: 500ms\n"),
        ("{start_time: \"08:00\"} 127.0.0.1:9093 30 s 4xx", "{start_time: \"08:00\"} 127.0.0.1:9093 30 s 4xx"),
    ] {
        assert_eq!(shorten(long, 10.0), short);
    }
}
