//! What the child reports about its start, through a pipe that exec closes.
//!
//! The child writes a record before exec, and another one if a step fails. End of file alone does
//! not prove an exec: a child that is killed closes the pipe too. So end of file means "executed"
//! only after the record that says that the child was about to execute its program.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

/// The length of a record: the step, three bytes of padding, the error number.
pub(super) const RECORD: usize = 8;

/// In place of a step: nothing has failed, and exec is next.
pub(super) const ABOUT_TO_EXECUTE: u8 = 0xff;

/// The step of a start that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnStep {
    /// Making a session, or a process group, of its own.
    Session,
    /// Placing the descriptors.
    Descriptors,
    /// Setting the limit of open files.
    Limits,
    /// Changing to the working directory.
    Directory,
    /// Arming the parent-death signal.
    DeathSignal,
    /// Executing the program.
    Exec,
}

impl std::fmt::Display for SpawnStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SpawnStep::Session => "cannot make a session or process group",
            SpawnStep::Descriptors => "cannot place its descriptors",
            SpawnStep::Limits => "cannot set its limit of open files",
            SpawnStep::Directory => "cannot change to its working directory",
            SpawnStep::DeathSignal => "cannot arm its death signal",
            SpawnStep::Exec => "cannot execute its program",
        })
    }
}

/// By the number that a record has for each.
const STEPS: [SpawnStep; 6] = [
    SpawnStep::Session,
    SpawnStep::Descriptors,
    SpawnStep::Limits,
    SpawnStep::Directory,
    SpawnStep::DeathSignal,
    SpawnStep::Exec,
];

/// The result of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnOutcome {
    /// The program runs.
    Executed,
    /// The child ended before it came to execute its program; its wait status tells how.
    Died,
    /// The program does not run, and the child exits at once.
    Failed {
        /// The step that failed.
        step: SpawnStep,
        /// The error number.
        errno: i32,
    },
    /// Not known yet.
    Pending,
}

/// Reads the records that are in the pipe; never blocks. See [`super::read_outcome`].
pub(super) fn read(fd: BorrowedFd<'_>, about_to_execute: &mut bool) -> SpawnOutcome {
    loop {
        let mut record = [0u8; RECORD];
        let read = nix::unistd::read(fd, &mut record);
        let [step, _, _, _, errno @ ..] = record;
        return match read {
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => SpawnOutcome::Pending,
            Ok(0) if *about_to_execute => SpawnOutcome::Executed,
            Ok(0) => SpawnOutcome::Died,
            Ok(_) if step == ABOUT_TO_EXECUTE => {
                *about_to_execute = true;
                continue;
            }
            Ok(_) => SpawnOutcome::Failed {
                step: STEPS
                    .get(usize::from(step))
                    .copied()
                    .unwrap_or(SpawnStep::Exec),
                errno: i32::from_ne_bytes(errno),
            },
            Err(errno) => SpawnOutcome::Failed {
                step: SpawnStep::Exec,
                errno: errno as i32,
            },
        };
    }
}
