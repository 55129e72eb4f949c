//! Everything that the driver is, as the document that is handed over.

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use crate::driver::state::{Driver, ServiceManager};
use crate::error::reason;
use crate::sys::process::image;
use crate::wire::handover::service::Service;
use crate::wire::handover::values::SignalName;
use crate::wire::handover::{self, FORMAT, State};

impl Driver {
    /// The state as it is now, and the file of this image, which the state names.
    pub(super) fn state(&self) -> Result<(OwnedFd, State), String> {
        let image = image::own()
            .map_err(|error| format!("cannot hold on to the running image: {}", reason(error)))?;
        // The first set is what new generations get.
        let mut sets = vec![Rc::clone(self.listeners.sockets())];
        let pins = self.pins.iter();
        let pins = pins.map(|pin| pin.handed_over(&mut sets)).collect();
        let processes = self.processes.handed_over();
        let argv = self.origin.argv.iter();
        let state = State {
            format: FORMAT,
            by: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            image: handover::Image {
                fd: image.as_raw_fd(),
                argv: argv.map(|arg| arg.as_os_str().into()).collect(),
            },
            service: Service::from(&self.supervisor.hand_over()?),
            nofile: self.origin.nofile,
            ignored: self
                .signals
                .ignored()
                .iter()
                .copied()
                .map(SignalName)
                .collect(),
            started: self.startup.at.into(),
            started_wall: self.startup.nanos_since_1970(),
            listeners: sets
                .iter()
                .map(|set| set.iter().map(|listener| listener.handed_over()).collect())
                .collect(),
            pins,
            keep: processes.keep,
            guard: processes.guard,
            processes: processes.processes,
            control: self.published.control().map(|it| it.handed_over()),
            acks: processes.acks,
            inherited_exports: self.pins.recipe().exports.inherited().to_vec(),
            listen: self.pins.settings().addresses(),
            pid_file: self.published.pid_file().map(|file| handover::PidFile {
                fd: file.fd().as_raw_fd(),
                path: file.path().into(),
            }),
            clients: self.clients.handed_over(),
            service_manager: self
                .service_manager
                .as_ref()
                .map(ServiceManager::handed_over),
        };
        Ok((image, state))
    }
}
