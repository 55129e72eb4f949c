//! The sockets that all workers share.
//!
//! A worker can break a listener for all others by shutdown(2): after each exit the sockets are
//! looked at, and mended.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::rc::Rc;

use crate::log::Log;
use crate::model::event::QueueDepth;
use crate::sys::listener::accept_queue::QueueReader;
use crate::sys::listener::{Listener, Mended};

/// The listeners that new generations get.
pub(in crate::driver) struct ServiceListeners {
    sockets: Rc<Vec<Listener>>,
}

impl ServiceListeners {
    pub(in crate::driver) fn new(sockets: Vec<Listener>) -> Self {
        ServiceListeners {
            sockets: Rc::new(sockets),
        }
    }

    pub(in crate::driver) fn sockets(&self) -> &Rc<Vec<Listener>> {
        &self.sockets
    }

    pub(in crate::driver) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.sockets.iter()
    }

    pub(in crate::driver) fn inodes(&self) -> HashSet<u64> {
        self.iter().map(Listener::inode).collect()
    }

    /// Looks at the accept queues.
    pub(in crate::driver) fn queue_depths(&self) -> Vec<QueueDepth> {
        let mut reader = QueueReader::new();
        let depth = |listener: &Listener| QueueDepth {
            listener: listener.inode(),
            // A socket without a queue, or whose queue cannot be read, delays no stop.
            queued: match reader.depth(listener.as_fd()) {
                Ok(Some(depth)) => depth.queued,
                Ok(None) | Err(_) => 0,
            },
        };
        self.iter().map(depth).collect()
    }

    /// Mends the listeners that have been shut down; the labels of those that were bound anew.
    ///
    /// A TCP socket listens again, and no worker notices. A Unix socket has to be bound anew, and
    /// the workers, which have the dead one, have to be rolled.
    pub(in crate::driver) fn mend(&mut self, log: &Log) -> Vec<String> {
        let mut rebound = Vec::new();
        if self.iter().all(Listener::still_listens) {
            return rebound;
        }
        let mut mended = Vec::with_capacity(self.sockets.len());
        for listener in self.sockets.iter() {
            let label = listener.label();
            match listener.mend() {
                Ok(Mended::StillListens(same)) => mended.push(same),
                Ok(Mended::ListensAgain(same)) => {
                    log.error(format_args!(
                        "listener {label} had been shut down, by a worker that has ended: \
                         it listens again"
                    ));
                    mended.push(same);
                }
                Ok(Mended::BoundAnew(other)) => {
                    log.error(format_args!(
                        "listener {label} had been shut down, by a worker that has ended: \
                         bound anew, the workers are rolled"
                    ));
                    rebound.push(label);
                    mended.push(other);
                }
                Err(error) => {
                    log.error(format_args!(
                        "listener {label} had been shut down and cannot be mended: {error}"
                    ));
                    return Vec::new();
                }
            }
        }
        self.sockets = Rc::new(mended);
        rebound
    }

    /// Closes the master's own copies.
    pub(in crate::driver) fn close(&mut self) {
        self.sockets = Rc::default();
    }
}
