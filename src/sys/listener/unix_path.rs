//! Unix sockets at a path: who may take the path, and in what order it comes to life.
//!
//! Two things must not happen: that a live server's path is taken from it, and that a client gets in before mode and owner hold. Against the
//! first, whoever looks and then acts does so under a lock on the directory; against the second, the socket is born with no permissions at all and
//! listens last.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{Mode as OpenMode, OFlags};
use socket2::{Domain, Socket};

use super::{Bound, Failure};
use crate::error::{Error, Result, reason};
use crate::sys::files::dirlock::lock_dir_of;
use crate::sys::machine::users;
use crate::wire::address::{Kind, Options};

/// Who may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// The permission bits; by the umask if absent.
    pub mode: Option<u32>,
    /// The owner; the one who binds if absent.
    pub uid: Option<Uid>,
    /// The group; that of the one who binds if absent.
    pub gid: Option<Gid>,
}

impl Access {
    /// Looks up the users that `options` name.
    pub fn of(options: &Options) -> Result<Access> {
        let uid = options.owner.as_deref().map(users::uid).transpose()?;
        let gid = options.group.as_deref().map(users::gid).transpose()?;
        Ok(Access {
            mode: options.mode,
            uid,
            gid,
        })
    }

    /// Sets what is given on a socket that is there already.
    pub fn set_again(&self, path: &Path) -> Result<()> {
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

    /// The path is opened first, and must be a socket: whoever may write to the directory could put another file in its place meanwhile.
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
            // A descriptor of a path alone cannot be chmodded, but its entry in /proc can.
            Some(mode) => fs::set_permissions(
                format!("/proc/self/fd/{}", file.as_raw_fd()),
                fs::Permissions::from_mode(mode),
            ),
            None => Ok(()),
        }
    }
}

/// Whether there is a socket at `path` itself (not behind a symbolic link).
pub fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Whether a socket can be bound at a path of this length.
///
/// # Errors
/// It is longer than a socket address holds: exit 111.
pub fn check_length(path: &Path) -> Result<(), Error> {
    match nix::sys::socket::UnixAddr::new(path) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::system(
            format!("cannot bind {}", path.display()),
            "a socket's path has at most 107 bytes",
        )),
    }
}

/// Takes `path` for a socket that `bind` binds there, gives it mode and owner, and only then lets `listen` open it to clients.
///
/// A live server's path is refused as in use; a dead one's is unlinked; anything that is no socket is never touched. Changes the umask of the
/// whole process for a moment, so no other thread should create files meanwhile.
pub(crate) fn bind(
    path: &Path,
    kind: Kind,
    access: &Access,
    bind: impl FnOnce() -> io::Result<()>,
    listen: impl FnOnce() -> io::Result<()>,
) -> Result<(), Failure> {
    let at = Bound::Unix(kind, path.to_owned());
    let fail = |why: String| Error::system(format!("cannot bind {at}"), why);
    let _lock = lock_dir_of(path).map_err(|error| Error {
        hint: error.hint.clone(),
        ..fail(format!("{}: {}", error.what, error.why))
    })?;
    clear_the_way(path, &at, kind)?;
    let usual = umask(Mode::from_bits_truncate(0o777));
    let bound = bind();
    umask(usual);
    match bound {
        Ok(()) => {}
        // Someone who does not take the lock has come between.
        Err(error) if error.raw_os_error() == Some(Errno::EADDRINUSE as i32) => {
            return Err(Failure::InUse(super::in_use(&at)));
        }
        Err(error) => return Err(fail(reason(&error)).into()),
    }
    let mode = access.mode.unwrap_or(0o777 & !usual.bits());
    access
        .set(path, Some(mode))
        .and_then(|()| listen())
        .map_err(|error| {
            // Ours, and nobody has used it yet: leave no dead file behind.
            let _ = fs::remove_file(path);
            Failure::Other(fail(format!(
                "setting its mode and owner: {}",
                reason(&error)
            )))
        })
}

/// Removes what a dead server left at `path`.
fn clear_the_way(path: &Path, at: &Bound, kind: Kind) -> Result<(), Failure> {
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
        // Gone while we looked.
        Err(Errno::ENOENT) => return Ok(()),
        // A full queue, a socket of another type, one that we may not connect to: somebody may be alive there.
        Err(_) => false,
    };
    if !dead {
        return Err(Failure::InUse(super::in_use(at)));
    }
    // Only the very file that was probed: the lock holds off those who take it, nobody else.
    let same = fs::symlink_metadata(path)
        .is_ok_and(|now| (now.dev(), now.ino()) == (found.dev(), found.ino()));
    if !same {
        return Err(Failure::InUse(fail("the path changes under our hands")));
    }
    fs::remove_file(path).map_err(|error| {
        fail(&format!(
            "cannot remove what a dead server left: {}",
            reason(&error)
        ))
        .into()
    })
}

/// Connects, without waiting.
fn probe(path: &Path, kind: Kind) -> Result<(), Errno> {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
    let socket = Socket::new(Domain::UNIX, super::unix_type(kind), None).map_err(errno)?;
    socket.set_nonblocking(true).map_err(errno)?;
    socket
        .connect(&super::path_address(path).map_err(errno)?)
        .map_err(errno)
}

#[cfg(test)]
mod tests {
    use socket2::{SockAddr, Type};

    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).map_or(0, |found| found.mode() & 0o7777)
    }

    #[test]
    fn mode_and_owner_hold_before_the_first_client() {
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
        let born = || {
            socket.bind(&address)?;
            assert_eq!(mode_of(&path), 0, "nobody may connect yet");
            Ok(())
        };
        let opened = || {
            let found = fs::symlink_metadata(&path)?;
            assert_eq!(
                (found.mode() & 0o7777, found.uid(), found.gid()),
                (0o640, uid.as_raw(), gid.as_raw())
            );
            assert_eq!(
                probe(&path, Kind::Stream),
                Err(Errno::ECONNREFUSED),
                "and still nobody can"
            );
            socket.listen(5)
        };
        bind(&path, Kind::Stream, &access, born, opened)
            .map_err(Failure::into_error)
            .expect("bound");
        assert_eq!(probe(&path, Kind::Stream), Ok(()));
    }

    #[test]
    fn what_could_not_be_set_up_leaves_nothing_behind() {
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
    fn mode_and_owner_of_what_is_no_socket_any_more_stay() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "").expect("written");
        let before = mode_of(&path);
        let access = Access {
            mode: Some(0o777),
            ..Access::default()
        };
        let error = access.set_again(&path).expect_err("no socket").to_string();
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
