//! Everything that the driver is, written down.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use crate::driver::Driver;
use crate::driver::pin::Pin;
use crate::driver::service_manager::Upward;
use crate::error::reason;
use crate::sys::process::image;
use crate::wire::handover::{self, FORMAT, State};
use crate::wire::text::Text;

impl Driver {
    /// The state as it stands, and the file of this image, which is part of it.
    pub(super) fn state(&self) -> Result<(OwnedFd, State), String> {
        let image = image::own()
            .map_err(|error| format!("cannot hold on to the running image: {}", reason(error)))?;
        let mut sets = vec![Rc::clone(&self.listeners)];
        let pins = self
            .pins
            .values()
            .map(|pin| saved(pin, &mut sets))
            .collect();
        let processes = self.processes.handed_over();
        let since_1970 = self
            .started_wall
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let state = State {
            format: FORMAT,
            by: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            image: handover::Image {
                fd: image.as_raw_fd(),
                argv: self
                    .origin
                    .argv
                    .iter()
                    .map(|arg| arg.as_os_str().into())
                    .collect(),
            },
            supervisor: self.supervisor.clone(),
            nofile: self.origin.nofile,
            ignored: self.signals.ignored().to_vec(),
            started: self.started,
            started_wall: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
            listeners: sets
                .iter()
                .map(|set| set.iter().map(|listener| listener.handed_over()).collect())
                .collect(),
            pins,
            keep: processes.keep,
            guard: processes.guard,
            processes: processes.processes,
            control: self.control.as_ref().map(|control| control.handed_over()),
            acks: processes.acks,
            inherited_exports: self.recipe.exports.inherited().to_vec(),
            listen: self.listen.clone(),
            pid_file: self.pid_file.as_ref().map(|file| handover::PidFile {
                fd: file.fd().as_raw_fd(),
                path: file.path().into(),
            }),
            clients: self.clients.handed_over(),
            seen_empty: self.seen_empty.iter().copied().collect(),
            upward: self.upward.as_ref().map(Upward::handed_over),
        };
        Ok((image, state))
    }
}

/// A pin, whose listeners are one of the sets.
pub(in crate::driver) fn saved(
    pin: &Rc<Pin>,
    sets: &mut Vec<Rc<Vec<crate::sys::listener::Listener>>>,
) -> handover::Pin {
    let known = sets.iter().position(|set| Rc::ptr_eq(set, &pin.listeners));
    let listeners = known.unwrap_or_else(|| {
        sets.push(Rc::clone(&pin.listeners));
        sets.len() - 1
    });
    let environment: BTreeMap<&std::ffi::OsString, &std::ffi::OsString> = pin
        .environment
        .iter()
        .map(|(name, value)| (name, value))
        .collect();
    handover::Pin {
        generation: pin.generation.0,
        policy: (*pin.policy).clone(),
        cwd: pin.cwd.as_path().into(),
        program: pin.program.as_path().into(),
        command: pin
            .command
            .iter()
            .map(|arg| arg.as_os_str().into())
            .collect(),
        environment: environment
            .into_iter()
            .map(|(name, value)| (Text::from(name.as_os_str()), value.as_os_str().into()))
            .collect(),
        listeners,
        changes: pin.changes.clone(),
        exports: pin.exports.clone(),
        beat_fd: pin.beat_fd,
    }
}
