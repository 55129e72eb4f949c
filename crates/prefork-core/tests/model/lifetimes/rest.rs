//! Every worker behaves from now on, and the service comes to rest; and the end of a lifetime.

use std::time::Duration;

use prefork_core::model::event::{Command, Event, WorkerMessage};
use prefork_core::model::exit::ExitStatus;
use prefork_core::model::ids::{Ticket, WorkerId};
use prefork_core::model::policy::{Readiness, StopSeverity};
use prefork_core::model::releases::PinnedRelease;
use prefork_core::model::state::snapshot::{ServiceState, SlotState, SlotView};
use prefork_core::model::worker::Worker;

use super::EVENTS;
use super::world::{Check, World};

/// No chain of deadlines is longer.
const RESTS_WITHIN: Duration = Duration::from_secs(1200);

/// How much workers that behave can do at one moment: many times what the longest lives need.
const BEHAVES_AT_MOST: u32 = 10_000;

/// The request that ends a lifetime.
const LAST: Ticket = Ticket(u64::MAX);

impl World {
    pub(super) fn live(&mut self) -> Check {
        self.step(Event::Start(PinnedRelease::default()), false)?;
        for _ in 0..EVENTS {
            if self.exited.is_some() {
                break;
            }
            self.happen()?;
        }
        if self.dice.below(2) == 0 {
            self.behaves = true;
            self.come_to_rest()?;
        }
        self.end()
    }

    /// A stop must end in any state of the service, within the sum of its deadlines.
    fn end(&mut self) -> Check {
        if self.exited.is_none() {
            self.step(
                Event::Command(LAST, Command::Stop(StopSeverity::Graceful)),
                true,
            )?;
        }
        // The wait for empty queues and the drain of the workers may take this long each.
        let queues = u32::from(self.policies.iter().any(|policy| policy.drain_queue));
        let delays = self.policies.iter().filter_map(|policy| policy.stop_delay);
        let limit = self.now
            + delays.max().unwrap_or_default()
            + self.policy.graceful_timeout * (1 + queues)
            + Duration::from_secs(5 + 1)
            // What the last worker leaves behind is told only after its end.
            + self.policy.graceful_timeout
            + Duration::from_secs(5 + 1);
        while self.exited.is_none() {
            let Some(at) = self.supervisor.deadline() else {
                return Err("stopping, no worker exits, and there is no deadline".into());
            };
            if at > limit {
                return Err(format!(
                    "a stop takes longer than its deadlines: {:?}",
                    at.since(limit)
                ));
            }
            // Workers that obey exit now; deaf ones wait for KILL, unkillable ones for ever.
            let listening: Vec<WorkerId> = self
                .processes
                .iter()
                .filter(|(_, process)| {
                    process.leader
                        && process.told
                        && !process.unkillable
                        && (process.killed || !process.deaf)
                })
                .map(|(id, _)| *id)
                .collect();
            if let Some(id) = listening.first() {
                self.exit(*id, ExitStatus::Exited(0), false)?;
            } else {
                self.now = self.now.max(at);
                self.step(Event::Due, true)?;
                let rests: Vec<WorkerId> = self
                    .processes
                    .iter()
                    .filter(|(_, p)| !p.leader && p.rest && p.killed)
                    .map(|(id, _)| *id)
                    .collect();
                for id in rests {
                    self.emptied(id)?;
                }
            }
        }
        if !self.open.is_empty() {
            return Err(format!("operations without an end: {:?}", self.open));
        }
        match (self.told.wrong(), &self.told.open()[..]) {
            (Some(wrong), _) => Err(wrong),
            (None, []) => Ok(()),
            (None, open) => Err(format!("rollouts that are never told to end: {open:?}")),
        }
    }

    /// If everybody behaves from now on, it comes to rest: every operation ends, every slot has its
    /// worker (or is down), and none retires.
    fn come_to_rest(&mut self) -> Check {
        let limit = self.now + RESTS_WITHIN;
        while self.exited.is_none() && !self.is_at_rest() {
            let mut steps = 0;
            while self.exited.is_none() && self.behave()? {
                steps += 1;
                if steps > BEHAVES_AT_MOST {
                    return Err(format!("no rest after {steps} steps at one moment"));
                }
            }
            if self.exited.is_some() || self.is_at_rest() {
                break;
            }
            self.beat()?;
            let Some(at) = self.supervisor.deadline() else {
                let open = self.supervisor.owned_operations();
                return Err(format!(
                    "no rest, and nothing is waited for; open: {open:?}"
                ));
            };
            if at > limit {
                return Err(format!("no rest within {RESTS_WITHIN:?}"));
            }
            self.now = self.now.max(at);
            self.step(Event::Due, true)?;
        }
        Ok(())
    }

    fn is_at_rest(&self) -> bool {
        let snapshot = self.supervisor.snapshot();
        let is_filled = |view: &SlotView| matches!(view.state, SlotState::Ready | SlotState::Down);
        let slots = match snapshot.state {
            ServiceState::Running => snapshot.slots.iter().all(is_filled),
            ServiceState::Paused => true,
            ServiceState::Starting | ServiceState::Rolling | ServiceState::Stopping => false,
        };
        let extra = snapshot.replacements.len() + snapshot.retiring.len();
        slots && extra == 0 && self.supervisor.owned_operations().is_empty()
    }

    /// One thing that workers do which behave; false: there is none.
    fn behave(&mut self) -> Result<bool, String> {
        if self.successor.is_some() {
            self.take_over()?;
            return Ok(true);
        }
        let held = |worker: &&Worker| worker.is_held();
        let held = self.supervisor.workers().find(held).map(|it| it.id);
        if let Some(id) = held {
            self.step(Event::Held(id, false), true)?;
            return Ok(true);
        }
        let unexecuted = self.processes.iter_mut();
        if let Some((id, process)) = unexecuted.into_iter().find(|(_, it)| !it.executed) {
            process.executed = true;
            let id = *id;
            self.step(Event::Executed(id), true)?;
            return Ok(true);
        }
        let ends = |(_, it): &(&WorkerId, &super::world::Process)| it.told && !it.unkillable;
        let ending = self.processes.iter().find(ends);
        if let Some((id, has_leader)) = ending.map(|(id, it)| (*id, it.leader)) {
            if has_leader {
                self.exit(id, ExitStatus::Exited(0), false)?;
            } else {
                self.emptied(id)?;
            }
            return Ok(true);
        }
        let can_say = |worker: &&Worker| match worker.policy.ready {
            Readiness::Auto | Readiness::Notify | Readiness::Heartbeat => worker.is_starting(),
            Readiness::Delay(_) | Readiness::Exec | Readiness::Fd(_) => false,
        };
        let Some(worker) = self.supervisor.workers().find(can_say) else {
            return Ok(false);
        };
        let (id, ready) = (worker.id, worker.policy.ready);
        let word = if ready == Readiness::Heartbeat {
            WorkerMessage::Beat
        } else {
            WorkerMessage::Ready
        };
        self.step(Event::Said(id, word), true)?;
        Ok(true)
    }

    fn beat(&mut self) -> Check {
        let timed = self.supervisor.workers().filter(|it| it.is_timed());
        let timed: Vec<WorkerId> = timed.map(|worker| worker.id).collect();
        for id in timed {
            self.step(Event::Said(id, WorkerMessage::Beat), true)?;
        }
        Ok(())
    }
}
