//! The control socket under another path: the old master's, while a new one beside it has the path.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{ControlSocket, clear};
use crate::error::{Error, Result};
use crate::sys::files::dirlock::lock_dir_of;

impl ControlSocket {
    /// Moves our socket to `to`, where a dead server's is replaced; clients that are connected notice nothing. False if its path does not name it any
    /// more: then nothing is moved, and nothing of others will be.
    ///
    /// # Errors
    /// Exit 111: a live server's socket or another file is there, or the system refused. The path is the old one then.
    pub fn move_to(&mut self, to: &Path) -> Result<bool> {
        let what = || {
            format!(
                "cannot move control socket {} to {}",
                self.path.display(),
                to.display()
            )
        };
        if self.path == to {
            return Ok(true);
        }
        let failed = |error| Error::system(what(), error);
        let _lock = lock_dir_of(to)?;
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == self.inode);
        if ours {
            clear(to).map_err(failed)?;
            fs::rename(&self.path, to).map_err(failed)?;
        }
        self.path = to.to_owned();
        Ok(ours)
    }
}

/// Removes what a dead server left at `path`.
///
/// # Errors
/// Exit 111: a live server's socket or another file is there, or the system refused. Nothing there is none.
pub fn remove_dead(path: &Path) -> Result<()> {
    let _lock = lock_dir_of(path)?;
    clear(path).map_err(|error| {
        Error::system(
            format!("cannot remove control socket {}", path.display()),
            error,
        )
    })
}
