//! The names that a master has in the file system, and those that an old one goes by while a new one has them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What an old master's names end in (U16).
const OLD: &str = ".oldbin";

/// The control socket of a pid file: `.pid` replaced by `.ctl`, else `.ctl` appended.
pub fn control_path(pid_file: &Path) -> PathBuf {
    if pid_file.extension().is_some_and(|end| end == "pid") {
        return pid_file.with_extension("ctl");
    }
    appended(pid_file, ".ctl")
}

/// What the pid file of an old master is called.
pub fn old_pid_file(pid_file: &Path) -> PathBuf {
    appended(pid_file, OLD)
}

/// What the control socket of an old master is called: where a client that is pointed at its pid file looks, if it was where such clients look;
/// else by the same ending.
pub fn old_control(control: &Path, pid_file: Option<&Path>) -> PathBuf {
    match pid_file {
        Some(pid_file) if control_path(pid_file) == control => {
            control_path(&old_pid_file(pid_file))
        }
        _ => appended(control, OLD),
    }
}

fn appended(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u16_an_old_master_is_found_by_its_pid_file_too() {
        for (pid_file, control, old) in [
            ("/run/app.pid", "/run/app.ctl", "/run/app.pid.oldbin.ctl"),
            ("/run/app", "/run/app.ctl", "/run/app.oldbin.ctl"),
            ("/run/app.pid", "/run/other", "/run/other.oldbin"),
        ] {
            let (pid_file, control) = (Path::new(pid_file), Path::new(control));
            assert_eq!(old_control(control, Some(pid_file)), Path::new(old));
        }
        assert_eq!(
            old_control(Path::new("/run/app.ctl"), None),
            Path::new("/run/app.ctl.oldbin")
        );
        let old = old_pid_file(Path::new("/run/app.pid"));
        assert_eq!(old, Path::new("/run/app.pid.oldbin"));
        assert_eq!(control_path(&old), Path::new("/run/app.pid.oldbin.ctl"));
    }
}
