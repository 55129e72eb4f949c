//! What the driver is made of: [`Driver`] and the parts that it owns.
//!
//! The parts know nothing of each other and nothing of the rooms that act on the driver. Those
//! rooms (`turn`, `perform`, `requests`, `upgrade`, `fork`, ...) add methods to [`Driver`] and
//! import this room, which imports none of them.
//!
//! - [`Configured`]: what this image reads from its command line and environment.
//! - [`Parts`]: what a start, a take-over and a fork all fill, each in its way; from it a driver is
//!   made, [`Driver::new`].
//! - [`PublishedPaths`], in `published`: the pid file and the control socket.
//! - [`ServiceListeners`], in `listeners`: the sockets that all workers share.
//! - [`Admission`], in `admission`: which control clients are let in, and when.
//! - [`Leftovers`], in `leftovers`: processes that workers left behind outside their groups.
//! - [`Startup`], in `startup`: when the service began, and what ends with its first readiness.
//! - [`ServiceManager`], in `service_manager`: the connection to the service manager above.
//! - [`Preflight`], in `preflight`: a successor image that is being checked.
//! - [`PeerMaster`], in `peer_master`: the other master during an upgrade by fork.
//!
//! The events are a machine of the model, [`EventLog`]. Three parts are rooms of their own:
//! [`Pins`], [`Processes`] and [`Clients`].

mod admission;
mod leftovers;
mod listeners;
mod peer_master;
mod preflight;
mod published;
mod service_manager;
mod startup;

use crate::log::Log;
use crate::model::Supervisor;
use crate::model::machines::event_log::EventLog;
use crate::model::machines::stories::Stories;
use crate::sys::control::token::TokenFile;
use crate::sys::io::lifeline::Lifeline;
use crate::sys::listener::Listener;
use crate::sys::process::successor::Origin;
use crate::sys::signal::Signals;
use crate::wire::status::Status;

use super::clients::Clients;
use super::pin::{Pins, Settings};
use super::process::Processes;

pub(super) use admission::Admission;
pub(super) use leftovers::Leftovers;
pub(super) use listeners::ServiceListeners;
pub(super) use peer_master::{OldPaths, PeerMaster};
pub(super) use preflight::{Checked, Preflight, Purpose};
pub(super) use published::PublishedPaths;
pub use service_manager::ServiceManager;
pub(super) use startup::Startup;

/// What this image of the master reads from its own command line and environment: the same for a
/// start, for a take-over from the image before, and for a new master beside an old one.
#[expect(missing_docs, reason = "the names say it")]
pub struct Configured {
    pub log: Log,
    /// The handlers are installed already.
    pub signals: Signals,
    /// What the next generation is made from.
    pub settings: Settings,
    /// In the order of their numbers in workers; those that were handed over come first.
    pub listeners: Vec<Listener>,
    /// How this master was started: an upgrade executes that again.
    pub origin: Origin,
    /// None: the environment names no service manager.
    pub service_manager: Option<ServiceManager>,
    /// What control clients must present.
    pub control_token: Option<TokenFile>,
    /// Its end is the end of the service.
    pub lifeline: Option<Lifeline>,
}

/// How the master ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The exit code.
    pub code: u8,
    /// Why, if the end was not asked for.
    pub reason: Option<String>,
}

/// What a driver is made of.
pub(super) struct Parts {
    pub(super) log: Log,
    pub(super) signals: Signals,
    pub(super) origin: Origin,
    pub(super) service_manager: Option<ServiceManager>,
    pub(super) supervisor: Supervisor,
    pub(super) pins: Pins,
    pub(super) listeners: ServiceListeners,
    pub(super) processes: Processes,
    pub(super) clients: Clients,
    pub(super) admission: Admission,
    pub(super) published: PublishedPaths,
    pub(super) startup: Startup,
    pub(super) peer: Option<PeerMaster>,
    pub(super) events: EventLog<String>,
    pub(super) stories: Stories<Box<str>>,
    pub(super) lifeline: Option<Lifeline>,
}

/// The driver: owns every descriptor, and the map between processes and the model's worker ids.
pub(super) struct Driver {
    pub(super) log: Log,
    pub(super) signals: Signals,
    pub(super) origin: Origin,
    pub(super) service_manager: Option<ServiceManager>,
    pub(super) supervisor: Supervisor,
    pub(super) pins: Pins,
    pub(super) listeners: ServiceListeners,
    pub(super) processes: Processes,
    pub(super) clients: Clients,
    pub(super) admission: Admission,
    pub(super) published: PublishedPaths,
    pub(super) startup: Startup,
    /// The check of a successor, while it runs.
    pub(super) preflight: Option<Preflight>,
    /// The other master, during an upgrade by fork.
    pub(super) peer: Option<PeerMaster>,
    /// What has happened, for those who follow it.
    pub(super) events: EventLog<String>,
    /// What has happened to each slot.
    pub(super) stories: Stories<Box<str>>,
    /// Its end is the end of the service.
    pub(super) lifeline: Option<Lifeline>,
    /// That it has ended was told: it is not waited for any more, since it stays readable.
    pub(super) lifeline_ended: bool,
    /// What workers left behind.
    pub(super) leftovers: Leftovers,
    /// The status document that this turn has made already, until an event changes what it says.
    pub(super) status_of_turn: Option<Box<Status>>,
    /// How many lost lines of the log the model knows of.
    pub(super) lost_lines_told: u64,
    /// Set by the model's last action.
    pub(super) end: Option<End>,
}

impl Driver {
    /// A driver of these parts, and of those that are always made anew.
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            log,
            signals,
            origin,
            service_manager,
            supervisor,
            pins,
            listeners,
            processes,
            clients,
            admission,
            published,
            startup,
            peer,
            events,
            stories,
            lifeline,
        } = parts;
        Driver {
            log,
            signals,
            origin,
            service_manager,
            supervisor,
            pins,
            listeners,
            processes,
            clients,
            admission,
            published,
            startup,
            preflight: None,
            leftovers: Leftovers::default(),
            peer,
            events,
            stories,
            lifeline,
            lifeline_ended: false,
            status_of_turn: None,
            lost_lines_told: 0,
            end: None,
        }
    }

    /// Closes what the master has opened to the outside, the paths last: a process that waits for
    /// them to disappear may start the next master at once.
    pub(super) fn close(&mut self) {
        self.processes.end_guard();
        self.close_ack_socket();
        self.published.remove(&self.log);
    }

    /// Removes einhorn's socket.
    fn close_ack_socket(&mut self) {
        if let Some(socket) = self.processes.close_ack_socket()
            && let Err(error) = socket.remove()
        {
            self.log
                .warn(format_args!("cannot remove einhorn's socket: {error}"));
        }
    }
}
