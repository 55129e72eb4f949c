//! The loop of a server: first it accepts clients, then it waits until they are served.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::Socket;

use super::connection::{Connection, ConnectionContext};
use super::pool::{OnError, Pool};
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::io::nonblocking;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock;
use crate::worker::graceful::in_turn;
use crate::worker::listeners::Listeners;
use crate::worker::notify;
use crate::worker::restart::Restart;
use crate::worker::shutdown::ShutdownStage;

/// How long to accept no client after a failed accept: descriptors or memory are short, and an
/// immediate retry would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long handlers may take to return after their connections were shut down.
const SHUT_DOWN_WITHIN: Duration = Duration::from_secs(1);

/// Beats, and knows when the next beat is due.
struct BeatTimer<'a> {
    context: &'a ConnectionContext,
    next: Time,
}

impl<'a> BeatTimer<'a> {
    /// Beats for the first time, which also reports readiness (`--ready heartbeat`).
    fn new(context: &'a ConnectionContext) -> Self {
        let mut timer = BeatTimer {
            context,
            next: Time::default(),
        };
        timer.beat();
        timer
    }

    /// Beats in the page each time. Without a page, sends a notification when a beat is due.
    fn beat(&mut self) {
        let heartbeat = &self.context.heartbeat;
        heartbeat.beat();
        let Some(interval) = heartbeat.interval() else {
            self.next = Time(u64::MAX);
            return;
        };
        let now = clock::now();
        if now >= self.next {
            self.next = now + interval;
            if !heartbeat.is_active() {
                // A manager that misses it applies its own timeout.
                let _ = notify::watchdog();
            }
        }
    }
}

/// What the loop needs while it accepts.
pub(super) struct AcceptLoop<'a> {
    pub(super) context: &'a ConnectionContext,
    pub(super) pool: &'a Pool,
    pub(super) max_clients: usize,
    pub(super) listeners: &'a Listeners,
    /// The sockets of `listeners`.
    pub(super) sockets: &'a [Socket],
    pub(super) restart: Option<&'a Restart>,
    pub(super) on_accept: &'a (dyn Fn(&Connection) + Send + Sync),
    pub(super) on_error: &'a OnError,
}

/// Accepts clients and gives them to the pool, until the server is told to finish.
///
/// # Errors
/// poll(2) failed.
pub(super) fn accept(server: &AcceptLoop<'_>) -> Result<()> {
    let failed = |error| Error::system("cannot wait for clients", error);
    let (context, pool) = (server.context, server.pool);
    let mut beat_timer = BeatTimer::new(context);
    let mut poller = Poller::new();
    let (mut turn, mut paused_until) = (0, Time::default());
    while context.shutdown.stage() == ShutdownStage::Serving {
        let taken = pool.taken(server.max_clients - 1);
        let is_paused = clock::now() < paused_until;
        let accepting = if taken < server.max_clients && !is_paused {
            server.sockets
        } else {
            &[]
        };
        let mut deadline = beat_timer.next;
        if is_paused {
            deadline = deadline.min(paused_until);
        }
        let mut fds = vec![
            (context.shutdown.as_fd(), Interest::READ),
            (pool.as_fd(), Interest::READ),
        ];
        let restart = server.restart;
        fds.extend(restart.map(|restart| (restart.as_fd(), Interest::READ)));
        let before = fds.len();
        fds.extend(
            accepting
                .iter()
                .map(|socket| (socket.as_fd(), Interest::READ)),
        );
        let ready = poller.wait(&fds, Some(deadline)).map_err(failed)?;
        beat_timer.beat();
        if let Some(restart) = restart.filter(|restart| restart.is_asked()) {
            report(server.on_error, restart.start(server.listeners));
        }
        let room = server.max_clients - taken;
        let ready = ready.get(before..).unwrap_or_default();
        turn += 1;
        for socket in in_turn(accepting, ready, turn).take(room) {
            match nonblocking::accept(socket) {
                Ok(None) => {}
                Ok(Some(client)) => {
                    let client = Connection::new(client, context);
                    (server.on_accept)(&client);
                    let served = pool.serve(client);
                    let served =
                        served.map_err(|error| Error::system("cannot serve a client", error));
                    report(server.on_error, served);
                }
                Err(error) => {
                    paused_until = clock::now() + ACCEPT_PAUSE;
                    let error = Error::system("cannot accept a client", error);
                    report::<()>(server.on_error, Err(error));
                }
            }
        }
    }
    Ok(())
}

/// Reports an error that does not end the server.
pub(super) fn report<T>(on_error: &OnError, outcome: Result<T>) {
    if let Err(error) = outcome {
        on_error(&error.to_string());
    }
}

/// Waits until every client was served, at most `limit`. Then shuts the other connections down.
///
/// # Errors
/// Exit 1: connections had to be shut down.
pub(super) fn drain(context: &ConnectionContext, pool: &Pool, limit: Duration) -> Result<()> {
    let until = clock::now() + limit;
    let at_once = Some(context.shutdown.at_once());
    if wait_until_empty(context, pool, until, at_once)? {
        return Ok(());
    }
    let why = if context.shutdown.stage() == ShutdownStage::AtOnce {
        "an end at once was requested".to_owned()
    } else {
        format!("not finished after {limit:?}")
    };
    let shut_down = pool.shut_down_clients();
    // Their handlers may still clean up.
    wait_until_empty(context, pool, clock::now() + SHUT_DOWN_WITHIN, None)?;
    if shut_down == 0 {
        return Ok(());
    }
    let who = if shut_down == 1 {
        "1 client was".to_owned()
    } else {
        format!("{shut_down} clients were")
    };
    Err(Error::new(Exit::Failed, format!("{who} broken off"), why))
}

/// Waits until all tokens were given back, at most until `until` or until `or_sooner` is readable.
/// Returns whether they were.
fn wait_until_empty(
    context: &ConnectionContext,
    pool: &Pool,
    until: Time,
    or_sooner: Option<BorrowedFd<'_>>,
) -> Result<bool> {
    let mut beat_timer = BeatTimer::new(context);
    let mut poller = Poller::new();
    while pool.taken(0) > 0 {
        let mut fds = vec![(pool.as_fd(), Interest::READ)];
        fds.extend(or_sooner.map(|fd| (fd, Interest::READ)));
        let ready = poller
            .wait(&fds, Some(beat_timer.next.min(until)))
            .map_err(|error| Error::system("cannot wait for the last clients", error))?;
        if ready.get(1).is_some_and(|sooner| sooner.any()) || clock::now() >= until {
            return Ok(pool.taken(0) == 0);
        }
        beat_timer.beat();
    }
    Ok(true)
}
