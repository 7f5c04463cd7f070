//! The log: one line per event on stderr, as text or as JSON.

use std::io::{IsTerminal, stderr};
use std::panic;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::LogFormat;

/// Variables that may hold the level, the first that is set wins: `debug`, or directives such as
/// `info,cache_storm_exporter::poll=debug`.
const VARIABLES: [&str; 2] = ["CACHE_STORM_LOG", "RUST_LOG"];

const DEFAULT_LEVEL: &str = "info";

const EXPECTED: &str = "off, error, warn, info, debug or trace, for a part of the program \
    cache_storm_exporter::PART=LEVEL, several of them with commas between";

/// Starts logging for the whole process; a second call changes nothing.
pub fn init(format: LogFormat) {
    let written = VARIABLES
        .iter()
        .filter_map(|variable| Some((variable, std::env::var(variable).ok()?)))
        .find(|(_, directives)| !directives.is_empty());
    let (filter, refused) = match written {
        Some((variable, directives)) => match filter(&directives) {
            Ok(filter) => (filter, None),
            Err(found) => (EnvFilter::new(DEFAULT_LEVEL), Some((variable, found))),
        },
        None => (EnvFilter::new(DEFAULT_LEVEL), None),
    };
    if tracing::subscriber::set_global_default(subscriber(format, filter, stderr().is_terminal(), stderr)).is_err() {
        return;
    }
    log_panics();
    if let Some((variable, found)) = refused {
        tracing::warn!(%variable, ?found, "log level not understood, using {DEFAULT_LEVEL}; expected {EXPECTED}");
    }
}

/// What the directives ask for, and the default level of whatever they do not speak of.
///
/// # Errors
/// The directive that is not understood. `EnvFilter` would take any word for the name of a target and turn all others
/// off: one slip in the level, and the log is silent.
fn filter(directives: &str) -> Result<EnvFilter, String> {
    let mut written = vec![DEFAULT_LEVEL];
    written.extend(directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()));
    match written.iter().find(|directive| !understood(directive)) {
        Some(odd) => Err((*odd).to_owned()),
        None => EnvFilter::try_new(written.join(",")).map_err(|_| directives.to_owned()),
    }
}

/// `LEVEL`, `TARGET=LEVEL`, or a part of this program, of which everything is shown then.
fn understood(directive: &str) -> bool {
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    match directive.rsplit_once('=') {
        Some((_, level)) => is_level(level),
        None => is_level(directive) || directive.split("::").next() == Some(env!("CARGO_CRATE_NAME")),
    }
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, ansi: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(ansi).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

/// A panic is one event like any other: its usual several lines would break a log of JSON objects.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or(payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(location, backtrace = %backtrace, "panic: {message}");
    }));
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, events: impl FnOnce()) -> Vec<String> {
        filtered(format, EnvFilter::new("info"), events)
    }

    fn filtered(format: LogFormat, filter: EnvFilter, events: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn json_is_one_object_per_line() {
        let lines = logged(LogFormat::Json, || {
            tracing::warn!(cache = "sessions", "two\nlines");
            tracing::debug!("below the level");
            tracing::info!("next");
        });
        assert_eq!(lines.len(), 2);
        let event: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((&event["level"], &event["message"]), (&"WARN".into(), &"two\nlines".into()));
        assert_eq!(event["cache"], "sessions");
    }

    #[test]
    fn text_is_plain_away_from_a_terminal() {
        let lines = logged(LogFormat::Text, || tracing::info!(node = "10.0.0.1:6379", "node is up"));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(" INFO ") && lines[0].ends_with("node is up node=\"10.0.0.1:6379\""), "{}", lines[0]);
        assert!(!lines[0].contains('\u{1b}'));
    }

    #[test]
    fn a_level_for_a_part_leaves_the_others_at_info() {
        for (directives, expected) in [
            ("cache_storm_exporter::poll=trace", "poll trace, poll info, other info"),
            ("cache_storm_exporter::poll", "poll trace, poll info, other info"),
            ("WARN, cache_storm_exporter::poll=Info", "poll info"),
            ("debug,cache_storm_exporter::poll=off", "other debug, other info"),
            (" , ", "poll info, other info"),
            ("off", ""),
        ] {
            let lines = filtered(LogFormat::Text, filter(directives).unwrap(), || {
                tracing::trace!(target: "cache_storm_exporter::poll", "poll trace");
                tracing::info!(target: "cache_storm_exporter::poll", "poll info");
                tracing::debug!(target: "other", "other debug");
                tracing::info!(target: "other", "other info");
            });
            let said: Vec<&str> = lines.iter().map(|line| line.rsplit_once(": ").unwrap().1).collect();
            assert_eq!(said.join(", "), expected, "{directives}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for (directives, odd) in [
            ("warning", "warning"),
            ("inof", "inof"),
            ("info,err", "err"),
            ("bogus=,,x", "bogus="),
            ("debug,hyper", "hyper"),
            ("cache_storm_exporters", "cache_storm_exporters"),
            ("cache_storm_exporter::poll=tarce", "cache_storm_exporter::poll=tarce"),
        ] {
            assert_eq!(filter(directives).err().as_deref(), Some(odd), "{directives}");
        }
    }
}
