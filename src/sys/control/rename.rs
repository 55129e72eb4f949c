//! Renames the control socket. The old master's socket has another path while the new master beside
//! it has the usual one.

use std::fs;
use std::path::Path;

use super::socket::{ControlSocket, remove_dead_socket};
use crate::error::{Error, Result};
use crate::sys::files::dirlock::lock_dir_of;
use crate::sys::files::watch::AtPath;

impl ControlSocket {
    /// Renames our socket to `to`; the socket of a dead server there is replaced. Connected clients
    /// stay connected. False if its path does not name our socket any more: then nothing is
    /// renamed, and later calls will not touch sockets of others either.
    ///
    /// # Errors
    /// Exit 111: the socket of a live server or another file is at `to`, or the system refused. The
    /// path stays the old one then.
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
        let ours = self.at_path().is_ok_and(|it| it == AtPath::Ours);
        if ours {
            remove_dead_socket(to).map_err(failed)?;
            fs::rename(&self.path, to).map_err(failed)?;
        }
        self.path = to.to_owned();
        Ok(ours)
    }
}

/// Removes the socket that a dead server left at `path`. A missing path is no error.
///
/// # Errors
/// Exit 111: the socket of a live server or another file is there, or the system refused.
pub fn remove_dead(path: &Path) -> Result<()> {
    let _lock = lock_dir_of(path)?;
    remove_dead_socket(path).map_err(|error| {
        Error::system(
            format!("cannot remove control socket {}", path.display()),
            error,
        )
    })
}
