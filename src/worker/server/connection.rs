//! A client, as a handler of a [`Server`](super::Server) sees it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::model::time::Time;
use crate::sys::io::nonblocking;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock;
use crate::worker::heartbeat::{Heartbeat, OpenConnection, Request};
use crate::worker::shutdown::Shutdown;

/// How long a client that was accepted just before the end, and has said nothing yet, may take to begin: what it said before is on its way.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// How long a client that has been served before may take to begin another request when the server stops. Whoever asks often hears so in an answer that the
/// connection is closed, rather than meet its end with the next request under way.
const LAST_WORD: Duration = Duration::from_millis(100);

/// What all connections of a server share.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) shutdown: Shutdown,
    pub(super) heartbeat: Heartbeat,
    /// `--client-timeout`.
    pub(super) limit: Option<Duration>,
}

/// A client. Reading and writing wait for it, but no longer than the server's client timeout.
///
/// A handler that serves one request a connection reads, writes and returns. One that serves several asks [`next_request`](Self::next_request) before each:
///
/// ```no_run
/// # use std::io::{BufRead, BufReader, Write};
/// fn serve(mut client: &prefork::Connection) -> std::io::Result<()> {
///     let mut lines = BufReader::new(client);
///     // What has been read ahead is a request, too.
///     while !lines.buffer().is_empty() || client.next_request()? {
///         let mut line = String::new();
///         lines.read_line(&mut line)?;
///         let last = client.should_close();
///         client.write_all(line.as_bytes())?;
///         if last {
///             break;
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct Connection {
    // Closed before it no longer counts.
    socket: Arc<Socket>,
    _open: OpenConnection,
    terms: Terms,
    request: RefCell<Option<Request>>,
    /// Nothing was read from it yet.
    is_fresh: Cell<bool>,
    /// By when its present request must be over.
    until: Cell<Time>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.peer())
    }
}

impl Connection {
    pub(super) fn new(socket: Socket, terms: &Terms) -> Self {
        let connection = Connection {
            socket: Arc::new(socket),
            _open: terms.heartbeat.connection(),
            terms: terms.clone(),
            request: RefCell::new(None),
            is_fresh: Cell::new(true),
            until: Cell::new(Time(u64::MAX)),
        };
        connection.start_clock();
        connection
    }

    pub(super) fn shared(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// The socket, for its options. What is read from it directly is under no limit of time.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The client's address; None where it has none, as on a Unix socket.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket.peer_addr().ok()?.as_socket()
    }

    /// The client, for a log line.
    pub fn peer(&self) -> String {
        let address = self.peer_addr();
        address.map_or_else(|| "a local client".to_owned(), |at| at.to_string())
    }

    /// Whether the server is stopping: this request is answered, and then the connection is to be closed (W8). An HTTP server says so in its answer.
    pub fn should_close(&self) -> bool {
        self.terms.shutdown.is_asked()
    }

    /// The pause between two requests: the one before, if any, is over. Waits until the client begins another (true); it is over with the client
    /// when that has gone, was silent for the client timeout, or the server is stopping (false, W8).
    ///
    /// What the client has sent already is a request still. When the server stops, the first one of a connection is waited for two seconds, since it may
    /// have been on its way when the connection was accepted, and a further one for a tenth of a second.
    ///
    /// # Errors
    /// The connection has broken.
    pub fn next_request(&self) -> io::Result<bool> {
        self.request.take();
        self.start_clock();
        let mut until = self.until.get();
        let mut is_stopping = false;
        loop {
            if let Some(more) = nonblocking::has_more(&self.socket)? {
                if more {
                    self.begin();
                }
                return Ok(more);
            }
            if !is_stopping && self.should_close() {
                is_stopping = true;
                let patience = if self.is_fresh.get() {
                    FIRST_WORD
                } else {
                    LAST_WORD
                };
                until = until.min(clock::now() + patience);
            }
            if clock::now() >= until {
                return Ok(false);
            }
            let mut fds = vec![(self.socket.as_fd(), Interest::READ)];
            if !is_stopping {
                fds.push((self.terms.shutdown.as_fd(), Interest::READ));
            }
            Poller::new().wait(&fds, Some(until))?;
        }
    }

    fn start_clock(&self) {
        if let Some(limit) = self.terms.limit {
            self.until.set(clock::now() + limit);
        }
    }

    /// A request counts from its first byte.
    fn begin(&self) {
        self.is_fresh.set(false);
        let mut request = self.request.borrow_mut();
        if request.is_none() {
            *request = Some(self.terms.heartbeat.request());
        }
    }

    /// Tries until it is done, or time is up.
    fn patiently(
        &self,
        interest: Interest,
        mut now: impl FnMut(&Socket) -> io::Result<Option<usize>>,
    ) -> io::Result<usize> {
        loop {
            if let Some(count) = now(&self.socket)? {
                return Ok(count);
            }
            let until = self.until.get();
            let ready = Poller::new().wait(&[(self.socket.as_fd(), interest)], Some(until))?[..]
                .iter()
                .any(|ready| ready.any());
            if !ready {
                return Err(ErrorKind::TimedOut.into());
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for &Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // A client that is never quite silent has the same time as one that is.
        if self.terms.limit.is_some() && clock::now() >= self.until.get() {
            return Err(ErrorKind::TimedOut.into());
        }
        let count = self.patiently(Interest::READ, |socket| nonblocking::read_now(socket, into))?;
        if count > 0 {
            self.begin();
        }
        Ok(count)
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin();
        if self.terms.limit.is_some() && clock::now() >= self.until.get() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.patiently(Interest::WRITE, |socket| {
            nonblocking::write_now(socket, bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
