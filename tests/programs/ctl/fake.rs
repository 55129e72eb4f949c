//! The fake master: a thread that serves one connection, and a process that holds a pid file's
//! lock.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use tempfile::TempDir;

/// No step of any test takes longer; what does is a hang, and fails.
pub(super) const HANG: Duration = Duration::from_secs(60);

/// A directory with the two paths of a service.
pub(super) struct Scene {
    dir: TempDir,
}

impl Scene {
    pub(super) fn new() -> Self {
        Scene {
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.dir.path().join("app.pid")
    }

    pub(super) fn control(&self) -> PathBuf {
        self.dir.path().join("app.ctl")
    }

    /// Plays the master on the control socket, for one connection.
    pub(super) fn play<T: Send + 'static>(
        &self,
        script: impl FnOnce(Peer) -> T + Send + 'static,
    ) -> Play<T> {
        let listener = UnixListener::bind(self.control()).expect("the control socket");
        play_on(listener, script)
    }

    /// Plays a master that answers a request with `lines`; gives the request.
    pub(super) fn answer(&self, lines: &str) -> Play<Value> {
        let lines = lines.to_owned();
        self.play(move |mut peer| {
            let request = peer.request();
            peer.say(&lines);
            request
        })
    }
}

/// A thread that plays a master.
pub(super) struct Play<T>(JoinHandle<T>);

impl<T> Play<T> {
    /// What the script gave; fails with it.
    pub(super) fn end(self) -> T {
        self.0.join().expect("the fake master got what it expected")
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing is forked from this thread: it only plays the other end"
)]
fn play_on<T: Send + 'static>(
    listener: UnixListener,
    script: impl FnOnce(Peer) -> T + Send + 'static,
) -> Play<T> {
    socket2::SockRef::from(&listener)
        .set_read_timeout(Some(HANG))
        .expect("a timeout");
    Play(std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(HANG)).expect("a timeout");
        script(Peer {
            reader: BufReader::new(stream.try_clone().expect("a copy")),
            stream,
        })
    }))
}

/// The master's end of a connection.
pub(super) struct Peer {
    reader: BufReader<UnixStream>,
    stream: UnixStream,
}

impl Peer {
    /// The next request line.
    pub(super) fn request(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a request");
        assert!(line.ends_with('\n'), "a whole line: {line:?}");
        serde_json::from_str(&line).expect("a request is JSON")
    }

    /// Sends bytes as they are. A client that has gone is the test's to notice, at its exit code.
    pub(super) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Waits until the client has closed its end.
    pub(super) fn until_left(mut self) {
        let mut rest = Vec::new();
        self.reader
            .read_to_end(&mut rest)
            .expect("the client leaves");
        assert!(rest.is_empty(), "one request a connection");
    }
}

/// Runs `pf-ctl` to its end.
pub(super) fn ctl<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    ended(
        assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
            .args(args)
            .timeout(HANG),
    )
}

pub(super) fn ended(command: &mut assert_cmd::Command) -> Ended {
    Ended::of(command.output().expect("pf-ctl starts"))
}

/// How a `pf-ctl` ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub(super) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ended {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// It failed with this code and one line that says `why`.
    #[track_caller]
    pub(super) fn failed(&self, code: i32, why: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(
            self.stderr.starts_with("pf-ctl: ") && self.stderr.contains(why),
            "{self:?}"
        );
        assert_eq!(self.stderr.matches('\n').count(), 1, "one line: {self:?}");
    }

    /// It failed with this code, in as many lines as clap thinks fit.
    #[track_caller]
    pub(super) fn failed_at_all(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(
            !self.stderr.is_empty() && self.stdout.is_empty(),
            "{self:?}"
        );
    }

    #[track_caller]
    pub(super) fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }
}

/// A process that holds the lock of a pid file and reports each signal. It is not the test process,
/// so that it can be stopped and killed.
pub(super) struct Holder {
    child: Child,
}

impl Holder {
    /// Holds the lock of `pid_file`.
    pub(super) fn start(pid_file: &Path) -> Self {
        Holder::with(pid_file, &[])
    }

    /// Holds the lock, listens on `control`, and answers the first request with `reply`. Then it
    /// exits, or stays if `stays`.
    pub(super) fn listening(pid_file: &Path, control: &Path, reply: &str, stays: bool) -> Self {
        let mut environment = vec![
            ("PF_TEST_CONTROL", control.as_os_str()),
            ("PF_TEST_REPLY", OsStr::new(reply)),
        ];
        if stays {
            environment.push(("PF_TEST_STAYS", OsStr::new("1")));
        }
        Holder::with(pid_file, &environment)
    }

    fn with(pid_file: &Path, environment: &[(&str, &OsStr)]) -> Self {
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "ctl::fake::holder"])
            .env("PF_TEST_HOLD", pid_file)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a holder");
        let mut holder = Holder { child };
        assert_eq!(holder.next_signal(), "locked");
        holder
    }

    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// The next thing that it tells: the name of a signal.
    pub(super) fn next_signal(&mut self) -> String {
        let pipe = self.child.stderr.as_mut().expect("piped");
        read_until(pipe, |text| text.ends_with('\n'))
            .trim_end()
            .to_owned()
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("our own child");
    }

    /// Waits for its end; the signal that ended it.
    pub(super) fn ended_by(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        self.child.wait().expect("our own child").signal()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until `enough`, or fails at the end of file or after [`HANG`].
pub(super) fn read_until(source: &mut (impl Read + AsFd), enough: impl Fn(&str) -> bool) -> String {
    let mut text = Vec::new();
    loop {
        let so_far = String::from_utf8_lossy(&text).into_owned();
        if enough(&so_far) {
            return so_far;
        }
        let limit = Timespec::try_from(HANG).expect("short");
        let ready = poll(&mut [PollFd::new(source, PollFlags::IN)], Some(&limit)).expect("poll");
        assert_eq!(ready, 1, "nothing more came after {so_far:?}");
        let mut byte = [0];
        assert_eq!(
            source.read(&mut byte).expect("read"),
            1,
            "it ended after {so_far:?}"
        );
        text.extend(byte);
    }
}

#[test]
fn holder() {
    let Some(path) = std::env::var_os("PF_TEST_HOLD") else {
        return;
    };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("a death signal");
    let say = |text: &str| writeln!(std::io::stderr(), "{text}").expect("the test listens");
    // Each signal is reported, also two of a kind that are pending together.
    let mut signals =
        signal_hook::iterator::SignalsInfo::<signal_hook::iterator::exfiltrator::WithOrigin>::new(
            [
                libc::SIGHUP,
                libc::SIGINT,
                libc::SIGQUIT,
                libc::SIGTERM,
                libc::SIGUSR1,
                libc::SIGUSR2,
            ]
            .iter()
            .chain(&[libc::SIGWINCH, libc::SIGTTIN, libc::SIGTTOU]),
        )
        .expect("handlers");

    // As with a master, the socket listens before the lock is taken.
    let control = std::env::var_os("PF_TEST_CONTROL")
        .map(|path| UnixListener::bind(path).expect("a control socket"));
    let mut file = File::create(path).expect("a pid file");
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLK(&lock)).expect("the lock");
    writeln!(file, "{}", std::process::id()).expect("the number");

    say("locked");
    // It listens on while it stays: later clients queue.
    if let Some(listener) = &control {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut line = String::new();
        BufReader::new(&stream)
            .read_line(&mut line)
            .expect("a request");
        // A client may look who listens and leave again.
        let _ = stream.write_all(std::env::var("PF_TEST_REPLY").expect("a reply").as_bytes());
        if std::env::var_os("PF_TEST_STAYS").is_none() {
            return;
        }
    }
    for origin in signals.forever() {
        say(signal_hook::low_level::signal_name(origin.signal).unwrap_or("?"));
    }
}
