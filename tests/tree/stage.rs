//! What the tests of the README share: its blocks, and a directory in which they are run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::service::until;
use crate::common::support::skip;

pub(crate) fn package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn readme() -> String {
    fs::read_to_string(package("README.md")).expect("a README")
}

/// A fenced block: the words behind its fence, and its text.
pub(crate) struct Block {
    pub(crate) words: Vec<String>,
    pub(crate) text: String,
}

pub(crate) fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in markdown.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(words), None) => {
                let words = words.split_whitespace().map(str::to_owned).collect();
                open = Some(Block {
                    words,
                    text: String::new(),
                });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

/// The blocks with this word, `recipe=NAME` or `file=NAME`, by name.
pub(crate) fn named(word: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for block in blocks(&readme()) {
        let name = block
            .words
            .iter()
            .find_map(|other| other.strip_prefix(word)?.strip_prefix('='));
        if let Some(name) = name {
            assert!(
                found.insert(name.to_owned(), block.text).is_none(),
                "{name} is there twice"
            );
        }
    }
    found
}

/// The directories of our programs, before all others.
pub(crate) fn path(first: &[&Path]) -> OsString {
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let all = first
        .iter()
        .map(|path| path.to_path_buf())
        .chain(std::env::split_paths(&usual));
    std::env::join_paths(all).expect("no colon in them")
}

pub(crate) fn programs() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_pf-master"));
    program.parent().expect("a directory").to_owned()
}

/// A directory for one run, and all processes started in it, found by a variable of their
/// environment.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    mark: String,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let dir = tempfile::tempdir().expect("a directory");
        // Another user may have to look into it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("our own");
        for name in ["home", "tmp", "work"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let mark = format!("PF_TEST_MARK={}", dir.path().display());
        Stage { dir, mark }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command with a home and a directory for temporary files that are empty.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let (name, value) = self.mark.split_once('=').expect("our own");
        command
            .env(name, value)
            .env("HOME", self.at("home"))
            .env("TMPDIR", self.at("tmp"));
        command.env_remove("PF_BIN").stdin(Stdio::null());
        command
    }

    /// The processes that are left. One that has written its title over its environment, as nginx
    /// does, is known by its directory.
    fn left(&self) -> BTreeSet<i32> {
        let marked = |pid: &i32| {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
            if cwd.is_ok_and(|cwd| cwd.starts_with(self.dir.path())) {
                return true;
            }
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == self.mark.as_bytes())
        };
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(marked).collect()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        // What has been killed may take a moment to be gone.
        until("the end of all processes", || {
            self.left().is_empty().then_some(())
        });
        for name in ["home", "tmp"] {
            let files = fs::read_dir(self.at(name)).expect("a directory").flatten();
            let files: Vec<_> = files.map(|entry| entry.path()).collect();
            assert!(files.is_empty(), "{files:?}");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for pid in self.left() {
            // One of them may be gone by now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Whether these programs are there; says so if they are not.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let found = Command::new("sh")
            .args(["-c", "command -v \"$1\"", "sh", program])
            .stdout(Stdio::null())
            .status();
        !found.is_ok_and(|status| status.success())
    });
    if let Some(program) = missing {
        skip(&format!("no {program}"));
    }
    missing.is_none()
}
