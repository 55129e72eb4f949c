//! The service of a new image, made from its command line and the state of the old image.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::rc::Rc;

use super::claim::control_token;
use super::cli::Args;
use super::recipe::{origin, settings};
use super::setup::{check_exports, check_numbers, log, log_to};
use crate::driver::pin::Settings;
use crate::driver::upgrade::{self, Fresh};
use crate::driver::{Configured, ServiceManager};
use crate::error::{Error, Exit, Result};
use crate::log::{Log, Sink};
use crate::model::ids::Generation;
use crate::sys::control::token::TokenFile;
use crate::sys::io::left_open::LeftOpen;
use crate::sys::io::lifeline::Lifeline;
use crate::sys::listener::{self, Listener, Retry};
use crate::sys::machine::environment;
use crate::sys::process::image;
use crate::sys::process::program;
use crate::sys::process::successor::Origin;
use crate::sys::signal::Signals;
use crate::wire::address::{Address, ListenSpec};
use crate::wire::environment::Environment;
use crate::wire::exports::Exports;
use crate::wire::handover::State;

/// Checks what can be checked of this image's command line while the old image still runs.
pub(super) fn check_successor(args: &Args, state: &State) -> Result<()> {
    check_start_dir(args, state)?;
    log(args)?;
    control_token(args)?;
    let added = added(args, state);
    for spec in &added {
        check_fd(spec)?;
        listener::check(spec)?;
    }
    let exports = Exports::new(&args.export, &state.inherited_exports);
    check_exports(&exports, &added)?;
    let kept = state.listeners.first().map_or(0, Vec::len);
    check_numbers(args, kept + added.len())?;
    check_kept(args, state)?;
    // A missing worker program is found here, before anything has changed.
    let supervisor = state
        .supervisor()
        .map_err(|why| Error::system("cannot take the service over", why))?;
    let serving = supervisor.generation().0;
    let pin = state.pins.iter().find(|pin| pin.generation == serving);
    if let (Some(_), Some(pin)) = (supervisor.successor_copies(), pin) {
        // A rehearsal resolves nothing anew.
        let program = pin.program.clone().into_path();
        return program::check(&program).map_err(|error| {
            let what = format!("worker program {}", program.display());
            Error::new(Exit::Failed, what, error)
        });
    }
    let changes = pin.map(|pin| pin.changes.clone()).unwrap_or_default();
    let Settings { policy, recipe, .. } = settings_for(args, &environment::own(), state, exports)?;
    recipe.pin(Generation(1), Rc::new(policy), Rc::default(), changes)?;
    Ok(())
}

/// Makes the service. Neither changes nor closes what was handed over, so that the old image can
/// still go on.
pub(super) fn take_over(
    args: Args,
    state: &State,
    signals: Signals,
    left: &mut LeftOpen,
) -> Result<Fresh> {
    check_start_dir(&args, state)?;
    let log = log_or_stderr(&args)?;
    if args.daemonize {
        log.take_output()?;
    }
    let known = state.service_manager.clone();
    let service_manager = ServiceManager::from_environment(
        |name| std::env::var_os(name),
        known
            .as_ref()
            .map_or(std::process::id(), |known| known.launch_pid),
        known.map(|known| known.reported.into()).unwrap_or_default(),
    );
    let exports = Exports::new(&args.export, &state.inherited_exports);
    let given = environment::own();
    let settings = settings_for(&args, &given, state, exports)?;
    let origin = Origin {
        nofile: state.nofile,
        ..origin(&args, given, &settings.recipe)
    };
    check_kept(&args, state)?;
    let listeners = ManuallyDrop::new(listeners(&args, state, &log, left)?);
    let lifeline = args
        .lifeline_fd
        .map(|number| Lifeline::taken_over(number, left));
    let lifeline = lifeline
        .transpose()
        .map_err(|error| Error::system("cannot take the lifeline over", error))?;
    let lifeline = ManuallyDrop::new(lifeline);
    let control_token = token_or_known(&args, state, &log)?;
    Ok(Fresh {
        configured: Configured {
            log,
            signals,
            settings,
            listeners: ManuallyDrop::into_inner(listeners),
            origin,
            service_manager,
            control_token,
            lifeline: ManuallyDrop::into_inner(lifeline),
        },
    })
}

/// Whether the successor has failed, and this is the image before it. There is no other one to go
/// back to, so that nothing which it finds missing may end the service.
fn is_gone_back_to() -> bool {
    image::successor_failure().is_some()
}

/// The log; for an image that is gone back to, standard error where it cannot be opened any more.
fn log_or_stderr(args: &Args) -> Result<Log> {
    log(args).or_else(|error| {
        if !is_gone_back_to() {
            return Err(error);
        }
        let to_stderr = log_to(args, Sink::Stderr)?;
        to_stderr.error(format_args!("{error}: logging to standard error"));
        Ok(to_stderr)
    })
}

/// The token; for an image that is gone back to, what was read before where its file cannot be read
/// any more.
fn token_or_known(args: &Args, state: &State, log: &Log) -> Result<Option<TokenFile>> {
    control_token(args).or_else(|error| {
        if !is_gone_back_to() {
            return Err(error);
        }
        let known = args.control_token.clone().zip(state.control_token.as_ref());
        let known = known.and_then(|(path, text)| TokenFile::known(path, text));
        let known = known.ok_or_else(|| Error { ..error.clone() })?;
        log.error(format_args!("{error}: the one before stays in use"));
        Ok(Some(known))
    })
}

/// The listeners that were handed over, and those that this command line adds.
fn listeners(args: &Args, state: &State, log: &Log, left: &mut LeftOpen) -> Result<Vec<Listener>> {
    let added = added(args, state);
    added.iter().try_for_each(check_fd)?;
    let kept = state.listeners.first().map_or(&[][..], Vec::as_slice);
    // On an error they have to stay open.
    let kept = ManuallyDrop::new(upgrade::take_over_listeners(kept, left)?);
    if added.is_empty() {
        check_numbers(args, kept.len())?;
        return Ok(ManuallyDrop::into_inner(kept));
    }
    // Copies, which an error closes; each gives way to what it is a copy of.
    let copies = kept.iter().map(Listener::try_clone);
    let copies = copies.collect::<Result<_>>()?;
    let mut tell = |text: String| log.warn(text);
    let arranged = listener::arrange(copies, &added, true, &Retry::NONE, &mut tell)?;
    check_numbers(args, arranged.len())?;
    let mut kept = ManuallyDrop::into_inner(kept);
    let original = |listener: Listener| {
        let at = kept
            .iter()
            .position(|kept| kept.inode() == listener.inode());
        match at {
            Some(at) => listener.with_fd_of(kept.swap_remove(at)),
            None => listener,
        }
    };
    Ok(arranged.into_iter().map(original).collect())
}

/// The settings of this command line. If the directory in which the first image was started is
/// gone, it is still the one that is meant: what lies in it is missed, and nothing else is taken
/// for it.
fn settings_for(
    args: &Args,
    given: &Environment,
    state: &State,
    exports: Exports,
) -> Result<Settings> {
    let mut settings = settings(args, given, exports, state.nofile)?;
    let recipe = &mut settings.recipe;
    if let Some(missing) = &state.missing_dir
        // A wrapper script of `--reexec` may have changed the directory.
        && program::is_same_dir(&recipe.start_dir, Path::new(&missing.instead.0))
    {
        recipe.start_dir = missing.dir.clone().into_path();
    }
    Ok(settings)
}

/// Refuses a file that is named relative to a directory that is gone.
fn check_start_dir(args: &Args, state: &State) -> Result<()> {
    let (Some(missing), Some(log)) = (&state.missing_dir, &args.log) else {
        return Ok(());
    };
    let here = program::start_dir(None).unwrap_or_default();
    if log.is_absolute() || !program::is_same_dir(&here, Path::new(&missing.instead.0)) {
        return Ok(());
    }
    let dir = missing.dir.clone().into_path();
    let why = format!("the directory of the start, {}, is gone", dir.display());
    Err(Error::system(format!("cannot open --log {}", log.display()), why).hint(DIR_HINT))
}

/// What to do about a directory that is gone.
const DIR_HINT: &str = "make it again, or change to another one with --reexec";

/// Refuses a descriptor that is named by its number: this image has none but those that were handed
/// over, which are listeners already.
fn check_fd(spec: &ListenSpec) -> Result<()> {
    match spec.address {
        Address::Fd(_) => Err(Error::usage(format!(
            "--listen {spec}: the running master does not have it"
        ))),
        _ => Ok(()),
    }
}

/// The `--listen` addresses that the old image did not have.
fn added(args: &Args, state: &State) -> Vec<ListenSpec> {
    let known = |spec: &&ListenSpec| state.listen.contains(&spec.to_string());
    args.listen
        .iter()
        .filter(|spec| !known(spec))
        .cloned()
        .collect()
}

fn check_kept(args: &Args, state: &State) -> Result<()> {
    if let Some(number) = args.lifeline_fd
        && number != 0
        && state.lifeline != Some(number)
    {
        return Err(Error::usage(format!(
            "--lifeline-fd {number}: the running master does not have it"
        )));
    }
    let known = |number: &&i32| state.keep.iter().any(|(_, kept)| kept == *number);
    match args.keep_fd.iter().find(|number| !known(number)) {
        Some(number) => Err(Error::usage(format!(
            "--keep-fd {number}: the running master does not have it"
        ))),
        None => Ok(()),
    }
}
