//! The programs that are managed, and the directory where all happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;

const WORKER: &str = include_str!("programs/worker.c");
const HANDLER: &str = include_str!("programs/handler.c");
const BARE: &str = include_str!("programs/bare.c");
const APPS: [(&str, &str); 3] = [
    ("unicorn.rb", include_str!("programs/unicorn.rb")),
    ("config.ru", include_str!("programs/config.ru")),
    ("gunicorn_app.py", include_str!("programs/gunicorn_app.py")),
];

/// A directory with the programs in it.
pub struct Stage {
    dir: tempfile::TempDir,
    worker: Vec<PathBuf>,
    bare: Vec<PathBuf>,
    handler: Vec<PathBuf>,
    in_c: bool,
}

impl Stage {
    /// Compiles it. Without a C compiler this program plays the roles, which costs every start the
    /// same.
    pub fn set() -> Outcome<Stage> {
        let dir = tempfile::tempdir()?;
        for (name, text) in APPS {
            fs::write(dir.path().join(name), text)?;
        }
        let compiled = compile(dir.path(), "worker", WORKER)
            .and_then(|worker| Some((worker, compile(dir.path(), "bare", BARE)?)));
        let handler = compile(dir.path(), "handler", HANDLER).map_or_else(
            || ["sh", "-c", "echo $PPID"].map(PathBuf::from).to_vec(),
            |handler| vec![handler],
        );
        let itself = std::env::current_exe()?;
        let (worker, bare, in_c) = match compiled {
            Some((worker, bare)) => (vec![worker], vec![bare], true),
            None => (
                vec![itself.clone(), "worker".into()],
                vec![itself, "bare".into()],
                false,
            ),
        };
        Ok(Stage {
            dir,
            worker,
            bare,
            handler,
            in_c,
        })
    }

    /// Where files may be put.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The worker's command line.
    pub fn worker(&self) -> &[PathBuf] {
        &self.worker
    }

    /// The command line of the bare loop, to be followed by a number and a command.
    pub fn bare(&self) -> &[PathBuf] {
        &self.bare
    }

    /// The command line of what serves one client.
    pub fn handler(&self) -> &[PathBuf] {
        &self.handler
    }

    /// What the report says of the worker.
    pub fn worker_is(&self) -> &'static str {
        if self.in_c {
            "programs/worker.c"
        } else {
            "this benchmark itself, for want of a C compiler (starts are slower, and ratios \
             flatter)"
        }
    }
}

fn compile(dir: &Path, name: &str, text: &str) -> Option<PathBuf> {
    let source = dir.join(name).with_extension("c");
    let program = dir.join(name);
    fs::write(&source, text).ok()?;
    let done = Command::new("cc")
        .args(["-O2", "-o"])
        .args([&program, &source])
        .status();
    done.is_ok_and(|status| status.success()).then_some(program)
}
