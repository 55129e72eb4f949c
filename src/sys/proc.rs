//! What the kernel tells about other processes: memory, processor time, process groups, open sockets, caught signals.
//!
//! Everything is total. A process that vanishes meanwhile is simply not there: `None`, or absent from the list.
//! Plain reads into a buffer on the stack, because the status of 1,000 workers must not take 20 ms.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, getpgid, sysconf};

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The state letter, as [`state`] tells it.
    pub state: char,
    /// Resident memory in bytes; 0 for a zombie.
    pub rss_bytes: u64,
    /// Processor time of all its threads so far, user and system.
    pub cpu: Duration,
}

/// What the process `pid` uses, or `None` if there is no such process (any more).
///
/// State and memory are fields of `/proc/PID/stat`; time is the process's CPU clock, which counts nanoseconds where that file counts ticks.
pub fn usage(pid: i32) -> Option<Usage> {
    const STATE: usize = 0;
    const PAGES: usize = 21;
    let pid = positive(pid)?;
    let mut buffer = [0; 1024];
    let stat = read_into(&mut buffer, &format!("/proc/{pid}/stat")).ok()?;
    let fields = after_name(stat)?;
    let pages: u64 = field(fields, PAGES)?;
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    let cpu = Duration::from(clock_gettime(clock).ok()?);
    Some(Usage {
        state: field(fields, STATE)?,
        rss_bytes: pages.saturating_mul(page_size()),
        cpu,
    })
}

/// The live processes of the process group `pgid`. Zombies do not count: a group of zombies is gone.
///
/// Where `/proc` cannot be read, a group that kill(2) still finds is told as its leader alone: a group wrongly called
/// gone would leave processes behind, one wrongly called alive is only waited for.
pub fn group_members(pgid: i32) -> Vec<i32> {
    groups_members(&[pgid]).remove(&pgid).unwrap_or_default()
}

/// The live processes of many process groups, by one scan of `/proc`; every group asked for has an entry.
///
/// As [`group_members`] otherwise.
pub fn groups_members(pgids: &[i32]) -> BTreeMap<i32, Vec<i32>> {
    let mut members: BTreeMap<i32, Vec<i32>> =
        pgids.iter().map(|pgid| (*pgid, Vec::new())).collect();
    let scanned = fs::read_dir("/proc").and_then(|entries| {
        for entry in entries {
            let Some(pid) = entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // One cheap system call decides for most processes of the machine that they do not matter.
            let Ok(pgid) = getpgid(Some(Pid::from_raw(pid))) else {
                continue;
            };
            if let Some(group) = members.get_mut(&pgid.as_raw())
                && is_live(pid)
            {
                group.push(pid);
            }
        }
        Ok(())
    });
    if scanned.is_err() {
        for (pgid, group) in &mut members {
            let exists =
                *pgid > 1 && !matches!(killpg(Pid::from_raw(*pgid), None), Err(Errno::ESRCH));
            if group.is_empty() && exists {
                group.push(*pgid);
            }
        }
    }
    members
}

/// Whether one of the processes `pids` has one of the sockets with these inodes open (see [`socket_inode`]).
///
/// A process that has gone holds nothing.
///
/// # Errors
/// What the system said where a process's descriptors may not be looked at and no other process is found to hold one.
pub fn holds_socket(pids: &[i32], inodes: &HashSet<u64>) -> io::Result<bool> {
    let mut failure = None;
    for pid in pids {
        match process_holds(*pid, inodes) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(false), Err)
}

fn process_holds(pid: i32, inodes: &HashSet<u64>) -> io::Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let target = match fs::read_link(entry?.path()) {
            Ok(target) => target,
            // Closed between the listing and the look.
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        if target
            .to_str()
            .and_then(linked_socket)
            .is_some_and(|inode| inodes.contains(&inode))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The inode in a link target such as `socket:[4711]`.
fn linked_socket(target: &str) -> Option<u64> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The inode of an open socket, as `/proc/PID/fd` and the kernel's socket tables name it.
///
/// # Errors
/// What fstat(2) said.
pub fn socket_inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(fd)?.st_ino)
}

/// Whether the process `pid` has a handler for the signal `number`, from the mask `SigCgt`.
pub fn catches(pid: i32, number: i32) -> Option<bool> {
    let bit = u32::try_from(number)
        .ok()?
        .checked_sub(1)
        .filter(|bit| *bit < 64)?;
    let mask = u64::from_str_radix(&status_field(pid, "SigCgt:")?, 16).ok()?;
    Some(mask & (1 << bit) != 0)
}

/// The pid that traces the process `pid`; `None` if nobody does.
pub fn tracer(pid: i32) -> Option<i32> {
    positive(status_field(pid, "TracerPid:")?.parse().ok()?)
}

/// Whether the kernel is writing the core of the process `pid`, which must not be cut short.
pub fn is_dumping(pid: i32) -> bool {
    status_field(pid, "CoreDumping:").is_some_and(|value| value == "1")
}

/// The state letter of the process `pid` as in proc(5): `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z`, ...
pub fn state(pid: i32) -> Option<char> {
    let pid = positive(pid)?;
    let mut buffer = [0; 1024];
    let stat = read_into(&mut buffer, &format!("/proc/{pid}/stat")).ok()?;
    let letter: char = field(after_name(stat)?, 0)?;
    Some(letter)
}

/// The inode of a program file, symlinks followed: tells whether a path leads to another program than before.
pub fn program_inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|meta| meta.ino())
}

/// Whether the process is there and not a zombie. What cannot be read counts as live.
pub(super) fn is_live(pid: i32) -> bool {
    let mut buffer = [0; 1024];
    match read_into(&mut buffer, &format!("/proc/{pid}/stat")) {
        Ok(stat) => after_name(stat).is_none_or(is_live_stat),
        Err(error) => !is_gone(&error),
    }
}

/// The same, from the fields of `/proc/PID/stat` that follow the name. A main thread that has ended shows as a zombie
/// while other threads of its process live on.
fn is_live_stat(fields: &[u8]) -> bool {
    const STATE: usize = 0;
    const THREADS: usize = 17;
    match field::<char>(fields, STATE) {
        Some('Z' | 'X' | 'x') => field::<u32>(fields, THREADS).is_some_and(|threads| threads > 1),
        _ => true,
    }
}

/// What follows the name in `/proc/PID/stat`. The name may hold anything, `)` and spaces too, so its end is the last `)`.
fn after_name(stat: &[u8]) -> Option<&[u8]> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 1..)
}

/// The field with this index among fields parted by white space.
fn field<T: std::str::FromStr>(line: &[u8], index: usize) -> Option<T> {
    let field = line
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
        .nth(index)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Whether all users and groups of a process (real, effective, saved, of the file system) are those of this one.
pub(super) fn has_our_user(pid: i32) -> Option<bool> {
    let own = i32::try_from(std::process::id()).ok()?;
    let users = |pid| Some((status_field(pid, "Uid:")?, status_field(pid, "Gid:")?));
    Some(users(pid)? == users(own)?)
}

/// The value of a line of `/proc/PID/status`.
fn status_field(pid: i32, key: &str) -> Option<String> {
    let status = fs::read(format!("/proc/{}/status", positive(pid)?)).ok()?;
    // A process can put what it likes into its name, but the kernel escapes line ends there.
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key.as_bytes()))?;
    Some(std::str::from_utf8(line).ok()?.trim().to_owned())
}

/// Reads the beginning of a file that the kernel makes up, all of it if it fits.
fn read_into<'a>(buffer: &'a mut [u8], path: &str) -> io::Result<&'a [u8]> {
    let read = File::open(path)?.read(buffer)?;
    Ok(buffer.get(..read).unwrap_or_default())
}

/// Whether an error means that the process, or its descriptor, is not there any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

/// No pid is 0 or less; the kernel would take those for "myself" or for a whole group.
fn positive(pid: i32) -> Option<i32> {
    (pid > 0).then_some(pid)
}

fn page_size() -> u64 {
    static PAGE: OnceLock<u64> = OnceLock::new();
    *PAGE.get_or_init(|| {
        sysconf(SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(4096)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, ChildStdin, Command, Stdio};

    /// A `cat` in a group of its own, which lives until its input is closed; killed and reaped at the end.
    struct Cat {
        child: Child,
        input: Option<ChildStdin>,
    }

    impl Cat {
        fn start() -> Cat {
            let mut child = Command::new("cat")
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("cat");
            let mut input = child.stdin.take().expect("piped");
            // One line there and back: it has executed.
            input.write_all(b"x").expect("written");
            child
                .stdout
                .as_mut()
                .expect("piped")
                .read_exact(&mut [0])
                .expect("echoed");
            Cat {
                child,
                input: Some(input),
            }
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.child.id()).expect("a pid")
        }

        /// Ends it without reaping it, and returns once it is a zombie.
        fn become_zombie(&mut self) {
            self.input = None;
            let id = nix::sys::wait::Id::Pid(Pid::from_raw(self.pid()));
            let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
            nix::sys::wait::waitid(id, flags).expect("waited");
        }
    }

    impl Drop for Cat {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn myself() -> i32 {
        Pid::this().as_raw()
    }

    #[test]
    fn usage_of_this_process_is_plausible() {
        let ours = usage(myself()).expect("we live");
        assert!((64 * 1024..1 << 40).contains(&ours.rss_bytes), "{ours:?}");
        assert!(
            ours.cpu > Duration::ZERO && ours.cpu < Duration::from_secs(3600),
            "{ours:?}"
        );
    }

    #[test]
    fn a_process_that_is_gone_is_not_there() {
        let mut cat = Cat::start();
        let pid = cat.pid();
        assert!(usage(pid).is_some());
        cat.become_zombie();
        assert_eq!(state(pid), Some('Z'));
        assert_eq!(usage(pid).map(|usage| usage.rss_bytes), Some(0));
        cat.child.wait().expect("reaped");
        assert_eq!(usage(pid), None);
        assert_eq!(state(pid), None);
        assert_eq!(tracer(pid), None);
        assert_eq!(catches(pid, 15), None);
        assert!(!holds_socket(&[pid], &HashSet::from([1])).expect("gone is no error"));
        for nobody in [0, -1, i32::MIN, i32::MAX] {
            assert_eq!(usage(nobody), None);
            assert_eq!(state(nobody), None);
        }
    }

    #[test]
    fn a_group_is_told_without_its_zombies() {
        let (mut first, second) = (Cat::start(), Cat::start());
        let groups = [first.pid(), second.pid()];
        assert_eq!(group_members(first.pid()), [first.pid()]);
        first.become_zombie();
        let members = groups_members(&groups);
        assert_eq!(members.get(&first.pid()), Some(&vec![]));
        assert_eq!(members.get(&second.pid()), Some(&vec![second.pid()]));
        assert!(group_members(i32::MAX).is_empty());
    }

    #[test]
    fn a_zombie_with_living_threads_is_alive() {
        let line = |state: char, threads: u32| {
            format!("7 (a ) Z b) {state} 1 7 7 0 -1 0 0 0 0 0 1 2 3 4 20 0 {threads} 0 99")
        };
        let live = |line: String| is_live_stat(after_name(line.as_bytes()).expect("a name"));
        assert!(live(line('S', 1)));
        assert!(live(line('Z', 2)));
        assert!(!live(line('Z', 1)));
        assert!(!live(line('X', 0)));
    }

    #[test]
    fn held_sockets_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let inode = socket_inode(listener.as_fd()).expect("an inode");
        let cat = Cat::start();
        let inodes = HashSet::from([inode]);
        assert!(holds_socket(&[cat.pid(), myself()], &inodes).expect("readable"));
        // Rust's sockets are close-on-exec.
        assert!(!holds_socket(&[cat.pid()], &inodes).expect("readable"));
        drop(listener);
        assert!(!holds_socket(&[myself()], &inodes).expect("readable"));
    }

    #[test]
    fn link_targets_are_read_totally() {
        assert_eq!(linked_socket("socket:[4711]"), Some(4711));
        for other in [
            "",
            "socket:[",
            "socket:[]",
            "socket:[x]",
            "pipe:[7]",
            "/tmp/socket:[7]",
            "socket:[99999999999999999999]",
        ] {
            assert_eq!(linked_socket(other), None, "{other}");
        }
    }

    #[test]
    fn u15_caught_signals_are_known() {
        let cat = Cat::start();
        assert_eq!(catches(cat.pid(), 10), Some(false));
        let mut shell = Command::new("sh")
            .args(["-c", "trap : USR1; echo; read _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        shell
            .stdout
            .as_mut()
            .expect("piped")
            .read_exact(&mut [0])
            .expect("the trap stands");
        let pid = i32::try_from(shell.id()).expect("a pid");
        assert_eq!(catches(pid, nix::libc::SIGUSR1), Some(true));
        assert_eq!(catches(pid, nix::libc::SIGUSR2), Some(false));
        for nonsense in [0, -1, 65, i32::MAX] {
            assert_eq!(catches(pid, nonsense), None);
        }
        drop(shell.stdin.take());
        shell.wait().expect("reaped");
    }

    #[test]
    fn a_program_is_its_inode() {
        let dir = tempfile::tempdir().expect("a directory");
        let (program, link) = (dir.path().join("a"), dir.path().join("current"));
        fs::write(&program, "").expect("written");
        std::os::unix::fs::symlink("a", &link).expect("linked");
        assert!(program_inode(&program).is_some());
        assert_eq!(program_inode(&link), program_inode(&program));
        assert_eq!(program_inode(&dir.path().join("none")), None);
    }
}
