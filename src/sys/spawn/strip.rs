//! What a worker must not inherit: descriptors without a place, and dispositions of signals.
#![expect(unsafe_code, reason = "system calls between fork and exec")]

use std::os::fd::RawFd;

use nix::libc;

/// The ranges between `targets`, which are sorted, and above them.
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

/// Ignored signals survive exec: SIGPIPE, which Rust ignores, what `nohup` ignored, and whatever our parent left behind.
///
/// # Safety
/// In the child alone, with every signal blocked.
pub(super) unsafe fn default_dispositions() {
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
pub(super) unsafe fn mark_one_by_one(first: libc::c_uint, last: libc::c_uint) {
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
