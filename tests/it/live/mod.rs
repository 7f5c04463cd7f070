//! The built binary against real servers under load.
//!
//! Durations: a test that sets `time_scale: S` judges every duration of the detector divided by S.

mod dashboards;
mod demo;
mod discovery;
mod encrypted;
mod faults;
mod hang;
mod hotkeys;
mod http;
mod pager;
mod permissions;
mod quiet;
mod reload;
mod restart;
mod rules;
mod secrets;
mod shards;
mod signals;
mod storms;
mod topology;
