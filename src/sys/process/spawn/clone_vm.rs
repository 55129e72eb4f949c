//! The fork of a worker, without a copy of our memory.
//!
//! A copy is made for nothing, as the child is about to execute something else, and it is most of what a start costs: the tables of all pages are
//! copied, and then each page that either side writes to, one fault at a time. So the child works in our memory (`CLONE_VM`), on a stack and on
//! values of its own, while we go on: nothing that the child waits for, like the file system of its program, holds the master up, as
//! it would with vfork. The kernel tells when the child has left our memory, by exec or by its end: then both are taken back.
#![expect(unsafe_code, reason = "clone, and memory that the child is lent")]

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::child::Prepared;
use super::syscall;

/// How a child is forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// In our memory.
    Shared,
    /// With a copy of our memory.
    Copied,
}

impl Way {
    /// The way for this machine. Before Linux 5.16 a signal that makes the child dump core before it has executed its program would
    /// kill whoever shares its memory: the master.
    pub(super) fn usual() -> Way {
        static USUAL: OnceLock<Way> = OnceLock::new();
        *USUAL.get_or_init(|| {
            let kernel = nix::sys::utsname::uname()
                .ok()
                .and_then(|names| version(names.release().to_str()?));
            if syscall::TOUCHES_NOTHING && kernel >= Some((5, 16)) {
                Way::Shared
            } else {
                Way::Copied
            }
        })
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Room for the child's stack: it makes a few system calls.
const STACK: NonZeroUsize = NonZeroUsize::new(32 * 1024).expect("not zero");

/// What a child in our memory is lent.
struct Lent {
    prepared: Prepared,
    stack: NonNull<libc::c_void>,
    /// Cleared by the kernel when the child has left our memory.
    inside: AtomicI32,
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: mapped by `fork`, and whoever drops this knows that nobody stands on it.
        let _ = unsafe { munmap(self.stack, STACK.get()) };
    }
}

thread_local! {
    /// What is lent by this thread. Should the thread end first, it stays lent.
    static LENT: RefCell<Vec<NonNull<Lent>>> = const { RefCell::new(Vec::new()) };
}

/// Forks a child that runs `prepared`; its pid. Every signal is to be blocked.
///
/// # Errors
/// What fork(2) or mmap(2) said: EAGAIN, ENOMEM.
pub(super) fn fork(way: Way, mut prepared: Prepared) -> nix::Result<libc::pid_t> {
    tidy();
    match way {
        Way::Shared => fork_in_our_memory(prepared),
        Way::Copied => {
            // SAFETY: until exec or _exit the child makes only system calls on memory that was prepared before; it neither allocates
            // nor takes a lock that another thread could have held.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: this is the child.
                unsafe { prepared.run() }
            }
            Errno::result(pid)
        }
    }
}

fn fork_in_our_memory(prepared: Prepared) -> nix::Result<libc::pid_t> {
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: new memory.
    let stack = unsafe { mmap_anonymous(None, STACK, access, MapFlags::MAP_PRIVATE)? };
    let lent = NonNull::from(Box::leak(Box::new(Lent {
        prepared,
        stack,
        inside: AtomicI32::new(1),
    })));
    let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: the child stands on a stack of its own and works on what `lent` points to, which nobody else looks at until the kernel
    // has cleared `inside`. All else that it does with our memory is to read what never changes: the table of signals, the program.
    let forked = Errno::result(unsafe {
        let none = std::ptr::null_mut::<libc::c_void>();
        let inside = &raw mut (*lent.as_ptr()).inside;
        let top = stack.as_ptr().wrapping_byte_add(STACK.get());
        libc::clone(run, top, flags, lent.as_ptr().cast(), none, none, inside)
    });
    match forked {
        Ok(_) => LENT.with_borrow_mut(|all| all.push(lent)),
        // SAFETY: there is no child, so it is still ours alone.
        Err(_) => drop(unsafe { Box::from_raw(lent.as_ptr()) }),
    }
    forked
}

extern "C" fn run(lent: *mut libc::c_void) -> libc::c_int {
    let lent = lent.cast::<Lent>();
    // SAFETY: this is the child of the clone above, which was given this pointer, and alone looks at `prepared`.
    let prepared = unsafe { &mut (*lent).prepared };
    // SAFETY: it has just been forked, with every signal blocked.
    unsafe { prepared.run() }
}

/// Takes back what was lent to children that have left.
pub(super) fn tidy() {
    LENT.with_borrow_mut(|all| {
        all.retain(|lent| {
            // SAFETY: it is freed only here, and forgotten then.
            let inside = unsafe { &(*lent.as_ptr()).inside };
            let stays = inside.load(Ordering::Acquire) != 0;
            if !stays {
                // SAFETY: made by `Box::leak`, and the child is gone from our memory.
                drop(unsafe { Box::from_raw(lent.as_ptr()) });
            }
            stays
        });
    });
}

/// How many children may still be in our memory.
#[cfg(test)]
pub(super) fn lent() -> usize {
    LENT.with_borrow(Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_version_is_read() {
        assert_eq!(version("6.18.44-fc-v595"), Some((6, 18)));
        assert_eq!(version("5.10.0-28-amd64"), Some((5, 10)));
        assert_eq!(version("4.4.0"), Some((4, 4)));
        assert_eq!(version("7.0-rc1"), Some((7, 0)));
        assert_eq!(version(""), None);
        assert!(version("5.15.0") < Some((5, 16)) && None < Some((5, 16)));
    }
}
