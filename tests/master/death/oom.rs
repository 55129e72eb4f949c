//! A worker that the kernel kills for want of memory, as the count of its cgroup tells it (R70).
//!
//! The kernel's count cannot be raised at will, so the master has a mount namespace of its own in
//! which the file with the count is the test's.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use prefork::sys::machine::cgroup;
use serde_json::json;

use crate::common::service::process::signal;
use crate::common::service::{Ended, HANG, Scene, until};
use crate::common::support::unavailable;

/// Mounts an empty file system over the mount of the cgroups, makes the files in it, and becomes
/// what follows. The arguments: the mount, the cgroup's directory, and so on.
const FAKE: &str = r#"mount -t tmpfs none "$1" && mkdir -p "$2" &&
echo "oom_kill 7" >"$2/memory.events" && echo "oom_kill 7" >"$2/memory.oom_control" || exit 1
shift 2; exec "$@""#;

/// Whether this system lets us make a mount namespace with a mount in it.
fn permitted(top: &Path) -> bool {
    let tried = std::process::Command::new("unshare")
        .args(["-m", "mount", "-t", "tmpfs", "none"])
        .arg(top)
        .stderr(std::process::Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// The directories of the cgroup that the master will look into.
fn own_cgroup() -> Option<(PathBuf, PathBuf)> {
    let groups = cgroup::groups_of(Path::new("/"), "self", "memory")?;
    let first = groups.into_iter().next()?;
    Some((first.top, first.dir))
}

#[test]
fn r70_an_oom_kill_is_told_as_such_everywhere() {
    let Some((top, dir)) = own_cgroup().filter(|(top, _)| permitted(top)) else {
        return unavailable("this system gives us no mount namespace with cgroups in it");
    };
    let scene = Scene::new();
    scene.script("fake", FAKE);
    let fake = scene.path("fake").display().to_string();
    let (top, dir) = (top.display().to_string(), dir.display().to_string());
    let wrapper = ["unshare", "-m", "sh", &fake, &top, &dir];
    let master = scene
        .master("-n 1 --ready fd=9 --backoff 1ms..1ms --start-failures 1")
        .wrapped_in(wrapper)
        .start();
    // unshare executes: it is the master's own number.
    let count = |kills: u64| {
        for name in ["memory.events", "memory.oom_control"] {
            let path = format!("/proc/{}/root{dir}/{name}", master.pid());
            std::fs::write(path, format!("oom_kill {kills}\n")).expect("written");
        }
    };
    let last_exit = |status: &serde_json::Value| status["slots"][0]["last_exit"]["cause"].clone();
    // What was counted before the start is no worker: this is a stranger's KILL.
    signal(scene.report("up").pid, Signal::SIGKILL);
    let next = scene.report("up").pid;
    let status = master.until("it is replaced", |status| status["slots"][0]["pid"] == next);
    assert_eq!(last_exit(&status), "signaled");
    let mut events = master.control();
    events.request(&json!({"cmd": "events"}));
    assert_eq!(events.line().expect("it follows")["event"], "following");
    count(8);
    signal(next, Signal::SIGKILL);
    let exited = until("its end", || {
        events
            .line()
            .filter(|line| line["event"] == "worker-exited")
    });
    assert_eq!(
        (&exited["cause"], &exited["pid"]),
        (&json!("oom"), &json!(next))
    );
    let next = scene.report("up").pid;
    let status = master.until("it is replaced", |status| status["slots"][0]["pid"] == next);
    assert_eq!(last_exit(&status), "oom");
    assert_eq!(status["counters"]["exits"]["oom"], 1);
    let advice = "was killed for want of memory (OOM)";
    assert!(master.log().contains(advice), "{}", master.log());
    let mut why = assert_cmd::Command::new(env!("CARGO_BIN_EXE_pf-status"));
    why.args(["--why", "0"])
        .arg(scene.path("app.pid"))
        .timeout(HANG);
    let why = Ended::of(&why.output().expect("pf-status starts"));
    assert!(why.stdout.contains(advice), "{why:?}");
    // The same count explains no second death, and it goes on in the next image.
    master.ctl("upgrade").succeeded();
    let next = scene.report("up").pid;
    signal(next, Signal::SIGKILL);
    let status = master.until("it died", |status| status["slots"][0]["restarts"] == 3);
    assert_eq!(last_exit(&status), "signaled");
    // What was killed is a process that is no worker: after the next end of a worker, it does not
    // explain a stranger's KILL.
    count(9);
    for how in [Signal::SIGHUP, Signal::SIGKILL] {
        let next = scene.report("up").pid;
        master.until("it is ready", |status| {
            let slot = &status["slots"][0];
            slot["pid"] == next && slot["state"] == "ready"
        });
        signal(next, how);
    }
    let status = master.until("both died", |status| status["slots"][0]["restarts"] == 5);
    assert_eq!(last_exit(&status), "signaled");
    assert_eq!(status["counters"]["exits"]["oom"], 1);
    scene.report("up");
    // A release that needs too much: the error of its rollout says so, and what to do.
    scene.app("say greedy; rest");
    let reload = master.start_ctl("reload");
    let greedy = scene.report("greedy").pid;
    count(10);
    signal(greedy, Signal::SIGKILL);
    reload
        .end()
        .failed(1, &[advice, "raise the memory limit", "fewer workers"]);
    master.stop();
}
