//! An upgrade by fork: a new master beside the old one, by hand (USR2) and by itself (U16 to U20,
//! G6 to G8, R1 to R5, R24).

mod before_ready;
mod by_hand;
mod by_itself;
mod exports;
mod failures;
mod handed_on;
mod one_killed;
mod service_manager;
mod silent;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::service::master::{Launch, address, pids};
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Control, Ended, Master, Scene, process, until};

/// What most of these services are started with.
const OPTIONS: &str = "-n 2 --ready fd=9 --graceful-timeout 1s --listen 127.0.0.1:0";

/// A service whose next master is started by the script `next` in its directory; `"$0" "$@"` is the
/// command line of the master.
struct ForkService {
    scene: Scene,
    processes: SceneProcesses,
}

impl ForkService {
    fn new() -> Self {
        let scene = Scene::new();
        let processes = SceneProcesses::of(&scene);
        let service = ForkService { scene, processes };
        service.next("");
        service
    }

    fn master(&self, options: &str) -> Launch<'_> {
        let line = format!(". {}", self.path("next").display());
        self.scene.master(options).option("--reexec", line)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.path(name)
    }

    /// The script `next` does this before it executes the master.
    fn next(&self, body: &str) {
        // Not `Scene::script`, whose functions are for workers; the file is read, and never
        // executed.
        let text = format!("{body}\nexec \"$0\" \"$@\"\n");
        std::fs::write(self.path("next"), text).expect("written");
    }

    /// The status of the master that has the plain names, once it answers.
    #[track_caller]
    fn status(&self) -> Value {
        self.status_at("app.ctl")
    }

    /// The status of the old master, which has the `.oldbin` names.
    #[track_caller]
    fn old_status(&self) -> Value {
        self.status_at("app.pid.oldbin.ctl")
    }

    #[track_caller]
    fn status_at(&self, name: &str) -> Value {
        let path = self.path(name);
        until(&format!("{name} answers"), || {
            Control::connect(&path).ok()?.try_status()
        })
    }

    /// Waits until the status of the master with the plain names fulfils the condition.
    #[track_caller]
    fn until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        until(what, || {
            let status = Control::connect(&self.path("app.ctl")).ok()?.try_status()?;
            so(&status).then_some(status)
        })
    }

    /// Waits until a new master with all its workers is up beside the old one; the status of both,
    /// old first.
    #[track_caller]
    fn both(&self) -> (Value, Value) {
        let new = self.until("both serve", |status| {
            status["role"] == "new" && status["state"] == "running"
        });
        let old = until("the old one knows", || {
            let status = self.old_status();
            (status["state"] == "running").then_some(status)
        });
        (old, new)
    }

    /// `pf-ctl` on the old master, which has the `.oldbin` names.
    fn old_ctl(&self, line: &str) -> Ended {
        ctl(&self.path("app.pid.oldbin"), line)
    }

    fn ctl(&self, line: &str) -> Ended {
        ctl(&self.path("app.pid"), line)
    }

    /// Checks that exactly one master is left, with its names and all its workers, and that it
    /// serves.
    #[track_caller]
    fn assert_one_master(&self, wanted: usize) -> Value {
        let status = self.until("one master has all of its workers", |status| {
            status["role"] == "master"
                && status["state"] == "running"
                && status["workers"]["ready"] == wanted
                && status["workers"]["retiring"] == 0
        });
        let pid = status["pid"].as_i64().expect("a pid");
        assert_eq!(self.scene.text("app.pid"), format!("{pid}\n"));
        let told = self.ctl("pid").succeeded();
        assert_eq!(told.stdout, format!("{pid}\n"), "it has the lock");
        for name in ["app.pid.oldbin", "app.pid.oldbin.ctl"] {
            assert!(!self.path(name).exists(), "{name} is left");
        }
        let workers = pids(&status["slots"]);
        let mut expected = workers.clone();
        expected.push(i32::try_from(pid).expect("a pid"));
        expected.sort_unstable();
        until("no other process is left", || {
            let mut all = self.processes.all();
            all.retain(|pid| process::name(*pid) != "pf-guard");
            (all == expected).then_some(())
        });
        std::net::TcpStream::connect(address(&status, 0)).expect("the port is served");
        status
    }

    /// Stops the service, whichever process is its master now.
    #[track_caller]
    fn stop(self) {
        self.ctl("stop").succeeded();
        self.processes.gone();
        for name in ["app.pid", "app.ctl", "app.pid.oldbin", "app.pid.oldbin.ctl"] {
            assert!(!self.path(name).exists(), "{name} is left");
        }
    }
}

fn ctl(target: &Path, line: &str) -> Ended {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words = [OsStr::new(verb), target.as_os_str()];
    let rest = rest.split_whitespace().map(OsStr::new);
    output(env!("CARGO_BIN_EXE_pf-ctl"), words.into_iter().chain(rest))
}

fn output<'a>(program: &str, words: impl IntoIterator<Item = &'a OsStr>) -> Ended {
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ended {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn pid_of(status: &Value) -> i32 {
    let pid = status["pid"].as_i64().expect("a pid");
    i32::try_from(pid).expect("a pid")
}

/// The master itself and its workers, as the status has them.
fn family(status: &Value) -> (i32, Vec<i32>) {
    (pid_of(status), pids(&status["slots"]))
}

/// Waits until the old master, which this test has started, has exited 0.
#[track_caller]
fn ends(master: &mut Master) {
    assert_eq!(master.end(), Some(0), "{}", master.log());
}
