//! Which cache, how bad, since when, of which type, on what evidence, and where to read what to do.

use cache_storm_exporter::model::StormType;
use cache_storm_exporter::thresholds::Threshold;

use super::grafana::{BLUE, DOCS, Dashboard, GREEN, ORANGE, Panel, RED, Row, Unit, YELLOW};
use super::query::{self, node, node_with, sum};
use super::vocabulary::{page, severities, storm_types, yes_no};

/// Leads from a cache to its investigation, with the time range and the data source that are chosen.
const INVESTIGATE: &str = "/d/cache-storm-investigation?var-cache=${__value.text}&var-datasource=${datasource}&${job:queryparam}&${__url_time_range}";

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "cache-storm-overview",
        title: "Cache storm: overview",
        question: "Is there a storm? Which cache, how bad, since when, of which type, and what reaches the database?",
        from: "now-1h",
        one_cache: false,
        rows: vec![
            Row::open("Now", now()),
            Row::open("Over time", over_time()),
            Row::open("Evidence and alerts", evidence()),
        ],
    }
}

fn now() -> Vec<Panel> {
    let tile = (4, 4);
    let severity = query::cache("cache_storm_severity");
    let totals = format!("sum({}) / (sum({}) > 0)", query::misses(), query::usual_misses());
    vec![
        Panel::stat("Worst severity", "Severity of the worst cache: 0 none, 1 minor, 2 major from 30 % affected nodes, 3 critical from 70 % (defaults).", tile)
            .ask_now(format!("max({severity})"), "")
            .words(&severities())
            .or("no exporter answers"),
        Panel::stat("Caches in a storm", "How many of the chosen caches have a storm now.", tile)
            .ask_now(format!("sum({severity} > bool 0)"), "")
            .steps(GREEN, &[(1.0, RED)])
            .or("no exporter answers"),
        Panel::stat("Since", "Onset of the oldest storm that is on: the last moment at which the cache was well.", tile)
            .ask_now(format!("min({})", query::onset()), "")
            .unit(Unit::Ago)
            .steps(GREEN, &[(1.0, RED)])
            .or("no storm"),
        Panel::stat("Affected nodes", "Affected share of the eligible nodes, of the cache where it is largest.", tile)
            .ask_now(format!("max({})", query::affected_share()), "")
            .unit(Unit::Ratio)
            .decimals(0)
            .steps(GREEN, &[(0.01, YELLOW), (0.3, ORANGE), (0.7, RED)])
            .or("no traffic"),
        Panel::stat("Database load", "Misses per second of all chosen caches: each is a request that the database answers instead.", tile)
            .ask_now(format!("sum({})", query::misses()), "")
            .unit(Unit::Requests)
            .or("no traffic"),
        Panel::stat("Times the usual load", "Misses per second ÷ what the nodes' own past promises at today's traffic. 1 is a usual day.", tile)
            .ask_now(totals, "")
            .decimals(1)
            .steps(GREEN, &[(2.0, YELLOW), (3.0, ORANGE), (10.0, RED)])
            .or("no baseline yet"),
        caches(),
    ]
}

/// The table that answers everything in one line per cache.
fn caches() -> Panel {
    let leading = format!("{} == 1", query::by_type("cache_storm_active"));
    let sure = query::by_type("cache_storm_confidence_ratio");
    let confidence = format!("max by (cache) ({sure} and on (cache, storm_type) {leading})");
    Panel::table("Caches", "One line per cache, the worst first. The name leads to the investigation. Usual: what the nodes' own past promises.", (24, 8))
        .ask_now(query::cache("cache_storm_severity"), "")
        .ask_now(leading, "")
        .ask_now(confidence, "")
        .ask_now(query::affected_share(), "")
        .ask_now(query::onset(), "")
        .ask_now(query::hit_ratio(), "")
        .ask_now(query::usual_hit_ratio(), "")
        .ask_now(query::misses(), "")
        .ask_now(query::usual_misses(), "")
        .ask_now(query::cache("cache_storm_loss_exposure_ratio"), "")
        .ask_now(query::cache("cache_storm_recovering"), "")
        .column_with_link("cache", "Cache", "Investigate this cache", INVESTIGATE)
        .column_of_words("Value #A", "Severity", &severities())
        .column("storm_type", "Type", Unit::None)
        .column("Value #C", "Confidence", Unit::Ratio)
        .column("Value #D", "Affected", Unit::Ratio)
        .column("Value #E", "Since", Unit::Ago)
        .column("Value #F", "Hit ratio", Unit::Ratio)
        .column("Value #G", "Usual", Unit::Ratio)
        .column("Value #H", "Misses", Unit::Requests)
        .column("Value #I", "Usual misses", Unit::Requests)
        .column_by_steps("Value #J", "Loss exposure", Unit::None, &[(0.0, GREEN), (20.0, ORANGE), (100.0, RED)])
        .column_of_words("Value #K", "Recovering", &yes_no("yes", BLUE))
        .without(&["Time", "Value #B"])
        .sorted("Severity", true)
        .or("–")
}

fn over_time() -> Vec<Panel> {
    vec![
        Panel::states("Severity", "When which cache was how bad.", (12, 7))
            .ask(query::cache("cache_storm_severity"), "{{cache}}")
            .words(&severities())
            .or("no exporter answers"),
        Panel::states("Type of storm", "The leading type of the storm that was on, by cache.", (12, 7))
            .ask(query::leading_type(), "{{cache}}")
            .words(&storm_types())
            .or("no exporter answers"),
        Panel::lines("Hit ratio", "Share of lookups that hit, by cache; dashed: what the nodes' own past promises. Red: the floor of `low_hit_ratio` and the objective.", (12, 9))
            .ask(query::hit_ratio(), "{{cache}}")
            .ask(query::usual_hit_ratio(), "{{cache}} usually")
            .dashed()
            .limit(Threshold::LowHitRatio)
            .limit(Threshold::HitRatioObjective)
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .or("no lookups"),
        Panel::lines("Misses per second: what reaches the database", "Misses by cache; dashed: what today's lookups would cause on a usual day.", (12, 9))
            .ask(query::misses(), "{{cache}}")
            .ask(query::usual_misses(), "{{cache}} usually")
            .dashed()
            .unit(Unit::Requests)
            .range(0.0, None)
            .or("no lookups"),
        Panel::lines("Affected nodes", "Affected share of the eligible nodes. Red: where a storm becomes major and critical.", (12, 8))
            .ask(query::affected_share(), "{{cache}}")
            .limit(Threshold::SeverityMajorShare)
            .limit(Threshold::SeverityCriticalShare)
            .unit(Unit::Ratio)
            .range(0.0, Some(1.0))
            .or("no traffic"),
        Panel::bars("Loss exposure", "Lookups per second ÷ usual misses per second: how many times today's database load arrives if the cache is lost. Know it before the storm.", (12, 8))
            .ask_now(query::cache("cache_storm_loss_exposure_ratio"), "{{cache}}")
            .decimals(0)
            .steps(GREEN, &[(20.0, ORANGE), (100.0, RED)])
            .or("no baseline yet"),
    ]
}

fn evidence() -> Vec<Panel> {
    let affected = format!("{} == 1", node("cache_storm_node_affected"));
    let shown = format!("{} == 1", node_with("cache_storm_indicator", "", ", indicator"));
    let started =
        format!("({}) * on (cache) group_right () ({} == 1)", query::onset(), query::by_type("cache_storm_active"));
    vec![
        Panel::table("Why nodes are affected", "One line per affected node and indicator that it shows now.", (12, 9))
            .ask_now(format!("{shown} and on (cache, cache_node) ({affected})"), "")
            .column_with_link("cache", "Cache", "Investigate this cache", INVESTIGATE)
            .column("cache_node", "Node", Unit::None)
            .column("indicator", "Indicator", Unit::None)
            .without(&["Time", "Value"])
            .or("no node is affected"),
        Panel::table("Active alerts", "Alerts that fire now, with the team that has them. The name leads to the runbook. Empty without the rules of this project.", (12, 9))
            .ask_now(r#"max by (alertname, cache, severity, team) (ALERTS{alertstate="firing", alertname=~"(Cache|RedisExporter).+", cache=~"$cache|"})"#, "")
            .column_with_link("alertname", "Alert", "Runbook", &format!("{DOCS}/runbooks/${{__value.text}}.md"))
            .column("cache", "Cache", Unit::None)
            .column("severity", "Urgency", Unit::None)
            .column("team", "Team", Unit::None)
            .without(&["Time", "Value"])
            .or("no alert fires"),
        Panel::table("Last storms", "Storms of the time range that is shown, the newest first, a line per leading type. Last seen: the last step at which it was on.", (12, 9))
            .ask_steps(started)
            .ask_steps(format!("{} > 0", query::cache("cache_storm_severity")))
            .grouped(&["cache", "storm_type", "Value #A"], &[("Time", "max"), ("Value #B", "max")])
            .column_with_link("cache", "Cache", "Investigate this cache", INVESTIGATE)
            .column("storm_type", "Type", Unit::None)
            .column_of_words("Value #B (max)", "Peak", &severities())
            .column("Value #A", "Onset", Unit::Time)
            .column("Time (max)", "Last seen", Unit::Time)
            .sorted("Onset", true)
            .or("no storm in this time range"),
        Panel::lines("Storms counted", "Storms that were counted within the hour before, by leading type.", (12, 9))
            .ask(format!("sum by (storm_type) (max by (cache, storm_type) (increase({}[1h])))", query::select("cache_storm_episodes_total", "")), "{{storm_type}}")
            .range(0.0, None)
            .decimals(0)
            .or("no exporter answers"),
        Panel::text("What to do", "The runbook of each type of storm.", (24, 6), &what_to_do()),
        Panel::lines("Lookups per second", "Traffic by cache. A storm of a cache that nobody asks is none.", (12, 8))
            .ask(sum(&node("cache_storm_lookups_per_second")), "{{cache}}")
            .unit(Unit::PerSecond)
            .range(0.0, None)
            .or("no lookups"),
        Panel::lines("Nodes by state", "Nodes of the chosen caches by their hit ratio: healthy, degraded, critical, unknown (no lookups), down.", (12, 8))
            .ask(format!("sum by (state) ({})", node_with("cache_storm_node_state", "", ", state")), "{{state}}")
            .stacked()
            .range(0.0, None)
            .decimals(0)
            .or("no exporter answers"),
    ]
}

fn what_to_do() -> String {
    let link = |storm_type: &StormType| {
        let name = storm_type.as_str().replace('_', " ");
        format!("[{name}]({DOCS}/runbooks/{}.md)", page(*storm_type))
    };
    let pages: Vec<String> = StormType::ALL.iter().map(link).collect();
    format!(
        "1. **Which cache?** The first line of the table above. Open its name: the investigation has a row per step.\n\
         2. **Protect the database** if its load is several times the usual: limit rebuilds per key, shed what can wait.\n\
         3. **Follow the page of the type**: {}.\n\
         4. **No type yet?** It needs half a minute. Until then the unknown storm's page applies.",
        pages.join(" · ")
    )
}
