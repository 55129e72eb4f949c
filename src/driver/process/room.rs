//! Room for one more worker, where the master has as many descriptors open as it may.
//!
//! What is missed least is closed first: the pidfds by which ends of leaders are found, for which
//! SIGCHLD and waitid(2) do as well. Then come the pipes of workers that are about to execute their
//! program: each closes by itself a moment later. Then the workers that were told to finish. So
//! many workers can be started at once where as many can be started one by one.

use std::time::Duration;

use super::Processes;
use crate::model::event::Event;
use crate::model::ids::WorkerId;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock;

/// How long the start of a worker waits for one that is about to execute its program.
const EXECUTED_WITHIN: Duration = Duration::from_millis(200);

/// How long it waits for one that was told to finish: a drain may take hours.
const ENDED_WITHIN: Duration = Duration::from_millis(100);

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl Processes {
    /// Waits for the end of a leader, if a worker was told to finish: those that have ended, not
    /// reaped yet. None: there is none.
    pub(in crate::driver) fn await_an_end(&mut self) -> Option<Vec<WorkerId>> {
        let until = clock::now() + ENDED_WITHIN;
        let is_told = self.by_id.values().any(|process| process.is_told);
        while is_told && clock::now() < until {
            let ended = self.ended_leaders(true);
            if !ended.is_empty() {
                return Some(ended);
            }
            clock::pause(LOOK_AGAIN);
        }
        None
    }

    /// Makes room, and returns the events that come of it; None: there is nothing to be had.
    pub(in crate::driver) fn make_room(&mut self) -> Option<Vec<Event>> {
        if self.exits.give_way(self.by_id.values_mut()) {
            return Some(Vec::new());
        }
        let starting: Vec<WorkerId> = self
            .by_id
            .values()
            .filter(|process| process.spawn_outcome.is_some())
            .map(|process| process.id)
            .collect();
        let until = clock::now() + EXECUTED_WITHIN;
        while self.is_one_decided(&starting, until) {
            let mut events = Vec::new();
            for id in &starting {
                self.read_spawn_outcome(*id, &mut events);
            }
            let is_closed = |id: &WorkerId| {
                let process = self.by_id.get(id);
                process.is_some_and(|process| process.spawn_outcome.is_none())
            };
            if starting.iter().any(is_closed) {
                return Some(events);
            }
        }
        None
    }

    /// Waits until one of these has reported something; false if none has until then.
    fn is_one_decided(&self, starting: &[WorkerId], until: Time) -> bool {
        let pipes: Vec<_> = starting
            .iter()
            .filter_map(|id| self.by_id.get(id)?.spawn_outcome.as_ref())
            .map(|pipe| (std::os::fd::AsFd::as_fd(pipe), Interest::READ))
            .collect();
        let mut poller = Poller::new();
        let ready = poller.wait(&pipes, Some(until));
        ready.is_ok_and(|ready| ready.iter().any(|ready| ready.any()))
    }
}
