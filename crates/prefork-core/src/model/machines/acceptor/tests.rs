//! Tests of the acceptor.

use proptest::prelude::*;

use super::*;

fn limits() -> AcceptLimits {
    AcceptLimits {
        clients: 2,
        max_requests: None,
        client_timeout: None,
        idle_timeout: None,
        drain_timeout: Duration::from_secs(25),
        beat: None,
    }
}

fn at(millis: u64) -> Time {
    Time(millis * 1_000_000)
}

fn ended(client: ClientId) -> Event {
    Event::HandlerEnded {
        client,
        group_empty: true,
    }
}

fn ended_leaving_others(client: ClientId) -> Event {
    Event::HandlerEnded {
        client,
        group_empty: false,
    }
}

const EXIT: Action = Action::Exit { clean: true };

fn serving(limits: AcceptLimits, clients: u64) -> Acceptor {
    let mut acceptor = Acceptor::new(limits, at(0));
    for client in 0..clients {
        assert!(acceptor.wants_connection());
        assert_eq!(acceptor.step(at(0), Event::Accepted(client)), []);
    }
    acceptor
}

#[test]
fn w2_no_connection_is_accepted_without_a_token() {
    let mut acceptor = serving(limits(), 2);
    assert!(!acceptor.wants_connection());
    assert_eq!(acceptor.deadline(), None, "nothing to wake up for");
    assert_eq!(acceptor.step(at(1), ended(0)), []);
    assert!(acceptor.wants_connection());
    assert_eq!(acceptor.step(at(1), ended(0)), [], "reported twice");
    assert_eq!(acceptor.running(), 1);
}

#[test]
fn w4_u33_graceful_end_waits_for_running_handlers() {
    let mut acceptor = serving(limits(), 2);
    let closed = Action::Close(CloseReason::Signal(Signal::Quit));
    assert_eq!(acceptor.step(at(5), Event::Signal(Signal::Quit)), [closed]);
    assert!(!acceptor.wants_connection());
    assert_eq!(acceptor.step(at(6), ended(1)), []);
    assert!(!acceptor.wants_connection());
    assert_eq!(acceptor.step(at(7), ended(0)), [EXIT]);
    assert_eq!(acceptor.step(at(9), Event::Signal(Signal::Term)), []);

    let mut idle = serving(limits(), 0);
    let closed = Action::Close(CloseReason::Signal(Signal::Term));
    let done = idle.step(at(5), Event::Signal(Signal::Term));
    assert_eq!(done, [closed, EXIT]);
}

#[test]
fn g5_drain_timeout_ends_handlers_and_fails() {
    let mut acceptor = serving(limits(), 2);
    acceptor.step(at(0), Event::Signal(Signal::Term));
    assert_eq!(acceptor.deadline(), Some(at(25_000)));
    let late = acceptor.step(at(25_000), Event::Tick);
    assert_eq!(
        late,
        [
            Action::DrainTimedOut(2),
            Action::Terminate(0),
            Action::Terminate(1)
        ]
    );
    assert_eq!(acceptor.step(at(25_100), ended(1)), []);
    assert_eq!(acceptor.deadline(), Some(at(26_000)));
    let killed = acceptor.step(at(26_000), Event::Tick);
    assert_eq!(killed, [Action::Kill(0)]);
    let left = acceptor.step(at(26_001), ended(0));
    assert_eq!(left, [Action::Exit { clean: false }]);
}

#[test]
fn g5_second_signal_or_int_terminates_and_third_kills() {
    for (first, second) in [
        (Signal::Term, Signal::Quit),
        (Signal::Quit, Signal::Int),
        (Signal::Term, Signal::Term),
    ] {
        let mut acceptor = serving(limits(), 1);
        acceptor.step(at(0), Event::Signal(first));
        let terminated = acceptor.step(at(1000), Event::Signal(second));
        assert_eq!(terminated, [Action::Terminate(0)]);
        let killed = acceptor.step(at(1500), Event::Signal(Signal::Hup));
        assert_eq!(killed, [Action::Kill(0)]);
        assert_eq!(acceptor.step(at(1501), ended(0)), [EXIT]);
    }
    let mut acceptor = serving(limits(), 1);
    let done = acceptor.step(at(0), Event::Signal(Signal::Int));
    let closed = Action::Close(CloseReason::Signal(Signal::Int));
    assert_eq!(done, [closed, Action::Terminate(0)]);
    assert_eq!(acceptor.step(at(2), ended(0)), [EXIT]);
}

#[test]
fn same_signal_within_a_second_counts_once() {
    let mut acceptor = serving(limits(), 1);
    acceptor.step(at(0), Event::Signal(Signal::Term));
    assert_eq!(acceptor.step(at(999), Event::Signal(Signal::Term)), []);
    assert_eq!(acceptor.step(at(1000), Event::Signal(Signal::Usr1)), []);
    let terminated = acceptor.step(at(2000), Event::Signal(Signal::Term));
    assert_eq!(terminated, [Action::Terminate(0)]);
    let mut serving = serving(limits(), 0);
    for signal in [Signal::Usr1, Signal::Usr2, Signal::Winch, Signal::Chld] {
        assert_eq!(serving.step(at(0), Event::Signal(signal)), []);
    }
    assert!(serving.wants_connection());
}

#[test]
fn max_requests_closes_listeners_and_last_client_finishes() {
    let limit = AcceptLimits {
        max_requests: Some(2),
        ..limits()
    };
    let mut acceptor = serving(limit, 1);
    let closed = Action::Close(CloseReason::MaxRequests);
    assert_eq!(acceptor.step(at(1), Event::Accepted(1)), [closed]);
    assert_eq!(acceptor.step(at(2), ended(0)), []);
    assert!(!acceptor.wants_connection());
    assert_eq!(acceptor.deadline(), None, "no deadline");
    acceptor.step(at(50_000), Event::Signal(Signal::Term));
    assert_eq!(acceptor.deadline(), Some(at(75_000)), "the drain's limit");
    assert_eq!(acceptor.step(at(60_000), ended(1)), [EXIT]);
}

#[test]
fn w8_client_timeout_sends_term_then_kill_to_the_group() {
    let limit = AcceptLimits {
        client_timeout: Some(Duration::from_secs(10)),
        ..limits()
    };
    let mut acceptor = serving(limit, 1);
    acceptor.step(at(3000), Event::Accepted(1));
    let timed_out = acceptor.step(at(10_000), Event::Tick);
    assert_eq!(timed_out, [Action::TimeOut(0)]);
    // The handler obeys TERM; another process of its group does not.
    assert_eq!(acceptor.step(at(10_010), ended_leaving_others(0)), []);
    assert!(acceptor.wants_connection(), "the token is back");
    let killed = acceptor.step(at(11_000), Event::Tick);
    assert_eq!(killed, [Action::Kill(0)]);
    assert_eq!(acceptor.step(at(11_001), Event::GroupEmptied(0)), []);
    assert_eq!(acceptor.deadline(), Some(at(13_000)));
    acceptor.step(at(13_000), Event::Tick);
    acceptor.step(at(14_000), Event::Tick);
    let given_up = acceptor.step(at(19_000), Event::Tick);
    assert_eq!(given_up, [Action::GiveUp(1)]);
    assert_eq!((acceptor.running(), acceptor.deadline()), (0, None));
}

#[test]
fn leftover_group_delays_the_end_but_holds_no_token() {
    let mut acceptor = serving(limits(), 2);
    assert_eq!(acceptor.step(at(1), ended_leaving_others(0)), []);
    assert_eq!(acceptor.step(at(1), ended_leaving_others(1)), []);
    assert!(acceptor.wants_connection());
    acceptor.step(at(2), Event::Signal(Signal::Term));
    assert_eq!(acceptor.step(at(3), Event::GroupEmptied(0)), []);
    let terminated = acceptor.step(at(4), Event::Signal(Signal::Int));
    assert_eq!(terminated, [Action::Terminate(1)]);
    assert_eq!(acceptor.step(at(5), Event::GroupEmptied(1)), [EXIT]);
}

#[test]
fn draining_looks_for_groups_that_became_empty() {
    let mut acceptor = serving(limits(), 2);
    assert_eq!(acceptor.step(at(1), ended_leaving_others(0)), []);
    assert_eq!(acceptor.deadline(), None, "while serving, that can wait");
    acceptor.step(at(2), Event::Signal(Signal::Term));
    assert_eq!(acceptor.deadline(), Some(at(102)));
    assert_eq!(
        acceptor.step(at(102), Event::Tick),
        [Action::LookForEmptyGroups]
    );
    assert_eq!(
        acceptor.step(at(202), Event::Tick),
        [Action::LookForEmptyGroups]
    );
    acceptor.step(at(203), Event::GroupEmptied(0));
    assert_eq!(
        acceptor.step(at(302), Event::Tick),
        [Action::LookForEmptyGroups]
    );
    assert_eq!(acceptor.deadline(), Some(at(25_002)), "no further look");
}

#[test]
fn idle_timeout_runs_only_without_a_connection() {
    let limit = AcceptLimits {
        idle_timeout: Some(Duration::from_secs(5)),
        ..limits()
    };
    let mut acceptor = serving(limit, 0);
    assert_eq!(acceptor.deadline(), Some(at(5000)));
    acceptor.step(at(4000), Event::Accepted(7));
    assert_eq!(acceptor.deadline(), None);
    acceptor.step(at(60_000), ended_leaving_others(7));
    assert_eq!(
        acceptor.deadline(),
        None,
        "a process that is left may still serve"
    );
    acceptor.step(at(61_000), Event::GroupEmptied(7));
    assert_eq!(acceptor.deadline(), Some(at(66_000)));
    // A signal that means nothing here does not restart the timeout.
    acceptor.step(at(65_000), Event::Signal(Signal::Winch));
    let done = acceptor.step(at(66_000), Event::Tick);
    assert_eq!(done, [Action::Close(CloseReason::IdleTimeout), EXIT]);
}

#[test]
fn shortage_doubles_the_pause_until_a_handler_ends() {
    let mut acceptor = serving(limits(), 1);
    for (millis, until) in [(0, 100), (100, 300), (300, 700), (700, 1500), (1500, 2500)] {
        assert!(acceptor.wants_connection());
        acceptor.step(at(millis), Event::ResourcesShort);
        assert!(!acceptor.wants_connection());
        assert_eq!(acceptor.deadline(), Some(at(until)));
        let tried = acceptor.step(at(until), Event::Tick);
        assert_eq!(tried, [Action::Resume]);
    }
    acceptor.step(at(2500), Event::ResourcesShort);
    let tried = acceptor.step(at(2501), ended(0));
    assert_eq!(tried, [Action::Resume]);
    assert!(acceptor.wants_connection());
    acceptor.step(at(2503), Event::ResourcesShort);
    assert_eq!(acceptor.deadline(), Some(at(2603)), "from the beginning");
    acceptor.step(at(2603), Event::Tick);
    acceptor.step(at(2604), Event::HandlerStarted);
    acceptor.step(at(2605), Event::ResourcesShort);
    assert_eq!(acceptor.deadline(), Some(at(2705)), "from the beginning");
}

#[test]
fn waiting_client_is_tried_again_while_draining() {
    let mut acceptor = serving(limits(), 1);
    acceptor.step(at(0), Event::ResourcesShort);
    acceptor.step(at(1), Event::Signal(Signal::Term));
    let tried = acceptor.step(at(100), Event::Tick);
    assert_eq!(tried, [Action::Resume]);
    acceptor.step(at(100), Event::ResourcesShort);
    let terminated = acceptor.step(at(101), Event::Signal(Signal::Int));
    assert_eq!(terminated, [Action::Terminate(0)]);
    // No process can get the signal: the connection is closed, and that is the end.
    assert_eq!(acceptor.step(at(101), ended(0)), [Action::Resume, EXIT]);
}

#[test]
fn beats_continue_while_draining() {
    let beating = AcceptLimits {
        beat: Some(Duration::from_secs(2)),
        ..limits()
    };
    let mut acceptor = serving(beating, 1);
    assert_eq!(acceptor.step(at(1999), Event::Tick), []);
    assert_eq!(acceptor.step(at(2000), Event::Tick), [Action::Beat]);
    // Ten beats late: only one is sent.
    assert_eq!(acceptor.step(at(22_000), Event::Tick), [Action::Beat]);
    acceptor.step(at(22_001), Event::Signal(Signal::Term));
    assert_eq!(acceptor.step(at(24_000), Event::Tick), [Action::Beat]);
}

#[test]
fn unkillable_handler_is_given_up() {
    let mut acceptor = serving(limits(), 2);
    acceptor.step(at(0), Event::Signal(Signal::Int));
    let killed = acceptor.step(at(1000), Event::Tick);
    assert_eq!(killed, [Action::Kill(0), Action::Kill(1)]);
    acceptor.step(at(1001), ended(0));
    let left = acceptor.step(at(6000), Event::Tick);
    assert_eq!(left, [Action::GiveUp(1), Action::Exit { clean: false }]);
}

proptest! {
    /// In any order of events there are never more handlers than tokens, no handler gets TERM
    /// twice, and after TERM the acceptor exits in time.
    #[test]
    fn any_order_of_events_ends_in_time(
        steps in proptest::collection::vec((0u8..8, 0u64..6, 0u64..3000), 0..200),
    ) {
        let limits = AcceptLimits {
            clients: 3,
            max_requests: Some(60),
            client_timeout: Some(Duration::from_secs(4)),
            idle_timeout: Some(Duration::from_secs(9)),
            drain_timeout: Duration::from_secs(3),
            beat: None,
        };
        let mut acceptor = Acceptor::new(limits, at(0));
        let (mut now, mut next) = (0, 0);
        let mut terminated = BTreeSet::new();
        let mut exited = false;
        let mut check = |actions: Vec<Action>| {
            for action in actions {
                if let Action::Terminate(client) | Action::TimeOut(client) = action {
                    assert!(terminated.insert(client));
                }
                let exits = matches!(action, Action::Exit { .. });
                assert!(!(exited && exits));
                exited |= exits;
            }
        };
        for (what, back, wait) in steps {
            now += wait;
            let client = next - back.min(next);
            let event = match what {
                0..=2 if acceptor.wants_connection() => {
                    next += 1;
                    Event::Accepted(next)
                }
                3 => ended(client),
                4 => ended_leaving_others(client),
                5 => Event::GroupEmptied(client),
                6 => Event::ResourcesShort,
                7 if back == 0 => Event::Signal(Signal::Term),
                _ => Event::Tick,
            };
            check(acceptor.step(at(now), event));
            prop_assert!(acceptor.running() <= 3);
        }
        check(acceptor.step(at(now), Event::Signal(Signal::Term)));
        for _ in 0..20 {
            now += 1000;
            check(acceptor.step(at(now), Event::Tick));
        }
        prop_assert!(exited);
    }
}
