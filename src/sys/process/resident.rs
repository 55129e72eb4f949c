//! What of the program and its libraries is mapped into this process.
//!
//! A start touches most of the program once: the command line's parser, the binding of sockets, the dynamic linker. Each touch maps the page's
//! neighbours too, and they would count as resident for as long as a master rests, which is years. They are clean pages of files, shared with
//! everybody who runs the same: what is needed again is mapped again, without a read.

use std::fs;

use rustix::mm::{Advice, madvise};

use crate::wire::maps::executable;

/// Unmaps the code's pages, and returns how many bytes of code that is; those that are executed come back at once, a few neighbours with each.
///
/// Without `/proc` nothing happens, as for a mapping that the kernel does not let go of (locked, with mlockall(2)).
pub fn let_go_of_code() -> usize {
    // By bytes: a path may hold anything.
    let maps = fs::read("/proc/self/maps").unwrap_or_default();
    let mut bytes = 0;
    for range in executable(&maps) {
        let start = std::ptr::without_provenance_mut::<std::ffi::c_void>(range.start);
        #[expect(unsafe_code, reason = "madvise(2) may drop what is written in memory")]
        // SAFETY: the range is one of this process's, is mapped from a file, and cannot be written to: each page has what the file has and
        // is read from it again. (A debugger's breakpoints are the exception, and go.)
        let advised = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
        bytes += advised.map_or(0, |()| range.len());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_was_let_go_of_is_there_when_it_is_called() {
        let page = rustix::param::page_size();
        assert!(let_go_of_code() >= page, "nothing was let go of");
        // Other tests run in this moment, too.
        assert!(let_go_of_code() >= page);
    }
}
