//! The processes behind the model's [`LeftoverId`]s: what workers left behind outside their groups.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::log::Log;
use crate::model::ids::LeftoverId;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::process::pidfd::{open_process, pidfd_signal, pidfd_wait};

/// How long after a worker's end the master looks for what it left behind: one look for all that
/// end within this time.
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// One such process. The pidfd names it also after its number is used again.
struct Process {
    id: LeftoverId,
    pidfd: OwnedFd,
}

/// All that the last look has found, by their pids.
#[derive(Default)]
pub(in crate::driver) struct Leftovers {
    by_pid: BTreeMap<i32, Process>,
    last_id: u64,
    look_at: Option<Time>,
}

impl Leftovers {
    /// A worker has ended.
    pub(in crate::driver) fn look_soon(&mut self, now: Time) {
        self.look_at.get_or_insert(now + LOOK_AFTER);
    }

    /// When to look.
    pub(in crate::driver) fn deadline(&self) -> Option<Time> {
        self.look_at
    }

    /// These processes were reaped; whether one of them is among those that were found.
    pub(in crate::driver) fn forget(&mut self, reaped: &[i32]) -> bool {
        let before = self.by_pid.len();
        self.by_pid.retain(|pid, _| !reaped.contains(pid));
        self.by_pid.len() < before
    }

    /// A look has found these processes: their ids, in the same order. `None`: it has gone
    /// meanwhile, or the kernel gives no pidfd.
    pub(in crate::driver) fn found(&mut self, pids: &[i32]) -> Vec<Option<LeftoverId>> {
        self.look_at = None;
        let has_ended = |pidfd: &OwnedFd| pidfd_wait(pidfd, Some(Time(0))).unwrap_or(false);
        self.by_pid
            .retain(|pid, process| pids.contains(pid) && !has_ended(&process.pidfd));
        pids.iter().map(|pid| self.id_of(*pid)).collect()
    }

    fn id_of(&mut self, pid: i32) -> Option<LeftoverId> {
        if let Some(process) = self.by_pid.get(&pid) {
            return Some(process.id);
        }
        let pidfd = open_process(pid).ok()?;
        self.last_id += 1;
        let id = LeftoverId(self.last_id);
        self.by_pid.insert(pid, Process { id, pidfd });
        Some(id)
    }

    /// Sends a signal that is to end it, and CONT after it, since a stopped process would never
    /// handle it.
    pub(in crate::driver) fn signal(&self, id: LeftoverId, signal: Signal, log: &Log) {
        let mut all = self.by_pid.iter();
        let Some((pid, process)) = all.find(|(_, process)| process.id == id) else {
            return;
        };
        let sent = pidfd_signal(&process.pidfd, signal).and_then(|()| match signal {
            Signal::Kill => Ok(()),
            _ => pidfd_signal(&process.pidfd, Signal::Cont),
        });
        if let Err(error) = sent {
            log.error(format_args!(
                "cannot send {signal} to process {pid}, which a worker left behind: {error}"
            ));
        }
    }
}
