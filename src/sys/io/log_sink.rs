//! Writes log lines without ever blocking: not on a slow reader, a stopped terminal or a full pipe.
//!
//! A terminal with `stty tostop` sends TTOU to a background process that writes to it. By default
//! that stops the process. With a handler, the kernel begins the write again after each signal, for
//! ever: the process cannot even look at a TERM. So TTOU is blocked while a line is written; the
//! kernel then takes the line and sends no signal.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::socket::{MsgFlags, send};

use super::poll::{Interest, Poller};
use crate::sys::machine::clock::now;

/// The target of log lines. A write to it never blocks.
#[derive(Debug)]
pub enum LogWriter {
    /// A regular file, or an open file description of our own with O_NONBLOCK.
    Plain(File),
    /// A terminal, through an open file description of our own with O_NONBLOCK. TTOU is blocked
    /// during each write.
    Terminal(File),
    /// A socket: each write uses MSG_DONTWAIT.
    Socket(OwnedFd),
    /// An open file description that other processes share and that could not be opened again:
    /// poll(2) comes before each write, and TTOU is blocked: it may be a terminal.
    PolledFirst(File),
}

impl LogWriter {
    /// Opens a file for appending, and creates it if it does not exist.
    ///
    /// # Errors
    /// What open(2) said; ENXIO: a fifo without a reader.
    pub fn append(path: &Path) -> io::Result<LogWriter> {
        Ok(LogWriter::own(open_to_append(path)?))
    }

    /// An open file description of our own.
    fn own(file: File) -> LogWriter {
        if file.is_terminal() {
            LogWriter::Terminal(file)
        } else {
            LogWriter::Plain(file)
        }
    }

    /// Our stderr: a file, a pipe, a terminal or a socket.
    ///
    /// # Errors
    /// EBADF: it is closed.
    pub fn stderr() -> io::Result<LogWriter> {
        LogWriter::shared(io::stderr().as_fd().try_clone_to_owned()?)
    }

    /// A descriptor whose open file description other processes may share.
    ///
    /// O_NONBLOCK belongs to the description. The shell and every worker share the one of stderr,
    /// so it must not be set there. Opening the terminal or pipe again gives a description of our
    /// own.
    ///
    /// # Errors
    /// What fstat(2) said.
    pub fn shared(shared: OwnedFd) -> io::Result<LogWriter> {
        let shared = File::from(shared);
        let kind = shared.metadata()?.file_type();
        if kind.is_socket() {
            return Ok(LogWriter::Socket(shared.into()));
        }
        if kind.is_file() {
            return Ok(LogWriter::Plain(shared));
        }
        let again = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", shared.as_raw_fd()));
        // It fails for a terminal of another user, and without /proc.
        Ok(again.map_or(LogWriter::PolledFirst(shared), LogWriter::own))
    }

    /// Writes what can be written without waiting. Returns the number of bytes; 0 on an error.
    pub fn write(&self, line: &[u8]) -> usize {
        let done = match self {
            LogWriter::Plain(file) => write(file, line),
            LogWriter::Terminal(file) => with_ttou_blocked(|| write(file, line)),
            LogWriter::Socket(socket) => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(socket.as_raw_fd(), line, flags).map_err(io::Error::from)
            }
            LogWriter::PolledFirst(file) => {
                let ready = Poller::new()
                    .wait(&[(file.as_fd(), Interest::WRITE)], Some(now()))
                    .map(|ready| ready.iter().any(|ready| ready.write));
                // A writable pipe has room for PIPE_BUF bytes, so a longer write could block:
                // pipe(7).
                let fits = line.get(..line.len().min(libc::PIPE_BUF));
                match ready {
                    Ok(true) => with_ttou_blocked(|| write(file, fits.unwrap_or_default())),
                    _ => Ok(0),
                }
            }
        };
        done.unwrap_or(0)
    }
}

/// Writes one line to stderr, also from the background of a terminal with `stty tostop`: a
/// service's last words must come out, and its exit code too. Unlike a log line it may block.
///
/// # Errors
/// What write(2) said.
pub fn write_to_stderr(line: &str) -> io::Result<()> {
    with_ttou_blocked(|| io::stderr().write_all(line.as_bytes()))
}

/// Calls `write` while TTOU is blocked in this thread.
fn with_ttou_blocked<T>(write: impl FnOnce() -> T) -> T {
    // Neither call fails: every kernel knows SIGTTOU and both ways to change the mask.
    let mut ttou = SigSet::empty();
    ttou.add(Signal::SIGTTOU);
    let before = ttou.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let written = write();
    if let Ok(mask) = before {
        let _ = mask.thread_set_mask();
    }
    written
}

fn write(mut file: &File, line: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(line) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Opens a file for lines at its end; it is created if it is missing.
///
/// # Errors
/// What open(2) said; ENXIO: a fifo without a reader.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    // O_NONBLOCK has no effect on a regular file. Opening a fifo without a reader would block.
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}
