//! A process that a test starts, reads line by line, and kills at the end.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use prefork::sys::machine::clock;
use serde_json::Value;

use crate::common::support::PATIENCE;

/// Marks the report's line among what the test harness prints.
pub const MARK: &str = "REPORT ";

/// The path of `pf-listen`.
pub fn pf_listen() -> &'static str {
    env!("CARGO_BIN_EXE_pf-listen")
}

/// A process that was started by a test; killed when the test is done with it.
pub struct Running {
    child: Child,
    read: Vec<u8>,
    errors: Vec<u8>,
}

impl Running {
    /// Starts `command`, with pipes for its standard streams; read stderr with [`Running::finish`].
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

    /// Waits for a line of stderr that contains `part`. [`Running::finish`] then omits the lines
    /// before it.
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

    /// Ends the process by end of file on its stdin. Returns how it ended, and its stderr.
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

/// Runs `command` to its end with an empty stdin. Returns exit code, stdout and stderr.
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
        crate::common::support::skip(&format!("only root can {what}"));
    }
    root
}
