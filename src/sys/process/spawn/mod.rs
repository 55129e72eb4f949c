//! Starting a worker: fork, and what the child does until its program runs.
//!
//! Every signal is blocked from before the fork until all dispositions are the default; without that, a signal sent at once
//! would run the master's handler in the child and be lost. The parent-death signal is armed last, since changes of
//! credentials clear it, and then the parent is compared with the one that was meant, since it may have died before.
//!
//! - `apart`: the fork itself. The child works in the master's memory, as a copy would be made for nothing.
//! - `prepared`: what the child does, by system calls alone (`raw`), on values that it has for itself.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::model::signal::Signal;
use crate::sys::signal;

mod child;
mod clone_vm;
mod stamped;
mod strip;
mod syscall;

use child::{ABOUT_TO_EXECUTE, Prepared, RECORD};
use clone_vm::Way;

/// What is started; prepared once for a generation.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program's path, already looked up.
    pub program: CString,
    /// The arguments, the program's name first.
    pub argv: Vec<CString>,
    /// The environment that all of them have, `K=V` each, without `LISTEN_PID`.
    pub env: Vec<CString>,
    /// The variables that are added with the child's own pid: `LISTEN_PID`, `WATCHDOG_PID`.
    pub own_pid_in: Vec<&'static str>,
    /// The working directory; `None`: ours.
    pub cwd: Option<CString>,
    /// What it leads, so that it can be told from us, and all that it begins with it.
    pub leads: Leads,
    /// What the kernel sends the child when we die. None: it is somebody who outlives us.
    pub death_signal: Option<Signal>,
    /// RLIMIT_NOFILE, soft and hard; `None`: as the master's.
    pub nofile: Option<(u64, u64)>,
}

/// What a child is made the leader of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// A session of its own, and in it a process group.
    Session,
    /// A process group of its own in our session.
    Group,
    /// Nothing: it stays in our session and process group.
    Nothing,
}

/// What one worker gets for itself: descriptors (1 and 2 are the master's unless they are named here; all others are closed), and variables.
#[derive(Debug)]
pub struct Plumbing<'a> {
    /// Its stdin.
    pub stdin: BorrowedFd<'a>,
    /// Whatever else, each with the number that it gets.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// The guard's socket, and the line that announces the worker there, up to its pid.
    pub guard: Option<(BorrowedFd<'a>, &'a str)>,
    /// Its own part of the environment.
    pub env: &'a [CString],
}

/// A child that has been forked. Whether its program runs is told by [`outcome`].
#[derive(Debug)]
pub struct Spawned {
    /// Its pid, which is also its process group, and its session if it leads one.
    pub pid: i32,
    /// Readable once it is known whether exec succeeded; non-blocking, close-on-exec.
    pub outcome: OwnedFd,
}

/// The step at which a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A session, or a process group, of its own.
    Session,
    /// The descriptors.
    Descriptors,
    /// The limit of open files.
    Limits,
    /// The working directory.
    Directory,
    /// The parent-death signal.
    DeathSignal,
    /// The program.
    Exec,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Session => "cannot make a session or process group",
            Stage::Descriptors => "cannot place its descriptors",
            Stage::Limits => "cannot set its limit of open files",
            Stage::Directory => "cannot change to its working directory",
            Stage::DeathSignal => "cannot arm its death signal",
            Stage::Exec => "cannot execute its program",
        })
    }
}

const STAGES: [Stage; 6] = [
    Stage::Session,
    Stage::Descriptors,
    Stage::Limits,
    Stage::Directory,
    Stage::DeathSignal,
    Stage::Exec,
];

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The program runs.
    Executed,
    /// The child ended before it came to execute its program; its wait status tells how.
    Died,
    /// It does not run, and the child exits at once.
    Failed {
        /// The step that failed.
        stage: Stage,
        /// Why.
        errno: i32,
    },
    /// Not known yet.
    Pending,
}

/// Reads what became of a start, from [`Spawned::outcome`]; never waits. `about`: whether the child was about to execute its program, false
/// at first; end of file alone tells only that the child is gone or was executed.
pub fn outcome(fd: BorrowedFd<'_>, about: &mut bool) -> Outcome {
    clone_vm::tidy();
    loop {
        let mut record = [0u8; RECORD];
        let read = nix::unistd::read(fd, &mut record);
        let [stage, _, _, _, errno @ ..] = record;
        return match read {
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Outcome::Pending,
            Ok(0) if *about => Outcome::Executed,
            Ok(0) => Outcome::Died,
            Ok(_) if stage == ABOUT_TO_EXECUTE => {
                *about = true;
                continue;
            }
            Ok(_) => Outcome::Failed {
                stage: STAGES
                    .get(usize::from(stage))
                    .copied()
                    .unwrap_or(Stage::Exec),
                errno: i32::from_ne_bytes(errno),
            },
            Err(errno) => Outcome::Failed {
                stage: Stage::Exec,
                errno: errno as i32,
            },
        };
    }
}

/// Forks a worker; `master` is our own pid. To be called on the thread that lives as long as the process: the parent-death
/// signal is tied to it.
///
/// # Errors
/// What pipe2(2) or fork(2) said: EMFILE, ENFILE, EAGAIN, ENOMEM. What fails in the child is told by [`outcome`].
pub fn spawn(launch: &Launch, plumbing: &Plumbing<'_>, master: i32) -> io::Result<Spawned> {
    spawn_in(Way::usual(), launch, plumbing, master)
}

/// Whether what [`spawn`] said may pass by itself: there is too little of something just now.
pub fn may_pass(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM)
    )
}

fn spawn_in(
    way: Way,
    launch: &Launch,
    plumbing: &Plumbing<'_>,
    master: i32,
) -> io::Result<Spawned> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let prepared = Prepared::new(launch, plumbing, master, write.as_fd());
    let mask = signal::block_all();
    let forked = clone_vm::fork(way, prepared);
    signal::restore(mask);
    Ok(Spawned {
        pid: forked?,
        outcome: read,
    })
}

#[cfg(test)]
pub(crate) mod tests;
