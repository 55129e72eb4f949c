//! The place where an example runs, with this test's own paths and port, and its service.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::load::{Target, request};
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Ended, Scene, end_of, process, until};
use crate::common::support::is_there;
use crate::common::support::service::hello;
use crate::common::support::skip;

/// Whether these programs are there; says so if they are not.
pub(super) fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !is_there(program));
    if let Some(program) = missing {
        skip(&format!("no {program}"));
    }
    missing.is_none()
}

/// A directory for an example, and all that is started there.
pub(super) struct Place {
    scene: Scene,
    port: u16,
    processes: SceneProcesses,
}

impl Place {
    pub(super) fn new() -> Place {
        let scene = Scene::new();
        Place {
            processes: SceneProcesses::of(&scene),
            port: crate::common::support::ports(1),
            scene,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scene.path(name)
    }

    /// The text of a file of `examples/`, with this test's own paths and port in place of the usual
    /// ones.
    pub(super) fn text(&self, example: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(example);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        self.own(&text)
    }

    /// The same of a text.
    pub(super) fn own(&self, text: &str) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        text.replace("/run/app.pid", &at("app.pid"))
            .replace("/var/log/app.log", &at("err"))
            .replace("/usr/local/bin/hello", &hello().display().to_string())
            .replace("8080", &self.port.to_string())
    }

    /// Lays files of an example out in a directory of this name.
    pub(super) fn lay(&self, example: &str, files: &[&str], directory: &str) -> PathBuf {
        let directory = self.path(directory);
        for file in files {
            let path = directory.join(file);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            // Not written by this process: a child that another test forks may inherit the open
            // file, and a file open for writing cannot be executed (ETXTBSY).
            let from = self.path("laid");
            let (text, source) = (
                self.text(&format!("{example}/{file}")),
                format!("examples/{example}/{file}"),
            );
            fs::write(&from, text).expect("written");
            let mut command = Command::new("sh");
            command.args([
                "-c",
                r#"cat "$1" >"$3" && chmod --reference="$2" "$3""#,
                "sh",
            ]);
            command
                .arg(&from)
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(source))
                .arg(&path);
            assert!(command.status().expect("sh").success());
        }
        directory
    }

    /// A command that finds our programs.
    pub(super) fn command<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Command {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env("PATH", search())
            .stdin(Stdio::null());
        command.env("PF_TEST_SAY", self.path("say"));
        for ours in [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
        ] {
            command.env_remove(ours);
        }
        command.current_dir(self.scene.dir());
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(super) fn run<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Ended {
        let output = assert_cmd::Command::from_std(self.command(words))
            .timeout(crate::common::service::HANG)
            .output()
            .expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Starts a manager.
    pub(super) fn manager<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Manager {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("err"))
            .expect("a log");
        let mut command = self.command(words);
        command.stdout(log.try_clone().expect("a copy")).stderr(log);
        Manager(command.spawn().expect("it starts"))
    }

    pub(super) fn log(&self) -> String {
        self.scene.text("err")
    }

    /// Where the service listens.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Whether a client is served.
    #[track_caller]
    pub(super) fn serves(&self) {
        let answer = request(&Target::Tcp(self.address()), "world");
        assert_eq!(answer, Ok(()), "{}", self.log());
    }

    /// The status, once it fulfils the condition.
    #[track_caller]
    pub(super) fn status(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let pid_file = self.path("app.pid");
        until(what, || {
            let ended = self.run(&[
                "pf-status".as_ref(),
                pid_file.as_os_str(),
                "--json".as_ref(),
            ]);
            let status: Value = serde_json::from_str(&ended.stdout).ok()?;
            so(&status).then_some(status)
        })
    }

    /// Kills the master. No client is refused, and the manager notices nothing: the process it
    /// started lives.
    #[track_caller]
    pub(super) fn kill_master(&self) {
        let before = self.status("running", |status| status["state"] == "running");
        let pid = i32::try_from(before["pid"].as_i64().expect("a pid")).expect("a pid");
        let holder = process::status(pid, "PPid");
        process::signal(pid, Signal::SIGKILL);
        for _ in 0..20 {
            self.serves();
        }
        let after = self.status("another master", |status| {
            status["pid"] != before["pid"] && status["state"] == "running"
        });
        let pid = i32::try_from(after["pid"].as_i64().expect("a pid")).expect("a pid");
        assert_eq!(process::status(pid, "PPid"), holder, "{}", self.log());
    }

    /// All processes started here have ended, and no process listens.
    #[track_caller]
    pub(super) fn nothing_left(&self) {
        self.processes.gone();
        crate::common::service::master::refused(self.address());
        for name in ["app.pid", "app.ctl"] {
            assert!(!self.path(name).exists(), "{name} is left");
        }
    }
}

/// Our programs and the first worker before all others.
fn search() -> OsString {
    let bin = Path::new(env!("CARGO_BIN_EXE_pf-master"))
        .parent()
        .expect("a directory");
    let usual = std::env::var_os("PATH").unwrap_or_default();
    let all = [bin.to_owned(), bin.join("examples")]
        .into_iter()
        .chain(std::env::split_paths(&usual));
    std::env::join_paths(all).expect("no colon in them")
}

/// A service manager that runs; what a failed test leaves is killed with the place.
pub(super) struct Manager(Child);

impl Manager {
    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }

    /// Waits for its end.
    #[track_caller]
    pub(super) fn end(&mut self) -> Option<i32> {
        end_of(&mut self.0, "the manager").code()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Running with this generation, all slots ready.
pub(super) fn serves(generation: u64) -> impl Fn(&Value) -> bool {
    move |status| {
        status["generation"] == generation
            && status["state"] == "running"
            && status["workers"]["ready"] == status["workers"]["wanted"]
    }
}
