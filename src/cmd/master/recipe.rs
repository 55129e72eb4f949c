//! From the options to the settings, from which everything follows that a generation is pinned
//! from: command, environment, policy, addresses.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::cli::{Args, Term};
use crate::driver::pin::{Recipe, Settings, is_ours};
use crate::error::{Error, Result};
use crate::model::policy::{Policy, StopSeverity};
use crate::sys::process::program;
use crate::sys::process::successor::Origin;
use crate::wire::environment::Environment;
use crate::wire::exports::Exports;

/// What the operator asked for. `given`: the environment of this process; `nofile`: RLIMIT_NOFILE
/// as the master inherited it.
pub(super) fn settings(
    args: &Args,
    given: &Environment,
    exports: Exports,
    nofile: Option<(u64, u64)>,
) -> Result<Settings> {
    let mut recipe = recipe(args, given, exports)?;
    recipe.nofile = nofile;
    Ok(Settings {
        workers: args.workers,
        policy: policy(args),
        recipe,
        listen: args.listen.clone(),
    })
}

/// The options that the model decides by.
fn policy(args: &Args) -> Policy {
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
        canary: args.canary,
        probation: args.probation.on(),
        start_failures: args.start_failures,
        backoff: args.backoff,
        give_up: args.give_up.on(),
        fatal_exit: args.fatal_exit.clone(),
    }
}

/// What generations are pinned from.
fn recipe(args: &Args, given: &Environment, exports: Exports) -> Result<Recipe> {
    let mut own = given.clone();
    own.retain(|name| !is_ours(name));
    let mut set = Environment::default();
    for setting in &args.env {
        add_setting(&mut set, setting)?;
    }
    let start_dir = program::start_dir(own.value("PWD"))
        .map_err(|error| Error::system("cannot find the working directory", error))?;
    Ok(Recipe {
        command: args.command.clone(),
        start_dir,
        chdir: args.chdir.clone(),
        notify_dir: args.notify_path.clone(),
        keep: args.keep_fd.clone(),
        path: own.value("PATH").map(OsStr::to_owned),
        set,
        environment: if args.clear_env {
            Environment::default()
        } else {
            own
        },
        exports,
        nofile: None,
    })
}

fn add_setting(set: &mut Environment, setting: &OsStr) -> Result<()> {
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
    set.push(name, value).map_err(|_| wrong())
}

/// How this process was started: what an upgrade executes again. `given`: its environment.
pub(super) fn origin(args: &Args, given: Environment, recipe: &Recipe) -> Origin {
    let reexec = args.reexec.clone().map(OsString::from);
    Origin::of_this_process(reexec, given, recipe.start_dir.clone())
}
