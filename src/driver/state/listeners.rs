//! The sockets that all workers share.
//!
//! A worker can break a listener for all others by shutdown(2): after each exit the sockets are
//! looked at, and mended.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::rc::Rc;

use crate::log::Log;
use crate::sys::listener::accept_queue::Depths;
use crate::sys::listener::{Listener, Mended};

/// The listeners that new generations get.
pub(in crate::driver) struct ServiceListeners {
    sockets: Rc<Vec<Listener>>,
    /// The addresses that `--listen` named: an upgrade binds those that are new.
    option_addresses: Vec<String>,
    /// The accept queues that `--drain-queue` has seen empty, by the inode of their socket.
    seen_empty: HashSet<u64>,
}

impl ServiceListeners {
    pub(in crate::driver) fn new(sockets: Vec<Listener>, option_addresses: Vec<String>) -> Self {
        ServiceListeners {
            sockets: Rc::new(sockets),
            option_addresses,
            seen_empty: HashSet::new(),
        }
    }

    /// As [`ServiceListeners::new`], from the image before, which has seen these queues empty.
    pub(in crate::driver) fn taken_over(
        sockets: Vec<Listener>,
        option_addresses: Vec<String>,
        seen_empty: Vec<u64>,
    ) -> Self {
        ServiceListeners {
            seen_empty: seen_empty.into_iter().collect(),
            ..ServiceListeners::new(sockets, option_addresses)
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

    /// The inodes of the sockets whose queues have been seen empty.
    pub(in crate::driver) fn seen_empty(&self) -> Vec<u64> {
        self.seen_empty.iter().copied().collect()
    }

    /// A drain of the queues begins.
    pub(in crate::driver) fn forget_seen_empty(&mut self) {
        self.seen_empty.clear();
    }

    /// Looks at the accept queues; whether each has been seen empty by now. They need not be empty
    /// at the same moment: on a busy service they may never be.
    pub(in crate::driver) fn have_all_been_empty(&mut self) -> bool {
        let mut depths = Depths::new();
        for listener in self.sockets.iter() {
            // A socket without a queue, or whose queue cannot be read, delays no stop.
            let depth = depths.of(listener.as_fd()).ok().flatten();
            if depth.is_none_or(|depth| depth.queued == 0) {
                self.seen_empty.insert(listener.inode());
            }
        }
        self.iter()
            .all(|listener| self.seen_empty.contains(&listener.inode()))
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
                Ok(Mended::Sound(same)) => mended.push(same),
                Ok(Mended::Again(same)) => {
                    log.error(format_args!(
                        "listener {label} had been shut down, by a worker that has ended: \
                         it listens again"
                    ));
                    mended.push(same);
                }
                Ok(Mended::Anew(other)) => {
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
