//! The guard process, kept alive: it stops the workers' groups should the master be killed.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::WorkerProcess;
use crate::model::time::Time;
use crate::sys::io::left_open::LeftOpen;
use crate::sys::process::guard::Guard;
use crate::sys::process::wait;
use crate::wire::handover;

/// How long the master waits after a failed start of the guard until it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The guard, if it lives, and when to start another if it does not.
pub(super) struct GuardKeeper {
    guard: Option<Guard>,
    retry_at: Option<Time>,
    /// The listeners that the guard knows, by their inodes.
    named: BTreeSet<u64>,
}

/// What a look at the guard has found.
pub(in crate::driver) enum GuardCheck {
    Alive,
    /// It had died, and was started again.
    Restarted,
    /// It had died and cannot be started: for the first time since it lived, or again.
    Failed {
        error: io::Error,
        first: bool,
    },
}

impl GuardKeeper {
    /// Starts the guard.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self::of(Some(Guard::start()?)))
    }

    /// From the image before.
    pub(super) fn taken_over(guard: &handover::Guard, left: &mut LeftOpen) -> io::Result<Self> {
        Ok(Self::of(Some(Guard::taken_over(guard, left)?)))
    }

    /// There is none; the first check starts one.
    pub(super) fn without_guard() -> Self {
        Self::of(None)
    }

    fn of(guard: Option<Guard>) -> Self {
        GuardKeeper {
            guard,
            retry_at: None,
            named: BTreeSet::new(),
        }
    }

    pub(super) fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.guard.as_ref().map(Guard::pid)
    }

    /// Through this socket a worker announces itself to the guard.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.guard.as_ref().map(Guard::socket)
    }

    /// A worker is about to get these listeners.
    pub(super) fn name_listeners(&mut self, inodes: impl Iterator<Item = u64>) {
        let Some(guard) = &self.guard else {
            return;
        };
        for inode in inodes {
            if !self.named.contains(&inode) && guard.name_listener(inode) {
                self.named.insert(inode);
            }
        }
    }

    /// The group of this leader is empty.
    pub(super) fn forget(&self, leader: i32) {
        if let Some(guard) = &self.guard {
            guard.forget(leader);
        }
    }

    /// When to try again to start it.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.retry_at
    }

    /// Starts the guard again if it has died, and tells it of all workers.
    pub(super) fn check<'a>(
        &mut self,
        now: Time,
        workers: impl Iterator<Item = &'a WorkerProcess>,
    ) -> GuardCheck {
        if let Some(guard) = &self.guard {
            match wait::peek(guard.pid()) {
                Ok(None) => return GuardCheck::Alive,
                Ok(Some(_)) | Err(_) => drop(wait::reap(guard.pid())),
            }
        }
        self.guard = None;
        match Guard::start() {
            Ok(guard) => {
                for process in workers {
                    let (pidfd, leader) = (process.group.pidfd(), process.group.leader());
                    guard.watch(leader, pidfd.as_ref().map(AsFd::as_fd), process.stop_terms);
                }
                self.named.retain(|inode| guard.name_listener(*inode));
                self.guard = Some(guard);
                self.retry_at = None;
                GuardCheck::Restarted
            }
            Err(error) => {
                let first = self.retry_at.replace(now + RETRY_AFTER).is_none();
                GuardCheck::Failed { error, first }
            }
        }
    }

    /// Ends the guard: no worker is left.
    pub(super) fn end(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.kill();
        }
    }
}
