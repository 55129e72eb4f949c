//! Every phase of a worker with every input: which phases may follow, and which effects. The rules
//! are written by hand from the documented behaviour, not taken from the code.

use std::rc::Rc;
use std::time::Duration;

use prefork_core::model::action::{Action, SignalTarget};
use prefork_core::model::event::WorkerMessage;
use prefork_core::model::exit::{Cause, ExitStatus};
use prefork_core::model::fact::reasons::StopReason;
use prefork_core::model::ids::{Generation, WorkerId};
use prefork_core::model::policy::{Policy, Readiness, StopSeverity};
use prefork_core::model::signal::Signal;
use prefork_core::model::time::Time;
use prefork_core::model::worker::{Effect, Input, Phase, Worker};

const NOW: Time = Time(1_000_000_000);

fn phases() -> Vec<Phase> {
    let mut phases = vec![Phase::Spawning, Phase::Starting, Phase::Ready, Phase::Gone];
    for word in [
        StopSeverity::Graceful,
        StopSeverity::Quick,
        StopSeverity::Abort,
        StopSeverity::Kill,
    ] {
        phases.push(Phase::Stopping(word));
        phases.push(Phase::Leaderless(word));
    }
    phases
}

fn inputs() -> Vec<Input> {
    vec![
        Input::SpawnFailed("why".into()),
        Input::Executed,
        Input::ExecFailed("why".into()),
        Input::Said(WorkerMessage::Ready),
        Input::Said(WorkerMessage::Beat),
        Input::Said(WorkerMessage::Newline),
        Input::Said(WorkerMessage::Closed),
        Input::Said(WorkerMessage::Stopping),
        Input::Said(WorkerMessage::Trigger),
        Input::Said(WorkerMessage::Watchdog(Duration::from_secs(1))),
        Input::Said(WorkerMessage::Extend(Duration::from_secs(1))),
        Input::BeatOverdue,
        Input::Pardon,
        Input::Held(true),
        Input::Held(false),
        Input::Dumping(true),
        Input::Dumping(false),
        Input::OverLimit,
        Input::ReadyDelayElapsed,
        Input::StartOverdue,
        Input::Stop(StopSeverity::Graceful, StopReason::Stop),
        Input::Stop(StopSeverity::Quick, StopReason::Stop),
        Input::Stop(StopSeverity::Kill, StopReason::Stop),
        Input::Overdue,
        Input::Exited(ExitStatus::Exited(0), false),
        Input::Exited(ExitStatus::Exited(0), true),
        Input::Emptied,
        Input::LookAtGroup,
    ]
}

fn worker(phase: Phase, ready: Readiness) -> Worker {
    let policy = Policy {
        ready,
        ..Policy::default()
    };
    let mut worker = Worker::new(WorkerId(1), 0, Generation(1), Rc::new(policy), Time(0));
    worker.phase = phase;
    worker
}

/// Which phase may follow: a worker never comes back from stopping, nor from being gone, and a stop
/// never becomes milder.
fn may_become(from: Phase, to: Phase) -> bool {
    let rank = |phase: Phase| match phase {
        Phase::Spawning => (0, StopSeverity::Graceful),
        Phase::Starting => (1, StopSeverity::Graceful),
        Phase::Ready => (2, StopSeverity::Graceful),
        Phase::Stopping(word) => (3, word),
        Phase::Leaderless(word) => (4, word),
        Phase::Gone => (5, StopSeverity::Kill),
    };
    let ((from_rank, from_word), (to_rank, to_word)) = (rank(from), rank(to));
    to_rank >= from_rank && (from_rank < 3 || to_word >= from_word)
}

#[test]
fn every_phase_and_input_keeps_the_order_of_phases() {
    let ways = [
        Readiness::Auto,
        Readiness::Notify,
        Readiness::Heartbeat,
        Readiness::Exec,
        Readiness::Delay(Duration::from_secs(1)),
        Readiness::Fd(9),
    ];
    let mut pairs = 0;
    for ready in ways {
        for phase in phases() {
            for input in inputs() {
                for announces in [false, true] {
                    let mut worker = worker(phase, ready);
                    let mut out = Vec::new();
                    worker.handle(NOW, input.clone(), announces, &mut out);
                    pairs += 1;
                    let pair = format!(
                        "{phase:?} {input:?} {ready:?} -> {:?} {out:?}",
                        worker.phase
                    );
                    assert!(may_become(phase, worker.phase), "{pair}");
                    let gone = out.contains(&Effect::Gone);
                    assert_eq!(
                        gone,
                        worker.phase == Phase::Gone && phase != Phase::Gone,
                        "{pair}"
                    );
                    let became_ready = out.contains(&Effect::BecameReady);
                    // A worker whose first message asks for its own end was ready for a moment.
                    let aborted = worker.phase == Phase::Stopping(StopSeverity::Abort);
                    let is_ready = worker.phase == Phase::Ready;
                    assert!(
                        !became_ready || phase != Phase::Ready && (is_ready || aborted),
                        "{pair}"
                    );
                    assert!(became_ready || !is_ready || phase == Phase::Ready, "{pair}");
                    check_signals(phase, &input, &out, &pair);
                    check_end(phase, &input, &out, &pair);
                }
            }
        }
    }
    assert_eq!(pairs, ways.len() * phases().len() * inputs().len() * 2);
}

/// A signal is sent only if the stop becomes harder, or if the leader left other processes behind.
fn check_signals(phase: Phase, input: &Input, out: &[Effect], pair: &str) {
    let signals: Vec<(Signal, SignalTarget)> = out
        .iter()
        .filter_map(|effect| match effect {
            Effect::Act(Action::Signal(_, sig, to)) => Some((*sig, *to)),
            _ => None,
        })
        .collect();
    assert!(signals.len() <= 1, "{pair}");
    let told = match phase {
        Phase::Stopping(word) | Phase::Leaderless(word) => Some(word),
        _ => None,
    };
    if let Input::Stop(word, _) = input
        && phase != Phase::Gone
    {
        assert_eq!(
            signals.is_empty(),
            told.is_some_and(|told| *word <= told),
            "{pair}"
        );
    }
    for (sig, to) in signals {
        // KILL always goes to the group; without a leader every signal does.
        let leaderless = phase.is_leaderless() || matches!(input, Input::Exited(_, true));
        assert_eq!(
            to == SignalTarget::Group,
            sig == Signal::Kill || leaderless,
            "{pair}"
        );
    }
}

/// The leader's exit is reported once, and only by an input that ends the leader.
fn check_end(phase: Phase, input: &Input, out: &[Effect], pair: &str) {
    let ends = out
        .iter()
        .filter(|effect| matches!(effect, Effect::LeaderGone(_)))
        .count();
    let has_leader = match phase {
        Phase::Spawning | Phase::Starting | Phase::Ready | Phase::Stopping(_) => true,
        Phase::Leaderless(_) | Phase::Gone => false,
    };
    let may_fail_to_spawn = match phase {
        Phase::Spawning | Phase::Stopping(_) => true,
        Phase::Starting | Phase::Ready | Phase::Leaderless(_) | Phase::Gone => false,
    };
    let expected = match input {
        Input::Exited(..) => has_leader,
        Input::SpawnFailed(_) => may_fail_to_spawn,
        Input::Overdue => phase == Phase::Stopping(StopSeverity::Kill),
        _ => false,
    };
    assert_eq!(ends, usize::from(expected), "{pair}");
}

#[test]
fn cause_of_an_exit_is_correct() {
    let cases: [(Option<StopSeverity>, ExitStatus, Cause); 7] = [
        (None, ExitStatus::Exited(0), Cause::Exited),
        (
            None,
            ExitStatus::Signaled(Some(Signal::Kill), false),
            Cause::Signaled,
        ),
        (
            Some(StopSeverity::Graceful),
            ExitStatus::Exited(0),
            Cause::Stopped,
        ),
        (
            Some(StopSeverity::Graceful),
            ExitStatus::Signaled(Some(Signal::Term), false),
            Cause::Stopped,
        ),
        (
            Some(StopSeverity::Graceful),
            ExitStatus::Signaled(Some(Signal::Segv), true),
            Cause::Signaled,
        ),
        (
            Some(StopSeverity::Quick),
            ExitStatus::Signaled(Some(Signal::Int), false),
            Cause::Stopped,
        ),
        (
            Some(StopSeverity::Kill),
            ExitStatus::Signaled(Some(Signal::Kill), false),
            Cause::Stopped,
        ),
    ];
    for (told, ended, cause) in cases {
        let mut worker = worker(Phase::Ready, Readiness::Notify);
        let mut out = Vec::new();
        if let Some(word) = told {
            worker.handle(NOW, Input::Stop(word, StopReason::Stop), true, &mut out);
        }
        out.clear();
        worker.handle(NOW, Input::Exited(ended, false), true, &mut out);
        let exit = out.iter().find_map(|effect| match effect {
            Effect::LeaderGone(exit) => Some(exit.cause),
            _ => None,
        });
        assert_eq!(exit, Some(cause), "{told:?} {ended:?}");
    }
}
