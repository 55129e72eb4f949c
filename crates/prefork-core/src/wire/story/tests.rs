use super::*;
use crate::model::exit::{Cause, ExitStatus, LastExit};
use crate::model::fact::reasons::{SignalReason, StopReason};
use crate::model::fact::{Fact, WorkerExit};
use crate::model::ids::{Generation, LeftoverId, WorkerId, WorkerLabel};
use crate::model::leftover::{Holds, LeftBehind, LeftBy};
use crate::model::machines::stories::Stories;
use crate::model::operation::OperationKind;
use crate::model::signal::{Signal, SignalTarget};
use crate::model::time::Time;
use crate::wire::peer::LONGEST;
use kept::KnownStories;
use std::time::Duration;

const WORKER: WorkerLabel = WorkerLabel {
    slot: 3,
    pid: Some(7),
    generation: Generation(2),
};

fn date(from_now: Duration) -> String {
    format!("T+{}", from_now.as_secs())
}

fn line(fact: &Fact) -> Option<(u32, String)> {
    let (slot, entry) = entry(fact, date)?;
    let text = entry.render();
    assert_eq!(Entry::parse(&text), Some(entry));
    Some((slot, text.into_string()))
}

fn left_behind(slot: Option<u32>) -> LeftBehind {
    LeftBehind {
        id: LeftoverId(1),
        pid: 9,
        group: 9,
        name: "helper".to_owned(),
        slot,
        left_by: LeftBy::Unknown,
        holds: Holds::Nothing,
    }
}

fn exited(failure: Option<String>, ended: Option<ExitStatus>) -> Fact {
    Fact::WorkerExited(WorkerExit {
        worker: WORKER,
        exit: LastExit {
            worker: WorkerId(1),
            cause: Cause::Signaled,
            ended,
            at: Time(1),
        },
        failure,
        patience: Duration::ZERO,
        asked: false,
        finished: false,
        ready_for: Some(Duration::from_secs(3)),
    })
}

#[test]
fn r70_facts_are_entries_as_documented() {
    let rollout = StopReason::Rollout(OperationKind::Reload, Generation(3));
    let told = SignalReason::Told(rollout);
    let of = r#""pid":7,"generation":2"#;
    for (fact, wanted) in [
        (
            Fact::WorkerStarted(WORKER),
            format!(r#"{{"at":"T+0","event":"started",{of},"text":"worker 7 of generation 2 started"}}"#),
        ),
        (
            Fact::WorkerRetiring(WORKER, rollout),
            format!(
                r#"{{"at":"T+0","event":"retiring",{of},"reason":"reload","text":"worker 7 of generation 2 is told to finish: reload to generation 3"}}"#
            ),
        ),
        (
            Fact::SignalSent(WORKER, Signal::Term, SignalTarget::Leader, told),
            format!(
                r#"{{"at":"T+0","event":"signal",{of},"signal":"TERM","to":"worker","reason":"reload","text":"worker 7 of generation 2 gets TERM: reload to generation 3"}}"#
            ),
        ),
        (
            exited(None, Some(ExitStatus::Signaled(Some(Signal::Segv), true))),
            format!(
                r#"{{"at":"T+0","event":"exited",{of},"signal":"SEGV","cause":"signaled","core":true,"text":"worker 7 of generation 2 was killed by SEGV (core dumped) 3s after it was ready"}}"#
            ),
        ),
        (
            Fact::SlotWaits(3, Duration::from_secs(2)),
            r#"{"at":"T+0","event":"waiting","until":"T+2","text":"the next start is in 2s"}"#.to_owned(),
        ),
        (
            Fact::LeftBehind(left_behind(Some(3)), Signal::Term),
            r#"{"at":"T+0","event":"left-behind","pid":9,"signal":"TERM","text":"process 9 (helper), which a worker of slot 3 left behind, holds no listener: TERM is sent to it"}"#.to_owned(),
        ),
    ] {
        assert_eq!(line(&fact), Some((3, wanted)));
    }
    for none in [
        Fact::Paused,
        Fact::WorkerOverdue(WORKER, Duration::ZERO),
        Fact::LeftAlone(left_behind(None)),
    ] {
        assert_eq!(line(&none), None);
    }
}

#[test]
fn an_entry_has_a_limit_and_fits_into_a_message() {
    let why = "ü\u{1}".repeat(LONGEST);
    let fact = Fact::HeartbeatMissed(WORKER, why, Signal::Abrt);
    let (slot, text) = line(&fact).expect("an entry");
    let message = crate::wire::events::kept::EventMessage::Story(slot, text.into());
    assert!(message.render().len() < LONGEST);
}

#[test]
fn stories_come_back_from_the_next_image() {
    let mut stories = Stories::default();
    for number in 0..50 {
        stories.add(number % 3, format!("{{\"text\":\"{number}\"}}").into());
    }
    let written = serde_json::to_string(&KnownStories::from(&stories)).expect("written");
    let read: KnownStories = serde_json::from_str(&written).expect("read");
    assert_eq!(Stories::from(read), stories);
    assert!(KnownStories::from(&Stories::default()).is_empty());
}
