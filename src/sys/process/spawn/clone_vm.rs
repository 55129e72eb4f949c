//! Forks a worker without copying our memory.
//!
//! A copy would be wasted, as the child is about to execute another program, and it is most of what
//! a start costs: the kernel copies all page tables, and then each page that either side writes to,
//! one fault at a time. So the child works in our memory (`CLONE_VM`, see clone(2)), on a stack and
//! on values of its own, while we go on. With vfork(2) the master would stop until the exec, for
//! example while the file system reads the program. The kernel reports when the child has left our
//! memory, by exec or by its end (`CLONE_CHILD_CLEARTID`): then the stack and the values are freed.
#![expect(unsafe_code, reason = "clone, and memory that the child is lent")]

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::child::PreparedChild;
use super::syscall;

/// How a child is forked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ForkMethod {
    /// The child runs in our memory.
    SharedMemory,
    /// The child gets a copy of our memory, as with fork(2).
    CopiedMemory,
}

impl ForkMethod {
    /// The method for this machine. Before Linux 5.16, a signal that makes the child dump core
    /// before it has executed its program would kill every process that shares its memory: the
    /// master too.
    pub(super) fn for_this_machine() -> ForkMethod {
        static METHOD: OnceLock<ForkMethod> = OnceLock::new();
        *METHOD.get_or_init(|| {
            let kernel = nix::sys::utsname::uname()
                .ok()
                .and_then(|names| version(names.release().to_str()?));
            if syscall::TOUCHES_NOTHING && kernel >= Some((5, 16)) {
                ForkMethod::SharedMemory
            } else {
                ForkMethod::CopiedMemory
            }
        })
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Enough stack for the child, which only makes a few system calls.
const STACK: NonZeroUsize = NonZeroUsize::new(32 * 1024).expect("not zero");

/// What a child in our memory uses until it leaves.
struct LentMemory {
    prepared: PreparedChild,
    stack: NonNull<libc::c_void>,
    /// Set to 0 by the kernel when the child has left our memory.
    inside: AtomicI32,
}

impl Drop for LentMemory {
    fn drop(&mut self) {
        // SAFETY: mapped by `fork`; the code that drops this knows that the child does not use the
        // stack any more.
        let _ = unsafe { munmap(self.stack, STACK.get()) };
    }
}

thread_local! {
    /// What children that this thread forked still use. If the thread ends first, that memory is
    /// never freed, which is safe.
    static LENT: RefCell<Vec<NonNull<LentMemory>>> = const { RefCell::new(Vec::new()) };
}

/// Forks a child that runs `prepared`; returns its pid. Every signal must be blocked.
///
/// # Errors
/// What fork(2) or mmap(2) returned: EAGAIN, ENOMEM.
pub(super) fn fork(method: ForkMethod, mut prepared: PreparedChild) -> nix::Result<libc::pid_t> {
    free_lent_memory();
    match method {
        ForkMethod::SharedMemory => fork_in_our_memory(prepared),
        ForkMethod::CopiedMemory => {
            // SAFETY: until exec or _exit the child makes only system calls on memory that was
            // prepared before; it neither allocates nor takes a lock that another thread could have
            // held.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: this is the child.
                unsafe { prepared.run() }
            }
            Errno::result(pid)
        }
    }
}

fn fork_in_our_memory(prepared: PreparedChild) -> nix::Result<libc::pid_t> {
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: new memory.
    let stack = unsafe { mmap_anonymous(None, STACK, access, MapFlags::MAP_PRIVATE)? };
    let lent = NonNull::from(Box::leak(Box::new(LentMemory {
        prepared,
        stack,
        inside: AtomicI32::new(1),
    })));
    let flags = libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    // SAFETY: the child runs on a stack of its own and works on what `lent` points to, which no
    // other code touches until the kernel has cleared `inside`. All else that it does with our
    // memory is to read what never changes: the table of signals, the program.
    let forked = Errno::result(unsafe {
        let none = std::ptr::null_mut::<libc::c_void>();
        let inside = &raw mut (*lent.as_ptr()).inside;
        let top = stack.as_ptr().wrapping_byte_add(STACK.get());
        libc::clone(
            run_child,
            top,
            flags,
            lent.as_ptr().cast(),
            none,
            none,
            inside,
        )
    });
    match forked {
        Ok(_) => LENT.with_borrow_mut(|all| all.push(lent)),
        // SAFETY: there is no child, so this is the only pointer to it.
        Err(_) => drop(unsafe { Box::from_raw(lent.as_ptr()) }),
    }
    forked
}

extern "C" fn run_child(lent: *mut libc::c_void) -> libc::c_int {
    let lent = lent.cast::<LentMemory>();
    // SAFETY: this is the child of the clone above, which was given this pointer, and no other code
    // looks at `prepared`.
    let prepared = unsafe { &mut (*lent).prepared };
    // SAFETY: it has just been forked, with every signal blocked.
    unsafe { prepared.run() }
}

/// Frees the memory of children that have left it.
pub(super) fn free_lent_memory() {
    LENT.with_borrow_mut(|all| {
        all.retain(|lent| {
            // SAFETY: it is freed only here, and removed from the list then.
            let inside = unsafe { &(*lent.as_ptr()).inside };
            let stays = inside.load(Ordering::Acquire) != 0;
            if !stays {
                // SAFETY: made by `Box::leak`, and the child has left our memory.
                drop(unsafe { Box::from_raw(lent.as_ptr()) });
            }
            stays
        });
    });
}

/// How many children may still be in our memory.
#[cfg(test)]
pub(super) fn lent_count() -> usize {
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
