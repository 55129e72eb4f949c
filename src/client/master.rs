//! The process of a running master: signal it, kill it, wait until it is gone.

use std::collections::BTreeMap;

use super::deadline::{Idle, next_stretch};
use super::failure::{denied_or_system, not_running};
use crate::error::{Error, Result};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::process::pidfd::HeldProcess;
use crate::sys::process::{descendants, proc_info};
use crate::wire::names::HOLD_VARIABLE;

/// What the holder is called in /proc.
const HOLDER: &str = "pf-listen";

/// A running master, held: its pid cannot become the pid of another process meanwhile.
#[derive(Debug)]
pub struct Master {
    pid: i32,
    process: HeldProcess,
}

impl Master {
    /// A process that is known to be the master.
    pub(super) fn new(pid: i32, process: HeldProcess) -> Self {
        Master { pid, process }
    }

    /// The pid, as seen from this pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal to the master.
    ///
    /// # Errors
    /// Exit 4: no permission. Exit 3: the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal).map_err(|error| {
            if self.wait_gone(Some(Time(0))).unwrap_or(false) {
                return not_running(format!("process {} has gone", self.pid));
            }
            denied_or_system(
                format!("cannot send {signal} to process {}", self.pid),
                &error,
            )
        })
    }

    /// The `pf-listen --hold` whose child the master is, if there is one.
    pub fn holder(&self) -> Option<Master> {
        let holder = proc_info::parent(self.pid)?;
        let named = proc_info::environment(self.pid)?.number(HOLD_VARIABLE);
        if named != Some(holder) || proc_info::name(holder)? != HOLDER {
            return None;
        }
        let process = HeldProcess::open(holder).ok()?;
        // Still its parent: so the pidfd is the holder's.
        (proc_info::parent(self.pid) == Some(holder)).then(|| Master::new(holder, process))
    }

    /// Kills the master and all its descendants; returns these. The master is stopped first: a
    /// stopped master neither starts a replacement nor reaps a killed worker. A holder is told to
    /// end: otherwise it would start the master again.
    ///
    /// # Errors
    /// As for [`signal`](Self::signal).
    pub fn kill_with_descendants(&self) -> Result<Vec<Master>> {
        let mut killed = BTreeMap::new();
        if let Some(holder) = self.holder() {
            holder.signal(Signal::Term)?;
        }
        // No signal from inside its pid namespace stops or kills pid 1 (pid_namespaces(7)), and pid
        // 1 would start killed workers again.
        if self.pid != 1 {
            self.signal(Signal::Stop)?;
            killed = descendants::kill_descendants(self.pid, &|| {
                !self.wait_gone(Some(Time(0))).unwrap_or(true)
            });
        }
        self.signal(Signal::Kill)?;
        let killed = killed.into_iter();
        Ok(killed
            .map(|(pid, process)| Master::new(pid, process))
            .collect())
    }

    /// The process in words, after KILL.
    pub fn describe(&self) -> String {
        let name = proc_info::name(self.pid).unwrap_or_default();
        format!("process {} ({name}) still runs after KILL", self.pid)
    }

    /// Waits until the master has exited, at most until `deadline`; returns whether it has exited.
    /// A zombie has exited: its parent may reap it late.
    pub fn wait_gone(&self, deadline: Option<Time>) -> Result<bool> {
        self.wait_gone_idle(deadline, None)
    }

    /// As [`wait_gone`](Self::wait_gone), and calls `idle` meanwhile.
    pub fn wait_gone_idle(&self, deadline: Option<Time>, idle: Idle<'_>) -> Result<bool> {
        loop {
            let until = next_stretch(deadline, idle);
            let gone = self.process.wait(until).map_err(|error| {
                Error::system(format!("cannot wait for process {}", self.pid), error)
            })?;
            if gone || until == deadline {
                return Ok(gone);
            }
            idle.inspect(|idle| idle());
        }
    }
}
