//! The blocking control client: finding the master that a user points at, one request, its answers, and a deadline on all of
//! it.

mod connection;
mod target;

pub use connection::{Connection, Line};
pub use target::{LOOK_AGAIN, Master, Reach, Target};

use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::machine::clock;
use crate::wire::control::{ControlCommand, Reply, Request, Response};

/// How long a master may take, where the caller set no deadline, to accept a connection, to read a request, and to answer it
/// with a first line. A live master does all of that at once; a stopped or wedged one must not hang its clients.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// One command and its reply, for those who only want to know (`status`, `listeners`).
///
/// Errors: exit 3 where nothing runs or the master dies meanwhile, 4 without permission, 5 when `deadline` has passed, 6 where
/// the master has no control socket. A reply that says no is not an error here.
pub fn ask(target: &Target, command: ControlCommand, deadline: Option<Time>) -> Result<Reply> {
    let Some(mut connection) = target.reach(deadline)?.control else {
        return Err(Error::new(Exit::Refused, target.no_control(), ""));
    };
    connection.send(&Request {
        command,
        id: None,
        wait: true,
        key: None,
    })?;
    loop {
        match connection.next_line()? {
            Some(Line {
                answer: Response::Reply(reply),
                ..
            }) => return Ok(*reply),
            Some(Line {
                answer: Response::Progress(_),
                ..
            }) => {}
            None => return Err(died()),
        }
    }
}

/// What a connection that ends before the reply means.
pub fn died() -> Error {
    Error::new(Exit::NotRunning, "the master died before it answered", "")
}

/// The time that is left until `deadline`; never zero, which the socket options read as for ever.
fn left(deadline: Time) -> Option<Duration> {
    let left = deadline.since(clock::now());
    (!left.is_zero()).then(|| left.max(Duration::from_micros(1)))
}
