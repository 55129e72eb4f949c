//! The core of a graceful close in every order that its threads could come in: loom plays them all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use loom::sync::atomic::AtomicUsize as Queue;
use loom::thread;

use gate::{Gate, Ticket};

/// What the core synchronises with: here loom's.
mod sync {
    pub use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub use std::sync::PoisonError;
}

#[path = "../../../src/worker/gate.rs"]
#[expect(
    dead_code,
    reason = "the source as it is, of which the model needs a part"
)]
mod gate;

/// How often a thread may be preempted in each order that is tried. Nearly every defect needs one
/// or two; without a limit two acceptors have too many orders.
const INTERRUPTIONS: usize = 3;

fn in_every_order(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(INTERRUPTIONS);
    builder.check(model);
}

/// What must hold after a close. Only the gate and the queue are run in every order; the rest is
/// the test's own account.
struct World {
    gate: Gate,
    /// Clients in the kernel's queue.
    queued: Queue,
    accepted: AtomicUsize,
    finished: AtomicUsize,
    /// The close has returned.
    closed: AtomicBool,
}

impl World {
    fn new(queued: usize) -> Arc<World> {
        Arc::new(World {
            gate: Gate::new(),
            queued: Queue::new(queued),
            accepted: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// accept(2) on a socket that does not block.
    fn take(&self) -> bool {
        let taken = self
            .queued
            .fetch_update(SeqCst, SeqCst, |queued| queued.checked_sub(1));
        assert!(
            !self.closed.load(SeqCst) || taken.is_err(),
            "accepted after the close"
        );
        taken.is_ok()
    }

    fn accept(&self) -> Option<Ticket> {
        let entrance = self.gate.enter()?;
        if !self.take() {
            return None;
        }
        self.accepted.fetch_add(1, SeqCst);
        Some(entrance.admit())
    }

    fn finish(&self, ticket: Ticket) {
        self.finished.fetch_add(1, SeqCst);
        drop(ticket);
    }

    fn close(&self) {
        self.gate.close();
        assert!(self.gate.wait(|| None));
        let (accepted, finished) = (self.accepted.load(SeqCst), self.finished.load(SeqCst));
        assert_eq!(accepted, finished, "a connection was not waited for");
        self.closed.store(true, SeqCst);
    }

    /// Every client was served, or is in the queue still.
    fn assert_none_lost(&self, clients: usize) {
        let (finished, queued) = (self.finished.load(SeqCst), self.queued.load(SeqCst));
        assert_eq!(finished + queued, clients);
        assert_eq!(self.gate.open(), 0);
        assert!(self.gate.enter().is_none());
    }
}

#[test]
fn g2_racing_accept_and_close_counts_each_connection_once() {
    in_every_order(|| {
        let world = World::new(2);
        let acceptors: Vec<_> = (0..2)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    while let Some(ticket) = world.accept() {
                        world.finish(ticket);
                    }
                })
            })
            .collect();
        world.close();
        for acceptor in acceptors {
            acceptor.join().expect("no panic");
        }
        world.assert_none_lost(2);
    });
}

#[test]
fn g2_close_waits_for_connections_that_others_serve() {
    in_every_order(|| {
        let world = World::new(1);
        let acceptor = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let ticket = world.accept()?;
                let server = Arc::clone(&world);
                Some(thread::spawn(move || server.finish(ticket)))
            })
        };
        world.close();
        if let Some(server) = acceptor.join().expect("no panic") {
            server.join().expect("no panic");
        }
        world.assert_none_lost(1);
    });
}

#[test]
fn g2_two_closes_end_both() {
    in_every_order(|| {
        let world = World::new(1);
        let acceptor = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                if let Some(ticket) = world.accept() {
                    world.finish(ticket);
                }
            })
        };
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.close())
        };
        world.close();
        other.join().expect("no panic");
        acceptor.join().expect("no panic");
        world.assert_none_lost(1);
    });
}

#[test]
fn g5_a_second_stop_wakes_a_waiting_drain() {
    in_every_order(|| {
        let world = World::new(1);
        let held = world.accept().expect("it is not closed yet");
        let enough = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (world, enough) = (Arc::clone(&world), Arc::clone(&enough));
            thread::spawn(move || {
                let left = || enough.load(SeqCst).then_some(std::time::Duration::ZERO);
                assert!(!world.gate.wait(left), "a connection is open");
            })
        };
        enough.store(true, SeqCst);
        world.gate.wake();
        waiter.join().expect("no panic");
        world.finish(held);
        world.close();
        world.assert_none_lost(1);
    });
}
