//! The sockets that all workers share.
//!
//! A worker can break a listener for all others by shutdown(2), or a datagram socket by connect(2):
//! after each exit the sockets are looked at, and mended.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::rc::Rc;

use crate::log::Log;
use crate::model::event::QueueDepth;
use crate::model::releases::listener_change::{ListenerChange, ListenerLabel};
use crate::sys::listener::accept_queue::QueueReader;
use crate::sys::listener::address_owner::open_sockets;
use crate::sys::listener::{Listener, Mended};

/// The listeners that new generations get.
pub(in crate::driver) struct ServiceListeners {
    sockets: Rc<Vec<Listener>>,
    /// Every listener that the service has had, by its inode: a worker may have left a process
    /// behind that holds one which was closed here long ago.
    labels: BTreeMap<u64, String>,
}

impl ServiceListeners {
    pub(in crate::driver) fn new(sockets: Vec<Listener>) -> Self {
        let mut listeners = ServiceListeners {
            sockets: Rc::new(sockets),
            labels: BTreeMap::new(),
        };
        listeners.remember();
        listeners
    }

    pub(in crate::driver) fn sockets(&self) -> &Rc<Vec<Listener>> {
        &self.sockets
    }

    pub(in crate::driver) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.sockets.iter()
    }

    pub(in crate::driver) fn inodes(&self) -> BTreeSet<u64> {
        self.iter().map(Listener::inode).collect()
    }

    fn remember(&mut self) {
        let sockets = Rc::clone(&self.sockets);
        self.remember_all(&sockets);
    }

    /// These are listeners of the service, too: those of a generation that is rolled to.
    pub(in crate::driver) fn remember_all(&mut self, listeners: &[Listener]) {
        let each = listeners.iter();
        self.labels
            .extend(each.map(|listener| (listener.inode(), listener.address.to_string())));
    }

    /// What changes for the service if a generation has these.
    pub(in crate::driver) fn change_to(&self, others: &[Listener]) -> ListenerChange {
        let only_in = |these: &[Listener], those: &[Listener]| -> Vec<ListenerLabel> {
            let is_there = |it: &Listener| those.iter().any(|that| that.inode() == it.inode());
            these
                .iter()
                .filter(|it| !is_there(it))
                .map(label_of)
                .collect()
        };
        ListenerChange {
            added: only_in(others, &self.sockets),
            removed: only_in(&self.sockets, others),
        }
    }

    /// New generations get these from now on; one that was made anew meanwhile, because a worker
    /// had spoilt it, takes the place of the old one.
    pub(in crate::driver) fn settle(&mut self, pinned: &Rc<Vec<Listener>>) {
        let is_held = |it: &Listener| self.iter().any(|held| held.inode() == it.inode());
        let anew = |it: &Listener| {
            let same = |held: &&Listener| held.name == it.name && held.address == it.address;
            let is_free = |held: &&Listener| pinned.iter().all(|it| it.inode() != held.inode());
            self.iter()
                .filter(same)
                .find(is_free)
                .filter(|_| !is_held(it))
        };
        let is_stale = pinned.iter().any(|it| anew(it).is_some());
        let copies = is_stale.then(|| {
            let each = pinned.iter().map(|it| anew(it).unwrap_or(it).try_clone());
            each.collect::<crate::error::Result<Vec<_>>>()
        });
        self.sockets = match copies {
            Some(Ok(copies)) => Rc::new(copies),
            // Without room for copies: the next look at them mends what has to be mended.
            Some(Err(_)) | None => Rc::clone(pinned),
        };
        self.remember();
    }

    /// The inodes of all listeners that the service has had.
    pub(in crate::driver) fn all_inodes(&self) -> BTreeSet<u64> {
        self.labels.keys().copied().collect()
    }

    /// The addresses of these listeners, in their order.
    pub(in crate::driver) fn labels(&self, inodes: &BTreeSet<u64>) -> Vec<String> {
        let labels = self.labels.iter();
        let mut labels: Vec<String> = labels
            .filter(|(inode, _)| inodes.contains(inode))
            .map(|(_, label)| label.clone())
            .collect();
        labels.sort();
        labels.dedup();
        labels
    }

    /// The listeners that are open in some process, as far as the master knows: all, unless it has
    /// closed its own copies.
    pub(in crate::driver) fn open_elsewhere(&self) -> BTreeSet<u64> {
        let (all, held) = (self.all_inodes(), self.inodes());
        let others: BTreeSet<u64> = all.difference(&held).copied().collect();
        if others.is_empty() {
            return held;
        }
        match open_sockets(&others) {
            Some(open) => &open | &held,
            None => all,
        }
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
    /// A TCP or datagram socket serves again, and no worker notices. A Unix socket has to be bound
    /// anew, and the workers, which have the dead one, have to be rolled.
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
        self.remember();
        rebound
    }

    /// Closes the master's own copies.
    pub(in crate::driver) fn close(&mut self) {
        self.sockets = Rc::default();
    }
}

fn label_of(listener: &Listener) -> ListenerLabel {
    ListenerLabel {
        name: listener.name.as_ref().map(ToString::to_string),
        address: listener.address.to_string(),
    }
}
