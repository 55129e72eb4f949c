//! How a worker's process ended, and why: the closed set of the status document.

use super::ids::WorkerId;
use super::signal::Signal;
use super::time::Time;

/// How a worker's leader ended, as the system told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it (None: one that has no name here), leaving a core or not.
    Signaled(Option<Signal>, bool),
}

/// How many processes of a cgroup the kernel has killed for want of memory so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomCount {
    /// The cgroup.
    pub group: String,
    /// So many.
    pub kills: u64,
}

/// When a count of OOM kills is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomReading {
    /// As this image starts: that of the master's cgroup.
    AtStart,
    /// This worker has died of a KILL, and its end is told next: that of its cgroup.
    AfterKill(WorkerId),
    /// A worker has ended, and none of those that ended with it has died of a KILL: that of its
    /// cgroup.
    AfterExit,
}

/// Why a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It exited by itself.
    Exited,
    /// A signal that the master did not send ended it.
    Signaled,
    /// The kernel killed it for want of memory, as its cgroup's count says.
    Oom,
    /// It missed its heartbeat.
    KilledHeartbeat,
    /// There were more retiring workers than `--max-draining`, and it was the oldest.
    KilledLimit,
    /// It did not go within its graceful (or quick) timeout.
    KilledGracefulTimeout,
    /// It was not ready within its start timeout.
    KilledStartTimeout,
    /// The program could not be executed.
    ExecFailed,
    /// There never was a process.
    SpawnFailed,
    /// The master asked it to.
    Stopped,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 10] = [
        Cause::Exited,
        Cause::Signaled,
        Cause::Oom,
        Cause::KilledHeartbeat,
        Cause::KilledLimit,
        Cause::KilledGracefulTimeout,
        Cause::KilledStartTimeout,
        Cause::ExecFailed,
        Cause::SpawnFailed,
        Cause::Stopped,
    ];

    /// The word in the status document.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Exited => "exited",
            Cause::Signaled => "signaled",
            Cause::Oom => "oom",
            Cause::KilledHeartbeat => "killed-heartbeat",
            Cause::KilledLimit => "killed-limit",
            Cause::KilledGracefulTimeout => "killed-graceful-timeout",
            Cause::KilledStartTimeout => "killed-start-timeout",
            Cause::ExecFailed => "exec-failed",
            Cause::SpawnFailed => "spawn-failed",
            Cause::Stopped => "stopped",
        }
    }
}

/// How and why a slot's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastExit {
    /// The worker.
    pub worker: WorkerId,
    /// Why.
    pub cause: Cause,
    /// How; None where there was no process.
    pub ended: Option<ExitStatus>,
    /// When.
    pub at: Time,
}
