//! Where the files of a process's cgroup are, and what its memory controller counts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::exit::OomCount;

/// A cgroup that some process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// The hierarchy's version.
    pub version: CgroupVersion,
    /// Its directory.
    pub dir: PathBuf,
    /// Where the hierarchy is mounted: no ancestor above this can be seen.
    pub top: PathBuf,
}

/// The version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy.
    V2,
}

struct CgroupMount {
    /// The part of the hierarchy that is mounted.
    root: String,
    point: String,
}

/// Parses a line of mountinfo, if it is the mount of this controller (proc_pid_mountinfo(5)).
fn parse_mount(line: &str, version: CgroupVersion, controller: &str) -> Option<CgroupMount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let kind = after.next()?;
    let matches = match version {
        CgroupVersion::V2 => kind == "cgroup2",
        CgroupVersion::V1 => {
            kind == "cgroup" && after.nth(1)?.split(',').any(|name| name == controller)
        }
    };
    let mut fields = before.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    matches.then(|| CgroupMount {
        root: unescape(root),
        point: unescape(point),
    })
}

/// Replaces the octal escapes: the kernel writes blanks, tabs, line ends and backslashes as three
/// octal digits.
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

/// The cgroups of process `pid` (or `self`) that have this controller, or may have it (v2). None:
/// that cannot be read. `root` is `/`, or in a test a directory with `proc` and what that names.
pub fn groups_of(root: &Path, pid: &str, controller: &str) -> Option<Vec<Cgroup>> {
    let groups = fs::read_to_string(root.join("proc").join(pid).join("cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let found = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let version = match controllers {
            "" => CgroupVersion::V2,
            list if list.split(',').any(|name| name == controller) => CgroupVersion::V1,
            _ => return None,
        };
        let mut mounts = mounts.lines();
        let mount = mounts.find_map(|line| parse_mount(line, version, controller))?;
        Some(place(root, &mount, path, version))
    });
    Some(found.collect())
}

fn place(root: &Path, mount: &CgroupMount, group: &str, version: CgroupVersion) -> Cgroup {
    // In a container the path may start at the host's root, of which only our part is mounted.
    let below = group.strip_prefix(mount.root.trim_end_matches('/'));
    let below = below.unwrap_or("").trim_start_matches('/');
    let top = root.join(mount.point.trim_start_matches('/'));
    Cgroup {
        version,
        dir: top.join(below),
        top,
    }
}

/// How many processes of the cgroup of process `pid` (or `self`), and of those below it, were
/// killed for want of memory so far. It may be a process that has ended and is not reaped. None:
/// there is no such count (no cgroup, the root of all, no memory controller), or it cannot be read.
pub fn oom_kills(root: &Path, pid: &str) -> Option<OomCount> {
    let mut groups = groups_of(root, pid, "memory")?;
    if groups
        .iter()
        .any(|group| group.version == CgroupVersion::V1)
    {
        // There, a process that has ended is shown in the root: workers are where the master is.
        groups = groups_of(root, "self", "memory")?;
    }
    groups.iter().find_map(|group| {
        let file = match group.version {
            CgroupVersion::V2 => "memory.events",
            CgroupVersion::V1 => "memory.oom_control",
        };
        let text = fs::read_to_string(group.dir.join(file)).ok()?;
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))?;
        Some(OomCount {
            group: group.dir.to_string_lossy().into_owned(),
            kills: count.trim().parse().ok()?,
        })
    })
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

    fn kills(files: &[(&str, &str)], pid: &str) -> Option<(String, u64)> {
        let tree = tree(files);
        let count = oom_kills(tree.path(), pid)?;
        let group = count.group.strip_prefix(tree.path().to_str()?)?;
        Some((group.to_owned(), count.kills))
    }

    const MOUNT2: &str = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const MOUNT1: &str =
        "33 32 0:30 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";

    #[test]
    fn r70_the_count_of_the_workers_own_cgroup_is_read() {
        let files = [
            ("proc/self/mountinfo", MOUNT2),
            ("proc/self/cgroup", "0::/a.service\n"),
            ("proc/7/cgroup", "0::/a.service/worker\n"),
            (
                "sys/fs/cgroup/a.service/memory.events",
                "low 0\noom 4\noom_kill 3\noom_group_kill 9\n",
            ),
            (
                "sys/fs/cgroup/a.service/worker/memory.events",
                "oom_kill 1\n",
            ),
        ];
        let group = |group: &str, kills| Some((format!("/sys/fs/cgroup/{group}"), kills));
        assert_eq!(kills(&files, "self"), group("a.service", 3));
        assert_eq!(kills(&files, "7"), group("a.service/worker", 1));
        assert_eq!(kills(&files, "8"), None);
    }

    #[test]
    fn the_first_version_has_the_count_elsewhere() {
        let files = [
            ("proc/self/mountinfo", MOUNT1),
            ("proc/7/cgroup", "4:memory:/\n0::/docker/x\n"),
            (
                "proc/self/cgroup",
                "5:cpu:/docker/x\n4:memory:/docker/x\n0::/\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
        ];
        for pid in ["self", "7"] {
            let found = Some(("/sys/fs/cgroup/memory/".to_owned(), 2));
            assert_eq!(kills(&files, pid), found);
        }
    }

    #[test]
    fn where_nothing_is_counted_nothing_is_known() {
        let mounted = ("proc/self/mountinfo", MOUNT2);
        let own = ("proc/self/cgroup", "0::/a\n");
        let at = "sys/fs/cgroup/a/memory.events";
        assert_eq!(kills(&[], "self"), None);
        assert_eq!(kills(&[mounted, own], "self"), None);
        assert_eq!(kills(&[mounted, own, (at, "oom 1\n")], "self"), None);
        assert_eq!(
            kills(&[mounted, own, (at, "oom_kill many\n")], "self"),
            None
        );
        assert_eq!(kills(&[own, (at, "oom_kill 1\n")], "self"), None);
    }
}
