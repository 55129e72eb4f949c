//! Runs the inputs that fuzzing has kept (`fuzz/corpus`) against the properties of `targets`.
//!
//! So a finding that was mended stays mended, without a fuzzer. `CONTRIBUTING.md` says how to run
//! one, and how to add a target.

mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// The largest that all inputs may be together, in bytes.
const MAX_CORPUS: usize = 300 * 1024;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The names of the entries of a directory of `fuzz`, without their ends.
fn names(dir: &str) -> BTreeSet<String> {
    let dir = fuzz_dir().join(dir);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.display().to_string());
    let entries = entries.map(|entry| stem(entry.expect("an entry").path()));
    entries.map(|stem| stem.expect("a name")).collect()
}

/// The files of a target's corpus, in a lasting order.
fn inputs(target: &str) -> Vec<PathBuf> {
    let dir = fuzz_dir().join("corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut all: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    all.sort();
    all
}

#[test]
fn kept_inputs_hold_every_property() {
    let mut failed = Vec::new();
    for (name, _) in targets::ALL {
        for path in inputs(name) {
            let input = fs::read(&path).expect("an input");
            if catch_unwind(|| targets::run(name, &input)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "the panics are above: {failed:#?}");
}

#[test]
fn each_target_has_a_program_and_inputs() {
    let known = targets::ALL.map(|(name, _)| name.to_owned());
    let known = BTreeSet::from(known);
    assert_eq!(names("fuzz_targets"), known);
    assert_eq!(names("corpus"), known);
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).expect("a manifest");
    for name in &known {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let program = fuzz_dir().join("fuzz_targets").join(format!("{name}.rs"));
        let program = fs::read_to_string(program).expect("a program");
        assert!(program.contains(&format!("run(\"{name}\", ")), "{name}");
    }
}

#[test]
fn kept_inputs_are_few_and_small() {
    let mut total = 0;
    for (name, _) in targets::ALL {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "{name}");
        total += inputs
            .iter()
            .map(|path| fs::metadata(path).expect("an input").len() as usize)
            .sum::<usize>();
    }
    assert!(total <= MAX_CORPUS, "{total} bytes: cargo fuzz cmin");
}
