//! The other side of the exec: a driver out of the document that the image before has written.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::driver::clients::Clients;
use crate::driver::pin::Pins;
use crate::driver::process::{HandedOver, Processes};
use crate::driver::state::{
    Configured, Driver, End, Parts, PublishedPaths, ServiceListeners, Startup,
};
use crate::error::{Error, Result};
use crate::model::event::Event;
use crate::model::signal::Signal;
use crate::sys::control::ControlSocket;
use crate::sys::files::pidfile::PidFile;
use crate::sys::io::fd;
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
    /// The number of slots, if its command line has one.
    pub workers: Option<usize>,
}

/// A service that has been taken over, and can still be given back.
pub struct Taken {
    driver: Driver,
    /// The descriptors as they were handed over.
    originals: Vec<RawFd>,
    pid_file: Option<handover::PidFile>,
    workers: Option<usize>,
    /// Why the successor of this image went back to it, if this image is executed again.
    successor_failure: Option<String>,
}

/// Takes over. Nothing that was handed over is changed yet.
///
/// # Errors
/// Exit 111: a descriptor is missing, or the system refuses what the loop needs. The caller is to
/// go back to the image before.
pub fn take_over(fresh: Fresh, state: State, state_fd: RawFd) -> Result<Taken> {
    let failed = |what: &'static str| move |error| Error::system(what, error);
    let mut originals = state.descriptors();
    originals.push(state_fd);
    // The lock of the pid file is taken over with its descriptor.
    originals.retain(|fd| state.pid_file.as_ref().is_none_or(|file| file.fd != *fd));
    let Configured {
        log,
        mut signals,
        recipe,
        policy,
        listeners,
        listen,
        origin,
        service_manager,
    } = fresh.configured;
    let ignored: Vec<Signal> = state.ignored.iter().map(|name| name.0).collect();
    signals.add_ignored(&ignored);
    let supervisor = state
        .supervisor()
        .map_err(|why| Error::system("cannot take the service over", why))?;
    let listeners = ServiceListeners::new(listeners, listen);
    // The first set is what new generations get: this image's own.
    let mut sets = vec![Rc::clone(listeners.sockets())];
    for set in state.listeners.iter().skip(1) {
        let set = set.iter().map(Listener::taken_over);
        sets.push(Rc::new(set.collect::<Result<_>>()?));
    }
    let mut pins = Pins::new(recipe, policy);
    pins.take_over(state.pins, &sets)?;
    let processes = Processes::taken_over(HandedOver {
        processes: state.processes,
        guard: state.guard,
        keep: state.keep,
        acks: state.acks,
    })
    .map_err(failed("cannot take the workers over"))?;
    let control = state.control.as_ref().map(ControlSocket::taken_over);
    let control = control
        .transpose()
        .map_err(failed("cannot take the control socket over"))?;
    let clients = Clients::taken_over(state.clients)
        .map_err(failed("cannot take the control clients over"))?;
    let mut driver = Driver::new(Parts {
        log,
        signals,
        origin,
        service_manager,
        supervisor,
        pins,
        listeners,
        processes,
        clients,
        published: PublishedPaths::new(control, None),
        startup: Startup::taken_over(state.started.into(), state.started_wall),
        // An upgrade is refused while there is another master.
        peer: None,
    });
    driver.leftovers.look_soon(clock::now());
    Ok(Taken {
        driver,
        originals,
        pid_file: state.pid_file,
        workers: fresh.workers,
        successor_failure: image::successor_failure(),
    })
}

impl Taken {
    /// The point of no return: from here on the service is this image's. Serves until the end.
    pub fn serve(self) -> End {
        let Taken {
            mut driver,
            originals,
            pid_file,
            workers,
            successor_failure,
        } = self;
        let was = driver.supervisor.configured();
        if let Some(now) = workers.filter(|now| *now != was) {
            driver.log.warn(format_args!(
                "upgrade: -n {now} of the new command line is passed over: N is the service's, \
                 {was} at its start; pf-ctl scale changes it"
            ));
        }
        if let Some(file) = pid_file {
            match PidFile::taken_over(file.fd, file.path.into_path()) {
                Ok(file) => driver.published.set_pid_file(file),
                Err(error) => driver
                    .log
                    .error(format_args!("the pid file is lost: {error}")),
            }
        }
        let originals: HashSet<RawFd> = originals.into_iter().collect();
        originals.into_iter().for_each(fd::close_left_over);
        signal::unblock_all();
        if let Err(error) = driver.open_ack_socket() {
            driver.log.error(format_args!("{error}"));
        }
        driver.first_turn();
        match (driver.supervisor.successor_of(), successor_failure) {
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
    /// Finds what happened during the exec: all children stay children, so nothing of it is lost.
    fn first_turn(&mut self) {
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
