//! Counts open connections, and waits until there are none: the core of a graceful close.
//!
//! Accepting and closing race: a client that was just accepted must be counted before the close
//! looks at the count, or it must stay in the queue for another process. So a thread *enters* the
//! gate before accept(2), and the connection is counted before the thread gives up its entrance. A
//! closed gate lets no thread in. The wait is over when there are neither entrances nor
//! connections.
//!
//! The gate knows nothing of sockets, threads or runtimes, so an async program can use it too:
//! enter before the accept, and keep the [`Ticket`] in the task.

use std::time::Duration;

use super::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Counts connections until it is closed and the last connection is gone. A clone is the same gate.
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
    /// Entrances: calls of accept(2) under way.
    entered: usize,
    /// Open connections.
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
        // No code panics while it holds the lock, and a number cannot be half written.
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the gate. Call it before an accept, and keep the entrance until the accept has
    /// returned. `None`: the gate is closed.
    pub fn enter(&self) -> Option<Entrance> {
        let mut inside = self.lock();
        if inside.closed {
            return None;
        }
        inside.entered += 1;
        drop(inside);
        Some(Entrance { gate: self.clone() })
    }

    /// Closes the gate: from now on [`enter`](Self::enter) returns `None`. Does not wait.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    /// Whether the gate is closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.lock().open
    }

    /// Waits until there are neither entrances nor connections, and returns true. `left` is called
    /// before each sleep and returns how much longer the wait may take (`None`: no limit). At zero
    /// the wait ends with false.
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

    /// Makes each thread in [`wait`](Self::wait) call its `left` again.
    pub fn wake(&self) {
        // Under the lock, so that no thread is between its call of `left` and its sleep: it would
        // miss the notification.
        let inside = self.lock();
        self.0.empty.notify_all();
        drop(inside);
    }

    fn leave(&self, change: impl FnOnce(&mut Inside)) {
        let mut inside = self.lock();
        change(&mut inside);
        if inside.is_empty() {
            // Also with an open gate: a thread may wait before the close.
            self.0.empty.notify_all();
        }
    }
}

/// The right to accept one connection.
#[derive(Debug)]
#[must_use = "dropping it gives up the right"]
pub struct Entrance {
    gate: Gate,
}

impl Entrance {
    /// Counts an accepted connection as open until the ticket is dropped. Drop it after closing the
    /// connection.
    pub fn admit(self) -> Ticket {
        // Count it before the entrance is dropped at the end of this function: at no moment the
        // client may be neither.
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
