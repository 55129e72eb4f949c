//! A whole service, as a user starts it: `pf-listen ... -- pf-master ... -- WORKER`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prefork::sys::machine::clock;
use prefork::wire::status::{Slot, Status};
use tempfile::TempDir;

use super::PATIENCE;
use crate::common::service::canary_unless_named;

/// A running service, on a TCP port of 127.0.0.1 and on a Unix socket.
pub struct Service {
    dir: TempDir,
    master: Child,
    tcp: SocketAddr,
}

impl Service {
    /// Starts the service and waits until all its workers are ready. `worker` gives the worker
    /// command and its environment.
    pub fn start(options: &[&str], worker: &Worker) -> Service {
        Service::start_in(tempfile::tempdir().expect("a directory"), options, worker)
    }

    /// The same, with its files in `dir`.
    pub fn start_in(dir: TempDir, options: &[&str], worker: &Worker) -> Service {
        Service::begin(dir, &[], options, worker)
    }

    /// The same, under `pf-listen --hold`, which is what was started then.
    pub fn held(options: &[&str], worker: &Worker) -> Service {
        let dir = tempfile::tempdir().expect("a directory");
        Service::begin(dir, &["--hold"], options, worker)
    }

    fn begin(dir: TempDir, listen: &[&str], options: &[&str], worker: &Worker) -> Service {
        let log = File::create(dir.path().join("log")).expect("a log");
        let mut chain = Command::new(env!("CARGO_BIN_EXE_pf-listen"));
        chain.args(listen);
        chain.arg("--port-file").arg(dir.path().join("ports"));
        chain.arg("tcp:127.0.0.1:0").arg(dir.path().join("socket"));
        chain
            .args(["--", env!("CARGO_BIN_EXE_pf-master"), "--pid"])
            .arg(dir.path().join("app.pid"));
        chain
            .args(options)
            .args(canary_unless_named(options))
            .arg("--")
            .args(&worker.command)
            .envs(worker.environment.iter().cloned());
        chain
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a copy"))
            .stderr(log);
        let master = chain.spawn().expect("pf-listen starts");
        let mut service = Service {
            dir,
            master,
            tcp: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        service.ctl(["wait", "--ready"]);
        let ports = fs::read_to_string(service.path("ports")).expect("a port file");
        let port = ports
            .lines()
            .find_map(|line| line.strip_prefix("- tcp:"))
            .expect("a TCP listener");
        service.tcp = port.parse().expect("an address");
        service
    }

    /// A file of the service's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The pid of what was started: the master, or its holder.
    pub fn started(&self) -> i32 {
        i32::try_from(self.master.id()).expect("a pid")
    }

    /// Where it listens.
    pub fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    /// Where else it listens.
    pub fn unix(&self) -> PathBuf {
        self.path("socket")
    }

    /// What the master and its workers have said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// `pf-ctl VERB PIDFILE REST...`, which must end with 0.
    #[track_caller]
    pub fn ctl<const N: usize>(&self, words: [&str; N]) {
        let (code, text) = self.try_ctl(words);
        assert_eq!(code, Some(0), "pf-ctl {words:?}: {text}\n{}", self.log());
    }

    /// The same with any end: the exit code, and what it said.
    pub fn try_ctl<const N: usize>(&self, words: [&str; N]) -> (Option<i32>, String) {
        let (verb, rest) = words.split_first().expect("a verb");
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-ctl"));
        command
            .arg(verb)
            .arg(self.path("app.pid"))
            .args(rest)
            .timeout(PATIENCE);
        let output = command.output().expect("pf-ctl starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// The status document.
    pub fn status(&self) -> Status {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-status"));
        command
            .arg(self.path("app.pid"))
            .arg("--json")
            .timeout(PATIENCE);
        let output = command.output().expect("pf-status starts");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}\n{}", self.log()))
    }

    /// Asks for the status until it is `wanted`.
    pub fn wait_for(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let until = clock::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(
                clock::now() < until,
                "it never came to that: {status:?}\n{}",
                self.log()
            );
        }
    }

    /// The workers that are ready, by slot.
    pub fn ready(&self) -> Vec<Slot> {
        self.status()
            .slots
            .into_iter()
            .filter(|slot| slot.state == "ready")
            .collect()
    }

    /// Sends a signal to a process of the service.
    pub fn signal(&self, pid: i32, signal: Signal) {
        // It may have ended on its own.
        let sent = kill(Pid::from_raw(pid), signal);
        assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "{sent:?}");
    }

    /// Stops it gracefully, which must end well.
    #[track_caller]
    pub fn stop(mut self) {
        self.ctl(["stop"]);
        let status = self.master.wait().expect("our own child");
        assert!(status.success(), "{status}: {}", self.log());
    }

    fn pids(&self) -> Vec<i32> {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-status"));
        command
            .arg(self.path("app.pid"))
            .arg("--json")
            .timeout(PATIENCE);
        let status = command
            .output()
            .ok()
            .and_then(|output| serde_json::from_slice::<Status>(&output.stdout).ok());
        let status = status.unwrap_or_default();
        let master = Some(status.pid).filter(|pid| *pid > 0);
        let all = status
            .slots
            .into_iter()
            .chain(status.starting)
            .chain(status.retiring);
        let workers = all.filter_map(|slot| slot.pid);
        master.into_iter().chain(workers).collect()
    }
}

impl Drop for Service {
    /// What a failed test leaves is killed.
    fn drop(&mut self) {
        // After an upgrade by fork the master is another process; without a master there is no
        // answer.
        let left = if matches!(self.master.try_wait(), Ok(None)) || std::thread::panicking() {
            self.pids()
        } else {
            Vec::new()
        };
        let _ = self.master.kill();
        for pid in left {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.master.wait();
    }
}

/// What a service's workers are.
#[derive(Clone)]
pub struct Worker {
    /// The worker command.
    pub command: Vec<OsString>,
    /// Added to the environment.
    pub environment: Vec<(OsString, OsString)>,
}

impl Worker {
    /// `examples/hello.rs`, which `cargo test` builds beside the binaries.
    pub fn hello() -> Worker {
        Worker {
            command: vec![hello().into()],
            environment: Vec::new(),
        }
    }

    /// This very program, in a role.
    pub fn role(test: &str) -> Worker {
        let program = std::env::current_exe().expect("this test's program");
        let words = ["--exact", test, "--nocapture", "--test-threads=1"];
        let command = std::iter::once(program.into_os_string())
            .chain(words.map(OsString::from))
            .collect();
        Worker {
            command,
            environment: Vec::new(),
        }
    }

    /// With a variable more.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Worker {
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }
}

/// The first worker's program, which `cargo test` builds along.
pub fn hello() -> PathBuf {
    let bin = Path::new(env!("CARGO_BIN_EXE_pf-master"));
    let hello = bin.with_file_name("examples").join("hello");
    assert!(
        hello.exists(),
        "cargo build --example hello makes {}",
        hello.display()
    );
    hello
}
