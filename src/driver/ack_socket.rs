//! einhorn's socket for acks, from its beginning to its end.

use std::fs;
use std::path::Path;

use super::Driver;
use crate::error::{Error, Result};
use crate::sys::control::{self, ControlSocket};
use crate::wire::exports::Protocol;
use crate::wire::names::{ack_path, is_ack_path};

impl Driver {
    /// Listens beside the control socket, if workers are told of listeners as einhorn tells, and nobody does yet. Without a control socket nothing
    /// is written anywhere.
    ///
    /// # Errors
    /// Exit 111: as for the control socket itself.
    pub(super) fn offer_acks(&mut self) -> Result<()> {
        let protocols = self.recipe.exports.protocols();
        if !protocols.contains(&Protocol::Einhorn) || self.processes.acks_path().is_some() {
            return Ok(());
        }
        let Some(control) = &self.control else {
            self.log.info(
                "einhorn's worker:ack is not heard: there is no control socket to stand beside (see --pid and --control)",
            );
            return Ok(());
        };
        self.sweep(control.path());
        let path = ack_path(control.path(), std::process::id());
        let socket = ControlSocket::bind(&path, 0o600, None, None)?;
        self.processes
            .hear_acks_at(socket)
            .map_err(|error| Error::system("cannot listen for einhorn's acks", error))
    }

    /// Removes what masters have left that were killed.
    fn sweep(&self, control: &Path) {
        let beside = control.parent().map(fs::read_dir);
        let Some(Ok(entries)) = beside else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if is_ack_path(control, &path) {
                // A live one's is not touched; what is in the way tells itself.
                let _ = control::remove_dead(&path);
            }
        }
    }

    /// Logs what was said there and not understood.
    pub(super) fn tell_of_acks(&mut self) {
        for why in self.processes.complaints_about_acks() {
            self.log.warn(why);
        }
    }

    /// Removes the socket.
    pub(super) fn stop_hearing_acks(&mut self) {
        if let Some(Err(error)) = self.processes.no_more_acks().map(ControlSocket::remove) {
            self.log
                .warn(format_args!("cannot remove einhorn's socket: {error}"));
        }
    }
}
