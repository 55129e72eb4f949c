//! What the kernel reports about other processes: memory, processor time, process groups, open
//! sockets, caught signals.
//!
//! No function here fails because a process has gone: the answer is then `None`, or the process is
//! not in the list. Files are read into a buffer on the stack, because the status of 1,000 workers
//! must not take 20 ms.

use std::collections::{BTreeMap, BTreeSet};
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

use crate::wire::environment::Environment;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The state letter, see [`state`].
    pub state: char,
    /// Resident memory in bytes; 0 for a zombie.
    pub rss_bytes: u64,
    /// Processor time of all its threads so far, user and system, and of the children that it has
    /// waited for.
    pub cpu: Duration,
}

/// Whether /proc shows this process and the others by the numbers that they have here. It does not
/// where it is not mounted, or is that of another pid namespace: then a number there means another
/// process, and a process that is not found there may live.
pub fn is_ours() -> bool {
    static OURS: OnceLock<()> = OnceLock::new();
    // What was seen once stays; where it was not, /proc may be mounted later.
    if OURS.get().is_none() {
        let own = fs::read_link("/proc/self").ok();
        let own = own.and_then(|own| own.to_str()?.parse::<u32>().ok());
        if own != Some(std::process::id()) {
            return false;
        }
        let _ = OURS.set(());
    }
    true
}

/// Fails where [`is_ours`] is false.
fn require_proc() -> io::Result<()> {
    let why = "there is no /proc of this pid namespace";
    is_ours()
        .then_some(())
        .ok_or_else(|| io::Error::new(ErrorKind::Unsupported, why))
}

/// What the process groups use, by one scan of `/proc`: the state is the leader's, memory and time
/// are those of all members, and the time also that of members that have ended and were waited for.
/// A group without a leader is not in it.
pub fn groups_usage(pgids: &[i32]) -> BTreeMap<i32, Usage> {
    let mut sums: BTreeMap<i32, Usage> = pgids
        .iter()
        .filter_map(|pgid| Some((*pgid, usage(*pgid)?)))
        .collect();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|it| it.parse().ok());
        let member = pid.and_then(|pid| Some((pid, getpgid(Some(Pid::from_raw(pid))).ok()?)));
        if let Some((pid, pgid)) = member
            && pid != pgid.as_raw()
            && let Some(sum) = sums.get_mut(&pgid.as_raw())
            && let Some(one) = usage(pid)
        {
            sum.rss_bytes = sum.rss_bytes.saturating_add(one.rss_bytes);
            sum.cpu += one.cpu;
        }
    }
    sums
}

/// What the process `pid` uses, or `None` if there is no such process (any more).
///
/// State and memory are fields of `/proc/PID/stat`. The time is the process's CPU clock
/// (clock_getcpuclockid(3)): it counts nanoseconds where that file counts ticks. The time of its
/// children that have ended is counted in that file alone.
pub fn usage(pid: i32) -> Option<Usage> {
    const STATE: usize = 0;
    const CHILDREN_USER: usize = 13;
    const CHILDREN_SYSTEM: usize = 14;
    const PAGES: usize = 21;
    let pid = positive(pid)?;
    let mut buffer = [0; 1024];
    let stat = read_into(&mut buffer, &format!("/proc/{pid}/stat")).ok()?;
    let fields = after_name(stat)?;
    let pages: u64 = field(fields, PAGES)?;
    let user: u64 = field(fields, CHILDREN_USER)?;
    let ticks = user.saturating_add(field(fields, CHILDREN_SYSTEM)?);
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).ok()?;
    let own = Duration::from(clock_gettime(clock).ok()?);
    Some(Usage {
        state: field(fields, STATE)?,
        rss_bytes: pages.saturating_mul(page_size()),
        cpu: own + Duration::from_millis(ticks.saturating_mul(1000) / ticks_a_second()),
    })
}

/// The live processes of the process group `pgid`. Zombies do not count: a group of zombies is
/// gone.
///
/// If `/proc` cannot be read, a group that kill(2) still finds is reported as its leader alone. A
/// group wrongly called gone would leave processes behind; a group wrongly called alive is only
/// waited for.
pub fn group_members(pgid: i32) -> Vec<i32> {
    groups_members(&[pgid]).remove(&pgid).unwrap_or_default()
}

/// The live processes of many process groups, by one scan of `/proc`. Every group that was asked
/// for has an entry.
///
/// Otherwise as [`group_members`].
pub fn groups_members(pgids: &[i32]) -> BTreeMap<i32, Vec<i32>> {
    let mut members: BTreeMap<i32, Vec<i32>> =
        pgids.iter().map(|pgid| (*pgid, Vec::new())).collect();
    let scanned = require_proc()
        .and_then(|()| fs::read_dir("/proc"))
        .and_then(|entries| {
            for entry in entries {
                let Some(pid) = entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok())
                else {
                    continue;
                };
                // getpgid(2) is cheap and rules out most processes of the machine before their
                // files are read.
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

/// Whether one of the processes `pids` has one of the sockets with these inodes open (see
/// [`socket_inode`]).
///
/// A process that has gone holds nothing.
///
/// # Errors
/// What the system returned where a process's descriptors may not be read and no other process is
/// found to hold a socket.
pub fn holds_socket(pids: &[i32], inodes: &BTreeSet<u64>) -> io::Result<bool> {
    if !pids.is_empty() {
        require_proc()?;
    }
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

fn process_holds(pid: i32, inodes: &BTreeSet<u64>) -> io::Result<bool> {
    held_sockets(pid, inodes).map(|held| !held.is_empty())
}

/// Those of the sockets with these inodes that the process `pid` has open.
///
/// # Errors
/// What the system returned where the process's descriptors may not be read.
pub fn held_sockets(pid: i32, inodes: &BTreeSet<u64>) -> io::Result<BTreeSet<u64>> {
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let target = match fs::read_link(entry?.path()) {
            Ok(target) => target,
            // The descriptor was closed between readdir and readlink.
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        let inode = target.to_str().and_then(linked_socket);
        held.extend(inode.filter(|inode| inodes.contains(inode)));
    }
    Ok(held)
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
/// What fstat(2) returned.
pub fn socket_inode(fd: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(fd)?.st_ino)
}

/// Whether the process `pid` has a handler for the signal `number`, from the mask `SigCgt`. A
/// process without a handler for USR1 dies of it (U15).
pub fn catches(pid: i32, number: i32) -> Option<bool> {
    is_in_mask(pid, "SigCgt:", number)
}

/// Whether the signal `number` is pending for the process `pid`, from the mask `ShdPnd`: another
/// one would be merged with it.
pub fn is_pending(pid: i32, number: i32) -> Option<bool> {
    is_in_mask(pid, "ShdPnd:", number)
}

fn is_in_mask(pid: i32, key: &str, number: i32) -> Option<bool> {
    let bit = u32::try_from(number)
        .ok()?
        .checked_sub(1)
        .filter(|bit| *bit < 64)?;
    let mask = u64::from_str_radix(&status_field(pid, key)?, 16).ok()?;
    Some(mask & (1 << bit) != 0)
}

/// The pid of the process that traces the process `pid`; `None` if it is not traced.
pub fn tracer(pid: i32) -> Option<i32> {
    positive(status_field(pid, "TracerPid:")?.parse().ok()?)
}

/// Whether the kernel is writing the core of the process `pid`, which a KILL would cut short.
pub fn is_dumping(pid: i32) -> bool {
    status_field(pid, "CoreDumping:").is_some_and(|value| value == "1")
}

/// The state letter of the process `pid` as in proc(5): `R`, `S`, `D`, `T` (stopped), `t` (traced),
/// `Z`, ...
pub fn state(pid: i32) -> Option<char> {
    let pid = positive(pid)?;
    let mut buffer = [0; 1024];
    let stat = read_into(&mut buffer, &format!("/proc/{pid}/stat")).ok()?;
    let letter: char = field(after_name(stat)?, 0)?;
    Some(letter)
}

/// When the process `pid` started, in ticks since the machine did: with the number it names one
/// process.
pub(in crate::sys) fn started(pid: i32) -> Option<u64> {
    const STARTED: usize = 19;
    let pid = positive(pid)?;
    let mut buffer = [0; 1024];
    let stat = read_into(&mut buffer, &format!("/proc/{pid}/stat")).ok()?;
    field(after_name(stat)?, STARTED)
}

/// The parent of the process `pid`.
pub fn parent(pid: i32) -> Option<i32> {
    const PARENT: usize = 1;
    let pid = positive(pid)?;
    let mut buffer = [0; 1024];
    let stat = read_into(&mut buffer, &format!("/proc/{pid}/stat")).ok()?;
    field(after_name(stat)?, PARENT)
}

/// The name of the process `pid`, as ps(1) shows it.
pub fn name(pid: i32) -> Option<String> {
    let name = fs::read(format!("/proc/{}/comm", positive(pid)?)).ok()?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
}

/// The environment that the process `pid` was executed with, as far as the process has not written
/// over it. `None` if it may not be read, or the process has none.
pub fn environment(pid: i32) -> Option<Environment> {
    let texts = fs::read(format!("/proc/{}/environ", positive(pid)?)).ok()?;
    (!texts.is_empty()).then(|| Environment::parse(&texts))
}

/// The inode of a program file, symlinks followed: it differs when the path leads to another
/// program than before.
pub fn program_inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|meta| meta.ino())
}

/// Whether the process exists and is no zombie. A process that cannot be read counts as live.
pub fn is_live(pid: i32) -> bool {
    let mut buffer = [0; 1024];
    match read_into(&mut buffer, &format!("/proc/{pid}/stat")) {
        Ok(stat) => after_name(stat).is_none_or(is_live_stat),
        Err(error) => !is_gone(&error),
    }
}

/// The same, from the fields of `/proc/PID/stat` that follow the name. A process whose main thread
/// has ended shows as a zombie while its other threads live on.
fn is_live_stat(fields: &[u8]) -> bool {
    const STATE: usize = 0;
    const THREADS: usize = 17;
    match field::<char>(fields, STATE) {
        Some('Z' | 'X' | 'x') => field::<u32>(fields, THREADS).is_some_and(|threads| threads > 1),
        _ => true,
    }
}

/// What follows the name in `/proc/PID/stat`. The name may contain anything, `)` and spaces too, so
/// it ends at the last `)`.
fn after_name(stat: &[u8]) -> Option<&[u8]> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 1..)
}

/// The field with this index among fields separated by white space.
fn field<T: std::str::FromStr>(line: &[u8], index: usize) -> Option<T> {
    let field = line
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty())
        .nth(index)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Whether all users and groups of a process (real, effective, saved, of the file system) are those
/// of this process.
pub(in crate::sys) fn has_our_user(pid: i32) -> Option<bool> {
    let own = i32::try_from(std::process::id()).ok()?;
    let users = |pid| Some((status_field(pid, "Uid:")?, status_field(pid, "Gid:")?));
    Some(users(pid)? == users(own)?)
}

/// The value of a line of `/proc/PID/status`.
fn status_field(pid: i32, key: &str) -> Option<String> {
    require_proc().ok()?;
    let status = fs::read(format!("/proc/{}/status", positive(pid)?)).ok()?;
    // A process can put any text into its name, but the kernel escapes line ends there.
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key.as_bytes()))?;
    Some(std::str::from_utf8(line).ok()?.trim().to_owned())
}

/// Reads the beginning of a file of /proc, or all of it if it fits.
fn read_into<'a>(buffer: &'a mut [u8], path: &str) -> io::Result<&'a [u8]> {
    require_proc()?;
    let read = File::open(path)?.read(buffer)?;
    Ok(buffer.get(..read).unwrap_or_default())
}

/// Whether an error means that the process, or its descriptor, does not exist any more.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

/// No pid is 0 or less; the kernel would take those for "myself" or for a whole group.
fn positive(pid: i32) -> Option<i32> {
    (pid > 0).then_some(pid)
}

fn ticks_a_second() -> u64 {
    static TICKS: OnceLock<u64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        sysconf(SysconfVar::CLK_TCK)
            .ok()
            .flatten()
            .and_then(|ticks| u64::try_from(ticks).ok())
            .filter(|ticks| *ticks > 0)
            .unwrap_or(100)
    })
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
mod tests;
