//! From the options to the settings, from which everything follows that a generation is pinned
//! from: command, environment, policy, addresses.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::cli::{Args, Term};
use crate::driver::pin::{Environment, Recipe, Settings, is_ours};
use crate::error::{Error, Result};
use crate::model::policy::{Policy, StopSeverity};
use crate::sys::process::program;
use crate::sys::process::successor::Origin;
use crate::wire::exports::Exports;

/// What the operator asked for. `nofile`: RLIMIT_NOFILE as the master inherited it.
pub(super) fn settings(
    args: &Args,
    exports: Exports,
    nofile: Option<(u64, u64)>,
) -> Result<Settings> {
    let mut recipe = recipe(args, exports)?;
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
fn recipe(args: &Args, exports: Exports) -> Result<Recipe> {
    let own: Environment = std::env::vars_os()
        .filter(|(name, _)| !is_ours(name))
        .collect();
    let variable = |name: &str| {
        own.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let start_dir = program::start_dir(variable("PWD").as_deref())
        .map_err(|error| Error::system("cannot find the working directory", error))?;
    Ok(Recipe {
        command: args.command.clone(),
        start_dir,
        chdir: args.chdir.clone(),
        notify_dir: args.notify_path.clone(),
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

/// How this process was started: what an upgrade executes again.
pub(super) fn origin(args: &Args, recipe: &Recipe) -> Origin {
    let reexec = args.reexec.clone().map(OsString::from);
    Origin::of_this_process(reexec, recipe.start_dir.clone())
}
