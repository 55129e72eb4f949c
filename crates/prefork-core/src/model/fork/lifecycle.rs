//! An upgrade by fork, from its beginning to its end: what each master does when something happens to the other. See [`beside`](super).

use std::rc::Rc;

use super::{Beside, ForkState, HELLO_WITHIN, PeerAction, PeerEvent, PeerMessage, Side};
use crate::model::event::{Action, Generation, Level, OpId, Outcome, Ticket, human};
use crate::model::policy::StopSeverity;
use crate::model::rollout::{Rollout, Way};
use crate::model::signal::Signal;
use crate::model::supervisor::{Mode, Supervisor};
use crate::model::time::Time;
use crate::model::timer::Timer;

impl Supervisor {
    /// `upgrade --fork`, and by `manual` USR2: a new master beside this one.
    pub(crate) fn fork(
        &mut self,
        now: Time,
        manual: bool,
        ticket: Option<Ticket>,
        out: &mut Vec<Action>,
    ) {
        // Nothing serves before the first rollout is done, and during that nobody gets here.
        let Some(from) = self.serving else { return };
        let op = self.operations.begin(now, "upgrade", ticket, out);
        self.last_generation += 1;
        let to = Generation(self.last_generation);
        self.memory.begins(to, Some(from));
        let how = if manual {
            "both serve until one is told to quit"
        } else {
            "one worker for one"
        };
        let text = format!("a new master, generation {to}; {how}");
        out.push(Action::note(Level::Info, format!("upgrade: {text}")));
        out.push(Action::Progress(op, 0, self.slots.len(), text));
        let policy = Rc::clone(&self.policy);
        self.rollout = Some(Rollout {
            op,
            kind: "upgrade",
            from: Some(from),
            to,
            policy: Rc::clone(&policy),
            way: Way::Beside,
            canary_past: true,
            began: now,
            failures: 0,
            settled_at: None,
            probation: None,
        });
        let mut beside = Beside::new(Side::Old, manual, op);
        beside.was_paused = matches!(self.mode, Mode::Paused(_));
        self.beside = Some(beside);
        self.timers.set(Timer::Hello, now + HELLO_WITHIN);
        let slots = self.slots.len();
        out.push(Action::Beside(PeerAction::Beget(Box::new(ForkState {
            op,
            manual,
            from: (from, policy),
            to,
            scaled: (slots != self.configured).then_some(slots),
            operations: self.operations.handed_over(op),
            memory: self.memory.clone(),
        }))));
    }

    /// Why there can be no further master beside this one.
    pub(crate) fn has_other(&self) -> Option<String> {
        let beside = self.beside.as_ref()?;
        let other = beside.other();
        Some(match (beside.settled || beside.manual, beside.side) {
            (false, _) => format!("{other} lives"),
            (true, Side::Old) => {
                format!("{other} lives: QUIT to it backs out, QUIT to this one commits")
            }
            (true, Side::New) => {
                format!("{other} lives: QUIT to it commits, QUIT to this one backs out")
            }
        })
    }

    /// Whether the service is on its way from this master to the other.
    pub(crate) fn moves_to_another(&self) -> bool {
        let moves = |beside: &Beside| beside.side == Side::Old && !beside.settled && !beside.manual;
        self.beside.as_ref().is_some_and(moves)
    }

    /// Something happened to the other master.
    pub(crate) fn beside_happened(&mut self, now: Time, what: PeerEvent, out: &mut Vec<Action>) {
        match what {
            PeerEvent::Born(pid) => {
                if let Some(beside) = &mut self.beside {
                    beside.pid = Some(pid);
                }
            }
            PeerEvent::Unborn(why) => self.unborn(now, why, out),
            PeerEvent::Said(told) => self.other_said(now, told, out),
            PeerEvent::Gone(how) => self.other_gone(now, &how, out),
            PeerEvent::Dropped => {
                if self.beside.take().is_some() {
                    self.stop_because(now, "the old master has given this one up".into(), out);
                }
            }
        }
    }

    /// There is no new master, and nothing has changed.
    fn unborn(&mut self, now: Time, why: String, out: &mut Vec<Action>) {
        self.beside = None;
        self.timers.clear(Timer::Hello);
        let beside = |rollout: &mut Rollout| rollout.way == Way::Beside;
        let Some(rollout) = self.rollout.take_if(beside) else {
            return;
        };
        // The generation never began, so its number was not used.
        self.last_generation -= 1;
        self.memory.forget(rollout.to);
        let text = format!("upgrade refused, nothing has changed: {why}");
        out.push(Action::note(Level::Error, text));
        self.operations
            .end(now, rollout.op, Outcome::Failed(why), out);
    }

    /// A new master that does not even say that it stands is none.
    pub(crate) fn hello_late(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(beside) = &self.beside else { return };
        let why = format!(
            "{} did not stand within {}",
            beside.other(),
            human(HELLO_WITHIN)
        );
        if matches!(&self.rollout, Some(rollout) if rollout.way == Way::Beside) {
            self.goes_back(now, why, out);
        } else {
            // A stop came between.
            out.push(Action::Beside(PeerAction::Kill));
        }
    }

    fn other_said(&mut self, now: Time, told: PeerMessage, out: &mut Vec<Action>) {
        let Some(beside) = &mut self.beside else {
            return;
        };
        match told {
            PeerMessage::Hello(pid) => {
                beside.pid = Some(pid);
                beside.stands = true;
                if beside.manual && beside.stop.is_some() {
                    out.push(Action::Beside(PeerAction::Succeeded));
                }
                self.timers.clear(Timer::Hello);
                let text = format!("upgrade: {} stands", beside.other());
                out.push(Action::note(Level::Info, text));
            }
            PeerMessage::Ready(slot) => {
                beside.heard_ready.insert(slot);
                self.yield_slot(now, slot, out);
            }
            PeerMessage::AllReady => self.yield_all(now, out),
            PeerMessage::Done(workers) if beside.manual => self.both_stand(now, workers, out),
            PeerMessage::Done(workers) => beside.may_leave = Some(workers),
            PeerMessage::Back(why) => self.goes_back(now, why, out),
            PeerMessage::Want(slot) => {
                beside.owed.insert(slot);
                self.yield_slot(now, slot, out);
            }
            PeerMessage::Free(slot) => {
                beside.granted.insert(slot);
            }
            PeerMessage::Stop(word) => {
                beside.stop = beside.stop.max(Some(word));
                self.stop(now, word, 0, None, out);
            }
            PeerMessage::Used(generation) => {
                self.last_generation = self.last_generation.max(generation.0);
            }
        }
    }

    /// The other master wants to go back, or does not answer.
    fn goes_back(&mut self, now: Time, why: String, out: &mut Vec<Action>) {
        let Some(beside) = &self.beside else { return };
        match (beside.side, self.rollout.as_ref().map(|r| &r.way)) {
            (Side::Old, Some(Way::Beside)) => {
                let text = format!("upgrade: going back: {why}");
                out.push(Action::note(Level::Error, text));
                self.turn_back(now, why, None, out);
            }
            (Side::New, Some(Way::Forward)) => {
                self.fail_rollout(now, why, out);
            }
            _ => {}
        }
    }

    /// The old master turns back: its slots are its own again.
    pub(crate) fn comes_back(&mut self, why: &str, out: &mut Vec<Action>) {
        if let Some(beside) = &mut self.beside {
            if !beside.stands {
                // It has nothing to end yet, and one that hangs would never hear of it.
                out.push(Action::Beside(PeerAction::Kill));
            }
            beside.turn();
            out.push(Action::tell_other(PeerMessage::Back(why.to_owned())));
        }
    }

    /// The first rollout of a new master has failed: if there is an old one that takes its workers' slots again, true.
    pub(crate) fn backs_out(
        &mut self,
        now: Time,
        why: &str,
        asked_by: Option<OpId>,
        out: &mut Vec<Action>,
    ) -> bool {
        let (Some(beside), Some(rollout)) = (&mut self.beside, &mut self.rollout) else {
            return false;
        };
        if beside.side == Side::Old || beside.settled || rollout.way != Way::Forward {
            return false;
        }
        out.push(Action::tell_other(PeerMessage::Back(why.to_owned())));
        if beside.manual {
            // Nobody has yielded anything: it simply ends.
            return false;
        }
        let text = format!("upgrade: going back: {why}");
        out.push(Action::note(Level::Error, text));
        beside.turn();
        rollout.way = Way::Back(why.to_owned(), asked_by.into_iter().collect());
        rollout.probation = None;
        self.timers.clear(Timer::Canary);
        self.timers.clear(Timer::Probation);
        for index in 0..self.slots.len() {
            self.timers.clear(Timer::Backoff(index as u32));
            let slot = &mut self.slots[index];
            let starting = slot
                .current
                .take_if(|id| self.workers.get(id).is_none_or(|worker| !worker.is_ready()));
            // Those serve nobody.
            for id in [starting, slot.replacement.take()].into_iter().flatten() {
                self.tell(now, id, StopSeverity::Graceful, out);
            }
        }
        true
    }

    /// `rollback` during an upgrade, asked of the new master: true if it was that.
    pub(crate) fn rolls_back_to_the_other(
        &mut self,
        now: Time,
        ticket: Ticket,
        out: &mut Vec<Action>,
    ) -> bool {
        let automatic = |beside: &&Beside| beside.side == Side::New && !beside.manual;
        let first = self
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.from.is_none());
        if !first || self.beside.as_ref().filter(automatic).is_none() {
            return false;
        }
        let op = self.operations.begin(now, "rollback", Some(ticket), out);
        let why = format!("it was asked for by a rollback, operation {op}");
        if !self.backs_out(now, &why, Some(op), out) {
            // It goes back already.
            if let Some(Rollout {
                way: Way::Back(_, ops),
                ..
            }) = &mut self.rollout
            {
                ops.push(op);
            }
        }
        true
    }

    /// The new master has all its workers, and nobody is told to go.
    fn both_stand(&mut self, now: Time, workers: usize, out: &mut Vec<Action>) {
        let beside = |rollout: &mut Rollout| rollout.way == Way::Beside;
        let (Some(rollout), Some(other)) = (self.rollout.take_if(beside), &mut self.beside) else {
            return;
        };
        other.settled = true;
        let message = format!(
            "{} serves with {}, and this one too: QUIT to this one commits, QUIT to that one backs out",
            other.other(),
            crate::model::event::workers(workers)
        );
        self.last_rollout = Some(rollout.record(now, "done", None));
        out.push(Action::note(Level::Info, format!("upgrade: {message}")));
        self.operations
            .end(now, rollout.op, Outcome::Done(message, Vec::new()), out);
    }

    /// The other master is dead: this one is alone, and has all slots.
    fn other_gone(&mut self, now: Time, how: &str, out: &mut Vec<Action>) {
        let Some(beside) = self.beside.take() else {
            return;
        };
        self.timers.clear(Timer::Hello);
        let text = format!("upgrade: {} {how}", beside.other());
        let level = if matches!(self.mode, Mode::Stopping(_)) || beside.told_done || beside.settled
        {
            Level::Info
        } else {
            Level::Warn
        };
        out.push(Action::note(level, text));
        match beside.side {
            Side::Old => {
                if let (Mode::Stopping(stopping), true, false) =
                    (&mut self.mode, beside.manual, beside.stands)
                {
                    // It was told to leave the service to nobody.
                    stopping.code = 1;
                    stopping.reason = Some(format!("{} {how}, and nobody serves", beside.other()));
                }
                out.push(Action::Beside(PeerAction::TakeNamesBack));
                self.alone_again(now, &beside, how, out);
            }
            Side::New => {
                out.push(Action::Beside(PeerAction::RemoveOldNames));
                self.on_its_own(out);
            }
        }
    }

    fn alone_again(&mut self, now: Time, beside: &Beside, how: &str, out: &mut Vec<Action>) {
        if !matches!(self.mode, Mode::Running | Mode::Paused(_)) {
            return;
        }
        let under_way = |rollout: &Rollout| rollout.way == Way::Beside;
        if self.rollout.as_ref().is_some_and(under_way) {
            self.turn_back(now, format!("{} {how}", beside.other()), None, out);
        }
        if matches!(self.mode, Mode::Paused(_)) && !beside.was_paused {
            // Its workers were sent away because there were others.
            self.resume(now, None, out);
        }
    }

    /// The new master goes on as if it had always been there: what the old one served from is what it can go back to.
    fn on_its_own(&mut self, out: &mut Vec<Action>) {
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if rollout.from.is_some() || !matches!(self.mode, Mode::Running) {
            return;
        }
        if rollout.way != Way::Forward {
            let text = "upgrade: going on after all: there is nobody to go back to".to_owned();
            out.push(Action::note(Level::Warn, text));
            rollout.way = Way::Forward;
            rollout.failures = 0;
        }
        if let Some((generation, policy)) = self.previous.take() {
            rollout.from = Some(generation);
            self.serving = Some(generation);
            self.policy = policy;
        }
    }

    /// The old master ends: the new one has everything.
    pub(crate) fn leave(&mut self, now: Time, workers: usize, out: &mut Vec<Action>) {
        let (Some(rollout), Some(beside)) = (self.rollout.take(), &self.beside) else {
            return;
        };
        let record = rollout.record(now, "done", None);
        let took = human(record.took.unwrap_or_default());
        let message = format!(
            "upgrade done: generation {}, {} ready in {}, {took}",
            rollout.to,
            crate::model::event::workers(workers),
            beside.other()
        );
        self.end_of_rollout();
        self.last_rollout = Some(record);
        self.serving = Some(rollout.to);
        self.counters.rollouts += 1;
        out.push(Action::note(Level::Info, message.clone()));
        out.push(Action::Beside(PeerAction::Succeeded));
        let remembered = std::mem::take(&mut self.remembered);
        for (kept, signal) in [
            (remembered.hup, Signal::Hup),
            (remembered.winch, Signal::Winch),
        ] {
            if kept {
                out.push(Action::Beside(PeerAction::PassOn(signal)));
            }
        }
        // Whoever waits for other things waits for what is the new master's by now.
        let others: Vec<OpId> = self.operations.running().map(|known| known.op).collect();
        for op in others.into_iter().filter(|op| *op != rollout.op) {
            let text = "the new master has the service".to_owned();
            self.operations
                .end(now, op, Outcome::Done(text, Vec::new()), out);
        }
        self.operations
            .end(now, rollout.op, Outcome::Done(message, Vec::new()), out);
        self.mode = Mode::Over;
        out.push(Action::Exit(0, None));
    }

    /// The new master ends: the old one has everything again.
    pub(crate) fn leave_again(&mut self, now: Time, out: &mut Vec<Action>) {
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        let Way::Back(why, asked_by) = &rollout.way else {
            return;
        };
        self.counters.rolled_back += 1;
        self.last_rollout = Some(rollout.record(now, "rolled-back", Some(why.clone())));
        self.operations
            .end(now, rollout.op, Outcome::RolledBack(why.clone()), out);
        for op in asked_by {
            let text = "rolled back: the old master serves".to_owned();
            self.operations
                .end(now, *op, Outcome::Done(text, Vec::new()), out);
        }
        self.mode = Mode::Over;
        let reason = format!("the upgrade was rolled back: {why}");
        out.push(Action::Exit(1, Some(reason)));
    }
}
