//! What a child is started with: the part that all workers of a generation share, and its own part.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, RawFd};

use crate::model::signal::Signal;
use crate::wire::environment::Environment;

/// What is started; prepared once for a generation.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program's path, already looked up.
    pub program: CString,
    /// The arguments, the program's name first.
    pub argv: Vec<CString>,
    /// The environment that all workers share, without `LISTEN_PID`.
    pub env: Environment,
    /// The variables that are added with the child's own pid: `LISTEN_PID`, `WATCHDOG_PID`.
    pub own_pid_in: Vec<&'static str>,
    /// The working directory; `None`: ours.
    pub cwd: Option<CString>,
    /// What the child leads, so that it and its descendants can be told from our other processes.
    pub leads: Leads,
    /// The signal that the kernel sends to the child when we die. None: the child outlives us.
    pub death_signal: Option<Signal>,
    /// RLIMIT_NOFILE, soft and hard; `None`: as the master's.
    pub nofile: Option<(u64, u64)>,
}

/// What a child is made the leader of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// A session of its own, and a process group in it.
    Session,
    /// A process group of its own in our session.
    Group,
    /// Nothing: the child stays in our session and process group.
    Nothing,
}

/// What one worker gets for itself: descriptors and variables. Descriptors 1 and 2 are the master's
/// unless they are named here; all others are closed.
#[derive(Debug)]
pub struct Plumbing<'a> {
    /// The worker's stdin.
    pub stdin: BorrowedFd<'a>,
    /// The other descriptors, each with the number that it gets.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// The guard's socket, and the line that announces the worker to the guard, up to its pid.
    pub guard: Option<(BorrowedFd<'a>, &'a str)>,
    /// The worker's own part of the environment.
    pub env: &'a [CString],
}
