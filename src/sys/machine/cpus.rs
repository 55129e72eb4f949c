//! How many CPUs we may use: the affinity or the cgroup's quota, whichever is smaller.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::cgroup::{self, Cgroup, CgroupVersion};

/// The default number of workers: the CPUs of our affinity, or what the cgroup's quota (v1 or v2)
/// allows, rounded up; at least 1.
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
    // It fails if the machine has more CPUs than the set can hold; the standard library then counts
    // in another way.
    own.unwrap_or_else(|_| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// The cgroup's quota in whole CPUs, rounded up; `None` where there is no limit. `root` is `/`, or
/// in a test a directory with `proc/self/cgroup`, `proc/self/mountinfo` and the files that these
/// name.
pub fn quota(root: &Path) -> Option<usize> {
    let groups = cgroup::groups_of(root, "self", "cpu")?;
    groups.iter().filter_map(smallest_quota).min()
}

/// The smallest quota of our cgroup and its ancestors, as far as they are mounted.
fn smallest_quota(group: &Cgroup) -> Option<usize> {
    let dirs = group.dir.ancestors();
    dirs.take_while(|dir| dir.starts_with(&group.top))
        .filter_map(|dir| quota_of(dir, group.version))
        .min()
}

fn quota_of(dir: &Path, version: CgroupVersion) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    match version {
        CgroupVersion::V2 => {
            let text = read("cpu.max")?;
            let mut words = text.split_whitespace();
            whole_cpus(words.next()?, words.next()?)
        }
        CgroupVersion::V1 => whole_cpus(
            read("cpu.cfs_quota_us")?.trim(),
            read("cpu.cfs_period_us")?.trim(),
        ),
    }
}

/// Microseconds per period, in whole CPUs. `max` and -1 do not parse as a quota, hence mean no
/// limit.
fn whole_cpus(quota: &str, period: &str) -> Option<usize> {
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
        let quota_of_files = |own, above| quota(files(own, above).path());
        assert_eq!(quota_of_files("150000 100000\n", "max 100000\n"), Some(2));
        assert_eq!(
            quota_of_files("400000 100000\n", "100000 100000\n"),
            Some(1)
        );
        assert_eq!(quota_of_files("1000 100000\n", "max 100000\n"), Some(1));
        assert_eq!(quota_of_files("max 100000\n", "max 100000\n"), None);
        for garbage in ["", "x y", "1", "100 0", "-1 100"] {
            assert_eq!(quota_of_files(garbage, "max 100000"), None, "{garbage}");
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
        // The affinity belongs to this thread alone, and is restored at the end.
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
