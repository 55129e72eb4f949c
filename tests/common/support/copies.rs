//! Copies of programs, also for other users, who may have no access to the build directory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Copies a program with `cp`. If this process wrote the copy, a child that another test forks
/// meanwhile would inherit it open for writing, and executing it would fail (ETXTBSY).
#[track_caller]
pub fn copied(program: impl AsRef<Path>, to: impl AsRef<Path>) {
    let status = Command::new("cp")
        .arg(program.as_ref())
        .arg(to.as_ref())
        .status()
        .expect("cp");
    assert!(status.success(), "{status}");
}

/// A file of one line that may be executed; written by a shell, for the same reason.
#[track_caller]
pub fn executable(path: &Path, line: &str) {
    let status = Command::new("sh")
        .args(["-c", r#"echo "$2" >"$1" && chmod 755 "$1""#, "sh"])
        .args([path.as_os_str(), line.as_ref()])
        .status()
        .expect("sh");
    assert!(status.success(), "{status}");
}

/// Copies of programs in a directory that every user may search.
pub struct ForAnybody(TempDir);

impl ForAnybody {
    /// Copies these programs.
    pub fn copy<P: AsRef<Path>>(programs: impl IntoIterator<Item = P>) -> ForAnybody {
        let dir = tempfile::tempdir().expect("a directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("our own");
        for program in programs {
            copied(program, dir.path());
        }
        ForAnybody(dir)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// The copy of the program with this path.
    pub fn of(&self, program: impl AsRef<Path>) -> PathBuf {
        self.dir()
            .join(program.as_ref().file_name().expect("a name"))
    }
}
