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

/// What is started; prepared once for a generation.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program's path, already looked up.
    pub program: CString,
    /// The arguments, the program's name first.
    pub argv: Vec<CString>,
    /// The environment, `K=V` each, without `LISTEN_PID`.
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

/// The descriptors that the worker gets. 1 and 2 are the master's unless they are named here; all others are closed.
#[derive(Debug)]
pub struct Plumbing<'a> {
    /// Its stdin.
    pub stdin: BorrowedFd<'a>,
    /// Whatever else, each with the number that it gets.
    pub fds: &'a [(BorrowedFd<'a>, RawFd)],
    /// The guard's socket, and the line that announces the worker there, up to its pid.
    pub guard: Option<(BorrowedFd<'a>, &'a str)>,
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
    /// The program runs; or the child was killed before, which its wait status tells.
    Executed,
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

/// Reads what became of a start, from [`Spawned::outcome`]; never waits.
pub fn outcome(fd: BorrowedFd<'_>) -> Outcome {
    let mut record = [0u8; RECORD];
    let read = loop {
        match nix::unistd::read(fd, &mut record) {
            Err(Errno::EINTR) => {}
            read => break read,
        }
    };
    let [stage, _, _, _, errno @ ..] = record;
    match read {
        Err(Errno::EAGAIN) => Outcome::Pending,
        Ok(0) => Outcome::Executed,
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

/// Digits of the largest pid, and the final NUL.
const PID_ROOM: usize = 11;

/// Everything that the child needs, in the form in which the system calls want it.
struct Prepared<'a> {
    launch: &'a Launch,
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
        plumbing: &Plumbing<'_>,
        master: i32,
        report: BorrowedFd<'_>,
    ) -> Self {
        let mut argv: Vec<_> = launch.argv.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(std::ptr::null());
        let mut env: Vec<_> = launch.env.iter().map(|var| var.as_ptr()).collect();
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
            default_dispositions();
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

/// A text that ends in the child's pid, which only the child knows.
struct Stamped {
    text: Vec<u8>,
    digits_at: usize,
}

impl Stamped {
    fn new(beginning: &str) -> Self {
        let mut text = beginning.as_bytes().to_vec();
        text.resize(beginning.len() + PID_ROOM, 0);
        Stamped {
            text,
            digits_at: beginning.len(),
        }
    }

    /// # Safety
    /// None but that of the child: it writes to memory that was prepared.
    unsafe fn stamp(&mut self, pid: libc::pid_t) {
        // SAFETY: `PID_ROOM` bytes follow the beginning.
        unsafe { stamp(self.text.as_mut_ptr().wrapping_add(self.digits_at), pid) }
    }
}

fn check(done: libc::c_int, stage: Stage) -> Result<libc::c_int, Stage> {
    if done < 0 { Err(stage) } else { Ok(done) }
}

/// The ranges between `targets`, which are sorted, and above them.
fn gaps(targets: &[RawFd]) -> Vec<(libc::c_uint, libc::c_uint)> {
    let mut gaps = Vec::new();
    let mut next: libc::c_uint = 0;
    for target in targets {
        let target = libc::c_uint::try_from(*target).unwrap_or(0);
        if target > next {
            gaps.push((next, target - 1));
        }
        next = next.max(target.saturating_add(1));
    }
    gaps.push((next, libc::c_uint::MAX));
    gaps
}

/// Ignored signals survive exec: SIGPIPE, which Rust ignores, what `nohup` ignored, and whatever our parent left behind.
///
/// # Safety
/// In the child alone, with every signal blocked.
unsafe fn default_dispositions() {
    // SAFETY: all zeroes is SIG_DFL with an empty mask, also in the kernel's own layout, which is shorter than the room given.
    // Numbers that cannot be changed are refused, which is fine.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        for number in 1..=64 {
            if libc::sigaction(number, &raw const action, std::ptr::null_mut()) < 0 {
                // The two that the C library keeps for itself, and refuses.
                let none = std::ptr::null_mut::<libc::c_void>();
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    number,
                    &raw const action,
                    none,
                    8usize,
                );
            }
        }
    }
}

/// For kernels before 5.11, and sandboxes that refuse close_range.
///
/// # Safety
/// In the child alone.
unsafe fn mark_one_by_one(first: libc::c_uint, last: libc::c_uint) {
    // SAFETY: system calls on numbers; one that is not open is refused.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let end = limit.rlim_cur.min(u64::from(last).saturating_add(1));
        let mut fd = u64::from(first);
        while fd < end {
            libc::fcntl(fd as libc::c_int, libc::F_SETFD, libc::FD_CLOEXEC);
            fd += 1;
        }
    }
}

/// # Safety
/// `digits` has room for `PID_ROOM` bytes.
unsafe fn stamp(digits: *mut u8, pid: libc::pid_t) {
    let mut divisor: libc::pid_t = 1;
    while pid / divisor >= 10 {
        divisor *= 10;
    }
    let mut at = digits;
    while divisor > 0 {
        // SAFETY: a pid has at most ten digits.
        unsafe {
            *at = b'0' + (pid / divisor % 10) as u8;
            at = at.add(1);
        }
        divisor /= 10;
    }
    // SAFETY: the eleventh byte.
    unsafe { *at = 0 }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::time::Duration;

    use super::*;
    use crate::sys::clock::now;
    use crate::sys::poll::{Interest, Poller};
    use crate::sys::signals::Signals;
    use crate::sys::testing::{Peer, Talk};
    use crate::sys::wait::tests::await_end;
    use crate::sys::wait::{Ended, Group};

    fn master() -> i32 {
        i32::try_from(std::process::id()).expect("a pid")
    }

    fn c(text: &str) -> CString {
        CString::new(text).expect("no NUL")
    }

    fn launch(words: &[&str]) -> Launch {
        Launch {
            program: c(words.first().expect("a program")),
            argv: words.iter().map(|word| c(word)).collect(),
            env: vec![c("PATH=/usr/bin:/bin"), c("K=v")],
            own_pid_in: vec!["LISTEN_PID"],
            cwd: c("/"),
            death_signal: Sig::Term,
            nofile: None,
        }
    }

    fn null() -> File {
        File::open("/dev/null").expect("/dev/null")
    }

    fn settled(spawned: &Spawned) -> Outcome {
        let fds = [(spawned.outcome.as_fd(), Interest::READ)];
        Poller::new()
            .wait(&fds, Some(now() + Duration::from_secs(10)))
            .expect("poll");
        outcome(spawned.outcome.as_fd())
    }

    fn reap(pid: i32) -> Ended {
        await_end(pid);
        crate::sys::wait::reap(pid).expect("ours").expect("ended")
    }

    /// Runs a program with a pipe as its stdout and `more` descriptors; what it wrote, and its pid.
    fn output(launch: &Launch, more: &[(BorrowedFd<'_>, RawFd)]) -> (String, i32) {
        let null = null();
        let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let mut fds = vec![(write.as_fd(), 1)];
        fds.extend_from_slice(more);
        let plumbing = Plumbing {
            stdin: null.as_fd(),
            fds: &fds,
            guard: None,
        };
        let spawned = spawn(launch, &plumbing, master()).expect("forked");
        assert_eq!(settled(&spawned), Outcome::Executed);
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).expect("read");
        assert_eq!(reap(spawned.pid), Ended::Exited(0), "{text}");
        (text, spawned.pid)
    }

    fn field<'a>(text: &'a str, name: &str) -> &'a str {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("no {name} in {text}"))
            .trim()
    }

    /// 40 times: a signal sent as soon as fork has returned, with the master's handlers standing.
    pub fn play(talk: &mut Talk) {
        let mut signals = Signals::install().expect("handlers");
        let null = null();
        let plumbing = Plumbing {
            stdin: null.as_fd(),
            fds: &[],
            guard: None,
        };
        let launch = launch(&["/bin/sleep", "60"]);
        for round in 0..40 {
            let spawned = spawn(&launch, &plumbing, master()).expect("forked");
            let group = Group::of_child(spawned.pid).expect("a child");
            let (sig, number) = if round % 2 == 0 {
                (Sig::Term, 15)
            } else {
                (Sig::Hup, 1)
            };
            // To the group as well: it may not exist yet.
            let sent = if round % 4 < 2 {
                group.signal_leader(sig)
            } else {
                group.signal_group(sig)
            };
            assert!(sent.expect("sent"));
            let ended = Ended::Signaled {
                signal: number,
                core: false,
            };
            assert_eq!(reap(spawned.pid), ended, "round {round}");
        }
        let caught = signals.pending();
        assert!(
            caught.iter().all(|(sig, _)| *sig == Sig::Chld),
            "{caught:?}"
        );
        talk.say("none lost");
    }

    #[test]
    fn u28_a_signal_sent_at_once_after_the_fork_is_never_lost() {
        let mut peer = Peer::start("spawn-and-kill", &[]);
        assert_eq!(peer.talk.hear().as_deref(), Some("none lost"));
    }

    #[test]
    fn u28_a_worker_starts_with_a_clean_signal_state() {
        let mask = signals::block_all();
        let (status, _) = output(&launch(&["/bin/cat", "/proc/self/status"]), &[]);
        signals::restore(mask);
        for field_name in ["SigBlk:", "SigIgn:", "SigCgt:"] {
            assert_eq!(
                field(&status, field_name),
                "0000000000000000",
                "{field_name}"
            );
        }
    }

    #[test]
    fn u21_a_worker_has_the_descriptors_that_it_was_given_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |name: &str| File::create_new(dir.path().join(name)).expect("a file");
        let (one, two, three) = (open("one"), open("two"), open("three"));
        // Inherited by the master without close-on-exec, in a gap and above.
        let stray = rustix::io::dup(&three).expect("a copy");
        let high = rustix::io::fcntl_dupfd_cloexec(&three, 200).expect("a copy");
        rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).expect("no close-on-exec");
        // Each target is another's source, so that a naive dup2 would lose one.
        let (a, b) = (one.as_raw_fd(), two.as_raw_fd());
        let more = [
            (one.as_fd(), b),
            (two.as_fd(), a),
            (three.as_fd(), a.max(b) + 40),
        ];
        let list = launch(&["/bin/ls", "-l", "/proc/self/fd"]);
        let (text, _) = output(&list, &more);
        let name = |name: &str| dir.path().join(name).display().to_string();
        let entries: Vec<(i32, String)> = text
            .lines()
            .filter_map(|line| line.split_once(" -> "))
            // What ls itself has open is the directory that it lists.
            .filter(|(_, what)| !what.starts_with("/proc/"))
            .map(|(words, what)| {
                let fd = words.rsplit(' ').next().expect("a word");
                (fd.parse().expect("a number"), what.to_owned())
            })
            .collect();
        assert!(entries.contains(&(0, "/dev/null".into())), "{text}");
        let mut got: Vec<_> = entries.into_iter().filter(|(fd, _)| *fd > 2).collect();
        got.sort();
        let mut expected = vec![
            (b, name("one")),
            (a, name("two")),
            (a.max(b) + 40, name("three")),
        ];
        expected.sort();
        assert_eq!(got, expected, "{text}");
        drop((stray, high));
    }

    #[test]
    fn a_worker_has_its_own_session_pid_directory_and_limits() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().canonicalize().expect("resolved");
        let mut launch = launch(&[
            "/bin/sh",
            "-c",
            "echo pid $$ $LISTEN_PID; echo cwd $(pwd -P); echo stat $(cat /proc/$$/stat); \
             echo soft $(ulimit -Sn); echo hard $(ulimit -Hn); echo K $K; echo all; env",
        ]);
        launch.cwd = CString::new(dir.as_os_str().as_encoded_bytes()).expect("no NUL");
        launch.nofile = Some((100, 200));
        let (text, pid) = output(&launch, &[]);
        assert_eq!(field(&text, "pid "), format!("{pid} {pid}"));
        assert_eq!(field(&text, "cwd "), dir.display().to_string());
        assert_eq!(field(&text, "soft "), "100");
        assert_eq!(field(&text, "hard "), "200");
        assert_eq!(field(&text, "K "), "v");
        let stat: Vec<&str> = field(&text, "stat ").split(' ').collect();
        let pid = pid.to_string();
        // Parent, group, session.
        assert_eq!(
            stat.get(3..6).expect("fields"),
            [&master().to_string(), &pid, &pid]
        );
    }

    #[test]
    fn listen_pid_stands_only_where_it_is_asked_for() {
        let mut launch = launch(&["/usr/bin/env"]);
        let (text, pid) = output(&launch, &[]);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let stamped = format!("LISTEN_PID={pid}");
        assert_eq!(lines, ["K=v", stamped.as_str(), "PATH=/usr/bin:/bin"]);
        launch.own_pid_in.clear();
        assert!(!output(&launch, &[]).0.contains("LISTEN_PID"));
    }

    #[test]
    fn a_failure_in_the_child_names_its_step() {
        let null = null();
        let plumbing = Plumbing {
            stdin: null.as_fd(),
            fds: &[],
            guard: None,
        };
        let missing = launch(&["/no/such/program"]);
        let not_executable = launch(&["/etc/passwd"]);
        let mut nowhere = launch(&["/bin/true"]);
        nowhere.cwd = c("/no/such/directory");
        let mut unlimited = launch(&["/bin/true"]);
        unlimited.nofile = Some((2, 1));
        for (launch, stage, errno, code) in [
            (missing, Stage::Exec, libc::ENOENT, 127),
            (not_executable, Stage::Exec, libc::EACCES, 126),
            (nowhere, Stage::Directory, libc::ENOENT, 126),
            (unlimited, Stage::Limits, libc::EINVAL, 126),
        ] {
            let spawned = spawn(&launch, &plumbing, master()).expect("forked");
            assert_eq!(settled(&spawned), Outcome::Failed { stage, errno });
            assert_eq!(reap(spawned.pid), Ended::Exited(code));
        }
    }

    #[test]
    fn a_worker_of_a_master_that_has_died_does_not_start() {
        let null = null();
        let plumbing = Plumbing {
            stdin: null.as_fd(),
            fds: &[],
            guard: None,
        };
        let launch = launch(&["/bin/sleep", "60"]);
        let spawned = spawn(&launch, &plumbing, master() + 1).expect("forked");
        assert_eq!(reap(spawned.pid), Ended::Exited(126));
    }

    #[test]
    fn gaps_lie_between_and_above_the_targets() {
        assert_eq!(gaps(&[0, 1, 2]), [(3, u32::MAX)]);
        assert_eq!(gaps(&[0, 1, 2, 2, 3, 7]), [(4, 6), (8, u32::MAX)]);
        assert_eq!(gaps(&[]), [(0, u32::MAX)]);
    }

    #[test]
    fn pids_are_written_digit_by_digit() {
        for pid in [1, 9, 10, 99, 100, 4_194_304, i32::MAX] {
            let mut room = [b'x'; PID_ROOM];
            // SAFETY: the room is as large as asked for.
            unsafe { stamp(room.as_mut_ptr(), pid) };
            let text: Vec<u8> = room.into_iter().take_while(|byte| *byte != 0).collect();
            assert_eq!(text, pid.to_string().as_bytes());
        }
    }
}
