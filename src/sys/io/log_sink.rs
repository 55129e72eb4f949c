//! Writes log lines without ever blocking: not on a slow reader, a stopped terminal or a full pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use nix::sys::socket::{MsgFlags, send};

use super::poll::{Interest, Poller};
use crate::sys::machine::clock::now;

/// The target of log lines. A write to it never blocks.
#[derive(Debug)]
pub enum LogWriter {
    /// A regular file, or an open file description of our own with O_NONBLOCK.
    Plain(File),
    /// A socket: each write uses MSG_DONTWAIT.
    Socket(OwnedFd),
    /// An open file description that other processes share and that could not be opened again:
    /// poll(2) comes before each write.
    PolledFirst(File),
}

impl LogWriter {
    /// Opens a file for appending, and creates it if it does not exist.
    ///
    /// # Errors
    /// What open(2) said; ENXIO: a fifo without a reader.
    pub fn append(path: &Path) -> io::Result<LogWriter> {
        // O_NONBLOCK has no effect on a regular file. Opening a fifo without a reader would block.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        Ok(LogWriter::Plain(file))
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
        Ok(again.map_or(LogWriter::PolledFirst(shared), LogWriter::Plain))
    }

    /// Writes what can be written without waiting. Returns the number of bytes; 0 on an error.
    pub fn write(&self, line: &[u8]) -> usize {
        let done = match self {
            LogWriter::Plain(file) => write(file, line),
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
                    Ok(true) => write(file, fits.unwrap_or_default()),
                    _ => Ok(0),
                }
            }
        };
        done.unwrap_or(0)
    }
}

fn write(mut file: &File, line: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(line) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
