//! Einhorn's socket, opened beside the control socket for workers that are made for einhorn.

use std::fs;
use std::path::Path;

use super::state::Driver;
use crate::error::{Error, Result};
use crate::sys::control::{self, ControlSocket};
use crate::wire::exports::Protocol;
use crate::wire::names::{ack_path, is_ack_path};

impl Driver {
    /// Opens the socket, if workers are told of listeners in einhorn's way and it is not open yet.
    /// Without a control socket there is no directory to put it in.
    ///
    /// # Errors
    /// Exit 111: as for the control socket itself.
    pub(super) fn open_ack_socket(&mut self) -> Result<()> {
        let protocols = self.pins.recipe().exports.protocols();
        if !protocols.contains(&Protocol::Einhorn) || self.processes.ack_socket_path().is_some() {
            return Ok(());
        }
        let Some(control) = self.published.control() else {
            self.log.info(
                "einhorn's worker:ack is not read: its socket needs a control socket beside it \
                 (see --pid and --control)",
            );
            return Ok(());
        };
        remove_dead_ack_sockets(control.path());
        let path = ack_path(control.path(), std::process::id());
        let socket = ControlSocket::bind(&path, 0o600, None, None)?;
        self.processes
            .open_ack_socket(socket)
            .map_err(|error| Error::system("cannot listen for einhorn's acks", error))
    }

    /// Logs what was sent to the socket and refused.
    pub(super) fn log_ack_warnings(&mut self) {
        for why in self.processes.take_ack_warnings() {
            self.log.warn(why);
        }
    }
}

/// Removes the sockets of masters that were killed; `control`: the control socket that they stood
/// beside. The socket of a live master stays.
fn remove_dead_ack_sockets(control: &Path) {
    let beside = control.parent().map(fs::read_dir);
    let Some(Ok(entries)) = beside else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if is_ack_path(control, &path) {
            // Where one cannot be removed, the bind that follows reports it.
            let _ = control::remove_dead(&path);
        }
    }
}
