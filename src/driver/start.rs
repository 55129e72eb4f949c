//! The start of a service: a driver out of what the command line asks for, alone or beside an old
//! master.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::model::Supervisor;
use crate::model::event::Event;
use crate::model::exit::OomReading;
use crate::model::ids::{Generation, MasterId};
use crate::model::machines::event_log::EventLog;
use crate::sys::control::ControlSocket;
use crate::sys::files::pidfile::PidFile;
use crate::sys::machine::{cgroup, clock, random};
use crate::sys::process::daemon::Launcher;
use crate::wire::changes::Changes;

use super::clients::Clients;
use super::fork::InheritedFork;
use super::pin::Pins;
use super::process::Processes;
use super::state::{
    Admission, Configured, Driver, End, Parts, PublishedPaths, ServiceListeners, Startup,
};

/// Everything that is made before the first worker is started.
#[expect(missing_docs, reason = "the names say it")]
pub struct Setup {
    pub configured: Configured,
    /// The number of slots.
    pub workers: usize,
    /// Listening already.
    pub control: Option<ControlSocket>,
    /// Locked already.
    pub pid_file: Option<PidFile>,
    /// The descriptors that workers get as they are, each with its number in workers.
    pub keep: Vec<(OwnedFd, i32)>,
    /// The process that waits for the service to be up (`--daemonize`).
    pub launcher: Option<Launcher>,
    /// What an old master beside this one has handed over.
    pub inherited: Option<InheritedFork>,
}

/// Runs the service until it has ended.
///
/// # Errors
/// Exit 1: the first generation cannot be pinned. Exit 111: the system refuses what the loop needs.
pub fn run(setup: Setup) -> Result<End> {
    let Setup {
        configured,
        workers,
        control,
        pid_file,
        keep,
        launcher,
        mut inherited,
    } = setup;
    let Configured {
        log,
        signals,
        settings,
        listeners,
        origin,
        service_manager,
        control_token,
        lifeline,
    } = configured;
    let mut published = PublishedPaths::new(control, pid_file);
    let listeners = ServiceListeners::new(listeners);
    let mut pins = Pins::new(settings);
    let processes = pin_first(&mut pins, &listeners, inherited.as_ref()).and_then(|()| {
        Processes::new(keep).map_err(|error| Error::system("cannot set the loop up", error))
    });
    let processes = match processes {
        Ok(processes) => processes,
        Err(error) => {
            published.remove(&log);
            if let Some(inherited) = &mut inherited {
                inherited.refuse(&error);
            }
            return Err(error);
        }
    };
    // Of a copy, the settings are what its generation was pinned with, too.
    let first = pins.iter().last().map(|pin| Rc::clone(&pin.policy));
    let policy = first.unwrap_or_else(|| Rc::clone(pins.policy()));
    let supervisor = match &inherited {
        Some(inherited) => inherited.supervisor(&policy, workers, seed()),
        None => Supervisor::new(workers, policy, seed()),
    };
    let supervisor = supervisor.of_master(own_id());
    let events = inherited.as_ref().and_then(InheritedFork::events);
    let stories = inherited.as_ref().map(InheritedFork::stories);
    let mut driver = Driver::new(Parts {
        log,
        signals,
        origin,
        service_manager,
        supervisor,
        pins,
        listeners,
        processes,
        clients: inherited
            .as_ref()
            .map_or_else(Clients::default, InheritedFork::clients),
        admission: Admission::by(control_token),
        published,
        startup: Startup::now(launcher),
        peer: None,
        events: events.unwrap_or_else(new_events),
        stories: stories.unwrap_or_default(),
        lifeline,
    });
    if let Err(error) = driver.prepare(inherited) {
        driver.close();
        return Err(error);
    }
    driver.send_hello();
    driver.read_oom_kills();
    let first = driver.pins.iter().last().map(Rc::clone);
    let release = first.map(|pin| driver.pins.release_of(&pin));
    driver.feed(Event::Start(release.unwrap_or_default()));
    Ok(driver.serve())
}

/// Pins the first generation, number 1. Beside an old master: this master's first generation, whose
/// number the old one has chosen, and the one that the old master serves from.
fn pin_first(
    pins: &mut Pins,
    listeners: &ServiceListeners,
    inherited: Option<&InheritedFork>,
) -> Result<()> {
    if let Some(inherited) = inherited {
        return inherited.pin_first(pins, listeners.sockets());
    }
    let first = Generation(1);
    let pin = pins.resolve(first, first, listeners.sockets(), &Changes::default())?;
    pin.prepare()?;
    pins.insert(pin);
    Ok(())
}

/// Spreads the jitter of different masters: the clock and the pid are random enough for that.
fn seed() -> u64 {
    clock::now().0 ^ (u64::from(std::process::id()) << 32)
}

/// 40 random bits: the wall clock may be set back, and two masters may start in the same second.
fn own_id() -> MasterId {
    let random = random::hex128().ok();
    let digits = random.as_deref().and_then(|hex| hex.get(..10));
    let bits = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    // Without random numbers: the pid, and the time since the machine was booted.
    // 0 means a master of an older version, which has no id.
    MasterId(bits.unwrap_or_else(seed).max(1))
}

/// The events of a service that begins here. Its random word tells them from those of the next
/// service under the same names.
pub(super) fn new_events() -> EventLog<String> {
    EventLog::new(own_id().0)
}

impl Driver {
    /// What was killed for want of memory before the service began is no worker.
    pub(super) fn read_oom_kills(&mut self) {
        if let Some(count) = cgroup::oom_kills(Path::new("/"), "self") {
            self.feed(Event::OomKills(OomReading::AtStart, count));
        }
    }

    /// The last steps that can fail.
    fn prepare(&mut self, inherited: Option<InheritedFork>) -> Result<()> {
        self.peer = inherited.map(InheritedFork::into_peer).transpose()?;
        self.open_ack_socket()
    }

    /// Serves until the end, and leaves nothing behind.
    pub(super) fn serve(mut self) -> End {
        let end = self.run_loop();
        self.end_preflight();
        if self.peer.is_some() {
            self.clients.send_away();
        } else {
            self.clients.end_of_events();
        }
        self.clients.flush_and_close();
        self.close();
        end
    }
}
