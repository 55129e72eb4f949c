//! Actions to system calls; facts that they yield go back to the model in the same turn.

use std::collections::{HashSet, VecDeque};
use std::os::fd::AsFd;
use std::rc::Rc;

use crate::error::Result;
use crate::log::{About, Level as LogLevel};
use crate::model::action::{Action, PinSource, SignalTarget};
use crate::model::event::Event;
use crate::model::ids::{Generation, Ticket, WorkerId};
use crate::model::fact::{Level, WorkerLabel};
use crate::model::signal::Signal;
use crate::sys::listener::accept_queue::QueueReader;
use crate::sys::machine::clock;
use crate::sys::process::proc_info;
use crate::wire::changes::Changes;

use super::pin::Pin;
use super::{Driver, End};

impl Driver {
    /// Hands an event to the model, performs what it says, and goes on until nothing more follows.
    pub(super) fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        let mut actions = Vec::new();
        while let Some(event) = events.pop_front() {
            self.supervisor.step(clock::now(), event, &mut actions);
            let mut suspects = Vec::new();
            for action in actions.drain(..) {
                self.perform(action, &mut events, &mut suspects);
            }
            if !suspects.is_empty() {
                events.extend(self.who_let_go(&suspects));
            }
        }
    }

    fn perform(
        &mut self,
        action: Action,
        events: &mut VecDeque<Event>,
        suspects: &mut Vec<WorkerId>,
    ) {
        if let (Action::Pin(..), Some(upward)) = (&action, &mut self.upward) {
            // Before it may fail: a manager that asked for it waits to hear that it began.
            upward.reload_begins();
        }
        match action {
            Action::Spawn {
                worker,
                slot,
                generation,
            } => events.push_back(self.spawn(worker, slot, generation)),
            Action::Signal(worker, signal, to) => self.signal_worker(worker, signal, to),
            Action::Deliver(worker, signal) => self.deliver(worker, signal),
            Action::Pin(generation, PinSource::Successor) => events.extend(self.upgrade(generation)),
            Action::Pin(generation, PinSource::Now) => events.push_back(self.pin_now(generation)),
            Action::Pin(generation, PinSource::Asked { ticket, .. }) => {
                events.push_back(self.pin_asked(generation, ticket));
            }
            Action::Pin(generation, PinSource::Of(old)) => {
                events.push_back(self.pin_again(generation, old));
            }
            Action::Forget(generation) => {
                self.pins.remove(&generation);
            }
            Action::LookAtBeat(worker) => events.extend(self.look_at_beat(worker)),
            // One scan of /proc serves all that are looked at together.
            Action::LookForListeners(worker) => suspects.push(worker),
            Action::LookAtGroup(worker) => events.extend(self.processes.look_at_group(worker)),
            Action::Abandon(worker) => {
                self.processes.remove(worker);
            }
            Action::LookWhetherHeld(worker) => events.extend(self.look_whether_held(worker)),
            Action::LookWhetherDumping(worker) => events.extend(self.look_whether_dumping(worker)),
            Action::LookAtQueues => events.extend(self.look_at_queues()),
            Action::AnnounceStop => self.seen_empty.clear(),
            Action::ReopenLogs => self.reopen_logs(),
            Action::PassUsr1 => self.pass_usr1(),
            Action::CloseListeners => {
                // Every pin holds the same copies; workers have their own.
                self.pins.clear();
                self.listeners = Rc::default();
            }
            Action::Began(ticket, op) => self.clients.began(ticket, op),
            Action::Refused(ticket, refusal, message) => {
                self.clients.refused(ticket, refusal, message)
            }
            Action::Progress(op, done, total, message) => {
                self.clients.progress(op, done, total, &message)
            }
            Action::Finished(op, outcome) => {
                let generation = self.supervisor.generation();
                self.clients.finished(op, &outcome, generation);
            }
            Action::Beside(deed) => events.extend(self.beside(deed)),
            Action::Note(level, subject, text) => self.note(level, subject, &text),
            Action::Exit(code, reason) => self.end = Some(End { code, reason }),
        }
    }

    fn spawn(&mut self, worker: WorkerId, slot: u32, generation: Generation) -> Event {
        let Some(pin) = self.pins.get(&generation).map(Rc::clone) else {
            return Event::SpawnFailed(worker, format!("generation {generation} is not pinned"));
        };
        match self.processes.spawn(&pin, worker, slot) {
            Ok(pid) => {
                self.log.debug(format_args!(
                    "slot {slot}: worker {pid} of generation {generation} started"
                ));
                Event::Forked(worker, pid)
            }
            Err(why) => Event::SpawnFailed(worker, why),
        }
    }

    /// What asks a worker to go is followed by CONT: a stopped process would never see it.
    fn signal_worker(&mut self, worker: WorkerId, signal: Signal, to: SignalTarget) {
        let Some(process) = self.processes.get(worker) else {
            return;
        };
        let send = |signal| match to {
            SignalTarget::Leader => process.group.signal_leader(signal),
            SignalTarget::Group => process.group.signal_group(signal),
        };
        let sent = match signal {
            Signal::Kill => send(signal),
            _ => send(signal).and_then(|reached| send(Signal::Cont).map(|_| reached)),
        };
        if let Err(error) = sent {
            self.log.error(format_args!(
                "cannot send {signal} to process {}: {error}",
                process.group.leader()
            ));
        }
    }

    fn deliver(&mut self, worker: WorkerId, signal: Signal) {
        let Some(process) = self.processes.get(worker) else {
            return;
        };
        if let Err(error) = process.group.signal_leader(signal) {
            self.log.error(format_args!(
                "cannot send {signal} to process {}: {error}",
                process.group.leader()
            ));
        }
    }

    /// Pins a generation as the world stands now.
    pub(super) fn pin_now(&mut self, generation: Generation) -> Event {
        let pin = self.pin_changed(generation, &Changes::default());
        self.pinned(generation, pin)
    }

    /// The same, with what a request changes.
    fn pin_asked(&mut self, generation: Generation, ticket: Ticket) -> Event {
        let asked = self.asked.take_if(|(by, _)| *by == ticket);
        let changes = asked.map(|(_, changes)| changes).unwrap_or_default();
        let pin = self.pin_changed(generation, &changes);
        self.pinned(generation, pin)
    }

    /// Pins a generation to what another was pinned to.
    fn pin_again(&mut self, generation: Generation, old: Generation) -> Event {
        match self.pins.get(&old) {
            Some(pin) => {
                let pin = pin.renumbered(generation);
                self.pinned(generation, pin)
            }
            None => Event::PinFailed(generation, format!("generation {old} is forgotten")),
        }
    }

    fn pinned(&mut self, generation: Generation, pin: Result<Pin>) -> Event {
        match pin {
            Ok(pin) => {
                let policy = Rc::clone(&pin.policy);
                self.log.debug(format_args!(
                    "generation {generation}: {} in {}",
                    pin.program.display(),
                    pin.cwd.display()
                ));
                self.pins.insert(generation, Rc::<Pin>::new(pin));
                Event::Pinned(generation, policy)
            }
            Err(error) => Event::PinFailed(generation, error.to_string()),
        }
    }

    fn look_at_beat(&mut self, worker: WorkerId) -> Option<Event> {
        let process = self.processes.get_mut(worker)?;
        let beat = process.beat.check_for_beat().unwrap_or(false);
        beat.then(|| process.beat(clock::now()))
    }

    /// Those among the suspects whose whole group holds none of our listeners any more.
    fn who_let_go(&self, suspects: &[WorkerId]) -> Vec<Event> {
        let leaders: Vec<(WorkerId, i32)> = suspects
            .iter()
            .filter_map(|id| {
                self.processes
                    .get(*id)
                    .map(|process| (*id, process.group.leader()))
            })
            .collect();
        let numbers: Vec<i32> = leaders.iter().map(|(_, pid)| *pid).collect();
        let inodes: HashSet<u64> = self
            .listeners
            .iter()
            .map(|listener| listener.inode())
            .collect();
        let members = proc_info::groups_members(&numbers);
        let let_go = |pid: &i32| {
            let members = members.get(pid).map(Vec::as_slice).unwrap_or_default();
            // What cannot be looked at may well hold one.
            matches!(proc_info::holds_socket(members, &inodes), Ok(false))
        };
        leaders
            .iter()
            .filter(|(_, pid)| let_go(pid))
            .map(|(id, _)| Event::ListenersReleased(*id))
            .collect()
    }

    fn look_whether_held(&self, worker: WorkerId) -> Option<Event> {
        let pid = self.processes.get(worker)?.group.leader();
        let stopped = matches!(proc_info::state(pid), Some('T' | 't'));
        let traced = proc_info::tracer(pid).is_some_and(|tracer| tracer != 0);
        Some(Event::Held(worker, stopped || traced))
    }

    fn look_whether_dumping(&self, worker: WorkerId) -> Option<Event> {
        let pid = self.processes.get(worker)?.group.leader();
        Some(Event::Dumping(worker, proc_info::is_dumping(pid)))
    }

    /// Each queue has to be seen empty once, not all at the same moment: somebody may always be knocking somewhere.
    fn look_at_queues(&mut self) -> Option<Event> {
        let mut queues = QueueReader::new();
        for listener in self.listeners.iter() {
            // A socket that has no queue, or none that can be read, holds nobody up.
            let queued = queues
                .depth(listener.as_fd())
                .ok()
                .flatten()
                .map_or(0, |depth| depth.queued);
            if queued == 0 {
                self.seen_empty.insert(listener.inode());
            }
        }
        let all = self
            .listeners
            .iter()
            .all(|listener| self.seen_empty.contains(&listener.inode()));
        all.then_some(Event::QueuesEmpty)
    }

    fn reopen_logs(&mut self) {
        match self.log.reopen() {
            Ok(()) => self.log.debug("log reopened"),
            Err(error) => self
                .log
                .error(format_args!("the log stays where it was: {error}")),
        }
    }

    /// USR1 goes on to workers that catch it; others would die of it (U15).
    fn pass_usr1(&mut self) {
        let usr1 = crate::sys::signal::number(Signal::Usr1);
        for process in self.processes.all().filter(|process| process.is_executed()) {
            if proc_info::catches(process.group.leader(), usr1) == Some(true)
                && let Err(error) = process.group.signal_leader(Signal::Usr1)
            {
                self.log.warn(format_args!(
                    "cannot send USR1 to process {}: {error}",
                    process.group.leader()
                ));
            }
        }
    }

    fn note(&self, level: Level, subject: Option<WorkerLabel>, text: &str) {
        let about = subject.map_or_else(About::default, |subject| About {
            slot: Some(subject.slot),
            worker_pid: subject.pid,
            generation: Some(subject.generation.0),
        });
        let level = match level {
            Level::Error => LogLevel::Error,
            Level::Warn => LogLevel::Warn,
            Level::Info => LogLevel::Info,
            Level::Debug => LogLevel::Debug,
        };
        self.log.write(level, about, text);
    }
}
