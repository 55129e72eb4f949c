//! Tokens: how many handlers at once, and that everybody's turn comes.

use std::collections::VecDeque;

use super::support::{Accept, Client, ECHO};
use crate::common::service::process;

#[test]
fn w2_four_tokens_serve_a_hundred_clients_four_at_once() {
    let accept = Accept::start("-c 4", ECHO);
    let mut clients: VecDeque<Client> = (0..100).map(|_| accept.dial()).collect();
    let mut served = VecDeque::new();
    for round in 0..100 {
        if served.len() == 4 {
            // They are served in the order in which they connected, and one more only when one of
            // them has left.
            let begun = process::descendants(accept.pid());
            assert_eq!(begun.len(), 4, "round {round}: {begun:?}");
            let (first, pid): (Client, i32) = served.pop_front().expect("four");
            assert_eq!(first.rest(), "");
            process::gone(pid);
        }
        let mut next = clients.pop_front().expect("a hundred");
        let pid = next.pid();
        served.push_back((next, pid));
    }
    assert!(clients.is_empty());
    drop(served);
    accept.wait_for_sleep();
}

#[test]
fn w2_one_token_is_the_default_and_always_returns() {
    let accept = Accept::start("", ECHO);
    let (mut first, mut second) = (accept.dial(), accept.dial());
    let pid = first.pid();
    assert_eq!(accept.begun(), [pid]);
    assert_eq!(first.rest(), "");
    assert_ne!(second.pid(), pid);
    // The token is back after every kind of end.
    drop(second);
    for how in [
        "exit 0",
        "exit 7",
        "kill -9 $$",
        "kill -SEGV $$",
        "exec /no/such/program",
    ] {
        let accept = Accept::start("", &["sh", "-c", how]);
        for _ in 0..3 {
            assert_eq!(accept.dial().rest(), "");
        }
        accept.wait_for_sleep();
    }
}

#[test]
fn w3_w1_every_listener_is_accepted_on_and_they_share_the_tokens() {
    let accept = Accept::start("-c 2", ECHO);
    let (mut tcp, mut unix) = (accept.dial(), accept.dial_unix());
    let (first, second) = (tcp.pid(), unix.pid());
    assert_ne!(first, second);
    let mut third = accept.dial_unix();
    drop(tcp);
    let third = third.pid();
    let mut begun = accept.begun();
    begun.sort_unstable();
    let mut wanted = [second, third];
    wanted.sort_unstable();
    assert_eq!(begun, wanted);
}
