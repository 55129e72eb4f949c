//! What `CONTRIBUTING.md` names is there, and it and its neighbours keep to its own rules.

use std::fs;
use std::path::{Path, PathBuf};

use super::layering::assert_nothing;

/// The widest that a line of documentation may be, in columns.
const MAX_COLUMNS: usize = 100;

/// What is made by those who follow the text.
const MADE_LATER: &[&str] = &["fuzz/artifacts/address", "fuzz/corpus/NAME"];

/// Where the paths begin that are not written in full.
const ROOTS: &[&str] = &[
    "",
    "crates/prefork-core",
    "crates/prefork-core/src",
    "crates/prefork-core/tests",
    "crates/prefork-core/tests/model",
];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backticks, each with the number of its line. Blocks are examples: left out.
fn quoted(text: &str) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate();
    let prose = lines.filter(|(_, line)| !line.starts_with("    "));
    prose
        .flat_map(|(number, line)| {
            line.split('`')
                .skip(1)
                .step_by(2)
                .map(move |it| (number, it))
        })
        .collect()
}

/// Whether this is the name of a file or of a directory.
fn is_path(quoted: &str) -> bool {
    let of_path = |letter: char| letter.is_ascii_alphanumeric() || "_-./".contains(letter);
    let file = [".rs", ".md", ".toml", ".roff"];
    let is_file = file.iter().any(|ending| quoted.ends_with(ending));
    (quoted.contains('/') || is_file) && quoted.chars().all(of_path)
}

#[test]
fn each_path_that_contributing_names_exists() {
    let text = fs::read_to_string(top().join("CONTRIBUTING.md")).expect("read");
    let mut wrong = Vec::new();
    let mut found = 0;
    // A file may be named by what lies beside the one before.
    let mut beside = PathBuf::new();
    for (number, name) in quoted(&text) {
        if !is_path(name) || MADE_LATER.contains(&name) {
            continue;
        }
        let roots = ROOTS.iter().map(|root| top().join(root));
        let mut places = roots.chain([beside.clone()]).map(|root| root.join(name));
        match places.find(|path| path.exists()) {
            Some(path) => {
                found += 1;
                beside = path.parent().unwrap_or(top()).to_owned();
            }
            None => wrong.push(format!("CONTRIBUTING.md:{}: no {name}", number + 1)),
        }
    }
    assert!(found > 80, "only {found} paths: the text is read wrongly");
    assert_nothing(&wrong);
}

#[test]
fn lines_of_documentation_are_narrow() {
    let mut wrong = Vec::new();
    for name in ["CONTRIBUTING.md", "SECURITY.md"] {
        let text = fs::read_to_string(top().join(name)).expect("read");
        let wide = text.lines().enumerate();
        let wide = wide.filter(|(_, line)| line.chars().count() > MAX_COLUMNS);
        wrong.extend(wide.map(|(number, _)| format!("{name}:{}: too wide", number + 1)));
    }
    assert_nothing(&wrong);
}
