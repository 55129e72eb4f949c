//! What the child does between fork and exec, on values that belong to the child alone.
#![expect(unsafe_code, reason = "the system calls between fork and exec")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::libc;

use super::launch::{Launch, Leads, Plumbing};
use super::pid_text::PidText;
use super::report::{ABOUT_TO_EXECUTE, RECORD, SpawnStep};
use super::strip::{
    changed_dispositions, default_dispositions, gaps, mark_one_by_one, unblock_all,
};
use super::syscall::{Returned, call};
use crate::sys::io::fd;
use crate::sys::machine::limits::at_most_present;
use crate::sys::signal;
use crate::wire::environment::Environment;

/// The step that failed, and its error number.
type FailedStep = (SpawnStep, i32);

/// Everything that the child needs, in the form that the system calls take. It owns what it points
/// to, because the child may still be at work when the master goes on.
pub(super) struct PreparedChild {
    /// The strings that the pointers below point into.
    _texts: Vec<u8>,
    /// The same for the variables of `env` that all workers share. No copy, since the environment
    /// may be long: the master never changes it, and this value keeps it from being freed.
    _shared: Environment,
    program: *const libc::c_char,
    /// Null: ours.
    cwd: *const libc::c_char,
    leads: Leads,
    argv: Vec<*const libc::c_char>,
    env: Vec<*const libc::c_char>,
    /// Variables that end in the pid; `env` points to them too.
    pid_texts: Vec<PidText>,
    dispositions: &'static [libc::c_int],
    nofile: Option<libc::rlimit64>,
    master: i32,
    death_signal: Option<libc::c_int>,
    /// The guard's socket, and the line that announces this worker.
    guard: Option<(RawFd, PidText)>,
    /// The descriptors: where each is, and the number that it gets.
    moves: Vec<(RawFd, RawFd)>,
    /// The first number above all targets: a descriptor from here on is never overwritten.
    above: RawFd,
    /// The ranges of numbers that the worker does not get.
    gaps: Vec<(libc::c_uint, libc::c_uint)>,
    /// Where the kernel cannot mark a range: the highest number that is open.
    highest: Option<libc::c_uint>,
    report: RawFd,
}

impl PreparedChild {
    pub(super) fn new(
        launch: &Launch,
        plumbing: &Plumbing<'_>,
        master: i32,
        report: BorrowedFd<'_>,
    ) -> Self {
        let strings: Vec<&CStr> = std::iter::once(&launch.program)
            .chain(&launch.cwd)
            .chain(&launch.argv)
            .chain(plumbing.env)
            .map(|text| text.as_c_str())
            .collect();
        // One allocation for all of them.
        let mut texts = Vec::with_capacity(strings.iter().map(|text| text.count_bytes() + 1).sum());
        for text in &strings {
            texts.extend_from_slice(text.to_bytes_with_nul());
        }
        let mut at = texts.as_ptr();
        let mut pointers = strings.iter().map(|text| {
            let here = at;
            at = at.wrapping_add(text.count_bytes() + 1);
            here.cast()
        });
        let program = pointers.next().unwrap_or_else(std::ptr::null);
        let cwd = launch.cwd.as_ref().and_then(|_| pointers.next());
        let mut argv: Vec<_> = pointers.by_ref().take(launch.argv.len()).collect();
        argv.push(std::ptr::null());
        let shared = launch.env.clone();
        let mut env: Vec<_> = shared.iter().map(|it| it.text().as_ptr()).collect();
        env.extend(pointers);
        let mut pid_texts: Vec<PidText> = launch
            .own_pid_in
            .iter()
            .map(|name| PidText::new(&format!("{name}=")))
            .collect();
        env.extend(
            pid_texts
                .iter_mut()
                .map(|variable| variable.text.as_mut_ptr().cast_const().cast()),
        );
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
        PreparedChild {
            _texts: texts,
            _shared: shared,
            program,
            cwd: cwd.unwrap_or_else(std::ptr::null),
            leads: launch.leads,
            argv,
            env,
            pid_texts,
            dispositions: changed_dispositions(),
            nofile: launch
                .nofile
                .map(at_most_present)
                .map(|(soft, hard)| libc::rlimit64 {
                    rlim_cur: soft,
                    rlim_max: hard,
                }),
            master,
            death_signal: launch.death_signal.map(signal::number),
            guard: plumbing
                .guard
                .map(|(socket, line)| (socket.as_raw_fd(), PidText::new(line))),
            moves,
            above: targets.last().map_or(3, |last| last.saturating_add(1)),
            gaps: gaps(&targets),
            highest: (!fd::can_mark_ranges()).then(fd::highest_open),
            report: report.as_raw_fd(),
        }
    }

    /// Checks that the child will find the numbers that it needs while it places its descriptors:
    /// a worker that fails there is a failed start, and one that cannot be forked is not.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn check_room(&self, report: BorrowedFd<'_>) -> std::io::Result<()> {
        let moved = self.moves.iter().map(|(source, _)| source);
        let moved = moved.chain([&self.report]).filter(|fd| **fd < self.above);
        // And one for the pidfd with which it announces itself.
        fd::check_room_for(moved.count() + 1, report)
    }

    /// Runs the child: prepares it, executes its program, and exits if any of that fails.
    ///
    /// # Safety
    /// Only in a process that has just been forked, with every signal blocked, and on a value that
    /// no other code touches as long as it runs. Nothing here allocates, locks or panics, and all
    /// system calls go through `syscall`: the C library would write to the master's errno.
    pub(super) unsafe fn run(&mut self) -> ! {
        // SAFETY: calls on numbers and on memory of `self`.
        unsafe {
            let (step, errno) = match self.prepare() {
                Err(failed) => failed,
                Ok(()) => {
                    // All signals that were pending have been delivered by now: from here on the
                    // child executes its program, or the next signal kills it.
                    self.send_report(ABOUT_TO_EXECUTE, 0);
                    let (argv, env) = (self.argv.as_ptr() as usize, self.env.as_ptr() as usize);
                    let done = call(libc::SYS_execve, [self.program as usize, argv, env, 0]);
                    (SpawnStep::Exec, done.err().unwrap_or(libc::EIO))
                }
            };
            self.send_report(step as u8, errno);
            // The exit codes of a shell: 127 for a program that does not exist, 126 for one that
            // cannot be executed.
            let missing = step == SpawnStep::Exec && errno == libc::ENOENT;
            exit(if missing { 127 } else { 126 })
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn send_report(&self, step: u8, errno: i32) {
        let [a, b, c, d] = errno.to_ne_bytes();
        let record: [u8; RECORD] = [step, 0, 0, 0, a, b, c, d];
        let from = record.as_ptr() as usize;
        // SAFETY: as `run`.
        let _ = unsafe { call(libc::SYS_write, [self.report as usize, from, RECORD, 0]) };
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn prepare(&mut self) -> Result<(), FailedStep> {
        // SAFETY: as `run`.
        unsafe {
            // First, so that every later failure can be reported.
            self.report = self.move_above_targets(self.report)?;
            let done = match self.leads {
                Leads::Session => call(libc::SYS_setsid, [0; 4]),
                Leads::Group => call(libc::SYS_setpgid, [0; 4]),
                Leads::Nothing => Ok(0),
            };
            check(SpawnStep::Session, done)?;
            default_dispositions(self.dispositions);
            // Before any descriptor is moved, and before any code of the worker runs.
            self.announce();
            self.place_fds()?;
            self.close_other_fds();
            if let Some(limit) = &self.nofile {
                let (resource, limit) = (libc::RLIMIT_NOFILE as usize, std::ptr::from_ref(limit));
                let done = call(libc::SYS_prlimit64, [0, resource, limit as usize, 0]);
                check(SpawnStep::Limits, done)?;
            }
            if !self.cwd.is_null() {
                let done = call(libc::SYS_chdir, [self.cwd as usize, 0, 0, 0]);
                check(SpawnStep::Directory, done)?;
            }
            let pid = own_pid();
            for variable in &mut self.pid_texts {
                variable.append_pid(pid);
            }
            if let Some(signal) = self.death_signal {
                let (what, signal) = (libc::PR_SET_PDEATHSIG as usize, signal as usize);
                let done = call(libc::SYS_prctl, [what, signal, 0, 0]);
                check(SpawnStep::DeathSignal, done)?;
                if call(libc::SYS_getppid, [0; 4]) != Ok(self.master as isize) {
                    // The master died before the death signal was armed: the worker is not needed,
                    // and no process reads the report.
                    exit(126);
                }
            }
            unblock_all();
            Ok(())
        }
    }

    /// Announces this worker to the guard, with a pidfd that names exactly this process. If that
    /// fails, the guard does not know the worker until the master starts a new guard.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn announce(&mut self) {
        let Some((socket, line)) = &mut self.guard else {
            return;
        };
        // SAFETY: as `run`; the message points to memory of `self` and of this frame.
        unsafe {
            let pid = own_pid();
            // Without a pidfd the guard makes do with the number.
            let handle = call(libc::SYS_pidfd_open, [pid as usize, 0, 0, 0]).ok();
            line.append_pid(pid);
            let mut part = libc::iovec {
                iov_base: line.text.as_mut_ptr().cast(),
                iov_len: line.text.len(),
            };
            let mut control = Rights([0; RIGHTS_ROOM]);
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            if let Some(handle) = handle {
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
                    .write_unaligned(handle as libc::c_int);
            }
            let (from, flags) = (&raw const message as usize, libc::MSG_NOSIGNAL as usize);
            let _ = call(libc::SYS_sendmsg, [*socket as usize, from, flags, 0]);
            if let Some(handle) = handle {
                let _ = call(libc::SYS_close, [handle as usize, 0, 0, 0]);
            }
        }
    }

    /// Gives each descriptor its number. First every descriptor that could be overwritten is moved
    /// above all targets.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn place_fds(&mut self) -> Result<(), FailedStep> {
        // SAFETY: as `run`.
        unsafe {
            for at in 0..self.moves.len() {
                let up = self
                    .moves
                    .get(at)
                    .map(|(source, _)| self.move_above_targets(*source));
                if let (Some(up), Some((source, _))) = (up, self.moves.get_mut(at)) {
                    *source = up?;
                }
            }
            for (source, target) in &self.moves {
                // dup3(2) refuses equal numbers, but all sources are above the targets by now.
                let done = call(libc::SYS_dup3, [*source as usize, *target as usize, 0, 0]);
                check(SpawnStep::Descriptors, done)?;
            }
            Ok(())
        }
    }

    /// The descriptor itself, or a copy above all targets.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn move_above_targets(&self, fd: RawFd) -> Result<RawFd, FailedStep> {
        if fd >= self.above {
            return Ok(fd);
        }
        let (copy, above) = (libc::F_DUPFD_CLOEXEC as usize, self.above as usize);
        // SAFETY: as `run`.
        let done = unsafe { call(libc::SYS_fcntl, [fd as usize, copy, above, 0]) };
        check(SpawnStep::Descriptors, done).map(|up| up as RawFd)
    }

    /// Marks close-on-exec all descriptors that the worker was not given, also those that the
    /// master inherited without the flag. A descriptor that cannot be marked stays open: a leak of
    /// the master's parent is no reason to have no worker.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn close_other_fds(&self) {
        // SAFETY: as `run`.
        unsafe {
            for (first, last) in &self.gaps {
                match self.highest {
                    Some(highest) => mark_one_by_one(*first, (*last).min(highest)),
                    None => {
                        let range = [*first as usize, *last as usize];
                        let flags = libc::CLOSE_RANGE_CLOEXEC as usize;
                        let _ = call(libc::SYS_close_range, [range[0], range[1], flags, 0]);
                    }
                }
            }
        }
    }
}

/// Room for a header and one descriptor, aligned as the header must be.
const RIGHTS_ROOM: usize = 64;

#[repr(C, align(8))]
struct Rights([u8; RIGHTS_ROOM]);

fn check(step: SpawnStep, done: Returned) -> Result<isize, FailedStep> {
    done.map_err(|errno| (step, errno))
}

/// # Safety
/// None: it cannot fail.
unsafe fn own_pid() -> libc::pid_t {
    // SAFETY: a call without arguments.
    let pid = unsafe { call(libc::SYS_getpid, [0; 4]) };
    pid.unwrap_or(0) as libc::pid_t
}

/// # Safety
/// In the child alone.
unsafe fn exit(code: usize) -> ! {
    loop {
        // SAFETY: it does not return.
        let _ = unsafe { call(libc::SYS_exit_group, [code, 0, 0, 0]) };
    }
}
