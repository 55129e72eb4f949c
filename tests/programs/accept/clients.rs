//! What clients see of a stop: each accepted client is served to its end.

use nix::sys::signal::Signal;

use super::support::{Accept, ECHO};

#[test]
fn u33_w4_a_graceful_end_serves_every_client_in_full() {
    for word in [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGHUP] {
        let mut accept = Accept::start("-c 3", ECHO);
        let mut clients: Vec<_> = (0..3).map(|_| accept.dial()).collect();
        for client in &mut clients {
            client.pid();
        }
        accept.signal(word);
        accept.wait_for_log("accepting no more, 3 handlers left");
        // No other process has the listener: a client that connects now is refused.
        assert!(std::net::TcpStream::connect(accept.tcp()).is_err());
        for mut client in clients {
            client.say("still there");
            assert_eq!(client.hear().as_deref(), Some("still there"));
            assert_eq!(client.rest(), "");
        }
        assert_eq!(accept.end(), Some(0), "{word}");
    }
}

#[test]
fn w4_without_a_client_a_graceful_end_is_at_once() {
    for word in [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT] {
        let mut accept = Accept::start("", ECHO);
        accept.signal(word);
        assert_eq!(accept.end(), Some(0), "{word}");
        assert!(!accept.log().contains("error"), "{}", accept.log());
    }
}

#[test]
fn under_nohup_a_hang_up_is_nothing() {
    let start = super::support::Start::with("").wrapped_in(&["nohup"]);
    let mut accept = start.handler(ECHO);
    accept.signal(Signal::SIGHUP);
    let mut client = accept.dial();
    client.pid();
    assert!(accept.runs());
    assert_eq!(client.rest(), "");
    // And the next one.
    let mut client = accept.dial();
    client.pid();
    assert_eq!(client.rest(), "");
}
