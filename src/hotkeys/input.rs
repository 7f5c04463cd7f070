//! A saved capture of `MONITOR`, plain or gzip, read in large chunks of whole lines by several threads.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::MultiGzDecoder;
use memchr::{memchr, memrchr};

use super::analysis::Analysis;

/// Bytes read at a time, few enough to leave room beside them in a core's own memory. A longer line is cut here: its
/// keys come first.
const CHUNK_BYTES: usize = 1 << 17;

/// First bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// More threads than this wait for the reader.
const THREADS_MAX: usize = 4;

/// A capture that is being read.
pub struct Input {
    source: Box<dyn Read + Send>,
    /// The beginning of a line whose rest has not been read.
    carry: Vec<u8>,
    /// The rest of a line that was too long is passed over.
    skipping: bool,
    /// Bytes read, before they are unpacked.
    pub read: Arc<AtomicU64>,
    /// Bytes there are, where that is known.
    pub size: Option<u64>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("read", &self.read).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Input {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// Those of opening and of reading the first bytes.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Self::new(io::stdin(), None);
        }
        let file = File::open(path)?;
        let size = file.metadata()?;
        Self::new(file, size.is_file().then_some(size.len()))
    }

    fn new(source: impl Read + Send + 'static, size: Option<u64>) -> io::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let mut source = Counted { source, read: Arc::clone(&read) };
        let mut magic = Vec::new();
        source.by_ref().take(GZIP.len() as u64).read_to_end(&mut magic)?;
        let is_gzip = magic == GZIP;
        let whole = io::Cursor::new(magic).chain(source);
        let source: Box<dyn Read + Send> =
            if is_gzip { Box::new(MultiGzDecoder::new(io::BufReader::new(whole))) } else { Box::new(whole) };
        Ok(Self { source, carry: Vec::new(), skipping: false, read, size })
    }

    /// Fills `chunk` with the next lines, all of them whole; `false` at the end.
    fn next_lines(&mut self, chunk: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            chunk.clear();
            chunk.append(&mut self.carry);
            let room = (CHUNK_BYTES - chunk.len()) as u64;
            let got = self.source.by_ref().take(room).read_to_end(chunk)?;
            let at_end = (got as u64) < room;
            if self.skipping {
                match memchr(b'\n', chunk) {
                    Some(end) => {
                        chunk.drain(..=end);
                        self.skipping = false;
                    }
                    None if at_end => return Ok(false),
                    None => continue,
                }
            }
            match memrchr(b'\n', chunk) {
                _ if at_end => {}
                Some(end) => self.carry = chunk.split_off(end + 1),
                None => self.skipping = true,
            }
            if !chunk.is_empty() || at_end {
                return Ok(!chunk.is_empty());
            }
        }
    }
}

/// Reads the whole of `input` into `analysis`, by as many threads as there are cores for, at most four.
///
/// # Errors
/// Those of reading, after what was read before has been counted.
pub fn analyse(input: Input, threads: usize, analysis: &mut Analysis) -> io::Result<()> {
    let input = Mutex::new(input);
    let parts: Vec<Analysis> = (0..threads.clamp(1, THREADS_MAX)).map(|_| analysis.part()).collect();
    let work = |mut part: Analysis| {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let result = loop {
            let more = input.lock().unwrap_or_else(PoisonError::into_inner).next_lines(&mut chunk);
            match more {
                Ok(true) => part.read(&chunk),
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (part, result)
    };
    let mut outcome = Ok(());
    std::thread::scope(|scope| {
        let workers: Vec<_> = parts.into_iter().map(|part| scope.spawn(|| work(part))).collect();
        for worker in workers {
            match worker.join() {
                Ok((part, result)) => {
                    analysis.merge(part);
                    outcome = std::mem::replace(&mut outcome, Ok(())).and(result);
                }
                Err(_) => outcome = Err(io::Error::other("a thread of the analysis broke down")),
            }
        }
    });
    outcome
}

/// Counts what is read.
struct Counted<R> {
    source: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(buffer)?;
        self.read.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::commands::Commands;
    use super::super::pattern::Patterns;
    use super::*;

    fn analysed(text: Vec<u8>, threads: usize) -> (Analysis, io::Result<()>) {
        let mut analysis = Analysis::new(Arc::new(Commands::built_in()), Patterns::default());
        let input = Input::new(io::Cursor::new(text), None).unwrap();
        let result = analyse(input, threads, &mut analysis);
        (analysis, result)
    }

    fn capture(lines: usize) -> Vec<u8> {
        let line = |index: usize| format!("1700{index:06}.5 [0 10.0.0.1:5] \"GET\" \"k:{}\"\n", index % 7);
        ("OK\n".to_owned() + &(0..lines).map(line).collect::<String>()).into_bytes()
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_line_is_read_once_however_it_is_packed() {
        let text = capture(30_000);
        let halves = [packed(&text[..text.len() / 2]), packed(&text[text.len() / 2..])].concat();
        for (name, bytes) in [("plain", text.clone()), ("gzip", packed(&text)), ("two in one", halves)] {
            for threads in [1, 3] {
                let (analysis, result) = analysed(bytes.clone(), threads);
                result.unwrap();
                assert_eq!((analysis.lines(), analysis.skipped()), (30_000, 1), "{name}, {threads}");
                let top: Vec<u64> = analysis.keys_seen().top(20).iter().map(|watched| watched.count).collect();
                assert_eq!((top.len(), top.iter().sum::<u64>()), (7, 30_000), "{name}, {threads}");
                assert_eq!(analysis.seconds(), Some(29_999.0));
            }
        }
    }

    #[test]
    fn a_last_line_needs_no_end_and_an_empty_file_no_line() {
        assert_eq!(analysed(b"17 [0 a:1] \"GET\" \"k\"".to_vec(), 1).0.lines(), 1);
        let (analysis, result) = analysed(Vec::new(), 2);
        assert!(result.is_ok() && analysis.lines() == 0 && analysis.seconds().is_none());
    }

    #[test]
    fn a_line_longer_than_memory_gives_its_keys() {
        let mut text = b"17 [0 a:1] \"SET\" \"long\" \"".to_vec();
        text.resize(3 * CHUNK_BYTES + 17, b'x');
        text.extend_from_slice(b"\"\n18 [0 a:1] \"GET\" \"next\"\n");
        let (analysis, _) = analysed(text, 1);
        let keys: Vec<&[u8]> = analysis.keys_seen().top(9).iter().map(|watched| &watched.key[..]).collect();
        assert_eq!(keys, [&b"long"[..], b"next"]);
        assert_eq!((analysis.lines(), analysis.skipped()), (2, 0));
    }

    #[test]
    fn what_came_before_a_fault_is_counted() {
        let mut bytes = packed(&capture(30_000));
        bytes.truncate(bytes.len() - 20);
        let (analysis, result) = analysed(bytes, 2);
        assert!(result.is_err() && analysis.lines() > 0);
    }
}
