//! `--daemonize`: the service detaches, and the shell hears what became of it (U31).

use super::cli::Args;
use crate::error::{Error, Exit, Result};
use crate::sys::notify;
use crate::sys::process::daemon;
use crate::sys::process::daemon::{Caller, Side, Verdict};
use crate::sys::process::parent;
use crate::sys::process::wait::WaitStatus;
use crate::sys::signal;
use crate::sys::signal::Signals;

/// Runs as both: the caller, which waits, and the daemon.
pub(super) fn start(args: Args, signals: Signals) -> Result<Exit> {
    let born = std::process::id();
    if born == 1 {
        return Err(Error::usage(
            "--daemonize: pid 1 has nobody to detach from, and its end is everybody's",
        )
        .hint("leave the option out"));
    }
    if parent::is_holder(std::env::var("PF_HOLD").ok().as_deref()) {
        return Err(Error::usage(
            "--daemonize: pf-listen --hold would take it for dead and start another",
        )
        .hint("leave out one of the two"));
    }
    let side = daemon::detach().map_err(|error| Error::system("cannot detach", error))?;
    match side {
        Side::Caller(caller) => wait(caller, &signals),
        Side::Daemon(launcher) => {
            let result = super::serve(args, signals, born, Some(launcher.clone()));
            // Of no effect once the service was up.
            match &result {
                Ok(_) => launcher.failed(Exit::Failed.code(), "stopped before it was ready"),
                Err(error) => launcher.failed(error.exit.code(), &error.to_string()),
            }
            result
        }
    }
}

fn wait(caller: Caller, handlers: &Signals) -> Result<Exit> {
    // A service manager listens to its main process alone, which is this one; so it is told before the other can say a word.
    if let Some(manager) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) {
        // The daemon says so if nobody can be told.
        let _ = notify::send(&manager, &format!("MAINPID={}", caller.daemon()));
    }
    caller.release();
    let daemon = caller.daemon();
    let died = |how: String| Error::new(Exit::Failed, format!("the daemon, process {daemon}"), how);
    let verdict = caller
        .wait(|signal| handlers.was_ignored(signal))
        .map_err(|error| Error::system("cannot wait for the daemon", error))?;
    match verdict {
        Verdict::Ready => Ok(Exit::Done),
        Verdict::Failed(code, why) => Err(Error::new(known(code), why, "")),
        Verdict::Died(Some(WaitStatus::Exited(code))) => {
            Err(died(format!("exited with code {code} before it was ready")))
        }
        Verdict::Died(Some(WaitStatus::Signaled { signal, .. })) => {
            let name = signal::from_number(signal)
                .map_or_else(|| format!("signal {signal}"), |signal| signal.to_string());
            Err(died(format!("was killed by {name} before it was ready")))
        }
        Verdict::Died(None) => Err(died("ended before it was ready".to_owned())),
        Verdict::Interrupted(signal) => {
            // So that a script's shell stops, too.
            daemon::die_of(signal);
            Err(died(format!("was stopped by {signal} before it was ready")))
        }
    }
}

/// The exit with this code.
fn known(code: u8) -> Exit {
    let all = [Exit::Usage, Exit::Refused, Exit::System];
    let same = all.into_iter().find(|exit| exit.code() == code);
    same.unwrap_or(Exit::Failed)
}
