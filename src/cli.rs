//! The command line: what can be typed, and what it means.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use humantime_serde::re::humantime;
use secrecy::{ExposeSecret, SecretString};

use crate::config::{self, Overrides};
use crate::exit::ExitStatus;
use crate::sim::schedule::Program;

/// Sees cache miss storms on Redis and Valkey fleets, names their type and shows the evidence.
#[derive(Debug, Parser)]
#[command(name = "cache-storm-exporter", version, propagate_version = true, args_conflicts_with_subcommands = true)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    /// Without a command: `serve`.
    #[command(flatten)]
    serve: ServeArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Poll the configured caches and serve metrics (the default)
    Serve(ServeArgs),
    /// Show storms on an embedded fleet, without any Redis
    Demo(DemoArgs),
    /// Check configuration, connectivity and permissions, node by node
    Check(CheckArgs),
    /// Print who is affected, by what and how badly; the exit code is the severity, 0 to 3
    Report(ReportArgs),
    /// Print the keys that carry a node's load, from a short, safe watch or from a MONITOR capture
    Hotkeys(HotKeysArgs),
    /// Judge recorded INFO samples with the very same detector
    Replay(ReplayArgs),
}

impl Command {
    /// The options that every command has.
    #[must_use]
    pub fn common(&self) -> &Common {
        match self {
            Self::Serve(args) => &args.common,
            Self::Demo(args) => &args.common,
            Self::Check(args) => &args.common,
            Self::Report(args) => &args.common,
            Self::Hotkeys(args) => &args.common,
            Self::Replay(args) => &args.common,
        }
    }
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Configuration, .yaml or .toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Format of the log on stderr; its level is that of CACHE_STORM_LOG or RUST_LOG (default info)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

/// Options of commands that serve HTTP.
#[derive(Debug, Clone, Args)]
pub struct Web {
    /// Where to serve (default 0.0.0.0:9736)
    #[arg(long, value_name = "HOST:PORT", value_parser = listen)]
    pub listen: Option<SocketAddr>,
    /// Allow POST /-/reload
    #[arg(long = "web.enable-lifecycle")]
    pub enable_lifecycle: bool,
}

/// Nodes named on the command line.
#[derive(Debug, Clone, Args)]
pub struct Targets {
    // Taken by clap as it is and checked with the configuration: clap's errors would print a password.
    /// A node to watch, redis://HOST:PORT or redis://USER:PASSWORD@HOST:PORT, as cache `default` instead of the
    /// configured caches; may be repeated
    #[arg(long, value_name = "URL", value_parser = |url: &str| Ok::<_, Infallible>(SecretString::from(url)))]
    pub redis: Vec<SecretString>,
}

/// Arguments of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// HTTP options.
    #[command(flatten)]
    pub web: Web,
    /// Nodes instead of the configured ones.
    #[command(flatten)]
    pub targets: Targets,
}

/// Arguments of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// HTTP options.
    #[command(flatten)]
    pub web: Web,
    /// Which storms break out: cycle (all types in turn), none, or one type such as mass_expiration
    #[arg(long, value_name = "STORM", default_value = "cycle")]
    pub storm: Program,
    /// Time until the first storm
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub first_storm: Duration,
    /// Time from one storm to the next
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub every: Duration,
    /// Nodes of each embedded cache
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub nodes_per_cache: u16,
    /// Seed of the embedded traffic; the same seed gives the same traffic
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// Nodes instead of the configured ones.
    #[command(flatten)]
    pub targets: Targets,
    /// Ask this running exporter whether it is ready, instead of the nodes: for container health checks
    #[arg(long, value_name = "URL", conflicts_with = "redis")]
    pub url: Option<String>,
}

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// Nodes instead of the configured ones.
    #[command(flatten)]
    pub targets: Targets,
    /// Ask this running exporter; without it, sample the nodes here and give a provisional verdict
    #[arg(long, value_name = "URL", conflicts_with_all = ["sample_for", "redis"])]
    pub url: Option<String>,
    /// How long to sample
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub sample_for: Duration,
    /// Format of the report
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: ReportFormat,
}

/// Format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A table for people
    Table,
    /// The document of /api/v1/report
    Json,
}

/// Arguments of `hotkeys`.
#[derive(Debug, Clone, Args)]
#[group(id = "source", required = true, multiple = false, args = ["node", "from_file"])]
pub struct HotKeysArgs {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// Watch this node: redis://HOST:PORT, redis://USER:PASSWORD@HOST:PORT, or HOST:PORT of a configured one. It is
    /// watched by MONITOR, at most one second in five and never where that could harm it
    #[arg(long, value_name = "URL", value_parser = |url: &str| Ok::<_, Infallible>(SecretString::from(url)))]
    pub node: Option<SecretString>,
    /// Read this capture of MONITOR, plain or gzip; - is standard input
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// How long to watch; Ctrl-C ends it early
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, conflicts_with = "from_file")]
    pub duration: Duration,
    /// Format of the result
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: HotKeysFormat,
}

/// Format of what is hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HotKeysFormat {
    /// Tables for people
    Table,
    /// A document
    Json,
    /// Rows of keys, patterns and commands
    Csv,
}

/// Arguments of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Common options.
    #[command(flatten)]
    pub common: Common,
    /// Divide every duration of the detector by this; the samples stay as recorded (default: the
    /// configuration's, 1)
    #[arg(long, value_name = "S", value_parser = positive)]
    pub time_scale: Option<f64>,
    /// Use only samples at least this many seconds apart
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub every: Option<f64>,
    /// Recorded samples, CSV; each file is one cache named after it
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

impl Command {
    /// What the flags say over file and environment.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let (listen, redis) = match self {
            Self::Serve(args) => (args.web.listen, args.targets.redis.clone()),
            Self::Demo(args) => (args.web.listen, Vec::new()),
            Self::Check(args) => (None, args.targets.redis.clone()),
            Self::Report(args) => (None, args.targets.redis.clone()),
            // One without a scheme is looked for among the configured nodes.
            Self::Hotkeys(args) => {
                let urls = args.node.iter().filter(|node| node.expose_secret().contains("://"));
                (None, urls.cloned().collect())
            }
            Self::Replay(_) => (None, Vec::new()),
        };
        Overrides { listen, redis }
    }
}

/// A command line that asks for no command: help, version, or a mistake.
#[derive(Debug)]
pub struct Refusal(clap::Error);

/// Reads a command line, program name first.
///
/// # Errors
/// What to print instead of running a command.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Command, Refusal> {
    let line = Line::try_parse_from(line).map_err(Refusal)?;
    Ok(line.command.unwrap_or(Command::Serve(line.serve)))
}

impl Refusal {
    /// Help and version are what was asked for; all else is a mistake.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        if self.0.use_stderr() { ExitStatus::Usage } else { ExitStatus::Fine }
    }

    /// Prints help to stdout, mistakes to stderr. A reader that has gone away is no failure of ours.
    pub fn print(&self) {
        if self.0.use_stderr() {
            let text = without_userinfo(&self.0.render().to_string());
            drop(std::io::stderr().lock().write_all(text.as_bytes()));
        } else {
            drop(self.0.print());
        }
    }
}

/// clap quotes what it does not understand; a misplaced URL must not take its password along.
fn without_userinfo(text: &str) -> String {
    let line = |line: &str| match (line.find("://"), line.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://***{}", &line[..scheme], &line[at..]),
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a duration with its unit such as 5s or 1m30s".to_owned())
}

fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    config::listen_address(text).ok_or("expected HOST:PORT such as 127.0.0.1:9736 or localhost:9736")
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StormType;

    fn read(line: &str) -> Result<Command, Refusal> {
        parse(format!("cache-storm-exporter {line}").split_whitespace().map(OsString::from))
    }

    fn mistake(line: &str) -> String {
        let refusal = read(line).expect_err(line);
        assert_eq!(refusal.status(), ExitStatus::Usage, "{line}");
        without_userinfo(&refusal.0.render().to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Line::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default() {
        for line in ["", "serve"] {
            let Ok(Command::Serve(args)) = read(line) else { panic!("{line}") };
            assert_eq!(args.common.log_format, LogFormat::Text);
            assert!(args.web.listen.is_none() && !args.web.enable_lifecycle);
        }
        let flags = "--config a.yaml --listen [::1]:9000 --web.enable-lifecycle --log-format json --redis redis://a";
        for line in [flags.to_owned(), format!("serve {flags}")] {
            let command = read(&line).unwrap();
            assert_eq!(command.common().config, Some(PathBuf::from("a.yaml")));
            assert_eq!(command.common().log_format, LogFormat::Json);
            let overrides = command.overrides();
            assert_eq!(overrides.listen, "[::1]:9000".parse().ok());
            assert_eq!(overrides.redis[0].expose_secret(), "redis://a");
        }
    }

    #[test]
    fn demo_has_the_documented_defaults() {
        let Ok(Command::Demo(args)) = read("demo") else { panic!() };
        assert_eq!(args.storm, Program::Cycle);
        assert_eq!((args.first_storm, args.every), (Duration::from_secs(20), Duration::from_secs(60)));
        assert_eq!(args.nodes_per_cache, 3);
        let Ok(Command::Demo(args)) = read("demo --storm hot_key --every 2m --listen 127.0.0.1:0") else { panic!() };
        assert_eq!((args.storm, args.every), (Program::Only(StormType::HotKey), Duration::from_secs(120)));
        assert!(mistake("demo --storm weather").contains("expected cycle, none or one of failover_cascade"));
        assert!(mistake("demo --every 60").contains("such as 5s"));
    }

    #[test]
    fn report_asks_or_samples() {
        let Ok(Command::Report(args)) = read("report --for 30s --format json") else { panic!() };
        assert_eq!((args.sample_for, args.format, args.url), (Duration::from_secs(30), ReportFormat::Json, None));
        let Ok(Command::Report(args)) = read("report --url http://exporter:9736") else { panic!() };
        assert_eq!(args.url.as_deref(), Some("http://exporter:9736"));
        mistake("report --url http://exporter:9736 --for 30s");
    }

    #[test]
    fn replay_takes_files() {
        let Ok(Command::Replay(args)) = read("replay --time-scale 10 --every 0.5 a.csv b.csv") else { panic!() };
        assert_eq!((args.time_scale, args.every, args.files.len()), (Some(10.0), Some(0.5), 2));
        for line in ["replay", "replay --time-scale 0 a.csv", "replay --every inf a.csv"] {
            mistake(line);
        }
    }

    #[test]
    fn hotkeys_watches_a_node_or_reads_a_file() {
        let Ok(Command::Hotkeys(args)) = read("hotkeys --node redis://h:1 --duration 10s --format csv") else {
            panic!()
        };
        assert_eq!((args.duration, args.format, args.from_file), (Duration::from_secs(10), HotKeysFormat::Csv, None));
        let command = read("hotkeys --node redis://:hunter2@h").unwrap();
        assert!(command.overrides().redis.len() == 1 && !format!("{command:?}").contains("hunter2"));
        assert!(read("hotkeys --node h:1").unwrap().overrides().redis.is_empty());
        let Ok(Command::Hotkeys(args)) = read("hotkeys --from-file -") else { panic!() };
        assert_eq!((args.from_file, args.format), (Some(PathBuf::from("-")), HotKeysFormat::Table));
        for line in ["hotkeys", "hotkeys --node h --from-file f", "hotkeys --from-file f --duration 5s"] {
            mistake(line);
        }
    }

    #[test]
    fn every_command_has_help_version_and_the_common_options() {
        for command in ["", "serve", "demo", "check", "report", "hotkeys", "replay"] {
            for flag in ["--help", "--version"] {
                let refusal = read(&format!("{command} {flag}")).unwrap_err();
                assert_eq!(refusal.status(), ExitStatus::Fine, "{command} {flag}");
            }
            read(&format!(
                "{command} --config a.toml --log-format json {}",
                match command {
                    "replay" => "f",
                    "hotkeys" => "--from-file f",
                    _ => "",
                }
            ))
            .unwrap();
        }
    }

    #[test]
    fn mistakes_do_not_show_passwords() {
        for line in ["redis://:hunter2@h", "serve redis://u:hunter2@h", "demo --redis=redis://:hunter2@h"] {
            let text = mistake(line);
            assert!(!text.contains("hunter2"), "{text}");
        }
        let command = read("check --redis redis://:hunter2@h").unwrap();
        assert!(!format!("{command:?}").contains("hunter2"));
    }
}
