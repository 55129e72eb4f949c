//! What happens because time has passed.

use super::Supervisor;
use crate::model::event::{Action, Level, WorkerId};
use crate::model::policy::LOOK_EVERY;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::worker::{Input, Worker};

impl Supervisor {
    pub(crate) fn due(&mut self, now: Time, out: &mut Vec<Action>) {
        self.pardon_if_late(now, out);
        for timer in self.timers.take_due(now) {
            match timer {
                Timer::Start(worker) => self.feed(now, worker, Input::StartOverdue, out),
                Timer::ReadyDelayElapsed(worker) => {
                    self.feed(now, worker, Input::ReadyDelayElapsed, out)
                }
                Timer::Gone(worker) => self.feed(now, worker, Input::Overdue, out),
                Timer::Beat(worker) => self.feed(now, worker, Input::BeatOverdue, out),
                Timer::Group(worker) => self.feed(now, worker, Input::LookAtGroup, out),
                Timer::Look => {
                    let waiting = self
                        .workers
                        .values()
                        .filter(|worker| worker.hangs_on_beat() || worker.is_timed());
                    out.extend(waiting.map(|worker| Action::LookAtBeat(worker.id)));
                }
                Timer::Listeners => self.look_for_listeners(out),
                Timer::Queues => out.push(Action::LookAtQueues),
                Timer::StopDelay => self.stop_delay_over(now, out),
                Timer::QueuesLate => self.queues_late(now, out),
                Timer::Hello => self.hello_late(now, out),
                // These only bring `settle` about.
                Timer::Backoff(_) | Timer::Canary | Timer::Probation | Timer::ReleaseDeadline => {}
            }
        }
    }

    /// Heartbeat pages are looked at often while readiness hangs on one, every quarter of the shortest timeout otherwise,
    /// and never when neither is asked for.
    pub(crate) fn plan_next_look(&mut self, now: Time) {
        let starting = self
            .workers
            .values()
            .any(Worker::hangs_on_beat)
            .then_some(LOOK_EVERY);
        let timed = self
            .workers
            .values()
            .filter(|worker| worker.is_timed())
            .filter_map(|worker| worker.heartbeat.timeout);
        let quarter = timed.min().map(|timeout| timeout / 4);
        match [starting, quarter].into_iter().flatten().min() {
            Some(pace) => self.timers.advance(Timer::Look, now + pace),
            None => self.timers.clear(Timer::Look),
        }
    }

    /// The master's own loop was late (the machine slept, the process was stopped or starved): nobody is blamed for silence.
    pub(crate) fn pardon_if_late(&mut self, now: Time, out: &mut Vec<Action>) {
        let late = self
            .timers
            .next()
            .map(|due| now.since(due))
            .unwrap_or_default();
        let timed: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|worker| {
                worker.is_timed()
                    && worker
                        .heartbeat
                        .timeout
                        .is_some_and(|timeout| late > timeout / 4)
            })
            .map(|worker| worker.id)
            .collect();
        if timed.is_empty() {
            return;
        }
        let text = format!(
            "the loop was late by {}: heartbeats are timed anew",
            crate::model::event::human(late)
        );
        out.push(Action::note(Level::Warn, text));
        for id in timed {
            self.feed(now, id, Input::Pardon, out);
        }
    }
}
