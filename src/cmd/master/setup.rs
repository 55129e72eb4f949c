//! Everything before the first worker: listeners, recipe, control socket, pid file; and `--check`.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use super::claim::{claim, control_of, control_token, remove_stale_old_names};
use super::cli::{Args, LogFormat, PROGRAM};
use super::recipe::{origin, settings};
use crate::driver::Setup;
use crate::driver::fork::InheritedFork;
use crate::driver::{Configured, ServiceManager};
use crate::error::{Error, Exit, Result};
use crate::log::{Format, Log, Sink};
use crate::model::fact::text::workers as in_words;
use crate::model::ids::Generation;
use crate::model::machines::service_manager::Reported;
use crate::model::policy::Readiness;
use crate::sys::io::fd;
use crate::sys::io::lifeline::Lifeline;
use crate::sys::listener::unix_path;
use crate::sys::listener::{self, Bound, Inherited, Retry};
use crate::sys::machine::{cpus, environment, limits};
use crate::sys::process::daemon::Launcher;
use crate::sys::process::successor::Origin;
use crate::sys::process::{parent, program, wait};
use crate::sys::signal::Signals;
use crate::wire::address::ListenSpec;
use crate::wire::changes::Changes;
use crate::wire::exports::{self, Exports};
use crate::wire::listen_env::FIRST_FD;

/// `--check`: reads and resolves everything; binds, writes and starts nothing.
pub(super) fn check(args: &Args) -> Result<()> {
    let log = log(args)?;
    let Inherited {
        listeners,
        protocols,
    } = inherited(&log, std::process::id())?;
    for spec in &args.listen {
        listener::check(spec)?;
    }
    let exports = Exports::new(&args.export, &protocols);
    check_exports(&exports, &args.listen)?;
    check_numbers(args, listeners.len() + args.listen.len())?;
    for number in &args.keep_fd {
        fd::adopt(*number).map_err(|error| Error {
            what: format!("--keep-fd: {}", error.what),
            ..error
        })?;
    }
    lifeline(args)?;
    // The directories of the pid file and the control socket must exist. Whether the names are free
    // is not checked: that may change until the start.
    control_token(args)?;
    let control = control_of(args)?.map(|place| place.path);
    for path in args.pid.iter().chain(&control) {
        let dir = path
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        program::real_dir(dir)
            .map_err(|error| Error::system(format!("cannot make {}", path.display()), error))?;
    }
    if let Some(path) = control {
        unix_path::check_length(&path)?;
    }
    let given = environment::own();
    let settings = settings(args, &given, exports, None)?;
    match origin(args, given, &settings.recipe).check() {
        Err(error) if args.reexec.is_none() => {
            log.warn(format_args!("an upgrade would fail: {error}"))
        }
        checked => checked?,
    }
    settings.recipe.pin(
        Generation(1),
        Rc::new(settings.policy),
        Rc::new(listeners),
        Changes::default(),
    )?;
    Ok(())
}

/// Prepares the service. `launch_pid`: the pid that the parent process knows this one by, and that
/// LISTEN_PID and WATCHDOG_PID name; `inherited_fork`: what the old master handed over (`upgrade
/// --fork`).
pub(super) fn prepare(
    args: Args,
    signals: Signals,
    launch_pid: u32,
    launcher: Option<Launcher>,
    inherited_fork: Option<&InheritedFork>,
) -> Result<Setup> {
    let log = log(&args)?;
    if launcher.is_some() || (args.daemonize && inherited_fork.is_some()) {
        log.take_output()?;
    }
    let service_manager = ServiceManager::from_environment(
        |name| std::env::var_os(name),
        launch_pid,
        Reported::default(),
    );
    let mut tell = |text: String| log.warn(text);
    let Inherited {
        listeners: mut held,
        mut protocols,
    } = inherited(&log, launch_pid)?;
    if let Some(old) = inherited_fork {
        held.splice(..0, old.listeners()?);
        protocols.extend(old.inherited_exports());
    }
    let exports = Exports::new(&args.export, &protocols);
    check_exports(&exports, &args.listen)?;
    let given = environment::own();
    let mut settings = settings(&args, &given, exports, None)?;
    // What was taken away from the old master does not come back by an upgrade.
    let is_wanted = |spec: &&ListenSpec| !inherited_fork.is_some_and(|old| old.was_removed(spec));
    let listen: Vec<ListenSpec> = args.listen.iter().filter(is_wanted).cloned().collect();
    let listeners = listener::arrange(held, &listen, true, &Retry::default(), &mut tell)?;
    check_numbers(&args, listeners.len())?;
    let addresses: Vec<&Bound> = listeners.iter().map(|listener| &listener.address).collect();
    exports::render(&settings.recipe.exports.protocols(), &addresses, FIRST_FD)
        .map_err(Error::usage)?;
    parent::die_with_holder(std::env::var("PF_HOLD").ok().as_deref());
    // Orphans of a worker become children of the master, so that it sees when the group is empty.
    wait::become_subreaper().map_err(|error| Error::system("cannot become a subreaper", error))?;
    // --keep-fd may name a descriptor twice, but it can be adopted once.
    let keep: BTreeSet<i32> = args.keep_fd.iter().copied().collect();
    let keep = keep
        .iter()
        .map(|number| fd::adopt(*number).map(|fd| (fd, *number)))
        .collect::<Result<_>>()
        .map_err(|error| Error {
            what: format!("--keep-fd: {}", error.what),
            ..error
        })?;
    let lifeline = lifeline(&args)?;
    let origin = origin(&args, given, &settings.recipe);
    let nofile = limits::raise_nofile();
    settings.recipe.nofile = nofile;
    for listener in &listeners {
        match &listener.name {
            Some(name) => log.info(format_args!("listener {name}: {}", listener.address)),
            None => log.info(format_args!("listener {}", listener.address)),
        }
    }
    let workers = match args.workers {
        Some(workers) => workers,
        None => {
            let workers = cpus::usable();
            log.info(format_args!(
                "{}, as many as usable CPUs",
                in_words(workers)
            ));
            workers
        }
    };
    let control_token = control_token(&args)?;
    let (control, pid_file) = claim(&args)?;
    if inherited_fork.is_none() {
        remove_stale_old_names(control.as_ref(), pid_file.as_ref());
    }
    Ok(Setup {
        configured: Configured {
            log,
            signals,
            settings,
            listeners,
            origin: Origin { nofile, ..origin },
            service_manager,
            control_token,
            lifeline,
        },
        workers,
        control,
        pid_file,
        keep,
        launcher,
        inherited: None,
    })
}

/// Takes the lifeline.
fn lifeline(args: &Args) -> Result<Option<Lifeline>> {
    let inherited = args.lifeline_fd.map(Lifeline::inherit).transpose();
    inherited.map_err(|error| match error.exit {
        Exit::Usage => error,
        _ => Error {
            what: format!("--lifeline-fd: {}", error.what),
            ..error
        },
    })
}

/// Opens the log.
pub(super) fn log(args: &Args) -> Result<Log> {
    log_to(args, args.log.clone().map_or(Sink::Stderr, Sink::File))
}

/// Opens the log, in another place than the options say.
pub(super) fn log_to(args: &Args, sink: Sink) -> Result<Log> {
    let format = match args.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let verbosity = if args.quiet {
        -1
    } else {
        i8::try_from(args.verbose).unwrap_or(i8::MAX)
    };
    Log::new(PROGRAM, sink, format, verbosity)
}

/// Checks that every protocol can hold every address, before anything is bound.
pub(super) fn check_exports(exports: &Exports, specs: &[ListenSpec]) -> Result<()> {
    let protocols = exports.protocols();
    let fits = |spec| exports::check_spec(&protocols, spec).map_err(Error::usage);
    specs.iter().try_for_each(fits)
}

/// The listeners of the environment. `own`: the pid that LISTEN_PID must name.
fn inherited(log: &Log, own: u32) -> Result<Inherited> {
    // After --daemonize the parent is another process, so the parent's pid says nothing.
    let parent = (own == std::process::id()).then(std::os::unix::process::parent_id);
    let mut tell = |text: String| log.warn(text);
    listener::inherit(|name| std::env::var_os(name), own, parent, &mut tell)
}

/// Checks that the descriptors do not collide: listeners, --ready fd=N, --keep-fd, --lifeline-fd.
pub(super) fn check_numbers(args: &Args, listeners: usize) -> Result<()> {
    let end = FIRST_FD.saturating_add(i32::try_from(listeners).unwrap_or(i32::MAX));
    let ready = match args.ready {
        Readiness::Fd(number) => Some(number),
        Readiness::Auto
        | Readiness::Notify
        | Readiness::Heartbeat
        | Readiness::Delay(_)
        | Readiness::Exec => None,
    };
    let kept = args.keep_fd.iter().map(|number| ("--keep-fd ", *number));
    let lifeline = args.lifeline_fd.map(|number| ("--lifeline-fd ", number));
    for (what, number) in ready
        .map(|number| ("--ready fd=", number))
        .into_iter()
        .chain(kept)
        .chain(lifeline)
    {
        if (FIRST_FD..end).contains(&number) {
            let text = format!(
                "{what}{number} lies within the listeners' fds, {FIRST_FD} to {}",
                end - 1
            );
            return Err(Error::usage(text).hint(format!("take {end} or more")));
        }
    }
    if let Some(number) = args.lifeline_fd {
        if args.keep_fd.contains(&number) {
            return Err(Error::usage(format!(
                "--lifeline-fd {number} and --keep-fd {number} are the same descriptor, and workers \
                 do not get a lifeline"
            )));
        }
        if number == 0 && args.daemonize {
            return Err(Error::usage(
                "--lifeline-fd 0: with --daemonize, standard input becomes /dev/null",
            )
            .hint("take another number, as in 3<&0"));
        }
    }
    match ready {
        Some(number) if args.keep_fd.contains(&number) => Err(Error::usage(format!(
            "--ready fd={number} and --keep-fd {number} are the same descriptor"
        ))),
        _ => Ok(()),
    }
}
