//! The pid file (U22): the lock is the truth, the number in it is for people.
//!
//! The lock is fcntl's: it survives exec as long as the descriptor stays open, a fork does not inherit it, and the kernel tells
//! who holds it. But it is per process: closing any descriptor of the file drops it, so a master must never open its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Pid, PidfdFlags, Signal as RawSignal, pidfd_open, pidfd_send_signal};

use crate::error::{Error, Exit, Result};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::random::hex128;
use crate::sys::signal;

mod moving;

pub use moving::remove_stale;

/// Each lost race means that another has just won one.
const TRIES: usize = 100;

/// Our pid file, locked.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

/// Who owns a pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// There is no such file.
    Absent,
    /// Nobody holds the lock: whatever number stands in it means nothing.
    Stale,
    /// This process holds it.
    Alive(i32),
    /// A process of another pid namespace holds it: it has no number here.
    Unreachable,
}

enum Attempt {
    Won(PidFile),
    Taken(i32),
    /// Another was faster at one step: look again.
    Raced,
}

impl PidFile {
    /// Takes the pid file at `path`, whether it is absent or stale, and writes our pid into it. Must not be called for a file
    /// that this process owns.
    ///
    /// # Errors
    /// Exit 6 if a live process owns it, which is named; 111 if something else than a regular file is there, or the system
    /// refused (no space, no permission).
    pub fn acquire(path: &Path) -> Result<PidFile> {
        let what = || format!("cannot take pid file {}", path.display());
        // A later change of directory must not change what is removed.
        let full = std::path::absolute(path).map_err(|error| Error::system(what(), error))?;
        for _ in 0..TRIES {
            let attempt = match existing(&full) {
                Ok(Some(old)) => replace(&full, old),
                Ok(None) => create(&full),
                Err(error) => Err(error),
            };
            match attempt.map_err(|error| Error::system(what(), error))? {
                Attempt::Won(file) => return Ok(file),
                Attempt::Taken(pid) => return Err(taken(path, pid)),
                Attempt::Raced => {}
            }
        }
        Err(Error::system(
            what(),
            "others take and leave it all the time",
        ))
    }

    /// The pid file that the image before this one has locked: the lock is the process's, as long as no descriptor of the file is
    /// closed. So this takes over the very descriptor, and never a copy.
    ///
    /// # Errors
    /// Exit 111 if it is not open.
    pub fn taken_over(fd: i32, path: PathBuf) -> Result<PidFile> {
        let file = crate::sys::io::fd::adopt(fd)?.into();
        Ok(PidFile { path, file })
    }

    /// Where it is; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor that holds the lock; close-on-exec.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Removes the file, if the path still names ours.
    ///
    /// # Errors
    /// What lstat(2) or unlink(2) said; a file that is not there, or another's, is none.
    pub fn remove(self) -> io::Result<()> {
        // Nobody replaces it between the look and the unlink: that takes the lock that we hold.
        if names(&self.path, &self.file)? {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

fn taken(path: &Path, pid: i32) -> Error {
    let owner = match pid {
        1.. => format!("process {pid} owns it"),
        _ => "a process of another pid namespace owns it".to_owned(),
    };
    let what = format!("cannot take pid file {}", path.display());
    Error::new(Exit::Refused, what, owner).hint("stop it first, or name another file")
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// Opens what is at the path, never following a link, nor waiting for the other end of a fifo.
fn existing(path: &Path) -> io::Result<Option<File>> {
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

/// Nothing is there: a locked file appears, or, where another's has, nothing happens.
fn create(path: &Path) -> io::Result<Attempt> {
    let (temporary, file) = prepare(path)?;
    let linked = match fs::hard_link(&temporary, path) {
        // A file system without links.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
            renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE).map_err(Into::into)
        }
        linked => linked,
    };
    // Already gone if it was renamed.
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => Ok(won(path, file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Attempt::Raced),
        Err(error) => Err(error),
    }
}

/// A file is there: if nobody holds it, ours replaces it while we hold it.
fn replace(path: &Path, old: File) -> io::Result<Attempt> {
    if !lock(&old)? {
        // Between the two calls the holder may have gone.
        return Ok(holder(&old)?.map_or(Attempt::Raced, Attempt::Taken));
    }
    // Whoever held it before may have replaced or removed the file between our open and our lock.
    if !names(path, &old)? {
        return Ok(Attempt::Raced);
    }
    let (temporary, file) = prepare(path)?;
    if let Err(error) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // Only now the old lock goes: whoever waits for it finds that the path names another file.
    drop(old);
    Ok(won(path, file))
}

fn won(path: &Path, file: File) -> Attempt {
    Attempt::Won(PidFile {
        path: path.to_owned(),
        file,
    })
}

/// A locked, complete file under a name that nobody knows, beside `path`.
fn prepare(path: &Path) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), hex128()?));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)?;
    let filled = lock(&file)
        .and_then(|_| writeln!(file, "{}", std::process::id()))
        .and_then(|()| file.sync_all());
    if let Err(error) = filled {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    Ok((temporary, file))
}

/// Whether the path names this very file.
fn names(path: &Path, file: &File) -> io::Result<bool> {
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
fn lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The other process that has the lock.
fn holder(file: &File) -> io::Result<Option<i32>> {
    let mut found = whole_file();
    fcntl(file, FcntlArg::F_GETLK(&mut found))?;
    let unlocked = i32::from(found.l_type) == libc::F_UNLCK;
    Ok((!unlocked).then_some(found.l_pid))
}

/// Who owns the pid file at `path`: what its lock says, whatever stands in it. Must not be asked about one's own, which would
/// drop the lock.
///
/// # Errors
/// Exit 4 if the file may not be opened; 111 if it is no regular file, or the system refused.
pub fn owner(path: &Path) -> Result<Owner> {
    let what = || format!("cannot read pid file {}", path.display());
    let open = |read: bool| {
        OpenOptions::new()
            .read(read)
            .write(!read)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
    };
    // Asking needs no particular mode.
    let opened = open(true).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => open(false),
        _ => Err(error),
    });
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound => Ok(Owner::Absent),
                io::ErrorKind::PermissionDenied => Err(Error::new(Exit::Permission, what(), error)),
                _ => Err(Error::system(what(), error)),
            };
        }
    };
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Err(Error::system(what(), not_regular()));
    }
    Ok(
        match holder(&file).map_err(|error| Error::system(what(), error))? {
            None => Owner::Stale,
            Some(pid) if pid > 0 => Owner::Alive(pid),
            Some(_) => Owner::Unreachable,
        },
    )
}

/// The live owner of the pid file, with a handle that can only ever mean that process; `None` if it is absent or stale.
///
/// # Errors
/// As [`owner`]; exit 6 if the owner is of another pid namespace.
pub fn open_owner(path: &Path) -> Result<Option<(i32, OwnedFd)>> {
    let what = || format!("cannot reach the owner of pid file {}", path.display());
    for _ in 0..TRIES {
        let pid = match owner(path)? {
            Owner::Absent | Owner::Stale => return Ok(None),
            Owner::Alive(pid) => pid,
            Owner::Unreachable => {
                let why = "it is in another pid namespace";
                return Err(Error::new(Exit::Refused, what(), why).hint("use its control socket"));
            }
        };
        let Some(raw) = Pid::from_raw(pid) else {
            continue;
        };
        match pidfd_open(raw, PidfdFlags::empty()) {
            // It still owns the file, so the number meant it when the handle was made.
            Ok(handle) if owner(path)? == Owner::Alive(pid) => return Ok(Some((pid, handle))),
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(Error::system(what(), errno)),
        }
    }
    Err(Error::system(what(), "it changes all the time"))
}

/// A handle of a process, which can only ever mean that one.
///
/// # Errors
/// ESRCH: there is none of this number.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(raw, PidfdFlags::empty())?)
}

/// Signals the process that the handle means.
///
/// # Errors
/// ESRCH: it has ended; EPERM: it is not ours.
pub fn pidfd_signal(handle: &OwnedFd, signal: Signal) -> io::Result<()> {
    let signal =
        RawSignal::from_named_raw(signal::number(signal)).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_send_signal(handle, signal)?)
}

/// Waits until the process that the handle means has ended; false if `deadline` (`None`: never) came first.
///
/// # Errors
/// What poll(2) said.
pub fn pidfd_wait(handle: &OwnedFd, deadline: Option<Time>) -> io::Result<bool> {
    let mut poller = Poller::new();
    let ready = poller.wait(&[(handle.as_fd(), Interest::READ)], deadline)?;
    Ok(ready.iter().any(|ready| ready.any()))
}

#[cfg(test)]
pub(crate) mod tests;
