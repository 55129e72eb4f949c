//! Starting a worker: fork, and what the child does until its program runs.
//!
//! Every signal is blocked from before the fork until all dispositions are the default; without that, a signal sent at once
//! would run the master's handler in the child and be lost. The parent-death signal is armed last, since changes of
//! credentials clear it, and then the parent is compared with the one that was meant, since it may have died before.
#![expect(unsafe_code, reason = "fork, and the system calls between it and exec")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::pipe2;

use super::signals;
use crate::model::sig::Sig;

mod stamped;
mod strip;

use stamped::Stamped;
use strip::{changed_dispositions, default_dispositions, gaps, mark_one_by_one};

/// What is started; prepared once for a generation.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program's path, already looked up.
    pub program: CString,
    /// The arguments, the program's name first.
    pub argv: Vec<CString>,
    /// The environment that all of them have, `K=V` each, without `LISTEN_PID`.
    pub env: Vec<CString>,
    /// The variables that are added with the child's own pid: `LISTEN_PID`, `WATCHDOG_PID`.
    pub own_pid_in: Vec<&'static str>,
    /// The working directory.
    pub cwd: CString,
    /// What the kernel sends the worker when the master dies.
    pub death_signal: Sig,
    /// RLIMIT_NOFILE, soft and hard; `None`: as the master's.
    pub nofile: Option<(u64, u64)>,
}

/// What one worker gets for itself: descriptors (1 and 2 are the master's unless they are named here; all others are closed), and variables.
#[derive(Debug)]
pub struct Plumbing<'a> {
    /// Its stdin.
    pub stdin: BorrowedFd<'a>,
    /// Whatever else, each with the number that it gets.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// The guard's socket, and the line that announces the worker there, up to its pid.
    pub guard: Option<(BorrowedFd<'a>, &'a str)>,
    /// Its own part of the environment.
    pub env: &'a [CString],
}

/// A child that has been forked. Whether its program runs is told by [`outcome`].
#[derive(Debug)]
pub struct Spawned {
    /// Its pid, which is also its session and its process group.
    pub pid: i32,
    /// Readable once it is known whether exec succeeded; non-blocking, close-on-exec.
    pub outcome: OwnedFd,
}

/// The step at which a start failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A session of its own.
    Session,
    /// The descriptors.
    Descriptors,
    /// The limit of open files.
    Limits,
    /// The working directory.
    Directory,
    /// The parent-death signal.
    DeathSignal,
    /// The program.
    Exec,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Session => "cannot make a session",
            Stage::Descriptors => "cannot place its descriptors",
            Stage::Limits => "cannot set its limit of open files",
            Stage::Directory => "cannot change to its working directory",
            Stage::DeathSignal => "cannot arm its death signal",
            Stage::Exec => "cannot execute its program",
        })
    }
}

const STAGES: [Stage; 6] = [
    Stage::Session,
    Stage::Descriptors,
    Stage::Limits,
    Stage::Directory,
    Stage::DeathSignal,
    Stage::Exec,
];

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The program runs.
    Executed,
    /// The child ended before it came to execute its program; its wait status tells how.
    Died,
    /// It does not run, and the child exits at once.
    Failed {
        /// The step that failed.
        stage: Stage,
        /// Why.
        errno: i32,
    },
    /// Not known yet.
    Pending,
}

const RECORD: usize = 8;

/// In place of a stage: nothing has failed, and the next step is exec.
const ABOUT_TO_EXECUTE: u8 = 0xff;

/// Reads what became of a start, from [`Spawned::outcome`]; never waits. `about`: whether the child was about to execute its program, false
/// at first; end of file alone tells only that the child is gone or was executed.
pub fn outcome(fd: BorrowedFd<'_>, about: &mut bool) -> Outcome {
    loop {
        let mut record = [0u8; RECORD];
        let read = nix::unistd::read(fd, &mut record);
        let [stage, _, _, _, errno @ ..] = record;
        return match read {
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Outcome::Pending,
            Ok(0) if *about => Outcome::Executed,
            Ok(0) => Outcome::Died,
            Ok(_) if stage == ABOUT_TO_EXECUTE => {
                *about = true;
                continue;
            }
            Ok(_) => Outcome::Failed {
                stage: STAGES
                    .get(usize::from(stage))
                    .copied()
                    .unwrap_or(Stage::Exec),
                errno: i32::from_ne_bytes(errno),
            },
            Err(errno) => Outcome::Failed {
                stage: Stage::Exec,
                errno: errno as i32,
            },
        };
    }
}

/// Forks a worker; `master` is our own pid. To be called on the thread that lives as long as the process: the parent-death
/// signal is tied to it.
///
/// # Errors
/// What pipe2(2) or fork(2) said: EMFILE, ENFILE, EAGAIN, ENOMEM. What fails in the child is told by [`outcome`].
pub fn spawn(launch: &Launch, plumbing: &Plumbing<'_>, master: i32) -> io::Result<Spawned> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let mut prepared = Prepared::new(launch, plumbing, master, write.as_fd());
    let mask = signals::block_all();
    // SAFETY: until exec or _exit the child makes only system calls on memory that was prepared before; it neither allocates
    // nor takes a lock that another thread could have held.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: this is the child of the fork above.
        unsafe { prepared.run() }
    }
    let forked = Errno::result(pid);
    signals::restore(mask);
    Ok(Spawned {
        pid: forked?,
        outcome: read,
    })
}

/// Everything that the child needs, in the form in which the system calls want it.
struct Prepared<'a> {
    launch: &'a Launch,
    dispositions: &'static [libc::c_int],
    master: i32,
    death_signal: libc::c_int,
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    /// Variables that end in the pid.
    stamped: Vec<Stamped>,
    /// What the guard is told.
    guard: Option<(RawFd, Stamped)>,
    /// The descriptors: where each is, and the number that it gets.
    moves: Vec<(RawFd, RawFd)>,
    /// Above all targets: what is here is in nobody's way.
    above: RawFd,
    /// The ranges of numbers that the worker does not get.
    gaps: Vec<(libc::c_uint, libc::c_uint)>,
    report: RawFd,
}

impl<'a> Prepared<'a> {
    fn new(
        launch: &'a Launch,
        plumbing: &Plumbing<'a>,
        master: i32,
        report: BorrowedFd<'_>,
    ) -> Self {
        let mut argv: Vec<_> = launch.argv.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(std::ptr::null());
        let variables = launch.env.iter().chain(plumbing.env);
        let mut env: Vec<_> = variables.map(|variable| variable.as_ptr()).collect();
        let mut stamped: Vec<Stamped> = launch
            .own_pid_in
            .iter()
            .map(|name| Stamped::new(&format!("{name}=")))
            .collect();
        env.extend(
            stamped
                .iter_mut()
                .map(|variable| variable.text.as_mut_ptr().cast_const().cast()),
        );
        let guard = plumbing
            .guard
            .map(|(socket, line)| (socket.as_raw_fd(), Stamped::new(line)));
        env.push(std::ptr::null());
        let mut moves = vec![(plumbing.stdin.as_raw_fd(), 0)];
        moves.extend(
            plumbing
                .fds
                .iter()
                .map(|(fd, target)| (fd.as_raw_fd(), *target)),
        );
        let mut targets: Vec<RawFd> = moves.iter().map(|(_, target)| *target).collect();
        targets.extend([1, 2]);
        targets.sort_unstable();
        Prepared {
            launch,
            dispositions: changed_dispositions(),
            master,
            death_signal: signals::number(launch.death_signal),
            argv,
            env,
            stamped,
            guard,
            moves,
            above: targets.last().map_or(3, |last| last.saturating_add(1)),
            gaps: gaps(&targets),
            report: report.as_raw_fd(),
        }
    }

    /// The child.
    ///
    /// # Safety
    /// Only in a process that has just been forked, with every signal blocked. Nothing here allocates, locks or panics.
    unsafe fn run(&mut self) -> ! {
        // SAFETY: async-signal-safe calls on numbers and on memory of `self`.
        unsafe {
            let stage = match self.prepare() {
                Err(stage) => stage,
                Ok(()) => {
                    // All that was pending has been delivered by now: whoever gets here is executed, or killed by the next signal.
                    let about: [u8; RECORD] = [ABOUT_TO_EXECUTE, 0, 0, 0, 0, 0, 0, 0];
                    libc::write(self.report, about.as_ptr().cast(), RECORD);
                    let program = self.launch.program.as_ptr();
                    libc::execve(program, self.argv.as_ptr(), self.env.as_ptr());
                    Stage::Exec
                }
            };
            let errno = Errno::last_raw();
            let [a, b, c, d] = errno.to_ne_bytes();
            let record: [u8; RECORD] = [stage as u8, 0, 0, 0, a, b, c, d];
            libc::write(self.report, record.as_ptr().cast(), RECORD);
            // What a shell says of a program that is not there, or cannot be run.
            let missing = stage == Stage::Exec && errno == libc::ENOENT;
            libc::_exit(if missing { 127 } else { 126 })
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn prepare(&mut self) -> Result<(), Stage> {
        // SAFETY: as `run`.
        unsafe {
            // First of all, so that whatever fails can be told.
            if self.report < self.above {
                self.report = check(
                    libc::fcntl(self.report, libc::F_DUPFD_CLOEXEC, self.above),
                    Stage::Descriptors,
                )?;
            }
            check(libc::setsid(), Stage::Session)?;
            default_dispositions(self.dispositions);
            // Before any descriptor is moved, and before anything of the worker's own runs.
            self.announce();
            self.place()?;
            self.close_the_rest();
            if let Some((soft, hard)) = self.launch.nofile {
                let limit = libc::rlimit {
                    rlim_cur: soft,
                    rlim_max: hard,
                };
                let done = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                check(done, Stage::Limits)?;
            }
            check(libc::chdir(self.launch.cwd.as_ptr()), Stage::Directory)?;
            let pid = libc::getpid();
            for variable in &mut self.stamped {
                variable.stamp(pid);
            }
            let signal = libc::c_ulong::try_from(self.death_signal).unwrap_or(0);
            check(
                libc::prctl(libc::PR_SET_PDEATHSIG, signal),
                Stage::DeathSignal,
            )?;
            if libc::getppid() != self.master {
                // The master died before the signal was armed: nobody wants this worker, and nobody reads the report.
                libc::_exit(126);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            Ok(())
        }
    }

    /// Tells the guard of this worker, with a handle that no other process can ever be taken for. What the guard cannot be told, it is told
    /// by the master when it is started anew.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn announce(&mut self) {
        let Some((socket, line)) = &mut self.guard else {
            return;
        };
        // SAFETY: as `run`; the message points to memory of `self` and of this frame.
        unsafe {
            let pid = libc::getpid();
            let handle = libc::syscall(libc::SYS_pidfd_open, pid, 0) as libc::c_int;
            if handle < 0 {
                return;
            }
            line.stamp(pid);
            let mut part = libc::iovec {
                iov_base: line.text.as_mut_ptr().cast(),
                iov_len: line.text.len(),
            };
            let mut control = Rights([0; RIGHTS_ROOM]);
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<libc::c_int>() as _) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if header.is_null() {
                return;
            }
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<libc::c_int>() as _) as _;
            libc::CMSG_DATA(header)
                .cast::<libc::c_int>()
                .write_unaligned(handle);
            libc::sendmsg(*socket, &raw const message, libc::MSG_NOSIGNAL);
            libc::close(handle);
        }
    }

    /// Moves every descriptor that could be overwritten out of the way before the first is overwritten.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn place(&mut self) -> Result<(), Stage> {
        // SAFETY: as `run`.
        unsafe {
            for (source, _) in &mut self.moves {
                if *source < self.above {
                    let up = libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, self.above);
                    *source = check(up, Stage::Descriptors)?;
                }
            }
            for (source, target) in &self.moves {
                check(libc::dup2(*source, *target), Stage::Descriptors)?;
            }
            Ok(())
        }
    }

    /// Marks close-on-exec whatever the master itself was given without. What exec cannot take away stays: a leak of the
    /// caller's is no reason to have no worker.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn close_the_rest(&self) {
        // SAFETY: as `run`.
        unsafe {
            for (first, last) in &self.gaps {
                let flags = libc::CLOSE_RANGE_CLOEXEC;
                // The call itself, as a C library may be older than it.
                if libc::syscall(libc::SYS_close_range, *first, *last, flags) != 0 {
                    mark_one_by_one(*first, *last);
                }
            }
        }
    }
}

/// Room for a header and one descriptor, aligned as the header must be.
const RIGHTS_ROOM: usize = 64;

#[repr(C, align(8))]
struct Rights([u8; RIGHTS_ROOM]);

fn check(done: libc::c_int, stage: Stage) -> Result<libc::c_int, Stage> {
    if done < 0 { Err(stage) } else { Ok(done) }
}

#[cfg(test)]
pub(crate) mod tests;
