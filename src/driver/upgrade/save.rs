//! Everything that the driver is, as the document that is handed over.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use crate::driver::state::{Driver, PeerMaster, ServiceManager};
use crate::error::reason;
use crate::sys::io::lifeline::Lifeline;
use crate::sys::process::{image, proc_info};
use crate::wire::events::kept::KnownEvents;
use crate::wire::handover::service::Service;
use crate::wire::handover::values::SignalName;
use crate::wire::handover::{self, FORMAT, MissingDir, Needs, State};
use crate::wire::story::kept::KnownStories;

/// The descriptors that an image opens for itself: its signals, what it waits with, its log, the
/// state; and those that the start of one worker takes.
const OPENED: usize = 20;

fn needs(state: &State) -> Needs {
    let own = i32::try_from(std::process::id()).ok();
    Needs {
        descriptors: state.descriptors().len() + OPENED,
        // What the service is in the memory of this image. Without /proc: not known.
        memory: own
            .and_then(proc_info::usage)
            .map_or(0, |usage| usage.rss_bytes),
    }
}

impl Driver {
    /// The state as it is now, for an image that is executed in `dir`, and the file of this image,
    /// which the state names.
    pub(super) fn state(&self, dir: &Path) -> Result<(OwnedFd, State), String> {
        let image = image::own()
            .map_err(|error| format!("cannot open /proc/self/exe: {}", reason(error)))?;
        // The first set is what new generations get.
        let mut sets = vec![Rc::clone(self.listeners.sockets())];
        let pins = self.pins.iter();
        let pins = pins.map(|pin| pin.handed_over(&mut sets)).collect();
        let processes = self.processes.handed_over();
        let argv = self.origin.argv.iter();
        let mut state = State {
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
            lifeline: self.lifeline.as_ref().and_then(Lifeline::handed_on),
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
            events: Some(KnownEvents::from(&self.events)),
            stories: KnownStories::from(&self.stories),
            control_token: self.admission.token_text(),
            draining_master: self.peer.as_ref().map(PeerMaster::handed_over),
            service_manager: self
                .service_manager
                .as_ref()
                .map(ServiceManager::handed_over),
            needs: Needs::default(),
            missing_dir: (dir != self.origin.dir).then(|| MissingDir {
                dir: self.origin.dir.as_path().into(),
                instead: dir.into(),
            }),
        };
        state.needs = needs(&state);
        Ok((image, state))
    }
}
