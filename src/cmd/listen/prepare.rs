//! Binds the listeners, and makes the environment of COMMAND.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, RawFd};

use super::cli::{Args, PROGRAM};
use super::port_file;
use crate::cmd::hand_on::{Environment, environment, exported};
use crate::cmd::program::print_line;
use crate::error::{Error, Result};
use crate::sys::io::fd;
use crate::sys::listener::{self, Listener, Retry};
use crate::wire::address::ListenSpec;
use crate::wire::exports::{self, Exports};
use crate::wire::listen_env::FIRST_FD;

/// The address to bind where no ADDRESS is given and no listener is inherited.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// The variable that names the heartbeat page of a worker.
const HEARTBEAT: &str = "PF_HEARTBEAT_FD";

/// Binds the listeners. Returns them and the environment of COMMAND.
pub(super) fn prepare(args: &Args) -> Result<(Vec<Listener>, Environment)> {
    let mut log = |line: String| {
        if !args.quiet {
            print_line(PROGRAM, &line);
        }
    };
    let inherited = listener::inherit(
        |key| std::env::var_os(key),
        std::process::id(),
        Some(std::os::unix::process::parent_id()),
        &mut log,
    )?;
    let protocols = Exports::new(&args.export, &inherited.protocols).protocols();
    let inherited = inherited.listeners;
    let default = [default_spec()?];
    let specs = match args.addresses.as_slice() {
        [] if inherited.is_empty() => &default[..],
        addresses => addresses,
    };
    let retry = Retry {
        tries: u32::try_from(args.tries).ok(),
        delay: args.delay,
    };
    for spec in specs {
        exports::check_spec(&protocols, spec).map_err(Error::usage)?;
    }
    let keep_all = args.add || args.addresses.is_empty();
    let listeners = listener::arrange(inherited, specs, keep_all, &retry, &mut log)?;
    let exported = exported(&protocols, &listeners)?;
    if let Some(file) = &args.port_file {
        port_file::write(file, &listeners)?;
    }
    if args.verbose {
        for (fd, listener) in (FIRST_FD..).zip(&listeners) {
            log(described(fd, listener));
        }
    }
    let mut environment = environment(&listeners, exported);
    move_heartbeat(&mut environment, listeners.len())?;
    warn_of_replaced_fds(&listeners, &mut log);
    Ok((listeners, environment))
}

fn default_spec() -> Result<ListenSpec> {
    DEFAULT_ADDRESS.parse().map_err(Error::usage)
}

/// `fd 3: web tcp:127.0.0.1:8080, backlog 4096`.
fn described(fd: RawFd, listener: &Listener) -> String {
    let name = listener
        .name
        .as_ref()
        .map(|name| format!("{name} "))
        .unwrap_or_default();
    let backlog = listener
        .backlog()
        .map(|backlog| format!(", backlog {backlog}"))
        .unwrap_or_default();
    format!("fd {fd}: {name}{}{backlog}", listener.address)
}

fn warn_of_replaced_fds(listeners: &[Listener], log: &mut dyn FnMut(String)) {
    let numbers: Vec<RawFd> = listeners
        .iter()
        .map(|listener| listener.fd.as_raw_fd())
        .collect();
    for number in fd::unrelated_at_targets(&numbers, FIRST_FD) {
        let index = usize::try_from(number - FIRST_FD).unwrap_or_default();
        let label = listeners
            .get(index)
            .map(Listener::label)
            .unwrap_or_default();
        log(format!(
            "fd {number} ({}) is replaced by the listener {label}",
            fd::describe_file(number)
        ));
    }
}

/// A worker that adds a listener (U3) may have its heartbeat page at the fd of the listener. Then
/// the page moves to the first fd behind the listeners, and the variable names that.
fn move_heartbeat(environment: &mut [(OsString, OsString)], listeners: usize) -> Result<()> {
    let end = FIRST_FD.saturating_add(RawFd::try_from(listeners).unwrap_or(RawFd::MAX));
    let found = environment.iter_mut().find(|(key, _)| key == HEARTBEAT);
    let Some((_, value)) = found else {
        return Ok(());
    };
    let number = value.to_str().and_then(|number| number.parse().ok());
    let unrelated_at_targets = |fd: &RawFd| (FIRST_FD..end).contains(fd) && fd::survives_exec(*fd);
    if let Some(fd) = number.filter(unrelated_at_targets) {
        *value = fd::move_for_exec(fd, end)?.to_string().into();
    }
    Ok(())
}
