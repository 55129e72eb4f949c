//! The tests of this room.

use proptest::prelude::*;

use super::*;

fn terms() -> Terms {
    Terms {
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

fn alone(client: Client) -> Event {
    let alone = true;
    Event::Ended { client, alone }
}

fn leaving_others(client: Client) -> Event {
    let alone = false;
    Event::Ended { client, alone }
}

const LEAVE: Action = Action::Leave { well: true };

fn serving(terms: Terms, clients: u64) -> Accepting {
    let mut accepting = Accepting::new(terms, at(0));
    for client in 0..clients {
        assert!(accepting.wants());
        assert_eq!(accepting.step(at(0), Event::Accepted(client)), []);
    }
    accepting
}

#[test]
fn w2_without_a_token_nothing_is_accepted() {
    let mut accepting = serving(terms(), 2);
    assert!(!accepting.wants());
    assert_eq!(accepting.deadline(), None, "nothing to wake up for");
    assert_eq!(accepting.step(at(1), alone(0)), []);
    assert!(accepting.wants());
    assert_eq!(accepting.step(at(1), alone(0)), [], "told twice");
    assert_eq!(accepting.running(), 1);
}

#[test]
fn w4_u33_a_graceful_end_waits_for_those_that_run() {
    let mut accepting = serving(terms(), 2);
    let closed = Action::Close(Why::Asked(Signal::Quit));
    assert_eq!(accepting.step(at(5), Event::Signal(Signal::Quit)), [closed]);
    assert!(!accepting.wants());
    assert_eq!(accepting.step(at(6), alone(1)), []);
    assert!(!accepting.wants());
    assert_eq!(accepting.step(at(7), alone(0)), [LEAVE]);
    assert_eq!(accepting.step(at(9), Event::Signal(Signal::Term)), []);

    let mut idle = serving(terms(), 0);
    let closed = Action::Close(Why::Asked(Signal::Term));
    let done = idle.step(at(5), Event::Signal(Signal::Term));
    assert_eq!(done, [closed, LEAVE]);
}

#[test]
fn g5_a_drain_that_takes_too_long_is_cut_short_and_is_an_error() {
    let mut accepting = serving(terms(), 2);
    accepting.step(at(0), Event::Signal(Signal::Term));
    assert_eq!(accepting.deadline(), Some(at(25_000)));
    let late = accepting.step(at(25_000), Event::Tick);
    assert_eq!(late, [Action::Late(2), Action::End(0), Action::End(1)]);
    assert_eq!(accepting.step(at(25_100), alone(1)), []);
    assert_eq!(accepting.deadline(), Some(at(26_000)));
    let killed = accepting.step(at(26_000), Event::Tick);
    assert_eq!(killed, [Action::Kill(0)]);
    let left = accepting.step(at(26_001), alone(0));
    assert_eq!(left, [Action::Leave { well: false }]);
}

#[test]
fn g5_a_second_word_or_int_ends_them_now_and_a_third_kills() {
    for (first, second) in [
        (Signal::Term, Signal::Quit),
        (Signal::Quit, Signal::Int),
        (Signal::Term, Signal::Term),
    ] {
        let mut accepting = serving(terms(), 1);
        accepting.step(at(0), Event::Signal(first));
        let ended = accepting.step(at(1000), Event::Signal(second));
        assert_eq!(ended, [Action::End(0)]);
        let killed = accepting.step(at(1500), Event::Signal(Signal::Hup));
        assert_eq!(killed, [Action::Kill(0)]);
        assert_eq!(accepting.step(at(1501), alone(0)), [LEAVE]);
    }
    let mut accepting = serving(terms(), 1);
    let done = accepting.step(at(0), Event::Signal(Signal::Int));
    let closed = Action::Close(Why::Asked(Signal::Int));
    assert_eq!(done, [closed, Action::End(0)]);
    assert_eq!(accepting.step(at(2), alone(0)), [LEAVE]);
}

#[test]
fn the_same_signal_within_a_second_counts_once_and_others_do_not_count() {
    let mut accepting = serving(terms(), 1);
    accepting.step(at(0), Event::Signal(Signal::Term));
    assert_eq!(accepting.step(at(999), Event::Signal(Signal::Term)), []);
    assert_eq!(accepting.step(at(1000), Event::Signal(Signal::Usr1)), []);
    let ended = accepting.step(at(2000), Event::Signal(Signal::Term));
    assert_eq!(ended, [Action::End(0)]);
    let mut serving = serving(terms(), 0);
    for signal in [Signal::Usr1, Signal::Usr2, Signal::Winch, Signal::Chld] {
        assert_eq!(serving.step(at(0), Event::Signal(signal)), []);
    }
    assert!(serving.wants());
}

#[test]
fn the_last_connection_of_max_requests_closes_and_has_its_time() {
    let limit = Terms {
        max_requests: Some(2),
        ..terms()
    };
    let mut accepting = serving(limit, 1);
    let closed = Action::Close(Why::Requests);
    assert_eq!(accepting.step(at(1), Event::Accepted(1)), [closed]);
    assert_eq!(accepting.step(at(2), alone(0)), []);
    assert!(!accepting.wants());
    assert_eq!(accepting.deadline(), None, "no limit of ours");
    accepting.step(at(50_000), Event::Signal(Signal::Term));
    assert_eq!(accepting.deadline(), Some(at(75_000)), "the drain's limit");
    assert_eq!(accepting.step(at(60_000), alone(1)), [LEAVE]);
}

#[test]
fn w8_a_client_has_its_time_and_then_its_group_is_ended() {
    let limit = Terms {
        client_timeout: Some(Duration::from_secs(10)),
        ..terms()
    };
    let mut accepting = serving(limit, 1);
    accepting.step(at(3000), Event::Accepted(1));
    let told = accepting.step(at(10_000), Event::Tick);
    assert_eq!(told, [Action::TimeOut(0)]);
    // Its process obeys, and another one of its group does not.
    assert_eq!(accepting.step(at(10_010), leaving_others(0)), []);
    assert!(accepting.wants(), "the token is back");
    let killed = accepting.step(at(11_000), Event::Tick);
    assert_eq!(killed, [Action::Kill(0)]);
    assert_eq!(accepting.step(at(11_001), Event::Gone(0)), []);
    assert_eq!(accepting.deadline(), Some(at(13_000)));
    accepting.step(at(13_000), Event::Tick);
    accepting.step(at(14_000), Event::Tick);
    let given_up = accepting.step(at(19_000), Event::Tick);
    assert_eq!(given_up, [Action::GiveUp(1)]);
    assert_eq!((accepting.running(), accepting.deadline()), (0, None));
}

#[test]
fn what_a_handler_leaves_behind_holds_up_the_end_and_no_token() {
    let mut accepting = serving(terms(), 2);
    assert_eq!(accepting.step(at(1), leaving_others(0)), []);
    assert_eq!(accepting.step(at(1), leaving_others(1)), []);
    assert!(accepting.wants());
    accepting.step(at(2), Event::Signal(Signal::Term));
    assert_eq!(accepting.step(at(3), Event::Gone(0)), []);
    let ended = accepting.step(at(4), Event::Signal(Signal::Int));
    assert_eq!(ended, [Action::End(1)]);
    assert_eq!(accepting.step(at(5), Event::Gone(1)), [LEAVE]);
}

#[test]
fn towards_the_end_it_is_looked_for_what_leaves_without_a_word() {
    let mut accepting = serving(terms(), 2);
    assert_eq!(accepting.step(at(1), leaving_others(0)), []);
    assert_eq!(accepting.deadline(), None, "while it serves, that can wait");
    accepting.step(at(2), Event::Signal(Signal::Term));
    assert_eq!(accepting.deadline(), Some(at(102)));
    assert_eq!(accepting.step(at(102), Event::Tick), [Action::Look]);
    assert_eq!(accepting.step(at(202), Event::Tick), [Action::Look]);
    accepting.step(at(203), Event::Gone(0));
    assert_eq!(accepting.step(at(302), Event::Tick), [Action::Look]);
    assert_eq!(accepting.deadline(), Some(at(25_002)), "no more of that");
}

#[test]
fn idle_time_runs_only_without_a_connection() {
    let limit = Terms {
        idle_timeout: Some(Duration::from_secs(5)),
        ..terms()
    };
    let mut accepting = serving(limit, 0);
    assert_eq!(accepting.deadline(), Some(at(5000)));
    accepting.step(at(4000), Event::Accepted(7));
    assert_eq!(accepting.deadline(), None);
    accepting.step(at(60_000), leaving_others(7));
    assert_eq!(accepting.deadline(), None, "somebody may be served still");
    accepting.step(at(61_000), Event::Gone(7));
    assert_eq!(accepting.deadline(), Some(at(66_000)));
    // Noise does not put it off.
    accepting.step(at(65_000), Event::Signal(Signal::Winch));
    let done = accepting.step(at(66_000), Event::Tick);
    assert_eq!(done, [Action::Close(Why::Idle), LEAVE]);
}

#[test]
fn shortness_pauses_longer_each_time_and_until_somebody_ends() {
    let mut accepting = serving(terms(), 1);
    for (millis, until) in [(0, 100), (100, 300), (300, 700), (700, 1500), (1500, 2500)] {
        assert!(accepting.wants());
        accepting.step(at(millis), Event::Short);
        assert!(!accepting.wants());
        assert_eq!(accepting.deadline(), Some(at(until)));
        let tried = accepting.step(at(until), Event::Tick);
        assert_eq!(tried, [Action::Resume]);
    }
    accepting.step(at(2500), Event::Short);
    let tried = accepting.step(at(2501), alone(0));
    assert_eq!(tried, [Action::Resume]);
    assert!(accepting.wants());
    accepting.step(at(2503), Event::Short);
    assert_eq!(accepting.deadline(), Some(at(2603)), "from the beginning");
    accepting.step(at(2603), Event::Tick);
    accepting.step(at(2604), Event::Plenty);
    accepting.step(at(2605), Event::Short);
    assert_eq!(accepting.deadline(), Some(at(2705)), "from the beginning");
}

#[test]
fn a_client_without_a_handler_yet_is_tried_again_also_while_it_drains() {
    let mut accepting = serving(terms(), 1);
    accepting.step(at(0), Event::Short);
    accepting.step(at(1), Event::Signal(Signal::Term));
    let tried = accepting.step(at(100), Event::Tick);
    assert_eq!(tried, [Action::Resume]);
    accepting.step(at(100), Event::Short);
    let ended = accepting.step(at(101), Event::Signal(Signal::Int));
    assert_eq!(ended, [Action::End(0)]);
    // Nobody can be told: its connection is closed, and that is the end.
    assert_eq!(accepting.step(at(101), alone(0)), [Action::Resume, LEAVE]);
}

#[test]
fn beats_come_as_asked_and_also_while_it_drains() {
    let beating = Terms {
        beat: Some(Duration::from_secs(2)),
        ..terms()
    };
    let mut accepting = serving(beating, 1);
    assert_eq!(accepting.step(at(1999), Event::Tick), []);
    assert_eq!(accepting.step(at(2000), Event::Tick), [Action::Beat]);
    // Late by ten: one beat.
    assert_eq!(accepting.step(at(22_000), Event::Tick), [Action::Beat]);
    accepting.step(at(22_001), Event::Signal(Signal::Term));
    assert_eq!(accepting.step(at(24_000), Event::Tick), [Action::Beat]);
}

#[test]
fn what_cannot_be_killed_does_not_hold_up_the_end_for_ever() {
    let mut accepting = serving(terms(), 2);
    accepting.step(at(0), Event::Signal(Signal::Int));
    let killed = accepting.step(at(1000), Event::Tick);
    assert_eq!(killed, [Action::Kill(0), Action::Kill(1)]);
    accepting.step(at(1001), alone(0));
    let left = accepting.step(at(6000), Event::Tick);
    assert_eq!(left, [Action::GiveUp(1), Action::Leave { well: false }]);
}

proptest! {
    /// Whatever comes: never more than the tokens, nobody is told to end twice, and after a word to finish it leaves in time.
    #[test]
    fn any_order_of_events_ends_well(steps in proptest::collection::vec((0u8..8, 0u64..6, 0u64..3000), 0..200)) {
        let terms = Terms {
            clients: 3,
            max_requests: Some(60),
            client_timeout: Some(Duration::from_secs(4)),
            idle_timeout: Some(Duration::from_secs(9)),
            drain_timeout: Duration::from_secs(3),
            beat: None,
        };
        let mut accepting = Accepting::new(terms, at(0));
        let (mut now, mut next) = (0, 0);
        let mut told = BTreeSet::new();
        let mut left = false;
        let mut check = |actions: Vec<Action>| {
            for action in actions {
                if let Action::End(client) | Action::TimeOut(client) = action {
                    assert!(told.insert(client));
                }
                let leaves = matches!(action, Action::Leave { .. });
                assert!(!(left && leaves));
                left |= leaves;
            }
        };
        for (what, whom, wait) in steps {
            now += wait;
            let client = next - whom.min(next);
            let event = match what {
                0..=2 if accepting.wants() => {
                    next += 1;
                    Event::Accepted(next)
                }
                3 => alone(client),
                4 => leaving_others(client),
                5 => Event::Gone(client),
                6 => Event::Short,
                7 if whom == 0 => Event::Signal(Signal::Term),
                _ => Event::Tick,
            };
            check(accepting.step(at(now), event));
            prop_assert!(accepting.running() <= 3);
        }
        check(accepting.step(at(now), Event::Signal(Signal::Term)));
        for _ in 0..20 {
            now += 1000;
            check(accepting.step(at(now), Event::Tick));
        }
        prop_assert!(left);
    }
}
