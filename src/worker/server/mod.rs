//! A small server: a thread a client, and no more clients at once than there are tokens (W1 to W8).

mod connection;
mod pool;
mod turns;

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

pub use connection::Connection;
use connection::Terms;
use pool::{OnError, Pool};

use super::graceful::accepting;
use super::heartbeat::Heartbeat;
use super::listeners::Listeners;
use super::notify;
use super::restart::Restart;
use super::shutdown::Shutdown;
use crate::error::{Error, Result};

/// What is called when something happens.
type Callback = Box<dyn Fn() + Send + Sync>;
/// What is called for each client.
type ForClient = Box<dyn Fn(&Connection) + Send + Sync>;

/// Serves connections in the plain, blocking way, and finishes without losing one.
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
/// It runs in the foreground, on the thread that calls it (W7): `pf-master --daemonize` puts it into the background. It listens to TERM, QUIT and INT, says
/// `READY=1` and `STOPPING=1`, beats, and keeps the heartbeat page's counters. Its own loop beats, also while all tokens are taken: what ends a client that
/// takes too long is the client timeout.
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
    /// With 16 clients at once, no client timeout, and 25 s to finish.
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
                // Where stderr cannot be written, there is nobody left to tell.
                let _ = writeln!(io::stderr(), "{what}");
            }),
        }
    }

    /// How many clients are served at once, one at least. While all tokens are taken nobody is accepted: other workers can be (W2).
    #[must_use]
    pub fn max_clients(mut self, clients: usize) -> Server {
        self.max_clients = clients.max(1);
        self
    }

    /// How long a client may take for a request, from when it was accepted or its last request was over: then reads and writes fail with `TimedOut`. So
    /// one that is silent, or nearly so, does not keep its token.
    #[must_use]
    pub fn client_timeout(mut self, limit: Duration) -> Server {
        self.client_timeout = Some(limit);
        self
    }

    /// How long clients may go on once the server is told to finish. Less than the master's `--graceful-timeout` (30 s), so that the server can tell
    /// whom it broke off.
    #[must_use]
    pub fn drain_timeout(mut self, limit: Duration) -> Server {
        self.drain_timeout = limit;
        self
    }

    /// The word to finish, in place of the signals' own ([`Shutdown::on_signals`]).
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Server {
        self.shutdown = Some(shutdown);
        self
    }

    /// Without a master: USR2 starts the program anew, and whoever started this one is told to finish once it serves (G6, G7).
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Server {
        self.restart = Some(restart);
        self
    }

    /// Is called before readiness is told (W5).
    #[must_use]
    pub fn on_start(mut self, call: impl Fn() + Send + Sync + 'static) -> Server {
        self.on_start = Box::new(call);
        self
    }

    /// Is called for each client that was accepted, before its handler and on the thread that accepts: it should not wait (W5).
    #[must_use]
    pub fn on_accept(mut self, call: impl Fn(&Connection) + Send + Sync + 'static) -> Server {
        self.on_accept = Box::new(call);
        self
    }

    /// Is called when it accepts no more (W5).
    #[must_use]
    pub fn on_stop(mut self, call: impl Fn() + Send + Sync + 'static) -> Server {
        self.on_stop = Box::new(call);
        self
    }

    /// Is told, in one line, what goes wrong and does not end the server: what a handler returns, its panic, an accept that fails (W6). Without it the
    /// lines go to stderr.
    #[must_use]
    pub fn on_error(mut self, call: impl Fn(&str) + Send + Sync + 'static) -> Server {
        self.on_error = Arc::new(call);
        self
    }

    /// Serves until it is told to finish, and every client has been. `handler` is called for each client, on a thread of its own; the connection is closed
    /// when it returns, whatever it returns.
    ///
    /// # Errors
    /// A listener is none that accepts connections, or there are none; the system refused what is needed to begin. Clients had to be broken off, at the
    /// drain timeout or because an end at once was asked for (G5): exit 1.
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
        let terms = Terms {
            shutdown,
            heartbeat: Heartbeat::inherit()?,
            limit: self.client_timeout,
        };
        let handler = move |client: &Connection| handler(client).map_err(|why| why.to_string());
        let pool = Pool::new(Box::new(handler), Arc::clone(&self.on_error))
            .map_err(|error| Error::system("cannot make what the server waits on", error))?;
        (self.on_start)();
        self.tell(notify::ready());
        if self.restart.is_some() {
            self.tell(Restart::take_over());
        }
        let outcome = turns::accept(&self, &terms, &pool, &listeners, &sockets);
        // Nobody else's clients are kept waiting in a queue that this process holds open.
        drop((sockets, listeners));
        (self.on_stop)();
        self.tell(notify::stopping());
        let drained = outcome.and_then(|()| turns::drain(&terms, &pool, self.drain_timeout));
        pool.end();
        drained
    }

    /// What does not end the server.
    fn tell<T>(&self, outcome: Result<T>) {
        if let Err(error) = outcome {
            (self.on_error)(&error.to_string());
        }
    }
}
