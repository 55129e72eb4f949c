//! Everything before the first connection: listeners, handler program, limits.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::cli::{Args, PROGRAM};
use super::handlers::Handlers;
use super::manager::Manager;
use crate::driver::pin::is_ours;
use crate::error::{Error, Exit, Result};
use crate::log::{Format, Log, Sink};
use crate::model::machines::acceptor::{AcceptLimits, Acceptor};
use crate::model::signal::Signal;
use crate::sys::io::fd;
use crate::sys::listener::shared_accept;
use crate::sys::listener::shared_accept::SharedListeners;
use crate::sys::listener::{self, Listener};
use crate::sys::machine::{clock, environment, limits};
use crate::sys::process::spawn::{Launch, Leads};
use crate::sys::process::{program, wait};
use crate::sys::signal::Signals;
use crate::wire::ucspi;

/// Descriptors for each handler, from its start until its process group is empty.
const FDS_PER_HANDLER: u64 = 2;

/// Descriptors for one start: the connection, the two ends of the pipe that reports the exec, and
/// the pidfd of the group.
const FDS_PER_START: usize = 4;

/// Descriptors for everything else, a generous number.
const OTHER_FDS: u64 = 64;

/// Everything that serving needs.
pub(super) struct Setup {
    pub(super) log: Log,
    pub(super) signals: Signals,
    pub(super) listeners: SharedListeners,
    pub(super) handlers: Handlers,
    pub(super) manager: Manager,
    pub(super) acceptor: Acceptor,
}

/// Prepares it.
pub(super) fn prepare(args: &Args, signals: Signals) -> Result<Setup> {
    let verbosity = match (args.verbose, args.quiet) {
        (true, _) => 1,
        (_, true) => -2,
        _ => -1,
    };
    let log = Log::new(PROGRAM, Sink::Stderr, Format::Text, verbosity)?;
    let listeners = inherited(&log)?;
    let manager = Manager::from_environment(&log);
    // Processes that a handler leaves become children of this process, so that it sees their exit.
    wait::become_subreaper().map_err(|error| Error::system("cannot become a subreaper", error))?;
    let handlers = Handlers::new(launch(args, raise_nofile(args.max_clients))?);
    for listener in &listeners {
        log.info(format_args!("accepting on {}", listener.label()));
    }
    let listeners = SharedListeners::new(listeners, signals.fd(), args.serialize)
        .map_err(|error| Error::system("cannot wait for connections", error))?;
    // Later a shortage may pass. But with a limit below this, no connection could ever be served.
    fd::check_room_for(FDS_PER_START, signals.fd()).map_err(|error| {
        let what = format!(
            "cannot serve a connection with a limit of {} descriptors",
            limits::nofile()
        );
        Error::system(what, error).hint("raise the limit: ulimit -n")
    })?;
    let accept_limits = AcceptLimits {
        clients: args.max_clients,
        max_requests: args.max_requests.on(),
        client_timeout: args.client_timeout.on(),
        idle_timeout: args.idle_timeout.on(),
        drain_timeout: args.drain_timeout,
        beat: manager.beat_interval(),
    };
    Ok(Setup {
        log,
        signals,
        listeners,
        handlers,
        manager,
        acceptor: Acceptor::new(accept_limits, clock::now()),
    })
}

/// Raises the limit of descriptors if this number of handlers needs it. Returns the limits from
/// before, which the handlers get.
fn raise_nofile(clients: u32) -> Option<(u64, u64)> {
    let needed = u64::from(clients) * FDS_PER_HANDLER + OTHER_FDS;
    (needed > limits::nofile()).then(limits::raise_nofile)?
}

fn inherited(log: &Log) -> Result<Vec<Listener>> {
    let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
    let mut warnings = Vec::new();
    let mut warn = |text| warnings.push(text);
    let given = listener::inherit(|name| std::env::var_os(name), own, Some(parent), &mut warn)?;
    // Without a listener, the last warning is most likely the reason.
    match (given.listeners.is_empty(), warnings.pop()) {
        (true, Some(why)) => return Err(Error::system("no listener", why)),
        (true, None) => {
            return Err(Error::system("no listener", "none was inherited")
                .hint("start it as in: pf-listen 127.0.0.1:8080 -- pf-accept -- cat"));
        }
        (false, last) => warnings.extend(last),
    }
    warnings.iter().for_each(|text| log.warn(text));
    for listener in &given.listeners {
        shared_accept::check_has_connections(listener).map_err(|why| {
            Error::system(format!("cannot accept on {}", described(listener)), why)
        })?;
    }
    Ok(given.listeners)
}

/// `fd 3, web udp:127.0.0.1:53,`.
fn described(listener: &Listener) -> String {
    let fd = listener
        .source
        .map(|fd| format!("fd {fd}, "))
        .unwrap_or_default();
    let name = listener
        .name
        .as_ref()
        .map(|name| format!("{name} "))
        .unwrap_or_default();
    format!("{fd}{name}{}", listener.address)
}

fn launch(args: &Args, nofile: Option<(u64, u64)>) -> Result<Launch> {
    let Some(name) = args.handler.first() else {
        return Err(Error::usage("no HANDLER"));
    };
    let path = std::env::var_os("PATH");
    // Without a working directory, an absolute path or one from PATH can still be found.
    let cwd = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let program = program::find(name, &cwd, path.as_deref()).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let exit = if missing {
            Exit::NotFound
        } else {
            Exit::NotExecutable
        };
        Error::new(
            exit,
            format!("cannot execute {}", Path::new(name).display()),
            error,
        )
    })?;
    let mut env = environment::own();
    env.retain(|name| !is_about_worker(name));
    Ok(Launch {
        program: text(program.as_os_str())?,
        argv: args
            .handler
            .iter()
            .map(|word| text(word))
            .collect::<Result<_>>()?,
        env,
        own_pid_in: vec![],
        cwd: None,
        leads: Leads::Group,
        // Without this process, no timeout would end the handler, and no log would name it.
        death_signal: Some(Signal::Kill),
        nofile,
    })
}

/// Whether a variable is about this worker, and so must not reach a handler.
fn is_about_worker(name: &OsStr) -> bool {
    is_ours(name) || ucspi::is_ucspi(name)
}

fn text(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| Error::usage("an argument or a variable contains a NUL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_get_no_variable_about_the_worker() {
        for name in [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "PF_HEARTBEAT_FD",
            "PF_WORKER",
            "PF_GENERATION",
            "PF_MASTER_PID",
            "PF_HOLD",
            "EINHORN_FD_0",
            "EINHORN_SOCK_PATH",
            "SERVER_STARTER_PORT",
            "UNICORN_FD",
            "NGINX",
            "FPM_SOCKETS",
            "TCPREMOTEHOST",
            "PROTO",
        ] {
            assert!(is_about_worker(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "HOME", "PF_RELEASE", "LISTEN", "NGINX_CONF"] {
            assert!(!is_about_worker(OsStr::new(name)), "{name}");
        }
    }
}
