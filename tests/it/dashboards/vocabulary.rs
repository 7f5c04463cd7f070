//! The exporter's words as Grafana shows them: text and colour, never colour alone.

use cache_storm_exporter::model::{NodeState, Severity, StormType};
use cache_storm_exporter::recommend;

use super::grafana::{BLUE, DOCS, GREEN, GREY, ORANGE, PURPLE, Panel, RED, Words, YELLOW, words};

/// 0–3.
pub(crate) fn severities() -> Words {
    let colour = |severity: &Severity| match severity {
        Severity::None => GREEN,
        Severity::Minor => YELLOW,
        Severity::Major => ORANGE,
        Severity::Critical => RED,
    };
    Severity::ALL.iter().map(|it| (it.ordinal().to_string(), it.as_str().to_owned(), colour(it))).collect()
}

/// 0 without a storm, then the types in the order of `query::leading_type`.
pub(crate) fn storm_types() -> Words {
    let colour = |storm_type: &StormType| match storm_type {
        StormType::FailoverCascade => PURPLE,
        StormType::ColdStart => BLUE,
        StormType::ReplicationLag => "super-light-purple",
        StormType::MassInvalidation => ORANGE,
        StormType::MassExpiration => YELLOW,
        StormType::MemoryPressure => RED,
        StormType::HotKey => "dark-red",
        StormType::Unknown => GREY,
    };
    let named = StormType::ALL.iter().enumerate();
    let types = named.map(|(index, it)| ((index + 1).to_string(), it.as_str().replace('_', " "), colour(it)));
    std::iter::once(("0".to_owned(), "no storm".to_owned(), GREEN)).chain(types).collect()
}

/// States of a node in the order of `STATE_ORDER`, the best first.
pub(crate) fn node_states() -> Words {
    let colour = |state: &NodeState| match state {
        NodeState::Healthy => GREEN,
        NodeState::Degraded => YELLOW,
        NodeState::Critical => RED,
        NodeState::Unknown => BLUE,
        NodeState::Down => "dark-red",
    };
    let all = NodeState::ALL.iter().enumerate();
    all.map(|(index, it)| (index.to_string(), it.as_str().to_owned(), colour(it))).collect()
}

/// 0 and 1.
pub(crate) fn yes_no(yes: &str, colour: &'static str) -> Words {
    words(&[("0", "no", GREEN), ("1", yes, colour)])
}

/// The name of a type's alert and of its runbook page.
pub(crate) fn page(storm_type: StormType) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    format!("CacheStorm{}", storm_type.as_str().split('_').map(capital).collect::<String>())
}

/// What the exporter itself recommends for a type, and where to read more.
pub(crate) fn advice(storm_type: StormType, size: (u64, u64)) -> Panel {
    let list = recommend::for_storm(storm_type, None).enumerate();
    let steps: Vec<String> = list.map(|(index, text)| format!("{}. {text}", index + 1)).collect();
    let page = page(storm_type);
    let text = format!("{}\n\nRunbook: [{page}]({DOCS}/runbooks/{page}.md)", steps.join("\n"));
    Panel::text("What to do", "As the exporter's report recommends it, in the order of doing.", size, &text)
}
