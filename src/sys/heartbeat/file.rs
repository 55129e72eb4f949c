//! The heartbeat file (U23): private to a worker, sealed, and only ever looked at, never mapped, by the master.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::sys::io::fd;
use crate::sys::machine::random::hex128;
use crate::wire::handover;
use crate::wire::heartbeat::{MAGIC, SIZE, USED};

pub use crate::wire::heartbeat::Page;

/// A worker's heartbeat file.
#[derive(Debug)]
pub struct Beat {
    file: File,
    seen: Seen,
    page: Page,
}

/// What tells one look from the next. The times alone would not do: before Linux 6.13 they stand still for a few
/// milliseconds, in which a worker may beat right after the file was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    changed: (i64, i64),
    modified: (i64, i64),
    mode: u32,
    beats: u64,
}

impl Beat {
    /// Makes one: a memfd, or an unlinked file in the temporary directory where there is none.
    ///
    /// # Errors
    /// What memfd_create(2), or opening the file, said: EMFILE, ENOMEM, ENOSPC.
    pub fn create() -> io::Result<Beat> {
        let (file, sealable) = match memory() {
            Ok(file) => (file, true),
            Err(_) => (unlinked()?, false),
        };
        let length = u64::try_from(SIZE).unwrap_or(u64::MAX);
        file.set_len(length)?;
        file.write_all_at(&MAGIC, 0)?;
        if sealable {
            // A worker that could shrink it would turn its sibling's mapped store into SIGBUS.
            fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        }
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
        // From now on any touch shows, however coarse the clock.
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1))?;
        let page = Page::default();
        let seen = seen(&file, page)?;
        Ok(Beat { file, seen, page })
    }

    /// What was last seen of it, for the image that comes next.
    pub fn handed_over(&self) -> handover::Beat {
        handover::Beat {
            fd: self.file.as_raw_fd(),
            changed: self.seen.changed,
            modified: self.seen.modified,
            mode: self.seen.mode,
            beats: self.seen.beats,
        }
    }

    /// The page of a worker that the image before this one started: what it did since that one's last look shows at the next.
    ///
    /// # Errors
    /// The descriptor is not open, or what pread(2) said.
    pub fn taken_over(beat: &handover::Beat) -> io::Result<Beat> {
        let file = File::from(fd::duplicate_raw(beat.fd)?);
        let page = page(&file)?;
        let seen = Seen {
            changed: beat.changed,
            modified: beat.modified,
            mode: beat.mode,
            beats: beat.beats,
        };
        Ok(Beat { file, seen, page })
    }

    /// The descriptor that the worker gets; close-on-exec here.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether the worker has beaten since the last look: it changed the file's inode time or mode, or its counter.
    ///
    /// # Errors
    /// What fstat(2) or pread(2) said.
    pub fn look(&mut self) -> io::Result<bool> {
        self.page = page(&self.file)?;
        let seen = seen(&self.file, self.page)?;
        Ok(std::mem::replace(&mut self.seen, seen) != seen)
    }

    /// What the worker had counted at the last look.
    pub fn page(&self) -> Page {
        self.page
    }
}

fn seen(file: &File, page: Page) -> io::Result<Seen> {
    let stat = file.metadata()?;
    Ok(Seen {
        changed: (stat.ctime(), stat.ctime_nsec()),
        modified: (stat.mtime(), stat.mtime_nsec()),
        mode: stat.mode(),
        beats: page.beats,
    })
}

fn page(file: &File) -> io::Result<Page> {
    let mut bytes = [0u8; USED];
    let mut filled = 0;
    // Short only if the file could not be sealed and was cut: what is missing counts as 0.
    while let Some(rest) = bytes.get_mut(filled..)
        && !rest.is_empty()
    {
        match file.read_at(rest, u64::try_from(filled).unwrap_or(0)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Page::read(bytes.get(..filled).unwrap_or_default()))
}

/// With an executable mode allowed, as some workers beat by changing it between 0 and 1; without, where the system forbids
/// that; without saying either, for kernels before 6.3.
fn memory() -> io::Result<File> {
    let mut last = Errno::NOSYS;
    for extra in [
        MemfdFlags::EXEC,
        MemfdFlags::NOEXEC_SEAL,
        MemfdFlags::empty(),
    ] {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | extra;
        match memfd_create("pf-heartbeat", flags) {
            Ok(fd) => return Ok(fd.into()),
            Err(errno) => last = errno,
        }
    }
    Err(last.into())
}

fn unlinked() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("pf-heartbeat-{}", hex128()?));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::wire::heartbeat::{BEATS, BEGUN, FINISHED, OPEN};

    fn mode(beat: &Beat, mode: u32) {
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        file.set_permissions(PermissionsExt::from_mode(mode))
            .expect("fchmod");
    }

    #[test]
    fn u23_making_it_is_no_beat_and_every_way_to_beat_is_seen() {
        let mut beat = Beat::create().expect("made");
        assert!(!beat.look().expect("looked"));
        // At once after it was made and after each look: however coarse the clock.
        mode(&beat, 0o400);
        assert!(beat.look().expect("looked"), "fchmod");
        assert!(!beat.look().expect("looked"));
        mode(&beat, 0o600);
        assert!(beat.look().expect("looked"), "fchmod back");

        let mut beat = Beat::create().expect("made");
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        let times = std::fs::FileTimes::new().set_modified(crate::sys::machine::clock::wall());
        file.set_times(times).expect("futimens");
        assert!(beat.look().expect("looked"), "futimens");

        let mut beat = Beat::create().expect("made");
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        file.write_all_at(&1u64.to_ne_bytes(), 8).expect("pwrite");
        assert!(beat.look().expect("looked"), "the counter");
        assert!(!beat.look().expect("looked"));
    }

    #[test]
    fn u23_a_shell_beats_by_touch() {
        let mut beat = Beat::create().expect("made");
        let status = Command::new("touch")
            .arg("/proc/self/fd/0")
            .stdin(Stdio::from(beat.fd().try_clone_to_owned().expect("a copy")))
            .status()
            .expect("touch runs");
        assert!(status.success());
        assert!(beat.look().expect("looked"));
        assert!(!beat.look().expect("looked"));
    }

    #[test]
    #[expect(unsafe_code, reason = "mapping is what a worker does")]
    fn u23_a_store_in_the_mapped_page_is_a_beat() {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
        use std::sync::atomic::{AtomicU64, Ordering};

        let mut beat = Beat::create().expect("made");
        let length = std::num::NonZeroUsize::new(SIZE).expect("a size");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh shared mapping of a file that cannot shrink; nothing else refers to it.
        let map = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, beat.fd(), 0) };
        let map = map.expect("mapped");
        // SAFETY: within the page, aligned, and it lives until the unmapping below.
        let counter = unsafe { &*map.as_ptr().cast::<AtomicU64>().add(1) };
        counter.fetch_add(1, Ordering::Relaxed);
        assert!(beat.look().expect("looked"));
        assert!(!beat.look().expect("looked"));
        // The first store into the page changed the times as well; the next ones take no system call at all.
        counter.fetch_add(1, Ordering::Relaxed);
        let before = beat.seen;
        assert!(beat.look().expect("looked"));
        assert_eq!(before.changed, beat.seen.changed);
        assert_eq!(beat.page().beats, 2);
        // SAFETY: the mapping made above; `counter` is not used any more.
        unsafe { munmap(map, SIZE) }.expect("unmapped");
    }

    #[test]
    fn the_counters_are_read() {
        let mut beat = Beat::create().expect("made");
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        for (offset, value) in [(BEATS, 5u64), (BEGUN, 4), (FINISHED, 3), (OPEN, 1)] {
            let offset = u64::try_from(offset).expect("small");
            file.write_all_at(&value.to_ne_bytes(), offset)
                .expect("pwrite");
        }
        let page = Page {
            beats: 5,
            begun: 4,
            finished: 3,
            open: 1,
        };
        assert!(beat.look().expect("looked"));
        assert_eq!(beat.page(), page);
    }

    #[test]
    fn the_file_is_sealed_private_and_marked() {
        let beat = Beat::create().expect("made");
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(8192).is_err());
        let stat = file.metadata().expect("stat");
        assert_eq!((stat.mode() & 0o7777, stat.len()), (0o600, 4096));
        assert_eq!(
            stat.mtime(),
            1,
            "so that a touch shows, however coarse the clock"
        );
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, 0).expect("read");
        assert_eq!(&magic, b"PFBEAT1\0");
        let flags = rustix::io::fcntl_getfd(beat.fd()).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn an_unlinked_file_does_where_there_is_no_memfd_and_a_cut_one_counts_as_zero() {
        let file = unlinked().expect("made");
        assert_eq!(file.metadata().expect("stat").nlink(), 0);
        assert_eq!(page(&file).expect("read"), Page::default());
        file.write_all_at(&[0xff; 20], 0).expect("written");
        assert_eq!(page(&file).expect("read").beats, u64::MAX);
        assert_eq!(page(&file).expect("read").begun, 0);
    }
}
