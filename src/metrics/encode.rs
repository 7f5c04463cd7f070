//! From the snapshot to bytes: written and compressed once per snapshot, off the async threads.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};
use prometheus::Encoder as _;
use prometheus::TextEncoder;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::own::OwnMetrics;
use super::text::{self, Selection};
use crate::config::RedisMetrics;
use crate::publish::{FleetSnapshot, NodeSnapshot, Publisher};

/// Type of the bodies: Prometheus 3 refuses a scrape without it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How old the exporter's own metrics in a body may be. Within it, and without a new round, scrapes share one body.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The head of a gzip stream: no name, no time, fastest compression, unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// One body, in parts that follow each other: what every scrape of a snapshot shares, and the exporter's own metrics
/// behind it, which are of the moment.
#[derive(Debug)]
pub struct Encoded {
    /// The text.
    pub plain: Vec<Bytes>,
    /// The text, compressed at the fastest level: a higher one costs seven times the CPU for a seventh of the size.
    pub gzip: Vec<Bytes>,
    at: Instant,
}

/// The fleet as of one snapshot.
#[derive(Debug)]
struct FleetBody {
    plain: Bytes,
    /// The head of a gzip stream and the text as deflated blocks that end on a whole byte, to be gone on with.
    gzip: Bytes,
    crc: Crc,
    generation: u64,
    selection: Selection,
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
    latest: ArcSwapOption<(Arc<FleetBody>, Encoded)>,
    /// Held while encoding, by the work itself: a scraper who hangs up does not let a second encoding start beside
    /// the one under way, and those who wait hold no thread.
    flight: Arc<Mutex<()>>,
}

impl Encoder {
    /// An encoder of what `publisher` publishes. `redis` may change at any time.
    #[must_use]
    pub fn new(publisher: Arc<Publisher>, own: Arc<OwnMetrics>, redis: Arc<ArcSwap<RedisMetrics>>) -> Self {
        Self { publisher, own, redis, latest: ArcSwapOption::empty(), flight: Arc::default() }
    }

    /// Which `redis_*` families are configured.
    #[must_use]
    pub fn redis(&self) -> RedisMetrics {
        **self.redis.load()
    }

    /// The body of `/metrics` as of now: (text, compressed).
    ///
    /// # Errors
    /// On a fault of the program only; the fleet's state cannot fail it.
    pub async fn encoded(self: &Arc<Self>) -> Result<[Vec<Bytes>; 2], EncodeError> {
        if let Some(fresh) = self.fresh(&self.publisher.fleet()) {
            return Ok(fresh);
        }
        let flight = Arc::clone(&self.flight).lock_owned().await;
        // Whoever encoded meanwhile did it for us as well.
        let fleet = self.publisher.fleet();
        if let Some(fresh) = self.fresh(&fleet) {
            return Ok(fresh);
        }
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _flight = flight;
            this.renew(&fleet)
        })
        .await?
    }

    /// A body with a part of the fleet, made for this request alone.
    ///
    /// # Errors
    /// As [`Encoder::encoded`].
    pub async fn selected(self: &Arc<Self>, selection: Selection) -> Result<[Vec<Bytes>; 2], EncodeError> {
        let flight = Arc::clone(&self.flight).lock_owned().await;
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _flight = flight;
            let own = selection.exporter;
            let body = FleetBody::new(&this.publisher.fleet(), selection, 0)?;
            let Encoded { plain, gzip, .. } = this.complete(&body, own)?;
            Ok([plain, gzip])
        })
        .await?
    }

    fn fresh(&self, fleet: &FleetSnapshot) -> Option<[Vec<Bytes>; 2]> {
        let latest = self.latest.load();
        let (body, encoded) = &**latest.as_ref()?;
        let fresh = body.serves(fleet, self.redis()) && encoded.at.elapsed() < MAX_AGE;
        fresh.then(|| [encoded.plain.clone(), encoded.gzip.clone()])
    }

    fn renew(&self, fleet: &FleetSnapshot) -> Result<[Vec<Bytes>; 2], EncodeError> {
        let (latest, redis) = (self.latest.load_full(), self.redis());
        let body = match latest.as_deref() {
            Some((body, _)) if body.serves(fleet, redis) => Arc::clone(body),
            before => {
                let size = before.map_or(0, |(body, _)| body.plain.len() + body.plain.len() / 8);
                Arc::new(FleetBody::new(fleet, Selection::all(redis), size)?)
            }
        };
        let encoded = self.complete(&body, true)?;
        let bodies = [encoded.plain.clone(), encoded.gzip.clone()];
        self.latest.store(Some(Arc::new((body, encoded))));
        Ok(bodies)
    }

    /// The fleet's part with the end of both bodies; `own`: the exporter's own metrics before it.
    fn complete(&self, body: &FleetBody, own: bool) -> Result<Encoded, EncodeError> {
        let mut tail = Vec::new();
        if own {
            TextEncoder::new().encode(&self.own.gather(), &mut tail)?;
        }
        let (mut crc, mut tail_crc) = (Crc::new(), Crc::new());
        tail_crc.update(&tail);
        crc.combine(&body.crc);
        crc.combine(&tail_crc);
        let mut end = Vec::with_capacity(tail.len() / 2 + 64);
        deflate(&tail, FlushCompress::Finish, &mut end)?;
        end.extend_from_slice(&crc.sum().to_le_bytes());
        end.extend_from_slice(&crc.amount().to_le_bytes());
        Ok(Encoded {
            plain: vec![body.plain.clone(), tail.into()],
            gzip: vec![body.gzip.clone(), end.into()],
            at: Instant::now(),
        })
    }
}

impl FleetBody {
    fn new(fleet: &FleetSnapshot, selection: Selection, size_bytes: usize) -> Result<Self, EncodeError> {
        let mut plain = Vec::with_capacity(size_bytes);
        text::write_fleet(fleet, &selection, &mut plain);
        let mut crc = Crc::new();
        crc.update(&plain);
        let mut gzip = Vec::with_capacity(plain.len() / 6 + 64);
        gzip.extend_from_slice(&GZIP_HEAD);
        deflate(&plain, FlushCompress::Sync, &mut gzip)?;
        Ok(Self { plain: plain.into(), gzip: gzip.into(), crc, generation: fleet.generation, selection })
    }

    fn serves(&self, fleet: &FleetSnapshot, redis: RedisMetrics) -> bool {
        self.generation == fleet.generation && self.selection.redis == redis
    }
}

/// The drop-in metrics of one node.
///
/// # Errors
/// Should compression fail: a fault of the program.
pub fn node_body(node: &NodeSnapshot, compressed: bool) -> Result<Bytes, EncodeError> {
    let plain = text::node_text(node);
    if !compressed {
        return Ok(plain.into());
    }
    let mut crc = Crc::new();
    crc.update(&plain);
    let mut gzip = Vec::with_capacity(plain.len() / 5 + 64);
    gzip.extend_from_slice(&GZIP_HEAD);
    deflate(&plain, FlushCompress::Finish, &mut gzip)?;
    gzip.extend_from_slice(&crc.sum().to_le_bytes());
    gzip.extend_from_slice(&crc.amount().to_le_bytes());
    Ok(gzip.into())
}

/// Appends `plain` as deflated blocks. They refer to nothing before them, so that blocks made apart can be put
/// together.
fn deflate(plain: &[u8], end: FlushCompress, out: &mut Vec<u8>) -> io::Result<()> {
    let mut compress = Compress::new(Compression::fast(), false);
    loop {
        out.reserve((plain.len() / 8).max(4 << 10));
        let taken = compress.total_in() as usize;
        let room = out.capacity() - out.len();
        let before = out.len();
        compress.compress_vec(&plain[taken..], out, end).map_err(io::Error::other)?;
        // Room left over: nothing more is to come.
        if compress.total_in() as usize == plain.len() && out.len() - before < room {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::publish::fixture;

    fn encoder() -> (Arc<Publisher>, Arc<Encoder>) {
        let publisher = Arc::new(fixture::publisher());
        let own = Arc::new(OwnMetrics::new(1.0).unwrap());
        let redis = Arc::new(ArcSwap::from_pointee(RedisMetrics::Core));
        (Arc::clone(&publisher), Arc::new(Encoder::new(publisher, own, redis)))
    }

    fn unzipped(gzip: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::bufread::GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
        plain
    }

    #[tokio::test]
    async fn both_bodies_hold_the_same_text_without_duplicates() {
        let [plain, gzip] = encoder().1.encoded().await.unwrap().map(|parts| parts.concat());
        // One member, as all decoders read it, those that stop after the first among them.
        assert_eq!(unzipped(&gzip), plain);
        let text = std::str::from_utf8(&plain).unwrap();
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
        let parts = async || {
            let [plain, gzip] = encoder.encoded().await.unwrap();
            [plain[0].as_ptr(), gzip[0].as_ptr(), plain[1].as_ptr()]
        };
        let first = parts().await;
        assert_eq!(first, parts().await);
        publisher.publish(fixture::cache("catalog"));
        let second = parts().await;
        assert_ne!(first[0], second[0], "a new round is seen at once");
        tokio::time::advance(MAX_AGE).await;
        let third = parts().await;
        assert_ne!(second[2], third[2], "process metrics grow old");
        assert_eq!(second[..2], third[..2], "the fleet is not encoded again for them");
        encoder.redis.store(Arc::new(RedisMetrics::Off));
        let [plain, _] = encoder.encoded().await.unwrap();
        assert!(!String::from_utf8(plain.concat()).unwrap().contains("redis_up"), "a reload is seen at once");
    }

    #[tokio::test]
    async fn promtool_finds_nothing() {
        let (publisher, encoder) = encoder();
        let fleet = publisher.fleet();
        let node = node_body(fleet.node("10.0.0.2:6379").unwrap(), false).unwrap();
        let [plain, _] = encoder.encoded().await.unwrap();
        let (status, said) = lint(&plain.concat());
        assert!(status == Some(0) && said.is_empty(), "{said}");
        // The names of others break conventions; their text is well formed all the same.
        assert_ne!(lint(&node).0, Some(1));
    }

    fn lint(body: &[u8]) -> (Option<i32>, String) {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool is needed: install the package prometheus");
        promtool.stdin.take().unwrap().write_all(body).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said.into_owned())
    }
}
