//! The service of a new image, made from its command line and the state of the old image.

use std::rc::Rc;

use super::cli::Args;
use super::recipe::{origin, settings};
use super::setup::{check_exports, check_numbers, log};
use crate::driver::pin::Settings;
use crate::driver::upgrade::Fresh;
use crate::driver::{Configured, ServiceManager};
use crate::error::{Error, Result};
use crate::model::ids::Generation;
use crate::sys::listener::{self, Listener, Retry};
use crate::sys::process::successor::Origin;
use crate::sys::signal::Signals;
use crate::wire::address::ListenSpec;
use crate::wire::exports::Exports;
use crate::wire::handover::State;

/// Checks what can be checked of this image's command line while the old image still runs.
pub(super) fn check_successor(args: &Args, state: &State) -> Result<()> {
    log(args)?;
    let added = added(args, state);
    for spec in &added {
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
    let changes = pin.map(|pin| pin.changes.clone()).unwrap_or_default();
    let Settings { policy, recipe, .. } = settings(args, exports, None)?;
    recipe.pin(Generation(1), Rc::new(policy), Rc::default(), changes)?;
    Ok(())
}

/// Makes the service. Does not change what was handed over, so that the old image can still go on.
pub(super) fn take_over(args: Args, state: &State, signals: Signals) -> Result<Fresh> {
    let log = log(&args)?;
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
    let settings = settings(&args, exports, state.nofile)?;
    let origin = Origin {
        nofile: state.nofile,
        ..origin(&args, &settings.recipe)
    };
    let kept = state.listeners.first().into_iter().flatten();
    let kept = kept.map(Listener::taken_over).collect::<Result<_>>()?;
    let mut tell = |text: String| log.warn(text);
    let listeners = listener::arrange(kept, &added(&args, state), true, &Retry::NONE, &mut tell)?;
    check_numbers(&args, listeners.len())?;
    check_kept(&args, state)?;
    Ok(Fresh {
        configured: Configured {
            log,
            signals,
            settings,
            listeners,
            origin,
            service_manager,
        },
    })
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
    let known = |number: &&i32| state.keep.iter().any(|(_, kept)| kept == *number);
    match args.keep_fd.iter().find(|number| !known(number)) {
        Some(number) => Err(Error::usage(format!(
            "--keep-fd {number}: the running master does not have it"
        ))),
        None => Ok(()),
    }
}
