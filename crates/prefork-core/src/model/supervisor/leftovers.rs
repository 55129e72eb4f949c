//! What workers leave behind outside their process groups: daemons, and helpers in a session of
//! their own.
//!
//! Such a process that holds a listener of the service answers clients with old code, and keeps the
//! port after the end. So it is told to finish as soon as the worker that left it behind is gone,
//! and killed when its time is over, as a group is. Those that hold nothing are left alone, and
//! named when the service ends.

use std::collections::BTreeMap;

use crate::model::action::Action;
use crate::model::exit::{Cause, ExitStatus};
use crate::model::fact::Fact;
use crate::model::ids::{LeftoverId, WorkerId};
use crate::model::leftover::{Holds, LeftBehind, LeftBy};
use crate::model::operation::Outcome;
use crate::model::policy::StopSeverity;
use crate::model::signal::Signal;
use crate::model::state::Supervisor;
use crate::model::state::changes::StopStage;
use crate::model::state::leftovers::{LastLook, Leftover, LeftoverStage};
use crate::model::time::Time;
use crate::model::timer::Timer;
use crate::model::turn::Turn;
use crate::model::worker::LOOK_AT_GROUP_AFTER;

/// The most doublings of the time between two looks: 20 ms to 640 ms.
const MOST_DOUBLINGS: u32 = 5;

impl Supervisor {
    /// The driver has looked: this is all that is left behind now.
    pub(crate) fn left_behind(&mut self, found: Vec<LeftBehind>) {
        let newest_worker = WorkerId(self.last_worker);
        let leftovers = &mut self.leftovers;
        if leftovers.last_look == LastLook::Asked {
            leftovers.last_look = LastLook::Done;
        }
        leftovers
            .abandoned
            .retain(|worker| found.iter().any(|found| found.is_of(worker)));
        let mut before: BTreeMap<LeftoverId, Leftover> = std::mem::take(&mut leftovers.known);
        for found in found {
            let known = before.remove(&found.id);
            let is_abandoned = leftovers.abandoned.iter().any(|it| found.is_of(it));
            let unknown = if is_abandoned {
                LeftoverStage::GivenUp
            } else {
                LeftoverStage::Untold
            };
            let leftover = Leftover {
                newest_worker: known.as_ref().map_or(newest_worker, |it| it.newest_worker),
                stage: known.map_or(unknown, |known| known.stage),
                found,
            };
            leftovers.known.insert(leftover.found.id, leftover);
        }
    }

    /// Tells those whose worker is gone, and plans the next look while one is awaited.
    pub(crate) fn settle_leftovers(&mut self, turn: &mut Turn<'_>) {
        let stopping = self.mode.stopping();
        let severity = stopping
            .filter(|stopping| stopping.stage == StopStage::WorkersTold)
            .map_or(StopSeverity::Graceful, |stopping| stopping.severity);
        let due: Vec<LeftoverId> = self
            .leftovers
            .known
            .values()
            .filter(|leftover| self.is_due(leftover, severity))
            .map(|leftover| leftover.found.id)
            .collect();
        for id in due {
            self.tell_leftover(turn, id, severity);
        }
        for leftover in self.leftovers.known.values_mut() {
            // It has let go of the listener: it may live on.
            if leftover.stage.told().is_some() && leftover.found.holds == Holds::Nothing {
                leftover.stage = LeftoverStage::Untold;
            }
        }
        match self.awaited_leftovers().min() {
            None => {
                self.leftovers.looks = 0;
                self.timers.clear(Timer::Leftovers);
            }
            Some(by) => {
                let doublings = self.leftovers.looks.min(MOST_DOUBLINGS);
                let pace = LOOK_AT_GROUP_AFTER.saturating_mul(1 << doublings);
                self.timers
                    .ensure(Timer::Leftovers, by.min(turn.now + pace));
            }
        }
    }

    /// When those must be gone that were told.
    fn awaited_leftovers(&self) -> impl Iterator<Item = Time> + '_ {
        let all = self.leftovers.known.values();
        all.filter_map(|leftover| leftover.stage.told().map(|(_, by)| by))
    }

    /// Whether it is to be told this hard now.
    fn is_due(&self, leftover: &Leftover, severity: StopSeverity) -> bool {
        let told = leftover.stage.told().map(|(told, _)| told);
        if leftover.stage.is_given_up() || told >= Some(severity) {
            return false;
        }
        let holds = match leftover.found.holds {
            Holds::Nothing => false,
            Holds::Listeners(_) => true,
            // A helper whose descriptors are not to be seen is not killed on a suspicion while the
            // service runs.
            Holds::Perhaps(_) => self.mode.stopping().is_some(),
        };
        let worker_is_gone = match leftover.found.left_by {
            LeftBy::Worker(worker) => self.workers.get(&worker).is_none(),
            LeftBy::GoneWorker | LeftBy::OtherMaster => true,
            LeftBy::Unknown => {
                let oldest = self.workers.oldest();
                oldest.is_none_or(|oldest| oldest > leftover.newest_worker)
            }
        };
        holds && worker_is_gone
    }

    fn tell_leftover(&mut self, turn: &mut Turn<'_>, id: LeftoverId, severity: StopSeverity) {
        let is_daemon = |leftover: &Leftover| {
            let slot = leftover.found.slot;
            let slot = slot.and_then(|slot| self.slots.get(slot as usize));
            slot.and_then(|slot| slot.last_exit.as_ref())
                .is_some_and(|exit| {
                    exit.cause == Cause::Exited && exit.ended == Some(ExitStatus::Exited(0))
                })
        };
        let Some(leftover) = self.leftovers.known.get(&id) else {
            return;
        };
        let is_daemon = is_daemon(leftover);
        let (signal, patience) = self.policy.signal(severity);
        // The guard of that master has told it at the same moment, and a second signal would mean
        // to finish at once.
        let is_told = leftover.found.left_by == LeftBy::OtherMaster
            && severity == StopSeverity::Graceful
            && leftover.stage == LeftoverStage::Untold;
        if leftover.stage == LeftoverStage::Untold {
            let found = leftover.found.clone();
            turn.tell(if is_daemon {
                Fact::WorkerIsDaemon(found, signal)
            } else {
                Fact::LeftBehind(found, signal)
            });
        }
        if !is_told {
            turn.act(Action::SignalLeftover(id, signal));
        }
        if let Some(leftover) = self.leftovers.known.get_mut(&id) {
            leftover.stage = LeftoverStage::Told(severity, turn.now + patience);
        }
        self.timers.clear(Timer::Leftovers);
        self.leftovers.looks = 0;
    }

    /// It is time to look at them again: those whose time is over get KILL, or are given up.
    pub(crate) fn leftovers_due(&mut self, turn: &mut Turn<'_>) {
        let (_, unkillable_after) = self.policy.signal(StopSeverity::Kill);
        for (id, leftover) in &mut self.leftovers.known {
            let Some((severity, _)) = leftover.stage.told().filter(|(_, by)| *by <= turn.now)
            else {
                continue;
            };
            if severity == StopSeverity::Kill {
                turn.tell(Fact::LeftoverUnkillable(leftover.found.clone()));
                leftover.stage = LeftoverStage::GivenUp;
                continue;
            }
            turn.tell(Fact::LeftoverOverdue(leftover.found.clone()));
            turn.act(Action::SignalLeftover(*id, Signal::Kill));
            let by = turn.now + unkillable_after;
            leftover.stage = LeftoverStage::Told(StopSeverity::Kill, by);
            self.leftovers.looks = 0;
        }
        self.leftovers.looks = self.leftovers.looks.saturating_add(1);
        turn.act(Action::LookForLeftovers);
    }

    /// Whether the master may end now: no worker is left, and nothing that it waits for. Asks for a
    /// last look if there was none since the end of the last worker.
    pub(crate) fn leftovers_are_gone(&mut self, turn: &mut Turn<'_>) -> bool {
        match self.leftovers.last_look {
            LastLook::Wanted => {
                self.leftovers.last_look = LastLook::Asked;
                turn.act(Action::LookForLeftovers);
                false
            }
            LastLook::Asked => false,
            LastLook::Done => self.awaited_leftovers().next().is_none(),
        }
    }

    /// How a stop ends: it fails where something of the service lives on.
    pub(crate) fn stop_outcome(&self, turn: &mut Turn<'_>) -> Outcome {
        let (survivors, others): (Vec<_>, Vec<_>) = self
            .leftovers
            .known
            .values()
            .partition(|leftover| leftover.stage.is_given_up());
        let mut warnings = Vec::new();
        for leftover in others {
            let fact = Fact::LeftAlone(leftover.found.clone());
            warnings.push(fact.to_string());
            turn.tell(fact);
        }
        if survivors.is_empty() {
            return Outcome::Done("stopped".to_owned(), warnings);
        }
        let facts = survivors
            .into_iter()
            .map(|leftover| Fact::Survives(leftover.found.clone()));
        let texts: Vec<String> = facts.clone().map(|fact| fact.to_string()).collect();
        facts.for_each(|fact| turn.tell(fact));
        Outcome::Failed(texts.join("; "))
    }
}
