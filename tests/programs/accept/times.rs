//! Limits: of time and of number.

use std::time::Duration;

use prefork::sys::machine::clock;

use super::support::{Accept, Client, ECHO};
use crate::common::service::{process, until};

/// A client whose handler has reported its pid within its time: on a busy machine that may be a
/// later one.
#[track_caller]
fn greeted(accept: &Accept) -> (Client, i32) {
    until("a handler greets", || {
        let mut client = accept.dial();
        let pid = client.hear()?.parse().expect("a pid");
        Some((client, pid))
    })
}

#[test]
fn w8_a_client_ends_at_its_time_limit() {
    let slow = &["sh", "-c", "sleep 1000 & printf '%s\\n' $$ $!; cat"];
    let accept = Accept::start("--client-timeout 150ms", slow);
    for _ in 0..3 {
        // A client that sends nothing; its token comes back each time.
        let start = clock::now();
        let (mut client, pid) = greeted(&accept);
        let pids = [pid, client.pid()];
        assert_eq!(client.hear(), None);
        assert!(clock::now().since(start) >= Duration::from_millis(150));
        pids.into_iter().for_each(process::gone);
    }
    accept.wait_for_sleep();
    accept.wait_for_log("ended at --client-timeout");
}

#[test]
fn w8_a_handler_past_its_time_is_killed() {
    let stubborn = &[
        "sh",
        "-c",
        "trap '' TERM; echo $$; while :; do sleep 1000; done",
    ];
    let accept = Accept::start("--client-timeout 50ms", stubborn);
    let (mut client, pid) = greeted(&accept);
    assert_eq!(client.hear(), None);
    process::gone(pid);
    assert_ne!(greeted(&accept).1, pid);
}

#[test]
fn quick_clients_are_unaffected_by_the_time_limit() {
    let accept = Accept::start("--client-timeout 1h -c 2", ECHO);
    let mut client = accept.dial();
    client.pid();
    client.say("quick");
    assert_eq!(client.hear().as_deref(), Some("quick"));
    assert_eq!(client.rest(), "");
    accept.wait_for_sleep();
    assert!(!accept.log().contains("--client-timeout"));
}

#[test]
fn max_requests_serves_the_last_request() {
    let mut accept = Accept::start("-c 2 --max-requests 3", ECHO);
    let (mut one, mut two) = (accept.dial(), accept.dial());
    one.pid();
    two.pid();
    assert_eq!(one.rest(), "");
    let mut three = accept.dial();
    three.pid();
    accept.wait_for_log("--max-requests: accepting no more");
    assert!(std::net::TcpStream::connect(accept.tcp()).is_err());
    for mut client in [two, three] {
        client.say("to the end");
        assert_eq!(client.hear().as_deref(), Some("to the end"));
        assert_eq!(client.rest(), "");
    }
    assert_eq!(accept.end(), Some(0));
}

#[test]
fn idle_timeout_counts_only_time_without_clients() {
    let start = clock::now();
    let mut accept = Accept::start("--idle-timeout 4s", ECHO);
    let mut client = accept.dial();
    client.pid();
    // Longer than that time, with a client that does nothing: what ends here would have to be seen.
    assert!(client.is_silent_for(Duration::from_secs(6)));
    assert!(accept.runs());
    assert_eq!(client.rest(), "");
    assert_eq!(accept.end(), Some(0));
    assert!(clock::now().since(start) >= Duration::from_secs(10));
    assert!(accept.log().contains("--idle-timeout: accepting no more"));
}
