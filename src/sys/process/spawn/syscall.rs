//! System calls without the C library. The C library would write a failure to `errno`, which is the
//! master's `errno` as long as the child shares the master's memory.
#![expect(unsafe_code, reason = "the instruction that calls the system")]

use nix::libc;

/// Whether [`call`] changes no memory but what its arguments point to (so it leaves `errno` alone).
pub(super) const TOUCHES_NOTHING: bool = cfg!(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    target_arch = "aarch64"
));

/// The result of a call, or its error number.
pub(super) type Returned = Result<isize, i32>;

/// Calls the system. Numbers and addresses are passed as they are.
///
/// # Safety
/// The memory that the arguments point to must be valid for what the call does with it.
pub(super) unsafe fn call(number: libc::c_long, arguments: [usize; 4]) -> Returned {
    // SAFETY: as this function.
    let returned = unsafe { instruction(number, arguments) };
    // Results from -4095 to -1 are error numbers.
    if (-4095..0).contains(&returned) {
        Err(i32::try_from(-returned).unwrap_or(libc::EINVAL))
    } else {
        Ok(returned)
    }
}

/// # Safety
/// As [`call`].
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
unsafe fn instruction(number: libc::c_long, [a, b, c, d]: [usize; 4]) -> isize {
    let returned: isize;
    // SAFETY: the kernel's convention: it changes the result, rcx and r11, and memory only as the
    // call is documented to.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => returned,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    returned
}

/// # Safety
/// As [`call`].
#[cfg(target_arch = "aarch64")]
unsafe fn instruction(number: libc::c_long, [a, b, c, d]: [usize; 4]) -> isize {
    let returned: isize;
    // SAFETY: the kernel's convention: it changes the result, and memory only as the call is
    // documented to.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number as isize,
            inlateout("x0") a => returned,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            options(nostack),
        );
    }
    returned
}

/// On other architectures: by the C library. There the child has a copy of the memory.
///
/// # Safety
/// As [`call`].
#[cfg(not(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    target_arch = "aarch64"
)))]
unsafe fn instruction(number: libc::c_long, [a, b, c, d]: [usize; 4]) -> isize {
    // SAFETY: as this function.
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => -(nix::errno::Errno::last_raw() as isize),
        returned => returned as isize,
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;

    #[test]
    fn a_call_returns_what_the_system_said_and_leaves_errno_alone() {
        // SAFETY: calls on numbers.
        let (pid, nothing) = unsafe {
            Errno::set_raw(4711);
            (
                call(libc::SYS_getpid, [0; 4]),
                call(libc::SYS_close, [usize::MAX, 0, 0, 0]),
            )
        };
        assert_eq!(pid, Ok(std::process::id() as isize));
        assert_eq!(nothing, Err(libc::EBADF));
        if TOUCHES_NOTHING {
            assert_eq!(Errno::last_raw(), 4711);
        }
        let text = *b"through a pipe";
        let (read, write) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&write) as usize;
        // SAFETY: the length is the text's.
        let written = unsafe { call(libc::SYS_write, [fd, text.as_ptr() as usize, text.len(), 0]) };
        assert_eq!(written, Ok(text.len() as isize));
        let mut back = [0; 32];
        let length = nix::unistd::read(&read, &mut back).expect("read");
        assert_eq!(back.get(..length), Some(&text[..]));
    }
}
