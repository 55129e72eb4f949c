use std::time::Duration;

use super::kept::{EventMessage, KnownEvents};
use super::*;
use crate::model::exit::Cause;
use crate::model::fact::WorkerExit;
use crate::model::fact::reasons::StopReason;
use crate::model::ids::WorkerId;
use crate::model::machines::event_log::EventLog;
use crate::model::policy::StopSeverity;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::wire::peer::LONGEST;

const AT: &str = "2026-01-31T12:00:00.000Z";

fn worker(pid: Option<i32>) -> WorkerLabel {
    WorkerLabel {
        slot: 1,
        pid,
        generation: Generation(2),
    }
}

fn exited(cause: Cause, ended: Option<ExitStatus>, pid: Option<i32>) -> Fact {
    Fact::WorkerExited(WorkerExit {
        worker: worker(pid),
        exit: LastExit {
            worker: WorkerId(3),
            cause,
            ended,
            at: Time(1),
        },
        failure: None,
        patience: Duration::ZERO,
        asked: false,
        finished: false,
        ready_for: None,
    })
}

fn op() -> OpId {
    "3-z".parse().expect("an operation")
}

#[test]
fn facts_are_events_as_documented() {
    let kind = OperationKind::Reload;
    let (from, to) = (Some(Generation(1)), Generation(2));
    let why = || "no\nluck".to_owned();
    let took = Duration::ZERO;
    let signaled = |signal| Some(ExitStatus::Signaled(signal, true));
    let cases = [
        (
            Fact::WorkerStarted(worker(Some(7))),
            r#""event":"worker-started","slot":1,"pid":7,"generation":2"#,
        ),
        (
            Fact::WorkerReady(worker(Some(7)), took),
            r#""event":"worker-ready","slot":1,"pid":7,"generation":2"#,
        ),
        (
            Fact::WorkerRetiring(worker(Some(7)), StopReason::Stop),
            r#""event":"worker-retiring","slot":1,"pid":7,"generation":2"#,
        ),
        (
            exited(Cause::Exited, Some(ExitStatus::Exited(3)), Some(7)),
            r#""event":"worker-exited","slot":1,"pid":7,"generation":2,"cause":"exited","code":3,"signal":null,"output":null"#,
        ),
        (
            exited(Cause::Signaled, signaled(Some(Signal::Segv)), Some(7)),
            r#""event":"worker-exited","slot":1,"pid":7,"generation":2,"cause":"signaled","code":null,"signal":"SEGV","output":null"#,
        ),
        (
            exited(Cause::SpawnFailed, None, None),
            r#""event":"worker-exited","slot":1,"pid":null,"generation":2,"cause":"spawn-failed","code":null,"signal":null,"output":null"#,
        ),
        (
            Fact::RolloutBegan {
                op: op(),
                kind,
                from,
                to,
                slots: 2,
            },
            r#""event":"rollout-started","op":"3-z","kind":"reload","from":1,"to":2,"error":null"#,
        ),
        (
            Fact::ForkBegan {
                op: op(),
                from: Generation(1),
                to,
                manual: false,
            },
            r#""event":"rollout-started","op":"3-z","kind":"upgrade","from":1,"to":2,"error":null"#,
        ),
        (
            Fact::RolloutDone {
                op: op(),
                kind,
                from,
                to,
                slots: 2,
                took,
            },
            r#""event":"rollout-done","op":"3-z","kind":"reload","from":1,"to":2,"error":null"#,
        ),
        (
            Fact::RolledBack {
                op: op(),
                kind,
                from,
                to,
                why: why(),
            },
            r#""event":"rollout-failed","op":"3-z","kind":"reload","from":1,"to":2,"error":"no\nluck""#,
        ),
        (
            Fact::RolloutGivenUp {
                op: op(),
                kind: OperationKind::Start,
                from: None,
                to,
                why: why(),
            },
            r#""event":"rollout-failed","op":"3-z","kind":"start","from":null,"to":2,"error":"no\nluck""#,
        ),
        (
            Fact::PinFailed {
                op: op(),
                kind,
                from,
                why: why(),
            },
            r#""event":"rollout-failed","op":"3-z","kind":"reload","from":1,"to":null,"error":"no\nluck""#,
        ),
        (
            Fact::Scaled { from: 2, to: 5 },
            r#""event":"scaled","from":2,"to":5"#,
        ),
        (Fact::Paused, r#""event":"paused""#),
        (Fact::Resumed(5), r#""event":"resumed","workers":5"#),
        (
            Fact::StopBegan {
                severity: StopSeverity::Quick,
                workers: 5,
                of_service: true,
                reason: None,
            },
            r#""event":"stopping","severity":"quick""#,
        ),
        (
            Fact::StopBegan {
                severity: StopSeverity::Graceful,
                workers: 5,
                of_service: true,
                reason: Some(why()),
            },
            r#""event":"stopping","severity":"graceful","reason":"no\nluck""#,
        ),
    ];
    for (fact, fields) in cases {
        let expected = format!("{{\"at\":\"{AT}\",{fields}}}");
        assert_eq!(
            render(&fact, || AT.to_owned()).as_deref(),
            Some(expected.as_str())
        );
    }
}

#[test]
fn a_rollout_over_two_masters_is_told_once() {
    let began_beside_old_master = Fact::RolloutBegan {
        op: op(),
        kind: OperationKind::Upgrade,
        from: None,
        to: Generation(2),
        slots: 2,
    };
    let one_of_two_ends = Fact::StopBegan {
        severity: StopSeverity::Graceful,
        workers: 1,
        of_service: false,
        reason: None,
    };
    for silent in [began_beside_old_master, one_of_two_ends, Fact::Stopped] {
        assert_eq!(render(&silent, || AT.to_owned()), None, "{silent:?}");
    }
}

#[test]
fn two_masters_tell_the_end_of_a_rollout_and_the_stop_once() {
    let end =
        |event: &str, op: &str| format!("{{\"at\":\"\",\"event\":\"{event}\",\"op\":\"{op}\"}}");
    let stop = r#"{"at":"","event":"stopping","severity":"quick"}"#.to_owned();
    let before = [end("rollout-started", "1"), end("rollout-failed", "2")];
    let again = |event: &str| tells_again(event, before.iter());
    assert!(again(&end("rollout-done", "2")) && again(&end("rollout-failed", "2")));
    for other in [
        end("rollout-done", "1"),
        end("rollout-started", "2"),
        stop.clone(),
    ] {
        assert!(!again(&other), "{other}");
    }
    assert!(tells_again(&stop, [stop.clone()].iter()));
    let paused = r#"{"at":"","event":"paused"}"#.to_owned();
    assert!(!tells_again(&paused, [paused.clone()].iter()));
}

#[test]
fn lines_have_the_number_and_the_id_of_the_request() {
    let event = render(&Fact::Paused, || AT.to_owned()).expect("an event");
    let paused = format!("{{\"seq\":4,\"at\":\"{AT}\",\"event\":\"paused\"}}");
    assert_eq!(line(4, &event, None), paused);
    let id = serde_json::json!({"a": [1, "}"]});
    let read: Value = serde_json::from_str(&line(4, &event, Some(&id))).expect("JSON");
    assert_eq!((&read["id"], &read["seq"]), (&id, &4.into()));
    let read = parse(&line(9, &missed(AT, 5), None)).expect("an event");
    assert_eq!((read.seq, read.event.as_str()), (9, "missed"));
    let read = parse(&line(9, &following(AT, "z"), None)).expect("an event");
    assert_eq!(
        (read.event.as_str(), read.log.as_deref()),
        (FOLLOWING, Some("z"))
    );
    for other in [
        "",
        "7",
        r#"{"ok":true}"#,
        r#"{"event":"progress","op":"3"}"#,
    ] {
        assert_eq!(parse(other), None, "{other}");
    }
}

#[test]
fn an_event_fits_into_one_message_however_its_error_is_written() {
    for letter in ["\u{1}", "\"", "ü", "\u{10ffff}"] {
        let fact = Fact::PinFailed {
            op: op(),
            kind: OperationKind::Reload,
            from: None,
            why: letter.repeat(LONGEST),
        };
        let event = render(&fact, || AT.to_owned()).expect("an event");
        let message = EventMessage::Numbered(u64::MAX, false, event);
        let bytes = message.render();
        assert!(bytes.len() < LONGEST, "{letter:?}: {}", bytes.len());
        assert_eq!(EventMessage::parse(&bytes), Some(message));
    }
}

#[test]
fn messages_and_logs_come_back() {
    for (message, text) in [
        (
            EventMessage::Event("{}".into()),
            r#"{"say":"event","of":"{}"}"#,
        ),
        (
            EventMessage::Numbered(7, true, "{}".into()),
            r#"{"say":"numbered","of":[7,true,"{}"]}"#,
        ),
    ] {
        assert_eq!(String::from_utf8(message.render()).as_deref(), Ok(text));
        // A master that knows no events passes the message over.
        assert_eq!(crate::wire::peer::parse(text.as_bytes()), None);
        assert_eq!(EventMessage::parse(text.as_bytes()), Some(message));
    }
    assert_eq!(EventMessage::parse(br#"{"say":"alive"}"#), None);
    let mut log = EventLog::new(5);
    log.happened("{}".to_owned());
    let beside = log.clone().beside_old_master(["{\"a\":1}".to_owned()]);
    for log in [log, beside] {
        let text = serde_json::to_string(&KnownEvents::from(&log)).expect("JSON");
        let known: KnownEvents = serde_json::from_str(&text).expect("read");
        assert_eq!(EventLog::from(known), log);
    }
}
