//! Integration tests: the built binary against real servers, and the rules of the repository.
#![allow(clippy::unwrap_used, reason = "a test stops where its premise fails")]
#![allow(clippy::print_stderr, reason = "the runner shows it beside a failure")]

mod alerts;
mod browser;
mod captures;
mod commands;
mod dashboards;
mod dropin;
mod harness;
mod hotkeys;
mod live;
mod readme;
mod recordings;
mod replay;
mod tidy;
