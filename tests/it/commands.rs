//! What commands say and how they end: exit codes, and what stands on the terminal.

use crate::harness::exporter::run;
use crate::harness::free_port;
use crate::harness::redis::Redis;
use crate::harness::sentinel::Sentinel;

#[tokio::test]
async fn a_level_that_is_none_silences_nothing() {
    let config = format!("caches: [{{ name: main, nodes: ['redis://127.0.0.1:{}'] }}]", free_port());
    for (level, told) in [("warning", true), ("cache_storm_exporter::poll=trace", false), ("debug", false)] {
        let outcome = run(&config, &["report", "--for", "0s"], &[("CACHE_STORM_LOG", level)]).await;
        let line = outcome.output.lines().find(|line| line.contains("log level not understood"));
        assert_eq!(line.is_some(), told, "{level}: {}", outcome.output);
        assert!(line.is_none_or(|line| line.contains("warning") && line.contains("expected off, error")), "{line:?}");
        assert!(outcome.output.contains("cache added"), "{level}: {}", outcome.output);
    }
}

#[tokio::test]
async fn check_tells_a_server_of_another_kind_from_none() {
    let redis = Redis::start(&[]).await;
    let (sentinel, port) = (Sentinel::start(free_port(), redis.port, 1, None).await, free_port());
    let (redis, watcher) = (redis.url(), format!("redis://{}", sentinel.node()));
    for (source, code) in [
        (format!("cluster: {{ seeds: ['{redis}'] }}"), 1),
        (format!("sentinel: {{ sentinels: ['{redis}'], master: main }}"), 1),
        (format!("sentinel: {{ sentinels: ['{watcher}'], master: nobody }}"), 1),
        (format!("cluster: {{ seeds: ['redis://127.0.0.1:{port}'] }}"), 69),
    ] {
        let outcome = run(&format!("caches: [{{ name: main, {source} }}]"), &["check"], &[]).await;
        assert_eq!(outcome.code, Some(code), "{source}: {}", outcome.output);
        assert!(outcome.output.contains("  MISSING: "), "{source}: {}", outcome.output);
    }
}

#[tokio::test]
async fn an_address_of_no_exporter_is_wrong_usage() {
    for url in ["ftp://127.0.0.1", "https://127.0.0.1:9736", "127.0.0.1:9736", "user:hunter2@127.0.0.1:9736"] {
        for command in ["check", "report"] {
            let outcome = run("", &[command, "--url", url], &[]).await;
            assert_eq!(outcome.code, Some(64), "{command} {url}: {}", outcome.output);
            assert!(outcome.output.contains("expected http://HOST:9736"), "{}", outcome.output);
            assert!(!outcome.output.contains("hunter2"), "{}", outcome.output);
        }
    }
    let url = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(run("", &["check", "--url", &url], &[]).await.code, Some(69), "nobody listens");
}

#[tokio::test]
async fn a_report_of_no_time_shows_the_first_round() {
    let redis = Redis::start(&[]).await;
    let config = format!("caches: [{{ name: main, nodes: ['{}'] }}]", redis.url());
    let outcome = run(&config, &["report", "--for", "0s"], &[]).await;
    assert_eq!(outcome.code, Some(0), "{}", outcome.output);
    assert!(outcome.output.contains(&redis.node()), "{}", outcome.output);
}
