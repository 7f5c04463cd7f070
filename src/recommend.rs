//! What to do now, by storm type and finer cause. For the one on call: short, in the order of doing.

use crate::detect::verdict::CacheVerdict;
use crate::model::{Indicator, Severity, StormType};

/// Advice on a cache: on its leading type, then on what stands in the way of any recovery. Empty without a storm.
#[must_use]
pub fn for_cache(verdict: &CacheVerdict) -> Vec<&'static str> {
    if verdict.severity == Severity::None {
        return Vec::new();
    }
    let leading = verdict.leading_type.or_else(|| verdict.storm_types.first().map(|first| first.storm_type));
    let leading = leading.unwrap_or(StormType::Unknown);
    let sub_reason =
        verdict.storm_types.iter().find(|verdict| verdict.storm_type == leading).and_then(|verdict| verdict.sub_reason);
    let obstacles = OBSTACLES
        .iter()
        .filter(|(indicator, _)| verdict.nodes.iter().any(|node| node.affected && node.indicators.contains(indicator)));
    // A dead node needs no guess at a cause: what to do about it comes first.
    let mut advice: Vec<&str> = obstacles.map(|(_, advice)| *advice).collect();
    let dead_only =
        verdict.nodes.iter().filter(|node| node.affected).all(|node| node.indicators.contains(&Indicator::Unreachable));
    if !(dead_only && leading == StormType::Unknown && !advice.is_empty()) {
        advice.extend(for_storm(leading, sub_reason));
    }
    advice
}

/// Advice on a storm: on its finer cause first, then on its type.
pub fn for_storm(storm_type: StormType, sub_reason: Option<&str>) -> impl Iterator<Item = &'static str> {
    sub_reason.and_then(on_sub_reason).into_iter().chain(on_type(storm_type).iter().copied())
}

/// Advice on findings that any type may come with.
const OBSTACLES: &[(Indicator, &str)] = &[
    (
        Indicator::Unreachable,
        "A node does not answer its clients. If it is down, see its reason of failure, restart it or promote its replica; \
         if it loads its data set, wait. Hold back the database's clients until it is back.",
    ),
    (
        Indicator::WriteRefusal,
        "Writes are refused for want of memory, so the cache cannot refill. Raise maxmemory, or set an eviction policy \
         that can evict the keys in use.",
    ),
    (
        Indicator::ReplicationLinkDown,
        "A replica has lost its master and answers from the past. Send its reads elsewhere until the link is up.",
    ),
];

const fn on_type(storm_type: StormType) -> &'static [&'static str] {
    match storm_type {
        StormType::ColdStart => &[
            "Warm the keys asked for most, in order of importance and at a limited rate, before all traffic returns.",
            "Shed or queue part of the requests until the hit ratio climbs: the database sees every miss meanwhile.",
            "Afterwards: restart one node at a time, and from a snapshot or a replica that holds the keys.",
        ],
        StormType::HotKey => &[
            "Find the key with a bounded sample on the affected node, and see who asks for it and how often it changes.",
            "Keep the key in the clients for some seconds, or spread copies of it over several nodes and read at random.",
            "Let one request rebuild it while the others wait or take the old value.",
        ],
        StormType::MassInvalidation => &[
            "Find and stop what removes the keys: look for FLUSHALL, FLUSHDB and bulk DEL or UNLINK around the onset, \
             and for a deployment.",
            "Limit concurrent rebuilds per key, and warm the important keys first.",
            "Afterwards: invalidate in small steps, and deny flush commands to applications by ACL.",
        ],
        StormType::MassExpiration => &[
            "Let one request per key rebuild it while the others wait or take a stale value.",
            "Add a random tenth to the TTL of whatever is written from now on, or the same wave returns one TTL later.",
            "Afterwards: find the batch job that wrote these keys with one TTL, and refresh hot keys before they expire.",
        ],
        StormType::MemoryPressure => &[
            "Give the cache more memory, or move a part of its keys: it evicts what is still asked for.",
            "Look for what grew: large values, keys without a TTL, a new writer, fragmentation above 1.5.",
            "Prefer allkeys-lru or allkeys-lfu where every key can be rebuilt.",
        ],
        StormType::ReplicationLag => &[
            "Send reads to the master or to a replica that is not behind until the lag is gone.",
            "Check the network, the master's load and the replication buffer; a full synchronisation that starts over \
             and over needs a larger backlog.",
        ],
        StormType::FailoverCascade => &[
            "Do not fail over again by hand. Check that all clients have found the new master and that one master only \
             takes writes.",
            "Warm the promoted node and spread the reconnects of the clients: it holds fewer keys than the old one did.",
            "Find out why the old master was given up: network, load or a long pause.",
        ],
        StormType::Unknown => &[
            "Compare with what changed at the onset: deployments, configuration, new traffic, the database behind.",
            "Limit the rebuilds that reach the database, and watch the evidence: a cause may show within minutes.",
        ],
    }
}

fn on_sub_reason(sub_reason: &str) -> Option<&'static str> {
    Some(match sub_reason {
        "stampede" => {
            "Many clients rebuild the same key at once. Put a lock or a single flight around the rebuild, and serve the \
             old value meanwhile."
        }
        "penetration" => {
            "Keys are asked for that nobody stores. Remember absent keys for a short time, and refuse impossible \
             identifiers before they reach the cache."
        }
        "key_space_shift" => {
            "The clients ask under new names: a version or a tag in the keys has changed. Roll it back or roll it out in \
             steps; the old keys still take the memory."
        }
        "skewed_load" => {
            "One node takes several times its peers' load. Take a key sample there to see whether one key, one pattern \
             or one client is behind it."
        }
        "loading" => {
            "The server loads its data set and refuses its clients until that is there. Do not restart it, it would begin \
             anew: wait, or promote a replica."
        }
        "flapping" => {
            "The master changes again and again. Raise down-after-milliseconds or mend the network between the \
             Sentinels before anything else."
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::fixture;

    #[test]
    fn every_type_has_advice() {
        for storm_type in StormType::ALL {
            let advice = on_type(*storm_type);
            assert!((2..=4).contains(&advice.len()), "{storm_type}");
        }
    }

    #[test]
    fn the_finer_cause_comes_first() {
        let advice = for_cache(&fixture::cache("c").verdict);
        assert!(advice[0].starts_with("The clients ask under new names"), "{advice:?}");
        assert_eq!(advice.len(), 4);
    }

    #[test]
    fn a_dead_node_is_named_first_and_a_quiet_cache_gets_no_advice() {
        let mut verdict = CacheVerdict::clone(&fixture::cache("c").verdict);
        verdict.nodes[0].indicators = vec![Indicator::Unreachable];
        verdict.leading_type = Some(StormType::Unknown);
        let advice = for_cache(&verdict);
        assert!(advice.len() == 1 && advice[0].starts_with("A node does not answer"), "{advice:?}");
        verdict.severity = Severity::None;
        assert!(for_cache(&verdict).is_empty());
    }
}
