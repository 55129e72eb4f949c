//! Forks another master, which runs beside this one and outlives it. It is not a worker.
//!
//! The new master stays in our session and process group, and keeps our stdin, stdout and stderr.
//! Every signal is blocked from before the fork until all dispositions in the child are those that
//! this process was started with. Otherwise one of our handlers could take a signal that was sent
//! to the new master.
#![expect(
    unsafe_code,
    reason = "fork, signal dispositions, and _exit where exec has failed"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as NixSignal, sigaction};
use nix::unistd::{ForkResult, fork};

use super::image::Next;
use crate::error::reason;
use crate::model::signal::Signal;
use crate::sys::io::fd;
use crate::sys::machine::limits;
use crate::sys::signal;

/// A master that has been forked.
#[derive(Debug)]
pub struct ForkedMaster {
    /// Its pid, unless it has been reaped.
    pub pid: i32,
    failure: File,
}

impl ForkedMaster {
    /// Why the new master's program could not be executed, if that failed. Call it after the child
    /// has ended.
    pub fn failure(&mut self) -> Option<String> {
        let mut why = String::new();
        // Reads what is in the pipe; it never blocks.
        let _ = self.failure.read_to_string(&mut why);
        (!why.is_empty()).then_some(why)
    }
}

/// Forks, and executes `next` in the child with the descriptors `placed`, each at its number.
/// `ignored`: the signals that are ignored in the child. Call it while this process has one thread.
///
/// # Errors
/// What pipe2(2) or fork(2) returned: EMFILE, EAGAIN, ENOMEM.
pub fn fork_master(
    next: &Next<'_>,
    placed: &[(RawFd, RawFd)],
    ignored: &[Signal],
) -> io::Result<ForkedMaster> {
    let (read, write) = fd::pipe()?;
    let mask = signal::block_all();
    // SAFETY: this process has one thread, so no lock is held and the child may run any code; the
    // child never returns from here.
    let forked = unsafe { fork() };
    if let Ok(ForkResult::Child) = forked {
        drop(read);
        run_child(next, placed, ignored, write);
    }
    signal::restore(mask);
    match forked? {
        ForkResult::Parent { child } => Ok(ForkedMaster {
            pid: child.as_raw(),
            failure: read.into(),
        }),
        ForkResult::Child => Err(io::Error::other("unreachable: the child has ended")),
    }
}

fn run_child(next: &Next<'_>, placed: &[(RawFd, RawFd)], ignored: &[Signal], report: OwnedFd) -> ! {
    let all = placed.iter().map(|(_, target)| *target);
    let above = all.max().unwrap_or(2).saturating_add(1);
    // Above all numbers that are about to be overwritten, so that a failure can still be reported.
    let report = fd::duplicate_above(report.as_raw_fd(), above).unwrap_or(report);
    let error = match prepare(placed, above, ignored) {
        Ok(()) => {
            limits::restore_nofile(next.nofile);
            signal::unblock_all();
            let why = reason(execute(next));
            format!("cannot execute {}: {why}", next.program.display())
        }
        Err(error) => format!("cannot prepare its start: {}", reason(error)),
    };
    let _ = File::from(report).write_all(error.as_bytes());
    // SAFETY: the end of a forked child; no destructor and no buffer of the master may run here.
    unsafe { libc::_exit(126) }
}

fn prepare(placed: &[(RawFd, RawFd)], above: RawFd, ignored: &[Signal]) -> io::Result<()> {
    for signal in NixSignal::iterator() {
        let number = signal as i32;
        let named = signal::from_number(number);
        let handler = if named.is_some_and(|signal| ignored.contains(&signal)) {
            SigHandler::SigIgn
        } else {
            SigHandler::SigDfl
        };
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler of ours is installed. The kernel refuses to change KILL and STOP,
        // which is fine.
        let _ = unsafe { sigaction(signal, &action) };
    }
    fd::close_from_on_exec(3)?;
    fd::place_each(placed, above)?;
    Ok(())
}

fn execute(next: &Next<'_>) -> io::Error {
    let mut command = Command::new(next.program);
    if let Some((name, rest)) = next.argv.split_first() {
        command.arg0(name).args(rest);
    }
    command
        .env_clear()
        .envs(next.environment.iter().map(|(name, value)| (name, value)));
    if let Some(dir) = next.dir {
        command.current_dir(dir);
    }
    command.exec()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sys::process::wait;
    use crate::sys::process::wait::WaitStatus;
    use crate::sys::testing::{Peer, Talk};
    use std::ffi::OsString;
    use std::path::Path;

    fn next<'a>(argv: &'a [OsString], environment: &'a [(OsString, OsString)]) -> Next<'a> {
        Next {
            program: Path::new(&argv[0]),
            argv,
            environment,
            dir: Some(Path::new("/")),
            nofile: None,
            fds: &[],
        }
    }

    fn reap_ended(pid: i32) -> WaitStatus {
        wait::tests::await_end(pid);
        wait::reap(pid).expect("ours").expect("ended")
    }

    const SCRIPT: &str = r#"exec >&7
        kill -HUP $$
        group=$(ps -o pgid= -p $$ | tr -d ' ')
        printf '%s|%s|%s|%s|' "$A" "$PWD" "$group" "$1"
        ls /proc/$$/fd
        exit 0"#;

    /// The role of a test process with one thread: forks a master that runs beside it.
    pub fn play(talk: &mut Talk) {
        let (read, write) = fd::pipe().expect("a pipe");
        let argv: Vec<OsString> = ["/bin/sh", "-c", SCRIPT, "sh", "one"]
            .map(Into::into)
            .into();
        let environment = [
            ("A".into(), "b c".into()),
            ("PATH".into(), "/usr/bin:/bin".into()),
        ];
        let placed = [(write.as_raw_fd(), 7)];
        let forked = fork_master(&next(&argv, &environment), &placed, &[Signal::Hup]);
        let mut forked = forked.expect("forked");
        drop(write);
        // The script sends itself HUP: HUP stays ignored in it, so it lives on and exits 0.
        assert_eq!(reap_ended(forked.pid), WaitStatus::Exited(0));
        let mut output = String::new();
        File::from(read).read_to_string(&mut output).expect("text");
        assert_eq!(forked.failure(), None);
        let group = nix::unistd::getpgrp();
        let output = output.trim_end().replace('\n', " ");
        talk.say(&output.replace(&format!("|{group}|"), "|our group|"));

        let argv = [OsString::from("/nowhere/at/all")];
        let mut forked = fork_master(&next(&argv, &[]), &[], &[]).expect("forked");
        assert_eq!(reap_ended(forked.pid), WaitStatus::Exited(126));
        talk.say(&forked.failure().expect("a reason"));
    }

    #[test]
    fn g6_a_forked_master_stays_in_our_group_with_the_given_fds_alone() {
        let mut peer = Peer::start("fork-master", &[]);
        let output = peer.talk.hear();
        assert_eq!(output.as_deref(), Some("b c|/|our group|one|0 1 2 7"));
        let why = "cannot execute /nowhere/at/all: No such file or directory";
        assert_eq!(peer.talk.hear().as_deref(), Some(why));
    }
}
