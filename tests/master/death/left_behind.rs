//! What workers leave behind outside their process groups: ended if it holds a listener, left alone
//! otherwise; and a stop that does not say "done" while something of the service lives.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::common::running::is_root;
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Scene, process};
use crate::common::support::copies::{ForAnybody, copied};
use crate::common::support::{ports, skip};

/// Starts a helper in a session of its own, with the listener, and goes on once it is there: its
/// output ends.
const HELPER: &str = r#"
there=$(setsid sh -c 'echo "helper $PF_WORKER $PF_GENERATION $$" >"$PF_TEST_SAY"
    exec sleep 1000 >/dev/null' </dev/null 2>/dev/null 9>&- &)
"#;

/// The same, without the listener.
const HARMLESS: &str = r#"
there=$(setsid sh -c 'echo "harmless $PF_WORKER $PF_GENERATION $$" >"$PF_TEST_SAY"
    exec sleep 1000 >/dev/null' </dev/null 2>/dev/null 9>&- 3>&- &)
"#;

fn service(options: &str) -> (Scene, SceneProcesses, String, SocketAddr) {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let address: SocketAddr = format!("127.0.0.1:{}", ports(1))
        .parse()
        .expect("an address");
    let options = format!("--graceful-timeout 2s --listen {address} {options}");
    (scene, processes, options, address)
}

#[track_caller]
fn is_free(address: SocketAddr) {
    let bound = TcpListener::bind(address);
    assert!(bound.is_ok(), "{address}: {bound:?}");
}

#[test]
fn a_helper_with_the_listener_is_gone_when_a_stop_answers() {
    let (scene, processes, options, address) = service("-n 2 --ready fd=9");
    scene.app(&format!("{HELPER}\nup; rest"));
    let mut master = scene.master(&options).start();
    let helpers = scene.reports("helper", 2);
    master.ctl("stop").succeeded();
    for helper in helpers {
        assert!(!process::alive(helper.pid), "{helper:?}\n{}", master.log());
    }
    is_free(address);
    assert_eq!(master.end(), Some(0), "{}", master.log());
    processes.gone();
}

#[test]
fn a_helper_goes_with_its_worker_and_not_with_another() {
    let (scene, processes, options, _) = service("-n 1 --ready fd=9");
    scene.app(&format!("{HELPER}\nup; rest"));
    let master = scene.master(&options).start();
    let old = scene.report("helper");
    process::wait_for_sleep(old.pid);
    master.ctl("reload").succeeded();
    let new = scene.report("helper");
    process::gone(old.pid);
    master.wait_for_log(&format!(
        "process {} (sleep), which a worker of slot 0",
        old.pid
    ));
    assert!(process::alive(new.pid), "{}", master.log());
    master.stop();
    processes.gone();
}

#[test]
fn a_helper_without_a_listener_is_left_alone_and_named() {
    let (scene, _processes, options, address) = service("-n 1 --ready fd=9");
    scene.app(&format!("{HARMLESS}\nup; rest"));
    let mut master = scene.master(&options).start();
    let harmless = scene.report("harmless");
    process::wait_for_sleep(harmless.pid);
    let stop = master.ctl("stop").succeeded();
    let named = format!("process {} (sleep), which a worker of slot 0", harmless.pid);
    assert!(stop.stderr.contains(&named), "{stop:?}");
    assert_eq!(master.end(), Some(0), "{}", master.log());
    assert!(master.log().contains(&named), "{}", master.log());
    assert!(process::alive(harmless.pid));
    is_free(address);
}

#[test]
fn a_worker_that_puts_itself_into_the_background_is_named_and_its_daemon_ended() {
    let (scene, processes, options, _) = service("-n 1 --ready exec --backoff 1h..1h");
    scene.app(HELPER);
    let master = scene.master(&options).spawn();
    let daemon = scene.report("helper");
    master.wait_for_log("a worker of slot 0 has put itself into the background");
    process::gone(daemon.pid);
    master.stop();
    processes.gone();
}

#[test]
fn a_first_rollout_that_fails_leaves_no_daemon_behind() {
    let (scene, processes, options, address) = service("-n 1 --ready fd=9 --start-failures 1");
    scene.app(HELPER);
    let ended = scene.master(&options).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("into the background"), "{ended:?}");
    is_free(address);
    processes.gone();
}

#[test]
fn u25_a_helper_with_the_listener_does_not_survive_a_kill_of_the_master() {
    let (scene, _processes, options, address) = service("-n 2 --ready fd=9");
    let stubborn = HELPER.replace("exec sleep", "trap \"\" TERM; exec sleep");
    scene.app(&format!("{stubborn}\n{HARMLESS}\nup; rest"));
    let mut master = scene.master(&options).start();
    let (helpers, harmless) = (scene.reports("helper", 2), scene.reports("harmless", 2));
    master.signal(Signal::SIGKILL);
    assert_eq!(master.end(), None, "killed");
    for helper in helpers {
        process::gone(helper.pid);
    }
    is_free(address);
    assert!(harmless.iter().all(|it| process::alive(it.pid)));
}

/// A copy of setpriv(1) with the set-user-id bit: a program that becomes root.
fn becomes_root(dir: &Path) -> bool {
    let copy = dir.join("becomes-root");
    let Some(program) = ["/usr/bin/setpriv", "/bin/setpriv"]
        .into_iter()
        .find(|program| Path::new(program).exists())
    else {
        return false;
    };
    copied(program, &copy);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(&copy, mode).is_ok()
}

#[test]
fn a_stop_that_leaves_a_process_behind_fails_and_names_it() {
    if !is_root("a worker that its master may not kill") {
        return;
    }
    let (scene, _processes, options, address) = service("-n 1 --ready exec --quick-timeout 100ms");
    let open = || std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(scene.dir(), open()).expect("our own");
    if !becomes_root(scene.dir()) {
        return skip("no setpriv");
    }
    let programs = ForAnybody::copy([env!("CARGO_BIN_EXE_pf-master")]);
    let master = programs.of(env!("CARGO_BIN_EXE_pf-master"));
    let wrapper = [
        "setpriv".as_ref(),
        "--reuid=65534".as_ref(),
        "--regid=65534".as_ref(),
        "--clear-groups".as_ref(),
        "env".as_ref(),
        "sh".as_ref(),
        "-c".as_ref(),
        r#"program="$0"; shift; exec "$program" "$@""#.as_ref(),
        master.as_os_str(),
    ];
    let worker = [
        scene.path("becomes-root").into_os_string(),
        "--reuid=0".into(),
        "sleep".into(),
        "1000".into(),
    ];
    let launch = scene.master(&options).wrapped_in(wrapper).command(worker);
    let mut master = launch.start();
    let worker = master.workers()[0];
    process::wait_for_sleep(worker);
    let named = format!("process {worker} (sleep) lives on and may hold tcp:{address}");
    master.ctl("stop --now").failed(1, &[&named]);
    assert_eq!(master.end(), Some(0), "{}", master.log());
    assert!(process::alive(worker));
    process::signal(worker, Signal::SIGKILL);
}
