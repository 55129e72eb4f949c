//! `events`: follows what happens, and goes on with the next master when one leaves the service to
//! another.

use std::os::fd::AsFd;

use super::job::{Job, malformed_reply};
use super::signal_fallback;
use crate::client::{ControlConnection, Followed, POLL_INTERVAL, Reach};
use crate::cmd::program::print_data;
use crate::error::{Error, Exit, Result};
use crate::sys::machine::clock;
use crate::ui::text::escaped_json;
use crate::wire::control::{Code, ControlCommand, Reply, Request, Response, parse_response};
use crate::wire::events::{FOLLOWING, STOPPING, parse};

/// How often in a row a master may end the connection before it has told anything: a master that
/// exits may still accept.
const MAX_FRUITLESS: u32 = 3;

/// What was told so far.
struct Place {
    /// The number of the last event.
    seen: Option<u64>,
    /// Which service's events these are.
    log: Option<String>,
    /// The service was told to stop: the end of the master is no surprise.
    is_stopping: bool,
    /// The connection has told something.
    is_told: bool,
}

/// How a connection ended.
enum Ended {
    /// The service has ended, as it was asked to.
    Service,
    /// The master leaves, or is gone.
    Master,
    /// The master knows nothing of these events: it is that of another service.
    NotOurs,
    /// Our own reader has gone.
    NoReader,
}

/// Prints events until the service has ended.
pub(super) fn follow(job: &Job, since: Option<u64>) -> Result<Exit> {
    let mut place = Place {
        seen: since,
        log: None,
        is_stopping: false,
        is_told: false,
    };
    let mut fruitless = 0;
    let reached = job.target.reach(job.deadline);
    let mut reach = reached.map_err(|error| job.explain_timeout(error))?;
    loop {
        let Some(mut connection) = reach.control.take() else {
            return signal_fallback::send(job, reach.master.as_ref(), &place.command());
        };
        match place.follow(job, &mut connection)? {
            Ended::NoReader => return Ok(Exit::Done),
            Ended::NotOurs => return place.end(),
            Ended::Service => {
                let master = reach.master.as_ref();
                let gone = master.map_or(Ok(true), |it| job.wait_gone(it, job.deadline))?;
                if !gone {
                    return Err(job.timed_out("the master still runs"));
                }
                return Ok(Exit::Done);
            }
            Ended::Master => {}
        }
        fruitless = if place.is_told { 0 } else { fruitless + 1 };
        let has_ended = reach.has_ended()?;
        if !has_ended && fruitless >= MAX_FRUITLESS {
            return Err(reach.unanswered(&connection));
        }
        reach = match next_master(job)? {
            Some(next) => next,
            None => return place.end(),
        };
    }
}

/// The master that the target names now; None: there is none.
fn next_master(job: &Job) -> Result<Option<Reach>> {
    clock::pause(POLL_INTERVAL);
    match job.target.reach(job.deadline) {
        Ok(reach) => Ok(Some(reach)),
        Err(error) if error.exit == Exit::NotRunning => Ok(None),
        Err(error) => Err(job.explain_timeout(error)),
    }
}

impl Place {
    fn command(&self) -> ControlCommand {
        ControlCommand::Events {
            since: self.seen,
            log: self.log.clone(),
        }
    }

    /// The service has ended, well or not.
    fn end(&self) -> Result<Exit> {
        if self.is_stopping {
            return Ok(Exit::Done);
        }
        Err(Error::new(Exit::NotRunning, "the master died", ""))
    }

    /// Prints the events of one connection.
    fn follow(&mut self, job: &Job, connection: &mut ControlConnection) -> Result<Ended> {
        let explain = |error| job.explain_timeout(error);
        let request = Request {
            command: self.command(),
            id: None,
            wait: true,
            key: None,
        };
        connection.send(&request).map_err(explain)?;
        let out = std::io::stdout();
        self.is_told = false;
        loop {
            let text = match connection.next_text_for(out.as_fd()).map_err(explain)? {
                Followed::Line(text) => text,
                Followed::End => return Ok(Ended::Master),
                Followed::NoReader => return Ok(Ended::NoReader),
            };
            self.is_told = true;
            let Some(event) = parse(&text) else {
                match parse_response(&text).map_err(|why| malformed_reply(&why))? {
                    Response::Reply(reply) => return Self::conclude(&reply),
                    Response::Progress(_) => continue,
                }
            };
            self.seen = Some(event.seq);
            self.is_stopping |= event.event == STOPPING;
            if event.event == FOLLOWING {
                self.log = event.log;
            } else if !print_data(&[&escaped_json(&text), "\n"])? {
                return Ok(Ended::NoReader);
            }
        }
    }

    fn conclude(reply: &Reply) -> Result<Ended> {
        match reply.error.as_ref().map(|failure| failure.code) {
            Some(Code::Moved) => Ok(Ended::Master),
            Some(Code::MasterDied) => Ok(Ended::NotOurs),
            Some(_) | None => Job::failure_of(reply).map(|()| Ended::Service),
        }
    }
}
