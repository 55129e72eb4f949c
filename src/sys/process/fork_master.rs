//! Another process like this one: not a worker, but a master beside us, which outlives us.
//!
//! It stays in our session and process group and has our stdin, stdout and stderr. Every signal is blocked from before the fork until all
//! dispositions are what this process was started with, so that none that is meant for it is taken by a handler of ours.
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

/// A process that has been begotten.
#[derive(Debug)]
pub struct ForkedMaster {
    /// Its pid.
    pub pid: i32,
    failure: File,
}

impl ForkedMaster {
    /// Why its program could not be executed, if so. To be asked once it has ended.
    pub fn failure(&mut self) -> Option<String> {
        let mut why = String::new();
        // What there is; the pipe never blocks.
        let _ = self.failure.read_to_string(&mut why);
        (!why.is_empty()).then_some(why)
    }
}

/// Forks, and executes `next` there with the descriptors `placed`, each at its number. `ignored`: the signals that are ignored in it. To be called while
/// this process has one thread.
///
/// # Errors
/// What pipe2(2) or fork(2) said: EMFILE, EAGAIN, ENOMEM.
pub fn fork_master(
    next: &Next<'_>,
    placed: &[(RawFd, RawFd)],
    ignored: &[Signal],
) -> io::Result<ForkedMaster> {
    let (read, write) = fd::pipe()?;
    let mask = signal::block_all();
    // SAFETY: this process has one thread, so the child may do whatever it likes; it never returns from here.
    let forked = unsafe { fork() };
    if let Ok(ForkResult::Child) = forked {
        drop(read);
        become_it(next, placed, ignored, write);
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

fn become_it(next: &Next<'_>, placed: &[(RawFd, RawFd)], ignored: &[Signal], report: OwnedFd) -> ! {
    let all = placed.iter().map(|(_, target)| *target);
    let above = all.max().unwrap_or(2).saturating_add(1);
    // Out of the way of whatever is placed, so that what fails can be told.
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
    // SAFETY: the end of a forked child; nothing of the master's is to be run or flushed.
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
        // SAFETY: no handler of ours is installed. What cannot be changed (KILL, STOP) is refused, which is fine.
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
    use crate::sys::process::wait::Ended;
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

    fn end_of(pid: i32) -> Ended {
        wait::tests::await_end(pid);
        wait::reap(pid).expect("ours").expect("ended")
    }

    const SCRIPT: &str = r#"exec >&7
        kill -HUP $$
        group=$(ps -o pgid= -p $$ | tr -d ' ')
        printf '%s|%s|%s|%s|' "$A" "$PWD" "$group" "$1"
        ls /proc/$$/fd
        exit 0"#;

    /// In a process that has one thread of interest: forks what stays beside it.
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
        // HUP stays ignored in it.
        assert_eq!(end_of(forked.pid), Ended::Exited(0));
        let mut said = String::new();
        File::from(read).read_to_string(&mut said).expect("text");
        assert_eq!(forked.failure(), None);
        let group = nix::unistd::getpgrp();
        let said = said.trim_end().replace('\n', " ");
        talk.say(&said.replace(&format!("|{group}|"), "|our group|"));

        let argv = [OsString::from("/nowhere/at/all")];
        let mut forked = fork_master(&next(&argv, &[]), &[], &[]).expect("forked");
        assert_eq!(end_of(forked.pid), Ended::Exited(126));
        talk.say(&forked.failure().expect("told"));
    }

    #[test]
    fn g6_it_stays_in_our_group_with_what_it_was_given_and_nothing_else() {
        let mut peer = Peer::start("beget", &[]);
        let said = peer.talk.hear();
        assert_eq!(said.as_deref(), Some("b c|/|our group|one|0 1 2 7"));
        let why = "cannot execute /nowhere/at/all: No such file or directory";
        assert_eq!(peer.talk.hear().as_deref(), Some(why));
    }
}
