//! `--daemonize`: the service detaches, and the caller waits until it is up or has failed (U31).

use super::cli::Args;
use super::start::serve;
use crate::error::{Error, Exit, Result};
use crate::sys::notify;
use crate::sys::process::daemon;
use crate::sys::process::daemon::{Caller, Side, Verdict};
use crate::sys::process::parent;
use crate::sys::process::wait::WaitStatus;
use crate::sys::signal;
use crate::sys::signal::Signals;

/// Forks. The caller waits for the outcome, and the daemon runs the service; both return here.
pub(super) fn start(args: Args, signals: Signals) -> Result<Exit> {
    let launch_pid = std::process::id();
    if launch_pid == 1 {
        return Err(Error::usage(
            "--daemonize: pid 1 has no parent to detach from, and its exit ends every process",
        )
        .hint("leave the option out"));
    }
    if parent::is_holder(std::env::var("PF_HOLD").ok().as_deref()) {
        return Err(Error::usage(
            "--daemonize: pf-listen --hold would take the exit for a crash and start it again",
        )
        .hint("leave out one of the two"));
    }
    let side = daemon::detach().map_err(|error| Error::system("cannot detach", error))?;
    match side {
        Side::Caller(caller) => wait(caller, &signals),
        Side::Daemon(launcher) => {
            let result = serve(args, signals, launch_pid, Some(launcher.clone()));
            // Both calls do nothing if the service was up.
            match &result {
                Ok(_) => launcher.failed(Exit::Failed.code(), "stopped before it was ready"),
                Err(error) => launcher.failed(error.exit.code(), &error.to_string()),
            }
            result
        }
    }
}

fn wait(caller: Caller, handlers: &Signals) -> Result<Exit> {
    // By default a service manager accepts notifications only from its main process (NotifyAccess=
    // in systemd.service(5)), which is this one. So MAINPID is sent before the daemon may send
    // anything, which `release` allows.
    if let Some(manager) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) {
        // If the manager cannot be reached, the daemon reports that.
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
        Verdict::Failed(code, why) => Err(Error::new(exit_from(code), why, "")),
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
            // Die of the signal, so that a shell that runs a script stops too.
            daemon::die_of(signal);
            Err(died(format!("was stopped by {signal} before it was ready")))
        }
    }
}

/// The exit that the daemon reports by this code.
fn exit_from(code: u8) -> Exit {
    let all = [Exit::Usage, Exit::Refused, Exit::System];
    let same = all.into_iter().find(|exit| exit.code() == code);
    same.unwrap_or(Exit::Failed)
}
