//! What the README promises, held to the code.

use std::fmt::Write;

use cache_storm_exporter::thresholds::Threshold;

use crate::harness::redis::Redis;
use crate::harness::resp::Reply;

const README: &str = include_str!("../../README.md");

/// The text between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
pub(crate) fn section(name: &str) -> &'static str {
    let begin = format!("<!-- {name}:begin -->\n");
    let (_, rest) = README.split_once(&begin).unwrap_or_else(|| panic!("README.md has no {begin}"));
    rest.split_once(&format!("<!-- {name}:end -->")).unwrap_or_else(|| panic!("{name} does not end")).0
}

/// The README's least-privilege user as words, with this password.
pub(crate) fn acl_line(password: &str) -> Vec<String> {
    let line = README.lines().find(|line| line.starts_with("ACL SETUSER exporter ")).expect("an ACL line in README.md");
    line.split(' ').map(|word| if word.starts_with('>') { format!(">{password}") } else { word.to_owned() }).collect()
}

#[test]
fn the_threshold_table_is_the_codes() {
    let mut expected = "| threshold | default | meaning |\n|---|---|---|\n".to_owned();
    for spec in Threshold::ALL.iter().map(|threshold| threshold.spec()) {
        let default = spec.default.map_or_else(|| "unset".to_owned(), |value| value.to_string());
        writeln!(expected, "| `{}` | {default} | {} |", spec.name, spec.meaning).unwrap();
    }
    assert!(section("thresholds") == expected, "README.md: between the markers `thresholds` must stand\n{expected}");
}

#[test]
fn the_metric_table_is_the_codes() {
    let expected = cache_storm_exporter::publish::table::markdown();
    assert!(section("metrics") == expected, "README.md: between the markers `metrics` must stand\n{expected}");
}

#[tokio::test]
async fn the_acl_line_is_enough_and_no_more() {
    let redis = Redis::start(&[]).await;
    let line = acl_line("pass");
    redis.run(&line.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut client = redis.client().await;
    assert_eq!(client.call(&["AUTH", "exporter", "pass"]).await.unwrap(), Reply::Status("OK".to_owned()));
    for allowed in [&["INFO"][..], &["INFO", "commandstats"], &["CLIENT", "SETNAME", "cache-storm-exporter"]] {
        let reply = client.call(allowed).await.unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{allowed:?}: {reply:?}");
    }
    for refused in [&["GET", "k"][..], &["SET", "k", "v"], &["FLUSHALL"], &["CONFIG", "GET", "*"], &["CLIENT", "LIST"]]
    {
        let reply = client.call(refused).await.unwrap();
        assert!(matches!(&reply, Reply::Error(text) if text.starts_with("NOPERM")), "{refused:?}: {reply:?}");
    }
}
