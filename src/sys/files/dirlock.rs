//! A lock on a directory, for a process that checks a file in it and then acts on the result.
//!
//! It is a flock(2) on the directory itself: so no lock file is left behind, and the directory need
//! not be writable for the lock.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::machine::clock;

/// How long to wait for another holder of the lock. Each holder needs it for a few system calls
/// only, so a longer wait means that something is wrong.
pub const WAIT_LIMIT: Duration = Duration::from_secs(5);

/// The time between two tries: flock(2) itself cannot wait with a limit.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// The lock. Dropping it releases the lock.
#[derive(Debug)]
pub struct DirLock {
    _directory: File,
}

/// Locks the directory that `path` is in (the working directory for a bare name); `path` itself
/// need not exist.
///
/// # Errors
/// Exit 111: another process held the lock for [`WAIT_LIMIT`], or the directory cannot be opened.
pub fn lock_dir_of(path: &Path) -> Result<DirLock> {
    lock(directory_of(path), WAIT_LIMIT)
}

/// The same without waiting, for a caller that must not stand still and tries again later.
///
/// # Errors
/// Exit 111: another process holds the lock, or the directory cannot be opened.
pub fn lock_dir_of_at_once(path: &Path) -> Result<DirLock> {
    lock(directory_of(path), Duration::ZERO)
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => PathBuf::from("/"),
    }
}

fn lock(directory: PathBuf, limit: Duration) -> Result<DirLock> {
    let what = || format!("cannot lock directory {}", directory.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = open(&directory, flags, Mode::empty())
        .map_err(|errno| Error::system(what(), reason(errno)))?;
    let until = clock::now() + limit;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                return Ok(DirLock {
                    _directory: file.into(),
                });
            }
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if clock::now() < until => clock::pause(RETRY_EVERY),
            Err(Errno::WOULDBLOCK) => {
                let why = format!(
                    "another process has held it for {}",
                    humantime::format_duration(limit)
                );
                return Err(Error::system(what(), why).hint("find it with lsof or fuser"));
            }
            Err(errno) => return Err(Error::system(what(), reason(errno))),
        }
    }
}

/// The text of an errno, without its number.
fn reason(errno: Errno) -> &'static str {
    nix::errno::Errno::from_raw(errno.raw_os_error()).desc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_waits_until_the_limit() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let held = lock_dir_of(&path).expect("the lock");
        let error = lock(directory.path().into(), Duration::from_millis(20)).expect_err("held");
        assert!(
            error
                .to_string()
                .contains("another process has held it for 20ms"),
            "{error}"
        );
        drop(held);
        lock_dir_of(&path).expect("free again");
    }

    #[test]
    fn the_directory_of_a_path() {
        assert_eq!(directory_of(Path::new("/run/a")), Path::new("/run"));
        assert_eq!(directory_of(Path::new("a")), Path::new("."));
        assert_eq!(directory_of(Path::new("/")), Path::new("/"));
        let error = lock_dir_of(Path::new("/nonexistent/a"))
            .expect_err("no directory")
            .to_string();
        assert_eq!(
            error,
            "cannot lock directory /nonexistent: No such file or directory"
        );
    }
}
