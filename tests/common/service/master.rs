//! A `pf-master` that runs, and what is done to it from outside.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::scene::Scene;
use super::{Control, Ended, HANG, canary_unless_named, end_of, process, until};

/// A `pf-master` to be started.
pub(crate) struct Launch<'a> {
    scene: &'a Scene,
    options: Vec<OsString>,
    names: Vec<OsString>,
    wrapped_in: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    stdin: Option<File>,
    command: Vec<OsString>,
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

impl<'a> Launch<'a> {
    pub(super) fn new(scene: &'a Scene, options: &str) -> Self {
        Launch {
            scene,
            options: words(options),
            names: vec!["--pid".into(), scene.path("app.pid").into()],
            wrapped_in: Vec::new(),
            environment: Vec::new(),
            cwd: scene.dir().to_owned(),
            stdin: None,
            command: vec!["sh".into(), scene.path("app").into()],
        }
    }

    /// Another worker command than `app`.
    pub(crate) fn command<S: AsRef<OsStr>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.command = command
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        self
    }

    /// Other names than `--pid app.pid`.
    pub(crate) fn names(mut self, options: &str) -> Self {
        self.names = words(options);
        self
    }

    /// An option whose value may hold blanks.
    pub(crate) fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.options.push(name.into());
        self.options.push(value.as_ref().to_owned());
        self
    }

    /// Started by this, which executes the words that follow it.
    pub(crate) fn wrapped_in<S: AsRef<OsStr>>(
        mut self,
        wrapper: impl IntoIterator<Item = S>,
    ) -> Self {
        self.wrapped_in = wrapper
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn cwd(mut self, cwd: &Path) -> Self {
        self.cwd = cwd.to_owned();
        self
    }

    pub(crate) fn stdin(mut self, stdin: File) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// Starts it, and waits until all its slots are ready.
    #[track_caller]
    pub(crate) fn start(self) -> Master {
        let master = self.spawn();
        master.ctl("wait --ready --timeout 60s").succeeded();
        master
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn spawn(self) -> Master {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.scene.path("err"))
            .expect("a log");
        let mut command = self.assembled();
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("pf-master starts");
        Master {
            child,
            dir: self.scene.dir().to_owned(),
        }
    }

    /// Runs a master that ends by itself.
    #[track_caller]
    pub(crate) fn run(self) -> Ended {
        let files = ["run.out", "run.err"].map(|name| self.scene.path(name));
        let [out, err] = files
            .each_ref()
            .map(|path| File::create(path).expect("a file"));
        let mut command = self.assembled();
        let child = command.stdout(out).stderr(err).spawn().expect("it starts");
        // A `Master`, so that one which does not end is killed with its workers.
        let mut master = Master {
            child,
            dir: self.scene.dir().to_owned(),
        };
        let code = end_of(&mut master.child, "pf-master").code();
        let [stdout, stderr] = files.map(|path| std::fs::read_to_string(path).expect("UTF-8"));
        Ended {
            code,
            stdout,
            stderr,
        }
    }

    fn assembled(&self) -> Command {
        let program = OsStr::new(env!("CARGO_BIN_EXE_pf-master")).to_owned();
        let mut line = self.wrapped_in.clone();
        line.push(program);
        line.extend(self.names.iter().chain(&self.options).cloned());
        line.extend(canary_unless_named(&self.options).iter().map(Into::into));
        line.push("--".into());
        line.extend(self.command.iter().cloned());
        let mut command = Command::new(&line[0]);
        command
            .args(&line[1..])
            .current_dir(&self.cwd)
            .env("PWD", &self.cwd);
        for ours in [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
            "PF_RELEASE",
        ] {
            command.env_remove(ours);
        }
        command.stdin(match &self.stdin {
            Some(file) => file.try_clone().expect("a copy").into(),
            None => Stdio::null(),
        });
        command.env("PF_TEST_EXE", std::env::current_exe().expect("this test"));
        command.env("PF_TEST_SAY", self.scene.path("say"));
        command.env("PF_TEST_DOOR", self.scene.path("door"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

fn all_of(mut pipe: impl Read) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).expect("UTF-8");
    text
}

/// A `pf-master` that runs.
pub(crate) struct Master {
    child: Child,
    dir: PathBuf,
}

impl Master {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Its log so far, with what workers wrote to stderr.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("err")).unwrap_or_default()
    }

    /// Waits until the log contains this text.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let deadline = prefork::sys::machine::clock::now() + HANG;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(
                prefork::sys::machine::clock::now() < deadline,
                "'{text}' is never logged:\n{log}"
            );
            prefork::sys::machine::clock::pause(std::time::Duration::from_millis(4));
        }
    }

    /// A connection to its control socket, once there is one.
    #[track_caller]
    pub(crate) fn control(&self) -> Control {
        until("a process listens on the control socket", || {
            Control::connect(&self.path("app.ctl")).ok()
        })
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.control().status()
    }

    /// Waits until the status fulfils the condition; returns that status.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let mut control = self.control();
        let deadline = prefork::sys::machine::clock::now() + HANG;
        loop {
            let Some(status) = control.try_status() else {
                panic!("no status any more, and never {what}:\n{}", self.log());
            };
            if so(&status) {
                return status;
            }
            assert!(
                prefork::sys::machine::clock::now() < deadline,
                "never {what}: {status:#}\n{}",
                self.log()
            );
            prefork::sys::machine::clock::pause(std::time::Duration::from_millis(4));
        }
    }

    /// The pids of the slots' workers; 0 for an empty slot.
    #[track_caller]
    pub(crate) fn workers(&self) -> Vec<i32> {
        pids(&self.status()["slots"])
    }

    /// Runs `pf-ctl VERB TARGET OPERAND...` to its end.
    #[track_caller]
    pub(crate) fn ctl(&self, line: &str) -> Ended {
        self.start_ctl(line).end()
    }

    /// Starts `pf-ctl`.
    pub(crate) fn start_ctl(&self, line: &str) -> Ctl {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let child = Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
            .arg(verb)
            .arg(self.path("app.pid"))
            .args(words(rest))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pf-ctl starts");
        Ctl(child)
    }

    /// Waits for its end; the exit code.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.status_at_end().code()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn status_at_end(&mut self) -> ExitStatus {
        let deadline = prefork::sys::machine::clock::now() + HANG;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(
                prefork::sys::machine::clock::now() < deadline,
                "it does not end:\n{}",
                self.log()
            );
            prefork::sys::machine::clock::pause(std::time::Duration::from_millis(4));
        }
    }

    /// Stops it gracefully; it ends well and leaves nothing behind.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        let before = process::descendants(self.pid());
        self.ctl("stop").succeeded();
        assert_eq!(self.end(), Some(0), "{}", self.log());
        for (pid, _) in before {
            assert!(
                !process::alive(pid),
                "process {pid} ({}) is left",
                process::name(pid)
            );
        }
        for name in ["app.pid", "app.ctl"] {
            assert!(!self.path(name).exists(), "{name} is left");
        }
    }

    /// A connection to the worker behind its first listener.
    #[track_caller]
    pub(crate) fn dial(&self) -> Client {
        Client::dial(address(&self.status(), 0))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(
                std::io::stderr(),
                "the log of this test's master:\n{}",
                self.log()
            );
        }
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // A stopped master starts and reaps no process, so the pids cannot be reused meanwhile.
        self.signal(Signal::SIGSTOP);
        let descendants = process::descendants(self.pid());
        for (pid, _) in &descendants {
            process::signal(*pid, Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A newborn has the master's sockets still: another master's client would be let in there.
        let deadline = prefork::sys::machine::clock::now() + HANG;
        while descendants.iter().any(|(pid, _)| process::alive(*pid))
            && prefork::sys::machine::clock::now() < deadline
        {
            prefork::sys::machine::clock::pause(std::time::Duration::from_millis(4));
        }
    }
}

/// A `pf-ctl` that runs.
pub(crate) struct Ctl(Child);

impl Ctl {
    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let code = end_of(&mut self.0, "pf-ctl").code();
        Ended {
            code,
            stdout: all_of(self.0.stdout.take().expect("piped")),
            stderr: all_of(self.0.stderr.take().expect("piped")),
        }
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.0.try_wait().expect("our own child").is_none()
    }
}

impl Drop for Ctl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The pids in a list of slots; 0 where there is none.
pub(crate) fn pids(slots: &Value) -> Vec<i32> {
    let pid = |slot: &Value| {
        slot["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok())
            .unwrap_or(0)
    };
    slots
        .as_array()
        .expect("an array")
        .iter()
        .map(pid)
        .collect()
}

/// A connection to a worker that plays `serve`.
pub(crate) struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    #[track_caller]
    pub(crate) fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, HANG).expect("a connection");
        stream.set_read_timeout(Some(HANG)).expect("a timeout");
        Client {
            reader: BufReader::new(stream.try_clone().expect("a copy")),
            stream,
        }
    }

    /// Says a line; the answer: slot, generation and pid of the worker.
    #[track_caller]
    pub(crate) fn ask(&mut self) -> (u32, u64, i32) {
        self.stream.write_all(b"who\n").expect("sent");
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("an answer in time");
        let parts: Vec<i64> = line
            .split_whitespace()
            .map(|part| part.parse().expect("a number"))
            .collect();
        let [slot, generation, pid] = parts[..] else {
            panic!("not an answer: {line:?}")
        };
        (
            u32::try_from(slot).expect("a slot"),
            u64::try_from(generation).expect("a generation"),
            i32::try_from(pid).expect("a pid"),
        )
    }
}

/// Waits until no process accepts at the address.
#[track_caller]
pub(crate) fn refused(address: SocketAddr) {
    until(&format!("{address} refuses"), || {
        TcpStream::connect_timeout(&address, HANG)
            .is_err()
            .then_some(())
    });
}

/// The address of a listener of TCP, by its place in the status document.
#[track_caller]
pub(crate) fn address(status: &Value, listener: usize) -> SocketAddr {
    let address = status["listeners"][listener]["address"]
        .as_str()
        .expect("a listener");
    address
        .strip_prefix("tcp:")
        .expect("of TCP")
        .parse()
        .expect("an address")
}
