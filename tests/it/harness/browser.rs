//! A real browser: headless Chromium behind its own driver, asked by WebDriver.
//!
//! The few commands needed are written here. The crates for it bring a dozen packages, some of them twice or under
//! licences that the rest of the tree does without.
#![allow(
    clippy::disallowed_methods,
    reason = "every command waits for the browser; what it looks at has other threads"
)]

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::free_port;

/// A page that has not loaded by then, a script that has not ended.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// Starting takes long on a machine that is busy.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Nothing but the pages asked for: no updates, no reports, no names looked up elsewhere.
const ARGUMENTS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,900",
];

/// Keys that have no character.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const BACKSPACE: &str = "\u{e003}";

/// A running browser; ended when dropped.
pub(crate) struct Browser {
    driver: Child,
    agent: ureq::Agent,
    base: String,
    /// Settings and storage, its own and fresh.
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let (port, profile) = (free_port(), tempfile::tempdir().unwrap());
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // One group with the browser: both end together.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver must be installed (`make test` does that): {error}"));
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_TIME_MAX))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let mut browser = Self { driver, agent, base: format!("http://127.0.0.1:{port}"), _profile: profile };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < START_TIME_MAX, "chromedriver does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.command("/session", &wanted);
        browser.base = format!("{}/session/{}", browser.base, session["sessionId"].as_str().unwrap());
        browser
    }

    /// Loads a page and waits until it is there.
    pub(crate) fn open(&self, url: &str) {
        self.command("/url", &json!({"url": url}));
    }

    /// Runs the body of a function in the page: its value.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// As [`Browser::run`], for a script that ends by calling its last argument.
    pub(crate) fn run_async(&self, script: &str) -> Value {
        self.command("/execute/async", &json!({"script": script, "args": []}))
    }

    /// Waits until an expression is true in the page; panics with what it last was.
    pub(crate) fn until(&self, what: &str, within: Duration, expression: &str) -> Duration {
        let begun = Instant::now();
        loop {
            let value = self.run(&format!("return {expression}"));
            if value == true {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < within, "not within {within:?}: {what} ({expression} is {value})");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Text of the first element that the selector finds.
    pub(crate) fn text(&self, selector: &str) -> String {
        let value = self.run(&format!("return document.querySelector({}).innerText", json!(selector)));
        value.as_str().unwrap_or_else(|| panic!("no {selector}")).to_owned()
    }

    /// A click as a mouse makes it, on the first element that the selector finds.
    pub(crate) fn click(&self, selector: &str) {
        let found = self.command("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        self.command(&format!("/element/{id}/click"), &json!({}));
    }

    /// Keys pressed one after the other, wherever the focus is.
    pub(crate) fn press(&self, keys: &str) {
        let strokes = |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let strokes: Vec<Value> = keys.chars().flat_map(strokes).collect();
        self.command("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}));
    }

    /// What the system is said to prefer: `("prefers-color-scheme", "dark")`.
    pub(crate) fn prefer(&self, feature: &str, value: &str) {
        let features = json!({"features": [{"name": feature, "value": value}]});
        self.developer("Emulation.setEmulatedMedia", &features);
    }

    /// A screen of this width in CSS pixels.
    pub(crate) fn screen(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.developer("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// What has been written to the console since the last look, faults of the page and its policy among it.
    pub(crate) fn console(&self) -> Vec<String> {
        let lines = self.command("/se/log", &json!({"type": "browser"}));
        let lines = lines.as_array().unwrap().iter();
        lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn developer(&self, command: &str, parameters: &Value) {
        self.command("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    fn command(&self, path: &str, body: &Value) -> Value {
        let address = format!("{}{path}", self.base);
        let mut answer = self.agent.post(&address).send(body.to_string()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{path} {body:.200}: {text}", body = body.to_string());
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // In good order first: the browser then removes what it has left in places of its own.
        drop(self.agent.delete(&self.base).call());
        let group = format!("kill -s KILL -- -{}", self.driver.id());
        drop(Command::new("sh").args(["-c", &group]).stderr(Stdio::null()).status());
        drop(self.driver.wait());
    }
}
