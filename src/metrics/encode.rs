//! From the snapshot to bytes: written and compressed once per snapshot, off the async threads, by two threads if the
//! fleet is large.

use std::cell::RefCell;
use std::io::{self, Read as _};
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use flate2::bufread::DeflateDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress};
use prometheus::Encoder as _;
use prometheus::TextEncoder;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::own::OwnMetrics;
use super::text::{FleetText, NodeText, PIECE, Row, Selection};
use crate::config::RedisMetrics;
use crate::publish::snapshot::{Deflated, SteadyPart};
use crate::publish::{FleetSnapshot, NodeSnapshot, Publisher};

/// Type of the bodies: Prometheus 3 refuses a scrape without it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How old the exporter's own metrics in a body may be. Within it, and without a new round, scrapes share one body.
const MAX_AGE: Duration = Duration::from_secs(1);

/// The head of a gzip stream: no name, no time, fastest compression, unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// Families that are written and compressed together where the work is shared: enough of them to keep two threads
/// busy to the end, few enough that what each compression costs by itself does not count.
const ROWS_PER_PART: usize = 8;

/// From so many nodes on it is: below, a second thread costs more than it saves.
const SHARED_FROM_NODES: usize = 100;

/// What every scrape of a snapshot shares, and the exporter's own metrics behind it, which are of the moment.
#[derive(Debug)]
struct Encoded {
    fleet: Arc<FleetBody>,
    own: Bytes,
    /// Both compressed at the fastest level: a higher one costs seven times the CPU for a seventh of the size.
    gzip: Vec<Bytes>,
    at: Instant,
}

/// The fleet as of one snapshot, in parts that follow each other.
#[derive(Debug)]
struct FleetBody {
    parts: Vec<Deflated>,
    /// The text of the parts, which is ten times larger: made when first asked for. Prometheus never does.
    plain: OnceLock<Vec<Bytes>>,
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
    latest: ArcSwapOption<Encoded>,
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

    /// The body of `/metrics` as of now, in parts that follow each other, compressed or as text.
    ///
    /// # Errors
    /// On a fault of the program only; the fleet's state cannot fail it.
    pub async fn encoded(self: &Arc<Self>, compressed: bool) -> Result<Vec<Bytes>, EncodeError> {
        if let Some(fresh) = self.fresh(&self.publisher.fleet(), compressed) {
            return Ok(fresh);
        }
        let flight = Arc::clone(&self.flight).lock_owned().await;
        // Whoever encoded meanwhile did it for us as well.
        let fleet = self.publisher.fleet();
        if let Some(fresh) = self.fresh(&fleet, compressed) {
            return Ok(fresh);
        }
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _flight = flight;
            this.renew(&fleet, compressed)
        })
        .await?
    }

    /// A body with a part of the fleet, made for this request alone.
    ///
    /// # Errors
    /// As [`Encoder::encoded`].
    pub async fn selected(self: &Arc<Self>, selection: Selection, compressed: bool) -> Result<Vec<Bytes>, EncodeError> {
        let flight = Arc::clone(&self.flight).lock_owned().await;
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _flight = flight;
            let own = selection.exporter;
            let fleet = FleetBody::new(&this.publisher.fleet(), selection)?;
            this.complete(Arc::new(fleet), own)?.body(compressed)
        })
        .await?
    }

    fn fresh(&self, fleet: &FleetSnapshot, compressed: bool) -> Option<Vec<Bytes>> {
        let latest = self.latest.load();
        let encoded = latest.as_ref().filter(|encoded| encoded.fleet.serves(fleet, self.redis()))?;
        let at_hand = compressed || encoded.fleet.plain.get().is_some();
        if at_hand && encoded.at.elapsed() < MAX_AGE { encoded.body(compressed).ok() } else { None }
    }

    fn renew(&self, fleet: &FleetSnapshot, compressed: bool) -> Result<Vec<Bytes>, EncodeError> {
        let (latest, redis) = (self.latest.load_full(), self.redis());
        let body = match latest {
            Some(latest) if latest.fleet.serves(fleet, redis) => Arc::clone(&latest.fleet),
            _ => Arc::new(FleetBody::new(fleet, Selection::all(redis))?),
        };
        let encoded = self.complete(body, true)?;
        let body = encoded.body(compressed)?;
        self.latest.store(Some(Arc::new(encoded)));
        Ok(body)
    }

    /// The fleet's part with the end of the body; `own`: the exporter's own metrics before it.
    fn complete(&self, fleet: Arc<FleetBody>, own: bool) -> Result<Encoded, EncodeError> {
        let mut text = Vec::new();
        if own {
            TextEncoder::new().encode(&self.own.gather(), &mut text)?;
        }
        let end = deflate(FlushCompress::Finish, |add| add(&text))?;
        let gzip = gzip(fleet.parts.iter().chain([&end]));
        Ok(Encoded { fleet, own: text.into(), gzip, at: Instant::now() })
    }
}

impl Encoded {
    fn body(&self, compressed: bool) -> Result<Vec<Bytes>, EncodeError> {
        if compressed {
            return Ok(self.gzip.clone());
        }
        let mut body = self.fleet.plain()?.to_vec();
        body.push(self.own.clone());
        Ok(body)
    }
}

impl FleetBody {
    fn new(fleet: &FleetSnapshot, selection: Selection) -> Result<Self, EncodeError> {
        let text = FleetText::new(fleet, &selection);
        let parts = if text.nodes() < SHARED_FROM_NODES { vec![part(&text, &text.rows)?] } else { shared(&text)? };
        Ok(Self { parts, plain: OnceLock::new(), generation: fleet.generation, selection })
    }

    fn serves(&self, fleet: &FleetSnapshot, redis: RedisMetrics) -> bool {
        self.generation == fleet.generation && self.selection.redis == redis
    }

    /// The text. Made again by every thread that comes before the first is ready: callers hold the flight.
    fn plain(&self) -> io::Result<&[Bytes]> {
        if let Some(made) = self.plain.get() {
            return Ok(made);
        }
        let made = self.parts.iter().map(inflate).collect::<io::Result<_>>()?;
        Ok(self.plain.get_or_init(|| made))
    }
}

/// The families of these rows, compressed as they are written: never is there much of them as text.
fn part(text: &FleetText<'_>, rows: &[Row]) -> io::Result<Deflated> {
    let mut room = Vec::with_capacity(2 * PIECE);
    deflate(FlushCompress::Sync, |add| {
        let mut take = |piece: &mut Vec<u8>| {
            add(piece)?;
            piece.clear();
            Ok(())
        };
        rows.iter().try_for_each(|row| text.write(*row, &mut room, &mut take))
    })
}

/// All of the text, by this thread and one more: each takes the next part that nobody has begun.
fn shared(text: &FleetText<'_>) -> io::Result<Vec<Deflated>> {
    let rows: Vec<&[Row]> = text.rows.chunks(ROWS_PER_PART).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut parts = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(rows) = rows.get(index) else { return Ok::<_, io::Error>(parts) };
            parts.push((index, part(text, rows)?));
        }
    };
    let mut parts = thread::scope(|scope| {
        // Where the system has no thread left, this one does it all.
        let helper = thread::Builder::new().name("encode".to_owned()).spawn_scoped(scope, work).ok();
        let mut parts = work()?;
        if let Some(helper) = helper {
            parts.extend(helper.join().unwrap_or_else(|cause| panic::resume_unwind(cause))?);
        }
        Ok::<_, io::Error>(parts)
    })?;
    parts.sort_by_key(|(index, _)| *index);
    Ok(parts.into_iter().map(|(_, part)| part).collect())
}

/// The drop-in metrics of one node, in parts that follow each other. Compressed, they are made once per poll however
/// many ask: each replica of a Prometheus does. The families that seldom change are compressed again only when one of
/// them has changed.
///
/// # Errors
/// Should compression fail: a fault of the program.
pub fn node_body(node: &NodeSnapshot, compressed: bool) -> Result<Vec<Bytes>, EncodeError> {
    if !compressed {
        let text = NodeText::new(node);
        return Ok(vec![text.steady().into(), text.moving().into()]);
    }
    if let Some(made) = node.compressed.get() {
        return Ok(made.clone());
    }
    let text = NodeText::new(node);
    let hash = text.steady_hash();
    let steady = match node.steady.of(hash) {
        Some(kept) => kept,
        None => {
            let part =
                Arc::new(SteadyPart { hash, deflated: deflate(FlushCompress::Sync, |add| add(&text.steady()))? });
            node.steady.keep(Arc::clone(&part));
            part
        }
    };
    let moving = deflate(FlushCompress::Finish, |add| add(&text.moving()))?;
    Ok(node.compressed.get_or_init(|| gzip([&steady.deflated, &moving])).clone())
}

/// One gzip member of these blocks.
fn gzip<'a>(parts: impl IntoIterator<Item = &'a Deflated>) -> Vec<Bytes> {
    let (mut gzip, mut crc) = (vec![Bytes::from_static(&GZIP_HEAD)], Crc::new());
    for part in parts {
        gzip.push(part.blocks.clone());
        crc.combine(&part.crc);
    }
    // Checksum and length of the text.
    gzip.push([crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat().into());
    gzip
}

thread_local! {
    /// Its tables are a third of a megabyte: to get the memory anew costs as much as to compress a node's metrics.
    static COMPRESS: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
}

/// The text, which `write` adds piece by piece, as deflated blocks. They refer to nothing before them, so that blocks
/// made apart can be put together.
fn deflate(
    end: FlushCompress,
    write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<Deflated> {
    let (mut crc, mut blocks) = (Crc::new(), Vec::new());
    COMPRESS.with_borrow_mut(|compress| {
        compress.reset();
        let mut add = |mut plain: &[u8], flush| {
            crc.update(plain);
            loop {
                blocks.reserve((plain.len() / 8).max(4 << 10));
                let (taken, room) = (compress.total_in(), blocks.capacity() - blocks.len());
                let before = blocks.len();
                compress.compress_vec(plain, &mut blocks, flush).map_err(io::Error::other)?;
                plain = &plain[(compress.total_in() - taken) as usize..];
                // Room left over: nothing more is to come.
                if plain.is_empty() && blocks.len() - before < room {
                    return Ok(());
                }
            }
        };
        write(&mut |plain| add(plain, FlushCompress::None))?;
        add(&[], end)
    })?;
    // Of a node that is read they stay for as long as it is.
    blocks.shrink_to_fit();
    Ok(Deflated { blocks: blocks.into(), crc })
}

/// The text of deflated blocks.
fn inflate(deflated: &Deflated) -> io::Result<Bytes> {
    let mut plain = vec![0; deflated.crc.amount() as usize];
    DeflateDecoder::new(&*deflated.blocks).read_exact(&mut plain)?;
    Ok(plain.into())
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

    /// The text, and compressed, of the same moment: once there is a text, there is both.
    async fn bodies(encoder: &Arc<Encoder>) -> [Vec<Bytes>; 2] {
        let plain = encoder.encoded(false).await.unwrap();
        [plain, encoder.encoded(true).await.unwrap()]
    }

    fn unzipped(gzip: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::bufread::GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
        plain
    }

    #[tokio::test]
    async fn both_bodies_hold_the_same_text_without_duplicates() {
        let [plain, gzip] = bodies(&encoder().1).await.map(|parts| parts.concat());
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
    async fn a_large_fleet_is_encoded_by_two_threads_as_by_one() {
        let (publisher, encoder) = encoder();
        let caches: Vec<_> = (0..SHARED_FROM_NODES).map(|index| format!("cache-{index}").as_str().into()).collect();
        publisher.expect(&caches);
        caches.iter().for_each(|cache| publisher.publish(fixture::cache(cache.as_str())));
        let fleet = publisher.fleet();
        let selection = Selection::all(RedisMetrics::Core);
        let alone = FleetText::new(&fleet, &selection).whole();
        let [plain, gzip] = bodies(&encoder).await;
        assert!(plain.len() > 2, "parts, and the exporter's own");
        let (plain, gzip) = (plain.concat(), gzip.concat());
        assert!(plain.starts_with(&alone), "in the order of the tables");
        // The reader stops after the first member.
        assert_eq!(unzipped(&gzip), plain);
    }

    #[tokio::test]
    async fn scrapes_of_one_snapshot_share_a_body() {
        tokio::time::pause();
        let (publisher, encoder) = encoder();
        let parts = async || {
            let [plain, gzip] = bodies(&encoder).await;
            [plain[0].as_ptr(), gzip[1].as_ptr(), plain[1].as_ptr()]
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
        let plain = encoder.encoded(false).await.unwrap();
        assert!(!String::from_utf8(plain.concat()).unwrap().contains("redis_up"), "a reload is seen at once");
    }

    #[test]
    fn what_a_node_tells_is_compressed_once_and_what_stays_the_same_not_again() {
        let (publisher, _) = encoder();
        let fleet = publisher.fleet();
        let node = fleet.node("10.0.0.2:6379").unwrap();
        let made = |node: &NodeSnapshot| {
            let parts = node_body(node, true).unwrap();
            assert_eq!(unzipped(&parts.concat()), node_body(node, false).unwrap().concat());
            // Between the head and the end: what seldom changes, and the rest.
            (parts[1].as_ptr(), parts[2].as_ptr())
        };
        let first = made(node);
        assert_eq!(first, made(node));
        let told = |add: &str| Some(format!("{}\r\n{add}\r\n", node.info.as_deref().unwrap()).into());
        let after = |info| NodeSnapshot { compressed: Arc::default(), info, ..node.clone() };
        let moved = made(&after(told("total_commands_processed:987654321")));
        assert!(moved.0 == first.0 && moved.1 != first.1, "the next poll, after commands");
        let set = made(&after(told("maxclients:54321")));
        assert_ne!(set.0, first.0, "a setting is another");
    }

    #[tokio::test]
    async fn promtool_finds_nothing() {
        let (publisher, encoder) = encoder();
        let fleet = publisher.fleet();
        let node = node_body(fleet.node("10.0.0.2:6379").unwrap(), false).unwrap().concat();
        let plain = encoder.encoded(false).await.unwrap();
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
