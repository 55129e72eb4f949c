//! Which slots are whose while two masters serve: whoever descends yields, whoever ascends fills. See [`beside`](super).

use super::{Beside, PeerAction, PeerMessage, Side};
use crate::model::event::{Action, WorkerId};
use crate::model::policy::StopSeverity;
use crate::model::rollout::Way;
use crate::model::supervisor::{Mode, Supervisor};
use crate::model::time::Time;
use crate::model::timer::Timer;

/// What a master does while the service moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It takes slots.
    Ascends,
    /// It gives them away.
    Descends,
    /// Nothing of the kind.
    Stays,
}

impl Supervisor {
    fn course(&self) -> Course {
        let (Some(beside), Some(rollout)) = (&self.beside, &self.rollout) else {
            return Course::Stays;
        };
        if beside.settled || beside.manual {
            return Course::Stays;
        }
        match (beside.side, &rollout.way) {
            (Side::Old, Way::Beside) | (Side::New, Way::Back(..)) => Course::Descends,
            (Side::Old, Way::Back(..)) | (Side::New, Way::Forward) => Course::Ascends,
            (Side::Old, Way::Forward) | (Side::New, Way::Beside) => Course::Stays,
        }
    }

    /// The surge of the rollout that this master ascends by.
    fn surge_beside(&self) -> usize {
        let rollout = self.rollout.as_ref();
        let policy = rollout.map_or(&self.policy, |rollout| &rollout.policy);
        policy.surge.of(self.slots.len())
    }

    /// How many workers may be started at once besides those that start already: a new master begins no more than a rollout would.
    pub(crate) fn room_beside(&self) -> usize {
        let new = |beside: &Beside| beside.side == Side::New;
        if !self.beside.as_ref().is_some_and(new) || self.course() != Course::Ascends {
            return usize::MAX;
        }
        let starting = self
            .workers
            .values()
            .filter(|worker| worker.is_starting())
            .count();
        self.surge_beside().max(1).saturating_sub(starting)
    }

    /// Whether nobody may be started in this slot because of the other master.
    pub(crate) fn other_has(&self, index: usize) -> bool {
        let Some(beside) = &self.beside else {
            return false;
        };
        let slot = index as u32;
        match self.course() {
            Course::Stays => false,
            Course::Descends => beside.yields_all || beside.yielded.contains(&slot),
            Course::Ascends => self.surge_beside() == 0 && !beside.granted.contains(&slot),
        }
    }

    /// The other one has a worker for this slot, or wants it empty.
    pub(crate) fn yield_slot(&mut self, now: Time, slot: u32, out: &mut Vec<Action>) {
        if self.course() != Course::Descends {
            return;
        }
        let slots = self.slots.len();
        let Some(beside) = &mut self.beside else {
            return;
        };
        if !beside.yielded.insert(slot) {
            return;
        }
        let (op, done, other) = (beside.op, beside.yielded.len().min(slots), beside.other());
        let text = format!("slot {slot} is left to {other}");
        out.push(Action::Progress(op, done, slots, text));
        self.timers.clear(Timer::Backoff(slot));
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return;
        };
        let whose: Vec<WorkerId> = [place.current.take(), place.replacement.take()]
            .into_iter()
            .flatten()
            .collect();
        for id in whose {
            self.tell(now, id, StopSeverity::Graceful, out);
        }
    }

    /// The other one has all of its slots, whatever their number.
    pub(crate) fn yield_all(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.course() != Course::Descends {
            return;
        }
        for slot in 0..self.slots.len() {
            self.yield_slot(now, slot as u32, out);
        }
        if let Some(beside) = &mut self.beside {
            beside.yields_all = true;
            if beside.side == Side::New {
                // The way back has no probation.
                beside.may_leave = Some(0);
            }
        }
    }

    /// The next steps of the service's move from one master to the other.
    pub(crate) fn settle_beside(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.beside.is_none() {
            if matches!(self.mode, Mode::Paused(_)) {
                self.back_in_pause(now, out);
            }
            return;
        }
        self.give_what_is_owed(out);
        match self.course() {
            Course::Stays => {}
            Course::Ascends => self.announce(out),
            Course::Descends => {
                let beside = self.beside.as_ref();
                let may_leave =
                    beside.and_then(|beside| beside.may_leave.map(|n| (beside.side, n)));
                match may_leave.filter(|_| self.workers.is_empty()) {
                    Some((Side::Old, workers)) => self.leave(now, workers, out),
                    Some((Side::New, _)) => self.leave_again(now, out),
                    None => {}
                }
            }
        }
    }

    /// The upgrade of a paused service has failed: it is paused as before, and there is nobody to wait for.
    fn back_in_pause(&mut self, now: Time, out: &mut Vec<Action>) {
        let back = |way: &Way| matches!(way, Way::Back(..));
        if self
            .rollout
            .as_ref()
            .is_some_and(|rollout| back(&rollout.way))
        {
            self.rolled_back(now, Vec::new(), out);
        }
    }

    fn give_what_is_owed(&mut self, out: &mut Vec<Action>) {
        let Some(beside) = &mut self.beside else {
            return;
        };
        let workers = &self.workers;
        beside.owed.retain(|slot| {
            let busy = workers.values().any(|worker| worker.slot == *slot);
            if !busy {
                out.push(Action::tell_other(PeerMessage::Free(*slot)));
            }
            busy
        });
    }

    /// Whether this slot is as it is to be in the end.
    fn stands(&self, index: usize) -> bool {
        let Some(rollout) = &self.rollout else {
            return false;
        };
        let back = matches!(rollout.way, Way::Back(..));
        let of_ours = self
            .slots
            .get(index)
            .and_then(|slot| self.worker(slot.current))
            .is_some_and(|worker| worker.is_ready() && (worker.generation == rollout.to) != back);
        of_ours || (back && self.is_stuck(index))
    }

    /// Tells the other one which slots it can yield.
    fn announce(&mut self, out: &mut Vec<Action>) {
        let Some(rollout) = &self.rollout else { return };
        let slots = self.slots.len();
        let surge = self.surge_beside();
        let past = rollout.canary_past || rollout.way != Way::Forward;
        let paused = matches!(self.mode, Mode::Paused(_));
        let standing: Vec<u32> = (0..slots)
            .filter(|index| self.stands(*index))
            .map(|index| index as u32)
            .collect();
        let all = past && (paused || standing.len() == slots);
        let next = (surge == 0 && !all).then(|| self.next_wanted()).flatten();
        let Some(beside) = &mut self.beside else {
            return;
        };
        // `--surge 100%`: nobody is told anything before all new ones are ready.
        if past && (surge < slots || all) {
            let anew = |slot: &u32| beside.told_ready.insert(*slot);
            let ready = standing.into_iter().filter(anew);
            out.extend(ready.map(|slot| Action::tell_other(PeerMessage::Ready(slot))));
        }
        if all && !std::mem::replace(&mut beside.told_all, true) {
            out.push(Action::tell_other(PeerMessage::AllReady));
        }
        if let Some(slot) = next {
            beside.wanted = Some(slot);
            out.push(Action::tell_other(PeerMessage::Want(slot)));
        }
    }

    /// `--surge 0`: the slot to ask for, once the one before is served.
    fn next_wanted(&self) -> Option<u32> {
        let beside = self.beside.as_ref()?;
        let rollout = self.rollout.as_ref()?;
        if beside
            .wanted
            .is_some_and(|slot| !self.stands(slot as usize))
        {
            return None;
        }
        let reach = if rollout.canary_past || rollout.way != Way::Forward {
            self.slots.len()
        } else {
            1
        };
        let free = |index: &usize| {
            self.slots
                .get(*index)
                .is_some_and(|slot| slot.current.is_none())
                && !beside.granted.contains(&(*index as u32))
        };
        let mut free: Vec<u32> = (0..reach.min(self.slots.len()))
            .filter(free)
            .map(|index| index as u32)
            .collect();
        // On the way back: first where nobody serves, as that is where it failed.
        free.sort_by_key(|slot| beside.heard_ready.contains(slot));
        free.first().copied()
    }

    /// A new master's rollout is done when the old one has left, which it is told here.
    pub(crate) fn waits_for_the_old_one(&mut self, out: &mut Vec<Action>) -> bool {
        let slots = self.slots.len();
        let Some(beside) = &mut self.beside else {
            return false;
        };
        if beside.side == Side::Old || beside.settled {
            return false;
        }
        if !std::mem::replace(&mut beside.told_done, true) {
            out.push(Action::tell_other(PeerMessage::Done(slots)));
        }
        beside.settled = beside.manual;
        !beside.settled
    }

    /// An old master has its names back, and with them its peace, when the new one is gone.
    pub(crate) fn waits_for_the_new_one(&self) -> bool {
        let waits = |beside: &Beside| beside.side == Side::Old && !beside.settled;
        self.beside.as_ref().is_some_and(waits)
    }

    /// A stop while the service moves is one of both masters: it is one service. With `--manual` they are two.
    pub(crate) fn stops_beside(
        &mut self,
        word: StopSeverity,
        reason: Option<&str>,
        out: &mut Vec<Action>,
    ) {
        let Some(beside) = &mut self.beside else {
            return;
        };
        if beside.settled || beside.manual {
            // The old one commits; the new one leaves everything to it.
            if beside.side == Side::Old && beside.stop.is_none() && beside.stands {
                out.push(Action::Beside(PeerAction::Succeeded));
            }
            beside.stop = beside.stop.max(Some(word));
            return;
        }
        if !beside.stands {
            // It has nothing to end yet, and one that hangs would never hear of it.
            beside.stop = beside.stop.max(Some(word));
            out.push(Action::Beside(PeerAction::Kill));
            return;
        }
        if let Some(why) = reason {
            // One that gives up leaves the service to the other.
            if beside.side == Side::New {
                out.push(Action::tell_other(PeerMessage::Back(why.to_owned())));
            }
        } else if beside.stop.is_none_or(|known| known < word) {
            beside.stop = Some(word);
            out.push(Action::tell_other(PeerMessage::Stop(word)));
        }
    }

    /// An old master that ends waits until it is known whether there is a new one: until that stands or is dead.
    pub(crate) fn awaits_the_new_one(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| !beside.stands)
    }

    /// Whoever waits for the end of a service that stops while it moves waits for the new master: it ends last.
    pub(crate) fn outlives_the_old_one(&self) -> bool {
        let moves = |beside: &&Beside| beside.side == Side::New && !beside.manual;
        let known = self.beside.as_ref().filter(moves).and_then(|it| it.stop);
        known.is_some()
            && self
                .stopping()
                .is_some_and(|word| word < StopSeverity::Kill)
    }
}
