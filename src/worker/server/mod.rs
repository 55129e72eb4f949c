//! A small server: one thread for each client, and tokens that bound the clients at once (W1 to
//! W8).
//!
//! In reading order: [`Server`], its options and [`Server::serve`]; `accept_loop`, which accepts
//! and later drains; `pool`, the tokens and the threads; [`Connection`], what a handler gets.
//!
//! One client: the loop accepts it if a token is free. The pool gives it the token and a thread.
//! The handler reads and writes through [`Connection`], which applies the client timeout and counts
//! the requests in the heartbeat page. When the handler returns, the connection is closed and the
//! token is free again.

mod accept_loop;
mod connection;
mod pool;

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use accept_loop::{AcceptLoop, report};
pub use connection::Connection;
use connection::ConnectionContext;
use pool::{OnError, Pool};

use super::graceful::accepting;
use super::heartbeat::Heartbeat;
use super::listeners::Listeners;
use super::notify;
use super::restart::Restart;
use super::shutdown::Shutdown;
use crate::error::{Error, Result};

/// Called at an event of the server.
type Callback = Box<dyn Fn() + Send + Sync>;
/// Called for each client.
type ForClient = Box<dyn Fn(&Connection) + Send + Sync>;

/// Serves connections with blocking reads and writes, and stops without losing a connection.
///
/// ```no_run
/// use prefork::{Connection, Listeners, Server};
/// use std::io::{BufRead, BufReader, Write};
///
/// fn main() -> prefork::error::Result<()> {
///     let listeners = Listeners::inherit_or_bind(["127.0.0.1:8080"])?;
///     Server::new().max_clients(64).serve(listeners, |mut client: &Connection| {
///         let mut line = String::new();
///         BufReader::new(client).read_line(&mut line)?;
///         write!(client, "hello {line}")
///     })
/// }
/// ```
///
/// It runs in the foreground, on the calling thread (W7); `pf-master --daemonize` puts it into the
/// background. It handles TERM, QUIT and INT, sends `READY=1` and `STOPPING=1`, beats, and counts
/// in the heartbeat page. The accept loop beats, also while all tokens are taken. So a slow client
/// does not stop the heartbeat: the client timeout ends it.
pub struct Server {
    max_clients: usize,
    client_timeout: Option<Duration>,
    drain_timeout: Duration,
    shutdown: Option<Shutdown>,
    restart: Option<Restart>,
    on_start: Callback,
    on_accept: ForClient,
    on_stop: Callback,
    on_error: Arc<OnError>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("max_clients", &self.max_clients)
            .field("client_timeout", &self.client_timeout)
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}

impl Default for Server {
    fn default() -> Self {
        Server::new()
    }
}

impl Server {
    /// A server with 16 clients at once, no client timeout, and 25 s to finish.
    pub fn new() -> Server {
        Server {
            max_clients: 16,
            client_timeout: None,
            drain_timeout: Duration::from_secs(25),
            shutdown: None,
            restart: None,
            on_start: Box::new(|| {}),
            on_accept: Box::new(|_| {}),
            on_stop: Box::new(|| {}),
            on_error: Arc::new(|what| {
                // Where stderr cannot be written, there is no other place to report that.
                let _ = writeln!(io::stderr(), "{what}");
            }),
        }
    }

    /// How many clients are served at once, at least one. While all tokens are taken, the server
    /// accepts no client, so that other workers can (W2).
    #[must_use]
    pub fn max_clients(mut self, clients: usize) -> Server {
        self.max_clients = clients.max(1);
        self
    }

    /// How long a client may take for a request, from the accept or from the end of its last
    /// request. After that, reads and writes fail with `TimedOut`. So a silent or slow client does
    /// not keep its token.
    #[must_use]
    pub fn client_timeout(mut self, limit: Duration) -> Server {
        self.client_timeout = Some(limit);
        self
    }

    /// How long clients may continue after the server was told to finish. Keep it below the
    /// master's `--graceful-timeout` (30 s): then the server ends by itself and can report what it
    /// broke off.
    #[must_use]
    pub fn drain_timeout(mut self, limit: Duration) -> Server {
        self.drain_timeout = limit;
        self
    }

    /// The request to finish, instead of signals ([`Shutdown::on_signals`]).
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Server {
        self.shutdown = Some(shutdown);
        self
    }

    /// Without a master: USR2 starts the program again. Once this process serves, it sends TERM to
    /// the process that started it (G6, G7).
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Server {
        self.restart = Some(restart);
        self
    }

    /// Called before the server reports readiness (W5).
    #[must_use]
    pub fn on_start(mut self, call: impl Fn() + Send + Sync + 'static) -> Server {
        self.on_start = Box::new(call);
        self
    }

    /// Called for each accepted client, before its handler, on the thread that accepts: do not
    /// block in it (W5).
    #[must_use]
    pub fn on_accept(mut self, call: impl Fn(&Connection) + Send + Sync + 'static) -> Server {
        self.on_accept = Box::new(call);
        self
    }

    /// Called when the server accepts no more (W5).
    #[must_use]
    pub fn on_stop(mut self, call: impl Fn() + Send + Sync + 'static) -> Server {
        self.on_stop = Box::new(call);
        self
    }

    /// Called with one line for each error that does not end the server: the error or the panic of
    /// a handler, a failed accept (W6). Without it the lines go to stderr.
    #[must_use]
    pub fn on_error(mut self, call: impl Fn(&str) + Send + Sync + 'static) -> Server {
        self.on_error = Arc::new(call);
        self
    }

    /// Serves until the server is told to finish and every client was served. `handler` is called
    /// for each client, on a thread of its own. The connection is closed when it returns, with an
    /// error or not.
    ///
    /// # Errors
    /// There is no listener, or one does not accept connections, or a system call of the start
    /// failed. Exit 1: clients had to be broken off, at the drain timeout or because an end at once
    /// was requested (G5).
    pub fn serve<H, E>(self, listeners: Listeners, handler: H) -> Result<()>
    where
        H: Fn(&Connection) -> std::result::Result<(), E> + Send + Sync + 'static,
        E: Display,
    {
        if listeners.is_empty() {
            return Err(Error::system("cannot serve", "there is no listener"));
        }
        let sockets = listeners
            .iter()
            .map(|listener| accepting(listener.try_clone()?));
        let sockets = sockets.collect::<Result<Vec<_>>>()?;
        let shutdown = self
            .shutdown
            .clone()
            .map_or_else(Shutdown::on_signals, Ok)?;
        let context = ConnectionContext {
            shutdown,
            heartbeat: Heartbeat::inherit()?,
            limit: self.client_timeout,
        };
        let handler = move |client: &Connection| handler(client).map_err(|why| why.to_string());
        let pool = Pool::new(Box::new(handler), Arc::clone(&self.on_error))
            .map_err(|error| Error::system("cannot make what the server waits on", error))?;
        (self.on_start)();
        report(&*self.on_error, notify::ready());
        if self.restart.is_some() {
            report(&*self.on_error, Restart::take_over());
        }
        let outcome = accept_loop::accept(&AcceptLoop {
            context: &context,
            pool: &pool,
            max_clients: self.max_clients,
            listeners: &listeners,
            sockets: &sockets,
            restart: self.restart.as_ref(),
            on_accept: &*self.on_accept,
            on_error: &*self.on_error,
        });
        // Close the listeners before the drain: if this is their last holder, clients must not wait
        // in a queue from which no process accepts.
        drop((sockets, listeners));
        (self.on_stop)();
        report(&*self.on_error, notify::stopping());
        let limit = self.drain_timeout;
        let drained = outcome.and_then(|()| accept_loop::drain(&context, &pool, limit));
        pool.end();
        drained
    }
}
