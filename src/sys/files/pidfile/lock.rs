//! The fcntl(2) lock on a pid file, and whether a path still names the locked file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{Error, Exit};

/// How often to try again after another process was faster at one step. Each lost race means that
/// another process won one.
pub(super) const TRIES: usize = 100;

/// Opens the file at the path; `None` if there is none. It never follows a symbolic link and never
/// waits for the other end of a fifo.
pub(super) fn open_existing(path: &Path) -> io::Result<Option<File>> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.is_file() {
        return Err(not_regular());
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(file) if !file.metadata()?.is_file() => Err(not_regular()),
        opened => opened.map(Some),
    }
}

pub(super) fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// Whether the path names this file: device and inode are equal.
pub(super) fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => found.map(|found| (found.dev(), found.ino()) == (own.dev(), own.ino())),
    }
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Takes the lock; false if another process has it.
pub(super) fn lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The pid of the other process that has the lock; `None` if no process has it. The pid of a
/// process in another pid namespace is not positive.
pub(super) fn holder(file: &File) -> io::Result<Option<i32>> {
    let mut found = whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut found))?;
    let unlocked = i32::from(found.l_type) == libc::F_UNLCK;
    Ok((!unlocked).then_some(found.l_pid))
}

/// The error for a pid file that a live process owns.
pub(super) fn owned_error(path: &Path, pid: i32) -> Error {
    let owner = match pid {
        1.. => format!("process {pid} owns it"),
        _ => "a process of another pid namespace owns it".to_owned(),
    };
    let what = format!("cannot take pid file {}", path.display());
    Error::new(Exit::Refused, what, owner).hint("stop it first, or name another file")
}
