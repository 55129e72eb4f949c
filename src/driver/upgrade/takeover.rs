//! The other side of the exec: a driver out of what the image before has written down.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use crate::driver::clients::Clients;
use crate::driver::pin::{Pin, Recipe};
use crate::driver::process::{HandedOver, Processes};
use crate::driver::service_manager::Upward;
use crate::driver::{Driver, End};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::model::event::Event;
use crate::model::ids::Generation;
use crate::model::policy::Policy;
use crate::sys::control::ControlSocket;
use crate::sys::files::pidfile::PidFile;
use crate::sys::io::fd;
use crate::sys::listener::Listener;
use crate::sys::machine::clock;
use crate::sys::process::image;
use crate::sys::process::image::Next;
use crate::sys::process::successor::Origin;
use crate::sys::signal;
use crate::sys::signal::Signals;
use crate::wire::handover::{self, FAILED, Head, STATE_FD, State};

/// What the image that takes over brings itself: its own reading of its command line.
pub struct Fresh {
    /// Where the log goes.
    pub log: Log,
    /// The signals, installed; all are blocked.
    pub signals: Signals,
    /// What workers are started from, from the next generation on.
    pub recipe: Recipe,
    /// The next generation's settings.
    pub policy: Policy,
    /// The listeners that it has, those that were handed over first.
    pub listeners: Vec<Listener>,
    /// The addresses that `--listen` names.
    pub listen: Vec<String>,
    /// How the master was started.
    pub origin: Origin,
    /// The service manager above us, if one listens.
    pub upward: Option<Upward>,
    /// How many slots its command line says, if it says so.
    pub workers: Option<usize>,
}

/// A service that has been taken over, and may still be given back.
pub struct Taken {
    driver: Driver,
    /// The descriptors as they were handed over.
    originals: Vec<RawFd>,
    pid_file: Option<handover::PidFile>,
    workers: Option<usize>,
    went_back: Option<String>,
}

/// Takes over. Nothing that was handed over is changed yet.
///
/// # Errors
/// Exit 111: a descriptor is missing, or the system refuses what the loop needs. The image before is to be gone back to.
pub fn take_over(fresh: Fresh, state: State, state_fd: RawFd) -> Result<Taken> {
    let failed = |what: &'static str| move |error| Error::system(what, error);
    let mut originals = state.descriptors();
    originals.push(state_fd);
    let Fresh {
        log,
        mut signals,
        recipe,
        policy,
        listeners,
        listen,
        origin,
        upward,
        workers,
    } = fresh;
    signals.add_ignored(&state.ignored);
    let listeners = Rc::new(listeners);
    let mut sets = vec![Rc::clone(&listeners)];
    for set in state.listeners.iter().skip(1) {
        let set: Vec<Listener> = set
            .iter()
            .map(Listener::taken_over)
            .collect::<Result<_>>()?;
        sets.push(Rc::new(set));
    }
    let pins = state
        .pins
        .into_iter()
        .map(|pin| restored(pin, &sets, &recipe))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let processes = Processes::taken_over(HandedOver {
        processes: state.processes,
        guard: state.guard,
        keep: state.keep,
        acks: state.acks,
    })
    .map_err(failed("cannot take the workers over"))?;
    let control = state
        .control
        .as_ref()
        .map(ControlSocket::taken_over)
        .transpose()
        .map_err(failed("cannot take the control socket over"))?;
    let clients = Clients::taken_over(state.clients)
        .map_err(failed("cannot take the control clients over"))?;
    originals.retain(|fd| state.pid_file.as_ref().is_none_or(|file| file.fd != *fd));
    let driver = Driver {
        starting: true,
        log,
        signals,
        supervisor: state.supervisor,
        recipe,
        origin,
        policy: Rc::new(policy),
        pins,
        listeners,
        listen,
        processes,
        clients,
        control,
        pid_file: None,
        preflight: None,
        other: None,
        home: None,
        deaf_until: None,
        deafness_told: false,
        guard_again: None,
        blindness_told: false,
        started: state.started,
        started_wall: UNIX_EPOCH + Duration::from_nanos(state.started_wall),
        seen_empty: state.seen_empty.into_iter().collect::<HashSet<_>>(),
        upward,
        // An upgrade before the first rollout is done is refused: nobody waits any more.
        launcher: None,
        end: None,
        asked: None,
    };
    Ok(Taken {
        driver,
        originals,
        pid_file: state.pid_file,
        workers,
        went_back: image::successor_failure(),
    })
}

impl Taken {
    /// The point of no return: the service is this image's, and goes on until it has ended.
    pub fn serve(self) -> End {
        let Taken {
            mut driver,
            originals,
            pid_file,
            workers,
            went_back,
        } = self;
        let was = driver.supervisor.configured();
        if let Some(now) = workers.filter(|now| *now != was) {
            driver.log.warn(format_args!(
                "upgrade: -n {now} of the new command line is passed over: N is the service's, {was} at its start; pf-ctl scale changes it"
            ));
        }
        if let Some(file) = pid_file {
            match PidFile::taken_over(file.fd, file.path.into_path()) {
                Ok(file) => driver.pid_file = Some(file),
                Err(error) => driver
                    .log
                    .error(format_args!("the pid file is lost: {error}")),
            }
        }
        let originals: HashSet<RawFd> = originals.into_iter().collect();
        originals.into_iter().for_each(fd::close_left_over);
        signal::unblock_all();
        if let Err(error) = driver.offer_acks() {
            driver.log.error(format_args!("{error}"));
        }
        driver.first_turn();
        match (driver.supervisor.successor_of(), went_back) {
            (Some(generation), Some(why)) => driver.feed(Event::PinFailed(generation, why)),
            (Some(generation), None) => {
                let version = env!("CARGO_PKG_VERSION");
                driver
                    .log
                    .info(format_args!("upgrade: version {version} has taken over"));
                let pinned = driver.pin_now(generation);
                driver.feed(pinned);
            }
            (None, _) => {}
        }
        driver.serve()
    }
}

impl Driver {
    /// What happened while no image of the master looked.
    fn first_turn(&mut self) {
        let now = clock::now();
        let exits = self.processes.exits();
        for event in self.processes.hear(now) {
            self.feed(event);
        }
        self.reap_workers(&exits, now);
        self.see_to_guard(now);
        self.flush_clients();
    }
}

/// A pin out of what was written down; `sets`: the listeners that it may have.
pub(in crate::driver) fn restored(
    pin: handover::Pin,
    sets: &[Rc<Vec<Listener>>],
    recipe: &Recipe,
) -> Result<(Generation, Rc<Pin>)> {
    let listeners = sets
        .get(pin.listeners)
        .ok_or_else(|| Error::system("cannot take a generation over", "it has no listeners"))?;
    let generation = Generation(pin.generation);
    let pin = Pin::new(
        generation,
        Rc::new(pin.policy),
        pin.cwd.into_path(),
        pin.program.into_path(),
        pin.command.into_iter().map(|arg| arg.0).collect(),
        pin.environment
            .into_iter()
            .map(|(name, value)| (name.0, value.0))
            .collect(),
        Rc::clone(listeners),
        pin.exports,
        pin.beat_fd,
        recipe.nofile,
        pin.changes,
    )?;
    Ok((generation, Rc::new(pin)))
}

/// Executes the image before this one again, and has it tell why. Returns only if there is none that could be, or it could not: why.
pub fn go_back(state_fd: RawFd, why: &str) -> String {
    if image::successor_failure().is_some() {
        return "there is no image to go back to: this is the one".to_owned();
    }
    let head = image::content(state_fd)
        .map_err(|error| error.to_string())
        .and_then(|document| Head::parse(&document));
    let image = match head.map(|head| head.image) {
        Ok(Some(image)) => image,
        Ok(None) => return "the state does not name the image before".to_owned(),
        Err(error) => return error,
    };
    let argv: Vec<OsString> = image.argv.into_iter().map(|arg| arg.0).collect();
    let mut environment: Vec<(OsString, OsString)> = image::environment();
    environment.push((STATE_FD.into(), state_fd.to_string().into()));
    environment.push((FAILED.into(), why.replace('\0', " ").into()));
    let error = image::become_next(&Next {
        program: &image::path_of(image.fd),
        argv: &argv,
        environment: &environment,
        dir: None,
        nofile: None,
        fds: &[],
    });
    format!("cannot execute the image before this one: {error}")
}
