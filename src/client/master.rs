//! The process of a running master: signal it, kill it, wait until it is gone.

use super::failure::{denied_or_system, not_running};
use crate::error::{Error, Result};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::files::pidfile::HeldProcess;
use crate::sys::process::descendants;

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

    /// Kills the master and all its descendants. The master is stopped first: a stopped master
    /// neither starts a replacement nor reaps a killed worker.
    ///
    /// # Errors
    /// As for [`signal`](Self::signal).
    pub fn kill_with_descendants(&self) -> Result<()> {
        // No signal from inside its pid namespace stops or kills pid 1 (pid_namespaces(7)), and pid
        // 1 would start killed workers again.
        if self.pid != 1 {
            self.signal(Signal::Stop)?;
            descendants::kill_descendants(self.pid, &|| {
                !self.wait_gone(Some(Time(0))).unwrap_or(true)
            });
        }
        self.signal(Signal::Kill)
    }

    /// Waits until the master has exited, at most until `deadline`; returns whether it has exited.
    /// A zombie has exited: its parent may reap it late.
    pub fn wait_gone(&self, deadline: Option<Time>) -> Result<bool> {
        self.process
            .wait(deadline)
            .map_err(|error| Error::system(format!("cannot wait for process {}", self.pid), error))
    }
}
