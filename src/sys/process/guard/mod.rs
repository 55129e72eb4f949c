//! The guard: a small process that stops the workers when the master dies by SIGKILL.
//!
//! The kernel signals a worker's leader then by the leader's parent-death signal, but no other
//! process of the worker's group. So the guard keeps a list of the workers. Each worker announces
//! itself to the guard by one line, with a pidfd of itself, before it executes its program. So no
//! worker can run that the guard does not know, and a reused pid is never hit. Where the kernel
//! gives no pidfds, the line comes alone, and the guard goes by the number and the time of the
//! start.
//!
//! The guard acts at the end of file on its socket: that comes when every copy of the master's end
//! is closed. When a leader is gone, the guard sends the graceful signal to the rest of its group
//! (never twice to a leader), and KILL to every group when its time is over. A leader that has
//! changed its user has lost its parent-death signal (prctl(2)), so the guard signals that leader
//! itself.
//!
//! A process that has left its worker's group (a daemon) and holds a listener of the service gets
//! the graceful signal too, and KILL when its time is over; see `escaped`.
//!
//! The lines: `1 + SIGNAL MILLISECONDS PID` with a pidfd where there is one, adds a worker, `1 -
//! PID` removes it, and `1 l INODE` names a listener that workers get. The leading 1 is the
//! version. The guard outlives upgrades of the master, so the lines are a contract between
//! versions.
#![expect(
    unsafe_code,
    reason = "fork, and what the child does to become the guard"
)]

use std::collections::BTreeSet;
use std::ffi::CStr;
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

mod escaped;

use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::left_open::LeftOpen;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::io::{cmsg, fd};
use crate::sys::machine::clock;
use crate::sys::process::group::{is_group_gone, signal_group_by_pidfd};
use crate::sys::process::pidfd::HeldProcess;
use crate::sys::process::{proc_info, wait};
use crate::sys::signal;
use crate::wire::handover;
use escaped::Escaped;

/// The longest line, in bytes.
const MAX_LINE: usize = 64;

/// How many seconds a worker blocks in its announcement when the guard does not read; then the
/// worker starts without it.
const SEND_TIMEOUT_SECONDS: i64 = 1;

/// How often groups without a leader are checked: no descriptor reports the end of a group.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// How long the guard stays after the last KILL.
const STAY_AFTER_KILL: Duration = Duration::from_secs(5);

/// The guard's own name, as /proc shows it.
pub const NAME: &CStr = c"pf-guard";

/// What the guard needs to know to stop a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopTerms {
    /// The graceful signal.
    pub signal: Signal,
    /// The time from the graceful signal to KILL.
    pub timeout: Duration,
}

impl StopTerms {
    /// The line that announces a worker, up to its pid. Only the worker itself knows the pid in
    /// time and appends it.
    pub fn line(self) -> String {
        format!(
            "1 + {} {} ",
            signal::number(self.signal),
            self.timeout.as_millis()
        )
    }
}

/// The master's end of the guard's socket, and the guard's pid.
#[derive(Debug)]
pub struct Guard {
    socket: OwnedFd,
    pid: i32,
}

impl Guard {
    /// Forks the guard. Call it while this process has one thread.
    ///
    /// # Errors
    /// What socketpair(2) or fork(2) returned: EMFILE, EAGAIN, ENOMEM.
    pub fn start() -> io::Result<Guard> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        setsockopt(
            &ours,
            sockopt::SendTimeout,
            &TimeVal::new(SEND_TIMEOUT_SECONDS, 0),
        )?;
        let master = std::process::id();
        let mask = signal::block_all();
        // SAFETY: this process has one thread, so no lock is held and the child may run any code;
        // the child never returns from here.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            drop(ours);
            // Signals stay blocked in the guard: a signal that stops the service is meant for the
            // master. KILL cannot be blocked.
            become_guard(theirs, master);
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

    /// The guard that the previous image of the master started; the guard does not notice an
    /// upgrade.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(guard: &handover::Guard, left: &mut LeftOpen) -> io::Result<Guard> {
        Ok(Guard {
            socket: left.take(guard.fd)?,
            pid: guard.pid,
        })
    }

    /// The guard's pid, by which its end is recognised.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The socket that a worker sends its line through.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Announces a worker that runs already to a guard that was started anew. `pidfd` is the
    /// leader's, if the kernel gave one.
    pub fn watch(&self, pid: i32, pidfd: Option<BorrowedFd<'_>>, terms: StopTerms) {
        let line = format!("{}{pid}", terms.line());
        let fds: Vec<_> = pidfd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        self.send(line.as_bytes(), rights);
    }

    /// Reports that a worker's group is empty. A lost line costs the guard a descriptor and does no
    /// other harm.
    pub fn forget(&self, pid: i32) {
        self.send(format!("1 - {pid}").as_bytes(), &[]);
    }

    /// Names a listener that workers get; false if the guard could not be told now.
    pub fn name_listener(&self, inode: u64) -> bool {
        self.send(format!("1 l {inode}").as_bytes(), &[])
    }

    fn send(&self, line: &[u8], rights: &[ControlMessage<'_>]) -> bool {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // If the guard is gone, the driver sees its end, starts a new one and announces all workers
        // again.
        let sent = sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(line)],
            rights,
            flags,
            None,
        );
        sent.is_ok()
    }

    /// Kills and reaps the guard: no worker is left.
    pub fn kill(self) {
        let Guard { socket, pid } = self;
        drop(socket);
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
        let _ = wait::reap_blocking(pid);
    }
}

/// What the guard knows of the service.
#[derive(Default)]
struct Guarded {
    workers: Vec<GuardedWorker>,
    /// The inodes of the listeners.
    listeners: BTreeSet<u64>,
    /// The signal and the timeout of the worker that was announced last: of processes that have
    /// left their groups nothing else is known.
    terms: (i32, Duration),
}

/// A worker that the guard knows.
struct GuardedWorker {
    process: HeldProcess,
    signal: i32,
    timeout: Duration,
    /// The leader is gone and the rest of the group has been signalled.
    is_rest_signalled: bool,
}

fn become_guard(socket: OwnedFd, master: u32) -> ! {
    let socket = drop_inherited_state(socket);
    let mut guarded = Guarded::default();
    if let Some(socket) = &socket {
        track_workers(socket.as_fd(), &mut guarded, master);
        // Without a socket it is not known that the master is dead.
        stop_workers(guarded, master);
    }
    // SAFETY: the end of a forked child; no destructor and no buffer of the master may run here.
    unsafe { libc::_exit(0) }
}

/// Closes everything that the guard has from the master but the socket: its listeners, its control
/// socket, its terminal, its directory.
fn drop_inherited_state(socket: OwnedFd) -> Option<OwnedFd> {
    let _ = nix::unistd::setsid();
    let _ = nix::unistd::chdir("/");
    let null = fd::null().ok()?;
    for number in 0..3 {
        // SAFETY: a system call on numbers.
        unsafe { libc::dup2(null.as_raw_fd(), number) };
    }
    // SAFETY: a system call on numbers.
    unsafe { libc::dup2(socket.as_raw_fd(), 3) };
    // The values that own these descriptors are in the guard's copy of the master's memory, and are
    // never dropped here.
    std::mem::forget((null, socket));
    fd::close_from(4);
    // Last, so that a process called pf-guard holds nothing of the master's.
    let _ = nix::sys::prctl::set_name(NAME);
    fd::adopt(3).ok()
}

/// Reads announcements until the master is gone.
fn track_workers(socket: BorrowedFd<'_>, guarded: &mut Guarded, master: u32) {
    let mut poller = Poller::new();
    let mut sweep_at = 64;
    loop {
        if poller.wait(&[(socket, Interest::READ)], None).is_err() {
            clock::pause(CHECK_INTERVAL);
        }
        match read_lines(socket, guarded) {
            Ok(Lines::Ended) => return,
            Ok(Lines::AllRead) => {}
            // Nothing could be read, which says nothing about the master. What waits is read later.
            Err(_) if is_child_of(master) => clock::pause(CHECK_INTERVAL),
            Err(_) => return,
        }
        let workers = &mut guarded.workers;
        if workers.len() > sweep_at {
            // Check the leader's pidfd first: only for a group without a leader is a scan of /proc
            // needed.
            workers.retain(|worker| !(worker.has_exited() && worker.is_group_gone()));
            sweep_at = workers.len() * 2 + 64;
        }
    }
}

/// What is left to be read of the master.
enum Lines {
    /// Nothing for now.
    AllRead,
    /// Nothing any more: every copy of the master's end is closed.
    Ended,
}

/// The guard is a child of the master as long as that lives.
fn is_child_of(master: u32) -> bool {
    nix::unistd::getppid().as_raw().unsigned_abs() == master
}

/// Reads all lines that are there.
///
/// # Errors
/// What recvmsg(2) said: ENOMEM. That is no end of file.
fn read_lines(socket: BorrowedFd<'_>, guarded: &mut Guarded) -> io::Result<Lines> {
    loop {
        let mut line = [0; MAX_LINE];
        match cmsg::receive(socket, &mut line) {
            Ok(received) if received.len == 0 && received.fds.is_empty() => {
                return Ok(Lines::Ended);
            }
            Ok(received) => apply_line(&line[..received.len.min(MAX_LINE)], received.fds, guarded),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(Lines::AllRead),
                // Reported once, before the lines that still wait.
                io::ErrorKind::ConnectionReset => {}
                _ => return Err(error),
            },
        }
    }
}

/// Applies one line. A line that it cannot parse comes from a newer master and is not for this
/// guard.
fn apply_line(line: &[u8], fds: Vec<OwnedFd>, guarded: &mut Guarded) {
    let workers = &mut guarded.workers;
    let text = String::from_utf8_lossy(line);
    let words: Vec<&str> = text.trim_end_matches('\0').split_whitespace().collect();
    match (words.as_slice(), fds.into_iter().next()) {
        (["1", "+", signal, timeout, pid], pidfd) => {
            if let (Ok(signal), Ok(timeout), Ok(pid)) =
                (signal.parse(), timeout.parse(), pid.parse())
                && let Ok(process) = HeldProcess::announced(pid, pidfd)
            {
                let timeout = Duration::from_millis(timeout);
                guarded.terms = (signal, timeout);
                workers.retain(|worker| worker.process.pid() != pid);
                workers.push(GuardedWorker {
                    process,
                    signal,
                    timeout,
                    is_rest_signalled: false,
                });
            }
        }
        (["1", "-", pid], _) => {
            if let Ok(pid) = pid.parse::<i32>() {
                workers.retain(|worker| worker.process.pid() != pid);
            }
        }
        (["1", "l", inode], _) => guarded.listeners.extend(inode.parse::<u64>()),
        _ => {}
    }
}

/// Stops the workers after the master's death. Their leaders have got their parent-death signal;
/// the rest of each group is the guard's task, and what has left these groups.
fn stop_workers(guarded: Guarded, master: u32) {
    let Guarded {
        mut workers,
        listeners,
        terms: (signal, timeout),
    } = guarded;
    let since = clock::now();
    let groups = workers.iter().map(|worker| worker.process.pid()).collect();
    let mut escaped = Escaped::new(master, listeners, groups, signal, since + timeout);
    for worker in &workers {
        worker.signal_if_other_user();
    }
    let mut poller = Poller::new();
    let mut last_kill = since + timeout;
    while !workers.is_empty() || !escaped.are_gone() {
        let now = clock::now();
        let mut next = escaped.advance(now, workers.is_empty());
        for worker in &mut workers {
            last_kill = last_kill.max(since + worker.timeout);
            next = next.min(worker.advance(since, now));
        }
        workers.retain(|worker| !(worker.is_rest_signalled && worker.is_group_gone()));
        if now >= last_kill + STAY_AFTER_KILL {
            return;
        }
        let leaders: Vec<_> = workers
            .iter()
            .filter(|worker| !worker.is_rest_signalled)
            .filter_map(|worker| Some((worker.process.pidfd()?.as_fd(), Interest::READ)))
            .collect();
        let _ = poller.wait(&leaders, Some(next));
    }
}

impl GuardedWorker {
    fn signal_if_other_user(&self) {
        if proc_info::has_our_user(self.process.pid()) == Some(false)
            && let Some(signal) = signal::from_number(self.signal)
        {
            // If the pid was reused when we read /proc, no other process is hit.
            let _ = self.process.signal(signal);
        }
    }

    fn has_exited(&self) -> bool {
        self.process.wait(Some(Time(0))).unwrap_or(false)
    }

    fn is_group_gone(&self) -> bool {
        is_group_gone(self.process.pidfd(), self.process.pid())
    }

    fn signal_group(&self, number: i32) {
        signal_group_by_pidfd(self.process.pidfd(), self.process.pid(), number);
    }

    /// Does what is due for this worker; returns when to come back.
    fn advance(&mut self, since: Time, now: Time) -> Time {
        let kill_at = since + self.timeout;
        if now >= kill_at {
            self.signal_group(signal::number(Signal::Kill));
            self.is_rest_signalled = true;
            return now + CHECK_INTERVAL;
        }
        if !self.is_rest_signalled && self.has_exited() {
            self.signal_group(self.signal);
            self.signal_group(signal::number(Signal::Cont));
            self.is_rest_signalled = true;
        }
        // No descriptor tells the end of a group, or of a leader without a pidfd.
        if self.is_rest_signalled || self.process.pidfd().is_none() {
            kill_at.min(now + CHECK_INTERVAL)
        } else {
            kill_at
        }
    }
}
