//! Listeners that count their connections and close gracefully (G2 to G5).

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::Socket;

use super::gate::{Gate, Ticket};
use super::shutdown::{Shutdown, Stage};
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
///     // TERM: accepts no more, and waits for those that were accepted, half a minute at most.
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
/// An accept waits on the listeners and on the close alike, so the sockets become non-blocking, for whoever shares them too. They are only closed, and never
/// shut down: other processes may go on with them (G4).
#[derive(Debug)]
pub struct GracefulListener {
    /// None once it is closed: then the last who still accepts closes them.
    sockets: Mutex<Option<Arc<[Socket]>>>,
    gate: Gate,
    closed: Finish,
    /// With whom to begin, so that no listener is served before another all the time.
    turn: AtomicUsize,
}

impl GracefulListener {
    /// Takes over listeners: [`Listeners`](super::listeners::Listeners), or some of std's.
    ///
    /// # Errors
    /// One of them is no socket that listens for connections, or there are too many descriptors.
    pub fn new<L: Into<OwnedFd>>(listeners: impl IntoIterator<Item = L>) -> Result<Self> {
        let sockets = listeners.into_iter().map(accepting);
        let sockets: Arc<[Socket]> = sockets.collect::<Result<_>>()?;
        let closed = Finish::new()
            .map_err(|error| Error::system("cannot make what a close wakes by", error))?;
        Ok(GracefulListener {
            sockets: Mutex::new(Some(sockets)),
            gate: Gate::new(),
            closed,
            turn: AtomicUsize::new(0),
        })
    }

    /// Waits for the next client. None once it was closed. Several threads may do so at the same time.
    ///
    /// # Errors
    /// What accept(2) said: EMFILE, ENFILE, ENOBUFS, ENOMEM (the client stays in the queue, so wait a little before the next), EINVAL.
    pub fn accept(&self) -> io::Result<Option<Accepted>> {
        // Dropped last, after our share of the sockets: when a close has returned, they are closed.
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

    /// From now on nothing is accepted, and [`accept`](Self::accept) returns None, also to those who wait in it. Clients in the queue stay there, for
    /// whoever shares the socket. Does not wait.
    pub fn stop(&self) {
        self.gate.close();
        self.closed.ask(1);
        drop(self.lock().take());
    }

    /// Stops, and waits until every connection that was accepted has been closed: returns exactly when the last one is (G2).
    pub fn close(&self) {
        self.stop();
        self.gate.wait(|| None);
    }

    /// The same, for so long at most.
    ///
    /// # Errors
    /// Connections are open still: exit 1 (G5).
    pub fn close_within(&self, limit: Duration) -> Result<()> {
        self.stop();
        let until = clock::now() + limit;
        if self.gate.wait(|| Some(until.since(clock::now()))) {
            return Ok(());
        }
        Err(self.unfinished(&format!("after {limit:?}")))
    }

    /// Waits until `shutdown` is asked for, then closes as [`close_within`](Self::close_within); when it is asked for at once, waits no longer (G5).
    ///
    /// # Errors
    /// Connections are open still: exit 1.
    pub fn close_on(&self, shutdown: &Shutdown, limit: Option<Duration>) -> Result<()> {
        let failed = |error| Error::system("cannot wait for the end", error);
        shutdown.wait().map_err(failed)?;
        self.stop();
        let until = limit.map_or(Time(u64::MAX), |limit| clock::now() + limit);
        let over = Finish::new().map_err(failed)?;
        let is_empty = std::thread::scope(|scope| {
            // A wait for connections cannot be one for signals too.
            scope.spawn(|| {
                let both = [
                    (shutdown.at_once(), Interest::READ),
                    (over.asked(), Interest::READ),
                ];
                let _ = Poller::new().wait(&both, None);
                self.gate.wake();
            });
            let left = || match (shutdown.stage(), limit) {
                (Stage::AtOnce, _) => Some(Duration::ZERO),
                (_, None) => None,
                (_, Some(_)) => Some(until.since(clock::now())),
            };
            let is_empty = self.gate.wait(left);
            over.ask(1);
            is_empty
        });
        match (is_empty, shutdown.stage(), limit) {
            (true, ..) => Ok(()),
            (_, Stage::Serving | Stage::Finishing, Some(limit)) => {
                Err(self.unfinished(&format!("after {limit:?}")))
            }
            _ => Err(self.unfinished("when told to end at once")),
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

/// The sockets at which clients wait, from another one on each `turn`: no listener is served before another all the time.
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

/// A socket that listens, so that an accept never waits.
///
/// # Errors
/// It does not listen, or is no socket.
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

/// A connection of a [`GracefulListener`]. It counts as open until it is dropped; a copy of it does not count once more, and ends with the last
/// one (G3).
#[derive(Debug)]
pub struct Accepted {
    // Closed before it no longer counts.
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

    /// The socket, to be made into a stream of std's or of a runtime, and what counts it: to be kept until after that was closed.
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
