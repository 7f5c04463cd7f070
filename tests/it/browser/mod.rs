//! The status page in a real browser.

mod fleet;

use std::time::Duration;

use cache_storm_exporter::model::Severity;

use self::fleet::{QUIET, Site, Trouble, names};
use crate::harness::browser::{BACKSPACE, Browser, ENTER, TAB};

/// Longer than any of what is waited for takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two rounds at the default pace.
const TWO_ROUNDS: Duration = Duration::from_secs(10);

const MAJOR: Trouble = Trouble { severity: Severity::Major, affected: 2 };

/// Where `tests/install-tools.sh` puts the checker of accessibility.
const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/axe/axe.min.js");

/// Text of the first row's heading.
const FIRST_NODE: &str = "document.querySelector('tbody th .name').textContent";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_appears_and_goes_without_a_reload() {
    let (site, nodes) = (Site::start(&["sessions", "catalog"]), names(6));
    site.round("sessions", &nodes, &QUIET);
    site.round("catalog", &names(3), &QUIET);
    let browser = Browser::start();
    browser.open(&site.url(""));
    assert_eq!(browser.text("h1"), "No storm");
    browser.run("window.sameDocument = true");

    site.round("sessions", &nodes, &MAJOR);
    let took = browser.until(
        "the storm shows",
        TWO_ROUNDS,
        "document.querySelector('h1').innerText.includes('Major storm in sessions')",
    );
    eprintln!("shown {took:?} after the round");
    assert!(browser.text(".cache.severity-2").contains("Mass expiration\nclear, confidence 91 %"));
    assert!(browser.text(".facts").contains("2 of 6"));
    assert!(browser.text(".evidence").contains("keys than usual expired"));
    assert!(browser.text(".advice").contains("TTL"));
    assert_eq!(browser.run("return document.title.startsWith('Major storm in sessions')"), true);
    assert_eq!(
        browser.run("return document.getElementById('news').textContent"),
        "sessions: major storm, mass expiration"
    );
    assert!(browser.text("main").contains("Who is fine"));

    site.round("sessions", &nodes, &QUIET);
    browser.until("it goes", TWO_ROUNDS, "document.querySelector('h1').innerText === 'No storm'");
    assert_eq!(browser.run("return window.sameDocument === true"), true, "the page was not reloaded");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_exporter_is_told_and_survived() {
    let (mut site, nodes) = (Site::start(&["sessions"]), names(3));
    site.round("sessions", &nodes, &QUIET);
    let browser = Browser::start();
    browser.open(&site.url(""));
    browser.until("it lives", PATIENCE, "document.documentElement.dataset.live === 'live'");
    site.stop().await;
    browser.until("it says so", PATIENCE, "!document.getElementById('stale').hidden");
    assert!(browser.text("#stale").starts_with("No answer from the exporter since "));
    assert_eq!(browser.text("h1"), "No storm", "what was known stays");
    site.go_on();
    site.round("sessions", &nodes, &MAJOR);
    browser.until("it goes on", PATIENCE, "document.getElementById('stale').hidden");
    assert!(browser.text("h1").contains("Major storm"));
    for line in browser.console() {
        assert!(line.contains("net::ERR_"), "only the missing answers: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_with_html_in_them_stay_text() {
    let cache = "<img src=x onerror=\"window.harm=1\">'&amp;";
    let node = "\"><script>window.harm=1</script><b>:6379";
    let site = Site::start(&[cache, "<i>waiting</i>"]);
    let browser = Browser::start();
    browser.open(&site.url("?q=%22%3E%3Cscript%3Ewindow.harm%3D1%3C%2Fscript%3E&open=%3Cb%3E"));
    // Once as the server writes it, once as the script lays it over.
    for _ in 0..2 {
        site.round(cache, &[node.to_owned()], &Trouble { severity: Severity::Critical, affected: 1 });
        browser.until(
            "the node shows",
            PATIENCE,
            &format!("document.querySelector('tbody th .name')?.textContent === {}", serde_json::json!(node)),
        );
        assert!(browser.text("h1").contains(cache));
        assert_eq!(browser.run("return document.querySelectorAll('img, b, i, main script').length"), 0);
        assert_eq!(browser.run("return window.harm === undefined"), true);
        browser.open(&site.url(""));
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyboard_reaches_everything_and_keeps_its_place() {
    let (site, nodes) = (Site::start(&["sessions"]), names(40));
    site.round("sessions", &nodes, &MAJOR);
    let browser = Browser::start();
    browser.open(&site.url(""));
    let focused = |what: &str| browser.run(&format!("return document.activeElement.{what}"));

    browser.press(TAB);
    assert_eq!(focused("className"), "skip");
    browser.press(ENTER);
    assert_eq!(focused("id"), "main");

    let mut stops = 0;
    while focused("textContent") != "Misses/s" {
        browser.press(TAB);
        stops += 1;
        assert!(stops < 40, "no way to the column");
        let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
        assert_eq!(outline, "solid", "the focus can be seen on {}", focused("outerHTML"));
    }
    browser.press(ENTER);
    browser.until(
        "sorted",
        PATIENCE,
        "document.querySelector('th[aria-sort=descending]')?.innerText.startsWith('Misses/s')",
    );
    assert_eq!(browser.run(&format!("return {FIRST_NODE}")), "node-0001:6379", "the affected node with more lookups");
    let before = browser.run("return document.getElementById('main').dataset.time");
    browser.until("looked again", PATIENCE, &format!("document.getElementById('main').dataset.time !== {before}"));
    assert_eq!(focused("textContent"), "Misses/s", "an update leaves the focus where it was");
    browser.press(ENTER);
    browser.until("turned round", PATIENCE, "document.querySelector('th[aria-sort=ascending]') !== null");
    assert_eq!(browser.run(&format!("return {FIRST_NODE}")), "node-0002:6379");
    assert_eq!(browser.run("return location.search"), "?sort=misses", "can be sent to a colleague");

    browser.click("#filter");
    browser.press("0039:");
    browser.until("found", PATIENCE, "document.querySelectorAll('tbody tr th[scope=row] .name').length === 1");
    assert_eq!(browser.run(&format!("return {FIRST_NODE}")), "node-0039:6379");
    browser.press(&BACKSPACE.repeat(5));
    browser.until("all again", PATIENCE, "document.querySelectorAll('.nodes tbody tr').length === 25");
    assert_eq!(focused("id"), "filter", "an update leaves the focus where it was");
    browser.click(".more a");
    browser.until("every node", PATIENCE, "document.querySelectorAll('.nodes tbody tr').length === 40");

    browser.click("#pause");
    browser.until("paused", PATIENCE, "document.documentElement.dataset.live === 'paused'");
    assert_eq!(browser.run("return document.getElementById('pause').getAttribute('aria-pressed')"), "true");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dark_and_light_follow_the_system_and_the_button_which_is_remembered() {
    let site = Site::start(&["sessions"]);
    site.round("sessions", &names(3), &QUIET);
    let browser = Browser::start();
    let dark = || {
        let colour = browser.run("return getComputedStyle(document.body).backgroundColor");
        let brightness = colour.as_str().unwrap().matches(char::is_numeric).count();
        assert!(brightness > 0, "{colour}");
        let sum =
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, part) => sum + +part, 0)";
        browser.run(&format!("return {sum} < 384")) == true
    };
    browser.prefer("prefers-color-scheme", "light");
    browser.open(&site.url(""));
    assert!(!dark());
    browser.prefer("prefers-color-scheme", "dark");
    assert!(dark());
    browser.click("#theme");
    assert!(!dark(), "the button wins");
    browser.open(&site.url(""));
    assert!(!dark(), "and is remembered");
    browser.click("#theme");
    browser.prefer("prefers-color-scheme", "light");
    assert!(dark());
    assert_eq!(browser.run("return document.getElementById('theme').getAttribute('aria-pressed')"), "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn axe_finds_nothing() {
    let axe = std::fs::read_to_string(AXE)
        .unwrap_or_else(|error| panic!("{AXE} must be there (tests/install-tools.sh fetches it): {error}"));
    let site = Site::start(&["sessions", "catalog", "waiting"]);
    let browser = Browser::start();
    for (what, trouble) in [("quiet", &QUIET), ("storm", &MAJOR)] {
        for scheme in ["light", "dark"] {
            for width in [1280, 390] {
                site.round("sessions", &names(60), trouble);
                site.round("catalog", &names(3), &QUIET);
                browser.prefer("prefers-color-scheme", scheme);
                browser.screen(width, 900);
                browser.open(&site.url("?sort=-misses&open=catalog"));
                let overflow =
                    browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
                assert_eq!(overflow, 0, "{what} {scheme} {width}: nothing sticks out at the side");
                browser.run(&axe);
                let found = browser.run_async(
                    "const done = arguments[0]; axe.run().then(({violations, passes}) => done({passes: passes.length, \
                     faults: violations.map(({id, impact, nodes}) => `${id} (${impact}): ${nodes.map(({html}) => html).join(' ')}`)}))",
                );
                assert!(found["passes"].as_u64().unwrap() > 20, "{found}");
                assert_eq!(found["faults"], serde_json::json!([]), "{what} {scheme} {width}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_nodes_stay_usable() {
    let (site, nodes) = (Site::start(&["sessions"]), names(1000));
    let trouble = Trouble { severity: Severity::Major, affected: 400 };
    site.round("sessions", &nodes, &trouble);
    let browser = Browser::start();
    // The best of three: what else the machine does can only add to it.
    let first_paint = |query: &str| {
        let paint = || {
            browser.open(&site.url(query));
            browser.until("painted", PATIENCE, "performance.getEntriesByName('first-contentful-paint').length === 1");
            browser.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime").as_f64().unwrap()
        };
        (0..3).map(|_| paint()).fold(f64::MAX, f64::min)
    };
    let (health, few, all) = (first_paint("-/healthy"), first_paint(""), first_paint("?all=sessions"));
    eprintln!("first paint: {health:.0} ms of a line of text, {few:.0} ms of the page, {all:.0} ms with every node");
    assert!(few < 1000.0, "{few} ms");
    // Twelve thousand cells: a machine that is busy with other things may take its time.
    assert!(all < 5000.0, "{all} ms");

    assert_eq!(browser.run("return document.querySelectorAll('.nodes tbody tr').length"), 1000);
    // Every row moves: the most that an update can have to do.
    browser.click("thead th:first-child a");
    browser.until("sorted", PATIENCE, "document.querySelector('th[aria-sort=ascending]') !== null");
    browser.click("thead th:first-child a");
    let took = browser.until("sorted", PATIENCE, &format!("{FIRST_NODE} === 'node-0999:6379'"));
    eprintln!("sorted anew {took:?} after the second click");
    assert_eq!(browser.console(), Vec::<String>::new());
}
