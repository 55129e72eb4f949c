//! The heartbeat file (U23): private to one worker, and sealed. The master reads it with fstat(2)
//! and pread(2), and never maps it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

use crate::sys::io::left_open::LeftOpen;
use crate::sys::machine::random::hex128;
use crate::wire::handover;
use crate::wire::heartbeat::{MAGIC, SIZE, USED};

pub use crate::wire::heartbeat::Page;

/// The heartbeat file of one worker.
#[derive(Debug)]
pub struct HeartbeatFile {
    file: File,
    seen: FileState,
    page: Page,
}

/// The state of the file at one check. The times alone are not enough: before Linux 6.13 the clock
/// of inode times has a resolution of a few milliseconds, and a worker may beat within that time
/// after the file was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileState {
    changed: (i64, i64),
    modified: (i64, i64),
    mode: u32,
    beats: u64,
}

impl HeartbeatFile {
    /// Makes the file: a memfd, or an unlinked file in the temporary directory where
    /// memfd_create(2) fails.
    ///
    /// # Errors
    /// What open(2) or write(2) of the file said: EMFILE, ENOMEM, ENOSPC.
    pub fn create() -> io::Result<HeartbeatFile> {
        let (file, sealable) = match create_memfd() {
            Ok(file) => (file, true),
            Err(_) => (create_unlinked()?, false),
        };
        let length = u64::try_from(SIZE).unwrap_or(u64::MAX);
        file.set_len(length)?;
        file.write_all_at(&MAGIC, 0)?;
        if sealable {
            // Without the seals a process of the worker could shrink the file, and a store into the
            // page that a sibling mapped would raise SIGBUS.
            fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        }
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
        // Second 1 of 1970: any touch from now on changes the time, even with a coarse clock.
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1))?;
        let page = Page::default();
        let seen = file_state(&file, page)?;
        Ok(HeartbeatFile { file, seen, page })
    }

    /// The state that the next image gets: that of the last check.
    pub fn handed_over(&self) -> handover::Beat {
        handover::Beat {
            fd: self.file.as_raw_fd(),
            changed: self.seen.changed,
            modified: self.seen.modified,
            mode: self.seen.mode,
            beats: self.seen.beats,
        }
    }

    /// The file of a worker that the previous image started. A beat since the last check of that
    /// image is seen at the next check.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(beat: &handover::Beat, left: &mut LeftOpen) -> io::Result<HeartbeatFile> {
        let file = File::from(left.take(beat.fd)?);
        // What cannot be read now is read at the next check.
        let page = read_page(&file).unwrap_or_default();
        let seen = FileState {
            changed: beat.changed,
            modified: beat.modified,
            mode: beat.mode,
            beats: beat.beats,
        };
        Ok(HeartbeatFile { file, seen, page })
    }

    /// The descriptor that the worker inherits; close-on-exec here.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether the worker has beaten since the last check: the inode times, the mode or the beat
    /// counter changed.
    ///
    /// # Errors
    /// What fstat(2) or pread(2) said.
    pub fn check_for_beat(&mut self) -> io::Result<bool> {
        self.page = read_page(&self.file)?;
        let seen = file_state(&self.file, self.page)?;
        Ok(std::mem::replace(&mut self.seen, seen) != seen)
    }

    /// The counters of the worker at the last check.
    pub fn page(&self) -> Page {
        self.page
    }
}

fn file_state(file: &File, page: Page) -> io::Result<FileState> {
    let stat = file.metadata()?;
    Ok(FileState {
        changed: (stat.ctime(), stat.ctime_nsec()),
        modified: (stat.mtime(), stat.mtime_nsec()),
        mode: stat.mode(),
        beats: page.beats,
    })
}

fn read_page(file: &File) -> io::Result<Page> {
    let mut bytes = [0u8; USED];
    let mut filled = 0;
    // The file is shorter only if it could not be sealed and was cut. Missing bytes count as 0.
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

/// A memfd. With MFD_EXEC first, because some workers beat by switching the mode between 0 and 1;
/// with MFD_NOEXEC_SEAL where vm.memfd_noexec forbids that; without both for kernels before 6.3.
fn create_memfd() -> io::Result<File> {
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

fn create_unlinked() -> io::Result<File> {
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
    use crate::wire::heartbeat::{BEATS, BEGUN, CONNECTIONS, FINISHED, OPEN};

    fn mode(beat: &HeartbeatFile, mode: u32) {
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        file.set_permissions(PermissionsExt::from_mode(mode))
            .expect("fchmod");
    }

    #[test]
    fn u23_making_the_file_is_no_beat_and_every_way_to_beat_is_seen() {
        let mut beat = HeartbeatFile::create().expect("made");
        assert!(!beat.check_for_beat().expect("checked"));
        // Directly after it was made and after each check, so within one tick of the clock.
        mode(&beat, 0o400);
        assert!(beat.check_for_beat().expect("checked"), "fchmod");
        assert!(!beat.check_for_beat().expect("checked"));
        mode(&beat, 0o600);
        assert!(beat.check_for_beat().expect("checked"), "fchmod back");

        let mut beat = HeartbeatFile::create().expect("made");
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        let times = std::fs::FileTimes::new().set_modified(crate::sys::machine::clock::wall());
        file.set_times(times).expect("futimens");
        assert!(beat.check_for_beat().expect("checked"), "futimens");

        let mut beat = HeartbeatFile::create().expect("made");
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        file.write_all_at(&1u64.to_ne_bytes(), 8).expect("pwrite");
        assert!(beat.check_for_beat().expect("checked"), "the counter");
        assert!(!beat.check_for_beat().expect("checked"));
    }

    #[test]
    fn u23_a_shell_beats_by_touch() {
        let mut beat = HeartbeatFile::create().expect("made");
        let status = Command::new("touch")
            .arg("/proc/self/fd/0")
            .stdin(Stdio::from(beat.fd().try_clone_to_owned().expect("a copy")))
            .status()
            .expect("touch runs");
        assert!(status.success());
        assert!(beat.check_for_beat().expect("checked"));
        assert!(!beat.check_for_beat().expect("checked"));
    }

    #[test]
    #[expect(unsafe_code, reason = "mapping is what a worker does")]
    fn u23_a_store_in_the_mapped_page_is_a_beat() {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
        use std::sync::atomic::{AtomicU64, Ordering};

        let mut beat = HeartbeatFile::create().expect("made");
        let length = std::num::NonZeroUsize::new(SIZE).expect("a size");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh shared mapping of a file that cannot shrink; nothing else refers to it.
        let map = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, beat.fd(), 0) };
        let map = map.expect("mapped");
        // SAFETY: within the page, aligned, and it lives until the unmapping below.
        let counter = unsafe { &*map.as_ptr().cast::<AtomicU64>().add(1) };
        counter.fetch_add(1, Ordering::Relaxed);
        assert!(beat.check_for_beat().expect("checked"));
        assert!(!beat.check_for_beat().expect("checked"));
        // The first store into the page changes the times too. The next ones change only the
        // counter.
        counter.fetch_add(1, Ordering::Relaxed);
        let before = beat.seen;
        assert!(beat.check_for_beat().expect("checked"));
        assert_eq!(before.changed, beat.seen.changed);
        assert_eq!(beat.page().beats, 2);
        // SAFETY: the mapping made above; `counter` is not used any more.
        unsafe { munmap(map, SIZE) }.expect("unmapped");
    }

    #[test]
    fn the_counters_are_read() {
        let mut beat = HeartbeatFile::create().expect("made");
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        let numbers = [
            (BEATS, 5u64),
            (BEGUN, 4),
            (FINISHED, 3),
            (OPEN, 1),
            (CONNECTIONS, 2),
        ];
        for (offset, value) in numbers {
            let offset = u64::try_from(offset).expect("small");
            file.write_all_at(&value.to_ne_bytes(), offset)
                .expect("pwrite");
        }
        let page = Page {
            beats: 5,
            begun: 4,
            finished: 3,
            open: 1,
            connections: 2,
        };
        assert!(beat.check_for_beat().expect("checked"));
        assert_eq!(beat.page(), page);
    }

    #[test]
    fn the_file_is_sealed_private_and_marked() {
        let beat = HeartbeatFile::create().expect("made");
        let file = File::from(beat.fd().try_clone_to_owned().expect("a copy"));
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(8192).is_err());
        let stat = file.metadata().expect("stat");
        assert_eq!((stat.mode() & 0o7777, stat.len()), (0o600, 4096));
        assert_eq!(
            stat.mtime(),
            1,
            "any touch changes the time, even with a coarse clock"
        );
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, 0).expect("read");
        assert_eq!(&magic, b"PFBEAT1\0");
        let flags = rustix::io::fcntl_getfd(beat.fd()).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn an_unlinked_file_replaces_a_memfd_and_a_cut_file_counts_as_zero() {
        let file = create_unlinked().expect("made");
        assert_eq!(file.metadata().expect("stat").nlink(), 0);
        assert_eq!(read_page(&file).expect("read"), Page::default());
        file.write_all_at(&[0xff; 20], 0).expect("written");
        assert_eq!(read_page(&file).expect("read").beats, u64::MAX);
        assert_eq!(read_page(&file).expect("read").begun, 0);
    }
}
