//! What the model takes along through an upgrade in place.
//!
//! An upgrade in place begins only while no rollout, no restart of a worker, no stop and no upgrade
//! by fork is under way, so [`HandOver`] has no room for these: it is what *can* be handed over. An
//! old master that has handed the service over and drains is beside it at most.
//! How it is written down is the business of [`wire::handover`](crate::wire::handover).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Supervisor;
use super::changes::{DeferredSignals, Mode, Retiring, Scaling};
use super::oom::OomKills;
use super::peer::Peer;
use super::rollout::{Pinning, RolloutRecord};
use super::slot_sets::SlotSet;
use super::slots::{Slot, Slots};
use crate::model::backoff::{Backoff, Dice};
use crate::model::counters::{Counters, SlotTotals};
use crate::model::exit::LastExit;
use crate::model::ids::{Generation, OpId, WorkerId};
use crate::model::operation::{OperationKind, Operations};
use crate::model::peer::PeerSide;
use crate::model::policy::Policy;
use crate::model::readiness_memory::ReadinessMemory;
use crate::model::releases::Releases;
use crate::model::time::Time;
use crate::model::timer::{Timer, Timers};
use crate::model::worker::Worker;

/// A slot, as it can be between two rollouts.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "see `Slot`")]
pub struct SlotHandOver {
    pub current: Option<WorkerId>,
    pub down: Option<Generation>,
    pub backoff: Backoff,
    pub rests_until: Option<Time>,
    pub totals: SlotTotals,
    pub last_exit: Option<LastExit>,
}

/// The old master beside this one, which has handed the service over and only drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainingMaster {
    /// Its pid.
    pub pid: i32,
    /// The operation of the upgrade by fork, and the generation that it went to.
    pub upgrade: (OpId, Generation),
    /// Whether USR2 began that upgrade.
    pub manual: bool,
    /// It answers when it is asked.
    pub answers: bool,
    /// It has been asked, and must answer until then.
    pub answer_by: Option<Time>,
    /// The totals when it started this master.
    pub counters_at_fork: Counters,
    /// What it has told of its own since then, which is in this master's totals.
    pub counters_told: Counters,
}

/// The supervisor, as it can be handed over.
#[derive(Debug, Clone)]
pub struct HandOver {
    /// The operation of the upgrade, and the generation that the new image is to pin.
    pub upgrade: (OpId, Generation),
    /// The new image pins a copy of the generation that serves.
    pub is_copy: bool,
    /// The generation that serves.
    pub serving: Generation,
    /// The generations so far, and the releases that can be gone back to.
    pub releases: Releases,
    /// The settings of every generation that serves, served before or still has a worker.
    pub policies: BTreeMap<Generation, Rc<Policy>>,
    /// Whether the workers were sent away; the operation that waits for that.
    pub paused: Option<Option<OpId>>,
    /// The slots, from 0 on.
    pub slots: Vec<SlotHandOver>,
    /// Every worker of which something lives.
    pub workers: Vec<Worker>,
    /// Every deadline.
    pub timers: Vec<(Timer, Time)>,
    /// The state of the generator for jitter.
    pub seed: u64,
    /// The record of the last rollout.
    pub last_rollout: Option<RolloutRecord>,
    /// A change of the number of slots under way.
    pub scaling: Option<Scaling>,
    /// Drains that end now.
    pub retiring: Vec<Retiring>,
    /// Signals that follow the upgrade.
    pub deferred: DeferredSignals,
    /// The last operations.
    pub operations: Operations,
    /// Totals since the start.
    pub counters: Counters,
    /// The last number that a generation had.
    pub last_generation: u64,
    /// The last number that a worker had.
    pub last_worker: u64,
    /// Which commands' workers notify that they are ready.
    pub readiness_memory: ReadinessMemory,
    /// Failed starts in a row with no worker ready.
    pub consecutive_failed_starts: u32,
    /// The number of slots on the command line that started the service.
    pub configured: usize,
    /// The counts of OOM kills as they were read last, by cgroup.
    pub oom_kills: BTreeMap<String, u64>,
    /// The old master that still drains.
    pub draining_master: Option<DrainingMaster>,
}

impl Supervisor {
    /// What the next image needs.
    ///
    /// # Errors
    /// Something is under way that cannot be handed over; in words.
    pub fn hand_over(&self) -> Result<HandOver, String> {
        let paused = match self.mode {
            Mode::Running => None,
            Mode::Paused(op) => Some(op),
            Mode::Idle | Mode::Stopping(_) | Mode::Over => {
                return Err("the service starts or stops".to_owned());
            }
        };
        let serving = self.serving.ok_or("no generation serves yet")?;
        let draining_master = self.peer.as_ref().map(draining_master).transpose()?;
        if self.rollout.is_some() {
            return Err(UNDER_WAY.to_owned());
        }
        if self.count_slots(SlotSet::Restarting) > 0 {
            return Err("a worker is being replaced".to_owned());
        }
        // A rehearsal is no operation: it hands over what an upgrade would.
        let upgrade = match self.pinning {
            Some(pinning) if pinning.kind == OperationKind::Upgrade => (pinning.op, pinning.to),
            Some(_) => return Err("a generation is being pinned".to_owned()),
            None => (self.operations.next(), Generation(self.last_generation + 1)),
        };
        let mut policies: BTreeMap<Generation, Rc<Policy>> = self
            .workers
            .values()
            .map(|worker| (worker.generation, Rc::clone(&worker.policy)))
            .collect();
        policies.insert(serving, Rc::clone(&self.policy));
        let kept = self.releases.kept.iter();
        policies.extend(kept.map(|kept| (kept.generation, Rc::clone(&kept.policy))));
        Ok(HandOver {
            upgrade,
            is_copy: self.pinning.is_some_and(|pinning| pinning.is_copy),
            serving,
            releases: self.releases.clone(),
            policies,
            paused,
            slots: self.slots.iter().map(slot_hand_over).collect(),
            workers: self.workers.values().cloned().collect(),
            timers: self.timers.all().collect(),
            seed: self.dice.seed(),
            last_rollout: self.last_rollout.clone(),
            scaling: self.scaling.clone(),
            retiring: self.retiring.clone(),
            deferred: self.deferred,
            operations: self.operations.clone(),
            counters: self.counters,
            last_generation: self.last_generation,
            last_worker: self.last_worker,
            readiness_memory: self.readiness_memory.clone(),
            consecutive_failed_starts: self.consecutive_failed_starts,
            configured: self.configured,
            oom_kills: self.oom.seen(),
            draining_master,
        })
    }

    /// The supervisor of the image that takes over.
    ///
    /// # Errors
    /// The settings of the generation that serves are missing; in words.
    pub fn taken_over(state: HandOver) -> Result<Supervisor, String> {
        let policy = |generation: Generation| {
            let known = state.policies.get(&generation).map(Rc::clone);
            known.ok_or_else(|| format!("generation {generation} has no settings"))
        };
        let serving = policy(state.serving)?;
        let (op, to) = state.upgrade;
        let mut operations = state.operations;
        operations.share_except(state.draining_master.map(|master| master.upgrade.0));
        Ok(Supervisor {
            slots: Slots::taken_over(
                state
                    .slots
                    .into_iter()
                    .map(|slot| slot_taken_over(slot, &serving))
                    .collect(),
            ),
            workers: state.workers.into_iter().collect(),
            timers: Timers::taken_over(state.timers),
            mode: state.paused.map_or(Mode::Running, Mode::Paused),
            serving: Some(state.serving),
            releases: state.releases,
            pinning: Some(Pinning {
                op,
                kind: OperationKind::Upgrade,
                to,
                is_copy: state.is_copy,
            }),
            last_rollout: state.last_rollout,
            scaling: state.scaling,
            retiring: state.retiring,
            deferred: state.deferred,
            operations,
            counters: state.counters,
            last_generation: state.last_generation,
            last_worker: state.last_worker,
            readiness_memory: state.readiness_memory,
            consecutive_failed_starts: state.consecutive_failed_starts,
            configured: state.configured,
            peer: state.draining_master.map(peer_taken_over),
            dice: Dice::new(state.seed),
            oom: OomKills::taken_over(state.oom_kills),
            ..Supervisor::new(0, serving, state.seed)
        })
    }
}

const UNDER_WAY: &str = "a rollout is under way";

/// An old master that only drains goes on to do so beside the next image.
fn draining_master(peer: &Peer) -> Result<DrainingMaster, String> {
    match (peer.side, peer.handed_over, peer.pid) {
        (PeerSide::New, Some(to), Some(pid)) => Ok(DrainingMaster {
            pid,
            upgrade: (peer.op, to),
            manual: peer.manual,
            answers: peer.answers,
            answer_by: peer.answer_by,
            counters_at_fork: peer.counters_at_fork,
            counters_told: peer.counters_told,
        }),
        _ => Err(UNDER_WAY.to_owned()),
    }
}

fn peer_taken_over(known: DrainingMaster) -> Peer {
    let (op, to) = known.upgrade;
    Peer {
        pid: Some(known.pid),
        answers: known.answers,
        answer_by: known.answer_by,
        handed_over: Some(to),
        counters_at_fork: known.counters_at_fork,
        counters_told: known.counters_told,
        ..Peer::new(PeerSide::New, known.manual, op)
    }
}

fn slot_hand_over(slot: &Slot) -> SlotHandOver {
    SlotHandOver {
        current: slot.current,
        down: slot.down,
        backoff: slot.backoff,
        rests_until: slot.rests_until,
        totals: slot.totals,
        last_exit: slot.last_exit.clone(),
    }
}

fn slot_taken_over(state: SlotHandOver, policy: &Policy) -> Slot {
    Slot {
        current: state.current,
        down: state.down,
        backoff: state.backoff,
        rests_until: state.rests_until,
        totals: state.totals,
        last_exit: state.last_exit,
        ..Slot::new(policy)
    }
}
