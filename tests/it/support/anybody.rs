//! Programs for other users: what stands in the build directory may be closed to them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Copies of programs, in a directory that anybody may look into.
pub struct ForAnybody(TempDir);

impl ForAnybody {
    /// Copies these programs.
    pub fn copy<P: AsRef<Path>>(programs: impl IntoIterator<Item = P>) -> ForAnybody {
        let dir = tempfile::tempdir().expect("a directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("our own");
        let mut command = Command::new("cp");
        for program in programs {
            command.arg(program.as_ref());
        }
        // Not by this process: a child that another test forks meanwhile would hold the copy open for writing, and nobody could execute it.
        let status = command.arg(dir.path()).status().expect("cp");
        assert!(status.success(), "{status}");
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
