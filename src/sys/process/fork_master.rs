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

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as NixSignal, sigaction};
use nix::unistd::{ForkResult, Pid, chdir, execve, fork};

use super::image::Next;
use super::{descendants, wait};
use crate::error::reason;
use crate::model::signal::Signal;
use crate::sys::io::fd;
use crate::sys::machine::limits;
use crate::sys::signal;
use crate::wire::environment::Variable;

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

    /// Ends the child and all that it has started, and waits for its end. It may be at any step
    /// between the fork and the new master, so it is asked for nothing.
    pub fn end(self) {
        let child = Pid::from_raw(self.pid);
        // Our child, and not reaped: the number is its own. Stopped first, so that it starts
        // nothing while its descendants are listed.
        let _ = nix::sys::signal::kill(child, NixSignal::SIGSTOP);
        descendants::kill_descendants(self.pid, &|| true);
        let _ = nix::sys::signal::kill(child, NixSignal::SIGKILL);
        let _ = wait::reap_blocking(self.pid);
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

/// Executes the program itself. execvp(3) would have sh run a file that is no program.
fn execute(next: &Next<'_>) -> io::Error {
    let argv: io::Result<Vec<CString>> = next.argv.iter().map(|word| c_string(word)).collect();
    let (Ok(program), Ok(argv)) = (c_string(next.program.as_os_str()), argv) else {
        return io::ErrorKind::InvalidInput.into();
    };
    let environment: Vec<&CStr> = next.environment.iter().map(Variable::text).collect();
    if let Some(dir) = next.dir
        && let Err(errno) = chdir(dir)
    {
        return errno.into();
    }
    match execve(&program, &argv, &environment) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sys::process::wait;
    use crate::sys::process::wait::WaitStatus;
    use crate::sys::testing::{Peer, Talk};
    use crate::wire::environment::Environment;
    use std::ffi::OsString;
    use std::path::Path;

    fn next<'a>(argv: &'a [OsString], environment: &'a Environment) -> Next<'a> {
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
        let (mut read, write) = std::io::pipe().expect("a pipe");
        let argv: Vec<OsString> = ["/bin/sh", "-c", SCRIPT, "sh", "one"]
            .map(Into::into)
            .into();
        let environment = [("A", "b c"), ("PATH", "/usr/bin:/bin")];
        let environment = environment.into_iter().collect();
        let placed = [(write.as_raw_fd(), 7)];
        let forked = fork_master(&next(&argv, &environment), &placed, &[Signal::Hup]);
        let mut forked = forked.expect("forked");
        drop(write);
        // The script sends itself HUP: HUP stays ignored in it, so it lives on and exits 0.
        assert_eq!(reap_ended(forked.pid), WaitStatus::Exited(0));
        let mut output = String::new();
        read.read_to_string(&mut output).expect("text");
        assert_eq!(forked.failure(), None);
        let group = nix::unistd::getpgrp();
        let output = output.trim_end().replace('\n', " ");
        talk.say(&output.replace(&format!("|{group}|"), "|our group|"));

        let argv = [OsString::from("/nowhere/at/all")];
        let none = Environment::default();
        let mut forked = fork_master(&next(&argv, &none), &[], &[]).expect("forked");
        assert_eq!(reap_ended(forked.pid), WaitStatus::Exited(126));
        talk.say(&forked.failure().expect("a reason"));

        // A file that is no program: were it a script to be run by sh, it would exit 0.
        let dir = tempfile::tempdir().expect("a directory");
        let corrupt = dir.path().join("corrupt");
        std::fs::write(&corrupt, "exit 0\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&corrupt, mode).expect("made executable");
        let argv = [corrupt.into_os_string()];
        let mut forked = fork_master(&next(&argv, &none), &[], &[]).expect("forked");
        assert_eq!(reap_ended(forked.pid), WaitStatus::Exited(126));
        let why = forked.failure().expect("a reason");
        talk.say(why.rsplit(": ").next().expect("a part"));

        // The child of the child is ended too: it holds the pipe.
        let (mut read, write) = std::io::pipe().expect("a pipe");
        let script = "sleep 1000 & echo >&7; exec sleep 1000";
        let argv: Vec<OsString> = ["/bin/sh", "-c", script].map(Into::into).into();
        let path = [("PATH", "/usr/bin:/bin")].into_iter().collect();
        let placed = [(write.as_raw_fd(), 7)];
        let forked = fork_master(&next(&argv, &path), &placed, &[]).expect("forked");
        drop(write);
        read.read_exact(&mut [0]).expect("it runs");
        let pid = forked.pid;
        forked.end();
        read.read_to_end(&mut Vec::new()).expect("all are gone");
        talk.say(&format!("reaped: {}", wait::peek(pid).is_err()));
    }

    #[test]
    fn g6_a_forked_master_stays_in_our_group_with_the_given_fds_alone() {
        let mut peer = Peer::start("fork-master", &[]);
        let output = peer.talk.hear();
        assert_eq!(output.as_deref(), Some("b c|/|our group|one|0 1 2 7"));
        let why = "cannot execute /nowhere/at/all: No such file or directory";
        assert_eq!(peer.talk.hear().as_deref(), Some(why));
        assert_eq!(peer.talk.hear().as_deref(), Some("Exec format error"));
        assert_eq!(peer.talk.hear().as_deref(), Some("reaped: true"));
    }
}
