//! How children end. Looking and reaping are two steps: between them the pid, and the group it names, cannot be another's.
#![expect(
    unsafe_code,
    reason = "waitid of any child: nix refuses real-time signals, rustix does not tell the pid"
)]

use std::io;

use nix::errno::Errno;
use nix::libc;

use crate::model::event;

pub use super::group::{Group, catches};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status (0 to 255).
    Exited(i32),
    /// By a signal.
    Signaled {
        /// Its number, as the machine has it: also those that have no name here.
        signal: i32,
        /// Whether it left a core.
        core: bool,
    },
}

impl From<Ended> for event::Ended {
    fn from(ended: Ended) -> event::Ended {
        match ended {
            Ended::Exited(code) => event::Ended::Exited(code),
            Ended::Signaled { signal, core } => {
                event::Ended::Signaled(crate::sys::signal::from_number(signal), core)
            }
        }
    }
}

/// How the child `pid` has ended, if it has; it stays to be reaped.
///
/// # Errors
/// ECHILD: there is no such child (any more).
pub fn peek(pid: i32) -> io::Result<Option<Ended>> {
    Ok(waitid(child(pid)?, libc::WNOWAIT)?.map(|(_, ended)| ended))
}

/// Reaps the child `pid` if it has ended. Its number may be given to another process at once.
///
/// # Errors
/// ECHILD: there is no such child (any more).
pub fn reap(pid: i32) -> io::Result<Option<Ended>> {
    Ok(waitid(child(pid)?, 0)?.map(|(_, ended)| ended))
}

/// Waits for the child `pid` to end, and reaps it.
///
/// # Errors
/// ECHILD: there is no such child (any more).
pub fn reap_blocking(pid: i32) -> io::Result<()> {
    loop {
        match rustix::process::waitpid(
            rustix::process::Pid::from_raw(pid),
            rustix::process::WaitOptions::empty(),
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Reaps one ended child that nobody here started: an orphan that came to us as pid 1 or subreaper (U7). Tells its pid; `None`
/// if there is none, or if a child that `is_known` is to be reaped first. To be repeated until `None`.
pub fn reap_stranger(is_known: &dyn Fn(i32) -> bool) -> Option<i32> {
    let any = (libc::P_ALL, 0);
    let (pid, _) = waitid(any, libc::WNOWAIT).ok()??;
    if is_known(pid) {
        return None;
    }
    reap(pid).ok()??;
    Some(pid)
}

/// A child that has ended, whoever started it, and how; it stays to be reaped. `None`: none has.
pub fn any_ended() -> Option<(i32, Ended)> {
    waitid((libc::P_ALL, 0), libc::WNOWAIT).ok()?
}

/// Makes this process the one that inherits its descendants' orphans.
///
/// # Errors
/// EINVAL: the kernel cannot (before Linux 3.4).
pub fn become_subreaper() -> io::Result<()> {
    // Any pid but none means yes; it is our own attribute, and no child inherits it.
    let yes = rustix::process::Pid::INIT;
    Ok(rustix::process::set_child_subreaper(Some(yes))?)
}

fn child(pid: i32) -> io::Result<(libc::idtype_t, libc::id_t)> {
    // 0 and below would mean "any child of my group", or worse.
    match libc::id_t::try_from(pid) {
        Ok(id) if id > 0 => Ok((libc::P_PID, id)),
        _ => Err(Errno::ECHILD.into()),
    }
}

fn waitid(
    (kind, id): (libc::idtype_t, libc::id_t),
    flags: libc::c_int,
) -> io::Result<Option<(i32, Ended)>> {
    loop {
        // SAFETY: all zeroes is a valid siginfo_t: plain numbers and a union of such.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | flags;
        // SAFETY: `info` is ours and lives through the call.
        let done = unsafe { libc::waitid(kind, id, &raw mut info, options) };
        if done == 0 {
            // SAFETY: waitid has filled in a SIGCHLD's information, or left the zeroes: these fields are valid in both.
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            return Ok((pid != 0).then(|| (pid, ended(info.si_code, status))));
        }
        match Errno::last() {
            Errno::EINTR => {}
            errno => return Err(errno.into()),
        }
    }
}

fn ended(code: i32, status: i32) -> Ended {
    match code {
        libc::CLD_EXITED => Ended::Exited(status),
        _ => Ended::Signaled {
            signal: status,
            core: code == libc::CLD_DUMPED,
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::sys::io::poll::{Interest, Poller};
    use crate::sys::machine::clock::now;
    use crate::sys::testing::{Peer, Talk};

    /// Waits for the end of a child without reaping it.
    pub fn await_end(pid: i32) -> Ended {
        let limit = Some(now() + crate::sys::testing::PATIENCE);
        let raw = rustix::process::Pid::from_raw(pid).expect("a pid");
        let fd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
            .expect("a pidfd");
        use std::os::fd::AsFd;
        Poller::new()
            .wait(&[(fd.as_fd(), Interest::READ)], limit)
            .expect("poll");
        peek(pid)
            .expect("our child")
            .expect("it has ended within the limit")
    }

    #[expect(clippy::zombie_processes, reason = "the tests reap it themselves")]
    fn sh(script: &str) -> i32 {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .spawn()
            .expect("sh runs");
        i32::try_from(child.id()).expect("a pid")
    }

    #[test]
    fn u7_an_end_is_seen_before_it_is_reaped() {
        let pid = sh("exit 7");
        assert_eq!(await_end(pid), Ended::Exited(7));
        assert_eq!(peek(pid).expect("still there"), Some(Ended::Exited(7)));
        assert_eq!(reap(pid).expect("ours"), Some(Ended::Exited(7)));
        let gone = reap(pid).expect_err("reaped already");
        assert_eq!(gone.raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn real_time_signals_and_live_children_are_told_too() {
        let pid = sh("kill -s KILL $$");
        let killed = Ended::Signaled {
            signal: 9,
            core: false,
        };
        assert_eq!(await_end(pid), killed);
        assert_eq!(reap(pid).expect("ours"), Some(killed));

        let pid = sh("kill -40 $$");
        assert!(matches!(await_end(pid), Ended::Signaled { signal: 40, .. }));
        reap(pid).expect("ours").expect("ended");

        let pid = sh("read never </dev/zero; sleep 60");
        assert_eq!(peek(pid).expect("ours"), None);
        assert_eq!(reap(pid).expect("ours"), None);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        )
        .expect("killed");
        assert_eq!(await_end(pid), killed);
        reap(pid).expect("ours").expect("ended");
        for not_a_child in [0, -1, i32::MIN] {
            assert!(peek(not_a_child).is_err());
        }
    }

    /// A subreaper with one child of its own and one orphan.
    pub fn play(talk: &mut Talk) {
        become_subreaper().expect("a subreaper");
        // The middle process tells its child's number and dies, which makes the child ours; only then it may end.
        let mut middle = Command::new("sh")
            .args([
                "-c",
                "exec 3<&0; sh -c 'read go; exit 3' <&3 >/dev/null & echo $!",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let go = middle.stdin.take();
        let out = middle.wait_with_output().expect("ended");
        let told = String::from_utf8_lossy(&out.stdout);
        let orphan: i32 = told.trim().parse().expect("a pid");
        assert_eq!(peek(orphan).expect("ours now"), None);
        drop(go);
        assert_eq!(await_end(orphan), Ended::Exited(3));
        let known = sh("exit 4");
        assert_eq!(await_end(known), Ended::Exited(4));
        let is_known = |pid| pid == known;
        // The orphan may stand behind our own child, whose turn is then first.
        let first = reap_stranger(&is_known);
        assert_eq!(peek(known).expect("ours"), Some(Ended::Exited(4)));
        reap(known).expect("ours").expect("ended");
        let stranger = first.or_else(|| reap_stranger(&is_known));
        assert_eq!(stranger, Some(orphan));
        assert_eq!(reap_stranger(&is_known), None);
        talk.say("done");
    }

    #[test]
    fn u7_strangers_are_reaped_and_our_own_left_alone() {
        let mut peer = Peer::start("strangers", &[]);
        assert_eq!(peer.talk.hear().as_deref(), Some("done"));
    }
}
