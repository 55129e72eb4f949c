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

/// Where the master of this pid, whose control socket belongs at `control`, listens for einhorn's acks: `.ctl` replaced by `.PID.ack`, else that
/// appended. Two masters beside one another have one each, and a worker's stays where its environment says.
pub fn ack_path(control: &Path, pid: u32) -> PathBuf {
    let base = match control.extension() {
        Some(end) if end == "ctl" => control.with_extension(""),
        _ => control.to_owned(),
    };
    appended(&base, &format!(".{pid}.ack"))
}

/// Whether a file beside `control` is called as such a socket of some master.
pub fn is_ack_path(control: &Path, path: &Path) -> bool {
    let pid = path
        .file_stem()
        .and_then(|stem| Path::new(stem).extension()?.to_str()?.parse().ok());
    pid.is_some_and(|pid| ack_path(control, pid) == path)
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
    fn each_master_hears_acks_at_a_path_of_its_own() {
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
