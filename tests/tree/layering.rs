//! The rules of the source tree: which room may import which, where `unsafe` may stand, and what no
//! file contains.
//!
//! The sources of both packages are read as tokens, so that neither a comment nor a string counts.
//! What is compiled for tests alone does not count either. `rooms` has the rules about the shape of
//! the tree: circles, maps, sizes.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A part of the house, and what it may import.
struct Room {
    name: &'static str,
    /// Other rooms.
    rooms: &'static [&'static str],
    /// Crates besides std and core.
    crates: &'static [&'static str],
    /// Parts of std that are closed to it.
    closed: &'static [&'static str],
}

/// What does something: a room of plain values has none of it.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "std::os::fd",
    "std::os::linux",
    "std::os::unix::fs",
    "std::os::unix::io",
    "std::os::unix::net",
    "std::os::unix::process",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::time::Instant",
    "std::time::SystemTime",
];

const HOUSE: &[Room] = &[
    Room {
        name: "model",
        rooms: &[],
        crates: &[],
        closed: &[
            "std::fs",
            "std::io",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "std::os",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
    },
    Room {
        name: "wire",
        rooms: &["model"],
        crates: &["serde", "serde_json", "humantime"],
        closed: EFFECTS,
    },
    Room {
        name: "error",
        rooms: &[],
        crates: &[],
        closed: &["std::fs", "std::net", "std::env", "std::thread", "std::os"],
    },
    Room {
        name: "sys",
        rooms: &["error", "model", "wire"],
        crates: &[
            "humantime",
            "libc",
            "nix",
            "procfs",
            "rustix",
            "signal_hook",
            "socket2",
            "subtle",
        ],
        closed: &[],
    },
    Room {
        name: "log",
        rooms: &["error", "model", "sys"],
        crates: &["serde", "serde_json"],
        closed: &["std::env", "std::net", "std::thread"],
    },
    Room {
        name: "driver",
        rooms: &["error", "log", "model", "sys", "wire"],
        crates: &["serde", "serde_json"],
        closed: &["std::env", "std::net", "std::os::unix::net", "std::thread"],
    },
    Room {
        name: "client",
        rooms: &["error", "model", "sys", "wire"],
        crates: &["serde_json"],
        closed: &["std::env", "std::thread"],
    },
    Room {
        name: "ui",
        rooms: &["model", "wire"],
        crates: &[
            "comfy_table",
            "console",
            "humantime",
            "indicatif",
            "prometheus_client",
        ],
        closed: &[
            "std::fs",
            "std::net",
            "std::env",
            "std::process",
            "std::thread",
            "std::os",
        ],
    },
    Room {
        name: "worker",
        rooms: &["error", "model", "sys", "wire"],
        crates: &["socket2"],
        closed: &["std::fs"],
    },
    Room {
        name: "cmd",
        rooms: &[
            "client", "driver", "error", "log", "model", "sys", "ui", "wire", "worker",
        ],
        crates: &["clap", "httparse", "humantime", "serde", "serde_json"],
        closed: &["std::net", "std::os::unix::net", "std::thread"],
    },
    Room {
        name: "bin",
        rooms: &["cmd"],
        crates: &[],
        closed: &["std::fs", "std::io", "std::net", "std::env"],
    },
];

/// A source file.
pub(super) struct Source {
    /// Relative to its `src` folder: `model/worker/mod.rs`.
    pub(super) path: String,
    /// Its module's path: `["model", "worker"]`.
    pub(super) module: Vec<String>,
    pub(super) text: String,
    pub(super) tokens: Vec<TokenTree>,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Source {
        let text = fs::read_to_string(path).expect("a source file");
        let path = path.strip_prefix(root).expect("below the root");
        Source::of(&path.display().to_string(), text)
    }

    pub(super) fn of(path: &str, text: String) -> Source {
        let tokens = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let inner = path.trim_end_matches(".rs").trim_end_matches("/mod");
        Source {
            path: path.to_owned(),
            module: inner.split('/').map(str::to_owned).collect(),
            tokens: without_tests(tokens),
            text,
        }
    }

    fn room(&self) -> &str {
        &self.module[0]
    }
}

/// The `src` folders of both packages.
pub(super) fn roots() -> [PathBuf; 2] {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    [package.join("src"), package.join("crates/prefork-core/src")]
}

/// Every Rust file below a folder.
pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            paths.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

/// All sources, without the modules that are there for tests alone.
pub(super) fn sources() -> Vec<Source> {
    let for_tests = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name == "tests.rs" || name == "testing.rs"
    };
    let mut all = Vec::new();
    for root in roots() {
        let mut paths = files(&root);
        paths.retain(|path| !for_tests(path));
        all.extend(paths.iter().map(|path| Source::read(&root, path)));
    }
    all
}

/// Without what stands behind `#[cfg(test)]` or `#[test]`.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let attribute = match (&token, tokens.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(group))) if hash.as_char() == '#' => {
                group.to_string()
            }
            _ => String::new(),
        };
        let plain: String = attribute.chars().filter(|c| !c.is_whitespace()).collect();
        if plain == "[cfg(test)]" || plain == "[test]" {
            // The attribute's brackets, other attributes, and the item up to its body or semicolon.
            for token in tokens.by_ref() {
                match token {
                    TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => break,
                    TokenTree::Punct(end) if end.as_char() == ';' => break,
                    _ => {}
                }
            }
        } else {
            kept.push(token);
        }
    }
    kept
}

/// Every path that the tokens name, with the line: `["crate", "sys", "clock"]`. A group of imports
/// is taken apart.
pub(super) fn paths(tokens: &[TokenTree], found: &mut Vec<(Vec<String>, usize)>) {
    let mut at = 0;
    while at < tokens.len() {
        at += path_at(tokens, at, &[], found).max(1);
    }
}

/// The path that begins here, behind `prefix`; how many tokens it takes.
fn path_at(
    tokens: &[TokenTree],
    start: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let mut path = prefix.to_vec();
    let mut at = start;
    let line = tokens[start].span().start().line;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => {
                path.push(ident.to_string());
                at += 1;
            }
            Some(TokenTree::Group(group))
                if group.delimiter() == Delimiter::Brace && !path.is_empty() && at > start =>
            {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut next = 0;
                while next < inner.len() {
                    next += path_at(&inner, next, &path, found).max(1);
                }
                return at + 1 - start;
            }
            Some(TokenTree::Group(group)) if at == start => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                paths(&without_tests(inner.into_iter().collect()), found);
                return 1;
            }
            _ => break,
        }
        if !is_separator(tokens, at) {
            break;
        }
        at += 2;
    }
    if path.len() > prefix.len() {
        found.push((path, line));
    }
    at - start
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(tokens.get(at)) && colon(tokens.get(at + 1))
}

/// The path from the root of the house or of a crate; `None` for what is local to the module.
pub(super) fn absolute(source: &Source, path: &[String]) -> Option<Vec<String>> {
    let mut module = source.module.clone();
    let mut rest = path;
    if path
        .first()
        .is_some_and(|first| first == "crate" || first == "prefork")
    {
        return Some([&["crate".to_owned()], &path[1..]].concat());
    }
    let mut climbs = false;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "super" => {
                module.pop();
                climbs = true;
            }
            "self" => climbs = true,
            _ => break,
        }
        rest = others;
    }
    if climbs {
        return Some([&["crate".to_owned()], module.as_slice(), rest].concat());
    }
    (path.len() > 1).then(|| path.to_vec())
}

/// Everything that the dependency tables of both packages name, as it is written in a path.
fn dependencies() -> Vec<String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = vec!["libc".to_owned()];
    for manifest in ["Cargo.toml", "crates/prefork-core/Cargo.toml"] {
        let manifest = fs::read_to_string(package.join(manifest)).expect("a manifest");
        let mut listed = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                listed = line.ends_with("dependencies]");
            } else if let (true, Some((name, _))) = (listed, line.split_once(['.', ' '])) {
                names.push(name.replace('-', "_"));
            }
        }
    }
    names
}

/// What is wrong with the imports of a file.
fn trespasses(source: &Source, dependencies: &[String]) -> Vec<String> {
    let Some(room) = HOUSE.iter().find(|room| room.name == source.room()) else {
        // The root of the library declares the rooms.
        return if source.path == "lib.rs" {
            Vec::new()
        } else {
            vec![format!("{}: in no room", source.path)]
        };
    };
    let mut found = Vec::new();
    paths(&source.tokens, &mut found);
    let mut wrong = Vec::new();
    for (path, line) in found {
        let Some(path) = absolute(source, &path) else {
            continue;
        };
        let text = path.join("::");
        let second = path.get(1).map(String::as_str).unwrap_or_default();
        let forbidden = match path[0].as_str() {
            "crate" => second != room.name && !second.is_empty() && !room.rooms.contains(&second),
            "std" | "core" | "alloc" => room
                .closed
                .iter()
                .any(|closed| text == *closed || text.starts_with(&format!("{closed}::"))),
            name => dependencies.iter().any(|other| other == name) && !room.crates.contains(&name),
        };
        if forbidden {
            wrong.push(format!(
                "{}:{line}: {} may not use {text}",
                source.path, room.name
            ));
        }
    }
    wrong
}

pub(super) fn assert_nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_room_imports_what_is_not_its_own() {
    let dependencies = dependencies();
    let wrong: Vec<String> = sources()
        .iter()
        .flat_map(|source| trespasses(source, &dependencies))
        .collect();
    assert_nothing(&wrong);
}

/// Calls that panic on a value, and macros that always do.
const PANICS: &[&str] = &["panic", "todo", "unimplemented", "unreachable"];

/// A word of a source, with its line and what stands before and behind it.
pub(super) struct Word<'a> {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) before: Option<&'a TokenTree>,
    pub(super) after: Option<&'a TokenTree>,
}

pub(super) fn words(tokens: &[TokenTree], visit: &mut dyn FnMut(&Word<'_>)) {
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(ident) => visit(&Word {
                text: ident.to_string(),
                line: ident.span().start().line,
                before: at.checked_sub(1).and_then(|before| tokens.get(before)),
                after: tokens.get(at + 1),
            }),
            TokenTree::Group(group) => words(&without_tests(group.stream()), visit),
            _ => {}
        }
    }
}

pub(super) fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn panics(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    words(&source.tokens, &mut |word| {
        let method = word.text == "unwrap" && is_punct(word.before, '.');
        let macro_call = PANICS.contains(&word.text.as_str()) && is_punct(word.after, '!');
        if method || macro_call {
            wrong.push(format!("{}:{}: {}", source.path, word.line, word.text));
        }
    });
    wrong
}

#[test]
fn u34_nothing_panics_on_purpose() {
    assert_nothing(&sources().iter().flat_map(panics).collect::<Vec<_>>());
}

fn unsafe_without_leave(source: &Source) -> Vec<String> {
    let (mut lines, mut expected) = (Vec::new(), false);
    words(&source.tokens, &mut |word| match word.text.as_str() {
        "unsafe" => lines.push(word.line),
        "unsafe_code" => expected = true,
        _ => {}
    });
    if expected && source.room() == "sys" {
        return Vec::new();
    }
    let told = |line| format!("{}:{line}: unsafe", source.path);
    lines.into_iter().map(told).collect()
}

#[test]
fn unsafe_stands_in_the_files_of_sys_that_say_why() {
    assert_nothing(
        &sources()
            .iter()
            .flat_map(unsafe_without_leave)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_programs_are_a_line_each() {
    for source in sources().iter().filter(|source| source.room() == "bin") {
        let code = source
            .text
            .lines()
            .filter(|line| !line.starts_with("//!"))
            .count();
        assert!(code <= 3, "{}", source.path);
    }
}

/// A source that is not on disk.
fn imagined(path: &str, text: &str) -> Source {
    Source::of(path, text.to_owned())
}

#[test]
fn a_trespass_is_seen_however_it_is_written() {
    let dependencies = dependencies();
    for (path, text) in [
        ("model/worker.rs", "use std::fs::File;"),
        (
            "model/worker.rs",
            "use std::{collections::HashMap, io::{self, Read}};",
        ),
        (
            "model/worker.rs",
            "fn f() { let x = [std::env::var(\"A\")]; }",
        ),
        ("model/worker.rs", "use crate::sys::clock;"),
        ("model/worker.rs", "use crate::{model::time::Time, error};"),
        (
            "model/worker.rs",
            "fn f() { super::super::sys::clock::now(); }",
        ),
        ("model/mod.rs", "use super::wire;"),
        ("wire/proto.rs", "use std::net::TcpStream;"),
        (
            "driver/turn.rs",
            "fn f() { format!(\"{}\", nix::unistd::getpid()); }",
        ),
        (
            "ui/table.rs",
            "impl X { fn f(&self) -> crate::client::Control { } }",
        ),
        ("cmd/status.rs", "use nix::libc;"),
        ("bin/pf-x.rs", "use prefork::driver;"),
    ] {
        assert_ne!(
            trespasses(&imagined(path, text), &dependencies),
            [""; 0],
            "{path}: {text}"
        );
    }
    for (path, text) in [
        (
            "model/worker.rs",
            "use std::{collections::HashMap, time::Duration}; use super::time::Time; // std::fs\n",
        ),
        (
            "model/worker.rs",
            "fn f() { g(\"use std::fs\"); } #[cfg(test)] mod tests { use std::fs; }",
        ),
        (
            "wire/address.rs",
            "use std::net::{IpAddr, SocketAddr}; use crate::model::sig::Sig;",
        ),
        ("bin/pf-x.rs", "fn main() { prefork::cmd::x::main() }"),
    ] {
        assert_eq!(
            trespasses(&imagined(path, text), &dependencies),
            [""; 0],
            "{path}: {text}"
        );
    }
}

#[test]
fn a_panic_and_an_unsafe_block_are_seen() {
    let bad = "fn f(x: Option<u8>) -> u8 { if a { todo!() } g(unsafe { x.unwrap() }) }";
    assert_eq!(panics(&imagined("sys/a.rs", bad)).len(), 2);
    assert_eq!(unsafe_without_leave(&imagined("sys/a.rs", bad)).len(), 1);
    let leave = format!("#![expect(unsafe_code, reason = \"fork\")]\n{bad}");
    assert_eq!(unsafe_without_leave(&imagined("sys/a.rs", &leave)).len(), 0);
    assert_eq!(
        unsafe_without_leave(&imagined("driver/a.rs", &leave)).len(),
        1
    );
    let good = "fn f(x: Option<u8>) -> u8 { x.unwrap_or(0) } #[test] fn t() { panic!() }";
    assert_eq!(panics(&imagined("sys/a.rs", good)).len(), 0);
}
