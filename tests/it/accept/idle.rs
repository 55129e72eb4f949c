//! Who waits takes no time: no wake-up but for beats that are due.

use std::time::Duration;

use prefork::sys::clock;

use super::support::{Accept, ECHO, Start};
use crate::service::process;

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
    crate::service::until("it waits", || {
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

#[test]
fn u23_beats_come_at_half_the_time_and_no_sooner() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    manager
        .set_read_timeout(Some(crate::service::HANG))
        .expect("set");
    // They may wait in the socket for somebody who is late: from before the first, no pause makes the time shorter.
    let start = clock::now();
    let accept = Start::with("")
        .env("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))
        .env("WATCHDOG_USEC", "400000")
        .handler(ECHO);
    let heard = || {
        let mut text = [0; 256];
        let count = manager.recv(&mut text).expect("in time");
        String::from_utf8_lossy(&text[..count]).into_owned()
    };
    assert_eq!(heard(), "WATCHDOG=1");
    assert_eq!(heard(), "READY=1\nSTATUS=accepting");
    for _ in 0..5 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    let took = clock::now().since(start);
    assert!(took >= Duration::from_secs(1), "{took:?}");
    accept.signal(nix::sys::signal::Signal::SIGTERM);
    let mut told = heard();
    while told == "WATCHDOG=1" {
        told = heard();
    }
    assert_eq!(told, "STOPPING=1\nSTATUS=finishing, 0 handlers left");
}

#[test]
fn u23_who_did_not_ask_for_beats_hears_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    manager
        .set_read_timeout(Some(crate::service::HANG))
        .expect("set");
    let _accept = Start::with("")
        .env("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))
        .handler(ECHO);
    let mut text = [0; 256];
    let count = manager.recv(&mut text).expect("in time");
    // A beat would have been said before it.
    assert_eq!(&text[..count], b"READY=1\nSTATUS=accepting");
}
