//! What the live tests are made of: real servers, clients that keep their own count, our binary, and its metrics.
//! Everything that is started here ends with the value that started it.

pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod exporter;
pub(crate) mod load;
pub(crate) mod metrics;
pub(crate) mod pager;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod resp;
pub(crate) mod sentinel;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

/// Short against every duration that is judged, long against the cost of one look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `condition` holds and returns how long that took; panics with `what` after `within`.
pub(crate) async fn eventually(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        sleep(LOOK_EVERY).await;
    }
    start.elapsed()
}

/// Panics with `what` if `condition` fails at any look during `span`.
pub(crate) async fn throughout(what: &str, span: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < span {
        assert!(condition().await, "after {:?}: no longer true: {what}", start.elapsed());
        sleep(LOOK_EVERY).await;
    }
}

/// A port that was free a moment ago, and was not given before: a server may not have taken it yet.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// Unix seconds.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
