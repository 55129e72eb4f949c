//! What ends handlers, and all that they have begun.

use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;

use super::support::{Accept, Client, ECHO};
use crate::common::service::{process, until};

/// A handler with a child in its group, whose pids it says.
const FAMILY: &[&str] = &["sh", "-c", "sleep 1000 & echo $$; echo $!; wait"];

/// The same, and none of the two obeys.
const STUBBORN: &[&str] = &[
    "sh",
    "-c",
    "trap '' TERM INT; sleep 1000 & echo $$; echo $!; wait",
];

fn family(client: &mut Client) -> [i32; 2] {
    [client.pid(), client.pid()]
}

fn gone(family: [i32; 2]) {
    for pid in family {
        assert!(!process::alive(pid), "{pid} {} is left", process::name(pid));
    }
}

#[test]
fn int_ends_handlers_and_their_children() {
    for handler in [FAMILY, STUBBORN] {
        let mut accept = Accept::start("-c 2", handler);
        let (mut one, mut other) = (accept.dial(), accept.dial());
        let families = [family(&mut one), family(&mut other)];
        accept.signal(Signal::SIGINT);
        assert_eq!(accept.end(), Some(0));
        families.into_iter().for_each(gone);
        assert_eq!((one.hear(), other.hear()), (None, None));
    }
}

#[test]
fn a_second_signal_ends_handlers_and_a_third_kills() {
    let mut accept = Accept::start("", FAMILY);
    let mut client = accept.dial();
    let pids = family(&mut client);
    accept.signal(Signal::SIGTERM);
    accept.wait_for_log("TERM: accepting no more");
    accept.signal(Signal::SIGQUIT);
    assert_eq!(accept.end(), Some(0));
    gone(pids);

    let mut accept = Accept::start("", STUBBORN);
    let mut client = accept.dial();
    let pids = family(&mut client);
    for word in [Signal::SIGQUIT, Signal::SIGINT, Signal::SIGTERM] {
        accept.signal(word);
        // Each signal is sent alone: signals that are pending together are delivered in the order
        // of their numbers.
        accept.wait_for_log("accepting no more");
    }
    assert_eq!(accept.end(), Some(0));
    gone(pids);
}

#[test]
fn the_same_signal_within_a_second_counts_once() {
    until("both within a second", || {
        let mut accept = Accept::start("", ECHO);
        let mut client = accept.dial();
        client.pid();
        let begun = clock::now();
        accept.signal(Signal::SIGTERM);
        accept.wait_for_log("TERM: accepting no more");
        accept.signal(Signal::SIGTERM);
        client.say("still there");
        let heard = client.hear();
        let rest = client.rest();
        let code = accept.end();
        if clock::now().since(begun) >= Duration::from_secs(1) {
            return None;
        }
        assert_eq!(
            (heard.as_deref(), rest.as_str(), code),
            (Some("still there"), "", Some(0))
        );
        Some(())
    });
}

#[test]
fn g5_a_drain_past_its_limit_is_an_error() {
    for handler in [FAMILY, STUBBORN] {
        let mut accept = Accept::start("--drain-timeout 100ms", handler);
        let mut client = accept.dial();
        let pids = family(&mut client);
        accept.signal(Signal::SIGTERM);
        assert_eq!(accept.end(), Some(1));
        gone(pids);
        let said = "1 handler not finished at --drain-timeout: ended";
        assert!(accept.log().contains(said), "{}", accept.log());
    }
}

#[test]
fn children_of_a_handler_hold_no_token_and_are_ended() {
    let left = &[
        "sh",
        "-c",
        "sleep 1000 >/dev/null 2>&1 <&1 & echo $$; echo $!",
    ];
    let mut accept = Accept::start("--drain-timeout 1s", left);
    let mut families = Vec::new();
    for _ in 0..3 {
        // The handler's end is not the connection's: the sleep has stdin still.
        let mut client = accept.dial();
        let pids = family(&mut client);
        process::gone(pids[0]);
        assert!(process::alive(pids[1]));
        families.push(pids);
    }
    // One of them ends by itself, and is not waited for.
    process::signal(families[0][1], Signal::SIGKILL);
    process::gone(families[0][1]);
    accept.signal(Signal::SIGTERM);
    assert_eq!(accept.end(), Some(1));
    families.into_iter().for_each(gone);
    let said = "2 handlers not finished at --drain-timeout: ended";
    assert!(accept.log().contains(said), "{}", accept.log());
}

#[test]
fn a_handlers_child_in_its_own_session_survives() {
    // At once, or some time after its handler has ended, without a notice.
    for waits in ["", "sleep 0.1;"] {
        let script = format!("({waits} exec setsid sleep 1000) >&2 <&2 & echo $$; echo $!");
        let mut accept = Accept::start("", &["sh", "-c", &script]);
        let mut client = accept.dial();
        let [_, daemon] = family(&mut client);
        assert_eq!(client.rest(), "");
        crate::common::service::until("it has its session", || {
            let stat = procfs::process::Process::new(daemon).and_then(|process| process.stat());
            (stat.expect("it lives").session == daemon).then_some(())
        });
        let word = if waits.is_empty() {
            Signal::SIGINT
        } else {
            Signal::SIGTERM
        };
        accept.signal(word);
        assert_eq!(accept.end(), Some(0));
        assert!(process::alive(daemon));
        process::signal(daemon, Signal::SIGKILL);
    }
}

#[test]
fn handlers_do_not_survive_a_kill_of_ours() {
    let mut accept = Accept::start("-c 3", ECHO);
    let mut clients: Vec<_> = (0..3).map(|_| accept.dial()).collect();
    let pids: Vec<i32> = clients.iter_mut().map(Client::pid).collect();
    accept.signal(Signal::SIGKILL);
    assert_eq!(accept.end(), None);
    pids.into_iter().for_each(process::gone);
    for mut client in clients {
        assert_eq!(client.hear(), None);
    }
}
