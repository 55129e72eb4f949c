//! Who waits takes no time: no wake-up but for beats that are due.

use std::time::Duration;

use prefork::sys::machine::clock;

use super::support::{Accept, ECHO, Start};
use crate::common::notify_manager::Manager;
use crate::common::service::process;

/// How often it has been scheduled.
fn switches(pid: i32) -> u64 {
    ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
        .iter()
        .map(|field| {
            process::status(pid, field)
                .parse::<u64>()
                .expect("a number")
        })
        .sum()
}

fn in_a_while(accept: &Accept, time: Duration) -> u64 {
    // Into its wait first.
    crate::common::service::until("it waits", || {
        let stat = procfs::process::Process::new(accept.pid()).and_then(|process| process.stat());
        (stat.expect("it lives").state == 'S').then_some(())
    });
    let before = switches(accept.pid());
    clock::pause(time);
    switches(accept.pid()) - before
}

#[test]
fn nothing_wakes_it_while_nothing_happens() {
    for options in ["-c 2", "-c 2 --serialize", "-c 2 --client-timeout 1h"] {
        let accept = Accept::start(options, ECHO);
        let mut client = accept.dial();
        client.pid();
        // With one who is served, and a token free; then with none.
        assert_eq!(
            in_a_while(&accept, Duration::from_millis(300)),
            0,
            "{options}"
        );
        let mut other = accept.dial();
        other.pid();
        assert_eq!(
            in_a_while(&accept, Duration::from_millis(300)),
            0,
            "{options}"
        );
    }
}

/// A service manager, and a `pf-accept` that notifies it.
fn managed(dir: &tempfile::TempDir) -> (Manager, Start) {
    let path = dir.path().join("notify");
    let start = Start::with("").env("NOTIFY_SOCKET", path.to_str().expect("UTF-8"));
    (Manager::at(&path), start)
}

#[test]
fn u23_beats_come_at_half_the_time_and_no_sooner() {
    let dir = tempfile::tempdir().expect("a directory");
    let (manager, start) = managed(&dir);
    // The beats may wait in the socket if this test is late: measured from before the first one, no
    // pause makes the time shorter.
    let begun = clock::now();
    let accept = start.env("WATCHDOG_USEC", "400000").handler(ECHO);
    assert_eq!(manager.next_message(), ["WATCHDOG=1"]);
    assert_eq!(manager.next_message(), ["READY=1", "STATUS=accepting"]);
    for _ in 0..5 {
        assert_eq!(manager.next_message(), ["WATCHDOG=1"]);
    }
    let took = clock::now().since(begun);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    accept.signal(nix::sys::signal::Signal::SIGTERM);
    let mut told = manager.next_message();
    while told == ["WATCHDOG=1"] {
        told = manager.next_message();
    }
    assert_eq!(told, ["STOPPING=1", "STATUS=finishing, 0 handlers left"]);
}

#[test]
fn u23_without_watchdog_no_beats_are_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let (manager, start) = managed(&dir);
    let _accept = start.handler(ECHO);
    // A beat would have come before it.
    assert_eq!(manager.next_message(), ["READY=1", "STATUS=accepting"]);
}
