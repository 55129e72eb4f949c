//! One turn of the loop, in the order that makes a race harmless.
//!
//! 1. Wait for the signals, the workers' descriptors, the control connections, or the model's deadline.
//! 2. Look which leaders have ended, without reaping them.
//! 3. Hear what workers have said; a worker that has ended said it before that.
//! 4. Only then act on the ends, and reap orphans that have become ours.
//! 5. Signals to the master, control requests, deadlines.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::model::event::Event;
use crate::model::ids::WorkerId;
use crate::model::signal::{Sender, Signal};
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller, Ready};
use crate::sys::machine::clock;
use crate::sys::process::resident;

use super::fork::PeerMaster;
use super::service_manager::Upward;
use super::{Driver, End};

/// How long the master goes without a guard that could not be started until it tries again.
const GUARD_AGAIN: Duration = Duration::from_millis(500);

/// What the wait was ended by.
struct Woken {
    workers: bool,
    knocks: bool,
    clients: Vec<Ready>,
}

impl Driver {
    /// Turns until the model says that it is over.
    pub(super) fn turn_until_the_end(&mut self) -> End {
        let mut poller = Poller::new();
        loop {
            self.speak_up();
            if let Some(end) = self.end.take() {
                return end;
            }
            self.settle_down();
            let woken = self.wait(&mut poller);
            self.turn(&woken);
        }
    }

    /// Tells those above what has come of the turn: also of the last one.
    fn speak_up(&mut self) {
        if self.supervisor.role() != "new"
            && let Some(upward) = &mut self.upward
        {
            upward.speak(&self.supervisor, &self.log);
        }
        if self.supervisor.serves()
            && let Some(launcher) = self.launcher.take()
        {
            launcher.ready();
        }
    }

    /// What a start alone needs is not needed any more.
    fn settle_down(&mut self) {
        if self.starting && self.supervisor.is_ready() {
            self.starting = false;
            resident::release_code_pages();
        }
    }

    /// A new master is nobody to the manager as long as the old one lives.
    fn upward_to_speak(&self) -> Option<&Upward> {
        let speaks = self.supervisor.role() != "new";
        self.upward.as_ref().filter(|_| speaks)
    }

    fn wait(&mut self, poller: &mut Poller) -> Woken {
        let mut fds: Vec<(BorrowedFd<'_>, Interest)> = vec![
            (self.signals.fd(), Interest::READ),
            (self.processes.fd(), Interest::READ),
        ];
        let listening = self.control.as_ref().filter(|_| self.deaf_until.is_none());
        fds.extend(listening.map(|control| (control.fd(), Interest::READ)));
        // Somebody who knocks is looked for at the third place.
        let listens = listening.is_some();
        fds.extend(
            self.preflight
                .as_ref()
                .map(|preflight| (preflight.fd(), Interest::READ)),
        );
        fds.extend(
            self.other
                .as_ref()
                .map(|other| (other.fd(), Interest::READ)),
        );
        let first_client = fds.len();
        fds.extend(self.clients.interests());
        let model = self.supervisor.deadline();
        let deadlines = [
            model,
            self.clients.deadline(),
            self.deaf_until,
            self.guard_again,
            self.preflight
                .as_ref()
                .map(|preflight| preflight.deadline()),
            self.upward_to_speak().and_then(Upward::deadline),
            self.other.as_ref().and_then(PeerMaster::deadline),
        ];
        match poller.wait(&fds, deadlines.into_iter().flatten().min()) {
            Ok(ready) => {
                self.blindness_told = false;
                Woken {
                    workers: ready[1].any(),
                    knocks: listens && ready[2].any(),
                    clients: ready[first_client..].to_vec(),
                }
            }
            Err(error) => {
                // ENOMEM, say. Looking at everything is slower than being told, and never wrong.
                let clients = fds.len() - first_client;
                if !std::mem::replace(&mut self.blindness_told, true) {
                    self.log.warn(format_args!(
                        "cannot wait: {error}: looking at everything instead"
                    ));
                }
                clock::pause(Duration::from_millis(50));
                let all = Ready {
                    read: true,
                    write: true,
                    hangup: false,
                };
                Woken {
                    workers: true,
                    knocks: true,
                    clients: vec![all; clients],
                }
            }
        }
    }

    fn turn(&mut self, woken: &Woken) {
        let now = clock::now();
        self.deaf_until = self.deaf_until.filter(|until| *until > now);
        // First of all: nobody leaves the service to a master that is dead, and no client that has seen the end of one finds it here.
        self.hear_other(now);
        // Also if the wait did not tell of any: one that came while requests were there already is handled on the way out of the wait, and
        // whoever signals first and asks then is obeyed in that order.
        let signals = self.signals.pending();
        let children = signals.iter().any(|(signal, _)| *signal == Signal::Chld);
        let exits = if children {
            self.processes.exits()
        } else {
            Vec::new()
        };
        if woken.workers {
            for event in self.processes.hear(now) {
                self.feed(event);
            }
            self.tell_of_acks();
        }
        if children {
            self.reap_workers(&exits, now);
        }
        if children || self.guard_again.is_some_and(|at| at <= now) {
            self.see_to_guard(now);
        }
        for (signal, sender) in signals {
            if signal != Signal::Chld {
                self.signalled(signal, sender);
            }
        }
        // Those who leave make room for those who come.
        self.serve_clients(&woken.clients, now);
        if woken.knocks {
            self.flush_clients();
            self.admit();
        }
        if self
            .supervisor
            .deadline()
            .is_some_and(|at| at <= clock::now())
        {
            self.feed(Event::Due);
        }
        self.answer_waiters();
        self.flush_clients();
        // Last: an image that hands over has nothing left to do.
        self.hear_successor(now);
    }

    /// Acts on the ends of leaders and of groups.
    pub(super) fn reap_workers(&mut self, exits: &[WorkerId], now: Time) {
        for id in exits {
            for event in self.processes.hear_last_words(*id, now) {
                self.feed(event);
            }
            if let Some(event) = self.processes.reap(*id) {
                self.feed(event);
            }
        }
        self.look_at_listeners(exits.len());
        let strangers = self.processes.reap_strangers();
        if strangers > 0 {
            self.log.debug(format_args!(
                "reaped {strangers} processes that are not workers"
            ));
        }
        for event in self.processes.emptied() {
            self.feed(event);
        }
    }

    /// The guard may be the child that has died. Without one the master goes on, and tries again.
    pub(super) fn see_to_guard(&mut self, now: Time) {
        match self.processes.keep_guarded() {
            Ok(anew) => {
                self.guard_again = None;
                if anew {
                    self.log.warn("the guard had died, and was started anew");
                }
            }
            Err(error) => {
                if self.guard_again.replace(now + GUARD_AGAIN).is_none() {
                    self.log
                        .error(format_args!("cannot start the guard anew: {error}"));
                }
            }
        }
    }

    /// The master got a signal.
    pub(super) fn signalled(&mut self, signal: Signal, sender: Sender) {
        self.log.debug(format_args!(
            "{signal} from {}",
            match sender {
                Sender::Terminal => "the terminal",
                Sender::Process => "a process",
            }
        ));
        // nohup, and a shell that puts a job into the background, ask so for what the terminal sends; a process means what it says.
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
