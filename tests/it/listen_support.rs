//! Running `pf-listen`, with this test program itself as the COMMAND: it tells what it was given as a line of JSON.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::libc;
use nix::sys::socket::GetSockOpt;
use nix::{getsockopt_impl, sockopt_impl};
use prefork::sys::io::fd;
use prefork::sys::listener::Listener;
use prefork::sys::machine::clock;
use serde_json::{Value, json};
use socket2::SockRef;

use crate::support::PATIENCE;

/// Marks the report's line among what the test harness prints.
const MARK: &str = "REPORT ";

sockopt_impl!(
    TcpFastOpen,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_FASTOPEN,
    libc::c_int
);
sockopt_impl!(
    TcpDeferAccept,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    libc::c_int
);
sockopt_impl!(
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    libc::tcp_info
);

/// The path of `pf-listen`.
pub fn pf_listen() -> &'static str {
    env!("CARGO_BIN_EXE_pf-listen")
}

/// A COMMAND that reports.
pub fn reporter() -> Vec<OsString> {
    let program = std::env::current_exe().expect("the test program's path");
    let args = [
        "--exact",
        "listen_support::report",
        "--nocapture",
        "--test-threads=1",
    ];
    std::iter::once(program.into_os_string())
        .chain(args.map(OsString::from))
        .collect()
}

/// `pf-listen ARGS -- reporter`
pub fn listen_and_report<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(pf_listen());
    command.args(args).arg("--").args(reporter());
    command
}

/// A shell script for what has to be arranged between two programs; in it, `$LISTEN` is `pf-listen` and `"$@"` the reporter.
pub fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .args(reporter())
        .env("LISTEN", pf_listen());
    command
}

/// What the COMMAND does, when another test runs it by this name alone.
#[test]
fn report() {
    if !std::env::args().any(|arg| arg == "listen_support::report") {
        return;
    }
    let report = json!({
        "pid": std::process::id(),
        "env": std::env::vars().filter(|(key, _)| key.starts_with("LISTEN_")).collect::<std::collections::BTreeMap<_, _>>(),
        "fds": open_descriptors(),
        "listeners": listeners(),
        "cwd": std::env::current_dir().expect("a directory"),
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "\n{MARK}{report}")
        .and_then(|()| stdout.flush())
        .expect("a reader");
    // Whoever wants the listeners to live on keeps our standard input open.
    std::io::stdin()
        .read_to_end(&mut vec![])
        .expect("standard input");
}

fn open_descriptors() -> Value {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let told = entries.flatten().filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?;
        let own = target.starts_with("/proc") && target.ends_with("fd");
        (!own).then(|| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                json!(target),
            )
        })
    });
    Value::Object(told.collect())
}

fn listeners() -> Value {
    let count = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    (3..3 + count).map(describe).collect()
}

fn describe(number: i32) -> Value {
    let copy = fd::duplicate(number).expect("open");
    let flags = nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_GETFL).expect("flags");
    let listener = Listener::inspect(copy, None, None, "fd").expect("a socket");
    let socket = SockRef::from(&listener.fd);
    json!({
        "address": listener.address.to_string(),
        "inode": listener.inode(),
        "type": i32::from(socket.r#type().expect("a type")),
        "accepts": nix::sys::socket::sockopt::AcceptConn.get(&listener.fd).ok(),
        "cloexec": !fd::survives_exec(number),
        "nonblock": flags & libc::O_NONBLOCK != 0,
        "reuseaddr": socket.reuse_address().ok(),
        "reuseport": socket.reuse_port().ok(),
        "v6only": socket.only_v6().ok(),
        "nodelay": socket.tcp_nodelay().ok(),
        "keepalive": socket.keepalive().ok(),
        "fastopen": TcpFastOpen.get(&listener.fd).ok(),
        "defer-accept": TcpDeferAccept.get(&listener.fd).ok(),
        "backlog": TcpInfo.get(&listener.fd).ok().map(|info| info.tcpi_sacked),
        "rcvbuf": socket.recv_buffer_size().ok(),
        "sndbuf": socket.send_buffer_size().ok(),
        "freebind": socket.freebind_v4().ok(),
        "device": socket.device().ok().flatten().map(|name| String::from_utf8_lossy(&name).into_owned()),
        "mark": socket.mark().ok(),
    })
}

/// A process that was started by a test; killed when the test is done with it.
pub struct Running {
    child: Child,
    read: Vec<u8>,
    errors: Vec<u8>,
}

impl Running {
    /// Starts `command`, with pipes for standard input and output; standard error is read with [`Running::finish`].
    pub fn start(command: Command) -> Running {
        Running::start_on(command, Stdio::piped())
    }

    /// The same with another standard input.
    pub fn start_on(mut command: Command, stdin: impl Into<Stdio>) -> Running {
        let child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running {
            child: child.expect("started"),
            read: vec![],
            errors: vec![],
        }
    }

    /// The process id of what was started, which an exec does not change.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next report.
    pub fn report(&mut self) -> Value {
        loop {
            if let Some(report) = self.line().strip_prefix(MARK) {
                return serde_json::from_str(report).expect("JSON");
            }
        }
    }

    /// Waits for the next whole line of standard output.
    pub fn line(&mut self) -> String {
        let line = self.line_or_end();
        line.unwrap_or_else(|| {
            panic!(
                "no line; standard error: {}",
                drain(self.child.stderr.take())
            )
        })
    }

    /// The same; nothing if there is an end instead.
    pub fn line_or_end(&mut self) -> Option<String> {
        loop {
            let text = String::from_utf8_lossy(&self.read).into_owned();
            if let Some((line, rest)) = text.split_once('\n') {
                self.read = rest.as_bytes().to_vec();
                return Some(line.to_owned());
            }
            let more = read_some(self.child.stdout.as_mut().expect("a pipe"));
            if more.is_empty() {
                return None;
            }
            self.read.extend(more);
        }
    }

    /// Waits for a line of standard error that holds this; what stood before it is no longer told by [`Running::finish`].
    pub fn error_line(&mut self, part: &str) -> String {
        loop {
            while let Some(end) = self.errors.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.errors.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if line.contains(part) {
                    return line;
                }
            }
            let more = read_some(self.child.stderr.as_mut().expect("a pipe"));
            assert!(!more.is_empty(), "'{part}' is never said");
            self.errors.extend(more);
        }
    }

    /// Waits for its end, which comes by itself; how it ended and what it wrote on standard error.
    pub fn end(mut self) -> (ExitStatus, String) {
        let errors = drain(self.child.stderr.take());
        let before = String::from_utf8_lossy(&self.errors).into_owned();
        (self.child.wait().expect("ended"), before + &errors)
    }

    /// Ends it by end of file on its standard input, and tells how it ended and what it wrote on standard error.
    pub fn finish(mut self) -> (ExitStatus, String) {
        drop(self.child.stdin.take());
        let errors = drain(self.child.stderr.take());
        (self.child.wait().expect("ended"), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what there is, when there is something; nothing at the end of file.
fn read_some(stream: &mut (impl Read + AsFd)) -> Vec<u8> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let until = clock::now() + PATIENCE;
    loop {
        let left = until.since(clock::now());
        let timeout = PollTimeout::try_from(left).expect("short");
        match poll(
            &mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(0) => panic!(
                "fd {}: nothing came in {PATIENCE:?}",
                stream.as_fd().as_raw_fd()
            ),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => panic!("poll: {errno}"),
            Ok(_) => break,
        }
    }
    let mut buffer = vec![0; 65536];
    let count = stream.read(&mut buffer).expect("read");
    buffer.truncate(count);
    buffer
}

fn drain(stream: Option<impl Read + AsFd>) -> String {
    let mut all = vec![];
    if let Some(mut stream) = stream {
        loop {
            let more = read_some(&mut stream);
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Runs `command` to its end, with nothing on standard input. The exit code, standard output, standard error.
pub fn finished(command: Command) -> (i32, String, String) {
    let output = assert_cmd::Command::from_std(command)
        .timeout(PATIENCE)
        .output()
        .expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Runs `command` to its end, as far as its report.
pub fn reported(command: Command) -> Value {
    let (code, out, errors) = finished(command);
    let report = out
        .split_once(MARK)
        .and_then(|(_, report)| report.lines().next());
    match report {
        Some(report) => serde_json::from_str(report).expect("JSON"),
        None => panic!("no report, exit code {code}: {errors}"),
    }
}

/// The report's addresses, in order.
pub fn addresses(report: &Value) -> Vec<String> {
    let listeners = report["listeners"].as_array().expect("listeners");
    listeners
        .iter()
        .map(|listener| listener["address"].as_str().expect("an address").to_owned())
        .collect()
}

/// The report's inodes, in order.
pub fn inodes(report: &Value) -> Vec<u64> {
    let listeners = report["listeners"].as_array().expect("listeners");
    listeners
        .iter()
        .map(|listener| listener["inode"].as_u64().expect("an inode"))
        .collect()
}

/// A directory of the test's own.
pub fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().canonicalize().expect("a path");
    (directory, path)
}

/// Whether the test runs as root; says what it needs that for if it therefore has to be skipped.
pub fn is_root(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        crate::support::skip(&format!("only root can {what}"));
    }
    root
}
