//! The server's loop: while it accepts, and while it finishes.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::Socket;

use super::connection::{Connection, Terms};
use super::pool::Pool;
use super::{Listeners, Server};
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::io::nonblocking;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock;
use crate::worker::graceful::in_turn;
use crate::worker::notify;
use crate::worker::shutdown::Stage;

/// How long nobody is accepted after an accept has failed: whatever is short has to come back first.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the handlers of connections that were broken off may take to see it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// When to beat next.
struct Pulse<'a> {
    terms: &'a Terms,
    next: Time,
}

impl<'a> Pulse<'a> {
    /// With a first beat, which says as well that the worker is ready.
    fn new(terms: &'a Terms) -> Self {
        let mut pulse = Pulse {
            terms,
            next: Time::default(),
        };
        pulse.beat();
        pulse
    }

    /// Beats; by a system call only where that is the one way, and when it is due.
    fn beat(&mut self) {
        let heartbeat = &self.terms.heartbeat;
        heartbeat.beat();
        let Some(interval) = heartbeat.interval() else {
            self.next = Time(u64::MAX);
            return;
        };
        let now = clock::now();
        if now >= self.next {
            self.next = now + interval;
            if !heartbeat.is_active() {
                // Who does not hear it will say so in its own way.
                let _ = notify::watchdog();
            }
        }
    }
}

/// Accepts clients and hands them to the pool, until it is told to finish.
pub(super) fn accept(
    server: &Server,
    terms: &Terms,
    pool: &Pool,
    listeners: &Listeners,
    sockets: &[Socket],
) -> Result<()> {
    let failed = |error| Error::system("cannot wait for clients", error);
    let mut pulse = Pulse::new(terms);
    let mut poller = Poller::new();
    let (mut turn, mut blind_until) = (0, Time::default());
    while terms.shutdown.stage() == Stage::Serving {
        let taken = pool.taken(server.max_clients - 1);
        let is_blind = clock::now() < blind_until;
        let accepting = if taken < server.max_clients && !is_blind {
            sockets
        } else {
            &[]
        };
        let mut deadline = pulse.next;
        if is_blind {
            deadline = deadline.min(blind_until);
        }
        let mut fds = vec![
            (terms.shutdown.as_fd(), Interest::READ),
            (pool.as_fd(), Interest::READ),
        ];
        let restart = server.restart.as_ref();
        fds.extend(restart.map(|restart| (restart.as_fd(), Interest::READ)));
        let before = fds.len();
        fds.extend(
            accepting
                .iter()
                .map(|socket| (socket.as_fd(), Interest::READ)),
        );
        let ready = poller.wait(&fds, Some(deadline)).map_err(failed)?;
        pulse.beat();
        if let Some(restart) = restart.filter(|restart| restart.is_asked()) {
            server.tell(restart.start(listeners));
        }
        let room = server.max_clients - taken;
        let ready = ready.get(before..).unwrap_or_default();
        turn += 1;
        for socket in in_turn(accepting, ready, turn).take(room) {
            match nonblocking::accept(socket) {
                Ok(None) => {}
                Ok(Some(client)) => {
                    let client = Connection::new(client, terms);
                    (server.on_accept)(&client);
                    let served = pool.serve(client);
                    server.tell(
                        served.map_err(|error| Error::system("cannot serve a client", error)),
                    );
                }
                Err(error) => {
                    blind_until = clock::now() + PAUSE;
                    server.tell::<()>(Err(Error::system("cannot accept a client", error)));
                }
            }
        }
    }
    Ok(())
}

/// Waits until every client has been served.
///
/// # Errors
/// Some had to be broken off.
pub(super) fn drain(terms: &Terms, pool: &Pool, limit: Duration) -> Result<()> {
    let until = clock::now() + limit;
    if emptied(terms, pool, until, Some(terms.shutdown.at_once()))? {
        return Ok(());
    }
    let why = if terms.shutdown.stage() == Stage::AtOnce {
        "an end at once was asked for".to_owned()
    } else {
        format!("not finished after {limit:?}")
    };
    let cut = pool.cut();
    // Their handlers may still put something in order.
    emptied(terms, pool, clock::now() + LAST_WORDS, None)?;
    if cut == 0 {
        return Ok(());
    }
    let who = if cut == 1 {
        "1 client was".to_owned()
    } else {
        format!("{cut} clients were")
    };
    Err(Error::new(Exit::Failed, format!("{who} broken off"), why))
}

/// Whether all tokens have come back before `until`, or before `or_sooner` is readable.
fn emptied(
    terms: &Terms,
    pool: &Pool,
    until: Time,
    or_sooner: Option<BorrowedFd<'_>>,
) -> Result<bool> {
    let mut pulse = Pulse::new(terms);
    let mut poller = Poller::new();
    while pool.taken(0) > 0 {
        let mut fds = vec![(pool.as_fd(), Interest::READ)];
        fds.extend(or_sooner.map(|fd| (fd, Interest::READ)));
        let ready = poller
            .wait(&fds, Some(pulse.next.min(until)))
            .map_err(|error| Error::system("cannot wait for the last clients", error))?;
        if ready.get(1).is_some_and(|sooner| sooner.any()) || clock::now() >= until {
            return Ok(pool.taken(0) == 0);
        }
        pulse.beat();
    }
    Ok(true)
}
