//! Takes a pid file: creates it, or replaces a stale one, so that of two starters one wins.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::lock::{TRIES, holder, is_at, lock, open_existing, owned_error};
use super::unnamed::{NewFile, remove_left_over};
use crate::error::{Error, Result};
use crate::sys::files::watch::AtPath;
use crate::sys::io::left_open::LeftOpen;

/// Our pid file, locked.
#[derive(Debug)]
pub struct PidFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// What one try to take the pid file gave.
pub(super) enum Attempt {
    Won(PidFile),
    /// The process with this pid owns it.
    Taken(i32),
    /// Another process was faster at one step: try again.
    Raced,
}

impl PidFile {
    /// Takes the pid file at `path` if it is absent or stale, and writes our pid into it. Never
    /// call it for a file that this process owns: that would release the lock.
    ///
    /// # Errors
    /// Exit 6: a live process owns it; the error names the process. Exit 111: the path is not a
    /// regular file, or the system refused (no space, no permission).
    pub fn acquire(path: &Path) -> Result<PidFile> {
        let what = || format!("cannot take pid file {}", path.display());
        // Absolute: a later change of the working directory must not change which file is removed.
        let full = std::path::absolute(path).map_err(|error| Error::system(what(), error))?;
        for _ in 0..TRIES {
            let attempt = match open_existing(&full) {
                Ok(Some(old)) => replace(&full, old),
                Ok(None) => create(&full),
                Err(error) => Err(error),
            };
            match attempt.map_err(|error| Error::system(what(), error))? {
                Attempt::Won(file) => {
                    remove_left_over(&full);
                    return Ok(file);
                }
                Attempt::Taken(pid) => return Err(owned_error(path, pid)),
                Attempt::Raced => {}
            }
        }
        Err(Error::system(
            what(),
            "other processes take and leave it all the time",
        ))
    }

    /// The pid file that the previous image of this process locked. The process keeps the lock as
    /// long as no descriptor of the file is closed.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(fd: i32, path: PathBuf, left: &mut LeftOpen) -> io::Result<PidFile> {
        let file = left.take(fd)?.into();
        Ok(PidFile { path, file })
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands at the path now.
    ///
    /// # Errors
    /// What lstat(2) said: the path may name our file, and must not be taken anew.
    pub fn at_path(&self) -> io::Result<AtPath> {
        let own = self.file.metadata()?;
        AtPath::of(&self.path, (own.dev(), own.ino()))
    }

    /// Takes the path anew: another process has removed our file. The lock of that goes with it.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); our former file stays locked then.
    pub fn acquire_anew(&mut self) -> Result<()> {
        // Our file, moved back at this moment, would be replaced too, and its lock with it.
        *self = PidFile::acquire(&self.path)?;
        Ok(())
    }

    /// The descriptor that holds the lock; close-on-exec.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Removes the file if the path still names it. A missing file, or the file of another process,
    /// is no error.
    ///
    /// # Errors
    /// What lstat(2) or unlink(2) said.
    pub fn remove(self) -> io::Result<()> {
        // No other process replaces the file between this check and the unlink: it would need the
        // lock that we hold.
        if is_at(&self.path, &self.file)? {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// The path is free: puts a locked file there. If another process was faster, changes nothing.
pub(super) fn create(path: &Path) -> io::Result<Attempt> {
    let new = NewFile::beside(path)?;
    match new.link_to(path) {
        Ok(file) => Ok(won(path, file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Attempt::Raced),
        Err(error) => Err(error),
    }
}

/// A file is at the path: if no process has its lock, replaces it, with its lock taken.
pub(super) fn replace(path: &Path, old: File) -> io::Result<Attempt> {
    if !lock(&old)? {
        // The holder may have exited between the two calls.
        return Ok(holder(&old)?.map_or(Attempt::Raced, Attempt::Taken));
    }
    // The former holder may have replaced or removed the file between our open and our lock.
    if !is_at(path, &old)? {
        return Ok(Attempt::Raced);
    }
    // Made first: where there is no room for it, the old file stays.
    let new = NewFile::beside(path)?;
    fs::remove_file(path)?;
    match new.link_to(path) {
        // Release the old lock only now: a process that gets it next finds that the path names
        // another file.
        Ok(file) => {
            drop(old);
            Ok(won(path, file))
        }
        // A starter that found no file was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Attempt::Raced),
        Err(error) => Err(error),
    }
}

fn won(path: &Path, file: File) -> Attempt {
    Attempt::Won(PidFile {
        path: path.to_owned(),
        file,
    })
}
