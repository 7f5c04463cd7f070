//! A password is seen by the server it belongs to and by nobody else.

use std::io::Write;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::harness::exporter::{Exporter, run};
use crate::harness::proxy::Proxy;
use crate::harness::redis::Redis;
use crate::harness::resp::Reply;
use crate::harness::sentinel::{MASTER, PATIENCE, Sentinel, Setup};
use crate::harness::{eventually, free_port};
use crate::readme::acl_line;

/// Both hold characters that a URL must escape; the needles below stand before those.
const RIGHT: &str = "R1ght-pa55/w@rd:1";
const WRONG: &str = "Wr0ng-pa55/w@rd:1";
const NEEDLES: [&str; 2] = ["R1ght-pa55", "Wr0ng-pa55"];

#[tokio::test]
async fn a_password_never_appears() {
    let redis = Redis::start(&[]).await;
    let line = acl_line(RIGHT);
    redis.run(&line.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (right, wrong) = (secret_file(RIGHT), secret_file(WRONG));
    let config = caches(redis.port, &right, &wrong);

    for format in ["text", "json"] {
        let env = [("CACHE_STORM_LOG", "trace"), ("RUST_LOG", "trace"), ("PASS_RIGHT", RIGHT), ("PASS_WRONG", WRONG)];
        let exporter = Exporter::serve(&config, &env).await;
        for (cache, up) in [("url-right", 1.0), ("file-right", 1.0), ("env-right", 1.0), ("url-wrong", 0.0)] {
            let metrics = exporter.metrics().await;
            assert_eq!(metrics.sample("cache_storm_node_up", &[("cache", cache)]), Some(up), "{cache}");
        }
        for path in ["/metrics", "/api/v1/report", "/api/v1/episodes", "/"] {
            assert_clean(path, &exporter.get(path).await.1);
        }
        // What a scrape job of redis_exporter may have in its targets.
        for (host, expected) in [(redis.node(), 200), (format!("127.0.0.1:{}", free_port()), 404)] {
            let (status, body) = exporter.get(&format!("/scrape?target=redis://exporter:{RIGHT}@{host}")).await;
            assert_eq!(status, expected, "{host}");
            assert_clean("/scrape", &body);
        }
        let url = format!("http://127.0.0.1:{}", exporter.port);
        let remote = run(&config, &["report", "--url", &url, "--log-format", format], &env).await;
        assert_clean("report --url", &remote.output);
        let own = run(&config, &["report", "--for", "2s", "--log-format", format], &env).await;
        assert_clean("report", &own.output);
        let check = run(&config, &["check", "--log-format", format], &env).await;
        assert_clean("check", &check.output);
        assert_eq!(check.code, Some(1), "wrong passwords make nodes unusable: {}", check.output);
        assert_clean("log", &exporter.log());
        assert!(exporter.log().lines().count() > 3, "trace was asked for");
    }
}

#[tokio::test]
async fn a_refused_configuration_does_not_quote_the_password() {
    let url = url_password(RIGHT);
    let bad = [
        format!("caches: [{{ name: a, nodes: ['redis://exporter:{url}@localhost:notaport'] }}]"),
        format!("caches: [{{ name: a, nodes: ['http://exporter:{url}@localhost'] }}]"),
        format!("caches: [{{ name: a, nodes: ['redis://:{url}@localhost'], password_env: PASS_RIGHT }}]"),
        format!("caches: [{{ name: a, nodes: ['redis://localhost'], password: '{RIGHT}' }}]"),
        format!("caches: [{{ name: a, nodes: ['redis://localhost'], password_file: ['{RIGHT}'] }}]"),
    ];
    for config in bad {
        let outcome = run(&config, &["check"], &[("PASS_RIGHT", RIGHT), ("CACHE_STORM_LOG", "trace")]).await;
        assert_eq!(outcome.code, Some(78), "{}", outcome.output);
        assert_clean("error", &outcome.output);
    }
    for flags in [&["check", "--redis"][..], &["check", "--rediss"], &["report", "--url"], &[]] {
        for scheme in ["redis", "http"] {
            let url = format!("{scheme}://exporter:{url}@127.0.0.1:1");
            let outcome = run("", &[flags, &[url.as_str()]].concat(), &[]).await;
            assert_ne!(outcome.code, Some(0), "{}", outcome.output);
            assert_clean("error", &outcome.output);
        }
    }
}

/// By what it calls itself we know our own connections from those of the Sentinels.
const OURS: &str = "cache-storm-exporter";

/// One that stands outside of what is allowed below.
const ELSEWHERE: &str = "127.0.0.3";

#[tokio::test]
async fn sentinels_hear_their_own_password_and_strangers_none() {
    const NODES: &str = "for-nodes-only";
    const SENTINELS: &str = "for-sentinels-only";
    let needs = ["--requirepass", NODES, "--masterauth", NODES];
    let master = Redis::start(&needs).await;
    // A replica, and a second Sentinel, that say they are elsewhere; the Sentinels reach them there.
    let replica = Redis::start(&needs).await;
    let stranger = Proxy::start_at(ELSEWHERE, replica.port).await;
    for words in [
        ["CONFIG", "SET", "replica-announce-ip", ELSEWHERE],
        ["CONFIG", "SET", "replica-announce-port", &stranger.port.to_string()],
    ] {
        authenticated(&replica, NODES, &words).await;
    }
    authenticated(&replica, NODES, &["REPLICAOF", "127.0.0.1", &master.port.to_string()]).await;
    let ports = [free_port(), free_port()];
    let (near, far) = (Proxy::start(ports[0]).await, Proxy::start_at(ELSEWHERE, ports[1]).await);
    let mut sentinels = Vec::new();
    for (port, (host, announced)) in ports.into_iter().zip([("127.0.0.1", near.port), (ELSEWHERE, far.port)]) {
        let before = format!(
            "sentinel sentinel-pass {SENTINELS}\nsentinel announce-ip {host}\nsentinel announce-port {announced}\n"
        );
        let after = format!("sentinel auth-pass {MASTER} {NODES}\n");
        let master = ("127.0.0.1", master.port);
        let setup =
            Setup { master, quorum: 1, patience: PATIENCE, password: Some(SENTINELS), further: [&before, &after] };
        sentinels.push(Sentinel::set_up(port, setup).await);
    }
    for sentinel in &sentinels {
        sentinel.knows(1, 1).await;
    }

    let config = format!(
        "poll: {{ interval: 500ms }}\ndiscovery: {{ refresh: 1s, allow: [127.0.0.1] }}\ncaches:\n  - {{ name: main, \
         sentinel: {{ sentinels: ['redis://127.0.0.1:{}'], master: {MASTER}, password_env: OF_SENTINELS }}, \
         password_env: OF_NODES }}\n",
        near.port
    );
    let exporter = Exporter::serve(&config, &[("OF_SENTINELS", SENTINELS), ("OF_NODES", NODES)]).await;
    eventually("the strangers are refused, look after look", Duration::from_secs(30), async || {
        let metrics = exporter.metrics().await;
        metrics.sample("cache_storm_discovery_rejected_total", &[("cache", "main"), ("reason", "not_allowed")])
            >= Some(6.0)
            && metrics.node("cache_storm_node_up", &master.node()) == Some(1.0)
            && metrics.sample("cache_storm_sentinel_quorum_ok", &[("cache", "main")]) == Some(1.0)
    })
    .await;
    let heard = near.heard();
    assert!(heard.contains(OURS) && heard.contains(SENTINELS) && !heard.contains(NODES), "a Sentinel has its own");
    for (who, proxy) in [("replica", &stranger), ("Sentinel", &far)] {
        let heard = proxy.heard();
        assert!(heard.contains("PING"), "the Sentinels go there: {who}");
        assert!(!heard.contains(OURS), "we do not: {who}");
    }
}

async fn authenticated(redis: &Redis, password: &str, command: &[&str]) {
    let mut client = redis.client().await;
    for words in [&["AUTH", password][..], command] {
        assert_eq!(client.call(words).await.unwrap(), Reply::Status("OK".to_owned()), "{}", words[0]);
    }
}

/// Six caches of one node: the right and the wrong password by each of the three ways.
fn caches(port: u16, right: &NamedTempFile, wrong: &NamedTempFile) -> String {
    let mut yaml = "poll: { interval: 500ms, timeout: 400ms }\ncaches:\n".to_owned();
    for (kind, password, file) in [("right", RIGHT, right), ("wrong", WRONG, wrong)] {
        let password = url_password(password);
        let file = file.path().display();
        let variable = format!("PASS_{}", kind.to_uppercase());
        yaml += &format!("  - {{ name: url-{kind}, nodes: ['redis://exporter:{password}@127.0.0.1:{port}'] }}\n");
        let node = format!("nodes: ['redis://127.0.0.1:{port}'], username: exporter");
        yaml += &format!("  - {{ name: file-{kind}, {node}, password_file: '{file}' }}\n");
        yaml += &format!("  - {{ name: env-{kind}, {node}, password_env: {variable} }}\n");
    }
    yaml
}

fn url_password(password: &str) -> String {
    password.replace('/', "%2F").replace('@', "%40").replace(':', "%3A")
}

fn secret_file(password: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    // Editors and `echo` end files with a newline; it is not part of the password.
    writeln!(file, "{password}").unwrap();
    file
}

fn assert_clean(place: &str, text: &str) {
    for needle in NEEDLES {
        if let Some(line) = text.lines().find(|line| line.contains(needle)) {
            panic!("a password in {place}: {line}");
        }
    }
}
