//! How many CPUs we may use: the smaller of the affinity and the cgroup's quota.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// The default number of workers: CPUs of our affinity, or what the cgroup's quota (v1 or v2) lets us use, rounded up; at
/// least 1.
pub fn usable() -> usize {
    let quota = quota(Path::new("/")).unwrap_or(usize::MAX);
    affinity().min(quota).max(1)
}

fn affinity() -> usize {
    let own = sched_getaffinity(Pid::from_raw(0)).map(|set| {
        (0..CpuSet::count())
            .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
            .count()
    });
    // More CPUs than the set can hold: the standard library asks differently.
    own.unwrap_or_else(|_| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// The cgroup's quota in whole CPUs, rounded up; `None` where there is no limit. `root` is `/`, or a made-up tree with
/// `proc/self/cgroup`, `proc/self/mountinfo` and the files that these name.
pub fn quota(root: &Path) -> Option<usize> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let version = match controllers {
                "" => Version::Two,
                list if list.split(',').any(|name| name == "cpu") => Version::One,
                _ => return None,
            };
            let mount = mounts.lines().find_map(|line| mount(line, version))?;
            tightest(root, &mount, path, version)
        })
        .min()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

struct Mount {
    /// Which part of the hierarchy is mounted.
    root: String,
    point: String,
}

/// Reads a line of mountinfo, if it is the mount of the CPU controller (proc_pid_mountinfo(5)).
fn mount(line: &str, version: Version) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let kind = after.next()?;
    let matches = match version {
        Version::Two => kind == "cgroup2",
        Version::One => kind == "cgroup" && after.nth(1)?.split(',').any(|name| name == "cpu"),
    };
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    matches.then(|| Mount {
        root: unescape(root),
        point: unescape(point),
    })
}

/// Blanks and the like are written as three octal digits.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escape, plain)| {
        text.replace(escape, plain)
    })
}

/// The smallest quota of our cgroup and those above it, as far as they are mounted.
fn tightest(root: &Path, mount: &Mount, group: &str, version: Version) -> Option<usize> {
    // In a container the path may be told from the host's root, of which only our part is mounted.
    let below = group
        .strip_prefix(mount.root.trim_end_matches('/'))
        .unwrap_or("");
    let top = root.join(mount.point.trim_start_matches('/'));
    let own: PathBuf = top.join(below.trim_start_matches('/'));
    own.ancestors()
        .take_while(|dir| dir.starts_with(&top))
        .filter_map(|dir| limit(dir, version))
        .min()
}

fn limit(dir: &Path, version: Version) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    match version {
        Version::Two => {
            let text = read("cpu.max")?;
            let mut words = text.split_whitespace();
            whole(words.next()?, words.next()?)
        }
        Version::One => whole(
            read("cpu.cfs_quota_us")?.trim(),
            read("cpu.cfs_period_us")?.trim(),
        ),
    }
}

/// Microseconds a period, in whole CPUs; `max` and -1 are no number, hence no limit.
fn whole(quota: &str, period: &str) -> Option<usize> {
    let quota: u64 = quota.parse().ok()?;
    let period: u64 = period.parse().ok().filter(|period| *period > 0)?;
    usize::try_from(quota.div_ceil(period).max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, content).expect("written");
        }
        dir
    }

    const MOUNT2: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const MOUNT1: &str =
        "33 32 0:30 /docker/x /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn a_v2_quota_is_rounded_up_and_the_tightest_ancestor_rules() {
        let files = |own: &'static str, above: &'static str| {
            tree(&[
                ("proc/self/cgroup", "0::/a.slice/b.service\n"),
                ("proc/self/mountinfo", MOUNT2),
                ("sys/fs/cgroup/a.slice/b.service/cpu.max", own),
                ("sys/fs/cgroup/a.slice/cpu.max", above),
            ])
        };
        let told = |own, above| quota(files(own, above).path());
        assert_eq!(told("150000 100000\n", "max 100000\n"), Some(2));
        assert_eq!(told("400000 100000\n", "100000 100000\n"), Some(1));
        assert_eq!(told("1000 100000\n", "max 100000\n"), Some(1));
        assert_eq!(told("max 100000\n", "max 100000\n"), None);
        for garbage in ["", "x y", "1", "100 0", "-1 100"] {
            assert_eq!(told(garbage, "max 100000"), None, "{garbage}");
        }
    }

    #[test]
    fn a_v1_quota_is_found_under_the_mounted_part() {
        let tree = tree(&[
            (
                "proc/self/cgroup",
                "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x/y\n0::/\n",
            ),
            ("proc/self/mountinfo", MOUNT1),
            ("sys/fs/cgroup/cpu,cpuacct/y/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/y/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ]);
        assert_eq!(quota(tree.path()), Some(3));
    }

    #[test]
    fn where_nothing_is_known_nothing_limits() {
        assert_eq!(quota(tree(&[]).path()), None);
        let no_mount = tree(&[("proc/self/cgroup", "0::/\n"), ("proc/self/mountinfo", "")]);
        assert_eq!(quota(no_mount.path()), None);
        assert!(usable() >= 1);
        assert!(usable() <= affinity());
    }

    #[test]
    fn the_affinity_is_counted() {
        // Of this thread alone, and put back.
        let before = sched_getaffinity(Pid::from_raw(0)).expect("asked");
        let first = (0..CpuSet::count())
            .find(|cpu| before.is_set(*cpu).unwrap_or(false))
            .expect("one at least");
        let mut one = CpuSet::new();
        one.set(first).expect("set");
        nix::sched::sched_setaffinity(Pid::from_raw(0), &one).expect("set");
        assert_eq!(affinity(), 1);
        assert_eq!(usable(), 1);
        nix::sched::sched_setaffinity(Pid::from_raw(0), &before).expect("put back");
    }
}
