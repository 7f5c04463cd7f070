//! Programs under measurement, seen from outside: their CPU, memory and descriptors, and their answers over HTTP.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

const COMMANDS: [&str; 18] = [
    "SET a 1",
    "GET a",
    "MGET a b",
    "EXISTS a",
    "TTL a",
    "INCR n",
    "EXPIRE n 9",
    "DEL x",
    "UNLINK x",
    "HSET h f v",
    "HGET h f",
    "HGETALL h",
    "LPUSH l 1",
    "LRANGE l 0 1",
    "SADD s 1",
    "SMEMBERS s",
    "ZADD z 1 m",
    "PING",
];

/// A running program; killed when dropped.
pub(crate) struct Program {
    pub(crate) port: u16,
    child: Child,
    _directory: Option<TempDir>,
}

/// What a request came to.
pub(crate) struct Answer {
    pub(crate) took: Duration,
    pub(crate) bytes: Vec<u8>,
}

impl Program {
    /// Our own binary, with that configuration.
    pub(crate) fn exporter(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (file, port) = (directory.path().join("config.yaml"), free_port());
        fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cache-storm-exporter"));
        command.arg("--config").arg(&file).args(["--listen", &format!("127.0.0.1:{port}")]);
        command.env("CACHE_STORM_LOG", "error");
        let program = Self::start(command, port, Some(directory));
        let begun = Instant::now();
        while !program.get("/-/ready").is_ok_and(|answer| answer.bytes.starts_with(b"HTTP/1.0 200")) {
            assert!(begun.elapsed() < Duration::from_secs(60), "the exporter is not ready after a minute");
            std::thread::sleep(Duration::from_millis(50));
        }
        program
    }

    /// The peer, as it comes or with its latency histograms off.
    pub(crate) fn peer(path: &str, lean: bool) -> Self {
        let port = free_port();
        let mut command = Command::new(path);
        command.arg(format!("-web.listen-address=127.0.0.1:{port}"));
        if lean {
            command.arg("-exclude-latency-histogram-metrics");
        }
        let program = Self::start(command, port, None);
        let begun = Instant::now();
        while program.get("/health").is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{path} does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        program
    }

    /// A real server, at every address (its protected mode lets in the loopback only), that has seen as many kinds of commands as an application's: `commandstats` lists each.
    pub(crate) fn redis() -> Self {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "*", "--save", ""]);
        let program = Self::start(command, port, None);
        let mut connection = loop {
            match TcpStream::connect(("127.0.0.1", port)) {
                Ok(connection) => break connection,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        for command in COMMANDS {
            connection.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        }
        // The server hangs up when all are answered.
        connection.write_all(b"QUIT\r\n").unwrap();
        connection.read_to_end(&mut Vec::new()).unwrap();
        program
    }

    fn start(mut command: Command, port: u16, directory: Option<TempDir>) -> Self {
        let name = command.get_program().to_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("start {}: {error}", name.display()));
        Self { port, child, _directory: directory }
    }

    /// GET, compressed where the server can.
    pub(crate) fn get(&self, path: &str) -> io::Result<Answer> {
        get(self.port, path)
    }

    /// GET; the text of the answer, head and all.
    pub(crate) fn get_plain(&self, path: &str) -> io::Result<String> {
        let answer = ask(self.port, path, "identity")?;
        Ok(String::from_utf8_lossy(&answer.bytes).into_owned())
    }

    /// CPU so far of the threads it has now, seconds, to the nanosecond: the ticks of `stat` are too coarse for
    /// hundreds of polls.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // A thread may have ended since it was listed.
        let of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("schedstat")).ok();
        let nanoseconds = threads
            .filter_map(|thread| of(thread.unwrap()))
            .map(|stat| stat.split_whitespace().next().unwrap().parse::<u64>().unwrap());
        nanoseconds.sum::<u64>() as f64 / 1e9
    }

    /// Resident memory, MiB.
    pub(crate) fn rss_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// GET, compressed where the server can.
pub(crate) fn get(port: u16, path: &str) -> io::Result<Answer> {
    ask(port, path, "gzip")
}

fn ask(port: u16, path: &str, encoding: &str) -> io::Result<Answer> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\nAccept-Encoding: {encoding}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(Answer { took: begun.elapsed(), bytes })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
