//! How children ended: looking at an ended child (peek), and reaping it.
//!
//! These are two steps because a pid, and the process group of the same number, stay ours until the
//! child is reaped: between peek and reap they can be signalled without hitting another process.
#![expect(
    unsafe_code,
    reason = "waitid of any child: nix refuses real-time signals, rustix does not return the pid"
)]

use std::io;

use nix::errno::Errno;
use nix::libc;

use crate::model::exit::ExitStatus;
use crate::sys::signal;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// It exited with this code (0 to 255).
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number on this machine; it may be one without a name, such as a real-time
        /// signal.
        signal: i32,
        /// Whether it left a core.
        core: bool,
    },
}

impl From<WaitStatus> for ExitStatus {
    fn from(status: WaitStatus) -> ExitStatus {
        match status {
            WaitStatus::Exited(code) => ExitStatus::Exited(code),
            WaitStatus::Signaled { signal, core } => {
                ExitStatus::Signaled(signal::from_number(signal), core)
            }
        }
    }
}

/// How the child `pid` has ended, if it has; it stays to be reaped.
///
/// # Errors
/// ECHILD: there is no such child (any more).
pub fn peek(pid: i32) -> io::Result<Option<WaitStatus>> {
    Ok(waitid(id_of(pid)?, libc::WNOWAIT)?.map(|(_, status)| status))
}

/// Reaps the child `pid` if it has ended. The kernel may reuse its number at once.
///
/// # Errors
/// ECHILD: there is no such child (any more).
pub fn reap(pid: i32) -> io::Result<Option<WaitStatus>> {
    Ok(waitid(id_of(pid)?, 0)?.map(|(_, status)| status))
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

/// Reaps one ended child that this program did not start: an orphan that came to us as pid 1 or
/// subreaper (U7). Returns its pid; `None` if there is none, or if the kernel lists a child first
/// that `is_known` (its owner must reap that one first). Call it until it returns `None`.
pub fn reap_orphan(is_known: &dyn Fn(i32) -> bool) -> Option<i32> {
    let any = (libc::P_ALL, 0);
    let (pid, _) = waitid(any, libc::WNOWAIT).ok()??;
    if is_known(pid) {
        return None;
    }
    reap(pid).ok()??;
    Some(pid)
}

/// A child that has ended, our own or an orphan, and how; it stays to be reaped. `None`: no child
/// has ended.
pub fn peek_any() -> Option<(i32, WaitStatus)> {
    waitid((libc::P_ALL, 0), libc::WNOWAIT).ok()?
}

/// Makes this process the subreaper: it inherits the orphans among its descendants (prctl(2),
/// PR_SET_CHILD_SUBREAPER).
///
/// # Errors
/// EINVAL: the kernel cannot (before Linux 3.4).
pub fn become_subreaper() -> io::Result<()> {
    // rustix takes any pid for "yes" and None for "no". The attribute is our own; no child inherits
    // it.
    let yes = rustix::process::Pid::INIT;
    Ok(rustix::process::set_child_subreaper(Some(yes))?)
}

fn id_of(pid: i32) -> io::Result<(libc::idtype_t, libc::id_t)> {
    // 0 and less are no pid: the wait calls take them for any child of our group, or for more.
    match libc::id_t::try_from(pid) {
        Ok(id) if id > 0 => Ok((libc::P_PID, id)),
        _ => Err(Errno::ECHILD.into()),
    }
}

fn waitid(
    (kind, id): (libc::idtype_t, libc::id_t),
    flags: libc::c_int,
) -> io::Result<Option<(i32, WaitStatus)>> {
    loop {
        // SAFETY: all zeroes is a valid siginfo_t: plain numbers and a union of such.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | flags;
        // SAFETY: `info` is ours and lives through the call.
        let done = unsafe { libc::waitid(kind, id, &raw mut info, options) };
        if done == 0 {
            // SAFETY: waitid has filled in the information of a SIGCHLD, or left the zeroes: these
            // fields are valid in both cases.
            let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
            return Ok((pid != 0).then(|| (pid, wait_status(info.si_code, status))));
        }
        match Errno::last() {
            Errno::EINTR => {}
            errno => return Err(errno.into()),
        }
    }
}

fn wait_status(code: i32, status: i32) -> WaitStatus {
    match code {
        libc::CLD_EXITED => WaitStatus::Exited(status),
        _ => WaitStatus::Signaled {
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
    pub fn await_end(pid: i32) -> WaitStatus {
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
        assert_eq!(await_end(pid), WaitStatus::Exited(7));
        assert_eq!(peek(pid).expect("still there"), Some(WaitStatus::Exited(7)));
        assert_eq!(reap(pid).expect("ours"), Some(WaitStatus::Exited(7)));
        let gone = reap(pid).expect_err("reaped already");
        assert_eq!(gone.raw_os_error(), Some(libc::ECHILD));
    }

    #[test]
    fn real_time_signals_and_live_children_are_told_too() {
        let pid = sh("kill -s KILL $$");
        let killed = WaitStatus::Signaled {
            signal: 9,
            core: false,
        };
        assert_eq!(await_end(pid), killed);
        assert_eq!(reap(pid).expect("ours"), Some(killed));

        let pid = sh("kill -40 $$");
        assert!(matches!(
            await_end(pid),
            WaitStatus::Signaled { signal: 40, .. }
        ));
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
        // The middle process prints its child's number and dies, which makes the child ours; only
        // then may the child end.
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
        let output = String::from_utf8_lossy(&out.stdout);
        let orphan: i32 = output.trim().parse().expect("a pid");
        assert_eq!(peek(orphan).expect("ours now"), None);
        drop(go);
        assert_eq!(await_end(orphan), WaitStatus::Exited(3));
        let known = sh("exit 4");
        assert_eq!(await_end(known), WaitStatus::Exited(4));
        let is_known = |pid| pid == known;
        // waitid may list our own child before the orphan; then the first call returns None.
        let first = reap_orphan(&is_known);
        assert_eq!(peek(known).expect("ours"), Some(WaitStatus::Exited(4)));
        reap(known).expect("ours").expect("ended");
        let orphan_pid = first.or_else(|| reap_orphan(&is_known));
        assert_eq!(orphan_pid, Some(orphan));
        assert_eq!(reap_orphan(&is_known), None);
        talk.say("done");
    }

    #[test]
    fn u7_orphans_are_reaped_and_our_own_children_left_alone() {
        let mut peer = Peer::start("orphans", &[]);
        assert_eq!(peer.talk.hear().as_deref(), Some("done"));
    }
}
