//! One turn of the loop, in the order that makes races harmless.
//!
//! A leader's end is found before what workers have sent is read, and acted on after it. So
//! what a worker sent before it died, and what others sent before that, the model learns
//! first: a worker that reported ready and then died is never taken for one that died before it was
//! ready.

use std::time::Duration;

use crate::log::Log;
use crate::model::event::Event;
use crate::model::ids::WorkerId;
use crate::model::signal::{Sender, Signal};
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, PollSet, Poller, ReadySet};
use crate::sys::machine::clock;

use super::process::GuardCheck;
use super::state::{Driver, End, PeerMaster, ServiceManager};

/// How long the loop pauses when waiting fails, so that it is no busy loop.
const PAUSE: Duration = Duration::from_millis(50);

/// What the loop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PollKey {
    Signals,
    /// All workers: what they have sent, and their ends.
    Workers,
    /// The control socket: new clients.
    Control,
    /// The paths of control socket and pid file may be ours no more.
    Paths,
    /// The lifeline, until it has ended.
    Lifeline,
    /// The successor that is being checked.
    Successor,
    /// The other master, during an upgrade by fork.
    PeerMaster,
    /// A control connection, by its number.
    Client(u64),
}

/// The wait of the loop.
struct Waiter {
    poller: Poller,
    /// That waiting fails was logged.
    is_logged: bool,
}

impl Waiter {
    fn new() -> Self {
        Waiter {
            poller: Poller::new(),
            is_logged: false,
        }
    }

    fn wait(
        &mut self,
        set: &PollSet<'_, PollKey>,
        deadline: Option<Time>,
        log: &Log,
    ) -> ReadySet<PollKey> {
        match set.wait(&mut self.poller, deadline) {
            Ok(ready) => {
                self.is_logged = false;
                ready
            }
            Err(error) => {
                // ENOMEM, say. To look at everything is slower than to be told what is ready, and
                // never wrong: all descriptors are non-blocking.
                if !std::mem::replace(&mut self.is_logged, true) {
                    log.warn(format_args!(
                        "cannot wait: {error}: looking at everything instead"
                    ));
                }
                clock::pause(PAUSE);
                set.all_ready()
            }
        }
    }
}

impl Driver {
    /// Turns until the model says that the service has ended.
    pub(super) fn run_loop(&mut self) -> End {
        let mut waiter = Waiter::new();
        loop {
            // First, so that the last turn is reported too.
            self.report_state();
            self.clients.tell_events(&self.events);
            if let Some(end) = self.end.take() {
                return end;
            }
            self.startup.free_memory(&self.supervisor);
            let ready = waiter.wait(&self.poll_set(), self.deadline(), &self.log);
            self.turn(&ready);
        }
    }

    /// Tells the service manager and the process that launched the service what has changed.
    fn report_state(&mut self) {
        if self.is_known_to_service_manager()
            && let Some(service_manager) = &mut self.service_manager
        {
            service_manager.report(&self.supervisor, &self.log);
        }
        self.startup.report(&self.supervisor);
    }

    /// A new master does not report to the service manager as long as the old master lives.
    fn is_known_to_service_manager(&self) -> bool {
        self.supervisor.is_service()
    }

    fn poll_set(&self) -> PollSet<'_, PollKey> {
        let mut set = PollSet::new();
        set.add(PollKey::Signals, self.signals.fd(), Interest::READ);
        set.add(PollKey::Workers, self.processes.fd(), Interest::READ);
        if let Some(control) = self.published.control()
            && self.admission.is_open()
        {
            set.add(PollKey::Control, control.fd(), Interest::READ);
        }
        if let Some(watch) = self.published.watch_fd() {
            set.add(PollKey::Paths, watch, Interest::READ);
        }
        if let Some(lifeline) = self.lifeline.as_ref().filter(|_| !self.lifeline_ended) {
            set.add(PollKey::Lifeline, lifeline.fd(), Interest::READ);
        }
        if let Some(preflight) = &self.preflight {
            set.add(PollKey::Successor, preflight.fd(), Interest::READ);
        }
        if let Some(peer) = &self.peer {
            set.add(PollKey::PeerMaster, peer.fd(), Interest::READ);
        }
        for (number, fd, interest) in self.clients.interests() {
            set.add(PollKey::Client(number), fd, interest);
        }
        set
    }

    /// When to turn though nothing is ready.
    fn deadline(&self) -> Option<Time> {
        let service_manager = self.service_manager.as_ref();
        let deadlines = [
            self.supervisor.deadline(),
            self.clients.deadline(),
            self.admission.deadline(),
            self.published.look_at(),
            self.processes.guard_deadline(),
            self.processes.orphans_deadline(),
            self.leftovers.deadline(),
            self.preflight.as_ref().map(|it| it.deadline()),
            service_manager
                .filter(|_| self.is_known_to_service_manager())
                .and_then(ServiceManager::deadline),
            self.peer.as_ref().and_then(PeerMaster::deadline),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn turn(&mut self, ready: &ReadySet<PollKey>) {
        let now = clock::now();
        self.status_of_turn = None;
        self.admission.resume(now);
        // First of all: the model must not leave the service to a master that is dead, and a client
        // that has seen the end of the other master must not find that master here.
        self.read_peer_master(now);
        // Read in every turn: a signal that arrived while the wait returned for another reason is
        // handled before the requests that came after it.
        let signals = self.signals.pending();
        let sigchld = signals.iter().any(|(signal, _)| *signal == Signal::Chld);
        let workers = ready.is_ready(PollKey::Workers);
        let orphans = self.processes.orphans_deadline();
        let orphans = orphans.is_some_and(|at| at <= now);
        if sigchld || workers || orphans {
            self.turn_of_workers(sigchld || orphans, workers, now);
        }
        if sigchld || self.processes.guard_deadline().is_some_and(|at| at <= now) {
            self.check_guard(now);
        }
        for (signal, sender) in signals {
            if signal != Signal::Chld {
                self.receive_signal(signal, sender);
            }
        }
        if ready.is_ready(PollKey::Paths) || self.published.look_at().is_some_and(|at| at <= now) {
            self.mend_paths(now);
        }
        if ready.is_ready(PollKey::Lifeline) {
            self.look_at_lifeline();
        }
        self.read_clients(ready, now);
        if ready.is_ready(PollKey::Control) {
            // Clients that leave make room for those that come.
            self.clients.flush();
            self.accept_clients();
        }
        if self
            .supervisor
            .deadline()
            .is_some_and(|at| at <= clock::now())
        {
            self.feed(Event::Due);
        }
        if self.leftovers.deadline().is_some_and(|at| at <= now) {
            self.look_for_leftovers();
        }
        self.answer_waiters();
        self.clients.flush();
        // Last: the exec that may follow leaves no work behind.
        self.read_preflight(now);
    }

    /// The part of a turn that is about workers. `sigchld`: a child has changed its state;
    /// `readable`: a worker has sent something, or its leader has ended.
    fn turn_of_workers(&mut self, sigchld: bool, readable: bool, now: Time) {
        let ended = self.processes.ended_leaders(sigchld);
        if readable {
            for event in self.processes.read_workers(now) {
                self.feed(event);
            }
            self.log_ack_warnings();
        }
        if sigchld || !ended.is_empty() {
            self.reap_workers(&ended, now);
        }
    }

    /// Acts on the ends of leaders and of groups, and reaps orphans.
    pub(super) fn reap_workers(&mut self, ended: &[WorkerId], now: Time) {
        let readings = self.processes.oom_readings(ended);
        for id in ended {
            for event in self.processes.read_last_messages(*id, now) {
                self.feed(event);
            }
            // Before the reap: after it, what the worker has used, and its cgroup, are not known.
            if let Some(event) = self.processes.last_work(*id, now) {
                self.feed(event);
            }
            let reading = readings.get(id);
            if let Some(event) = reading.and_then(|it| self.processes.oom_kills(*id, *it)) {
                self.feed(event);
            }
            if let Some(event) = self.processes.reap_leader(*id) {
                self.feed(event);
            }
        }
        if !ended.is_empty() {
            for label in self.listeners.mend(&self.log) {
                self.feed(Event::Rebound(label));
            }
        }
        let orphans = self.processes.reap_orphans(now);
        if !orphans.is_empty() {
            let count = orphans.len();
            self.log.debug(format_args!(
                "reaped {count} processes that are not workers"
            ));
        }
        let emptied = self.processes.forget_empty_groups();
        // A leader that has just been reaped may have left processes behind.
        if !ended.is_empty() || !emptied.is_empty() {
            self.leftovers.look_soon(now);
        }
        for event in emptied {
            self.feed(event);
        }
        if self.leftovers.forget(&orphans) {
            self.look_for_leftovers();
        }
        if !ended.is_empty() {
            self.tell_peer_counts();
        }
    }

    /// Starts the guard again if it is the child that has died. Without a guard the master goes on,
    /// and tries again.
    pub(super) fn check_guard(&mut self, now: Time) {
        match self.processes.check_guard(now) {
            GuardCheck::Alive => {}
            GuardCheck::Restarted => self.log.warn("the guard had died, and was started anew"),
            GuardCheck::Failed { error, first: true } => self
                .log
                .error(format_args!("cannot start the guard anew: {error}")),
            GuardCheck::Failed { first: false, .. } => {}
        }
    }

    /// Looks whether the lifeline has ended.
    fn look_at_lifeline(&mut self) {
        let lifeline = self.lifeline.as_ref().filter(|_| !self.lifeline_ended);
        if let Some((number, how)) =
            lifeline.and_then(|lifeline| Some((lifeline.number(), lifeline.end()?)))
        {
            self.lifeline_ended = true;
            self.feed(Event::LifelineEnded(number, how));
        }
    }

    /// The master has got a signal.
    pub(super) fn receive_signal(&mut self, signal: Signal, sender: Sender) {
        self.log.debug(format_args!(
            "{signal} from {}",
            match sender {
                Sender::Terminal => "the terminal",
                Sender::Process => "a process",
            }
        ));
        // nohup, and a shell that starts a background job, ignore what the terminal sends. A signal
        // that a process sends is meant.
        if sender == Sender::Terminal && self.signals.was_ignored(signal) {
            return;
        }
        if signal == Signal::Usr2
            && let Some(why) = self.why_no_fork()
        {
            return self.log.warn(format_args!("USR2 refused: {why}"));
        }
        self.feed(Event::Signal(signal, sender));
    }
}
