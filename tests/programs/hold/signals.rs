//! What a process sends to the holder reaches COMMAND, of any kind.

use std::os::unix::process::CommandExt;

use nix::sys::signal::Signal;

use super::support::{child, held, pid, signal, stopped};
use crate::common::running::{Running, finished};
use crate::common::service::process;
use crate::reporter::shell;

#[test]
fn every_signal_that_can_be_caught_is_passed_on_once() {
    // Through the shell's own kill, which knows them all.
    let names = "HUP USR1 USR2 WINCH ALRM VTALRM PROF IO PWR STKFLT ABRT XCPU URG TTIN TTOU TSTP \
        ILL TRAP BUS FPE SEGV SYS PIPE XFSZ RTMIN+3 RTMAX TERM";
    let script = format!(
        r#"exec "$LISTEN" --hold 127.0.0.1:0 -- bash -c '
            # A wait without a child process. It is opened before the traps are set, because
            # bash may run a trap while it expands such a word.
            exec 9<> <(:)
            for name in {names}; do trap "echo $name; heard=$name" "$name"; done
            # All of them are sent to the holder.
            for name in {names}; do
                kill -s "$name" $PF_HOLD
                until [ "$heard" = "$name" ]; do read -t 0.02 -u 9 x; done
            done
            # A second one would have come by now, most likely.
            sleep 0.2; exit 9'"#
    );
    let (code, out, errors) = finished(shell(&script));
    let mut heard: Vec<&str> = out.lines().collect();
    heard.sort_unstable();
    let mut sent: Vec<&str> = names.split(' ').collect();
    sent.sort_unstable();
    assert_eq!((heard, code), (sent, 9), "{errors}");
}

#[test]
fn a_signal_sent_before_its_program_runs_is_not_lost() {
    // At any time: while the holder starts, while it forks, while the child executes the program.
    for pause in 0..40 {
        let mut running = Running::start(held(
            "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done",
        ));
        prefork::sys::machine::clock::pause(std::time::Duration::from_micros(pause * 250));
        signal(&running, Signal::SIGTERM);
        while running.line_or_end().is_some() {}
        let (status, errors) = running.end();
        let by = std::os::unix::process::ExitStatusExt::signal(&status);
        assert!(
            status.code() == Some(7) || by == Some(15),
            "{status}: {errors}"
        );
    }
}

#[test]
fn a_stop_stops_both_and_a_continue_continues_both() {
    let mut command = held("echo up; exec sleep 1000");
    // A group whose parent is in another group of the session: otherwise the terminal's stop
    // signals have no effect.
    command.process_group(0);
    let mut running = Running::start(command);
    assert_eq!(running.line(), "up");
    let (holder, command) = (pid(&running), child(&running));
    for sig in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU] {
        signal(&running, sig);
        stopped(command, true);
        stopped(holder, true);
        signal(&running, Signal::SIGCONT);
        stopped(holder, false);
        stopped(command, false);
    }
    // Stopped by another process, COMMAND alone is stopped, and the holder runs on.
    process::signal(command, Signal::SIGSTOP);
    stopped(command, true);
    prefork::sys::machine::clock::pause(std::time::Duration::from_millis(50));
    stopped(holder, false);
    signal(&running, Signal::SIGCONT);
    stopped(command, false);
    signal(&running, Signal::SIGTERM);
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&running.end().0),
        Some(15)
    );
}
