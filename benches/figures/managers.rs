//! The managers, and the command line by which each runs this many workers on one listener.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};

use super::Outcome;
use super::programs::Stage;
use super::run::Run;

/// Who manages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Ours,
    /// No manager: a loop of fork and exec.
    Bare,
    Multiwatch,
    S6,
    StartServer,
    Unicorn,
    Gunicorn,
}

use Manager::{Bare, Gunicorn, Multiwatch, Ours, S6, StartServer, Unicorn};

/// A service of some manager.
pub struct Service {
    pub run: Run,
    /// Where it listens.
    pub address: String,
}

impl Manager {
    /// Ours, and those that are installed here.
    pub fn installed() -> Vec<Manager> {
        [Ours, Bare, Multiwatch, S6, StartServer, Unicorn, Gunicorn]
            .into_iter()
            .filter(|manager| manager.program().is_none_or(is_installed))
            .collect()
    }

    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Ours => "pf-master",
            Bare => "bare loop",
            Multiwatch => "multiwatch",
            S6 => "s6",
            StartServer => "start_server",
            Unicorn => "unicorn",
            Gunicorn => "gunicorn",
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            Ours | Bare => None,
            S6 => Some("s6-svscan"),
            Multiwatch | StartServer | Unicorn | Gunicorn => Some(self.name()),
        }
    }

    /// Whether the manager can run this many workers: start_server has one, and gunicorn would take
    /// ten seconds for 256.
    pub fn manages(self, workers: usize) -> bool {
        match self {
            StartServer => workers == 1,
            Gunicorn => workers <= 8,
            Ours | Bare | Multiwatch | S6 | Unicorn => true,
        }
    }

    /// Starts a service of `workers` workers; `more`: options of ours.
    pub fn start(self, stage: &Stage, workers: usize, more: &[&str]) -> Outcome<Service> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let count = workers.to_string();
        let fd = listener.as_raw_fd();
        let mut command = match self {
            Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_pf-master"));
                command.args(["-n", &count, "--listen", &format!("fd:{fd}")]);
                // No peer waits for a first worker to stay ready.
                command.args(["--canary", "off"]);
                command.args(more).arg("--").args(stage.worker());
                command
            }
            Bare => {
                let mut command = program(stage.bare());
                command.arg(&count).args(stage.worker());
                command
            }
            Multiwatch => {
                let mut command = Command::new("multiwatch");
                // As shipped it gives a slot up after three deaths.
                command.args(["-f", &count, "-s", "TERM", "-r", "1000000", "--"]);
                command.args(stage.worker());
                command
            }
            S6 => {
                let mut command = Command::new("s6-svscan");
                command.arg(scan_directory(stage, workers)?);
                command
            }
            StartServer => {
                let mut command = Command::new("start_server");
                command
                    .args([&format!("--port={address}"), "--"])
                    .args(stage.worker());
                command
            }
            Unicorn => {
                let mut command = Command::new("unicorn");
                command.args(["-E", "none", "-c"]);
                command.args(["unicorn.rb", "config.ru"].map(|name| stage.dir().join(name)));
                command
            }
            Gunicorn => {
                let mut command = Command::new("gunicorn");
                command.args(["-c", "gunicorn_app.py", "gunicorn_app:application"]);
                command.current_dir(stage.dir());
                command
            }
        };
        command
            .env("BENCH_FD", fd.to_string())
            .env("BENCH_WORKERS", &count)
            .env("BENCH_ADDRESS", &address);
        if matches!(self, StartServer | Unicorn | Gunicorn) {
            // They bind it themselves.
            drop(listener);
            return Ok(Service {
                run: Run::start(stage, command)?,
                address,
            });
        }
        fcntl_setfd(&listener, FdFlags::empty())?;
        // From now on only the service has it: what it loses is lost.
        Ok(Service {
            run: Run::start(stage, command)?,
            address,
        })
    }
}

/// A command line as a command.
pub fn program(words: &[PathBuf]) -> Command {
    let (first, rest) = words
        .split_first()
        .map_or((None, words), |(first, rest)| (Some(first), rest));
    let mut command = Command::new(first.map_or(Path::new(""), PathBuf::as_path));
    command.args(rest);
    command
}

/// A directory for s6-svscan, with so many services that are the worker itself.
fn scan_directory(stage: &Stage, workers: usize) -> Outcome<PathBuf> {
    let directory = tempfile::Builder::new()
        .prefix("s6.")
        .tempdir_in(stage.dir())?
        .keep();
    for slot in 0..workers {
        let service = directory.join(slot.to_string());
        fs::create_dir(&service)?;
        let [worker] = stage.worker() else {
            return Err("s6 needs a worker of one word".into());
        };
        symlink(worker, service.join("run"))?;
    }
    Ok(directory)
}

/// Whether there is such a program.
pub fn is_installed(program: &str) -> bool {
    let tried = Command::new(program)
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok()
}
