//! The supervisor: takes an event, decides, and says what is to be done.
//!
//! [`Supervisor::step`] hands each event to the file that it concerns; after every event `settle`
//! compares what is with what is wanted and takes the next steps. So an interrupted plan needs no
//! undoing: it is planned anew.
//!
//! | file | decides |
//! | --- | --- |
//! | [`commands`] | what clients and signals ask for, and what collides with what |
//! | [`slots`] | which slot gets a worker now, and from which generation; a worker's effects |
//! | [`worker_exit`] | what the end of a worker means: back-off, failed starts, giving up |
//! | [`timers_due`] | what happens because time has passed; when heartbeats are looked at |
//! | [`scale`] | the number of slots; pause and resume |
//! | [`restart_worker`] | one slot's worker replaced on request |
//! | [`retire`] | limits on drains, and their end |
//! | [`leftovers`] | what workers leave behind outside their groups |
//! | [`stop`] | the end of the service |
//! | [`count`] | what workers have done, in totals |
//! | [`snapshot`] | how the state is described for display |
//!
//! Rollouts are decided in [`rollout`](super::rollout), the move to another master in
//! [`fork`](super::fork), one worker's life in [`worker`](super::worker). All of it acts on the
//! values in [`state`](super::state). Which event goes where stands in [`event`](super::event).

pub mod commands;
pub mod count;
pub mod leftovers;
pub mod restart_worker;
pub mod retire;
pub mod scale;
pub mod slots;
pub mod snapshot;
pub mod stop;
pub mod timers_due;
pub mod worker_exit;

use std::rc::Rc;

use super::action::Action;
use super::event::{Event, WorkerMessage};
use super::fact::Fact;
use super::operation::OperationKind;
use super::peer::ASK_AFTER;
use super::releases::PinnedRelease;
use super::state::Supervisor;
use super::state::changes::Mode;
use super::state::rollout::Pinning;
use super::time::Time;
use super::timer::Timer;
use super::turn::Turn;
use super::worker::Input;

impl Supervisor {
    /// When [`Event::Due`] is wanted; None: nothing is waited for, however long it takes.
    pub fn deadline(&self) -> Option<Time> {
        [self.timers.next(), self.next_start()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes one event; pushes what is to be done, in this order.
    pub fn step(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        if let Mode::Over = self.mode {
            return;
        }
        let turn = &mut Turn { now, out };
        match event {
            Event::Start(release) => self.start_service(turn, release),
            Event::Forked(worker, pid) => {
                self.change_worker(worker, |worker| worker.pid = Some(pid));
                if let Some(worker) = self.workers.get(&worker) {
                    turn.tell(Fact::WorkerStarted(worker.label()));
                }
                // A label, which no plan depends on.
                return;
            }
            Event::SpawnFailed(worker, why) => self.feed(turn, worker, Input::SpawnFailed(why)),
            Event::Executed(worker) => self.feed(turn, worker, Input::Executed),
            Event::ExecFailed(worker, why) => self.feed(turn, worker, Input::ExecFailed(why)),
            Event::Said(worker, message) => {
                if let (WorkerMessage::Ready | WorkerMessage::Beat, Some(speaker)) =
                    (message, self.workers.get(&worker))
                {
                    let generation = speaker.generation;
                    self.readiness_memory.record_notification(generation);
                }
                self.feed(turn, worker, Input::Said(message));
            }
            // The death that it may explain follows.
            Event::OomKills(reading, count) => return self.oom_kills(now, reading, count),
            Event::Exited {
                worker,
                ended,
                rest,
            } => self.feed(turn, worker, Input::Exited(ended, rest)),
            Event::Emptied(worker) => self.feed(turn, worker, Input::Emptied),
            Event::ListenersReleased(worker) => {
                self.change_worker(worker, |worker| worker.released_listeners = true);
            }
            Event::Held(worker, held) => self.feed(turn, worker, Input::Held(held)),
            Event::Dumping(worker, dumping) => self.feed(turn, worker, Input::Dumping(dumping)),
            Event::LeftBehind(found) => self.left_behind(found),
            Event::QueueDepths(depths) => self.queue_depths(turn, &depths),
            Event::Rebound(listener) => self.rebound(turn, listener),
            Event::Signal(signal, sender) => self.signal(turn, signal, sender),
            Event::Command(ticket, command) => self.command(turn, ticket, command),
            Event::Pinned(generation, policy, release) => {
                self.pinned(turn, generation, policy, release)
            }
            Event::PinFailed(generation, why) => self.pin_failed(turn, generation, why),
            Event::Peer(event) => self.peer_event(turn, event),
            // Totals, on which no plan depends.
            Event::Worked(worker, work) => return self.worked(worker, &work),
            Event::LogLinesLost(lines) => return self.log_lines_lost(lines),
            Event::LifelineEnded(fd, how) => self.lifeline_ended(turn, fd, how),
            Event::Due => self.due(turn),
        }
        self.settle(turn);
    }

    /// Takes the next steps until none is left. One step may make room for another (a slot that is
    /// taken, a rollout that is over), and no later event is sure to bring it about.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        loop {
            let before = turn.out.len();
            self.settle_once(turn);
            if turn.out.len() == before {
                return;
            }
        }
    }

    /// Compares what is with what is wanted and takes the next steps.
    fn settle_once(&mut self, turn: &mut Turn<'_>) {
        // Before the end of the service, which waits for those that are told here.
        self.settle_leftovers(turn);
        match self.mode {
            Mode::Running => {
                // Before the slots are filled: the first rollout fills the others once its canary
                // has passed.
                self.check_canary(turn.now);
                self.fill_slots(turn);
                self.settle_rollout(turn);
                self.settle_transfer(turn);
                self.settle_restarts(turn);
                self.settle_scaling(turn);
                self.follow_up(turn);
            }
            Mode::Paused(_) => {
                self.settle_pause(turn);
                self.settle_transfer(turn);
            }
            Mode::Stopping(_) => {
                // While a stop is only announced, a worker that dies is replaced: the service still
                // serves.
                if self.still_serves() {
                    self.fill_slots(turn);
                }
                self.settle_stop(turn);
            }
            Mode::Idle | Mode::Over => {}
        }
        self.settle_release_looks();
        self.settle_drains(turn);
        self.plan_next_look(turn.now);
    }

    fn start_service(&mut self, turn: &mut Turn<'_>, release: PinnedRelease) {
        let Mode::Idle = self.mode else { return };
        self.mode = Mode::Running;
        let policy = Rc::clone(&self.policy);
        let to = self.next_generation();
        let (kind, op) = match &self.peer {
            Some(peer) => {
                if peer.answers {
                    self.timers.set(Timer::Answer, turn.now + ASK_AFTER);
                }
                (OperationKind::Upgrade, peer.op)
            }
            None => {
                self.readiness_memory.begins(to, None);
                let kind = OperationKind::Start;
                (kind, turn.begin(&mut self.operations, kind, None))
            }
        };
        let pinning = Pinning {
            op,
            kind,
            to,
            is_copy: self.peer.as_ref().is_some_and(|peer| peer.is_copy),
        };
        self.begin_rollout(turn, pinning, policy, release);
    }
}
