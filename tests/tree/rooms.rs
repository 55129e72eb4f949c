//! The shape of the source tree: no circles between rooms, a map in each, and sizes that can be
//! read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::TokenTree;

use super::layering::{
    Source, absolute, assert_nothing, files, is_punct, paths, roots, sources, words,
};

/// The longest that a file may be, in lines.
const MAX_LINES: usize = 450;

/// The widest that a comment may be, in columns; rustfmt sees to the code.
const MAX_COLUMNS: usize = 100;

/// How many files may lie flat in a room.
const MAX_FLAT_FILES: usize = 16;

/// How many files of one room may import each other in a circle.
const MAX_CIRCLE: usize = 3;

/// How often a pronoun may stand where the field has a noun.
const MAX_PRONOUNS: usize = 12;

/// A source file's room: the folder below its floor, or the file itself where it lies in the floor.
/// Deeper folders belong to the room: `sys/process/spawn/child.rs` is in `sys/process`.
fn room(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [floor, room, _, ..] => format!("{floor}/{room}"),
        _ => path.to_owned(),
    }
}

/// The file that a path of modules leads into: the longest beginning that is a file.
fn target<'a>(by_module: &BTreeMap<&[String], &'a Source>, path: &[String]) -> Option<&'a Source> {
    (1..=path.len())
        .rev()
        .find_map(|length| by_module.get(&path[..length]).copied())
}

/// Which file imports which.
fn imports(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let by_module: BTreeMap<&[String], &Source> = sources
        .iter()
        .map(|source| (source.module.as_slice(), source))
        .collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let mut found = Vec::new();
        paths(&source.tokens, &mut found);
        let arrows = graph.entry(source.path.clone()).or_default();
        for (path, _) in found {
            let inner = absolute(source, &path).filter(|path| path[0] == "crate");
            let file = inner.and_then(|path| target(&by_module, &path[1..]));
            arrows.extend(
                file.map(|file| file.path.clone())
                    .filter(|path| *path != source.path),
            );
        }
    }
    graph
}

/// Every node that can be reached from this one.
fn reachable(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(node) = open.pop() {
        for next in graph.get(&node).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// The circles: each is a set of nodes that can all reach each other.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<String>> = graph
        .keys()
        .map(|node| (node, reachable(graph, node)))
        .collect();
    let of = |node: &String| -> BTreeSet<String> {
        let back = |other: &&String| reach.get(other).is_some_and(|all| all.contains(node));
        reach[node].iter().filter(back).cloned().collect()
    };
    graph
        .keys()
        .map(of)
        .filter(|circle| circle.len() > 1)
        .collect()
}

/// The arrows between rooms.
fn between_rooms(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in graph {
        let arrows = rooms.entry(room(from)).or_default();
        arrows.extend(to.iter().map(|to| room(to)).filter(|to| *to != room(from)));
    }
    rooms
}

#[test]
fn no_circle_runs_across_rooms() {
    let circles = circles(&between_rooms(&imports(&sources())));
    let told: Vec<String> = circles
        .iter()
        .map(|circle| format!("{circle:?} import each other"))
        .collect();
    assert_nothing(&told);
}

#[test]
fn no_circle_within_a_room_is_longer_than_three_files() {
    let long = circles(&imports(&sources()))
        .into_iter()
        .filter(|circle| circle.len() > MAX_CIRCLE);
    assert_nothing(&long.map(|circle| format!("{circle:?}")).collect::<Vec<_>>());
}

/// Whether the tokens name a worker's phase: as a type, or as a field.
fn names_a_phase(tokens: &[TokenTree]) -> bool {
    let mut found = false;
    words(tokens, &mut |word| {
        found |= word.text == "Phase" || (word.text == "phase" && is_punct(word.before, '.'));
    });
    found
}

/// Where `matches!` asks for a phase outside the file that defines its predicates.
fn matched_phases(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    if source.path == "model/worker/state.rs" {
        return wrong;
    }
    collect_matched_phases(&source.tokens, &mut |line| {
        wrong.push(format!(
            "{}:{line}: matches! on a phase: write a predicate on Phase",
            source.path
        ));
    });
    wrong
}

fn collect_matched_phases(tokens: &[TokenTree], found: &mut dyn FnMut(usize)) {
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            continue;
        };
        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
        let name = at.checked_sub(2).and_then(|name| tokens.get(name));
        let is_matches = matches!(name, Some(TokenTree::Ident(ident)) if ident == "matches")
            && is_punct(tokens.get(at - 1), '!');
        if is_matches && names_a_phase(&inner) {
            found(group.span().start().line);
        }
        collect_matched_phases(&inner, found);
    }
}

#[test]
fn a_phase_is_asked_by_its_predicates() {
    let model = sources()
        .into_iter()
        .filter(|source| source.module[0] == "model");
    assert_nothing(
        &model
            .flat_map(|source| matched_phases(&source))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn comments_are_at_most_a_hundred_columns_wide() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in ["src", "crates", "tests", "benches", "examples", "fuzz"] {
        let folder = package.join(folder);
        if !folder.is_dir() {
            continue;
        }
        for path in files(&folder) {
            let text = fs::read_to_string(&path).expect("a file");
            for (number, line) in text.lines().enumerate() {
                let comment = line.trim_start().starts_with("//");
                if comment && line.chars().count() > MAX_COLUMNS {
                    wrong.push(format!("{}:{}", path.display(), number + 1));
                }
            }
        }
    }
    for name in [".ci/run", ".clippy.toml", "Cargo.toml", "examples/demo.sh"] {
        let text = fs::read_to_string(package.join(name)).expect("a file");
        for (number, line) in text.lines().enumerate() {
            let comment = line.trim_start().starts_with('#');
            if comment && line.chars().count() > MAX_COLUMNS {
                wrong.push(format!("{name}:{}", number + 1));
            }
        }
    }
    assert_nothing(&wrong);
}

/// What is wrong with the maps of the rooms below one root.
fn missing_in_maps(root: &Path, folder: &Path, wrong: &mut Vec<String>) {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            missing_in_maps(root, &path, wrong);
        } else if !["mod", "lib", "tests", "testing"].contains(&stem.as_ref()) {
            names.push(stem.into_owned());
        }
    }
    // The programs are a line each; a folder of tests beside `x.rs` is no room.
    if folder == root || folder.ends_with("bin") || names.is_empty() {
        return;
    }
    let place = folder.strip_prefix(root).expect("below it").display();
    let Ok(text) = fs::read_to_string(folder.join("mod.rs")) else {
        wrong.push(format!("{place}: no mod.rs"));
        return;
    };
    let map: String = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let named = |name: &String| {
        map.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
            .any(|word| word == name)
    };
    for name in names.iter().filter(|name| !named(name)) {
        wrong.push(format!("{place}/mod.rs: the map does not name {name}"));
    }
    if names.len() + 1 > MAX_FLAT_FILES {
        wrong.push(format!("{place}: {} files lie flat", names.len() + 1));
    }
}

#[test]
fn each_room_has_a_map_that_names_its_files() {
    let mut wrong = Vec::new();
    for root in roots() {
        missing_in_maps(&root, &root, &mut wrong);
    }
    assert_nothing(&wrong);
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let mut wrong = Vec::new();
    for path in roots().iter().flat_map(|root| files(root)) {
        let lines = fs::read_to_string(&path).expect("a file").lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert_nothing(&wrong);
}

#[test]
fn the_nouns_of_the_field_stand_where_pronouns_would() {
    let pronouns = ["nobody", "somebody", "whoever", "whatever"];
    let count = |text: &str| {
        text.split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| pronouns.contains(&word.to_lowercase().as_str()))
            .count()
    };
    let total: usize = roots()
        .iter()
        .flat_map(|root| files(root))
        .map(|path| count(&fs::read_to_string(path).expect("a file")))
        .sum();
    assert!(total <= MAX_PRONOUNS, "{total} pronouns in the sources");
}

/// A source that is not on disk.
fn imagined(path: &str, text: &str) -> Source {
    Source::of(path, text.to_owned())
}

#[test]
fn a_circle_and_a_matched_phase_are_seen() {
    let sources = [
        imagined("sys/io/a.rs", "use crate::sys::files::b::B;"),
        imagined("sys/files/b.rs", "fn f() { super::super::io::a::g() }"),
        imagined("sys/files/c.rs", "use super::b;"),
    ];
    let found = circles(&between_rooms(&imports(&sources)));
    assert_eq!(
        found,
        BTreeSet::from([BTreeSet::from(["sys/files".into(), "sys/io".into()])])
    );
    let two = [
        imagined("sys/io/a.rs", "use super::b::B;"),
        imagined("sys/io/b.rs", "use super::a::A;"),
    ];
    assert_eq!(circles(&imports(&two)).len(), 1);
    assert!(circles(&between_rooms(&imports(&two))).is_empty());
    for text in [
        "fn f() { matches!(worker.phase, Phase::Ready) }",
        "fn f() { if x { !matches!(self.phase, _) } }",
    ] {
        let source = imagined("model/rollout/mod.rs", text);
        assert_eq!(matched_phases(&source).len(), 1, "{text}");
    }
    let fine = imagined("model/rollout/mod.rs", "fn f() { matches!(a, B) }");
    assert!(matched_phases(&fine).is_empty());
}
