//! The heartbeat page as a worker sees it: mapped, so that a beat is one instruction and no system call.
#![expect(unsafe_code, reason = "mapping a file")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;

use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::stat::fstat;

use crate::wire::heartbeat::{SIZE, USED};

/// How many numbers the page has.
const NUMBERS: usize = USED / size_of::<u64>();

/// The page's numbers, at the offset that [`wire::beat`](crate::wire::heartbeat) gives, divided by eight. The first is the magic.
pub type Numbers = [AtomicU64; NUMBERS];

/// Maps the beginning of `file`, for as long as this process lives.
///
/// # Errors
/// EINVAL: it is no file of that size. What mmap(2) said: EACCES where it is not open for writing.
pub fn map(file: impl AsFd) -> io::Result<&'static Numbers> {
    let long_enough = usize::try_from(fstat(&file)?.st_size).is_ok_and(|size| size >= SIZE);
    let length = NonZeroUsize::new(SIZE).filter(|_| long_enough);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: new memory, at an address that the kernel chooses. The file was given to this process alone; should it be cut all the same, an
    // access ends the process, as a signal does.
    let mapped = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, file, 0) }?;
    // SAFETY: it begins at a page, so it is aligned; it is longer than the numbers, and is never unmapped. The master reads it meanwhile, which
    // is what atomics are for, and any content is a number.
    Ok(unsafe { mapped.cast::<Numbers>().as_ref() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::sys::heartbeat::file::Beat;
    use crate::wire::heartbeat::{BEATS, MAGIC};

    #[test]
    fn u23_what_is_stored_in_the_page_is_what_the_master_reads() {
        let mut beat = Beat::create().expect("made");
        let numbers = map(beat.fd()).expect("mapped");
        let number = |at: usize| numbers.get(at / 8).expect("in the page");
        assert_eq!(number(0).load(Ordering::Relaxed).to_ne_bytes(), MAGIC);
        number(BEATS).fetch_add(2, Ordering::Relaxed);
        assert!(beat.look().expect("looked"));
        assert_eq!(beat.page().beats, 2);
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(64).expect("cut");
        let refused = map(&file).expect_err("too short");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        let (read, _write) = crate::sys::io::fd::pipe().expect("a pipe");
        assert!(map(&read).is_err());
    }
}
