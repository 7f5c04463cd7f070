//! The rules of the repository, as tests: who may import whom, and nothing that points outside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

const ARCHITECTURE: &str = include_str!("../../docs/architecture.md");
const PURE: [&str; 6] = ["model", "thresholds", "parse", "history", "topology", "detect"];
/// Longer files need a reason, given here.
const LONG_FILES: [(&str, &str); 0] = [];
const LINES_MAX: usize = 600;

/// A text file of the repository.
struct Text {
    /// Relative to the root, with `/`.
    path: String,
    content: String,
}

#[test]
fn modules_import_what_the_architecture_allows() {
    let allowed = allowed_imports();
    let mut faults = Vec::new();
    for file in sources() {
        let module = module_of(&file.path);
        if module == "lib" {
            continue;
        }
        let Some(allowed) = allowed.get(&module) else {
            faults.push(format!("docs/architecture.md has no row for `{module}` ({})", file.path));
            continue;
        };
        for imported in imports(&code(&file.content)) {
            if imported != module && !allowed.contains(&imported) {
                faults.push(format!("{}: `{module}` may not import `{imported}`", file.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn libraries_stay_in_their_rooms() {
    let rooms = [
        ("redis::", &["src/wire"][..]),
        ("figment", &["src/config/load.rs"]),
        ("prometheus::", &["src/metrics/"]),
        ("axum", &["src/serve/", "src/serve.rs"]),
    ];
    for (library, rooms) in rooms {
        let users: Vec<String> =
            sources().into_iter().filter(|file| names(&code(&file.content), library)).map(|file| file.path).collect();
        for user in &users {
            assert!(rooms.iter().any(|room| user.starts_with(room)), "{user} names {library}");
        }
        assert!(library != "redis::" || users.len() <= 1, "one file says {library}, not {users:?}");
    }
}

#[test]
fn detection_knows_no_clock_network_or_file() {
    let worldly = ["tokio", "redis::", "prometheus::", "axum", "hyper", "rand::", "Instant", "SystemTime", "std::net"];
    let worldly = worldly.iter().chain(&["std::fs", "std::io", "std::env", "std::thread", "std::process", "tracing"]);
    for file in sources().iter().filter(|file| PURE.contains(&module_of(&file.path).as_str())) {
        for word in worldly.clone() {
            assert!(!names(&code(&file.content), word), "{} names {word}", file.path);
        }
    }
}

#[test]
fn only_serve_knows_http() {
    // The command `report` asks a running exporter, `app` hands the socket over: both name the client side only.
    let servers = ["axum", "hyper", "axum_server", "tower", "http::"];
    for file in sources().iter().filter(|file| module_of(&file.path) != "serve") {
        for word in servers {
            assert!(!names(&code(&file.content), word), "{} names {word}", file.path);
        }
    }
}

#[test]
fn nothing_refers_outside_the_repository() {
    let root = root().display().to_string();
    // The top folder of wherever this is checked out, unless every system has one of that name.
    let top = format!("/{}/", root.split('/').nth(1).unwrap());
    let usual = ["/etc/", "/mnt/", "/opt/", "/run/", "/srv/", "/tmp/", "/usr/", "/var/"].contains(&top.as_str());
    let mut places = vec![root, "/home/".to_owned(), "/root/".to_owned(), "/Users/".to_owned()];
    places.extend((!usual).then_some(top));
    let mut faults = Vec::new();
    for file in texts() {
        if file.path == "tests/it/tidy.rs" || file.path == "Cargo.lock" {
            continue;
        }
        let depth = file.path.matches('/').count();
        for (number, line) in file.content.lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) || climbs(line) > depth {
                faults.push(format!("{}:{}: {line}", file.path, number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "refers to a place outside the repository:\n{}", faults.join("\n"));
}

#[test]
fn files_are_short() {
    for file in texts().iter().filter(|file| file.path.ends_with(".rs")) {
        let lines = file.content.lines().count();
        let excused = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        assert!(lines <= LINES_MAX || excused, "{} has {lines} lines: split it, or give a reason", file.path);
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut faults = Vec::new();
    for file in texts().iter().filter(|file| file.path.ends_with(".md")) {
        let folder = root().join(&file.path).parent().unwrap().to_owned();
        for target in file.content.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !folder.join(target).exists() {
                faults.push(format!("{} links to {target}", file.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What ships: without the files that are modules of tests only.
fn sources() -> Vec<Text> {
    let mut sources: Vec<Text> =
        texts().into_iter().filter(|file| file.path.starts_with("src/") && file.path.ends_with(".rs")).collect();
    let only_tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    sources.retain(|file| !only_tests.contains(&file.path));
    sources
}

/// Paths of the modules that a file declares as `#[cfg(test)] mod name;`.
fn test_modules(file: &Text) -> Vec<String> {
    let folder = match file.path.rsplit_once('/').unwrap() {
        (folder, "mod.rs" | "lib.rs" | "main.rs") => folder.to_owned(),
        (folder, name) => format!("{folder}/{}", name.trim_end_matches(".rs")),
    };
    let declared = file.content.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let (name, _) = rest.lines().next()?.split_once("mod ")?.1.split_once(';')?;
        Some(format!("{folder}/{name}.rs"))
    });
    declared.collect()
}

/// Every text file except what is built or belongs to git.
fn texts() -> Vec<Text> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("target" | ".git") => {}
                _ if path.is_dir() => walk(&path, found),
                _ => found.push(path),
            }
        }
    }
    let (root, mut paths) = (root(), Vec::new());
    walk(&root, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let content = String::from_utf8(std::fs::read(&path).unwrap()).ok()?;
        let path = path.strip_prefix(&root).unwrap().components();
        let path = path.map(Component::as_os_str).map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("/");
        Some(Text { path, content })
    };
    paths.into_iter().filter_map(read).collect()
}

/// `src/poll/round.rs` and `src/poll.rs` belong to `poll`.
fn module_of(path: &str) -> String {
    let inner = path.strip_prefix("src/").unwrap();
    inner.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// The code that ships: without comments and without the tests at the file's end.
fn code(content: &str) -> String {
    let tests = content.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at);
    let end = tests.filter(|at| content[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'))).min();
    let shipped = &content[..end.unwrap_or(content.len())];
    shipped.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether `word` occurs as a path of its own, not as the tail of another name.
fn names(code: &str, word: &str) -> bool {
    let part_of_name = |character: char| character.is_alphanumeric() || matches!(character, '_' | '"');
    let found = |(at, _): (usize, &str)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let own_module = code[..at].ends_with("crate::") || code[..at].ends_with("self::");
        let ends = word.ends_with(':') || !after.is_some_and(part_of_name);
        !before.is_some_and(part_of_name) && !own_module && ends
    };
    code.match_indices(word).any(found)
}

/// Modules of this crate that the code names: `crate::poll::…`, `crate::{model, parse::Info}`; in the binary by the
/// library's name.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "cache_storm_exporter::"] {
        for rest in code.split(prefix).skip(1) {
            match rest.strip_prefix('{') {
                Some(group) => found.extend(top_level(group)),
                None => found.extend(leading_name(rest)),
            }
        }
    }
    found
}

/// The first name of each member of a use group: `a::b, c::{d, e}}…` → a, c.
fn top_level(group: &str) -> Vec<String> {
    let (mut depth, mut members) = (0, vec![String::new()]);
    for character in group.chars() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(String::new()),
            _ if depth == 0 => members.last_mut().unwrap().push(character),
            _ => {}
        }
    }
    members.iter().filter_map(|member| leading_name(member.trim())).collect()
}

/// A module's name; types (`crate::Error`) are none.
fn leading_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect();
    name.starts_with(|first: char| first.is_lowercase()).then_some(name)
}

/// The rows of the architecture's table.
fn allowed_imports() -> BTreeMap<String, BTreeSet<String>> {
    let rows = ARCHITECTURE.lines().filter(|line| line.starts_with("| `"));
    let read = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let imports = cells[2].split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        (cells[1].trim_matches('`').to_owned(), imports.collect())
    };
    let table: BTreeMap<_, _> = rows.map(read).collect();
    assert!(table.len() > 5, "docs/architecture.md has lost its table");
    table
}

/// The longest run of `../` in the line; an ellipsis (`…/`, `.../`) is none.
fn climbs(line: &str) -> usize {
    let mut longest = 0;
    for (at, _) in line.match_indices("../") {
        if !line[..at].ends_with('.') {
            let mut rest = &line[at..];
            let mut run = 0;
            while let Some(next) = rest.strip_prefix("../") {
                (rest, run) = (next, run + 1);
            }
            longest = longest.max(run);
        }
    }
    longest
}

#[test]
fn imports_and_climbs_are_found() {
    let code = "use crate::model::Role;\nuse crate::{detect::{Settings, x}, parse};\nlet a = crate::wire::open();";
    assert_eq!(imports(code).into_iter().collect::<Vec<_>>(), ["detect", "model", "parse", "wire"]);
    assert_eq!((climbs("include_str!(\"../../README.md\")"), climbs("a .../b"), climbs("a")), (2, 0, 0));
    assert!(
        names("use redis::cmd;", "redis::") && !names("crate::redis::x", "redis::") && !names("myredis::x", "redis::")
    );
}
