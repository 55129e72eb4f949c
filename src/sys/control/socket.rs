//! The listening control socket: binds its path, accepts clients, removes the path at the end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

use super::connection::Conn;
use crate::error::{Error, Result};
use crate::sys::files::dirlock::{DirLock, lock_dir_of, lock_dir_of_at_once};
use crate::sys::files::watch::AtPath;
use crate::sys::machine::users::own_uid;
use crate::sys::process::proc_info;

pub(super) const BACKLOG: i32 = 128;

/// The listening control socket.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
    /// Device and inode of the path.
    pub(super) inode: (u64, u64),
    pub(super) mode: u32,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
}

impl ControlSocket {
    /// Binds `path`. The socket of a dead server is replaced, the socket of a live one is not, and
    /// a file that is not a socket is never touched. Mode and owner are set before the first client
    /// can connect.
    ///
    /// # Errors
    /// Exit 111: the path is in use, is not a socket or is too long (107 bytes), or the system
    /// refused.
    pub fn bind(path: &Path, mode: u32, owner: Option<u32>, group: Option<u32>) -> Result<Self> {
        let what = || format!("cannot bind control socket {}", path.display());
        let path = std::path::absolute(path).map_err(|error| Error::system(what(), error))?;
        let lock = lock_dir_of(&path)?;
        ControlSocket::bind_under(lock, path, mode, owner, group)
    }

    /// The lock covers check and bind: otherwise two starters could both find the dead socket, and
    /// the second would unlink the socket that the first has just bound.
    fn bind_under(
        _lock: DirLock,
        path: PathBuf,
        mode: u32,
        owner: Option<u32>,
        group: Option<u32>,
    ) -> Result<Self> {
        let what = || format!("cannot bind control socket {}", path.display());
        remove_dead_socket(&path).map_err(|error| Error::system(what(), error))?;
        let (listener, inode) =
            listen_at(&path, mode, owner, group).map_err(|error| Error::system(what(), error))?;
        Ok(ControlSocket {
            listener,
            path,
            inode,
            mode,
            owner,
            group,
        })
    }

    /// What stands at the path now.
    ///
    /// # Errors
    /// What lstat(2) said.
    pub fn at_path(&self) -> io::Result<AtPath> {
        AtPath::of(&self.path, self.inode)
    }

    /// Binds the path anew, with the same mode and owner: another process has removed it, and a
    /// bound socket cannot get a path again. The former socket: clients may wait there.
    ///
    /// # Errors
    /// As [`bind`](Self::bind), but that it waits for no other process; this socket stays as it is
    /// then.
    pub fn bind_anew(&mut self) -> Result<ControlSocket> {
        let lock = lock_dir_of_at_once(&self.path)?;
        let path = self.path.clone();
        let new = ControlSocket::bind_under(lock, path, self.mode, self.owner, self.group)?;
        Ok(std::mem::replace(self, new))
    }

    /// Readable when a client waits for [`accept`](Self::accept).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a client of this user may make requests: root, our own user, the owner of the path,
    /// and any user if the mode lets group or others connect. The kernel checked the mode at
    /// connect(2).
    pub fn allows(&self, uid: u32) -> bool {
        let open_to_others = self.mode & 0o066 != 0;
        open_to_others || uid == 0 || uid == own_uid() || Some(uid) == self.owner
    }

    /// The next client; `None` if there is none.
    ///
    /// # Errors
    /// What accept4(2) said: EMFILE, ENFILE, ENOMEM. The client still waits then, so the socket
    /// stays readable.
    pub fn accept(&self) -> io::Result<Option<Conn>> {
        match self.listener.accept() {
            Ok((stream, _)) => Conn::new(stream).map(Some),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Removes the path if it still names our socket. A missing path, or the socket of another
    /// process, is no error.
    ///
    /// # Errors
    /// What lstat(2) or unlink(2) said.
    pub fn remove(self) -> io::Result<()> {
        let _lock = lock_dir_of(&self.path);
        match self.at_path()? {
            AtPath::Ours => fs::remove_file(&self.path),
            AtPath::Nothing | AtPath::Another => Ok(()),
        }
    }
}

pub(super) fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// Removes the socket that a dead server left at the path. A missing path is no error.
///
/// # Errors
/// The path is in use (EADDRINUSE) or not a socket, or what unlink(2) said.
pub(super) fn remove_dead_socket(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("a file that is not a socket is there"));
    }
    let probe = stream_socket()?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        // A child that was forked just before its master was killed has a copy of the socket until
        // it executes its program or closes inherited descriptors. So connect(2) may succeed
        // although the server is dead.
        Ok(()) if owner_has_gone(&probe) => fs::remove_file(path),
        Err(Errno::ENOENT) => Ok(()),
        // EAGAIN: the queue of a live server is full. EPROTOTYPE: a socket of another type, whose
        // server may be alive.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(Errno::EADDRINUSE.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the process that called listen(2) has exited, so that another process only holds its
/// socket. A process of another pid namespace has no pid here and counts as alive.
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
    // bind(2) gives the path the mode of the socket, so no other user can connect from the start.
    // The umask would do the same, but for the whole process.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let ready = set_owner_and_mode(path, mode, owner, group).and_then(|inode| {
        listen(&socket, Backlog::new(BACKLOG)?)?;
        Ok(inode)
    });
    match ready {
        Ok(inode) => Ok((UnixListener::from(socket), inode)),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Sets owner and mode of the path that was just bound; returns its device and inode. It works on
/// an O_PATH descriptor, so it never changes a file that another process put in its place.
fn set_owner_and_mode(
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
        return Err(io::Error::other("another process has replaced it"));
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
