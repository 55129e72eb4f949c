//! The number of slots: scaling, pausing, resuming.

use serde::{Deserialize, Serialize};

use super::{Mode, Supervisor};
use crate::model::event::{Action, Level, OpId, Outcome, Refusal, Scale, Ticket, WorkerId};
use crate::model::policy::{MAX_SLOTS, StopSeverity};
use crate::model::state::slots::Slot;
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::worker::Worker;

/// What a failed change goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Before {
    /// So many slots.
    Slots(usize),
    /// Paused, with so many.
    Paused(usize),
}

/// A change of the number of slots under way: `scale`, TTIN, TTOU, `resume`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Scaling {
    pub(crate) ops: Vec<OpId>,
    want: usize,
    before: Before,
    failures: u32,
}

impl Supervisor {
    /// `scale`, TTIN and TTOU. While paused they count from 0 and end the pause.
    pub(crate) fn scale(
        &mut self,
        now: Time,
        scale: Scale,
        ticket: Option<Ticket>,
        out: &mut Vec<Action>,
    ) {
        let paused = matches!(self.mode, Mode::Paused(_));
        let base = if paused { 0 } else { self.slots.len() };
        let want = match scale {
            Scale::To(slots) => slots,
            Scale::By(change) => {
                base.saturating_add_signed(isize::try_from(change).unwrap_or(isize::MAX))
            }
        };
        if want > MAX_SLOTS {
            if let Some(ticket) = ticket {
                let text = format!("cannot scale to {want} workers: the most is {MAX_SLOTS}");
                out.push(Action::Refused(ticket, Refusal::Usage, text));
            }
            return;
        }
        if self.moves_to_another()
            && let Some(why) = self.busy()
        {
            // The other master has a number of its own by now, and is asked for another as soon as it has the name.
            match ticket {
                Some(ticket) => out.push(Action::Refused(ticket, Refusal::Busy, why)),
                None => out.push(Action::note(Level::Warn, format!("scale refused: {why}"))),
            }
            return;
        }
        if !matches!(scale, Scale::By(..0)) {
            self.forget_pause("scale", out);
        }
        let op = self.operations.begin(now, "scale", ticket, out);
        if !paused && want == self.slots.len() {
            match &mut self.scaling {
                // The same wish again: both wait for the same.
                Some(scaling) => scaling.ops.push(op),
                None => {
                    let text = format!("{}, as before", crate::model::event::workers(want));
                    self.operations
                        .end(now, op, Outcome::Done(text, Vec::new()), out);
                }
            }
            return;
        }
        let before = if paused {
            Before::Paused(self.slots.len())
        } else {
            Before::Slots(self.slots.len())
        };
        self.supersede_scaling(
            now,
            &format!("superseded by operation {op} (scale to {want})"),
            out,
        );
        self.end_pause(now, "ended by a scale", out);
        out.push(Action::note(
            Level::Info,
            format!(
                "scale: from {base} to {}",
                crate::model::event::workers(want)
            ),
        ));
        out.push(Action::Progress(
            op,
            base.min(want),
            want,
            format!("from {base} to {}", crate::model::event::workers(want)),
        ));
        self.resize(now, want, out);
        self.scaling = Some(Scaling {
            ops: vec![op],
            want,
            before,
            failures: 0,
        });
    }

    /// Adds empty slots, or takes the highest away; their workers are told to finish.
    fn resize(&mut self, now: Time, want: usize, out: &mut Vec<Action>) {
        while self.slots.len() > want {
            let Some(slot) = self.slots.pop() else { break };
            self.timers.clear(Timer::Backoff(self.slots.len() as u32));
            if let Some(restart) = slot.restart {
                let why = format!("slot {} was scaled away", self.slots.len());
                self.operations
                    .end(now, restart.op, Outcome::Failed(why), out);
            }
            for id in [slot.current, slot.replacement].into_iter().flatten() {
                self.tell(now, id, StopSeverity::Graceful, out);
            }
        }
        let policy = std::rc::Rc::clone(&self.policy);
        self.slots.resize_with(want, || Slot::new(&policy));
    }

    fn supersede_scaling(&mut self, now: Time, why: &str, out: &mut Vec<Action>) {
        for op in self
            .scaling
            .take()
            .into_iter()
            .flat_map(|scaling| scaling.ops)
        {
            self.operations
                .end(now, op, Outcome::Failed(why.to_owned()), out);
        }
    }

    /// A scaling is done when every slot is ready (or down for good) and the surplus is gone.
    pub(crate) fn settle_scaling(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(scaling) = &self.scaling else { return };
        let want = scaling.want;
        let ready = |slot: &Slot| {
            slot.down.is_some() || self.worker(slot.current).is_some_and(Worker::is_ready)
        };
        let surplus = self
            .workers
            .values()
            .any(|worker| worker.slot as usize >= want);
        if surplus || !self.slots.iter().all(ready) {
            return;
        }
        let Some(scaling) = self.scaling.take() else {
            return;
        };
        let message = match scaling.before {
            Before::Paused(_) => format!("resumed: {} ready", crate::model::event::workers(want)),
            Before::Slots(before) => {
                format!(
                    "scaled from {before} to {}",
                    crate::model::event::workers(want)
                )
            }
        };
        out.push(Action::note(Level::Info, message.clone()));
        for op in scaling.ops {
            self.operations
                .end(now, op, Outcome::Done(message.clone(), Vec::new()), out);
        }
    }

    /// A failed start of one of the workers that were added: too many undo the change.
    pub(crate) fn scaling_failed_start(
        &mut self,
        now: Time,
        worker: &Worker,
        exit_message: &str,
        fatal: bool,
        out: &mut Vec<Action>,
    ) {
        let limit = self.policy.start_failures;
        let Some(scaling) = &mut self.scaling else {
            return;
        };
        let added = match scaling.before {
            Before::Paused(_) => true,
            Before::Slots(before) => worker.slot as usize >= before,
        };
        if !added {
            return;
        }
        scaling.failures += 1;
        if scaling.failures < limit && !fatal {
            return;
        }
        let Some(scaling) = self.scaling.take() else {
            return;
        };
        let why = format!(
            "{exit_message} ({} failed starts); undone",
            scaling.failures
        );
        out.push(Action::note(
            Level::Error,
            format!("scale to {}: {why}", scaling.want),
        ));
        match scaling.before {
            Before::Slots(before) => self.resize(now, before, out),
            // A rollout that began meanwhile has ended the pause for good.
            Before::Paused(_) if self.rollout.is_some() => {}
            Before::Paused(before) => {
                self.resize(now, before, out);
                self.send_away(now, None, out);
            }
        }
        for op in scaling.ops {
            self.operations
                .end(now, op, Outcome::Failed(why.clone()), out);
        }
    }

    /// `pause`, WINCH: the workers are told to finish, the master and N stay.
    pub(crate) fn pause(&mut self, now: Time, ticket: Option<Ticket>, out: &mut Vec<Action>) {
        let op = self.operations.begin(now, "pause", ticket, out);
        if let Mode::Paused(_) = self.mode {
            self.operations.end(
                now,
                op,
                Outcome::Done("paused, as before".into(), Vec::new()),
                out,
            );
            return;
        }
        self.supersede_scaling(now, &format!("superseded by operation {op} (pause)"), out);
        out.push(Action::note(
            Level::Info,
            "pause: the workers are told to finish; clients queue".into(),
        ));
        out.push(Action::Progress(
            op,
            0,
            self.workers.len(),
            "the workers are told to finish".into(),
        ));
        self.send_away(now, Some(op), out);
    }

    fn send_away(&mut self, now: Time, op: Option<OpId>, out: &mut Vec<Action>) {
        self.mode = Mode::Paused(op);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let workers: Vec<WorkerId> = [slot.current.take(), slot.replacement.take()]
                .into_iter()
                .flatten()
                .collect();
            slot.blocked_by = None;
            slot.down = None;
            slot.backoff.reset();
            self.timers.clear(Timer::Backoff(index as u32));
            for id in workers {
                self.tell(now, id, StopSeverity::Graceful, out);
            }
        }
    }

    /// The pause is complete when nobody is left.
    pub(crate) fn settle_pause(&mut self, now: Time, out: &mut Vec<Action>) {
        if let Mode::Paused(op @ Some(_)) = &mut self.mode
            && self.workers.is_empty()
            && let Some(op) = op.take()
        {
            out.push(Action::note(Level::Info, "paused".into()));
            self.operations
                .end(now, op, Outcome::Done("paused".into(), Vec::new()), out);
        }
    }

    /// `resume`: N workers again.
    pub(crate) fn resume(&mut self, now: Time, ticket: Option<Ticket>, out: &mut Vec<Action>) {
        self.forget_pause("resume", out);
        let op = self.operations.begin(now, "resume", ticket, out);
        let slots = self.slots.len();
        if !matches!(self.mode, Mode::Paused(_)) {
            match &mut self.scaling {
                Some(scaling) if matches!(scaling.before, Before::Paused(_)) => {
                    scaling.ops.push(op)
                }
                Some(_) | None => {
                    let text = "not paused".to_owned();
                    self.operations
                        .end(now, op, Outcome::Done(text, Vec::new()), out);
                }
            }
            return;
        }
        self.end_pause(now, "ended by a resume", out);
        out.push(Action::note(
            Level::Info,
            format!("resume: {}", crate::model::event::workers(slots)),
        ));
        out.push(Action::Progress(
            op,
            0,
            slots,
            format!("starting {}", crate::model::event::workers(slots)),
        ));
        self.scaling = Some(Scaling {
            ops: vec![op],
            want: slots,
            before: Before::Paused(slots),
            failures: 0,
        });
    }

    /// A rollout begins: if the service is paused, that ends, with N as it was.
    pub(crate) fn unpause(&mut self, now: Time, by: &str, out: &mut Vec<Action>) {
        self.end_pause(now, &format!("ended by a {by}"), out);
    }

    /// A WINCH waits for the end of a rollout, and workers are asked for after it: as a pause that has begun is ended by that, one that has
    /// not is none. Otherwise the older wish would undo the newer one, whose operation was told as done.
    fn forget_pause(&mut self, by: &str, out: &mut Vec<Action>) {
        if std::mem::take(&mut self.remembered.winch) {
            out.push(Action::note(
                Level::Info,
                format!("WINCH is forgotten: a {by} came after it"),
            ));
        }
    }

    fn end_pause(&mut self, now: Time, why: &str, out: &mut Vec<Action>) {
        if let Mode::Paused(op) = &mut self.mode {
            let op = op.take();
            self.mode = Mode::Running;
            if let Some(op) = op {
                self.operations
                    .end(now, op, Outcome::Failed(why.to_owned()), out);
            }
        }
    }

    /// A stop ends whatever waits here.
    pub(crate) fn abort_scaling(&mut self, now: Time, why: &str, out: &mut Vec<Action>) {
        let mut ops: Vec<OpId> = self
            .scaling
            .take()
            .map(|scaling| scaling.ops)
            .unwrap_or_default();
        if let Mode::Paused(op) = &mut self.mode {
            ops.extend(op.take());
        }
        for op in ops {
            self.operations
                .end(now, op, Outcome::Aborted(why.to_owned()), out);
        }
    }
}
