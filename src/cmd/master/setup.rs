//! From the command line to everything that stands before the first worker is started.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::cli::{Args, ControlSpec, LogFormat, Term};
use crate::driver::fork::InheritedFork;
use crate::driver::pin::{Environment, Recipe, is_ours};
use crate::driver::{Configured, ServiceManager, Setup};
use crate::error::{Error, Exit, Result};
use crate::log::{Format, Log, Sink};
use crate::model::ids::Generation;
use crate::model::policy::{Policy, Readiness, StopSeverity};
use crate::model::service_manager::Reported;
use crate::model::text::workers as in_words;
use crate::sys::control::{self, ControlSocket};
use crate::sys::files::pidfile;
use crate::sys::files::pidfile::{Owner, PidFile};
use crate::sys::io::fd;
use crate::sys::listener::unix_path;
use crate::sys::listener::{self, Bound, Inherited, Retry};
use crate::sys::machine::{clock, cpus, limits, users};
use crate::sys::process::daemon::Launcher;
use crate::sys::process::successor::Origin;
use crate::sys::process::{parent, program, wait};
use crate::sys::signal::Signals;
use crate::wire::address::{Address, Kind, ListenSpec};
use crate::wire::changes::Changes;
use crate::wire::exports::{self, Exports};
use crate::wire::listen_env::FIRST_FD;
use crate::wire::names::{old_control, old_pid_file};

/// How long a start that finds its control socket taken waits for the pid file of whoever took it.
const RIVAL_WITHIN: Duration = Duration::from_secs(1);

/// `--check`: everything is read and resolved, nothing is bound, written or started.
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
    // The names would be made in directories that are there; whether they are free is for the start itself to find out.
    let control = control_of(args)?.map(|(path, ..)| path);
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
    let recipe = recipe(args, exports)?;
    match origin(args, &recipe).check() {
        Err(error) if args.reexec.is_none() => {
            log.warn(format_args!("an upgrade would fail: {error}"))
        }
        checked => checked?,
    }
    recipe.pin(
        Generation(1),
        Rc::new(policy(args)),
        Rc::new(listeners),
        Changes::default(),
    )?;
    Ok(())
}

pub(super) fn listened(args: &Args) -> Vec<String> {
    args.listen.iter().map(ToString::to_string).collect()
}

/// Does it. `born`: the pid that our parent knows us by, which the environment speaks of; `inherited_fork`: what an old master beside us has left.
pub(super) fn prepare(
    args: Args,
    signals: Signals,
    born: u32,
    launcher: Option<Launcher>,
    inherited_fork: Option<&InheritedFork>,
) -> Result<Setup> {
    let log = log(&args)?;
    if launcher.is_some() || (args.daemonize && inherited_fork.is_some()) {
        log.take_output()?;
    }
    let service_manager =
        ServiceManager::from_environment(|name| std::env::var_os(name), born, Reported::default());
    let policy = policy(&args);
    let mut tell = |text: String| log.warn(text);
    let Inherited {
        listeners: mut held,
        mut protocols,
    } = inherited(&log, born)?;
    if let Some(old) = inherited_fork {
        held.splice(..0, old.listeners()?);
        protocols.extend(old.inherited_exports());
    }
    let exports = Exports::new(&args.export, &protocols);
    check_exports(&exports, &args.listen)?;
    let mut recipe = recipe(&args, exports)?;
    let listeners = listener::arrange(held, &args.listen, true, &Retry::default(), &mut tell)?;
    check_numbers(&args, listeners.len())?;
    let addresses: Vec<&Bound> = listeners.iter().map(|listener| &listener.address).collect();
    exports::render(&recipe.exports.protocols(), &addresses, FIRST_FD).map_err(Error::usage)?;
    parent::die_with_holder(std::env::var("PF_HOLD").ok().as_deref());
    // Orphans of workers become ours, so that a group can be seen to its end.
    wait::become_subreaper().map_err(|error| Error::system("cannot become a subreaper", error))?;
    // A number named twice is one descriptor.
    let keep: BTreeSet<i32> = args.keep_fd.iter().copied().collect();
    let keep = keep
        .iter()
        .map(|number| fd::adopt(*number).map(|fd| (fd, *number)))
        .collect::<Result<_>>()
        .map_err(|error| Error {
            what: format!("--keep-fd: {}", error.what),
            ..error
        })?;
    let origin = origin(&args, &recipe);
    let nofile = limits::raise_nofile();
    recipe.nofile = nofile;
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
    let (control, pid_file) = claim(&args)?;
    if inherited_fork.is_none() {
        sweep(control.as_ref(), pid_file.as_ref());
    }
    let listen = listened(&args);
    Ok(Setup {
        configured: Configured {
            log,
            signals,
            recipe,
            policy,
            listeners,
            listen,
            origin: Origin { nofile, ..origin },
            service_manager,
        },
        workers,
        control,
        pid_file,
        keep,
        launcher,
        inherited: None,
    })
}

pub(super) fn origin(args: &Args, recipe: &Recipe) -> Origin {
    let reexec = args.reexec.clone().map(OsString::from);
    Origin::of_this_process(reexec, recipe.start_dir.clone())
}

pub(super) fn log(args: &Args) -> Result<Log> {
    let sink = args.log.clone().map_or(Sink::Stderr, Sink::File);
    let format = match args.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let verbosity = if args.quiet {
        -1
    } else {
        i8::try_from(args.verbose).unwrap_or(i8::MAX)
    };
    Log::new(super::PROG, sink, format, verbosity)
}

pub(super) fn policy(args: &Args) -> Policy {
    Policy {
        ready: args.ready,
        start_timeout: args.start_timeout.on(),
        timeout: args.timeout.on(),
        abort_signal: args.abort_signal,
        graceful_signal: args.graceful_signal,
        graceful_timeout: args.graceful_timeout,
        quick_signal: args.quick_signal,
        quick_timeout: args.quick_timeout,
        term: match args.term {
            Term::Graceful => StopSeverity::Graceful,
            Term::Quick => StopSeverity::Quick,
        },
        stop_delay: args.stop_delay.on(),
        drain_queue: args.drain_queue,
        max_draining: args.max_draining.on().map(|limit| limit as usize),
        surge: args.surge,
        canary: args.canary.on(),
        probation: args.probation.on(),
        start_failures: args.start_failures,
        backoff: args.backoff,
        give_up: args.give_up.on(),
        fatal_exit: args.fatal_exit.clone(),
    }
}

/// What can be told before anything is bound.
pub(super) fn check_exports(exports: &Exports, specs: &[ListenSpec]) -> Result<()> {
    let protocols = exports.protocols();
    let fits = |spec| exports::check_spec(&protocols, spec).map_err(Error::usage);
    specs.iter().try_for_each(fits)
}

pub(super) fn recipe(args: &Args, exports: Exports) -> Result<Recipe> {
    let own: Environment = std::env::vars_os()
        .filter(|(name, _)| !is_ours(name))
        .collect();
    let variable = |name: &str| {
        own.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let start_dir = program::start_dir(variable("PWD").as_deref())
        .map_err(|error| Error::system("cannot tell the working directory", error))?;
    Ok(Recipe {
        command: args.command.clone(),
        start_dir,
        chdir: args.chdir.clone(),
        keep: args.keep_fd.clone(),
        path: variable("PATH"),
        set: args
            .env
            .iter()
            .map(variable_setting)
            .collect::<Result<_>>()?,
        environment: if args.clear_env { Vec::new() } else { own },
        exports,
        nofile: None,
    })
}

fn variable_setting(setting: &OsString) -> Result<(OsString, OsString)> {
    use std::ffi::OsStr;
    let bytes = setting.as_bytes();
    let wrong = || {
        Error::usage(format!(
            "--env {}: a variable is written K=V",
            setting.to_string_lossy()
        ))
    };
    let equals = bytes
        .iter()
        .position(|byte| *byte == b'=')
        .filter(|at| *at > 0)
        .ok_or_else(wrong)?;
    let (name, value) = (
        OsStr::from_bytes(&bytes[..equals]),
        OsStr::from_bytes(&bytes[equals + 1..]),
    );
    if is_ours(name) {
        let text = format!(
            "--env {}: this variable is the master's own",
            name.to_string_lossy()
        );
        return Err(Error::usage(text));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// The listeners that the environment hands us; `own`: the pid that it speaks of.
fn inherited(log: &Log, own: u32) -> Result<Inherited> {
    // One that has detached since has lost its parent.
    let parent = (own == std::process::id()).then(std::os::unix::process::parent_id);
    let mut tell = |text: String| log.warn(text);
    listener::inherit(|name| std::env::var_os(name), own, parent, &mut tell)
}

/// The numbers that workers are promised must not collide.
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
    for (what, number) in ready
        .map(|number| ("--ready fd=", number))
        .into_iter()
        .chain(kept)
    {
        if (FIRST_FD..end).contains(&number) {
            let text = format!(
                "{what}{number} lies within the listeners' fds, {FIRST_FD} to {}",
                end - 1
            );
            return Err(Error::usage(text).hint(format!("take {end} or more")));
        }
    }
    match ready {
        Some(number) if args.keep_fd.contains(&number) => Err(Error::usage(format!(
            "--ready fd={number} and --keep-fd {number} are the same descriptor"
        ))),
        _ => Ok(()),
    }
}

/// The names that tell the world of this master: the control socket listens before the pid file appears.
/// Removes what an old master has left that was killed beside its new one. A live one's is not touched, and what is in the way later tells itself.
fn sweep(control: Option<&ControlSocket>, pid_file: Option<&PidFile>) {
    if let Some(file) = pid_file {
        let _ = pidfile::remove_stale(&old_pid_file(file.path()));
    }
    if let Some(control) = control {
        let _ = control::remove_dead(&old_control(control.path(), pid_file.map(PidFile::path)));
    }
}

fn claim(args: &Args) -> Result<(Option<ControlSocket>, Option<PidFile>)> {
    if let Some(path) = &args.pid {
        refuse_rival(path)?;
    }
    let control = match control_of(args)? {
        None => None,
        Some((path, mode, owner, group)) => match ControlSocket::bind(&path, mode, owner, group) {
            Ok(control) => Some(control),
            Err(error) => {
                // Another start may be a step ahead: its pid file says so in a moment.
                let until = clock::now() + RIVAL_WITHIN;
                while let (Some(pid), true) = (&args.pid, clock::now() < until) {
                    refuse_rival(pid)?;
                    clock::pause(Duration::from_millis(10));
                }
                return Err(error);
            }
        },
    };
    match args.pid.as_deref().map(PidFile::acquire).transpose() {
        Ok(pid_file) => Ok((control, pid_file)),
        Err(error) => {
            if let Some(control) = control {
                // Only its own name goes; what else went wrong is told already.
                let _ = control.remove();
            }
            Err(error)
        }
    }
}

fn refuse_rival(pid_file: &Path) -> Result<()> {
    match pidfile::owner(pid_file) {
        Ok(Owner::Alive(pid)) => {
            let what = format!("pid file {}", pid_file.display());
            Err(
                Error::new(Exit::Refused, what, format!("master {pid} owns it"))
                    .hint("stop that one first"),
            )
        }
        Ok(Owner::Unreachable) => {
            let what = format!("pid file {}", pid_file.display());
            Err(Error::new(
                Exit::Refused,
                what,
                "a process of another pid namespace owns it",
            ))
        }
        // Whether it can be taken is found out by taking it.
        Ok(Owner::Absent | Owner::Stale) | Err(_) => Ok(()),
    }
}

type Place = (PathBuf, u32, Option<u32>, Option<u32>);

fn control_of(args: &Args) -> Result<Option<Place>> {
    if args.no_control {
        return Ok(None);
    }
    match (&args.control, &args.pid) {
        (Some(ControlSpec(spec)), _) => control_place(spec).map(Some),
        (None, Some(pid_file)) => Ok(Some((
            crate::wire::names::control_path(pid_file),
            0o600,
            None,
            None,
        ))),
        (None, None) => Ok(None),
    }
}

fn control_place(spec: &ListenSpec) -> Result<Place> {
    let wrong = |why: &str| Error::usage(format!("--control {spec}: {why}"));
    let Address::Unix(Kind::Stream, path) = &spec.address else {
        return Err(wrong("a control socket is a Unix path"));
    };
    let options = &spec.options;
    let owner = options.owner.as_deref().map(users::uid).transpose()?;
    let group = options.group.as_deref().map(users::gid).transpose()?;
    let known = crate::wire::address::Options {
        mode: options.mode,
        owner: options.owner.clone(),
        group: options.group.clone(),
        ..Default::default()
    };
    if known != *options {
        return Err(wrong(
            "a control socket takes the options mode=, owner= and group= alone",
        ));
    }
    let mode = options.mode.unwrap_or(0o600);
    Ok((
        path.clone(),
        mode,
        owner.map(|uid| uid.as_raw()),
        group.map(|gid| gid.as_raw()),
    ))
}
