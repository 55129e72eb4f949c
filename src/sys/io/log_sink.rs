//! Where lines go without ever waiting: for a reader that is slow, for a terminal that is stopped, for a full pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use nix::sys::socket::{MsgFlags, send};

use super::poll::{Interest, Poller};
use crate::sys::machine::clock::now;

/// Something to write to that never blocks.
#[derive(Debug)]
pub enum Out {
    /// Never blocks: a regular file, or a description of our own that is non-blocking.
    Plain(File),
    /// MSG_DONTWAIT.
    Socket(OwnedFd),
    /// A description that others share and that could not be had anew: asked before each write.
    Asked(File),
}

impl Out {
    /// A file, made if it is not there, and appended to.
    ///
    /// # Errors
    /// What open(2) said; ENXIO: a fifo that nobody reads.
    pub fn append(path: &Path) -> io::Result<Out> {
        // Regular files do not care about O_NONBLOCK, and a fifo without a reader does.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        Ok(Out::Plain(file))
    }

    /// Our stderr, whatever it is.
    ///
    /// # Errors
    /// It is closed: EBADF.
    pub fn stderr() -> io::Result<Out> {
        Out::shared(io::stderr().as_fd().try_clone_to_owned()?)
    }

    /// A descriptor whose description others may share.
    ///
    /// O_NONBLOCK belongs to the description, which stderr shares with the shell and with every worker: it must not be set there.
    /// Opening the tty or pipe again gives a description of our own.
    ///
    /// # Errors
    /// What fstat(2) said.
    pub fn shared(shared: OwnedFd) -> io::Result<Out> {
        let shared = File::from(shared);
        let kind = shared.metadata()?.file_type();
        if kind.is_socket() {
            return Ok(Out::Socket(shared.into()));
        }
        if kind.is_file() {
            return Ok(Out::Plain(shared));
        }
        let again = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", shared.as_raw_fd()));
        // Another user's terminal, or no /proc.
        Ok(again.map_or(Out::Asked(shared), Out::Plain))
    }

    /// Writes what can be written at once; how many bytes.
    pub fn write(&self, line: &[u8]) -> usize {
        let done = match self {
            Out::Plain(file) => write(file, line),
            Out::Socket(socket) => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(socket.as_raw_fd(), line, flags).map_err(io::Error::from)
            }
            Out::Asked(file) => {
                let ready = Poller::new()
                    .wait(&[(file.as_fd(), Interest::WRITE)], Some(now()))
                    .map(|ready| ready.iter().any(|ready| ready.write));
                // A pipe that is writable has room for a line of at most PIPE_BUF.
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
