//! A connection to a control socket: one request out, lines in.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::deadline::{ANSWER_WITHIN, Idle, next_stretch, time_left};
use super::master::Master;
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::control::connect;
use crate::sys::control::descriptors;
use crate::sys::control::token::Token;
use crate::sys::io::nonblocking::read_stream_now;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::{clock, limits};
use crate::wire::control::{
    ControlCommand, MAX_REQUEST, Request, Response, parse_response, token_line,
};

/// The longest line that is taken from a master: a status document of 100,000 slots fits.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// A wait that is over already; zero would mean "no limit".
const SHORTEST: Duration = Duration::from_micros(1);

/// A connection to the control socket of a master.
#[derive(Debug)]
pub struct ControlConnection {
    stream: UnixStream,
    deadline: Option<Time>,
    /// What is sent before the first request: the token.
    greeting: Vec<u8>,
    presents_token: bool,
    /// A line has come.
    heard: bool,
    /// Until when the first line of an answer must arrive. `None`: it has arrived, or the request
    /// may stay unanswered for long.
    answer_by: Option<Time>,
    buffer: Vec<u8>,
    /// The first bytes of `buffer` that were searched for a newline already.
    scanned: usize,
    /// What has come with the lines, if it is wanted.
    fds: Option<Vec<OwnedFd>>,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerLine {
    /// The line, parsed.
    pub answer: Response,
    /// The line as received, with the fields that only a newer master knows.
    pub text: String,
}

/// What has come on a connection, for a caller that does not wait here.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A line.
    Line(Box<AnswerLine>),
    /// No whole line yet.
    Nothing,
    /// The master has closed the connection.
    End,
}

/// What came of waiting for a line that is for the reader of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A line.
    Line(String),
    /// The master has closed the connection.
    End,
    /// The output has no reader any more.
    NoReader,
}

impl ControlConnection {
    /// Connects to the control socket at `path`. `deadline` bounds the connect and every later
    /// call.
    ///
    /// # Errors
    /// The error of connect(2) as it is: only the caller knows what a missing or refusing socket
    /// means. `WouldBlock`: the master did not accept in time.
    pub fn open(path: &Path, deadline: Option<Time>) -> io::Result<Self> {
        let until = deadline.unwrap_or_else(|| clock::now() + ANSWER_WITHIN);
        let within = time_left(until).ok_or(io::ErrorKind::WouldBlock)?;
        let stream = connect::connect(path, within)?;
        Ok(ControlConnection {
            stream,
            deadline,
            greeting: Vec::new(),
            presents_token: false,
            heard: false,
            answer_by: None,
            buffer: Vec::new(),
            scanned: 0,
            fds: None,
        })
    }

    /// Presents this token before the first request.
    pub fn present(&mut self, token: &Token) {
        self.greeting = token_line(token.text());
        self.presents_token = true;
    }

    /// Whether a token is presented.
    pub(crate) fn presents_token(&self) -> bool {
        self.presents_token
    }

    /// Whether anything has come on this connection.
    pub fn has_heard(&self) -> bool {
        self.heard || !self.buffer.is_empty()
    }

    /// The process at the other end. `None`: it runs in another pid namespace.
    pub fn master(&self) -> Result<Option<Master>> {
        let peer = connect::open_server(&self.stream)
            .map_err(|error| Error::system("cannot tell who owns the control socket", error))?;
        Ok(peer.map(|(pid, process)| Master::new(pid, process)))
    }

    /// Sends one request.
    ///
    /// A master that has closed the connection is no error yet: it may have sent a reason before,
    /// which [`ControlConnection::next_line`] returns.
    ///
    /// # Errors
    /// Exit 5: the master does not read.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        self.send_with(request, &[])
    }

    /// As [`send`](Self::send), with descriptors that go along with the request.
    ///
    /// # Errors
    /// As [`send`](Self::send); exit 6: the request is too long; exit 111: the system refuses.
    pub fn send_with(&mut self, request: &Request, mut fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut line = serde_json::to_vec(request)
            .map_err(|error| Error::system("cannot write the request", error))?;
        line.push(b'\n');
        if !fds.is_empty() && line.len() > MAX_REQUEST {
            let what = "the names of so many listeners are too long for one request";
            return Err(Error::new(Exit::Refused, what, "").hint("give them in several"));
        }
        let greeting = std::mem::take(&mut self.greeting);
        let until = self
            .deadline
            .unwrap_or_else(|| clock::now() + ANSWER_WITHIN);
        // The answer to `wait` may begin with its end. Every other answer has a first line at once.
        let silent = matches!(request.command, ControlCommand::Wait { .. });
        self.answer_by = (self.deadline.is_none() && !silent).then_some(until);
        let mut rests = [greeting.as_slice(), line.as_slice()].into_iter();
        let mut rest = rests.next().unwrap_or_default();
        loop {
            if rest.is_empty() {
                match rests.next() {
                    Some(next) => rest = next,
                    None => return Ok(()),
                }
            }
            let within = time_left(until).ok_or_else(no_answer)?;
            self.stream
                .set_write_timeout(Some(within))
                .map_err(connection_broken)?;
            // The descriptors belong to the request, and not to the token in front of it.
            let is_greeting = rests.len() > 0;
            let lot = if is_greeting { &[] } else { fds };
            match descriptors::send_some(self.stream.as_fd(), rest, lot) {
                Ok((written, passed)) => {
                    rest = rest.get(written..).unwrap_or_default();
                    fds = fds.get(passed..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(no_answer()),
                Err(error) if is_disconnected(&error) => return Ok(()),
                Err(error) => return Err(connection_broken(error)),
            }
        }
    }

    /// From now on the descriptors are kept that come with the lines.
    pub fn want_fds(&mut self) {
        self.fds.get_or_insert_default();
    }

    /// Those that have come.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.fds.take().unwrap_or_default()
    }

    /// Receives the next line, and calls `idle` meanwhile. `None`: the master has closed the
    /// connection.
    ///
    /// # Errors
    /// Exit 1: the line cannot be parsed, so it is unknown what the master did.
    pub fn next_line(&mut self, idle: Idle<'_>) -> Result<Option<AnswerLine>> {
        self.next_text(idle)?.map(AnswerLine::parse).transpose()
    }

    /// As [`next_line`](Self::next_line), without parsing: for long answers.
    pub fn next_text(&mut self, idle: Idle<'_>) -> Result<Option<String>> {
        loop {
            while let Some(bytes) = self.take_line() {
                self.answer_by = None;
                self.heard = true;
                if !bytes.trim_ascii().is_empty() {
                    let mut text =
                        String::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
                    text.truncate(text.trim_end().len());
                    text.drain(..text.len() - text.trim_start().len());
                    return Ok(Some(text));
                }
            }
            if self.buffer.len() > MAX_LINE {
                return Err(malformed("it is too long"));
            }
            if !self.fill(idle)? {
                return Ok(None);
            }
        }
    }

    /// As [`next_text`](Self::next_text), for a line that goes on to `output`: ends the wait when
    /// that has no reader any more.
    pub fn next_text_for(&mut self, output: BorrowedFd<'_>) -> Result<Followed> {
        let has_line = self.buffer.contains(&b'\n');
        let until = self.answer_by.or(self.deadline);
        if !has_line {
            let fds = [
                (self.stream.as_fd(), Interest::READ),
                (output, Interest::NONE),
            ];
            let mut poller = Poller::new();
            let ready = poller.wait(&fds, until).map_err(connection_broken)?;
            match ready {
                [_, output] if output.hangup => return Ok(Followed::NoReader),
                _ => {}
            }
        }
        let text = self.next_text(None)?;
        Ok(text.map_or(Followed::End, Followed::Line))
    }

    /// Readable when [`receive`](Self::receive) has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Until when the first line of an answer has to come.
    pub fn answer_by(&self) -> Option<Time> {
        self.answer_by
    }

    /// The next line, without waiting: for a caller that waits for other descriptors as well.
    ///
    /// # Errors
    /// Exit 1: the line cannot be parsed. Exit 5: the first line of the answer is overdue.
    pub fn receive(&mut self) -> Result<Received> {
        let mut chunk = [0; 64 * 1024];
        loop {
            while let Some(bytes) = self.take_line() {
                self.answer_by = None;
                self.heard = true;
                if !bytes.trim_ascii().is_empty() {
                    let text =
                        String::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8"))?;
                    let line = AnswerLine::parse(text.trim().to_owned())?;
                    return Ok(Received::Line(Box::new(line)));
                }
            }
            if self.buffer.len() > MAX_LINE {
                return Err(malformed("it is too long"));
            }
            match read_stream_now(&self.stream, &mut chunk) {
                Ok(Some(0)) => return Ok(Received::End),
                Ok(Some(count)) => self.buffer.extend(chunk.get(..count).unwrap_or_default()),
                Ok(None) if self.answer_by.is_some_and(|by| time_left(by).is_none()) => {
                    return Err(no_answer());
                }
                Ok(None) => return Ok(Received::Nothing),
                Err(error) if is_disconnected(&error) => return Ok(Received::End),
                Err(error) => return Err(connection_broken(error)),
            }
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        let found = self
            .buffer
            .get(self.scanned..)?
            .iter()
            .position(|byte| *byte == b'\n');
        let Some(offset) = found else {
            self.scanned = self.buffer.len();
            return None;
        };
        let end = self.scanned + offset;
        self.scanned = 0;
        // A long line is mostly alone in the buffer. So move the line and copy the rest.
        let rest = self.buffer.split_off(end + 1);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    /// One read, which waits until `until` at most. That a descriptor was lost is the outer error.
    fn read(&mut self, chunk: &mut [u8], until: Option<Time>) -> Result<io::Result<usize>> {
        let Some(fds) = &mut self.fds else {
            return Ok(self.stream.read(chunk));
        };
        let readable = [(self.stream.as_fd(), Interest::READ)];
        Poller::new()
            .wait(&readable, until)
            .map_err(connection_broken)?;
        let (count, come, is_cut) = match descriptors::receive(self.stream.as_fd(), chunk) {
            Ok(received) => received,
            Err(error) => return Ok(Err(error)),
        };
        fds.extend(come);
        if is_cut {
            let limit = limits::nofile();
            return Err(Error::system(
                "cannot receive all listeners",
                format!("the limit of open files is {limit}"),
            )
            .hint("raise it: ulimit -n"));
        }
        Ok(Ok(count))
    }

    /// Waits until something can be read, and reads it. False: the connection has ended.
    fn fill(&mut self, idle: Idle<'_>) -> Result<bool> {
        let mut chunk = [0; 64 * 1024];
        loop {
            let until = self.answer_by.or(self.deadline);
            if until.is_some_and(|until| time_left(until).is_none()) {
                return Err(no_answer());
            }
            let stretch = next_stretch(until, idle);
            let within = stretch.map(|stretch| time_left(stretch).unwrap_or(SHORTEST));
            self.stream
                .set_read_timeout(within)
                .map_err(connection_broken)?;
            match self.read(&mut chunk, stretch)? {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.buffer.extend(chunk.get(..count).unwrap_or_default());
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && stretch == until => {
                    return Err(no_answer());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    idle.inspect(|idle| idle());
                }
                Err(error) if is_disconnected(&error) => return Ok(false),
                Err(error) => return Err(connection_broken(error)),
            }
        }
    }
}

impl AnswerLine {
    /// Parses a line.
    pub fn parse(text: String) -> Result<AnswerLine> {
        let answer = parse_response(&text).map_err(malformed)?;
        Ok(AnswerLine { answer, text })
    }
}

fn is_disconnected(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(Exit::Failed, "cannot read the master's answer", why)
}

fn connection_broken(error: io::Error) -> Error {
    Error::system("the control connection is broken", error)
}

fn no_answer() -> Error {
    Error::new(Exit::Timeout, "the master does not answer", "")
}

#[cfg(test)]
mod tests;
