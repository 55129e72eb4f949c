//! A lock on a directory, for whoever looks at a file in it and then acts on what was seen.
//!
//! It is a flock(2) on the directory itself, so that no lock file is left behind, and nothing need be writable that was not before.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::sys::machine::clock;

/// How long to wait for another holder. Everyone holds it only for a few system calls, so beyond this something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long between two looks at a lock that another holds: flock(2) itself cannot wait with a limit.
const STEP: Duration = Duration::from_millis(5);

/// The lock; given back when dropped.
#[derive(Debug)]
pub struct DirLock {
    _directory: File,
}

/// Locks the directory that `path` is in (the working directory for a bare name); `path` itself need not exist.
///
/// Waits at most [`PATIENCE`]; then, and if the directory cannot be opened, it is a system error.
pub fn lock_dir_of(path: &Path) -> Result<DirLock> {
    lock(directory_of(path), PATIENCE)
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => PathBuf::from("/"),
    }
}

fn lock(directory: PathBuf, patience: Duration) -> Result<DirLock> {
    let what = || format!("cannot lock directory {}", directory.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let file = open(&directory, flags, Mode::empty())
        .map_err(|errno| Error::system(what(), reason(errno)))?;
    let until = clock::now() + patience;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                return Ok(DirLock {
                    _directory: file.into(),
                });
            }
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if clock::now() < until => clock::pause(STEP),
            Err(Errno::WOULDBLOCK) => {
                let why = format!(
                    "another process has held it for {}",
                    humantime::format_duration(patience)
                );
                return Err(Error::system(what(), why).hint("find it with lsof or fuser"));
            }
            Err(errno) => return Err(Error::system(what(), reason(errno))),
        }
    }
}

/// What an errno means, without its number.
pub(in crate::sys) fn reason(errno: Errno) -> &'static str {
    nix::errno::Errno::from_raw(errno.raw_os_error()).desc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_waits_and_is_told_when_it_waited_in_vain() {
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
