//! Releases the pages of the program and its libraries that are mapped into this process.
//!
//! A start touches most of the program once: the command line's parser, the binding of sockets, the
//! dynamic linker. Each touch maps the neighbouring pages too. All of them would count as resident
//! for as long as the master idles, which can be years. They are clean pages of files, shared with
//! every process that runs the same files. A page that is needed again is mapped again, without a
//! read from disk.

use std::fs;

use rustix::mm::{Advice, madvise};

use crate::wire::maps::executable;

/// Unmaps the pages of code, and returns their size in bytes. Pages that are executed are mapped
/// again at once, with a few neighbours each.
///
/// Without `/proc` nothing happens. Nor does it for a mapping that the kernel does not release
/// (locked by mlockall(2)).
pub fn release_code_pages() -> usize {
    // Read as bytes: a path may contain any byte.
    let maps = fs::read("/proc/self/maps").unwrap_or_default();
    let mut bytes = 0;
    for range in executable(&maps) {
        let start = std::ptr::without_provenance_mut::<std::ffi::c_void>(range.start);
        #[expect(unsafe_code, reason = "madvise(2) may drop what is written in memory")]
        // SAFETY: the range is one of this process's, is mapped from a file, and cannot be written
        // to: each page has the file's content and is read from the file again. (A debugger's
        // breakpoints are the exception, and are lost.)
        let advised = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
        bytes += advised.map_or(0, |()| range.len());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_code_is_mapped_again_when_it_is_called() {
        let page = rustix::param::page_size();
        assert!(release_code_pages() >= page, "nothing was released");
        // Other tests run at the same time and map pages again.
        assert!(release_code_pages() >= page);
    }
}
