//! The paths that a master publishes beside its pid file, and the paths of an old master during an
//! upgrade by fork.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable with the pid of `pf-listen --hold`, in the environment of the master that it holds.
pub const HOLD_VARIABLE: &str = "PF_HOLD";

/// The end of an old master's paths (U16).
const OLD: &str = ".oldbin";

/// The control socket that belongs to a pid file: `.pid` replaced by `.ctl`, or `.ctl` appended.
pub fn control_path(pid_file: &Path) -> PathBuf {
    if pid_file.extension().is_some_and(|end| end == "pid") {
        return pid_file.with_extension("ctl");
    }
    appended(pid_file, ".ctl")
}

/// The socket for einhorn's acks of the master `pid` whose control socket is `control`: `.ctl`
/// replaced by `.PID.ack`, or `.PID.ack` appended.
///
/// The pid is part of the path because two masters beside one another need a socket each, and the
/// path in a worker's environment must stay valid.
pub fn ack_path(control: &Path, pid: u32) -> PathBuf {
    let base = match control.extension() {
        Some(end) if end == "ctl" => control.with_extension(""),
        _ => control.to_owned(),
    };
    appended(&base, &format!(".{pid}.ack"))
}

/// Whether `path` has the form of [`ack_path`] for any master at `control`.
pub fn is_ack_path(control: &Path, path: &Path) -> bool {
    let pid = path
        .file_stem()
        .and_then(|stem| Path::new(stem).extension()?.to_str()?.parse().ok());
    pid.is_some_and(|pid| ack_path(control, pid) == path)
}

/// The pid file of an old master.
pub fn old_pid_file(pid_file: &Path) -> PathBuf {
    appended(pid_file, OLD)
}

/// The control socket of an old master. If the socket was at the default path for `pid_file`, it
/// is again at the default path for the old pid file, so that a client that is given that pid file
/// finds it. Else the path gets the same end as the old pid file.
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
    fn each_master_has_its_own_ack_path() {
        for (control, path) in [
            ("/run/app.ctl", "/run/app.7.ack"),
            ("/run/app", "/run/app.7.ack"),
            ("/run/app.sock", "/run/app.sock.7.ack"),
        ] {
            let (control, path) = (Path::new(control), Path::new(path));
            assert_eq!(ack_path(control, 7), path);
            assert!(is_ack_path(control, path));
        }
        for other in [
            "/run/app.ack",
            "/run/app.x.ack",
            "/run/app.7.ctl",
            "/run/b.7.ack",
            "/run/app.+7.ack",
            "7.ack",
        ] {
            assert!(!is_ack_path(Path::new("/run/app.ctl"), Path::new(other)));
        }
    }

    #[test]
    fn u16_old_master_is_found_by_its_pid_file() {
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
