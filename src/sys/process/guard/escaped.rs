//! Processes that have left their worker's group, after the master's death: daemons, and helpers in
//! a session of their own, that hold a listener of the service.
//!
//! While the master lives, they are its children sooner or later. After its death they belong to
//! pid 1 or another subreaper, as many other processes do. What tells them is the pid of the master
//! in their environment, which every process inherits that a worker starts. One that has cleared or
//! overwritten its environment is not found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::process::group::group_of;
use crate::sys::process::pidfd;
use crate::sys::process::proc_info;
use crate::sys::signal;

/// How often all processes are looked at.
const SCAN_INTERVAL: Duration = Duration::from_millis(200);

/// How often those that were told are looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The processes that have left their groups.
pub(super) struct Escaped {
    master: u32,
    listeners: BTreeSet<u64>,
    /// The groups of workers: their members have not left them.
    groups: BTreeSet<i32>,
    signal: Option<Signal>,
    kill_at: Time,
    scan_at: Time,
    told: BTreeMap<i32, OwnedFd>,
    /// A scan after the end of all workers has found none.
    are_gone: bool,
}

impl Escaped {
    pub(super) fn new(
        master: u32,
        listeners: BTreeSet<u64>,
        groups: BTreeSet<i32>,
        number: i32,
        kill_at: Time,
    ) -> Self {
        Escaped {
            master,
            // Without a listener no process holds one.
            are_gone: listeners.is_empty(),
            listeners,
            groups,
            signal: signal::from_number(number),
            kill_at,
            scan_at: Time(0),
            told: BTreeMap::new(),
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn are_gone(&self) -> bool {
        self.are_gone
    }

    /// Does what is due; returns when to come back. `workers_are_gone`: no worker can start or
    /// leave behind another one.
    pub(super) fn advance(&mut self, now: Time, workers_are_gone: bool) -> Time {
        if self.are_gone {
            return now + Duration::from_secs(3600);
        }
        let has_ended = |pidfd: &OwnedFd| pidfd::pidfd_wait(pidfd, Some(Time(0)));
        self.told
            .retain(|_, pidfd| !has_ended(pidfd).unwrap_or(false));
        if now >= self.scan_at || (workers_are_gone && self.told.is_empty()) {
            self.scan_at = now + SCAN_INTERVAL;
            let found = self.find();
            self.are_gone = workers_are_gone && found.is_empty() && self.told.is_empty();
            for (pid, pidfd) in found {
                self.tell(&pidfd);
                self.told.insert(pid, pidfd);
            }
        }
        if now >= self.kill_at {
            for pidfd in self.told.values() {
                let _ = pidfd::pidfd_signal(pidfd, Signal::Kill);
            }
        }
        if self.told.is_empty() {
            self.scan_at
        } else {
            now + CHECK_INTERVAL
        }
    }

    fn tell(&self, pidfd: &OwnedFd) {
        for signal in [self.signal, Some(Signal::Cont)].into_iter().flatten() {
            let _ = pidfd::pidfd_signal(pidfd, signal);
        }
    }

    /// Those that were not told yet.
    fn find(&self) -> Vec<(i32, OwnedFd)> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| !self.told.contains_key(pid) && self.is_ours(*pid))
            .filter_map(|pid| {
                let pidfd = pidfd::open_process(pid).ok()?;
                // The number may have been used again before the pidfd was opened.
                self.is_ours(pid).then_some((pid, pidfd))
            })
            .collect()
    }

    fn is_ours(&self, pid: i32) -> bool {
        let in_group = || group_of(pid).is_some_and(|group| self.groups.contains(&group));
        let holds = || proc_info::held_sockets(pid, &self.listeners).is_ok_and(|it| !it.is_empty());
        let master = proc_info::environment(pid).and_then(|it| it.number("PF_MASTER_PID"));
        master == Some(self.master) && !in_group() && holds() && proc_info::is_live(pid)
    }
}
