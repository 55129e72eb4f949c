//! The count of what is under way, and its end: the core of a graceful close, with no socket in it.
//!
//! Accepting and closing race: a client that was just taken out of the queue must either be counted before the close looks, or stay in the queue for
//! somebody else. So whoever accepts *enters* before, and what was accepted is counted before the entrance is given up; once the gate is
//! closed nobody enters, and the wait is over when neither entrances nor connections are left.
//!
//! It knows nothing of sockets, threads or runtimes, so it serves an async program as well: enter before the accept, keep the [`Ticket`] in the task.

use std::time::Duration;

use super::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Counts connections, until it is closed and the last is gone. A copy is the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inside: Mutex<Inside>,
    empty: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    closed: bool,
    /// Accepts under way.
    entered: usize,
    /// Connections.
    open: usize,
}

impl Inside {
    fn is_empty(&self) -> bool {
        self.entered == 0 && self.open == 0
    }
}

impl Gate {
    /// An open gate.
    pub fn new() -> Gate {
        Gate::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics while it is locked; and numbers cannot be left half written.
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before an accept, and kept until it is known what came of it. None once the gate is closed.
    pub fn enter(&self) -> Option<Entrance> {
        let mut inside = self.lock();
        if inside.closed {
            return None;
        }
        inside.entered += 1;
        drop(inside);
        Some(Entrance { gate: self.clone() })
    }

    /// From now on nobody enters. Does not wait.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.lock().open
    }

    /// Waits until nobody is inside, for as long as `left` says: it is asked before each wait how much longer it may be (None: for ever). Whether
    /// nobody is.
    pub fn wait(&self, mut left: impl FnMut() -> Option<Duration>) -> bool {
        let mut inside = self.lock();
        while !inside.is_empty() {
            inside = match left() {
                None => self
                    .0
                    .empty
                    .wait(inside)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return false,
                Some(left) => {
                    let waited = self.0.empty.wait_timeout(inside, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// Has whoever waits ask again how much longer it may be.
    pub fn wake(&self) {
        // Locked, so that nobody stands between asking and waiting.
        let inside = self.lock();
        self.0.empty.notify_all();
        drop(inside);
    }

    fn leave(&self, change: impl FnOnce(&mut Inside)) {
        let mut inside = self.lock();
        change(&mut inside);
        if inside.is_empty() {
            // Whoever waits may do so before the close, too.
            self.0.empty.notify_all();
        }
    }
}

/// The right to accept one connection.
#[derive(Debug)]
#[must_use = "dropped, it is given up"]
pub struct Entrance {
    gate: Gate,
}

impl Entrance {
    /// A connection was accepted: it counts until the ticket is dropped, which is to be after it was closed.
    pub fn admit(self) -> Ticket {
        // Before the entrance is given up at the end of this function, so that at no moment it is neither.
        self.gate.lock().open += 1;
        Ticket {
            gate: self.gate.clone(),
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.gate.leave(|inside| inside.entered -= 1);
    }
}

/// A connection that counts as open.
#[derive(Debug)]
#[must_use = "the connection counts until it is dropped"]
pub struct Ticket {
    gate: Gate,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.leave(|inside| inside.open -= 1);
    }
}
