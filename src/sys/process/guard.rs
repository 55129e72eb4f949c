//! The guard: a small process that sees to the workers when the master dies by SIGKILL.
//!
//! The kernel tells a worker's leader by its parent-death signal, and nobody else of its group. So the guard learns of each worker by one
//! versioned line, which the worker itself sends before it executes its program, with a pidfd of itself: no worker can run that the guard does not
//! know, and a number used again is never hit. At the end of file, when every copy of the master's end is closed, it acts: whatever a
//! leader leaves behind gets the graceful signal (a leader is not told twice), and everything gets KILL when the time is over. A leader that has changed
//! its user has lost its parent-death signal, as prctl(2) says, and is told by the guard.
//!
//! Lines: `1 + SIGNAL MILLISECONDS PID` with a pidfd; `1 - PID`. The guard outlives upgrades of the master, so the lines are a contract.
#![expect(
    unsafe_code,
    reason = "fork, and what the child does to become the guard"
)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair,
    sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::{ForkResult, fork};

use super::group::{group_by_handle_is_gone, signal_group_by_handle};
use super::{procfs, wait};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::files::pidfile;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::io::{cmsg, fd};
use crate::sys::machine::clock;
use crate::sys::signal;
use crate::wire::handover;

/// The longest line.
const MAX_LINE: usize = 64;

/// How long a worker waits for a guard that does not read before it goes on without.
const PATIENCE: i64 = 1;

/// How often groups without a leader are looked at: they have no descriptor that tells.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long after KILL the guard stays.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// What the guard has to know of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopTerms {
    /// What asks it to finish.
    pub signal: Signal,
    /// How long it may take.
    pub timeout: Duration,
}

impl StopTerms {
    /// The line that announces a worker, up to its pid, which only the worker itself knows in time.
    pub fn line(self) -> String {
        format!(
            "1 + {} {} ",
            signal::number(self.signal),
            self.timeout.as_millis()
        )
    }
}

/// The master's end.
#[derive(Debug)]
pub struct Guard {
    socket: OwnedFd,
    pid: i32,
}

impl Guard {
    /// Forks the guard. To be called while this process has one thread.
    ///
    /// # Errors
    /// What socketpair(2) or fork(2) said: EMFILE, EAGAIN, ENOMEM.
    pub fn start() -> io::Result<Guard> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        setsockopt(&ours, sockopt::SendTimeout, &TimeVal::new(PATIENCE, 0))?;
        let mask = signal::block_all();
        // SAFETY: this process has one thread, so the child may do whatever it likes; it never returns from here.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            drop(ours);
            // Signals stay blocked: whoever stops the service means the master, and KILL it cannot refuse.
            become_guard(theirs);
        }
        signal::restore(mask);
        match forked? {
            ForkResult::Parent { child } => Ok(Guard {
                socket: ours,
                pid: child.as_raw(),
            }),
            ForkResult::Child => Err(io::Error::other("unreachable: the guard has ended")),
        }
    }

    /// The guard that the image before this one started; it goes on unawares.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(guard: &handover::Guard) -> io::Result<Guard> {
        Ok(Guard {
            socket: fd::duplicate_raw(guard.fd)?,
            pid: guard.pid,
        })
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What a worker sends its line through.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Tells a guard that was started anew of a worker that lives already; `handle`: a pidfd of its leader.
    pub fn watch(&self, pid: i32, handle: BorrowedFd<'_>, terms: StopTerms) {
        let line = format!("{}{pid}", terms.line());
        let fds = [handle.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        self.say(line.as_bytes(), &rights);
    }

    /// A worker's group is empty. A line that gets lost costs the guard a descriptor, and harms nobody.
    pub fn forget(&self, pid: i32) {
        self.say(format!("1 - {pid}").as_bytes(), &[]);
    }

    fn say(&self, line: &[u8], rights: &[ControlMessage<'_>]) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // A guard that is gone is started anew when its end is seen, and then told of everybody.
        let _ = sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(line)],
            rights,
            flags,
            None,
        );
    }

    /// Ends the guard: nobody is left to be seen to.
    pub fn end(self) {
        let Guard { socket, pid } = self;
        drop(socket);
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
        let _ = wait::reap_blocking(pid);
    }
}

/// A worker that the guard knows.
struct GuardedWorker {
    pid: i32,
    handle: OwnedFd,
    signal: i32,
    timeout: Duration,
    /// Its leader has gone, and the rest was told.
    told: bool,
}

fn become_guard(socket: OwnedFd) -> ! {
    let socket = bare(socket);
    let mut wards = Vec::new();
    if let Some(socket) = &socket {
        listen(socket.as_fd(), &mut wards);
    }
    drop(socket);
    see_to_them(wards);
    // SAFETY: the end of a forked child; nothing of the master's is to be run or flushed.
    unsafe { libc::_exit(0) }
}

/// Lets go of everything of the master's but the socket: its listeners, its control socket, its terminal, its directory.
fn bare(socket: OwnedFd) -> Option<OwnedFd> {
    let _ = nix::unistd::setsid();
    let _ = nix::unistd::chdir("/");
    let null = fd::null().ok()?;
    for number in 0..3 {
        // SAFETY: a system call on numbers.
        unsafe { libc::dup2(null.as_raw_fd(), number) };
    }
    // SAFETY: system calls on numbers; whatever owned these descriptors belongs to the master's copy of this memory, and is never dropped here.
    unsafe {
        libc::dup2(socket.as_raw_fd(), 3);
        libc::syscall(libc::SYS_close_range, 4, libc::c_uint::MAX, 0);
    }
    std::mem::forget((null, socket));
    // Last: whoever finds the guard by its name finds it without anything of the master's.
    let _ = nix::sys::prctl::set_name(c"pf-guard");
    fd::adopt(3).ok()
}

/// Learns of workers until the master is gone.
fn listen(socket: BorrowedFd<'_>, wards: &mut Vec<GuardedWorker>) {
    let mut poller = Poller::new();
    let mut sweep_at = 64;
    loop {
        if poller.wait(&[(socket, Interest::READ)], None).is_err() {
            clock::pause(LOOK_EVERY);
        }
        if !hear(socket, wards) {
            return;
        }
        if wards.len() > sweep_at {
            // Only of those without a leader it takes a look through /proc to tell.
            wards.retain(|ward| {
                let handle = ward.handle.as_fd();
                !(has_exited(handle) && group_by_handle_is_gone(&ward.handle, ward.pid))
            });
            sweep_at = wards.len() * 2 + 64;
        }
    }
}

/// Takes all that was said; false at the end of file.
fn hear(socket: BorrowedFd<'_>, wards: &mut Vec<GuardedWorker>) -> bool {
    loop {
        let mut line = [0; MAX_LINE];
        match cmsg::receive(socket, &mut line) {
            Ok(received) if received.len == 0 && received.fds.is_empty() => return false,
            Ok(received) => take(&line[..received.len.min(MAX_LINE)], received.fds, wards),
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// Takes one line; what it does not understand comes from a newer master, and is not for this guard.
fn take(line: &[u8], fds: Vec<OwnedFd>, wards: &mut Vec<GuardedWorker>) {
    let text = String::from_utf8_lossy(line);
    let words: Vec<&str> = text.trim_end_matches('\0').split_whitespace().collect();
    match (words.as_slice(), fds.into_iter().next()) {
        (["1", "+", signal, timeout, pid], Some(handle)) => {
            if let (Ok(signal), Ok(timeout), Ok(pid)) =
                (signal.parse(), timeout.parse(), pid.parse())
            {
                let timeout = Duration::from_millis(timeout);
                wards.retain(|ward| ward.pid != pid);
                wards.push(GuardedWorker {
                    pid,
                    handle,
                    signal,
                    timeout,
                    told: false,
                });
            }
        }
        (["1", "-", pid], _) => {
            if let Ok(pid) = pid.parse::<i32>() {
                wards.retain(|ward| ward.pid != pid);
            }
        }
        _ => {}
    }
}

/// The master is gone: its workers' leaders have their parent-death signal, the rest is ours.
fn see_to_them(mut wards: Vec<GuardedWorker>) {
    let since = clock::now();
    for ward in &wards {
        ward.tell_another_user();
    }
    let mut poller = Poller::new();
    let mut last_kill = since;
    while !wards.is_empty() {
        let now = clock::now();
        let mut next = now + Duration::from_secs(3600);
        for ward in &mut wards {
            last_kill = last_kill.max(since + ward.timeout);
            next = next.min(ward.attend(since, now));
        }
        wards.retain(|ward| !(ward.told && group_by_handle_is_gone(&ward.handle, ward.pid)));
        if now >= last_kill + AFTER_KILL {
            return;
        }
        let leaders: Vec<_> = wards
            .iter()
            .filter(|ward| !ward.told)
            .map(|ward| (ward.handle.as_fd(), Interest::READ))
            .collect();
        let _ = poller.wait(&leaders, Some(next));
    }
}

impl GuardedWorker {
    fn tell_another_user(&self) {
        if procfs::has_our_user(self.pid) == Some(false)
            && let Some(signal) = signal::from_number(self.signal)
        {
            // By the handle: if the number was another's when we looked, nobody is hit.
            let _ = pidfile::pidfd_signal(&self.handle, signal);
        }
    }

    /// Does what is due; when to come back.
    fn attend(&mut self, since: Time, now: Time) -> Time {
        let kill_at = since + self.timeout;
        if now >= kill_at {
            signal_group_by_handle(&self.handle, self.pid, signal::number(Signal::Kill));
            self.told = true;
            return now + LOOK_EVERY;
        }
        if !self.told && has_exited(self.handle.as_fd()) {
            signal_group_by_handle(&self.handle, self.pid, self.signal);
            signal_group_by_handle(&self.handle, self.pid, signal::number(Signal::Cont));
            self.told = true;
        }
        if self.told {
            kill_at.min(now + LOOK_EVERY)
        } else {
            kill_at
        }
    }
}

fn has_exited(handle: BorrowedFd<'_>) -> bool {
    let mut poller = Poller::new();
    poller
        .wait(&[(handle, Interest::READ)], Some(Time(0)))
        .is_ok_and(|ready| ready[0].any())
}
