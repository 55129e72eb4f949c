//! The heartbeat page on the side of a worker: mapped, so that a beat is one instruction and no
//! system call.
#![expect(unsafe_code, reason = "mapping a file")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::stat::fstat;

use crate::wire::heartbeat::{SIZE, USED};

/// How many 64-bit numbers the page has.
const NUMBERS: usize = USED / size_of::<u64>();

/// The numbers of the page. The index is the offset in [`wire::heartbeat`](crate::wire::heartbeat)
/// divided by eight. The first number is the magic.
pub type Numbers = [AtomicU64; NUMBERS];

/// Maps the beginning of `file`. The mapping lasts as long as this process.
///
/// # Errors
/// EINVAL: it is not a file of that size. What mmap(2) said: EACCES if it is not open for writing.
pub fn map(file: impl AsFd) -> io::Result<&'static Numbers> {
    let long_enough = usize::try_from(fstat(&file)?.st_size).is_ok_and(|size| size >= SIZE);
    let length = NonZeroUsize::new(SIZE).filter(|_| long_enough);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: new memory, at an address that the kernel chooses. Only this process was given the
    // file; if it is cut all the same, an access ends the process with SIGBUS.
    let mapped = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, 0) }?;
    // SAFETY: it begins at a page, so it is aligned; it is longer than the numbers, and is never
    // unmapped. The master reads it meanwhile, which atomics allow, and any content is a number.
    Ok(unsafe { mapped.cast::<Numbers>().as_ref() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::sys::heartbeat::file::HeartbeatFile;
    use crate::wire::heartbeat::{BEATS, MAGIC};

    #[test]
    fn u23_the_master_reads_what_a_worker_stores_in_the_page() {
        let mut beat = HeartbeatFile::create().expect("made");
        let numbers = map(beat.fd()).expect("mapped");
        let number = |at: usize| numbers.get(at / 8).expect("in the page");
        assert_eq!(number(0).load(Ordering::Relaxed).to_ne_bytes(), MAGIC);
        number(BEATS).fetch_add(2, Ordering::Relaxed);
        assert!(beat.check_for_beat().expect("checked"));
        assert_eq!(beat.page().beats, 2);
    }

    #[test]
    fn a_file_that_is_no_page_is_refused() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(64).expect("cut");
        let refused = map(&file).expect_err("too short");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        let (read, _write) = crate::sys::io::fd::pipe().expect("a pipe");
        assert!(map(&read).is_err());
    }
}
