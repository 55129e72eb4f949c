//! The sockets that all workers share.
//!
//! A worker can break a listener for all others by shutdown(2), or a datagram socket by connect(2):
//! after each exit the sockets are looked at, and mended.

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
    /// The addresses that `--listen` named: an upgrade binds those that are new.
    option_addresses: Vec<String>,
}

impl ServiceListeners {
    pub(in crate::driver) fn new(sockets: Vec<Listener>, option_addresses: Vec<String>) -> Self {
        ServiceListeners {
            sockets: Rc::new(sockets),
            option_addresses,
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

    pub(in crate::driver) fn option_addresses(&self) -> &[String] {
        &self.option_addresses
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

    /// Mends the listeners that have been shut down or connected; the labels of those that were
    /// bound anew.
    ///
    /// A TCP or datagram socket serves again, and no worker notices. A Unix socket has to be bound anew, and
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
                Ok(Mended::Disconnected(same)) => {
                    log.error(format_args!(
                        "listener {label} had been connected to one client, by a worker that has \
                         ended: it serves all clients again"
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
                        "listener {label} does not serve and cannot be mended: {error}"
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
