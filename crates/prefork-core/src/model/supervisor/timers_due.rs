//! What happens because time has passed, and when heartbeat pages are looked at next.

use crate::model::action::Action;
use crate::model::fact::Fact;
use crate::model::policy::LOOK_EVERY;
use crate::model::state::Supervisor;
use crate::model::state::workers::WorkerSet;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::turn::Turn;
use crate::model::worker::Input;

impl Supervisor {
    pub(crate) fn due(&mut self, turn: &mut Turn<'_>) {
        self.pardon_if_late(turn);
        self.wake_slots(turn.now);
        for timer in self.timers.take_due(turn.now) {
            match timer {
                Timer::Start(worker) => self.feed(turn, worker, Input::StartOverdue),
                Timer::ReadyDelayElapsed(worker) => {
                    self.feed(turn, worker, Input::ReadyDelayElapsed)
                }
                Timer::Gone(worker) => self.feed(turn, worker, Input::Overdue),
                Timer::Beat(worker) => self.feed(turn, worker, Input::BeatOverdue),
                Timer::Group(worker) => self.feed(turn, worker, Input::LookAtGroup),
                Timer::Look => {
                    let awaited = self.workers.awaited_beats().into_iter();
                    turn.out.extend(awaited.map(Action::LookAtBeat));
                }
                Timer::Listeners => self.look_for_listeners(turn),
                Timer::Queues => turn.act(Action::LookAtQueues),
                Timer::StopDelay => self.stop_delay_over(turn),
                Timer::QueuesLate => self.queues_late(turn),
                Timer::Leftovers => self.leftovers_due(turn),
                Timer::Hello => self.new_master_overdue(turn),
                Timer::Answer => self.ask_peer(turn),
                // No work of their own: waking up runs `settle`.
                Timer::Canary | Timer::Probation | Timer::ReleaseDeadline => {}
            }
        }
    }

    /// Heartbeat pages are looked at often while readiness hangs on one, every quarter of the
    /// shortest timeout otherwise, and never when neither is asked for.
    pub(crate) fn plan_next_look(&mut self, now: Time) {
        let awaits_beat = self.workers.has_any(WorkerSet::AwaitsBeat);
        let starting = awaits_beat.then_some(LOOK_EVERY);
        let quarter = self.workers.shortest_timeout().map(|timeout| timeout / 4);
        match [starting, quarter].into_iter().flatten().min() {
            Some(pace) => self.timers.advance(Timer::Look, now + pace),
            None => self.timers.clear(Timer::Look),
        }
    }

    /// The master's own loop was late (the machine slept, the process was stopped or starved): no
    /// worker is blamed for silence.
    pub(crate) fn pardon_if_late(&mut self, turn: &mut Turn<'_>) {
        let late = self
            .deadline()
            .map(|due| turn.now.since(due))
            .unwrap_or_default();
        let timed = self.workers.timed_with_quarter_below(late);
        if timed.is_empty() {
            return;
        }
        turn.tell(Fact::LoopWasLate(late));
        for id in timed {
            self.feed(turn, id, Input::Pardon);
        }
    }
}
