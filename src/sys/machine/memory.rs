//! What the C library keeps of the memory that was freed.
//!
//! A master allocates much at once only now and then: at its start, and for the document of an
//! upgrade. By itself the C library would keep most of that for the next time, for as long as the
//! master lives.
#![expect(unsafe_code, reason = "settings of the allocator")]

/// Has the kernel get each large block back as soon as it is freed.
///
/// By default glibc does so only until the first large block is freed: then it raises the size from
/// which a block counts as large (mallopt(3), `M_MMAP_THRESHOLD`). To set the size stops that.
/// Other C libraries do as is asked for here by themselves.
pub fn give_large_blocks_back() {
    #[cfg(target_env = "gnu")]
    {
        /// The size with which glibc begins.
        const LARGE: nix::libc::c_int = 128 * 1024;
        // SAFETY: the allocator takes the setting under its own lock.
        let _ = unsafe { nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Gives all whole pages that are free to the kernel, also those that lie between pages in use.
pub(super) fn give_free_pages_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own lock; only memory that is free is touched.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}
