//! Descriptors by number: takes over inherited ones, and places those for the next program.
//!
//! Rule: every descriptor that this process opens is close-on-exec; a descriptor that a parent left
//! open for us is not. So close-on-exec tells ours from inherited ones.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::libc;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};

use crate::error::{Error, Result};
use crate::sys::machine::limits;

/// Borrows a descriptor by its number, for as long as a system call or two take.
pub(in crate::sys) fn borrow(fd: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: any number but -1 may be borrowed; the system call that follows fails with EBADF if
    // it is not open.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Takes over the inherited descriptor `fd` and makes it close-on-exec, so that the next program
/// gets it only if it is placed for it. Call it once for each descriptor.
///
/// # Errors
/// Exit 111: it is not open, or it is close-on-exec. The second makes sure that a wrong number
/// never takes a descriptor that this process opened itself.
pub fn adopt(fd: RawFd) -> Result<OwnedFd> {
    if !survives_exec(fd) {
        return Err(Error::system(
            format!("cannot take over fd {fd}"),
            describe(Errno::EBADF),
        ));
    }
    set_cloexec(fd, true)
        .map_err(|errno| Error::system(format!("cannot take over fd {fd}"), describe(errno)))?;
    // SAFETY: it is open, as the call above has shown, and nothing else in this process owns it, as
    // the caller has promised.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of descriptor `fd`, close-on-exec. `fd` itself stays as it is.
///
/// # Errors
/// Exit 111: it is not open, or there are too many descriptors.
pub fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    let copied = borrow(fd)
        .ok_or(rustix::io::Errno::BADF)
        .and_then(|fd| fcntl_dupfd_cloexec(fd, 3));
    copied.map_err(|errno| {
        Error::system(
            format!("cannot take over fd {fd}"),
            describe(Errno::from_raw(errno.raw_os_error())),
        )
    })
}

/// As [`duplicate`], with the plain error; the copy has a number of `least` or more.
///
/// # Errors
/// EBADF: it is not open; EMFILE.
pub fn duplicate_above(fd: RawFd, least: RawFd) -> std::io::Result<OwnedFd> {
    let fd = borrow(fd).ok_or(rustix::io::Errno::BADF)?;
    Ok(fcntl_dupfd_cloexec(fd, least)?)
}

/// Checks that so many more descriptors can be opened now. It makes copies of `fd` and closes them.
///
/// # Errors
/// EMFILE: there is no room; EBADF: `fd` is not open.
pub fn check_room_for(more: usize, fd: BorrowedFd<'_>) -> std::io::Result<()> {
    let copies: rustix::io::Result<Vec<OwnedFd>> =
        (0..more).map(|_| fcntl_dupfd_cloexec(fd, 0)).collect();
    Ok(copies.map(drop)?)
}

/// Whether an error says that this process has as many descriptors open as it may.
pub fn is_at_limit(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMFILE)
}

/// Places copies of descriptors, as (from, target), open across an exec. All targets are below
/// `above`; what was open there is closed. For a process that is about to exec: on failure some may
/// have been placed.
///
/// # Errors
/// EBADF: one is not open; EMFILE.
pub fn place_each(placed: &[(RawFd, RawFd)], above: RawFd) -> std::io::Result<()> {
    // Copy all of them above the targets first: each may stand at the target of another one.
    let copies: Vec<(OwnedFd, RawFd)> = placed
        .iter()
        .map(|(fd, target)| Ok((duplicate_above(*fd, above)?, *target)))
        .collect::<std::io::Result<_>>()?;
    for (copy, target) in &copies {
        // SAFETY: dup2 takes any two numbers. What was at `target` is closed, as documented; the
        // exec that follows ends all owners.
        Errno::result(unsafe { libc::dup2(copy.as_raw_fd(), *target) })?;
    }
    Ok(())
}

fn describe(errno: Errno) -> &'static str {
    if errno == Errno::EBADF {
        "it is not open"
    } else {
        errno.desc()
    }
}

/// Sets or clears close-on-exec. Does not allocate: usable between fork and exec.
pub fn set_cloexec(fd: RawFd, on: bool) -> nix::Result<()> {
    let flags = if on {
        FdFlags::CLOEXEC
    } else {
        FdFlags::empty()
    };
    let borrowed = borrow(fd).ok_or(Errno::EBADF)?;
    fcntl_setfd(borrowed, flags).map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// Whether descriptor `fd` is open and stays open across an exec.
pub fn survives_exec(fd: RawFd) -> bool {
    borrow(fd)
        .is_some_and(|fd| fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)))
}

/// The target numbers of [`place`] at which an unrelated descriptor is open that would survive the
/// exec. Placing closes it.
pub fn unrelated_at_targets(sources: &[RawFd], first: RawFd) -> Vec<RawFd> {
    (first..)
        .take(sources.len())
        .filter(|fd| survives_exec(*fd) && !sources.contains(fd))
        .collect()
}

/// The file that a descriptor refers to, for a message: `pipe:[4711]`, `/var/log/app.log`.
pub fn describe_file(fd: RawFd) -> String {
    let target = std::fs::read_link(format!("/proc/self/fd/{fd}"));
    target.map_or_else(|_| "unknown".into(), |target| target.display().to_string())
}

/// Places the descriptors `sources` at `first`, `first + 1` and so on, open across an exec; what
/// was open there is closed. A source that stood at the target of another one is moved above the
/// range, and `sources` then has its new number.
///
/// Does not allocate: usable between fork and exec. On failure some may have been placed.
pub fn place(sources: &mut [RawFd], first: RawFd) -> nix::Result<()> {
    let count = RawFd::try_from(sources.len()).map_err(|_| Errno::EMFILE)?;
    let end = first.checked_add(count).ok_or(Errno::EMFILE)?;
    // Move those that stand at the target of another one before the first dup2 closes them: the
    // order of the sources is arbitrary.
    for (source, target) in sources.iter_mut().zip(first..) {
        if (first..end).contains(source) && *source != target {
            let fd = borrow(*source).ok_or(Errno::EBADF)?;
            let moved = fcntl_dupfd_cloexec(fd, end)
                .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
            *source = std::os::fd::IntoRawFd::into_raw_fd(moved);
        }
    }
    for (source, target) in sources.iter().zip(first..) {
        if *source == target {
            set_cloexec(target, false)?;
            continue;
        }
        // SAFETY: dup2 takes any two numbers. What was at `target` is closed, as documented; the
        // exec that follows ends all owners.
        Errno::result(unsafe { libc::dup2(*source, target) })?;
    }
    Ok(())
}

/// close_range(2) with these flags; what it returned.
fn close_range(first: libc::c_uint, flags: libc::c_uint) -> libc::c_long {
    // SAFETY: a system call on numbers. The callers say what becomes of the descriptors.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) }
}

/// Whether close_range(2) can mark descriptors close-on-exec: since Linux 5.11, where no seccomp
/// profile refuses the call.
pub fn can_mark_ranges() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    // A range in which nothing is open.
    *CAN.get_or_init(|| close_range(libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0)
}

/// Makes every descriptor from `first` on close-on-exec.
pub fn close_from_on_exec(first: RawFd) -> nix::Result<()> {
    if let Ok(number) = libc::c_uint::try_from(first)
        && close_range(number, libc::CLOSE_RANGE_CLOEXEC) == 0
    {
        return Ok(());
    }
    for fd in open_from(first) {
        match set_cloexec(fd, true) {
            // EBADF: the descriptor of the directory listing itself is closed by now.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on. For a forked process that runs nothing but what
/// follows: no value that owns one of them may be used or dropped any more.
pub(in crate::sys) fn close_from(first: RawFd) {
    if libc::c_uint::try_from(first).is_ok_and(|first| close_range(first, 0) == 0) {
        return;
    }
    // A kernel before 5.9, or a seccomp filter that does not know the call.
    for fd in open_from(first) {
        // SAFETY: closed, as documented.
        unsafe { libc::close(fd) };
    }
}

/// The highest number that is open, or may be.
pub fn highest_open() -> libc::c_uint {
    let highest = open_from(0).into_iter().max().unwrap_or(2);
    libc::c_uint::try_from(highest).unwrap_or(2)
}

/// The most numbers that are tried where the system does not tell which are open: a limit may be a
/// thousand times as high.
const MOST_TRIED: RawFd = 1 << 20;

/// The open descriptors from `first` on. Without /proc: all numbers that could be open.
fn open_from(first: RawFd) -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/dev/fd") else {
        let limit = RawFd::try_from(limits::nofile()).unwrap_or(RawFd::MAX);
        return (first..limit.min(MOST_TRIED)).collect();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd >= first)
        .collect()
}

/// Places `fds` at `first` and up for an exec, as [`place`] does. From here on they are known by
/// number only, and the exec closes the originals.
///
/// # Errors
/// Exit 111: there are too many descriptors.
pub fn place_for_exec(fds: Vec<OwnedFd>, first: RawFd) -> Result<()> {
    let mut sources: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    // Forget the owners: after the placing, the number of one may belong to another one, so closing
    // them one by one would close placed descriptors. The exec closes what was not placed.
    fds.into_iter().for_each(std::mem::forget);
    place(&mut sources, first).map_err(|errno| {
        let error = Error::system("cannot place the listeners", errno.desc());
        if errno == Errno::EMFILE || errno == Errno::EBADF {
            error.hint("raise the limit of open files: ulimit -n")
        } else {
            error
        }
    })
}

/// Copies descriptor `fd` to a free number, `least` or more, which survives an exec, and makes `fd`
/// close-on-exec. Returns the new number.
///
/// # Errors
/// Exit 111: it is not open, or there are too many descriptors.
pub fn move_for_exec(fd: RawFd, least: RawFd) -> Result<RawFd> {
    let moved = borrow(fd)
        .ok_or(rustix::io::Errno::BADF)
        .and_then(|fd| fcntl_dupfd_cloexec(fd, least))
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
        .map(std::os::fd::IntoRawFd::into_raw_fd);
    moved
        .and_then(|moved| set_cloexec(moved, false).map(|()| moved))
        .and_then(|moved| set_cloexec(fd, true).map(|()| moved))
        .map_err(|errno| Error::system(format!("cannot move fd {fd}"), describe(errno)))
}

/// /dev/null, open for reading and writing; close-on-exec.
///
/// # Errors
/// What open(2) said.
pub fn null() -> std::io::Result<std::fs::File> {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
}

/// A pipe, as (read end, write end). Both are close-on-exec; the read end is non-blocking.
///
/// # Errors
/// What pipe2(2) or fcntl(2) said: EMFILE, ENFILE.
pub fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(
        &read,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )?;
    Ok((read, write))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use proptest::prelude::*;

    use super::*;

    /// Numbers so high that no other thread of the test program gets them.
    const HIGH: RawFd = 700;

    fn open_at(fd: RawFd, content: &str) -> RawFd {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content.as_bytes()).expect("written");
        // SAFETY: only this test uses the number.
        assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), fd) }, fd);
        set_cloexec(fd, true).expect("open");
        fd
    }

    fn content(fd: RawFd) -> String {
        let mut file = File::from(duplicate(fd).expect("open"));
        let mut text = String::new();
        file.rewind().expect("a file");
        file.read_to_string(&mut text).expect("text");
        text
    }

    fn close_range(from: RawFd, to: RawFd) {
        for fd in from..to {
            if set_cloexec(fd, false).is_ok() {
                drop(adopt(fd));
            }
        }
    }

    /// One to five numbers from `HIGH` on, in any order.
    fn some_numbers() -> impl Strategy<Value = Vec<RawFd>> {
        proptest::sample::subsequence((HIGH..HIGH + 8).collect::<Vec<_>>(), 1..6).prop_shuffle()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Wherever the descriptors stand, within the range or above it, they end in order.
        #[test]
        fn descriptors_end_in_order_wherever_they_were(numbers in some_numbers()) {
            let texts: Vec<String> =
                (0..numbers.len()).map(|index| format!("file {index}")).collect();
            let opened = numbers.iter().zip(&texts).map(|(fd, text)| open_at(*fd, text));
            let mut sources: Vec<RawFd> = opened.collect();
            let count = RawFd::try_from(sources.len()).expect("few");
            place(&mut sources, HIGH).expect("placed");
            let placed: Vec<String> = (HIGH..HIGH + count).map(content).collect();
            let survive = (HIGH..HIGH + count).all(survives_exec);
            let only = (HIGH + count..HIGH + 40).all(|fd| !survives_exec(fd));
            close_range(HIGH, HIGH + 40);
            prop_assert_eq!(placed, texts);
            prop_assert!(survive && only);
        }
    }

    #[test]
    fn unrelated_descriptors_are_reported_and_closed_ones_refused() {
        let base = 800;
        open_at(base, "ours");
        open_at(base + 1, "unrelated");
        set_cloexec(base + 1, false).expect("open");
        assert_eq!(unrelated_at_targets(&[base, 3], base), [base + 1]);
        assert_eq!(
            unrelated_at_targets(&[base + 1, base], base),
            Vec::<RawFd>::new()
        );
        close_range(base, base + 2);
        assert_eq!(
            adopt(base).expect_err("closed").to_string(),
            "cannot take over fd 800: it is not open"
        );
        assert_eq!(
            duplicate(base).expect_err("closed").to_string(),
            "cannot take over fd 800: it is not open"
        );
        assert!(adopt(-1).is_err());
        assert_eq!(place(&mut [base + 5], base), Err(Errno::EBADF));
    }

    #[test]
    fn every_descriptor_from_a_number_on_is_closed_on_exec() {
        let base = 900;
        open_at(base, "a");
        set_cloexec(base, false).expect("open");
        assert!(open_from(base).contains(&base));
        close_from_on_exec(base).expect("set");
        assert!(!survives_exec(base));
        close_range(base, base + 1);
    }
}
