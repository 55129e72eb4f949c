//! The other side of the exec: a driver out of the document that the image before has written.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use crate::driver::clients::Clients;
use crate::driver::pin::Pins;
use crate::driver::process::{HandedOver, Processes};
use crate::driver::start::new_events;
use crate::driver::state::{
    Admission, Configured, Driver, End, Parts, PeerMaster, PublishedPaths, ServiceListeners,
    Startup,
};
use crate::error::{Error, Result};
use crate::model::event::Event;
use crate::model::machines::event_log::EventLog;
use crate::model::signal::Signal;
use crate::sys::control::ControlSocket;
use crate::sys::files::pidfile::PidFile;
use crate::sys::io::left_open::LeftOpen;
use crate::sys::listener::Listener;
use crate::sys::machine::clock;
use crate::sys::process::image;
use crate::sys::process::image::Next;
use crate::sys::signal;
use crate::wire::handover::{self, FAILED, Head, STATE_FD, State};

/// What the image that takes over brings with it. Its signals are all blocked.
pub struct Fresh {
    #[expect(missing_docs, reason = "the name says it")]
    pub configured: Configured,
}

/// A service that has been taken over, and can still be given back: until [`Taken::serve`], only by
/// not dropping it.
pub struct Taken {
    driver: Driver,
    left: LeftOpen,
    /// The state and the image before, open for the way back.
    way_back: [OwnedFd; 2],
    /// Why the successor of this image went back to it, if this image is executed again.
    successor_failure: Option<String>,
}

/// Takes over. On an error nothing that was handed over is changed or closed: what owns a part of
/// it is leaked then, also by a panic.
///
/// # Errors
/// Exit 111: the system refuses what the loop needs. The caller is to go back to the image before.
pub fn take_over(
    fresh: Fresh,
    state: State,
    state_fd: RawFd,
    mut left: LeftOpen,
) -> Result<ManuallyDrop<Taken>> {
    let failed = |what: &'static str| move |error| Error::system(what, error);
    let Configured {
        log,
        mut signals,
        settings,
        listeners,
        origin,
        service_manager,
        control_token,
        lifeline,
    } = fresh.configured;
    let lifeline = ManuallyDrop::new(lifeline);
    let listeners = ManuallyDrop::new(ServiceListeners::new(listeners));
    let ignored: Vec<Signal> = state.ignored.iter().map(|name| name.0).collect();
    signals.add_ignored(&ignored);
    let supervisor = state
        .supervisor()
        .map_err(|why| Error::system("cannot take the service over", why))?;
    // The first set is what new generations got in the image before.
    let mut sets = ManuallyDrop::new(vec![first_set(&state, listeners.sockets())?]);
    for set in state.listeners.iter().skip(1) {
        sets.push(Rc::new(take_over_listeners(set, &mut left)?));
    }
    let mut pins = ManuallyDrop::new(Pins::new(settings));
    pins.take_over(state.pins, &sets)?;
    let from = HandedOver {
        processes: state.processes,
        guard: state.guard,
        keep: state.keep,
        acks: state.acks,
    };
    let processes = Processes::taken_over(from, &mut left);
    let processes = processes.map_err(failed("cannot take the workers over"))?;
    let processes = ManuallyDrop::new(processes);
    let open = failed("cannot take the descriptors over");
    let control = state.control.as_ref();
    let control = control.map(|control| ControlSocket::taken_over(control, &mut left));
    let control = ManuallyDrop::new(control.transpose().map_err(open)?);
    let pid_file = state.pid_file;
    let pid_file =
        pid_file.map(|file| PidFile::taken_over(file.fd, file.path.into_path(), &mut left));
    let pid_file = ManuallyDrop::new(pid_file.transpose().map_err(open)?);
    let clients = ManuallyDrop::new(Clients::taken_over(state.clients, &mut left).map_err(open)?);
    let peer = state
        .draining_master
        .map(|known| PeerMaster::taken_over(known, &mut left));
    let peer = peer.transpose().map_err(open)?;
    let way_back = [state_fd, state.image.fd].map(|fd| left.take(fd).map(ManuallyDrop::new));
    let [document, image] = way_back;
    let way_back = [document.map_err(open)?, image.map_err(open)?].map(ManuallyDrop::into_inner);
    // The rest cannot fail.
    drop(ManuallyDrop::into_inner(sets));
    let mut driver = Driver::new(Parts {
        log,
        signals,
        origin,
        service_manager,
        supervisor,
        pins: ManuallyDrop::into_inner(pins),
        listeners: ManuallyDrop::into_inner(listeners),
        processes: ManuallyDrop::into_inner(processes),
        clients: ManuallyDrop::into_inner(clients),
        admission: Admission::by(control_token),
        published: PublishedPaths::new(
            ManuallyDrop::into_inner(control),
            ManuallyDrop::into_inner(pid_file),
        ),
        startup: Startup::taken_over(state.started.into(), state.started_wall),
        peer: peer.map(ManuallyDrop::into_inner),
        events: state.events.map_or_else(new_events, EventLog::from),
        stories: state.stories.into(),
        lifeline: ManuallyDrop::into_inner(lifeline),
    });
    driver.leftovers.look_soon(clock::now());
    Ok(ManuallyDrop::new(Taken {
        driver,
        left,
        way_back,
        successor_failure: image::successor_failure(),
    }))
}

/// The first of the sets that were handed over, out of this image's own listeners: those that its
/// command line adds are not among them. A generation of the image before has numbers for its own
/// listeners only.
fn first_set(state: &State, own: &Rc<Vec<Listener>>) -> Result<Rc<Vec<Listener>>> {
    let known = state.listeners.first().map_or(&[][..], Vec::as_slice);
    if known.len() == own.len() {
        return Ok(Rc::clone(own));
    }
    let found = known
        .iter()
        .filter_map(|known| own.iter().find(|it| it.fd.as_raw_fd() == known.fd));
    found
        .map(Listener::try_clone)
        .collect::<Result<_>>()
        .map(Rc::new)
}

/// Takes a set of listeners over. On an error none is closed.
///
/// # Errors
/// As [`Listener::taken_over`].
pub fn take_over_listeners(
    set: &[handover::Listener],
    left: &mut LeftOpen,
) -> Result<Vec<Listener>> {
    let mut taken = ManuallyDrop::new(Vec::new());
    for listener in set {
        taken.push(Listener::taken_over(listener, left)?);
    }
    Ok(ManuallyDrop::into_inner(taken))
}

impl Taken {
    /// The first turn: finds what happened during the exec. After a panic in it the service can
    /// still be given back.
    pub fn first_turn(&mut self) {
        self.driver.first_turn();
    }

    /// The point of no return: from here on the service is this image's. Serves until the end.
    pub fn serve(self) -> End {
        let Taken {
            mut driver,
            left,
            way_back,
            successor_failure,
        } = self;
        if let Err(errno) = left.close_on_exec() {
            driver.log.warn(format_args!(
                "cannot mark all descriptors close-on-exec: {}",
                errno.desc()
            ));
        }
        drop(way_back);
        // An image that is older has read no counts.
        driver.read_oom_kills();
        signal::unblock_all();
        // Before the rollout goes on: a stop that waited ends it.
        driver.obey_signals();
        driver.first_turn();
        let was = driver.supervisor.configured();
        if let Some(now) = driver.pins.settings().workers.filter(|now| *now != was) {
            driver.log.warn(format_args!(
                "upgrade: -n {now} of the new command line is passed over: N is the service's, \
                 {was} at its start; pf-ctl scale changes it"
            ));
        }
        if let Err(error) = driver.open_ack_socket() {
            driver.log.error(format_args!("{error}"));
        }
        match (driver.supervisor.successor_of(), successor_failure) {
            (Some(generation), Some(why)) => driver.feed(Event::PinFailed(generation, why)),
            (Some(generation), None) => {
                let version = env!("CARGO_PKG_VERSION");
                driver
                    .log
                    .info(format_args!("upgrade: version {version} has taken over"));
                let pinned = match driver.supervisor.successor_copies() {
                    Some(copied) => driver.pin_again(generation, copied),
                    None => driver.pin_now(generation),
                };
                driver.feed(pinned);
            }
            (None, _) => {}
        }
        driver.serve()
    }
}

impl Driver {
    /// Finds what happened during the exec: all children stay children, so nothing of it is lost.
    pub(super) fn first_turn(&mut self) {
        let now = clock::now();
        let ended = self.processes.ended_leaders(true);
        for event in self.processes.read_workers(now) {
            self.feed(event);
        }
        self.reap_workers(&ended, now);
        self.check_guard(now);
        self.clients.flush();
    }
}

/// Executes the image before this one again, which then reports `why`. Returns only if that is not
/// possible: the reason.
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
    let mut environment = image::environment();
    let told = environment
        .push(STATE_FD, state_fd.to_string())
        .and_then(|()| environment.push(FAILED, why.replace('\0', " ")));
    if let Err(error) = told {
        return error.to_string();
    }
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
