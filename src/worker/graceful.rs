//! Listeners that count their connections and close gracefully (G2 to G5): [`GracefulListener`],
//! its connections [`Accepted`], and what it shares with the [server](super::server).

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;

use super::gate::{Gate, Ticket};
use super::shutdown::{Shutdown, ShutdownStage};
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::io::nonblocking;
use crate::sys::io::poll::{Interest, Poller, Ready};
use crate::sys::machine::clock;
use crate::sys::signal::shutdown::Finish;

/// One or several listeners that can be closed without losing a connection.
///
/// ```no_run
/// # fn serve(connection: prefork::Accepted) -> std::io::Result<()> { Ok(()) }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use prefork::{GracefulListener, Listeners, Shutdown, notify};
/// use std::time::Duration;
///
/// let listeners = Listeners::inherit_or_bind(["127.0.0.1:8080"])?;
/// let shutdown = Shutdown::on_signals()?;
/// let listener = GracefulListener::new(listeners)?;
/// notify::ready()?;
/// std::thread::scope(|scope| {
///     // On TERM: accepts no more, and waits for the open connections, 30 s at most.
///     let end = scope.spawn(|| listener.close_on(&shutdown, Some(Duration::from_secs(30))));
///     while let Some(connection) = listener.accept()? {
///         scope.spawn(move || serve(connection));
///     }
///     notify::stopping()?;
///     end.join().map_err(|_| "a panic")?.map_err(Into::into)
/// })
/// # }
/// ```
///
/// An accept waits for a client and for the close at the same time, so the sockets become
/// non-blocking, also for the other processes that share them. The sockets are closed and never
/// shut down: other processes may continue to accept on them (G4).
#[derive(Debug)]
pub struct GracefulListener {
    /// `None` once it is closed. Then the last thread in `accept` closes them, by dropping its
    /// `Arc`.
    sockets: Mutex<Option<Arc<[Socket]>>>,
    gate: Gate,
    closed: Finish,
    /// Which listener goes first; it changes each time, so that no listener is always served last.
    turn: AtomicUsize,
}

impl GracefulListener {
    /// Takes over listeners: [`Listeners`](super::listeners::Listeners), or listeners of std.
    ///
    /// # Errors
    /// A listener is not a socket that listens for connections, or there are too many descriptors.
    pub fn new<L: Into<OwnedFd>>(listeners: impl IntoIterator<Item = L>) -> Result<Self> {
        let sockets = listeners.into_iter().map(accepting);
        let sockets: Arc<[Socket]> = sockets.collect::<Result<_>>()?;
        let closed = Finish::new()
            .map_err(|error| Error::system("cannot make the event of a close", error))?;
        Ok(GracefulListener {
            sockets: Mutex::new(Some(sockets)),
            gate: Gate::new(),
            closed,
            turn: AtomicUsize::new(0),
        })
    }

    /// Waits for the next client. `None`: it was closed. Several threads may wait at the same time.
    ///
    /// # Errors
    /// Those of accept(2): EMFILE, ENFILE, ENOBUFS, ENOMEM (the client stays in the queue: wait a
    /// little before the next accept), EINVAL.
    pub fn accept(&self) -> io::Result<Option<Accepted>> {
        // The entrance is dropped after this thread's `Arc` of the sockets (in reverse order of
        // declaration): so the sockets are closed when a close returns.
        let Some(entrance) = self.gate.enter() else {
            return Ok(None);
        };
        let sockets = self.lock().clone();
        let Some(sockets) = sockets else {
            return Ok(None);
        };
        let mut poller = Poller::new();
        loop {
            let mut fds = vec![(self.closed.asked(), Interest::READ)];
            fds.extend(
                sockets
                    .iter()
                    .map(|socket| (socket.as_fd(), Interest::READ)),
            );
            let ready = poller.wait(&fds, None)?;
            let Some((closed, ready)) = ready.split_first() else {
                continue;
            };
            if closed.any() {
                return Ok(None);
            }
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            for socket in in_turn(&sockets, ready, turn) {
                if let Some(socket) = nonblocking::accept(socket)? {
                    let ticket = Arc::new(entrance.admit());
                    return Ok(Some(Accepted { socket, ticket }));
                }
            }
        }
    }

    /// Accepts no more: [`accept`](Self::accept) returns `None`, also to threads that wait in it.
    /// Clients in the queue stay there, for the other processes that share the socket. Does not
    /// wait.
    pub fn stop(&self) {
        self.gate.close();
        self.closed.ask(1);
        drop(self.lock().take());
    }

    /// Stops, and returns exactly when the last accepted connection is closed (G2).
    pub fn close(&self) {
        self.stop();
        self.gate.wait(|| None);
    }

    /// As [`close`](Self::close), but waits at most `limit`.
    ///
    /// # Errors
    /// Exit 1: connections are still open (G5).
    pub fn close_within(&self, limit: Duration) -> Result<()> {
        self.stop();
        let until = clock::now() + limit;
        if self.gate.wait(|| Some(until.since(clock::now()))) {
            return Ok(());
        }
        Err(self.unfinished(&format!("after {limit:?}")))
    }

    /// Waits until `shutdown` is requested, then closes as [`close_within`](Self::close_within).
    /// When an end at once is requested, it waits no longer (G5).
    ///
    /// # Errors
    /// Exit 1: connections are still open.
    pub fn close_on(&self, shutdown: &Shutdown, limit: Option<Duration>) -> Result<()> {
        let failed = |error| Error::system("cannot wait for the end", error);
        shutdown.wait().map_err(failed)?;
        self.stop();
        let until = limit.map_or(Time(u64::MAX), |limit| clock::now() + limit);
        let over = Finish::new().map_err(failed)?;
        let is_empty = std::thread::scope(|scope| {
            // The wait below sleeps on a condition variable, so another thread polls for a request
            // to end at once, and wakes it.
            scope.spawn(|| {
                let both = [
                    (shutdown.at_once(), Interest::READ),
                    (over.asked(), Interest::READ),
                ];
                let _ = Poller::new().wait(&both, None);
                self.gate.wake();
            });
            let left = || match (shutdown.stage(), limit) {
                (ShutdownStage::AtOnce, _) => Some(Duration::ZERO),
                (_, None) => None,
                (_, Some(_)) => Some(until.since(clock::now())),
            };
            let is_empty = self.gate.wait(left);
            over.ask(1);
            is_empty
        });
        match (is_empty, shutdown.stage(), limit) {
            (true, ..) => Ok(()),
            (_, ShutdownStage::Serving | ShutdownStage::Finishing, Some(limit)) => {
                Err(self.unfinished(&format!("after {limit:?}")))
            }
            _ => Err(self.unfinished("when an end at once was requested")),
        }
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.gate.open()
    }

    fn unfinished(&self, when: &str) -> Error {
        let what = "not every connection was finished";
        Error::new(Exit::Failed, what, format!("{} open {when}", self.open()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<[Socket]>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sockets at which clients wait. Each `turn` begins with another socket, so that no listener
/// is always served last.
pub(super) fn in_turn<'a>(
    sockets: &'a [Socket],
    ready: &'a [Ready],
    turn: usize,
) -> impl Iterator<Item = &'a Socket> {
    let both = sockets.iter().zip(ready).cycle();
    both.skip(turn % sockets.len().max(1))
        .take(sockets.len())
        .filter_map(|(socket, ready)| ready.any().then_some(socket))
}

/// The listener as a non-blocking socket, so that an accept never waits: another process that
/// shares the listener may accept the client first.
///
/// # Errors
/// It does not listen for connections, or is no socket.
pub(super) fn accepting(listener: impl Into<OwnedFd>) -> Result<Socket> {
    let socket = Socket::from(listener.into());
    let refused = |why: &dyn std::fmt::Display| {
        let at = socket.local_addr().ok().and_then(|at| at.as_socket());
        let which = at.map_or_else(|| "a listener".to_owned(), |at| format!("listener {at}"));
        Error::system(format!("cannot accept on {which}"), why)
    };
    match socket.is_listener() {
        Ok(true) => {}
        Ok(false) => return Err(refused(&"it does not listen for connections")),
        Err(error) => return Err(refused(&error)),
    }
    socket
        .set_nonblocking(true)
        .map_err(|error| refused(&error))?;
    Ok(socket)
}

/// A connection of a [`GracefulListener`]. It counts as open until it and all its clones are
/// dropped. A clone does not count again (G3).
#[derive(Debug)]
pub struct Accepted {
    // Field order: the socket is closed before the ticket stops counting.
    socket: Socket,
    ticket: Arc<Ticket>,
}

impl Accepted {
    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Another descriptor of the same connection.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn try_clone(&self) -> io::Result<Accepted> {
        Ok(Accepted {
            socket: self.socket.try_clone()?,
            ticket: Arc::clone(&self.ticket),
        })
    }

    /// The socket, to make a stream of std or of a runtime, and the ticket that counts it. Drop the
    /// ticket after closing the stream.
    pub fn into_parts(self) -> (Socket, Arc<Ticket>) {
        (self.socket, self.ticket)
    }
}

impl AsFd for Accepted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for &Accepted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(into)
    }
}

impl Read for Accepted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        (&self.socket).read(into)
    }
}

impl Write for &Accepted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Accepted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
