//! Unix sockets at a path: who may take the path, and the order of bind, mode, owner and listen.
//!
//! Two things must not happen. A live server must not lose its path: so each process that checks
//! and then replaces a path does both under a lock on the directory. A client must not connect
//! before mode and owner are set: so the socket is bound with mode 0, and listen(2) comes last.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{Mode as OpenMode, OFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use super::bind_error::{BindError, in_use};
use crate::error::{Error, Result, reason};
use crate::sys::files::dirlock::lock_dir_of;
use crate::sys::machine::users;
use crate::wire::address::{Bound, Kind, Options};

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// The permission bits; `None`: 0777 less the umask.
    pub mode: Option<u32>,
    /// The owner; `None`: the user that binds.
    pub uid: Option<Uid>,
    /// The group; `None`: the group of the process that binds.
    pub gid: Option<Gid>,
}

impl Access {
    /// Looks up the user and the group that `options` name.
    ///
    /// # Errors
    /// Exit 111: there is no such user or group.
    pub fn of(options: &Options) -> Result<Access> {
        let uid = options.owner.as_deref().map(users::uid).transpose()?;
        let gid = options.group.as_deref().map(users::gid).transpose()?;
        Ok(Access {
            mode: options.mode,
            uid,
            gid,
        })
    }

    /// Sets mode, owner and group on an inherited socket, where they are given.
    ///
    /// # Errors
    /// Exit 111: the path is not a socket, or the system refused.
    pub fn set_on_inherited(&self, path: &Path) -> Result<()> {
        if *self == Access::default() {
            return Ok(());
        }
        self.set(path, self.mode).map_err(|error| {
            Error::system(
                format!("cannot set mode and owner of {}", path.display()),
                reason(&error),
            )
        })
    }

    /// Opens the path first and checks that it is a socket: a process that may write to the
    /// directory could replace the path between the check and the change.
    fn set(&self, path: &Path, mode: Option<u32>) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::File::from(rustix::fs::open(path, flags, OpenMode::empty())?);
        if !file.metadata()?.file_type().is_socket() {
            return Err(io::Error::other("it is not a socket any more"));
        }
        if self.uid.is_some() || self.gid.is_some() {
            fchownat(&file, "", self.uid, self.gid, AtFlags::AT_EMPTY_PATH)?;
        }
        match mode {
            // fchmod(2) fails with EBADF on an O_PATH descriptor; its entry in /proc works:
            // open(2).
            Some(mode) => fs::set_permissions(
                format!("/proc/self/fd/{}", file.as_raw_fd()),
                fs::Permissions::from_mode(mode),
            ),
            None => Ok(()),
        }
    }
}

/// Whether `path` itself is a socket; a symbolic link to a socket is not.
pub fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Reads mode, owner and group of a socket's path; those of another file are none of its own.
pub fn read_access(path: &Path, options: &mut Options) {
    let found = fs::symlink_metadata(path).ok();
    let Some(found) = found.filter(|found| found.file_type().is_socket()) else {
        return;
    };
    options.mode = Some(found.mode() & 0o7777);
    options.owner = Some(found.uid().to_string());
    options.group = Some(found.gid().to_string());
}

/// Checks that the path fits into a socket address (107 bytes: unix(7)).
///
/// # Errors
/// Exit 111: it is too long.
pub fn check_length(path: &Path) -> Result<(), Error> {
    match nix::sys::socket::UnixAddr::new(path) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::system(
            format!("cannot bind {}", path.display()),
            "a socket's path has at most 107 bytes",
        )),
    }
}

/// Frees `path`, calls `bind`, sets mode and owner, and only then calls `listen`.
///
/// The path of a live server is in use; the path of a dead one is unlinked; a file that is not a
/// socket is never touched. It changes the umask of the whole process for a moment: no other thread
/// should create files then.
pub(super) fn bind(
    path: &Path,
    kind: Kind,
    access: &Access,
    bind: impl FnOnce() -> io::Result<()>,
    listen: impl FnOnce() -> io::Result<()>,
) -> Result<(), BindError> {
    let at = Bound::Unix(kind, path.to_owned());
    let fail = |why: String| Error::system(format!("cannot bind {at}"), why);
    let _lock = lock_dir_of(path).map_err(|error| Error {
        hint: error.hint.clone(),
        ..fail(format!("{}: {}", error.what, error.why))
    })?;
    remove_dead_socket(path, &at, kind)?;
    let old_umask = umask(Mode::from_bits_truncate(0o777));
    let bound = bind();
    umask(old_umask);
    match bound {
        Ok(()) => {}
        // A process that does not take the lock bound the path after our check.
        Err(error) if error.raw_os_error() == Some(Errno::EADDRINUSE as i32) => {
            return Err(in_use(&at));
        }
        Err(error) => return Err(fail(reason(&error)).into()),
    }
    let mode = access.mode.unwrap_or(0o777 & !old_umask.bits());
    access
        .set(path, Some(mode))
        .and_then(|()| listen())
        .map_err(|error| {
            // The path is ours, and no client has used it: leave no dead socket behind.
            let _ = fs::remove_file(path);
            BindError::Other(fail(format!(
                "setting its mode and owner: {}",
                reason(&error)
            )))
        })
}

/// Removes the socket that a dead server left at `path`.
fn remove_dead_socket(path: &Path, at: &Bound, kind: Kind) -> Result<(), BindError> {
    let fail = |why: &str| Error::system(format!("cannot bind {at}"), why);
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(&reason(&error)).into()),
    };
    if !found.file_type().is_socket() {
        return Err(fail("a file that is not a socket is in the way")
            .hint(format!("remove or rename {}", path.display()))
            .into());
    }
    let dead = match probe(path, kind) {
        Ok(()) => false,
        Err(Errno::ECONNREFUSED) => true,
        // Removed since the check above.
        Err(Errno::ENOENT) => return Ok(()),
        // EAGAIN: the queue of a live server is full. EPROTOTYPE, EACCES: a server may be alive.
        Err(_) => false,
    };
    if !dead {
        return Err(in_use(at));
    }
    // Remove only the file that was probed: a process that does not take the lock may replace it.
    let same = fs::symlink_metadata(path)
        .is_ok_and(|now| (now.dev(), now.ino()) == (found.dev(), found.ino()));
    if !same {
        return Err(BindError::InUse(
            fail("another process changes the path"),
            None,
        ));
    }
    fs::remove_file(path).map_err(|error| {
        fail(&format!(
            "cannot remove what a dead server left: {}",
            reason(&error)
        ))
        .into()
    })
}

/// Tries to connect, without waiting.
fn probe(path: &Path, kind: Kind) -> Result<(), Errno> {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let socket = Socket::new(Domain::UNIX, unix_type(kind), None).map_err(errno)?;
    socket.set_nonblocking(true).map_err(errno)?;
    socket
        .connect(&path_address(path).map_err(errno)?)
        .map_err(errno)
}

/// The socket type of a kind.
pub(super) fn unix_type(kind: Kind) -> Type {
    match kind {
        Kind::Stream => Type::STREAM,
        Kind::Datagram => Type::DGRAM,
        Kind::Seqpacket => Type::SEQPACKET,
    }
}

/// The address of a path. A path that begins with NUL would be an abstract address: EINVAL.
fn path_address(path: &Path) -> io::Result<SockAddr> {
    if path.as_os_str().as_bytes().first() == Some(&0) {
        return Err(io::Error::from_raw_os_error(nix::libc::EINVAL));
    }
    SockAddr::unix(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).map_or(0, |found| found.mode() & 0o7777)
    }

    #[test]
    fn mode_and_owner_are_set_before_the_first_client() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let address = SockAddr::unix(&path).expect("short");
        let root = Uid::effective().is_root();
        let (uid, gid) = if root {
            (Uid::from_raw(4242), Gid::from_raw(4343))
        } else {
            (Uid::effective(), Gid::effective())
        };
        let access = Access {
            mode: Some(0o640),
            uid: Some(uid),
            gid: Some(gid),
        };
        let bind_socket = || {
            socket.bind(&address)?;
            assert_eq!(mode_of(&path), 0, "no client may connect yet");
            Ok(())
        };
        let listen = || {
            let found = fs::symlink_metadata(&path)?;
            assert_eq!(
                (found.mode() & 0o7777, found.uid(), found.gid()),
                (0o640, uid.as_raw(), gid.as_raw())
            );
            assert_eq!(
                probe(&path, Kind::Stream),
                Err(Errno::ECONNREFUSED),
                "no client can connect before listen"
            );
            socket.listen(5)
        };
        bind(&path, Kind::Stream, &access, bind_socket, listen)
            .map_err(BindError::into_error)
            .expect("bound");
        assert_eq!(probe(&path, Kind::Stream), Ok(()));
    }

    #[test]
    fn a_failed_setup_leaves_no_file_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        let address = SockAddr::unix(&path).expect("short");
        let refuse = || Err(io::Error::from_raw_os_error(Errno::EPERM as i32));
        let failure = bind(
            &path,
            Kind::Stream,
            &Access::default(),
            || socket.bind(&address),
            refuse,
        )
        .expect_err("refused");
        let expected = format!(
            "cannot bind unix:{}: setting its mode and owner: Operation not permitted",
            path.display()
        );
        assert_eq!(failure.into_error().to_string(), expected);
        assert!(!path.exists());
    }

    #[test]
    fn mode_and_owner_of_a_plain_file_are_not_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "").expect("written");
        let before = mode_of(&path);
        let access = Access {
            mode: Some(0o777),
            ..Access::default()
        };
        let error = access
            .set_on_inherited(&path)
            .expect_err("no socket")
            .to_string();
        assert_eq!(
            error,
            format!(
                "cannot set mode and owner of {}: it is not a socket any more",
                path.display()
            )
        );
        assert_eq!(mode_of(&path), before);
    }
}
