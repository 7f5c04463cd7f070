//! What a client may take of us: the table "A client's" of `docs/faults.md`.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::exporter::Exporter;
use crate::harness::{eventually, free_port};

/// As documented: for a head, for a pause between requests, and for 64 KiB of an answer.
const SPAN: Duration = Duration::from_secs(10);
/// A busy machine may take this much longer.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: usize = 512;

async fn connect(exporter: &Exporter) -> TcpStream {
    TcpStream::connect(("127.0.0.1", exporter.port)).await.unwrap()
}

/// Sends it and returns what comes until the server hangs up, and how long that took.
async fn exchange(exporter: &Exporter, request: &[u8]) -> (String, Duration) {
    let (mut stream, begun) = (connect(exporter).await, Instant::now());
    // Refused in mid-request, the rest cannot be sent.
    drop(stream.write_all(request).await);
    (read(&mut stream).await, begun.elapsed())
}

async fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // Hung up on with something unread is a reset; what came before it counts.
    drop(timeout(SPAN + PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server hangs up"));
    String::from_utf8_lossy(&answer).into_owned()
}

async fn nobody_polled() -> Exporter {
    let config = format!("caches: [{{ name: main, nodes: [\"redis://127.0.0.1:{}\"] }}]", free_port());
    Exporter::serve(&config, &[]).await
}

#[tokio::test]
async fn who_does_not_ask_to_the_end_or_does_not_take_the_answer_is_hung_up_on() {
    let exporter = nobody_polled().await;
    let half = exchange(&exporter, b"GET /metrics HTTP/1.1\r\nHost:");
    let idle = exchange(&exporter, b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
    let never_read = async {
        let mut stream = connect(&exporter).await;
        // More answers than any buffer between us holds.
        let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5_000);
        drop(timeout(SPAN, stream.write_all(&requests)).await);
        sleep(SPAN + Duration::from_secs(5)).await;
        read(&mut stream).await.matches("HTTP/1.1 200").count()
    };
    let ((half, half_took), (idle, idle_took), answers) = tokio::join!(half, idle, never_read);
    assert_eq!(half, "");
    assert!(idle.starts_with("HTTP/1.1 200 OK\r\n") && idle.ends_with("healthy\n"), "{idle}");
    for took in [half_took, idle_took] {
        assert!((SPAN - Duration::from_secs(1)..SPAN + PATIENCE).contains(&took), "{took:?}");
    }
    assert!((1..5_000).contains(&answers), "{answers} answers");
}

#[tokio::test]
async fn an_answer_is_whole_whatever_comes_along_with_the_question() {
    // An answer that is larger than what is under way between us: its end is what an early reset loses.
    let demo = ["demo", "--storm", "none", "--nodes-per-cache", "100"];
    let exporter = Exporter::start(tempfile::tempdir().unwrap(), &demo, &[]).await;
    eventually("/-/ready says yes", PATIENCE, async || exporter.get("/-/ready").await.0 == 200).await;
    for size in [1, 30_000, 500_000] {
        let (mut stream, begun) = (connect(&exporter).await, Instant::now());
        let head = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; size]).await.expect("somebody takes it");
        let mut answer = String::new();
        let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("the server hangs up");
        read.unwrap_or_else(|error| panic!("{size} bytes: {error} after {} bytes of answer", answer.len()));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains(&format!("content-length: {}", body.len())),
            "{head}"
        );
        assert!(begun.elapsed() < SPAN / 2, "{size} bytes: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn heads_and_connections_are_bounded_and_bodies_never_read() {
    let exporter = nobody_polled().await;
    for headers in [format!("X-Long: {}\r\n", "x".repeat(40 << 10)), "X: x\r\n".repeat(101)] {
        let head = format!("GET /metrics HTTP/1.1\r\n{headers}\r\n");
        let (answer, took) = exchange(&exporter, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 ") && took < SPAN, "{took:?}: {answer}");
    }
    // A gigabyte is announced and not waited for.
    for (request, status) in [("GET /metrics", "200"), ("POST /metrics", "405"), ("POST /-/reload", "403")] {
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000000\r\n\r\nx");
        let (answer, took) = exchange(&exporter, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && took < SPAN, "{request}: {took:?}: {answer}");
    }

    let mut taken = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        taken.push(connect(&exporter).await);
    }
    let begun = Instant::now();
    while !exchange(&exporter, b"GET /-/healthy HTTP/1.0\r\n\r\n").await.0.is_empty() {
        assert!(begun.elapsed() < SPAN / 2, "one more than there is room for is hung up on");
        // It may have been let in before one of those, which was hung up on in its stead.
        taken.push(connect(&exporter).await);
    }
    taken.truncate(CONNECTIONS_MAX / 2);
    let begun = Instant::now();
    while exchange(&exporter, b"GET /-/healthy HTTP/1.0\r\n\r\n").await.0.is_empty() {
        assert!(begun.elapsed() < SPAN / 2, "there is room again");
    }
}
