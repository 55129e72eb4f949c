//! One client of the load: a connection, a request, an answer, a pause; and again.
//!
//! No call of it blocks. The way of one request: `dial` begins the connect, the socket becomes
//! writable and the request is sent, it becomes readable until the answer is whole, and the client
//! reports an [`Outcome`].

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use super::http::{self, Answer};
use super::request::{Protocol, Request};
use super::tally::Kind;
use crate::error::reason;
use crate::model::time::Time;
use crate::sys::io::dial::{Dialled, Stream, dial};
use crate::sys::io::place::Place;
use crate::sys::io::poll::{Interest, Ready};

/// Between two requests of one client: a load that is no flood.
const PAUSE: Duration = Duration::from_millis(10);

/// Until the next attempt where an accept queue is full, or this machine has no room.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// How long an answer may take; then it counts as lost.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How many requests go over one kept connection: a worker that serves one client at a time has to
/// come to the others.
const REQUESTS_KEPT: u32 = 10;

/// The longest answer that is read.
const LONGEST: usize = 1024 * 1024;

/// What is seen of a connection that is refused.
pub(super) const REFUSED: &str = "Connection refused";

/// How what is seen of an answer begins that is not whole.
pub(super) const CUT: &str = "cut after";

/// What a client does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// One for each request.
    New,
    /// One for several.
    Kept,
}

/// Whom a client asks, and what.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub place: Place,
    pub request: Rc<Request>,
    /// Nothing more is sent after the request, and the other side is told so.
    pub ends_request: bool,
    pub manner: Manner,
}

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole answer, and how long it took.
    Answered(Answer, Duration),
    /// None; `connected`: when the connection stood.
    Lost {
        kind: Kind,
        what: String,
        connected: Option<Time>,
    },
    /// A kept connection was closed before the answer began, as its worker may have done just
    /// before the request came: the request is made once more on a new one, as HTTP clients do.
    Repeated,
    /// No connection was made, and not since the service refused it: this machine has no room for
    /// it, or its client has no permission. Nothing is known of the service.
    NotMade(String),
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    job: Job,
    phase: Phase,
    socket: Option<Stream>,
    /// When the request under way began.
    began: Time,
    connected: Option<Time>,
    sent: usize,
    answer: Vec<u8>,
    /// How many answers this connection has brought.
    answered: u32,
    is_repeat: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is under way; the next request is due at this time.
    Resting(Time),
    /// The accept queue was full; the next attempt is due at this time.
    Waiting(Time),
    Connecting,
    Sending,
    Receiving,
}

impl Client {
    pub(super) fn new(job: Job, now: Time) -> Client {
        Client {
            job,
            phase: Phase::Resting(now),
            socket: None,
            began: now,
            connected: None,
            sent: 0,
            answer: Vec::new(),
            answered: 0,
            is_repeat: false,
        }
    }

    /// Whether no request is under way.
    pub(super) fn rests(&self) -> bool {
        matches!(self.phase, Phase::Resting(_))
    }

    /// What to wait for, if a request is under way.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, Interest)> {
        let interest = match self.phase {
            Phase::Resting(_) | Phase::Waiting(_) => return None,
            Phase::Connecting => Interest::WRITE,
            Phase::Sending => Interest::BOTH,
            Phase::Receiving => Interest::READ,
        };
        Some((self.socket.as_ref()?.as_fd(), interest))
    }

    /// When it has something to do although nothing happens; `goes_on`: whether it makes new
    /// requests.
    pub(super) fn deadline(&self, goes_on: bool) -> Option<Time> {
        match self.phase {
            Phase::Resting(at) => goes_on.then_some(at),
            Phase::Waiting(at) => Some(at.min(self.began + ANSWER_WITHIN)),
            Phase::Connecting | Phase::Sending | Phase::Receiving => {
                Some(self.began + ANSWER_WITHIN)
            }
        }
    }

    /// This program has not looked for so long: that is not the time of the request under way.
    pub(super) fn stood_still(&mut self, time: Duration) {
        if !self.rests() {
            self.began = self.began + time;
        }
    }

    /// Takes the next steps.
    pub(super) fn turn(&mut self, now: Time, ready: Ready, goes_on: bool) -> Option<Outcome> {
        match self.phase {
            Phase::Resting(at) if goes_on && at <= now => {
                self.began = now;
                self.begin(now)
            }
            Phase::Resting(_) => None,
            _ if self.began + ANSWER_WITHIN <= now => Some(self.overdue(now)),
            Phase::Waiting(at) if at <= now => self.begin(now),
            Phase::Waiting(_) => None,
            Phase::Connecting | Phase::Sending | Phase::Receiving if ready.any() => self.go_on(now),
            Phase::Connecting | Phase::Sending | Phase::Receiving => None,
        }
    }

    fn overdue(&mut self, now: Time) -> Outcome {
        let step = match self.phase {
            Phase::Waiting(_) => "the accept queue stayed full",
            Phase::Connecting => "no connection",
            Phase::Resting(_) | Phase::Sending | Phase::Receiving => "no whole answer",
        };
        let what = format!("{step} within {} s", ANSWER_WITHIN.as_secs());
        self.lose(now, Kind::Slow, what)
    }

    /// Begins the request, on the connection that is kept or on a new one.
    fn begin(&mut self, now: Time) -> Option<Outcome> {
        self.sent = 0;
        self.answer.clear();
        if self.socket.is_some() {
            self.phase = Phase::Sending;
            return self.go_on(now);
        }
        self.answered = 0;
        self.connected = None;
        match dial(&self.job.place) {
            Ok(Dialled::Connected(socket)) => {
                self.socket = Some(socket);
                self.connected = Some(now);
                self.phase = Phase::Sending;
                self.go_on(now)
            }
            Ok(Dialled::Connecting(socket)) => {
                self.socket = Some(socket);
                self.phase = Phase::Connecting;
                None
            }
            Ok(Dialled::QueueFull) => {
                self.phase = Phase::Waiting(now + TRY_AGAIN);
                None
            }
            Err(error) => Some(self.not_connected(now, &error)),
        }
    }

    fn go_on(&mut self, now: Time) -> Option<Outcome> {
        let socket = self.socket.as_ref()?;
        if self.phase == Phase::Connecting {
            if let Err(error) = socket.outcome() {
                return Some(self.not_connected(now, &error));
            }
            self.connected = Some(now);
            self.phase = Phase::Sending;
        }
        let bytes = match (self.job.manner, &self.job.request.kept) {
            (Manner::Kept, Some(kept)) => kept,
            _ => &self.job.request.bytes,
        };
        while self.phase == Phase::Sending {
            let rest = bytes.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                if self.job.ends_request {
                    // Of a connection that has ended, the read tells.
                    let _ = socket.end_request();
                }
                self.phase = Phase::Receiving;
                break;
            }
            match socket.write(rest) {
                Ok(Some(count)) => self.sent += count,
                Ok(None) => break,
                // It may have answered before it closed: the read tells.
                Err(_) => self.phase = Phase::Receiving,
            }
        }
        self.receive(now)
    }

    fn receive(&mut self, now: Time) -> Option<Outcome> {
        let mut chunk = [0; 16 * 1024];
        loop {
            let read = self.socket.as_ref()?.read(&mut chunk);
            match read {
                Ok(None) => return None,
                Ok(Some(0)) => return Some(self.ended(now)),
                Ok(Some(count)) => {
                    self.answer.extend(chunk.get(..count).unwrap_or_default());
                    if self.answer.len() > LONGEST {
                        let what = format!("an answer of more than {} MiB", LONGEST >> 20);
                        return Some(self.lose(now, Kind::Wrong, what));
                    }
                    if let Some(outcome) = self.look(now) {
                        return Some(outcome);
                    }
                }
                Err(error) if self.closed_while_kept() => {
                    drop(error);
                    return Some(self.repeat(now));
                }
                Err(error) => {
                    let what = format!("{} after {} bytes", reason(&error), self.answer.len());
                    let kind = match error.kind() {
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Kind::Reset,
                        _ => Kind::Empty,
                    };
                    return Some(self.lose(now, kind, what));
                }
            }
        }
    }

    /// Whether the answer is whole.
    fn look(&mut self, now: Time) -> Option<Outcome> {
        let Protocol::Http { head } = self.job.request.protocol else {
            return None;
        };
        match http::progress(&self.answer, head, false) {
            http::Progress::Incomplete => None,
            http::Progress::Complete(answer) => Some(self.answered(now, answer)),
            // Whatever it is, it may be the same each time: then it is the answer, once it ends.
            http::Progress::Malformed => None,
        }
    }

    fn ended(&mut self, now: Time) -> Outcome {
        if self.closed_while_kept() {
            return self.repeat(now);
        }
        let text = std::mem::take(&mut self.answer);
        match self.job.request.protocol {
            // Of a plain connect no answer may be the answer.
            Protocol::UntilEnd if text.is_empty() && !self.job.request.bytes.is_empty() => {
                let what = "the end instead of an answer".to_owned();
                self.lose(now, Kind::Empty, what)
            }
            Protocol::UntilEnd => self.answered(now, Answer::until_end(text)),
            Protocol::Http { head } => match http::progress(&text, head, true) {
                _ if text.is_empty() => {
                    let what = "the end instead of an answer".to_owned();
                    self.lose(now, Kind::Empty, what)
                }
                http::Progress::Complete(answer) => self.answered(now, answer),
                http::Progress::Malformed => self.answered(now, Answer::until_end(text)),
                http::Progress::Incomplete => {
                    let what = format!("{CUT} {} bytes of the answer", text.len());
                    self.lose(now, Kind::Wrong, what)
                }
            },
        }
    }

    /// A kept connection has ended before a byte of this answer.
    fn closed_while_kept(&self) -> bool {
        self.answered > 0 && self.answer.is_empty() && !self.is_repeat
    }

    fn repeat(&mut self, now: Time) -> Outcome {
        self.socket = None;
        self.is_repeat = true;
        // The same request, whose time goes on.
        self.phase = Phase::Waiting(now);
        Outcome::Repeated
    }

    fn answered(&mut self, now: Time, answer: Answer) -> Outcome {
        self.answered += 1;
        let stays =
            self.job.manner == Manner::Kept && answer.is_kept && self.answered < REQUESTS_KEPT;
        if !stays {
            self.socket = None;
        }
        self.rest(now + PAUSE);
        Outcome::Answered(answer, now.since(self.began))
    }

    fn rest(&mut self, until: Time) {
        self.answer.clear();
        self.is_repeat = false;
        self.phase = Phase::Resting(until);
    }

    fn lose(&mut self, now: Time, kind: Kind, what: String) -> Outcome {
        self.socket = None;
        let connected = self.connected;
        self.rest(now + PAUSE);
        Outcome::Lost {
            kind,
            what,
            connected,
        }
    }

    fn not_connected(&mut self, now: Time, error: &io::Error) -> Outcome {
        let what = reason(error);
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => {
                self.lose(now, Kind::Refused, what)
            }
            ErrorKind::ConnectionReset => self.lose(now, Kind::Reset, what),
            ErrorKind::TimedOut => self.lose(now, Kind::Slow, what),
            _ => {
                self.socket = None;
                self.rest(now + TRY_AGAIN * 20);
                let number = error.raw_os_error();
                let number = number.map_or_else(String::new, |number| format!(", errno {number}"));
                Outcome::NotMade(what + &number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn client(place: Place, now: Time) -> Client {
        let job = Job {
            place,
            request: Rc::new(Request::parse("who").expect("it is right")),
            ends_request: false,
            manner: Manner::New,
        };
        Client::new(job, now)
    }

    #[test]
    fn time_in_which_the_client_stood_still_is_not_the_services() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let now = Time(0);
        let place = Place::Tcp(listener.local_addr().expect("its address"));
        let mut client = client(place, now);
        // Before its request began.
        client.stood_still(ANSWER_WITHIN);
        assert_eq!(client.turn(now, Ready::default(), true), None);
        assert!(!client.rests());
        client.stood_still(Duration::from_secs(5));
        let late = now + ANSWER_WITHIN;
        assert_eq!(client.turn(late, Ready::default(), true), None);
        assert_eq!(client.deadline(true), Some(late + Duration::from_secs(5)));
        let lost = client.turn(late + Duration::from_secs(5), Ready::default(), true);
        assert!(
            matches!(
                lost,
                Some(Outcome::Lost {
                    kind: Kind::Slow,
                    ..
                })
            ),
            "{lost:?}"
        );
    }

    #[test]
    fn a_connection_that_is_not_made_has_the_number_of_the_error() {
        // A file where a directory has to be.
        let mut client = client(Place::Unix("/proc/self/status/sock".into()), Time(0));
        let outcome = client.turn(Time(0), Ready::default(), true);
        let expected = Outcome::NotMade("Not a directory, errno 20".to_owned());
        assert_eq!(outcome, Some(expected));
    }
}
