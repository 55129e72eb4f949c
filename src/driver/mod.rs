//! The loop of `pf-master`: waits, turns what happened into events, has the model decide, performs what it says.
//!
//! One thread around one `poll` over the signals, the control connections, and a nested epoll of what grows with the workers. The order within
//! a turn is part of the design (see `turn`): a worker that said it was ready and then died is never seen as one that died before it was
//! ready.
//!
//! - [`pin`]: what a generation's workers are started from, resolved once.
//! - `process`: the processes behind the model's worker ids, with their descriptors.
//! - `perform`: actions to system calls.
//! - `clients`: control connections, who waits for which operation.
//! - `acks`: where workers made for einhorn say that they are ready.
//! - `report`: the status document.
//! - [`fork`]: another master beside this one.
//! - [`upgrade`]: another image of the master in place of this one.
//! - `plan`: what a rollout would change.
//! - [`upward`]: what a service manager above us is told.

mod acks;
mod clients;
mod heal;
mod perform;
mod plan;
mod process;
mod requests;
mod status;
mod turn;

pub mod fork;
pub mod pin;
pub mod service_manager;
pub mod upgrade;

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::SystemTime;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::model::Supervisor;
use crate::model::event::Event;
use crate::model::ids::{Generation, Ticket};
use crate::model::policy::Policy;
use crate::model::time::Time;
use crate::sys::control::ControlSocket;
use crate::sys::files::pidfile::PidFile;
use crate::sys::listener::Listener;
use crate::sys::machine::clock;
use crate::sys::process::daemon::Launcher;
use crate::sys::process::successor::Origin;
use crate::sys::signal::Signals;
use crate::wire::changes::Changes;

use clients::Clients;
use fork::{InheritedFork, PeerMaster, PublishedPaths};
use pin::{Pin, Recipe};
use process::Processes;
use service_manager::Upward;
use upgrade::Preflight;

/// Everything that stands before the first worker is started.
pub struct Setup {
    /// Where the log goes.
    pub log: Log,
    /// The signals, installed already.
    pub signals: Signals,
    /// What workers are started from.
    pub recipe: Recipe,
    /// How many slots.
    pub workers: usize,
    /// The first generation's settings.
    pub policy: Policy,
    /// The listeners, in the order of their fds.
    pub listeners: Vec<Listener>,
    /// The control socket, listening.
    pub control: Option<ControlSocket>,
    /// The pid file, locked.
    pub pid_file: Option<PidFile>,
    /// The addresses that `--listen` names.
    pub listen: Vec<String>,
    /// Descriptors that workers get as they are, each at its own number.
    pub keep: Vec<(OwnedFd, i32)>,
    /// How this master was started: what an upgrade executes, and with what.
    pub origin: Origin,
    /// The service manager above us, if one listens.
    pub upward: Option<Upward>,
    /// Whoever waits for the service to be up (`--daemonize`).
    pub launcher: Option<Launcher>,
    /// What an old master has left to this one, beside it.
    pub bequest: Option<InheritedFork>,
}

/// How the master ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The exit code.
    pub code: u8,
    /// Why, where it was not asked for.
    pub reason: Option<String>,
}

/// The driver: owns every descriptor and the map between processes and the model's worker ids.
struct Driver {
    log: Log,
    signals: Signals,
    supervisor: Supervisor,
    recipe: Recipe,
    origin: Origin,
    policy: Rc<Policy>,
    pins: BTreeMap<Generation, Rc<Pin>>,
    listeners: Rc<Vec<Listener>>,
    processes: Processes,
    clients: Clients,
    control: Option<ControlSocket>,
    pid_file: Option<PidFile>,
    /// What `--listen` named: an upgrade binds what is new.
    listen: Vec<String>,
    /// A successor that is being checked.
    preflight: Option<Preflight>,
    /// The other master, during an upgrade by fork; and where our names belong meanwhile.
    other: Option<PeerMaster>,
    home: Option<PublishedPaths>,
    /// No client can be accepted (no descriptor is left, say): until then nobody asks whether one knocks.
    deaf_until: Option<Time>,
    deafness_told: bool,
    /// There is no guard: when to try again.
    guard_again: Option<Time>,
    /// That waiting itself fails was told.
    blindness_told: bool,
    /// Not everything is ready yet, for the first time.
    starting: bool,
    started: Time,
    started_wall: SystemTime,
    /// The accept queues that `--drain-queue` has seen empty, by the inode of their socket.
    seen_empty: HashSet<u64>,
    upward: Option<Upward>,
    launcher: Option<Launcher>,
    end: Option<End>,
    /// What the reload that is being asked for changes.
    asked: Option<(Ticket, Changes)>,
}

/// Runs the service until it has ended.
///
/// # Errors
/// The first generation cannot be pinned (exit 1), or the system refuses what the loop itself needs (exit 111).
pub fn run(setup: Setup) -> Result<End> {
    let Setup {
        log,
        signals,
        recipe,
        workers,
        policy,
        listeners,
        control,
        pid_file,
        listen,
        keep,
        origin,
        upward,
        launcher,
        mut bequest,
    } = setup;
    let policy = Rc::new(policy);
    let listeners = Rc::new(listeners);
    let pins = first_pins(&recipe, &policy, &listeners, bequest.as_ref());
    let prepared = pins.and_then(|pins| {
        let processes =
            Processes::new(keep).map_err(|error| Error::system("cannot set the loop up", error))?;
        Ok((pins, processes))
    });
    let (pins, processes) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            remove_names(&log, control, pid_file);
            if let Some(bequest) = &mut bequest {
                bequest.refuse(&error);
            }
            return Err(error);
        }
    };
    let supervisor = match &bequest {
        Some(bequest) => bequest.supervisor(&policy, workers, seed()),
        None => Supervisor::new(workers, Rc::clone(&policy), seed()),
    };
    let mut driver = Driver {
        log,
        signals,
        supervisor,
        recipe,
        origin,
        policy,
        pins,
        listeners,
        processes,
        clients: Clients::default(),
        control,
        pid_file,
        listen,
        preflight: None,
        other: bequest.map(InheritedFork::into_other).transpose()?,
        home: None,
        deaf_until: None,
        deafness_told: false,
        guard_again: None,
        blindness_told: false,
        starting: true,
        started: clock::now(),
        started_wall: clock::wall(),
        seen_empty: HashSet::new(),
        upward,
        launcher,
        end: None,
        asked: None,
    };
    if let Err(error) = driver.offer_acks() {
        driver.leave_nothing();
        return Err(error);
    }
    driver.greet();
    driver.feed(Event::Start);
    Ok(driver.serve())
}

/// What the first generation, number 1, is started from; beside an old master, its next one, and what that serves from.
fn first_pins(
    recipe: &Recipe,
    policy: &Rc<Policy>,
    listeners: &Rc<Vec<Listener>>,
    bequest: Option<&InheritedFork>,
) -> Result<BTreeMap<Generation, Rc<Pin>>> {
    if let Some(bequest) = bequest {
        return bequest.pins(recipe, policy, listeners);
    }
    let (first, changes) = (Generation(1), Changes::default());
    let pin = recipe.pin(first, Rc::clone(policy), Rc::clone(listeners), changes)?;
    Ok(BTreeMap::from([(first, Rc::new(pin))]))
}

impl Driver {
    /// Serves until the end, and leaves nothing behind.
    fn serve(mut self) -> End {
        let end = self.turn_until_the_end();
        self.end_preflight();
        self.clients.farewell();
        self.leave_nothing();
        end
    }

    fn leave_nothing(&mut self) {
        self.processes.dismiss_guard();
        self.stop_hearing_acks();
        remove_names(&self.log, self.control.take(), self.pid_file.take());
    }
}

/// The names go last, and only while they are ours: whoever waits for them may start the next master at once.
fn remove_names(log: &Log, control: Option<ControlSocket>, pid_file: Option<PidFile>) {
    if let Some(Err(error)) = control.map(ControlSocket::remove) {
        log.warn(format_args!("cannot remove the control socket: {error}"));
    }
    if let Some(Err(error)) = pid_file.map(PidFile::remove) {
        log.warn(format_args!("cannot remove the pid file: {error}"));
    }
}

/// Slots of different masters need not wait in step; a clock that is odd is random enough for that.
fn seed() -> u64 {
    clock::now().0 ^ (u64::from(std::process::id()) << 32)
}
