//! From metric families to bytes: at most once per snapshot and second, off the async threads.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::Encoder as _;
use prometheus::TextEncoder;
use tokio::time::Instant;

use super::collector;
use super::own::OwnMetrics;
use crate::config::RedisMetrics;
use crate::publish::{FleetSnapshot, Publisher};

/// Type of the bodies: Prometheus 3 refuses a scrape without it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How old the process metrics in a body may be. Within it, and without a new round, scrapes share one body.
const MAX_AGE: Duration = Duration::from_secs(1);

/// One encoding of the fleet.
#[derive(Debug)]
pub struct Encoded {
    /// The text.
    pub plain: Bytes,
    /// The text, compressed at the fastest level: a higher one costs seven times the CPU for a seventh of the size.
    pub gzip: Bytes,
    generation: u64,
    redis: RedisMetrics,
    at: Instant,
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A family is not encodable: a fault of the program.
    #[error("encode metrics: {0}")]
    Format(#[from] prometheus::Error),
    /// Compression failed.
    #[error("compress metrics: {0}")]
    Compress(#[from] io::Error),
    /// The thread that encoded is gone: a panic, or the program ends.
    #[error("encode metrics: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Encodes what is published.
#[derive(Debug)]
pub struct Encoder {
    publisher: Arc<Publisher>,
    own: Arc<OwnMetrics>,
    redis: Arc<ArcSwap<RedisMetrics>>,
    latest: ArcSwapOption<Encoded>,
    /// Held while encoding. Taken on the blocking threads only, so that a scraper who hangs up
    /// does not let a second encoding start beside the one under way.
    flight: Mutex<()>,
}

impl Encoder {
    /// An encoder of what `publisher` publishes. `redis` may change at any time.
    #[must_use]
    pub fn new(publisher: Arc<Publisher>, own: Arc<OwnMetrics>, redis: Arc<ArcSwap<RedisMetrics>>) -> Self {
        Self { publisher, own, redis, latest: ArcSwapOption::empty(), flight: Mutex::new(()) }
    }

    /// The body of `/metrics` as of now.
    ///
    /// # Errors
    /// On a fault of the program only; the fleet's state cannot fail it.
    pub async fn encoded(self: &Arc<Self>) -> Result<Arc<Encoded>, EncodeError> {
        if let Some(fresh) = self.fresh(&self.publisher.fleet()) {
            return Ok(fresh);
        }
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || this.renew()).await?
    }

    fn fresh(&self, fleet: &FleetSnapshot) -> Option<Arc<Encoded>> {
        self.latest.load_full().filter(|latest| {
            latest.generation == fleet.generation
                && latest.redis == **self.redis.load()
                && latest.at.elapsed() < MAX_AGE
        })
    }

    fn renew(&self) -> Result<Arc<Encoded>, EncodeError> {
        let _flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken after the wait: whoever encoded meanwhile did it for us as well.
        let fleet = self.publisher.fleet();
        if let Some(fresh) = self.fresh(&fleet) {
            return Ok(fresh);
        }
        let redis = **self.redis.load();
        let size = self.latest.load().as_ref().map_or(0, |latest| latest.plain.len() + latest.plain.len() / 8);
        let plain = encode(&fleet, redis, &self.own, size)?;
        let gzip = compress(&plain)?;
        let encoded = Arc::new(Encoded {
            plain: plain.into(),
            gzip: gzip.into(),
            generation: fleet.generation,
            redis,
            at: Instant::now(),
        });
        self.latest.store(Some(Arc::clone(&encoded)));
        Ok(encoded)
    }
}

fn encode(
    fleet: &FleetSnapshot,
    redis: RedisMetrics,
    own: &OwnMetrics,
    size_bytes: usize,
) -> Result<Vec<u8>, prometheus::Error> {
    let encoder = TextEncoder::new();
    let mut body = Vec::with_capacity(size_bytes);
    for family in collector::families(fleet, redis) {
        encoder.encode(&[family], &mut body)?;
    }
    encoder.encode(&own.gather(), &mut body)?;
    Ok(body)
}

fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 6), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::publish::fixture;

    fn encoder() -> (Arc<Publisher>, Arc<Encoder>) {
        let publisher = Arc::new(fixture::publisher());
        let own = Arc::new(OwnMetrics::new(1.0).unwrap());
        let redis = Arc::new(ArcSwap::from_pointee(RedisMetrics::Core));
        (Arc::clone(&publisher), Arc::new(Encoder::new(publisher, own, redis)))
    }

    #[tokio::test]
    async fn both_bodies_hold_the_same_text_without_duplicates() {
        let encoded = encoder().1.encoded().await.unwrap();
        let mut unzipped = Vec::new();
        flate2::read::GzDecoder::new(&*encoded.gzip).read_to_end(&mut unzipped).unwrap();
        assert_eq!(unzipped, encoded.plain);
        let text = std::str::from_utf8(&encoded.plain).unwrap();
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with("# HELP")) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series), "{series} twice");
            assert!(line.starts_with('#') || value.parse::<f64>().unwrap().is_finite(), "{line}");
        }
        for own in ["cache_storm_exporter_build_info{", "process_resident_memory_bytes "] {
            assert!(text.contains(own), "{own}");
        }
    }

    #[tokio::test]
    async fn scrapes_of_one_snapshot_share_a_body() {
        tokio::time::pause();
        let (publisher, encoder) = encoder();
        let first = encoder.encoded().await.unwrap();
        assert!(Arc::ptr_eq(&first, &encoder.encoded().await.unwrap()));
        publisher.publish(fixture::cache("catalog"));
        let second = encoder.encoded().await.unwrap();
        assert!(!Arc::ptr_eq(&first, &second), "a new round is seen at once");
        tokio::time::advance(MAX_AGE).await;
        assert!(!Arc::ptr_eq(&second, &encoder.encoded().await.unwrap()), "process metrics grow old");
        encoder.redis.store(Arc::new(RedisMetrics::Off));
        let without = encoder.encoded().await.unwrap();
        assert!(!std::str::from_utf8(&without.plain).unwrap().contains("redis_up"), "a reload is seen at once");
    }

    #[tokio::test]
    async fn promtool_finds_nothing() {
        let encoded = encoder().1.encoded().await.unwrap();
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is needed: install the package prometheus");
        promtool.stdin.take().unwrap().write_all(&encoded.plain).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
