//! Actions to system calls. Facts that come out of them go back to the model in the same turn.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::Result;
use crate::log::{About, Level as LogLevel};
use crate::model::action::{Action, PinSource, SignalTarget};
use crate::model::event::Event;
use crate::model::fact::reasons::SignalReason;
use crate::model::fact::{Fact, Level};
use crate::model::ids::{Generation, Ticket, WorkerId};
use crate::model::releases::PinnedRelease;
use crate::model::signal::Signal;
use crate::sys::machine::clock;
use crate::sys::process::proc_info;
use crate::sys::process::successor::Image;
use crate::wire::changes::Changes;

use super::pin::Pin;
use super::state::{Driver, End};

impl Driver {
    /// Hands an event to the model, performs the actions, and goes on with the events that come out
    /// of them until there are none.
    pub(super) fn feed(&mut self, event: Event) {
        self.status_of_turn = None;
        let mut events = VecDeque::from([event]);
        let mut actions = Vec::new();
        while let Some(event) = events.pop_front() {
            self.supervisor.step(clock::now(), event, &mut actions);
            let mut maybe_released = Vec::new();
            for action in actions.drain(..) {
                self.perform(action, &mut events, &mut maybe_released);
            }
            if !maybe_released.is_empty() {
                events.extend(self.find_released(&maybe_released));
            }
        }
    }

    fn perform(
        &mut self,
        action: Action,
        events: &mut VecDeque<Event>,
        maybe_released: &mut Vec<WorkerId>,
    ) {
        if let (Action::Pin(..), Some(service_manager)) = (&action, &mut self.service_manager) {
            // Before the pin can fail: a service manager that asked for the reload waits for
            // RELOADING=1.
            service_manager.reload_begins();
        }
        match action {
            Action::Spawn {
                worker,
                slot,
                generation,
            } => {
                let event = self.spawn(worker, slot, generation, events);
                events.push_back(event);
            }
            Action::Signal(worker, signal, to) => self.signal_worker(worker, signal, to),
            Action::Deliver(worker, signal) => self.deliver(worker, signal),
            Action::Pin(generation, PinSource::Successor) => {
                events.extend(self.check_upgrade(generation, Image::Next))
            }
            Action::Pin(generation, PinSource::SameImage(_)) => {
                events.extend(self.check_upgrade(generation, Image::Same));
            }
            Action::Pin(generation, PinSource::Now) => events.push_back(self.pin_now(generation)),
            Action::Pin(generation, PinSource::Asked { ticket, .. }) => {
                events.push_back(self.pin_asked(generation, ticket));
            }
            Action::Pin(generation, PinSource::Of(old)) => {
                events.push_back(self.pin_again(generation, old));
            }
            Action::Forget(generation) => {
                self.pins.forget(generation);
            }
            Action::LookAtBeat(worker) => events.extend(self.look_at_beat(worker)),
            // Collected: one scan of /proc serves all workers of this step.
            Action::LookForListeners(worker) => maybe_released.push(worker),
            Action::LookAtGroup(worker) => events.extend(self.processes.look_at_group(worker)),
            Action::Abandon(worker) => {
                events.extend(self.processes.last_work(worker, clock::now()));
                self.processes.remove(worker);
            }
            Action::LookForLeftovers => events.push_back(self.find_leftovers()),
            Action::SignalLeftover(id, signal) => self.leftovers.signal(id, signal, &self.log),
            Action::LookWhetherHeld(worker) => events.extend(self.look_whether_held(worker)),
            Action::LookWhetherDumping(worker) => events.extend(self.look_whether_dumping(worker)),
            Action::LookAtQueues => {
                events.push_back(Event::QueueDepths(self.listeners.queue_depths()));
            }
            Action::ReopenLogs => {
                self.reopen_logs();
                self.admission.read_token_again(&self.log);
                // Also for what a watch does not tell: a directory that was moved.
                self.mend_paths(clock::now());
            }
            Action::PassUsr1 => self.pass_usr1(),
            Action::SettleListeners(generation) => self.settle_listeners(generation),
            Action::CloseListeners => {
                // The pins share the master's copies; workers have their own.
                self.pins.forget_all();
                self.listeners.close();
                self.clients.drop_unsent_fds();
            }
            Action::Began(ticket, op) => self.clients.began(ticket, op),
            Action::Refused(ticket, refusal, message) => {
                self.clients.refused(ticket, refusal, message)
            }
            Action::Progress(op, done, total, message) => {
                self.clients.progress(op, done, total, &message)
            }
            Action::Finished(op, outcome) => {
                let outcome = self.outcome_of(op, outcome);
                outcome.notes.iter().for_each(|note| self.log.warn(note));
                self.clients.finished(op, &outcome);
            }
            Action::Peer(action) => events.extend(self.perform_for_peer(action)),
            Action::Tell(fact) => {
                self.write_fact(&fact);
                self.record_event(&fact);
                self.record_story(&fact);
            }
            Action::Exit(code, reason) => self.end = Some(End { code, reason }),
        }
    }

    fn spawn(
        &mut self,
        worker: WorkerId,
        slot: u32,
        generation: Generation,
        events: &mut VecDeque<Event>,
    ) -> Event {
        let Some(pin) = self.pins.get(generation).map(Rc::clone) else {
            return Event::SpawnFailed(worker, format!("generation {generation} is not pinned"));
        };
        self.warn_of_lowered_limit();
        let spawned = loop {
            match self.processes.spawn(&pin, worker, slot) {
                Err(failed) if failed.is_at_limit => match self.make_room() {
                    Some(come) => events.extend(come),
                    None => break Err(failed),
                },
                spawned => break spawned,
            }
        };
        match spawned {
            Ok(pid) => Event::Forked(worker, pid),
            Err(failed) => Event::SpawnFailed(worker, failed.why),
        }
    }

    /// Makes room for one more worker, where all descriptors are in use, and returns the events
    /// that come of it; None: there is nothing to be had.
    fn make_room(&mut self) -> Option<Vec<Event>> {
        if let Some(come) = self.processes.make_room() {
            return Some(come);
        }
        let ended = self.processes.await_an_end()?;
        let now = clock::now();
        let readings = self.processes.oom_readings(&ended);
        let mut come = Vec::new();
        for id in ended {
            come.extend(self.processes.read_last_messages(id, now));
            let reading = readings.get(&id);
            come.extend(reading.and_then(|it| self.processes.oom_kills(id, *it)));
            come.extend(self.processes.reap_leader(id));
        }
        let rebound = self.listeners.mend(&self.log);
        come.extend(rebound.into_iter().map(Event::Rebound));
        Some(come)
    }

    /// Says once that another process has lowered the hard limit of open files: workers get no more
    /// than that.
    fn warn_of_lowered_limit(&mut self) {
        if let Some((given, present)) = self.startup.lowered_limit(self.origin.nofile) {
            self.log.warn(format_args!(
                "the hard limit of open files was lowered from {given} to {present}: this holds \
                 for workers and for the next image too"
            ));
        }
    }

    /// Sends a signal that is to end a worker. CONT follows it, since a stopped process would never
    /// handle it.
    fn signal_worker(&mut self, worker: WorkerId, signal: Signal, to: SignalTarget) {
        let Some(process) = self.processes.get_mut(worker) else {
            return;
        };
        process.is_told = true;
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

    /// Sends a signal that a client asked for.
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

    /// Pins a generation as the file system stands now.
    pub(super) fn pin_now(&mut self, generation: Generation) -> Event {
        let pin = self.resolve_pin(generation, &Changes::default());
        self.pinned(generation, pin)
    }

    /// The same, as the request with this ticket asks for.
    fn pin_asked(&mut self, generation: Generation, ticket: Ticket) -> Event {
        let pin = self.pin_as_asked(generation, ticket);
        self.pinned(generation, pin)
    }

    /// Pins a generation to the facts of another.
    pub(super) fn pin_again(&mut self, generation: Generation, old: Generation) -> Event {
        match self.pins.get(old) {
            Some(pin) => {
                let listeners = pin.listeners.again(self.listeners.sockets());
                let pin = listeners
                    .and_then(|listeners| pin.renumbered(generation, listeners, pin.beat_fd));
                self.pinned(generation, pin)
            }
            None => Event::PinFailed(generation, format!("generation {old} is forgotten")),
        }
    }

    fn pinned(&mut self, generation: Generation, pin: Result<Pin>) -> Event {
        match pin.and_then(|pin| pin.prepare().map(|()| pin)) {
            Ok(pin) => {
                let policy = Rc::clone(&pin.policy);
                self.log.debug(format_args!(
                    "generation {generation}: {} in {}",
                    pin.program.display(),
                    pin.cwd.display()
                ));
                self.listeners.remember_all(pin.listeners.open());
                let release = PinnedRelease {
                    listeners: self.listeners.change_to(pin.listeners.open()),
                    ..self.pins.release_of(&pin)
                };
                self.pins.insert(pin);
                Event::Pinned(generation, policy, release)
            }
            Err(error) => Event::PinFailed(generation, error.to_string()),
        }
    }

    /// Whether the worker's heartbeat page has changed.
    fn look_at_beat(&mut self, worker: WorkerId) -> Option<Event> {
        let process = self.processes.get_mut(worker)?;
        let beat = process.beat.check_for_beat().unwrap_or(false);
        beat.then(|| process.beat(clock::now()))
    }

    /// Those of the workers that hold none of our listeners any more, neither their groups nor what
    /// they have started outside of these.
    fn find_released(&self, maybe_released: &[WorkerId]) -> Vec<Event> {
        let leaders: Vec<(WorkerId, i32)> = maybe_released
            .iter()
            .filter_map(|id| {
                self.processes
                    .get(*id)
                    .map(|process| (*id, process.group.leader()))
            })
            .collect();
        let numbers: Vec<i32> = leaders.iter().map(|(_, pid)| *pid).collect();
        let inodes = self.open_inodes();
        let members = proc_info::groups_members(&numbers);
        // A process that cannot be looked at may hold one.
        let hold_none = |pids: &[i32]| matches!(proc_info::holds_socket(pids, &inodes), Ok(false));
        let has_released = |id: WorkerId, pid: i32| {
            let members = members.get(&pid).map(Vec::as_slice).unwrap_or_default();
            hold_none(members) && hold_none(&self.started_by(id, pid))
        };
        leaders
            .iter()
            .filter(|(id, pid)| has_released(*id, *pid))
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

    fn reopen_logs(&mut self) {
        match self.log.reopen() {
            Ok(()) => self.log.debug("log reopened"),
            Err(error) => self
                .log
                .error(format_args!("the log stays where it was: {error}")),
        }
    }

    /// Sends USR1 to the workers that catch it; others would die of it (U15).
    fn pass_usr1(&mut self) {
        let usr1 = crate::sys::signal::number(Signal::Usr1);
        let mut reached = Vec::new();
        for process in self.processes.all().filter(|process| process.is_executed()) {
            if proc_info::catches(process.group.leader(), usr1) != Some(true) {
                continue;
            }
            match process.group.signal_leader(Signal::Usr1) {
                Ok(_) => reached.push(process.id),
                Err(error) => self.log.warn(format_args!(
                    "cannot send USR1 to process {}: {error}",
                    process.group.leader()
                )),
            }
        }
        for id in reached {
            let Some(worker) = self.supervisor.label(id) else {
                continue;
            };
            let (to, why) = (SignalTarget::Leader, SignalReason::Reopen);
            self.record_story(&Fact::SignalSent(worker, Signal::Usr1, to, why));
        }
    }

    /// A fact is a line of the log.
    fn write_fact(&self, fact: &Fact) {
        let about = fact.worker().map_or_else(About::default, |worker| About {
            slot: Some(worker.slot),
            worker_pid: worker.pid,
            generation: Some(worker.generation.0),
        });
        let level = match fact.level() {
            Level::Error => LogLevel::Error,
            Level::Warn => LogLevel::Warn,
            Level::Info => LogLevel::Info,
            Level::Debug => LogLevel::Debug,
        };
        self.log.write(level, about, fact);
    }
}
