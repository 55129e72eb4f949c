//! A worker can spoil a listener for all by shutdown(2): after each end the sockets are looked at, and mended.

use std::rc::Rc;

use crate::model::event::Event;
use crate::sys::listener::Mended;

use super::Driver;

impl Driver {
    /// After so many ends of workers: whether each listener still listens. A TCP socket listens again, and nobody need know; a Unix one
    /// has to be bound anew, and the workers, who have the dead one, are rolled.
    pub(super) fn look_at_listeners(&mut self, ends: usize) {
        if ends == 0
            || self
                .listeners
                .iter()
                .all(|listener| listener.still_listens())
        {
            return;
        }
        let mut rebound = Vec::new();
        let mut listeners = Vec::with_capacity(self.listeners.len());
        for listener in self.listeners.iter() {
            let label = listener.label();
            match listener.mend() {
                Ok(Mended::Sound(same)) => listeners.push(same),
                Ok(Mended::Again(same)) => {
                    self.log.error(format_args!("listener {label} had been shut down, by a worker that has ended: it listens again"));
                    listeners.push(same);
                }
                Ok(Mended::Anew(other)) => {
                    self.log.error(format_args!("listener {label} had been shut down, by a worker that has ended: bound anew, the workers are rolled"));
                    rebound.push(label);
                    listeners.push(other);
                }
                Err(error) => {
                    self.log.error(format_args!(
                        "listener {label} had been shut down and cannot be mended: {error}"
                    ));
                    return;
                }
            }
        }
        self.listeners = Rc::new(listeners);
        for label in rebound {
            self.feed(Event::Rebound(label));
        }
    }
}
