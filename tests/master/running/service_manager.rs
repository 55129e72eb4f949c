//! What the master sends to a service manager, which the test plays.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::notify_manager::{Manager, now};
use crate::common::service::scene::GATED;
use crate::common::service::{Scene, process, until};

#[test]
fn r21_a_service_manager_sees_start_reload_and_end() {
    let scene = Scene::new();
    let manager = Manager::at(&scene.path("manager"));
    scene.app(GATED);
    std::fs::create_dir(scene.path("release")).expect("a directory");
    let master = scene
        .master("-n 2 --ready fd=9 --start-failures 1 --chdir release")
        .env("NOTIFY_SOCKET", scene.path("manager"))
        .spawn();
    scene.reports("up", 2);
    assert_eq!(
        manager.next_notification(),
        [format!("MAINPID={}", master.pid())]
    );
    assert_eq!(manager.unread(), [""; 0], "no worker is ready");
    scene.open_door(0);
    scene.open_door(1);
    manager.expect_ready();

    // A reload that is done.
    let since = now();
    let reload = master.start_ctl("reload");
    manager.expect_reloading(since);
    scene.report("up");
    scene.open_door(0);
    scene.report("up");
    let rest = manager.unread();
    assert!(
        rest.iter().all(|text| text.starts_with("STATUS=")),
        "not yet: {rest:?}"
    );
    scene.open_door(1);
    reload.end().succeeded();
    manager.expect_ready();

    // A reload that is rolled back.
    let since = now();
    scene.app("exit 3");
    master.ctl("reload").failed(1, &["exited with code 3"]);
    manager.expect_reloading(since);
    let words = manager.next_message();
    assert_eq!(words[0], "READY=1", "{words:?}");
    assert!(
        words[1].contains("generation 2; the last reload failed: slot 0: worker "),
        "{words:?}"
    );

    // A reload that cannot even begin.
    let since = now();
    std::fs::remove_dir(scene.path("release")).expect("ours");
    master.signal(Signal::SIGHUP);
    manager.expect_reloading(since);
    manager.expect_ready();

    // Of no concern but to people.
    let _ = manager.unread();
    scene.app(GATED);
    std::fs::create_dir(scene.path("release")).expect("a directory");
    let scale = master.start_ctl("scale 3");
    manager.next_status_line(|line| line.starts_with("2 of 3 workers ready"));
    scene.report("up");
    scene.open_door(2);
    scale.end().succeeded();
    manager.next_status_line(|line| line.starts_with("3 of 3 workers ready"));

    master.stop();
    assert_eq!(manager.next_notification(), ["STOPPING=1"]);
    let rest = manager.unread();
    assert!(
        rest.iter().all(|text| text.starts_with("STATUS=stopping")),
        "{rest:?}"
    );
}

#[test]
fn a_service_manager_sees_an_upgrade_as_a_reload() {
    let scene = Scene::new();
    let manager = Manager::at(&scene.path("manager"));
    let master = scene
        .master("-n 1 --ready fd=9")
        .wrapped_in(watched(true))
        .env("NOTIFY_SOCKET", scene.path("manager"))
        .env("WATCHDOG_USEC", "600000000")
        .start();
    let main = format!("MAINPID={}", master.pid());
    assert_eq!(manager.next_notification(), [&main, "WATCHDOG=1"]);
    manager.expect_ready();
    let since = now();
    master.ctl("upgrade").succeeded();
    manager.expect_reloading(since);
    // The new image lives, says so at once, and knows what has been said.
    assert_eq!(manager.next_notification(), ["WATCHDOG=1"]);
    manager.expect_ready();
    assert_eq!(master.status()["generation"], 2);
    // A successor that will not do.
    let since = now();
    scene.app("exit 3");
    master.ctl("upgrade").failed(1, &["exited with code 3"]);
    manager.expect_reloading(since);
    assert_eq!(manager.next_notification(), ["WATCHDOG=1"]);
    manager.expect_ready();
    master.stop();
    assert_eq!(manager.next_notification(), ["STOPPING=1"]);
}

#[test]
fn a_failed_start_is_reported_and_never_ready() {
    let scene = Scene::new();
    let manager = Manager::at(&scene.path("manager"));
    scene.app("exit 3");
    scene
        .master("-n 1 --ready fd=9 --start-failures 1")
        .env("NOTIFY_SOCKET", scene.path("manager"))
        .run()
        .failed(1, &["the first rollout failed"]);
    assert!(manager.next_notification()[0].starts_with("MAINPID="));
    let last = manager.next_message();
    assert_eq!(last[0], "STOPPING=1");
    assert!(
        last[1].ends_with("exited with code 3 before it was ready (1 failed start, the limit)"),
        "{last:?}"
    );
    assert_eq!(manager.unread(), [""; 0]);
}

#[test]
fn an_abstract_address_is_reached_and_no_worker_gets_it() {
    let scene = Scene::new();
    let name = format!("pf-test-{}", scene.dir().display());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let manager = Manager::new(UnixDatagram::bind_addr(&address).expect("bound"));
    let master = scene
        .master("-n 1 --ready fd=9")
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .env("WATCHDOG_USEC", "60000000")
        .start();
    assert_eq!(
        manager.next_notification(),
        [&format!("MAINPID={}", master.pid()), "WATCHDOG=1"]
    );
    manager.expect_ready();
    let own = process::environment(master.workers()[0]);
    assert!(own["NOTIFY_SOCKET"].starts_with("@pf-"), "{own:?}");
    assert_ne!(own["NOTIFY_SOCKET"], format!("@{name}"));
    for variable in ["WATCHDOG_USEC", "WATCHDOG_PID"] {
        assert!(!own.contains_key(variable), "{own:?}");
    }
    // An image that is executed in this one's place is to find it again.
    let own = process::environment(master.pid());
    assert_eq!(own["NOTIFY_SOCKET"], format!("@{name}"));
    master.stop();
}

/// Starts a program with WATCHDOG_PID set to its pid, or to another.
fn watched(own: bool) -> [&'static str; 4] {
    let script = if own {
        r#"WATCHDOG_PID=$$ exec "$@""#
    } else {
        r#"WATCHDOG_PID=1 exec "$@""#
    };
    ["sh", "-c", script, "sh"]
}

#[test]
fn the_watchdog_is_fed_at_half_its_interval() {
    let scene = Scene::new();
    let manager = Manager::at(&scene.path("manager"));
    let interval = Duration::from_millis(300);
    let begun = now();
    let master = scene
        .master("-n 1 --ready fd=9")
        .wrapped_in(watched(true))
        .env("NOTIFY_SOCKET", scene.path("manager"))
        .env("WATCHDOG_USEC", interval.as_micros().to_string())
        .env("WATCHDOG_PID", "")
        .start();
    let mut beats = 0;
    while beats < 5 {
        if manager
            .next_message()
            .iter()
            .any(|word| word == "WATCHDOG=1")
        {
            beats += 1;
        }
    }
    let paces = u128::from(now() - begun) * 2 / interval.as_micros();
    assert!(paces >= 4, "the time of {paces} paces");
    // A loop that hangs is not alive: nothing more comes once it has stopped.
    master.signal(Signal::SIGSTOP);
    until("it is stopped", || {
        process::status(master.pid(), "State")
            .starts_with('T')
            .then_some(())
    });
    let _ = manager.unread();
    prefork::sys::machine::clock::pause(interval);
    assert_eq!(manager.unread(), [""; 0]);
    master.signal(Signal::SIGCONT);
    while !manager.next_message().contains(&"WATCHDOG=1".to_owned()) {}
    master.stop();
}

#[test]
fn another_processs_watchdog_is_none_of_ours() {
    let scene = Scene::new();
    let manager = Manager::at(&scene.path("manager"));
    let master = scene
        .master("-n 1 --ready fd=9")
        .wrapped_in(watched(false))
        .env("NOTIFY_SOCKET", scene.path("manager"))
        .env("WATCHDOG_USEC", "1000")
        .start();
    assert_eq!(
        manager.next_notification(),
        [format!("MAINPID={}", master.pid())]
    );
    manager.expect_ready();
    master.stop();
    assert_eq!(manager.next_notification(), ["STOPPING=1"]);
}

/// A service whose manager's address has no listener.
fn unheard(address: impl AsRef<OsStr>, why: &str) {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready fd=9")
        .env("NOTIFY_SOCKET", address)
        .start();
    master.ctl("reload").succeeded();
    master.ctl("scale 2").succeeded();
    let line = master.wait_for_log("cannot tell the service manager");
    assert!(line.ends_with(why), "{line}");
    let log = scene.path("err");
    master.stop();
    let log = std::fs::read_to_string(log).expect("a log");
    let told = log.matches("cannot tell the service manager").count();
    assert_eq!(told, 1, "{log}");
}

#[test]
fn a_missing_service_manager_is_one_warning() {
    unheard("/nonexistent/manager", ": No such file or directory");
    unheard("relative/path", "");
    unheard(format!("/{}", "x".repeat(200)), "");
}

#[test]
fn an_unreachable_vsock_is_one_warning() {
    // A context that no machine has.
    unheard("vsock:4000000000:1", "");
}

#[test]
fn a_service_manager_that_does_not_read_is_notified_later() {
    let scene = Scene::new();
    let manager = Manager::at(&scene.path("manager"));
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("set");
    while filler.send_to(b"X_FILLER=1", scene.path("manager")).is_ok() {}
    let master = scene
        .master("-n 1 --ready fd=9")
        .env("NOTIFY_SOCKET", scene.path("manager"))
        .start();
    let since = now();
    master.ctl("reload").succeeded();
    master.wait_for_log("cannot tell the service manager");
    let mut told = Vec::new();
    while !told.contains(&"READY=1".to_owned()) {
        told.extend(manager.next_notification());
    }
    told.retain(|word| word != "X_FILLER=1");
    assert_eq!(told, [&format!("MAINPID={}", master.pid()), "READY=1"]);
    manager.expect_reloading(since);
    manager.expect_ready();
    let log = master.log();
    assert_eq!(log.matches("cannot tell the service manager").count(), 1);
    master.stop();
    assert_eq!(manager.next_notification(), ["STOPPING=1"]);
}
