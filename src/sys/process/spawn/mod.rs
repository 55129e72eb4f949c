//! Starting a worker: the fork, and what the child does until its program runs.
//!
//! In reading order:
//!
//! - `launch`: [`Launch`] and [`Plumbing`], what a child is started with.
//! - `clone_vm`: the fork itself. The child works in the master's memory, without a copy of it.
//! - `child`: what the child does, by system calls alone and on values of its own. It uses
//!   `strip` (what a worker must not inherit), `pid_text` (variables with the child's own pid) and
//!   `syscall` (system calls without the C library).
//! - `report`: [`SpawnOutcome`], what the child reports through a pipe.
//!
//! The way of one start: [`spawn`] prepares all memory, blocks every signal, forks, and restores
//! the mask. In the child, in this order:
//!
//! 1. session or process group, and all signals at their default;
//! 2. the announcement to the guard, before any code of the worker can run;
//! 3. descriptors, limits, working directory, variables with the pid;
//! 4. the parent-death signal. It comes last because changes of credentials clear it (prctl(2)).
//!    Then the child compares its parent with the master, which may have died before;
//! 5. the signals are unblocked, the child reports that it is about to execute, and executes.
//!
//! The signals stay blocked from before the fork until their dispositions are at the default.
//! Otherwise a signal that is sent at once would run the master's handler in the child and be lost.
//!
//! The master polls [`Spawned::outcome`] and calls [`read_outcome`] when it is readable.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::sys::signal;

mod child;
mod clone_vm;
mod launch;
mod pid_text;
mod report;
mod strip;
mod syscall;

use child::PreparedChild;
use clone_vm::ForkMethod;
pub use launch::{Launch, Leads, Plumbing};
pub use report::{SpawnOutcome, SpawnStep};

/// A child that has been forked. [`read_outcome`] tells whether its program runs.
#[derive(Debug)]
pub struct Spawned {
    /// Its pid, which is also its process group and its session, if it leads them.
    pub pid: i32,
    /// Readable once it is known whether exec succeeded; non-blocking, close-on-exec.
    pub outcome: OwnedFd,
}

/// Forks a worker; `master` is our own pid. Call it on the thread that lives as long as the
/// process: the kernel sends the parent-death signal when that thread ends (prctl(2)).
///
/// # Errors
/// What pipe2(2) or fork(2) returned: EMFILE, ENFILE, EAGAIN, ENOMEM. A failure in the child comes
/// by [`read_outcome`].
pub fn spawn(launch: &Launch, plumbing: &Plumbing<'_>, master: i32) -> io::Result<Spawned> {
    spawn_by(ForkMethod::for_this_machine(), launch, plumbing, master)
}

/// Reads the result of a start from [`Spawned::outcome`]; never blocks. `about_to_execute` belongs
/// to the child and is false at first: it keeps whether the child has reported that exec is next.
pub fn read_outcome(fd: BorrowedFd<'_>, about_to_execute: &mut bool) -> SpawnOutcome {
    // The report comes when the child leaves our memory, so this is the time to free what it used.
    clone_vm::free_lent_memory();
    report::read(fd, about_to_execute)
}

/// Whether an error of [`spawn`] may pass by itself: descriptors, processes or memory are short.
pub fn may_pass(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM)
    )
}

fn spawn_by(
    method: ForkMethod,
    launch: &Launch,
    plumbing: &Plumbing<'_>,
    master: i32,
) -> io::Result<Spawned> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let prepared = PreparedChild::new(launch, plumbing, master, write.as_fd());
    prepared.check_room(write.as_fd())?;
    let mask = signal::block_all();
    let forked = clone_vm::fork(method, prepared);
    signal::restore(mask);
    Ok(Spawned {
        pid: forked?,
        outcome: read,
    })
}

#[cfg(test)]
pub(crate) mod tests;
