//! What a worker must not inherit: descriptors that it was not given, and dispositions of signals.
#![expect(unsafe_code, reason = "system calls between fork and exec")]

use std::os::fd::RawFd;
use std::sync::OnceLock;

use nix::libc;

use super::syscall::call;

/// The ranges of numbers between `targets`, which are sorted, and above them.
pub(super) fn gaps(targets: &[RawFd]) -> Vec<(libc::c_uint, libc::c_uint)> {
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

/// `struct sigaction` as the kernel has it: a handler, flags, a restorer on some architectures, a
/// mask. All zeroes: the default action.
#[repr(C)]
#[derive(Default, PartialEq, Eq)]
struct KernelAction([u64; 4]);

/// The size of the kernel's signal mask, in bytes.
const MASK: usize = size_of::<u64>();

/// The signals that are not at their default in this process: those that Rust and the master
/// handle, and those that our parent left ignored. Read once, when the first worker is started: all
/// handlers are installed by then.
pub(super) fn changed_dispositions() -> &'static [libc::c_int] {
    static CHANGED: OnceLock<Vec<libc::c_int>> = OnceLock::new();
    CHANGED.get_or_init(|| {
        let changed = |number: &libc::c_int| {
            let mut action = KernelAction::default();
            let none = std::ptr::null::<KernelAction>();
            // SAFETY: the kernel writes its own structure, which has that size. This calls the
            // kernel, not the C library, because the C library refuses the two signal numbers that
            // it uses itself, and our parent may have left those ignored too.
            let result = unsafe {
                let (call, into) = (libc::SYS_rt_sigaction, &raw mut action);
                libc::syscall(call, *number, none, into, MASK)
            };
            result != 0 || action != KernelAction::default()
        };
        (1..=64).filter(changed).collect()
    })
}

/// Sets the signals `changed` to their default. Ignored signals survive exec: SIGPIPE, which Rust
/// ignores, what `nohup` ignored, and what our parent left ignored. And a handler that is still
/// installed when the signals are unblocked would swallow a signal that was sent to the worker at
/// once.
///
/// # Safety
/// In the child alone, with every signal blocked.
pub(super) unsafe fn default_dispositions(changed: &[libc::c_int]) {
    let action = KernelAction::default();
    let action = std::ptr::from_ref(&action) as usize;
    for number in changed {
        // SAFETY: all zeroes is SIG_DFL with no flags and an empty mask. The kernel refuses to
        // change KILL and STOP, which is fine.
        let _ = unsafe { call(libc::SYS_rt_sigaction, [*number as usize, action, 0, MASK]) };
    }
}

/// Unblocks every signal.
///
/// # Safety
/// In the child alone.
pub(super) unsafe fn unblock_all() {
    let none = 0u64;
    let (how, set) = (
        libc::SIG_SETMASK as usize,
        std::ptr::from_ref(&none) as usize,
    );
    // SAFETY: the kernel reads a mask of that size.
    let _ = unsafe { call(libc::SYS_rt_sigprocmask, [how, set, 0, MASK]) };
}

/// Marks a range of descriptors close-on-exec one by one: for kernels before 5.11, and sandboxes
/// that refuse close_range(2).
///
/// # Safety
/// In the child alone.
pub(super) unsafe fn mark_one_by_one(first: libc::c_uint, last: libc::c_uint) {
    for fd in first..=last {
        let (set, flag) = (libc::F_SETFD as usize, libc::FD_CLOEXEC as usize);
        // SAFETY: a system call on numbers; the kernel refuses a descriptor that is not open.
        let _ = unsafe { call(libc::SYS_fcntl, [fd as usize, set, flag, 0]) };
    }
}
