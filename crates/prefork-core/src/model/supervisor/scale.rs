//! The number of slots: scaling, pausing, resuming.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::model::action::Refusal;
use crate::model::event::Scale;
use crate::model::fact::Fact;
use crate::model::fact::reasons::StopReason;
use crate::model::fact::text::workers;
use crate::model::ids::{OpId, Ticket};
use crate::model::operation::{OperationKind, Outcome};
use crate::model::policy::{MAX_SLOTS, StopSeverity};
use crate::model::state::Supervisor;
use crate::model::state::changes::{FailingSlot, Mode, Scaling, SlotsBefore};
use crate::model::state::slot_sets::SlotSet;
use crate::model::turn::Turn;
use crate::model::worker::exit::Death;

impl Supervisor {
    /// `scale`, TTIN and TTOU. While paused they count from 0 and end the pause.
    pub(crate) fn scale(&mut self, turn: &mut Turn<'_>, scale: Scale, ticket: Option<Ticket>) {
        let paused = self.mode.is_paused();
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
                turn.refuse(ticket, Refusal::Usage, text);
            }
            return;
        }
        if (self.is_moving_to_new_master() || self.is_moving_back())
            && let Some(why) = self.busy()
        {
            // Each of the two masters has a number of its own by now, and only one of them is to be
            // the service.
            match ticket {
                Some(ticket) => turn.refuse(ticket, Refusal::Busy, why),
                None => turn.tell(Fact::ScaleRefused(why)),
            }
            return;
        }
        if !matches!(scale, Scale::By(..0)) {
            self.drop_deferred_pause(turn, OperationKind::Scale);
        }
        let op = turn.begin(&mut self.operations, OperationKind::Scale, ticket);
        if !paused && want == self.slots.len() {
            match &mut self.scaling {
                // The same number was asked for before: both operations wait for the same.
                Some(scaling) => scaling.ops.push(op),
                None => {
                    let text = format!("{}, as before", workers(want));
                    turn.end(&mut self.operations, op, Outcome::done(text));
                }
            }
            return;
        }
        let before = if paused {
            SlotsBefore::Paused(self.slots.len())
        } else {
            SlotsBefore::Slots(self.slots.len())
        };
        self.supersede_scaling(
            turn,
            &format!("superseded by operation {op} (scale to {want})"),
        );
        self.end_pause(turn, "ended by a scale");
        let fact = Fact::ScaleBegan {
            from: base,
            to: want,
        };
        turn.tell_with_progress(fact, op, base.min(want), want);
        self.resize(turn, want);
        self.scaling = Some(Scaling {
            ops: vec![op],
            want,
            before,
            failures: 0,
            failing: BTreeMap::new(),
        });
    }

    /// Adds empty slots, or takes the highest away; their workers are told to finish.
    fn resize(&mut self, turn: &mut Turn<'_>, want: usize) {
        while let Some(mut slot) = self.slots.shrink_to(want) {
            if let Some(restart) = slot.restart.take() {
                let why = format!("slot {} was scaled away", self.slots.len());
                turn.end(&mut self.operations, restart.op, Outcome::Failed(why));
            }
            for id in slot.take_workers() {
                self.request_stop(turn, id, StopSeverity::Graceful, StopReason::Scale);
            }
        }
        let policy = Rc::clone(&self.policy);
        self.slots.grow_to(want, &policy);
    }

    pub(crate) fn supersede_scaling(&mut self, turn: &mut Turn<'_>, why: &str) {
        for op in self
            .scaling
            .take()
            .into_iter()
            .flat_map(|scaling| scaling.ops)
        {
            turn.end(&mut self.operations, op, Outcome::Failed(why.to_owned()));
        }
    }

    /// A scaling is done when every slot is ready (or down for good) and the surplus is gone.
    pub(crate) fn settle_scaling(&mut self, turn: &mut Turn<'_>) {
        let Some(scaling) = &self.scaling else { return };
        let want = scaling.want;
        let limit = self.policy.start_failures;
        let is_given_up = |(index, failing): (&u32, &FailingSlot)| {
            let slot = self.slots.get(*index as usize);
            failing.deaths >= limit
                && slot
                    .is_some_and(|slot| slot.down.is_none() && !self.is_ready_worker(slot.current))
        };
        let highest = self.workers.highest_slot();
        let surplus = highest.is_some_and(|slot| slot as usize >= want);
        let given_up = scaling.failing.iter().filter(|it| is_given_up(*it)).count();
        let done = self.count_slots(SlotSet::ReadyOrDown) + given_up;
        if surplus || done < self.slots.len() {
            return;
        }
        let Some(scaling) = self.scaling.take() else {
            return;
        };
        let fact = match scaling.before {
            SlotsBefore::Paused(_) => Fact::Resumed(want),
            SlotsBefore::Slots(from) => Fact::Scaled { from, to: want },
        };
        let message = fact.to_string();
        turn.tell(fact);
        let warnings = self.slots_without_worker(&scaling);
        for op in scaling.ops {
            let outcome = Outcome::Done(message.clone(), warnings.clone());
            turn.end(&mut self.operations, op, outcome);
        }
    }

    /// The slots that a change of their number did not wait for, in words.
    fn slots_without_worker(&self, scaling: &Scaling) -> Vec<String> {
        let failing = scaling.failing.iter().filter(|(slot, _)| {
            let place = self.slots.get(**slot as usize);
            place.is_some_and(|place| !self.is_ready_worker(place.current))
        });
        failing
            .map(|(slot, failing)| format!("slot {slot} has no ready worker: {}", failing.why))
            .collect()
    }

    /// A worker died by itself while the number of slots changes. Too many deaths of added ones
    /// undo the change. A slot that was there before and fails as often is not waited for: its
    /// trouble is none of the change, which would never end.
    pub(crate) fn death_in_scaling(&mut self, turn: &mut Turn<'_>, death: &Death<'_>) {
        let limit = self.policy.start_failures;
        let Some(scaling) = &mut self.scaling else {
            return;
        };
        let added = match scaling.before {
            SlotsBefore::Paused(_) => true,
            SlotsBefore::Slots(before) => death.worker.slot as usize >= before,
        };
        if !added {
            let failing = scaling.failing.entry(death.worker.slot);
            let failing = failing.or_insert(FailingSlot {
                deaths: 0,
                why: String::new(),
            });
            failing.deaths += 1;
            failing.why = death.exit.to_string();
            return;
        }
        scaling.failures += 1;
        if scaling.failures < limit && !death.fatal {
            return;
        }
        let Some(scaling) = self.scaling.take() else {
            return;
        };
        let (exit, failures) = (death.exit, scaling.failures);
        let why = format!("{exit} ({failures} failed starts); undone");
        turn.tell(Fact::ScaleFailed(scaling.want, why.clone()));
        match scaling.before {
            SlotsBefore::Slots(before) => self.resize(turn, before),
            // A rollout that began meanwhile has ended the pause for good.
            SlotsBefore::Paused(_) if self.rollout.is_some() => {}
            SlotsBefore::Paused(before) => {
                self.resize(turn, before);
                self.send_away(turn, None);
            }
        }
        for op in scaling.ops {
            turn.end(&mut self.operations, op, Outcome::Failed(why.clone()));
        }
    }

    /// `pause`, WINCH: the workers are told to finish, the master and N stay.
    pub(crate) fn pause(&mut self, turn: &mut Turn<'_>, ticket: Option<Ticket>) {
        let op = turn.begin(&mut self.operations, OperationKind::Pause, ticket);
        if let Mode::Paused(_) = self.mode {
            turn.end(&mut self.operations, op, Outcome::done("paused, as before"));
            return;
        }
        self.supersede_scaling(turn, &format!("superseded by operation {op} (pause)"));
        turn.tell(Fact::PauseBegan);
        let text = "the workers are told to finish";
        turn.progress(op, 0, self.workers.len(), text);
        self.send_away(turn, Some(op));
    }

    fn send_away(&mut self, turn: &mut Turn<'_>, op: Option<OpId>) {
        self.restarts_fail(turn, "the service was paused");
        self.mode = Mode::Paused(op);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            slot.blocked_by = None;
            slot.down = None;
            slot.forgive();
            for id in slot.take_workers() {
                self.request_stop(turn, id, StopSeverity::Graceful, StopReason::Pause);
            }
        }
    }

    /// The pause is complete when no worker is left.
    pub(crate) fn settle_pause(&mut self, turn: &mut Turn<'_>) {
        if let Mode::Paused(op @ Some(_)) = &mut self.mode
            && self.workers.is_empty()
            && let Some(op) = op.take()
        {
            turn.tell(Fact::Paused);
            turn.end(&mut self.operations, op, Outcome::done("paused"));
        }
    }

    /// `resume`: N workers again.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>, ticket: Option<Ticket>) {
        self.drop_deferred_pause(turn, OperationKind::Resume);
        let op = turn.begin(&mut self.operations, OperationKind::Resume, ticket);
        let slots = self.slots.len();
        if !self.mode.is_paused() {
            match &mut self.scaling {
                Some(scaling) if matches!(scaling.before, SlotsBefore::Paused(_)) => {
                    scaling.ops.push(op)
                }
                Some(_) | None => {
                    let text = "not paused".to_owned();
                    turn.end(&mut self.operations, op, Outcome::done(text));
                }
            }
            return;
        }
        self.end_pause(turn, "ended by a resume");
        turn.tell(Fact::ResumeBegan(slots));
        turn.progress(op, 0, slots, format!("starting {}", workers(slots)));
        self.scaling = Some(Scaling {
            ops: vec![op],
            want: slots,
            before: SlotsBefore::Paused(slots),
            failures: 0,
            failing: BTreeMap::new(),
        });
    }

    /// A rollout begins: if the service is paused, that ends, with N as it was.
    pub(crate) fn unpause(&mut self, turn: &mut Turn<'_>, by: OperationKind) {
        self.end_pause(turn, &format!("ended by a {by}"));
    }

    /// A WINCH waits for the end of a rollout, and then workers are asked for. A pause that had
    /// begun would end by that, so one that has not begun is dropped: otherwise the older request
    /// would undo the newer one, whose operation was reported as done.
    fn drop_deferred_pause(&mut self, turn: &mut Turn<'_>, by: OperationKind) {
        if std::mem::take(&mut self.deferred.winch) {
            turn.tell(Fact::DeferredPauseDropped(by));
        }
    }

    fn end_pause(&mut self, turn: &mut Turn<'_>, why: &str) {
        if let Mode::Paused(op) = &mut self.mode {
            let op = op.take();
            self.mode = Mode::Running;
            if let Some(op) = op {
                turn.end(&mut self.operations, op, Outcome::Failed(why.to_owned()));
            }
        }
    }

    /// The service goes to another master: who waits for a pause is told that it ends so.
    pub(crate) fn forget_pause_operation(&mut self, turn: &mut Turn<'_>) {
        if let Mode::Paused(op) = &mut self.mode
            && let Some(op) = op.take()
        {
            let why = "ended by an upgrade".to_owned();
            turn.end(&mut self.operations, op, Outcome::Failed(why));
        }
    }

    /// A stop ends every operation that waits here.
    pub(crate) fn abort_scaling(&mut self, turn: &mut Turn<'_>, why: &str) {
        let mut ops: Vec<OpId> = self
            .scaling
            .take()
            .map(|scaling| scaling.ops)
            .unwrap_or_default();
        if let Mode::Paused(op) = &mut self.mode {
            ops.extend(op.take());
        }
        for op in ops {
            turn.end(&mut self.operations, op, Outcome::Aborted(why.to_owned()));
        }
    }
}
