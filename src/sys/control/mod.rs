//! The control socket (P1 to P4): its path, and a line-based connection that no client can use to hold up the loop or to fill
//! the memory.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

use super::files::dirlock::lock_dir_of;
use super::machine::users::own_uid;
use super::process::proc_info;
use crate::error::{Error, Result};
use crate::wire::control::MAX_REQUEST;

pub mod dial;
mod handover;
mod moving;

pub use moving::remove_dead;

const BACKLOG: i32 = 128;
/// How much one [`Conn::read`] takes, in bytes and in lines: then it is another's turn.
const TURN_BYTES: usize = 64 * 1024;
const TURN_LINES: usize = 64;
const CHUNK: usize = 16 * 1024;
/// A client that has not taken this many bytes of earlier answers gets no more.
const MAX_BEHIND: usize = 4 * 1024 * 1024;

/// The listening control socket.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
    mode: u32,
    owner: Option<u32>,
}

impl ControlSocket {
    /// Binds `path`; a dead server's socket is replaced, a live one's is not, and what is no socket is never touched. Mode and
    /// owner hold before the first client can connect.
    ///
    /// # Errors
    /// Exit 111: the path is in use or no socket, too long (107 bytes), or the system refused.
    pub fn bind(path: &Path, mode: u32, owner: Option<u32>, group: Option<u32>) -> Result<Self> {
        let what = || format!("cannot bind control socket {}", path.display());
        let path = std::path::absolute(path).map_err(|error| Error::system(what(), error))?;
        // Two starters must not both find the dead one and unlink each other's.
        let _lock = lock_dir_of(&path)?;
        clear(&path).map_err(|error| Error::system(what(), error))?;
        let (listener, inode) =
            listen_at(&path, mode, owner, group).map_err(|error| Error::system(what(), error))?;
        Ok(ControlSocket {
            listener,
            path,
            inode,
            mode,
            owner,
        })
    }

    /// Readable when there is a client to [`accept`](Self::accept).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Where it is; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this user may ask for anything: root, we ourselves, the path's owner, and whoever else the mode lets in, which
    /// the kernel has judged when it connected.
    pub fn admits(&self, uid: u32) -> bool {
        let open = self.mode & 0o066 != 0;
        open || uid == 0 || uid == own_uid() || Some(uid) == self.owner
    }

    /// The next client; `None` if there is none.
    ///
    /// # Errors
    /// What accept4(2) said: EMFILE, ENFILE, ENOMEM. The client then still waits, so the socket stays readable.
    pub fn accept(&self) -> io::Result<Option<Conn>> {
        match self.listener.accept() {
            Ok((stream, _)) => Conn::new(stream).map(Some),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Removes the path, if it still names our socket.
    ///
    /// # Errors
    /// What lstat(2) or unlink(2) said; a path that is not there, or another's, is none.
    pub fn remove(self) -> io::Result<()> {
        let _lock = lock_dir_of(&self.path);
        match fs::symlink_metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == self.inode => fs::remove_file(&self.path),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// Makes the path free, or tells why it is not.
fn clear(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("a file that is no socket is there"));
    }
    let probe = stream_socket()?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        // A child that was forked a moment before its master was killed has a copy until it executes its program, or closes what is not its own.
        Ok(()) if owner_has_gone(&probe) => fs::remove_file(path),
        Err(Errno::ENOENT) => Ok(()),
        // A full queue is a live server's; so is a socket of another type, as far as anybody can tell.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(Errno::EADDRINUSE.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the process that listens at the other end is no more, and somebody else only holds its socket. One of another pid namespace has no number here,
/// and counts as alive.
fn owner_has_gone(probe: &OwnedFd) -> bool {
    getsockopt(probe, sockopt::PeerCredentials)
        .is_ok_and(|peer| peer.pid() > 0 && !proc_info::is_live(peer.pid()))
}

fn listen_at(
    path: &Path,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
) -> io::Result<(UnixListener, (u64, u64))> {
    let socket = stream_socket()?;
    // Linux gives the path the socket's own mode: so it is closed from the start, without the process-wide umask.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let settled = settle(path, mode, owner, group).and_then(|inode| {
        listen(&socket, Backlog::new(BACKLOG)?)?;
        Ok(inode)
    });
    match settled {
        Ok(inode) => Ok((UnixListener::from(socket), inode)),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Sets owner and mode of the path that we have just bound, and of nothing that was put in its place: by a handle.
fn settle(
    path: &Path,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
) -> io::Result<(u64, u64)> {
    let handle = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
        .open(path)?;
    let found = handle.metadata()?;
    if !found.file_type().is_socket() {
        return Err(io::Error::other("another has replaced it"));
    }
    let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
    if owner.is_some() || group.is_some() {
        std::os::unix::fs::chown(&by_handle, owner, group)?;
    }
    if found.permissions().mode() & 0o7777 != mode {
        fs::set_permissions(&by_handle, PermissionsExt::from_mode(mode))?;
    }
    Ok((found.dev(), found.ino()))
}

/// What a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// A line of more than 64 KiB: skipped, and the connection goes on.
    TooLong,
    /// The rest of a line will not come any more: it was dropped.
    Cut,
    /// It says no more: it has closed, or shut down its side and may still read.
    End,
}

/// What one turn of reading gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// In order.
    pub inputs: Vec<Input>,
    /// There is more already here, that no poll will tell: read again next turn.
    pub more: bool,
}

/// A client.
#[derive(Debug)]
pub struct Conn {
    stream: UnixStream,
    peer: (i32, u32, u32),
    /// Bytes that have been read and not looked at.
    chunk: Vec<u8>,
    looked_at: usize,
    /// A line's beginning.
    partial: Vec<u8>,
    skipping: bool,
    ended: bool,
    output: Vec<u8>,
    written: usize,
}

impl Conn {
    fn new(stream: UnixStream) -> io::Result<Conn> {
        stream.set_nonblocking(true)?;
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        Ok(Conn {
            stream,
            peer: (peer.pid(), peer.uid(), peer.gid()),
            chunk: Vec::new(),
            looked_at: 0,
            partial: Vec::new(),
            skipping: false,
            ended: false,
            output: Vec::new(),
            written: 0,
        })
    }

    /// Readable when there is something to [`read`](Self::read), writable when there is room to [`flush`](Self::flush).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Who connected: pid (0 if in another pid namespace), uid, gid, as they were then.
    pub fn peer(&self) -> (i32, u32, u32) {
        self.peer
    }

    /// Whether reading makes sense: false after [`Input::End`], when the descriptor would be readable for ever.
    pub fn wants_read(&self) -> bool {
        !self.ended
    }

    /// Whether the last line that was read has no end yet.
    pub fn owes_rest(&self) -> bool {
        !self.partial.is_empty() || self.skipping
    }

    /// Reads what is there: at most 64 KiB or 64 lines, so that one client's flood is not another's wait.
    pub fn read(&mut self) -> Turn {
        let mut turn = Turn::default();
        let mut taken = 0;
        loop {
            self.split(&mut turn.inputs);
            if turn.inputs.len() >= TURN_LINES || self.ended || taken >= TURN_BYTES {
                break;
            }
            match self.fill() {
                Ok(0) => {
                    self.ended = true;
                    if self.owes_rest() {
                        self.partial = Vec::new();
                        turn.inputs.push(Input::Cut);
                    }
                    turn.inputs.push(Input::End);
                }
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Broken is ended: the next flush tells.
                Err(_) => {
                    self.ended = true;
                    turn.inputs.push(Input::End);
                }
            }
        }
        turn.more = self.looked_at < self.chunk.len();
        if !turn.more {
            // An idle client costs nothing.
            self.chunk = Vec::new();
            self.looked_at = 0;
        }
        turn
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.looked_at = 0;
        self.chunk.clear();
        self.chunk.resize(CHUNK, 0);
        let read = self.stream.read(&mut self.chunk);
        self.chunk.truncate(*read.as_ref().unwrap_or(&0));
        read
    }

    fn split(&mut self, inputs: &mut Vec<Input>) {
        while inputs.len() < TURN_LINES {
            let rest = self.chunk.get(self.looked_at..).unwrap_or_default();
            let Some(piece) = rest.split_inclusive(|byte| *byte == b'\n').next() else {
                return;
            };
            self.looked_at += piece.len();
            let whole = piece.ends_with(b"\n");
            if self.skipping {
                self.skipping = !whole;
            } else if self.partial.len() + piece.len() > MAX_REQUEST {
                self.partial = Vec::new();
                self.skipping = !whole;
                inputs.push(Input::TooLong);
            } else {
                self.partial.extend_from_slice(piece);
                if whole {
                    self.partial.pop();
                    inputs.push(Input::Line(std::mem::take(&mut self.partial)));
                }
            }
        }
    }

    /// Queues `line` and a newline, to be sent by [`flush`](Self::flush). False if the client has left more than 4 MiB of
    /// earlier lines unread: it is to be dropped.
    #[must_use = "a client that does not read must be dropped"]
    pub fn send(&mut self, line: String) -> bool {
        if self.behind() > MAX_BEHIND && (self.flush().is_err() || self.behind() > MAX_BEHIND) {
            return false;
        }
        if self.wants_write() {
            self.output.extend_from_slice(line.as_bytes());
        } else {
            // The status of a thousand slots is a long line.
            self.output = line.into_bytes();
            self.written = 0;
        }
        self.output.push(b'\n');
        true
    }

    /// Sends what the client takes without waiting.
    ///
    /// # Errors
    /// EPIPE or ECONNRESET: it has gone, and is to be dropped.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.wants_write() {
            let rest = self.output.get(self.written..).unwrap_or_default();
            match self.stream.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if !self.wants_write() {
            self.output = Vec::new();
            self.written = 0;
        } else if self.written > self.output.len() / 2 {
            self.output.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Whether anything is queued.
    pub fn wants_write(&self) -> bool {
        self.behind() > 0
    }

    fn behind(&self) -> usize {
        self.output.len().saturating_sub(self.written)
    }
}

#[cfg(test)]
pub(crate) mod tests;
