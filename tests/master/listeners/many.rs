//! More listeners than one message carries, and than a process may have.

use std::process::{Command, Output};

use super::gives;
use crate::common::support::service::{Service, Worker};

/// More than SCM_MAX_FD, 253.
const MANY: &str = "300";

/// `sh -c SCRIPT pf-ctl FILE`.
fn shell(service: &Service, script: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_pf-ctl")]);
    command.arg(service.path("app.pid")).output().expect("sh")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[test]
fn p5_three_hundred_listeners_are_given_and_taken() {
    let service = Service::start(&["-n", "0"], &Worker::hello());
    gives(&service, &[&format!("tcp:127.0.0.1:0,copies={MANY}")]);
    assert_eq!(service.status().listeners.len(), 302, "{}", service.log());
    let script = r#"exec "$0" take-fds "$1" -- sh -c 'echo $LISTEN_FDS; ls -l /proc/self/fd | grep -c socket:'"#;
    let taken = shell(&service, script);
    assert_eq!(text(&taken.stdout), "302\n302", "{}", text(&taken.stderr));
    service.stop();
}

#[test]
fn p5_a_limit_that_has_no_room_is_told_and_nothing_is_kept() {
    let options = ["-n", "0", "--listen", "m=tcp:127.0.0.1:0,copies=60"];
    let service = Service::start(&options, &Worker::hello());
    let pid = service.status().pid;
    let open = || {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("open")
            .count()
    };
    let before = open();
    let few = shell(&service, r#"ulimit -n 40; exec "$0" take-fds "$1" -- true"#);
    assert_eq!(few.status.code(), Some(111), "{}", text(&few.stderr));
    let wanted =
        "cannot receive all listeners: the limit of open files is 40 (raise it: ulimit -n)";
    assert!(text(&few.stderr).ends_with(wanted), "{}", text(&few.stderr));
    let listeners = service.status().listeners.len();
    assert_eq!(listeners, 62);
    service.wait_for(|_| open() <= before);
    service.stop();
}
