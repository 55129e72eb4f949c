//! What clients and signals ask for, and what collides with what.
//!
//! A stop ends anything. `rollback` ends a rollout. HUP and WINCH during one are deferred once and
//! follow it; a scale or resume that comes after that WINCH takes it back. reload, upgrade,
//! restart-worker, USR2, pause, and a change of the listeners during one are refused as busy.
//! scale, signal and reopen always work.

use crate::model::action::{Action, PinSource, Refusal};
use crate::model::event::{Command, Scale};
use crate::model::fact::Fact;
use crate::model::fact::text::workers;
use crate::model::ids::{OpId, Ticket};
use crate::model::operation::{OperationKind, Outcome};
use crate::model::policy::StopSeverity;
use crate::model::signal::{Sender, Signal};
use crate::model::state::Supervisor;
use crate::model::state::changes::Mode;
use crate::model::state::slot_sets::SlotSet;
use crate::model::turn::Turn;

impl Supervisor {
    /// What is under way that a new rollout would collide with.
    pub(crate) fn busy(&self) -> Option<String> {
        let under_way =
            |op: OpId, kind: OperationKind| Some(format!("operation {op} ({kind}) is under way"));
        if let Some(rollout) = &self.rollout {
            let (op, kind) = (rollout.op, rollout.kind);
            if rollout.on_probation() {
                return Some(format!(
                    "operation {op} ({kind}) is on probation (a rollback ends it)"
                ));
            }
            return under_way(op, kind);
        }
        if let Some(pinning) = &self.pinning {
            return under_way(pinning.op, pinning.kind);
        }
        let restarting = self.first_slot_in(SlotSet::Restarting)?;
        let restart = self.slots.get(restarting)?.restart.as_ref()?;
        under_way(restart.op, OperationKind::RestartWorker)
    }

    /// Why a reload or an upgrade would be refused now, and how.
    pub fn why_no_rollout(&self) -> Option<(Refusal, String)> {
        match self.mode {
            Mode::Stopping(_) | Mode::Idle | Mode::Over => {
                Some((Refusal::Senseless, "the service is stopping".to_owned()))
            }
            Mode::Running | Mode::Paused(_) => match self.why_it_only_drains() {
                Some(why) => Some((Refusal::Senseless, why)),
                None => self.busy().map(|busy| (Refusal::Busy, busy)),
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
        if exclusive && let Some(busy) = self.busy() {
            return turn.refuse(ticket, Refusal::Busy, busy);
        }
        let beside = match command {
            Command::Fork { .. } => self.why_no_fork_beside_peer(),
            Command::Upgrade => self.why_no_upgrade_beside_peer(),
            Command::Reload { .. }
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
            Command::Fork { manual } => self.fork(turn, manual, Some(ticket)),
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
        turn.out
            .extend(to.into_iter().map(|worker| Action::Deliver(worker, signal)));
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
                None => self.fork(turn, true, None),
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
