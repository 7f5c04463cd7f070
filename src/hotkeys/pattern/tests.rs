use proptest::collection::vec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::*;

/// `key → pattern`, one per line, by application: all keys of one are learned before the first is looked at.
const REALISTIC: &str = include_str!("realistic.txt");

/// Keys and patterns of each application.
fn applications() -> Vec<Vec<(&'static str, &'static str)>> {
    let parts = REALISTIC.split("# application").skip(1);
    parts.map(|part| part.lines().filter_map(|line| line.split_once(" → ")).collect()).collect()
}

/// The pattern of each key, once all are known.
fn patterns(keys: &[&str]) -> Vec<String> {
    let mut patterns = Patterns::default();
    let ids: Vec<PatternId> = keys.iter().map(|key| patterns.learn(key.as_bytes())).collect();
    ids.into_iter().map(|id| patterns.name(id)).collect()
}

#[test]
fn identifiers_are_seen_in_a_single_key() {
    for (key, expected) in [
        ("user:12345", "user:*"),
        ("session:550e8400-e29b-41d4-a716-446655440000", "session:*"),
        ("session:user:12345", "session:user:*"),
        ("mail:alice.smith+x@example.com:inbox", "mail:*:inbox"),
        ("rate:10.11.12.13", "rate:*"),
        ("rate:10.11.12.13:8080", "rate:*:*"),
        ("daily:2024-06-30", "daily:*"),
        ("daily:2024/06/30:de", "daily:*:de"),
        ("slot:2024-06-30T12:00:00Z", "slot:*"),
        ("job:01ARZ3NDEKTSV4RRFFQ69G5FAV", "job:*"),
        ("blob:9f86d081884c7d65", "blob:*"),
        ("token:dGhpcyBpcyBhIHRva2Vu", "token:*"),
        ("v1:users:7", "v1:users:*"),
        ("api:v2:item:12ab34", "api:v2:item:*"),
        ("article:trending:top10", "article:trending:top10"),
        ("oauth2:sha256", "oauth2:sha256"),
        ("stats:page_views:global", "stats:page_views:global"),
        ("config:feature_flags", "config:feature_flags"),
        ("cart_991_items", "cart_*_items"),
        ("{user:1000}.following", "{user:*}.following"),
        ("UserSessionRepository:42", "UserSessionRepository:*"),
        ("internationalization:strings", "internationalization:strings"),
        ("user:alice", "user:*"),
        ("user:profile:9", "user:profile:*"),
        ("deadbeef", "deadbeef"),
        ("", ""),
        (":", ":"),
        ("a::b", "a::b"),
        ("a:", "a:"),
        ("caf\u{e9}:1", "*:*"),
        ("a*b:c", "*:c"),
    ] {
        assert_eq!(patterns(&[key]), [expected], "{key}");
    }
}

#[test]
fn a_position_with_many_words_varies() {
    let names: Vec<String> =
        (0..17).map(|index| format!("team:{}:wiki", "abcdefghijklmnopq".split_at(index).1)).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(patterns(&keys[..16])[0], "team:abcdefghijklmnopq:wiki");
    assert_eq!(patterns(&keys), vec!["team:*:wiki"; 17]);
}

#[test]
fn what_differs_behind_varied_words_stays_apart() {
    let mut names = Vec::new();
    for word in "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho".split(' ') {
        names.extend([format!("shop:{word}"), format!("shop:{word}:stock"), format!("shop:{word}:price:eur")]);
    }
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let patterns = patterns(&keys);
    assert_eq!(&patterns[..3], ["shop:*", "shop:*:stock", "shop:*:price:eur"]);
    assert_eq!(&patterns[48..], &patterns[..3]);
}

#[test]
fn the_order_of_keys_does_not_matter() {
    for application in applications() {
        let mut keys: Vec<&str> = application.iter().map(|(key, _)| *key).collect();
        let sorted = |keys: &[&'static str]| {
            let mut found: Vec<(&str, String)> = keys.iter().copied().zip(patterns(keys)).collect();
            found.sort_unstable();
            found
        };
        let expected = sorted(&keys);
        for seed in 0..10 {
            keys.shuffle(&mut StdRng::seed_from_u64(seed));
            assert_eq!(sorted(&keys), expected, "seed {seed}");
        }
    }
}

#[test]
fn realistic_keys_have_the_patterns_that_people_expect() {
    let mut wrong = Vec::new();
    for application in applications() {
        assert_eq!(application.len(), 50);
        let keys: Vec<&str> = application.iter().map(|(key, _)| *key).collect();
        for ((key, expected), found) in application.iter().zip(patterns(&keys)) {
            wrong.extend((found != *expected).then(|| format!("{key}: {found}, expected {expected}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn parts_of_a_stream_teach_the_same_as_the_whole() {
    let names: Vec<String> = (0..40).map(|index| format!("team:{}:wiki", "x".repeat(index))).collect();
    let keys: Vec<&str> =
        applications()[1].iter().map(|(key, _)| *key).chain(names.iter().map(String::as_str)).collect();
    let mut halves = [Patterns::default(), Patterns::default()];
    let ids: Vec<PatternId> =
        keys.iter().enumerate().map(|(index, key)| halves[index % 2].learn(key.as_bytes())).collect();
    let [mut one, other] = halves;
    let here = one.absorb(&other);
    let found = ids.iter().enumerate().map(|(index, id)| match index % 2 {
        0 => one.name(*id),
        _ => one.name(here[id.index()]),
    });
    assert_eq!(found.collect::<Vec<_>>(), patterns(&keys));
}

/// Keys of every shape that a generator of bad luck can think of: any bytes, any separators, any depth.
/// `benches/hotkeys.rs` does the same with a million.
#[test]
fn random_keys_give_few_patterns() {
    let mut rng = StdRng::seed_from_u64(1);
    let (mut patterns, mut ids) = (Patterns::default(), std::collections::BTreeSet::new());
    let mut key = Vec::new();
    for index in 0..60_000 {
        key.clear();
        let alphabet: &[u8] = match index % 5 {
            0 => b"abcdefghijklmnopqrstuvwxyz0123456789",
            1 => b"abcdefghij:_-./|",
            2 => b"ab:",
            3 => b"aeiourstln:@=&?{}[]()",
            _ => &[],
        };
        for _ in 0..rng.random_range(0..40) {
            key.push(if alphabet.is_empty() { rng.random() } else { alphabet[rng.random_range(0..alphabet.len())] });
        }
        ids.insert(patterns.learn(&key));
    }
    assert!(patterns.count() <= 200, "{} patterns", patterns.count());
    let names: std::collections::BTreeSet<String> = ids.iter().map(|id| patterns.name(*id)).collect();
    assert!(names.len() <= 200, "{} names", names.len());
    assert!(patterns.places.len() <= PLACES_MAX);
    let shown = |name: &String| name.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(names.iter().all(shown), "names can be shown");
    assert!(patterns.count() > 20, "and they are not all one");
}

#[test]
fn a_noisy_corner_leaves_the_others_their_names() {
    let mut patterns = Patterns::default();
    let good = patterns.learn(b"article:trending:top10");
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..20_000 {
        let word = |rng: &mut StdRng| ["a", "b", "c", "d", "e", "f", "g", "h"][rng.random_range(0..8)];
        let key = (0..6).map(|_| word(&mut rng)).collect::<Vec<_>>().join(":");
        patterns.learn(format!("noise:{key}").as_bytes());
    }
    assert_eq!(patterns.name(good), "article:trending:top10");
}

proptest! {
    #[test]
    fn keys_of_one_shape_have_the_same_parts(
        key in vec(prop::sample::select(b"0123456789012345678901234567890123456789:::..//--_abfTZ@v ".to_vec()), 0..70),
        digits in vec(b'0'..=b'9', 70),
    ) {
        let change = |(byte, digit): (&u8, &u8)| if byte.is_ascii_digit() { *digit } else { *byte };
        let other: Vec<u8> = key.iter().zip(&digits).map(change).collect();
        let mut rooms = [[0; _]; 2];
        let [room, other_room] = &mut rooms;
        let shapes = (shape(&key, room), shape(&other, other_room));
        prop_assert_eq!(shapes.0, shapes.1);
        if shapes.0.is_some() {
            let (parts, other) = (Parts::of(&key), Parts::of(&other));
            let shown = |part: Part<'_>| format!("{part:?}");
            prop_assert!(parts.iter().map(shown).eq(other.iter().map(shown)));
        }
    }
}

#[test]
fn a_shape_is_that_of_whole_numbers() {
    for (key, expected) in [
        ("user:1017:cart", Some("user:0000:cart")),
        ("daily:2024-06-30", Some("daily:0000-00-00")),
        ("v1:users:7", None),
        ("user:alice", None),
        ("7$", None),
        (&"1".repeat(65)[..], None),
        ("", None),
    ] {
        assert_eq!(shape(key.as_bytes(), &mut [0; _]), expected.map(str::as_bytes), "{key}");
    }
}
