//! The connection of a client, as the handler of a [`Server`](super::Server) sees it.

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

/// When the server stops: how long to wait for the first request of a client. The client may have
/// been accepted just before the stop, with its request still on the way.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// When the server stops: how long to wait for another request of a client that was served before.
/// A client with frequent requests then gets one more answer, which tells it that the connection
/// closes. Without this wait, its next request would meet a closed connection.
const NEXT_REQUEST_WITHIN: Duration = Duration::from_millis(100);

/// What all connections of a server share.
#[derive(Debug, Clone)]
pub(super) struct ConnectionContext {
    pub(super) shutdown: Shutdown,
    pub(super) heartbeat: Heartbeat,
    /// `--client-timeout`.
    pub(super) limit: Option<Duration>,
}

/// The connection of a client. Reading and writing wait for the client, but no longer than the
/// server's client timeout.
///
/// A handler that serves one request for each connection reads, writes and returns. A handler that
/// serves several requests calls [`next_request`](Self::next_request) before each:
///
/// ```no_run
/// # use std::io::{BufRead, BufReader, Write};
/// fn serve(mut client: &prefork::Connection) -> std::io::Result<()> {
///     let mut lines = BufReader::new(client);
///     // What the reader has buffered is a request, too.
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
    // Field order: the socket is closed before the connection stops counting as open.
    socket: Arc<Socket>,
    _open: OpenConnection,
    context: ConnectionContext,
    request: RefCell<Option<Request>>,
    /// Nothing was read from the client yet.
    is_fresh: Cell<bool>,
    /// The deadline of the present request.
    until: Cell<Time>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.peer())
    }
}

impl Connection {
    pub(super) fn new(socket: Socket, context: &ConnectionContext) -> Self {
        let connection = Connection {
            socket: Arc::new(socket),
            _open: context.heartbeat.connection(),
            context: context.clone(),
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

    /// The socket, for its options. The client timeout does not limit direct reads from it.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The client's address. `None` on a Unix socket.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket.peer_addr().ok()?.as_socket()
    }

    /// The client's name in a log line.
    pub fn peer(&self) -> String {
        let address = self.peer_addr();
        address.map_or_else(|| "a local client".to_owned(), |at| at.to_string())
    }

    /// Whether the server is stopping: answer this request, then close the connection (W8). An HTTP
    /// server says so in its answer (`Connection: close`).
    pub fn should_close(&self) -> bool {
        self.context.shutdown.is_asked()
    }

    /// Ends the previous request, if any, and waits for the next one. True: the client begins
    /// another request. False: the client has closed the connection, was silent for the client
    /// timeout, or the server is stopping (W8).
    ///
    /// What the client has already sent is served even when the server stops. A stopping server
    /// waits two seconds for the first request of a connection, which may have been on the way when
    /// the connection was accepted, and a tenth of a second for a further one.
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
                    self.begin_request();
                }
                return Ok(more);
            }
            if !is_stopping && self.should_close() {
                is_stopping = true;
                let within = if self.is_fresh.get() {
                    FIRST_REQUEST_WITHIN
                } else {
                    NEXT_REQUEST_WITHIN
                };
                until = until.min(clock::now() + within);
            }
            if clock::now() >= until {
                return Ok(false);
            }
            let mut fds = vec![(self.socket.as_fd(), Interest::READ)];
            if !is_stopping {
                fds.push((self.context.shutdown.as_fd(), Interest::READ));
            }
            Poller::new().wait(&fds, Some(until))?;
        }
    }

    fn start_clock(&self) {
        if let Some(limit) = self.context.limit {
            self.until.set(clock::now() + limit);
        }
    }

    /// Counts a request, from its first byte.
    fn begin_request(&self) {
        self.is_fresh.set(false);
        let mut request = self.request.borrow_mut();
        if request.is_none() {
            *request = Some(self.context.heartbeat.request());
        }
    }

    /// Tries `transfer` until it has moved bytes, or the deadline has passed.
    fn transfer_before_deadline(
        &self,
        interest: Interest,
        mut transfer: impl FnMut(&Socket) -> io::Result<Option<usize>>,
    ) -> io::Result<usize> {
        loop {
            if let Some(count) = transfer(&self.socket)? {
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
        // Also for a client that always has a byte ready: it must not outlast its deadline.
        if self.context.limit.is_some() && clock::now() >= self.until.get() {
            return Err(ErrorKind::TimedOut.into());
        }
        let count = self.transfer_before_deadline(Interest::READ, |socket| {
            nonblocking::read_now(socket, into)
        })?;
        if count > 0 {
            self.begin_request();
        }
        Ok(count)
    }
}

impl Write for &Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begin_request();
        if self.context.limit.is_some() && clock::now() >= self.until.get() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.transfer_before_deadline(Interest::WRITE, |socket| {
            nonblocking::write_now(socket, bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
