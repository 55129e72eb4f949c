//! A pid namespace, in which what the test starts is pid 1.

use super::service::scene_processes::children;
use super::service::{Master, until};
use super::support::{is_there, skip, unavailable};

/// What makes a pid namespace whose pid 1 is what follows.
pub(crate) const NAMESPACE: [&str; 4] = ["unshare", "-pf", "--mount-proc", "--kill-child"];

/// Whether this system lets us; says why it does not.
pub(crate) fn permitted() -> bool {
    if !is_there("unshare") {
        skip("there is no unshare here");
        return false;
    }
    let tried = std::process::Command::new(NAMESPACE[0])
        .args(&NAMESPACE[1..])
        .args(["sh", "-c", "test $$ = 1"])
        .stderr(std::process::Stdio::null())
        .status();
    let permitted = tried.is_ok_and(|status| status.success());
    if !permitted {
        unavailable("this system gives us no pid namespace");
    }
    permitted
}

/// The master's number out here: it is the child of what made its namespace.
#[track_caller]
pub(crate) fn master_in(unshare: &Master) -> i32 {
    until("the namespace's pid 1", || {
        children(unshare.pid()).first().copied()
    })
}
