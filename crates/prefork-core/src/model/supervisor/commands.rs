//! What clients and signals ask for, and what collides with what.
//!
//! A stop ends anything. `rollback` ends a rollout. HUP and WINCH during one are remembered once and follow it; a
//! scale or resume that comes after that WINCH takes it back. reload, upgrade, restart-worker, USR2 and pause during one are refused as busy.
//! scale, signal and reopen always work.

use super::{Mode, Supervisor};
use crate::model::event::{Action, Command, Level, Outcome, Refusal, Scale, Source, Ticket};
use crate::model::policy::StopSeverity;
use crate::model::signal::{Sender, Signal};
use crate::model::time::Time;

impl StopSeverity {
    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            StopSeverity::Graceful => "graceful",
            StopSeverity::Quick => "quick",
            StopSeverity::Abort => "abort",
            StopSeverity::Kill => "kill",
        }
    }
}

impl Supervisor {
    /// What is under way that a new rollout would collide with.
    pub(crate) fn busy(&self) -> Option<String> {
        if let Some(rollout) = &self.rollout {
            if rollout.on_probation() {
                return Some(format!(
                    "operation {} ({}) is on probation (a rollback ends it)",
                    rollout.op, rollout.kind
                ));
            }
            return Some(format!(
                "operation {} ({}) is under way",
                rollout.op, rollout.kind
            ));
        }
        if let Some(pinning) = &self.pinning {
            return Some(format!(
                "operation {} ({}) is under way",
                pinning.op, pinning.kind
            ));
        }
        let restart = self.slots.iter().find_map(|slot| slot.restart.as_ref())?;
        Some(format!(
            "operation {} (restart-worker) is under way",
            restart.op
        ))
    }

    /// Why a reload or an upgrade would be refused now, and how.
    pub fn why_no_rollout(&self) -> Option<(Refusal, String)> {
        match self.mode {
            Mode::Stopping(_) | Mode::Idle | Mode::Over => {
                Some((Refusal::Senseless, "the service is stopping".to_owned()))
            }
            Mode::Running | Mode::Paused(_) => self.busy().map(|busy| (Refusal::Busy, busy)),
        }
    }

    /// A client asks for something.
    pub(crate) fn command(
        &mut self,
        now: Time,
        ticket: Ticket,
        command: Command,
        out: &mut Vec<Action>,
    ) {
        if let (Mode::Stopping(_) | Mode::Idle | Mode::Over, false) = (
            &self.mode,
            matches!(
                command,
                Command::Stop(_) | Command::Signal(..) | Command::Reopen | Command::Retire(_)
            ),
        ) {
            out.push(Action::Refused(
                ticket,
                Refusal::Senseless,
                "the service is stopping".into(),
            ));
            return;
        }
        let exclusive = match command {
            Command::Reload { .. } | Command::Upgrade | Command::Fork { .. } | Command::Pause => {
                true
            }
            Command::RestartWorker(_) => self.rollout.is_some() || self.pinning.is_some(),
            Command::Rollback => self.rollout.is_none(),
            Command::Scale(_)
            | Command::Stop(_)
            | Command::Resume
            | Command::Reopen
            | Command::Signal(..)
            | Command::Retire(_) => false,
        };
        if exclusive && let Some(busy) = self.busy() {
            out.push(Action::Refused(ticket, Refusal::Busy, busy));
            return;
        }
        if let (Command::Upgrade | Command::Fork { .. }, Some(why)) = (&command, self.has_other()) {
            out.push(Action::Refused(ticket, Refusal::Senseless, why));
            return;
        }
        match command {
            Command::Fork { manual } => self.fork(now, manual, Some(ticket), out),
            Command::Upgrade => self.pin(now, "upgrade", Source::Successor, Some(ticket), out),
            Command::Reload { renewed } => {
                let asked = Source::Asked { ticket, renewed };
                self.pin(now, "reload", asked, Some(ticket), out);
            }
            Command::Rollback => self.rollback(now, ticket, out),
            Command::Scale(scale) => self.scale(now, scale, Some(ticket), out),
            Command::Stop(word) => self.stop_asked(now, word, Some(ticket), out),
            Command::Pause => self.pause(now, Some(ticket), out),
            Command::Resume => self.resume(now, Some(ticket), out),
            Command::RestartWorker(slot) => self.restart_worker(now, slot, ticket, out),
            Command::Reopen => self.reopen(now, Some(ticket), out),
            Command::Retire(generation) => self.retire(now, generation, ticket, out),
            Command::Signal(signal, slot) => self.deliver(now, signal, slot, ticket, out),
        }
    }

    /// Ends a running rollout, or rolls to the generation before, under a new number: numbers are never used twice.
    fn rollback(&mut self, now: Time, ticket: Ticket, out: &mut Vec<Action>) {
        if self.rolls_back_to_the_other(now, ticket, out) {
            return;
        }
        if let Some(rollout) = &self.rollout {
            if rollout.from.is_none() {
                let text = "the first rollout has no generation to go back to".to_owned();
                out.push(Action::Refused(ticket, Refusal::Senseless, text));
                return;
            }
            let (slots, to) = (self.slots.len(), rollout.to);
            let op = self.operations.begin(now, "rollback", Some(ticket), out);
            out.push(Action::Progress(
                op,
                0,
                slots,
                format!("generation {to} is rolled back"),
            ));
            self.turn_back(
                now,
                format!("it was asked for by a rollback, operation {op}"),
                Some(op),
                out,
            );
            return;
        }
        match &self.previous {
            Some((generation, _)) => {
                let source = Source::Of(*generation);
                self.pin(now, "rollback", source, Some(ticket), out);
            }
            None => {
                let text = "there is no generation before this one".to_owned();
                out.push(Action::Refused(ticket, Refusal::Senseless, text));
            }
        }
    }

    fn reopen(&mut self, now: Time, ticket: Option<Ticket>, out: &mut Vec<Action>) {
        let op = self.operations.begin(now, "reopen", ticket, out);
        // The master first: a worker that reopens before it would find the old name.
        out.push(Action::ReopenLogs);
        out.push(Action::PassUsr1);
        self.operations.end(
            now,
            op,
            Outcome::Done("logs reopened".into(), Vec::new()),
            out,
        );
    }

    fn deliver(
        &mut self,
        now: Time,
        signal: Signal,
        slot: Option<u32>,
        ticket: Ticket,
        out: &mut Vec<Action>,
    ) {
        let to: Vec<_> = match slot {
            None => self.workers.keys().copied().collect(),
            Some(number) => {
                let current = self
                    .slots
                    .get(number as usize)
                    .and_then(|slot| slot.current);
                let Some(current) = current else {
                    let text = format!("no worker holds slot {number}");
                    out.push(Action::Refused(ticket, Refusal::Senseless, text));
                    return;
                };
                vec![current]
            }
        };
        let op = self.operations.begin(now, "signal", Some(ticket), out);
        let message = format!(
            "{signal} sent to {} worker{}",
            to.len(),
            if to.len() == 1 { "" } else { "s" }
        );
        out.extend(to.into_iter().map(|worker| Action::Deliver(worker, signal)));
        self.operations
            .end(now, op, Outcome::Done(message, Vec::new()), out);
    }

    /// The master got a signal. Those that the terminal itself sends mean what a terminal means by them: a resize is no pause.
    pub(crate) fn signal(
        &mut self,
        now: Time,
        signal: Signal,
        sender: Sender,
        out: &mut Vec<Action>,
    ) {
        let terminal = sender == Sender::Terminal;
        match signal {
            Signal::Quit => self.stop_signalled(now, signal, StopSeverity::Graceful, out),
            Signal::Term => self.stop_signalled(now, signal, self.policy.term, out),
            Signal::Int => self.stop_signalled(now, signal, StopSeverity::Quick, out),
            Signal::Hup if terminal => {
                self.stop_signalled(now, signal, StopSeverity::Graceful, out)
            }
            Signal::Usr1 => self.reopen(now, None, out),
            Signal::Winch | Signal::Ttin | Signal::Ttou if terminal => {}
            Signal::Hup | Signal::Winch | Signal::Ttin | Signal::Ttou | Signal::Usr2 => {
                self.managed(now, signal, out)
            }
            // Not asked for by the driver; were one to come, it would mean nothing.
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
    fn managed(&mut self, now: Time, signal: Signal, out: &mut Vec<Action>) {
        if matches!(self.mode, Mode::Stopping(_) | Mode::Over) {
            out.push(Action::note(
                Level::Info,
                format!("{signal} ignored: the service is stopping"),
            ));
            return;
        }
        let busy = self.busy();
        match (signal, busy) {
            (Signal::Hup, busy) => {
                out.push(Action::ReopenLogs);
                match busy {
                    None => self.pin(now, "reload", Source::Now, None, out),
                    Some(busy) => {
                        out.push(Action::note(
                            Level::Info,
                            format!("HUP is remembered: {busy}"),
                        ));
                        self.remembered.hup = true;
                    }
                }
            }
            (Signal::Winch, None) => self.pause(now, None, out),
            (Signal::Winch, Some(busy)) => {
                out.push(Action::note(
                    Level::Info,
                    format!("WINCH is remembered: {busy}"),
                ));
                self.remembered.winch = true;
            }
            (Signal::Ttin, _) => self.scale(now, Scale::By(1), None, out),
            (Signal::Usr2, busy) => match self.has_other().or(busy) {
                None => self.fork(now, true, None, out),
                Some(why) => {
                    out.push(Action::note(Level::Warn, format!("USR2 refused: {why}")));
                }
            },
            // While paused there is nothing to take away.
            (Signal::Ttou, _) if matches!(self.mode, Mode::Paused(_)) => {}
            (Signal::Ttou, _) => self.scale(now, Scale::By(-1), None, out),
            _other => {}
        }
    }

    /// A listener had to be made anew: the workers have the dead one, so they are rolled to a generation that has the new one.
    pub(crate) fn rebound(&mut self, now: Time, listener: &str, out: &mut Vec<Action>) {
        if !matches!(self.mode, Mode::Running) {
            return;
        }
        match self.busy() {
            None => self.pin(now, "reload", Source::Now, None, out),
            Some(busy) => {
                let text = format!("listener {listener} waits for its new workers: {busy}");
                out.push(Action::note(Level::Info, text));
                self.remembered.hup = true;
            }
        }
    }

    /// What was remembered during a rollout follows it: first HUP, then WINCH.
    pub(crate) fn follow_up(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.busy().is_some() {
            return;
        }
        if std::mem::take(&mut self.remembered.hup) {
            self.pin(now, "reload", Source::Now, None, out);
        } else if std::mem::take(&mut self.remembered.winch) {
            self.pause(now, None, out);
        }
    }
}
