//! What clients and signals ask for, and what collides with what.
//!
//! A stop ends anything. `rollback` ends a rollout. HUP and WINCH during one are deferred once and
//! follow it; a scale or resume that comes after that WINCH takes it back. reload, upgrade,
//! restart-worker, USR2, pause, and a change of the listeners during one are refused as busy.
//! scale, signal and reopen always work.

use std::fmt::{self, Display, Formatter};

use crate::model::action::{Action, PinSource, Refusal, SignalTarget};
use crate::model::event::{Command, Rehearsal, Scale};
use crate::model::fact::Fact;
use crate::model::fact::reasons::SignalReason;
use crate::model::fact::text::workers;
use crate::model::fork::begin::Fork;
use crate::model::ids::{OpId, Ticket};
use crate::model::operation::{OperationKind, Outcome};
use crate::model::peer::PeerSide;
use crate::model::policy::StopSeverity;
use crate::model::signal::{Sender, Signal};
use crate::model::state::Supervisor;
use crate::model::state::changes::Mode;
use crate::model::state::slot_sets::SlotSet;
use crate::model::turn::Turn;

/// An operation that others collide with.
struct UnderWay {
    op: OpId,
    kind: OperationKind,
    is_on_probation: bool,
    ends_by_rollback: bool,
}

impl Display for UnderWay {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let UnderWay { op, kind, .. } = self;
        let state = match self.is_on_probation {
            true => "on probation",
            false => "under way",
        };
        write!(f, "operation {op} ({kind}) is {state}")
    }
}

impl UnderWay {
    /// How to wait for it, and how to end it.
    fn with_ways_out(&self) -> String {
        let op = self.op;
        match self.ends_by_rollback {
            true => format!("{self} (wait --op {op} waits for it, rollback ends it)"),
            false => format!("{self} (wait --op {op} waits for it)"),
        }
    }
}

impl Supervisor {
    /// What is under way that a new rollout would collide with, for the log.
    pub(crate) fn busy(&self) -> Option<String> {
        self.under_way().map(|it| it.to_string())
    }

    /// The same for a client, which also reads what it can do about it.
    pub(crate) fn busy_for_client(&self) -> Option<String> {
        self.under_way().map(|it| it.with_ways_out())
    }

    /// Beside an old one: its first rollout has something to go back to.
    fn is_new_master(&self) -> bool {
        self.peer
            .as_ref()
            .is_some_and(|peer| peer.side == PeerSide::New)
    }

    fn under_way(&self) -> Option<UnderWay> {
        if let Some(rollout) = &self.rollout {
            return Some(UnderWay {
                op: rollout.op,
                kind: rollout.kind,
                is_on_probation: rollout.on_probation(),
                ends_by_rollback: rollout.from.is_some() || self.is_new_master(),
            });
        }
        let (op, kind) = match &self.pinning {
            Some(pinning) => (pinning.op, pinning.kind),
            None => {
                let restarting = self.first_slot_in(SlotSet::Restarting)?;
                let restart = self.slots.get(restarting)?.restart.as_ref()?;
                (restart.op, OperationKind::RestartWorker)
            }
        };
        Some(UnderWay {
            op,
            kind,
            is_on_probation: false,
            ends_by_rollback: false,
        })
    }

    /// Why a reload or an upgrade would be refused now, and how.
    pub fn why_no_rollout(&self) -> Option<(Refusal, String)> {
        match self.mode {
            Mode::Stopping(_) | Mode::Idle | Mode::Over => {
                Some((Refusal::Senseless, "the service is stopping".to_owned()))
            }
            Mode::Running | Mode::Paused(_) => match self.why_it_only_drains() {
                Some(why) => Some((Refusal::Senseless, why)),
                None => self.busy_for_client().map(|busy| (Refusal::Busy, busy)),
            },
        }
    }

    /// A client asks for something.
    pub(crate) fn command(&mut self, turn: &mut Turn<'_>, ticket: Ticket, command: Command) {
        let is_going = match self.mode {
            Mode::Stopping(_) | Mode::Idle | Mode::Over => true,
            Mode::Running | Mode::Paused(_) => false,
        };
        let works_while_stopping = match command {
            Command::Stop(_) | Command::Signal(..) | Command::Reopen | Command::Retire(_) => true,
            Command::Reload { .. }
            | Command::Upgrade
            | Command::Fork { .. }
            | Command::Rehearse(_)
            | Command::Rollback(_)
            | Command::Scale(_)
            | Command::Pause
            | Command::Resume
            | Command::RestartWorker(_)
            | Command::AddListeners { .. }
            | Command::RemoveListeners => false,
        };
        if is_going && !works_while_stopping {
            return turn.refuse(ticket, Refusal::Senseless, "the service is stopping");
        }
        if let Some(why) = self.why_it_only_drains().filter(|_| !works_while_stopping) {
            return turn.refuse(ticket, Refusal::Senseless, why);
        }
        let exclusive = match command {
            Command::Reload { .. }
            | Command::Upgrade
            | Command::Fork { .. }
            | Command::Rehearse(_)
            | Command::Pause
            | Command::RemoveListeners => true,
            // What holds already is done at once.
            Command::AddListeners { new } => new,
            Command::RestartWorker(_) => self.rollout.is_some() || self.pinning.is_some(),
            Command::Rollback(_) => self.rollout.is_none(),
            Command::Scale(_)
            | Command::Stop(_)
            | Command::Resume
            | Command::Reopen
            | Command::Signal(..)
            | Command::Retire(_) => false,
        };
        if exclusive && let Some(busy) = self.busy_for_client() {
            return turn.refuse(ticket, Refusal::Busy, busy);
        }
        let beside = match command {
            Command::Fork { .. } | Command::Rehearse(Rehearsal::Fork) => {
                self.why_no_fork_beside_peer()
            }
            Command::Upgrade | Command::Rehearse(Rehearsal::Upgrade) => {
                self.why_no_upgrade_beside_peer()
            }
            Command::Reload { .. }
            | Command::Rehearse(Rehearsal::Reload)
            | Command::Rollback(_)
            | Command::Scale(_)
            | Command::Stop(_)
            | Command::Pause
            | Command::Resume
            | Command::RestartWorker(_)
            | Command::Reopen
            | Command::Retire(_)
            | Command::AddListeners { .. }
            | Command::RemoveListeners
            | Command::Signal(..) => None,
        };
        if let Some(why) = beside {
            return turn.refuse(ticket, Refusal::Senseless, why);
        }
        match command {
            Command::Fork { manual } => {
                let fork = Fork {
                    manual,
                    ..Fork::default()
                };
                self.fork(turn, fork, Some(ticket));
            }
            Command::Rehearse(rehearsal) => self.rehearse(turn, rehearsal, ticket),
            Command::Upgrade => {
                let kind = OperationKind::Upgrade;
                self.lose_operations_of_peer(turn);
                self.pin(turn, kind, PinSource::Successor, Some(ticket));
            }
            Command::Reload { renewed } => {
                let asked = PinSource::Asked { ticket, renewed };
                self.pin(turn, OperationKind::Reload, asked, Some(ticket));
            }
            Command::Rollback(to) => self.rollback(turn, ticket, to),
            Command::Scale(scale) => self.scale(turn, scale, Some(ticket)),
            Command::Stop(severity) => self.stop_asked(turn, severity, Some(ticket)),
            Command::Pause => self.pause(turn, Some(ticket)),
            Command::Resume => self.resume(turn, Some(ticket)),
            Command::RestartWorker(slot) => self.restart_worker(turn, slot, ticket),
            Command::Reopen => self.reopen(turn, Some(ticket)),
            Command::Retire(generation) => self.retire(turn, generation, ticket),
            Command::Signal(signal, slot) => self.deliver(turn, signal, slot, ticket),
            Command::AddListeners { new } => self.add_listeners(turn, ticket, new),
            Command::RemoveListeners => {
                self.change_listeners(turn, OperationKind::RemoveListener, ticket);
            }
        }
    }

    /// Goes through a rollout with a copy of what serves. Reload, upgrade, upgrade by fork: each is
    /// refused where the real one would be.
    fn rehearse(&mut self, turn: &mut Turn<'_>, rehearsal: Rehearsal, ticket: Ticket) {
        let Some(serving) = self.serving else {
            return turn.refuse(ticket, Refusal::Senseless, "no generation serves yet");
        };
        match rehearsal {
            Rehearsal::Reload => {
                let source = PinSource::Of(serving);
                self.pin(turn, OperationKind::Reload, source, Some(ticket));
            }
            Rehearsal::Upgrade => {
                self.lose_operations_of_peer(turn);
                let source = PinSource::SameImage(serving);
                self.pin(turn, OperationKind::Upgrade, source, Some(ticket));
            }
            Rehearsal::Fork => {
                let fork = Fork {
                    is_copy: true,
                    ..Fork::default()
                };
                self.fork(turn, fork, Some(ticket));
            }
        }
    }

    fn reopen(&mut self, turn: &mut Turn<'_>, ticket: Option<Ticket>) {
        let op = turn.begin(&mut self.operations, OperationKind::Reopen, ticket);
        // The master first: a worker that reopens before it would find the old name.
        turn.act(Action::ReopenLogs);
        turn.act(Action::PassUsr1);
        turn.end(&mut self.operations, op, Outcome::done("logs reopened"));
    }

    fn deliver(&mut self, turn: &mut Turn<'_>, signal: Signal, slot: Option<u32>, ticket: Ticket) {
        let to: Vec<_> = match slot {
            None => self.workers.ids(),
            Some(number) => {
                let current = self
                    .slots
                    .get(number as usize)
                    .and_then(|slot| slot.current);
                let Some(current) = current else {
                    let text = format!("no worker holds slot {number}");
                    turn.refuse(ticket, Refusal::Senseless, text);
                    return;
                };
                vec![current]
            }
        };
        let op = turn.begin(&mut self.operations, OperationKind::Signal, Some(ticket));
        let message = format!("{signal} sent to {}", workers(to.len()));
        for id in to {
            if let Some(worker) = self.workers.get(&id) {
                let (to, why) = (SignalTarget::Leader, SignalReason::Requested);
                turn.tell(Fact::SignalSent(worker.label(), signal, to, why));
            }
            turn.act(Action::Deliver(id, signal));
        }
        turn.end(&mut self.operations, op, Outcome::done(message));
    }

    /// The master got a signal. A signal that the terminal itself sends means what a terminal means
    /// by it: a resize is no pause.
    pub(crate) fn signal(&mut self, turn: &mut Turn<'_>, signal: Signal, sender: Sender) {
        let terminal = sender == Sender::Terminal;
        match signal {
            Signal::Quit => self.stop_signalled(turn, signal, StopSeverity::Graceful),
            Signal::Term => self.stop_signalled(turn, signal, self.policy.term),
            Signal::Int => self.stop_signalled(turn, signal, StopSeverity::Quick),
            Signal::Hup if terminal => self.stop_signalled(turn, signal, StopSeverity::Graceful),
            Signal::Usr1 => self.reopen(turn, None),
            Signal::Winch | Signal::Ttin | Signal::Ttou if terminal => {}
            Signal::Hup | Signal::Winch | Signal::Ttin | Signal::Ttou | Signal::Usr2 => {
                self.managed(turn, signal)
            }
            // The driver does not handle these; were one to come, it would mean nothing.
            Signal::Ill
            | Signal::Trap
            | Signal::Abrt
            | Signal::Bus
            | Signal::Fpe
            | Signal::Kill
            | Signal::Segv
            | Signal::Pipe => {}
            Signal::Alrm
            | Signal::Chld
            | Signal::Cont
            | Signal::Stop
            | Signal::Tstp
            | Signal::Urg
            | Signal::Xcpu
            | Signal::Xfsz => {}
            Signal::Vtalrm | Signal::Prof | Signal::Io | Signal::Pwr | Signal::Sys => {}
        }
    }

    /// Signals that manage a running service; while it stops they mean nothing.
    fn managed(&mut self, turn: &mut Turn<'_>, signal: Signal) {
        if self.why_never_ready().is_some() {
            return turn.tell(Fact::SignalIgnored(signal));
        }
        let busy = self.busy();
        match (signal, busy) {
            (Signal::Hup, busy) => {
                turn.act(Action::ReopenLogs);
                match busy {
                    None => self.pin(turn, OperationKind::Reload, PinSource::Now, None),
                    Some(busy) => {
                        turn.tell(Fact::SignalDeferred(signal, busy));
                        self.deferred.hup = true;
                    }
                }
            }
            (Signal::Winch, None) => self.pause(turn, None),
            (Signal::Winch, Some(busy)) => {
                turn.tell(Fact::SignalDeferred(signal, busy));
                self.deferred.winch = true;
            }
            (Signal::Ttin, _) => self.scale(turn, Scale::By(1), None),
            (Signal::Usr2, busy) => match self.why_no_fork_beside_peer().or(busy) {
                None => {
                    let fork = Fork {
                        manual: true,
                        ..Fork::default()
                    };
                    self.fork(turn, fork, None)
                }
                Some(why) => turn.tell(Fact::SignalRefused(signal, why)),
            },
            // While paused there is nothing to take away.
            (Signal::Ttou, _) if self.mode.is_paused() => {}
            (Signal::Ttou, _) => self.scale(turn, Scale::By(-1), None),
            _other => {}
        }
    }

    /// A listener had to be made anew: the workers have the dead one, so they are rolled to a
    /// generation that has the new one.
    pub(crate) fn rebound(&mut self, turn: &mut Turn<'_>, listener: String) {
        let Mode::Running = self.mode else { return };
        if self.why_it_only_drains().is_some() {
            return;
        }
        match self.busy() {
            None => self.pin(turn, OperationKind::Reload, PinSource::Now, None),
            Some(busy) => {
                turn.tell(Fact::ReboundDeferred { listener, busy });
                self.deferred.hup = true;
            }
        }
    }

    /// What was deferred during a rollout follows it: first HUP, then WINCH.
    pub(crate) fn follow_up(&mut self, turn: &mut Turn<'_>) {
        if self.busy().is_some() {
            return;
        }
        if std::mem::take(&mut self.deferred.hup) {
            self.pin(turn, OperationKind::Reload, PinSource::Now, None);
        } else if std::mem::take(&mut self.deferred.winch) {
            self.pause(turn, None);
        }
    }
}
