//! Which process owns a pid file: the question of a client, or of a master about another master.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

use super::lock::{TRIES, holder, not_regular};
use crate::error::{Error, Exit, Result};
use crate::sys::process::pidfd::HeldProcess;

/// Which process owns a pid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// There is no such file.
    Absent,
    /// No process has the lock. The number in the file means nothing.
    Stale,
    /// The process with this pid has the lock.
    Alive(i32),
    /// A process of another pid namespace has the lock: it has no pid here.
    Unreachable,
}

/// The owner of the pid file at `path`, from its lock and not from its content. Never call it for a
/// file that this process owns: that would release the lock.
///
/// # Errors
/// Exit 4: the file may not be opened. Exit 111: it is not a regular file, or the system refused.
pub fn owner(path: &Path) -> Result<Owner> {
    let what = || format!("cannot read pid file {}", path.display());
    let open = |read: bool| {
        OpenOptions::new()
            .read(read)
            .write(!read)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
    };
    // F_GETLK works on a descriptor of any mode, so try to write where reading is not allowed.
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

/// The live owner of the pid file, held; `None` if the file is absent or stale.
///
/// # Errors
/// As [`owner`]; exit 6: the owner is in another pid namespace.
pub fn open_owner(path: &Path) -> Result<Option<(i32, HeldProcess)>> {
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
        match HeldProcess::open(pid) {
            // It still owns the file after that, so what is held is the owner and not a process
            // that got the same number later.
            Ok(held) if owner(path)? == Owner::Alive(pid) => return Ok(Some((pid, held))),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(Error::system(what(), error)),
        }
    }
    Err(Error::system(what(), "it changes all the time"))
}
