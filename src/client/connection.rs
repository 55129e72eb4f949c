//! A connection to a control socket: one request out, lines in.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::target::Master;
use super::{ANSWER_WITHIN, left};
use crate::error::{Error, Exit, Result};
use crate::model::time::Time;
use crate::sys::control::connect;
use crate::sys::machine::clock;
use crate::wire::control::{ControlCommand, Request, Response, parse_response};

/// The longest line that is taken from a master: a status document of 100,000 slots fits.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// A connection to a master.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    deadline: Option<Time>,
    /// When the first line of an answer must be there; none once it is, or where an answer may take its time.
    answer_by: Option<Time>,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no newline.
    scanned: usize,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it says.
    pub answer: Response,
    /// The line itself, with whatever a newer master put into it.
    pub text: String,
}

impl Connection {
    /// Connects to the control socket at `path`; everything after is bounded by `deadline` too.
    ///
    /// The outer error is the system's own: only the caller knows what an absent or refusing socket means. A master that does not
    /// accept in time is `WouldBlock`.
    pub fn open(path: &Path, deadline: Option<Time>) -> io::Result<Self> {
        let until = deadline.unwrap_or_else(|| clock::now() + ANSWER_WITHIN);
        let within = left(until).ok_or(io::ErrorKind::WouldBlock)?;
        let stream = connect::connect(path, within)?;
        Ok(Connection {
            stream,
            deadline,
            answer_by: None,
            buffer: Vec::new(),
            scanned: 0,
        })
    }

    /// The process at the other end; `None` where it lives in another pid namespace.
    pub fn master(&self) -> Result<Option<Master>> {
        let peer = connect::open_server(&self.stream)
            .map_err(|error| Error::system("cannot tell who owns the control socket", error))?;
        Ok(peer.map(|(pid, process)| Master::new(pid, process)))
    }

    /// Sends one request. A master that does not read is exit 5. One that has closed the connection is no error yet: it may have said why,
    /// and [`Connection::next_line`] tells.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_vec(request)
            .map_err(|error| Error::system("cannot write the request", error))?;
        line.push(b'\n');
        let until = self
            .deadline
            .unwrap_or_else(|| clock::now() + ANSWER_WITHIN);
        // A wait may be silent until its end; everything else begins with a line at once.
        let silent = matches!(request.command, ControlCommand::Wait { .. });
        self.answer_by = (self.deadline.is_none() && !silent).then_some(until);
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let within = left(until).ok_or_else(too_late)?;
            self.stream
                .set_write_timeout(Some(within))
                .map_err(broken)?;
            match self.stream.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
                Err(error) if has_gone(&error) => return Ok(()),
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// The next line, or `None` when the master has closed the connection.
    ///
    /// A line that makes no sense is exit 1: whatever the master did, it was not what we know.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        self.next_text()?.map(Line::read).transpose()
    }

    /// As [`next_line`](Self::next_line), but nobody has looked at what it says: for answers that are long.
    pub fn next_text(&mut self) -> Result<Option<String>> {
        loop {
            while let Some(bytes) = self.take_line() {
                self.answer_by = None;
                if !bytes.trim_ascii().is_empty() {
                    let mut text =
                        String::from_utf8(bytes).map_err(|_| garbage("it is not UTF-8"))?;
                    text.truncate(text.trim_end().len());
                    text.drain(..text.len() - text.trim_start().len());
                    return Ok(Some(text));
                }
            }
            if self.buffer.len() > MAX_LINE {
                return Err(garbage("it is too long"));
            }
            if !self.fill()? {
                return Ok(None);
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
        // A long line mostly comes alone, and need not be copied.
        let rest = self.buffer.split_off(end + 1);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    /// Reads what is there, and waits for it; whether there may be more.
    fn fill(&mut self) -> Result<bool> {
        let mut chunk = [0; 64 * 1024];
        loop {
            let until = self.answer_by.or(self.deadline);
            let within = until
                .map(|until| left(until).ok_or_else(too_late))
                .transpose()?;
            self.stream.set_read_timeout(within).map_err(broken)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.buffer.extend(chunk.get(..count).unwrap_or_default());
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
                Err(error) if has_gone(&error) => return Ok(false),
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

impl Line {
    /// Reads what a line says.
    pub fn read(text: String) -> Result<Line> {
        let answer = parse_response(&text).map_err(garbage)?;
        Ok(Line { answer, text })
    }
}

fn has_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn garbage(why: impl std::fmt::Display) -> Error {
    Error::new(Exit::Failed, "the master's answer makes no sense", why)
}

fn broken(error: io::Error) -> Error {
    Error::system("the control connection is broken", error)
}

fn too_late() -> Error {
    Error::new(Exit::Timeout, "the master does not answer", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pair(deadline: Option<Duration>) -> (Connection, UnixStream) {
        let (stream, peer) = UnixStream::pair().expect("a pair");
        let deadline = deadline.map(|deadline| clock::now() + deadline);
        (
            Connection {
                stream,
                deadline,
                answer_by: None,
                buffer: Vec::new(),
                scanned: 0,
            },
            peer,
        )
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        let (mut connection, mut peer) = pair(None);
        peer.write_all(
            b"{\"ok\":true,\"op\":1}\r\n\n{\"event\":\"progress\",\"op\":2}\n{\"ok\":fal",
        )
        .expect("write");
        drop(peer);
        let first = connection.next_line().expect("sound").expect("a line");
        assert_eq!(first.text, "{\"ok\":true,\"op\":1}");
        let second = connection.next_line().expect("sound").expect("a line");
        assert!(matches!(second.answer, Response::Progress(progress) if progress.op == 2));
        assert_eq!(
            connection.next_line().expect("sound"),
            None,
            "half a line is no line"
        );
    }

    #[test]
    fn garbage_is_an_error_of_one_line() {
        for bytes in [
            &b"\xff\xfe\n"[..],
            b"pardon\n",
            b"7\n",
            b"{\"ok\":\"maybe\"}\n",
        ] {
            let (mut connection, mut peer) = pair(None);
            peer.write_all(bytes).expect("write");
            let error = connection.next_line().expect_err("garbage");
            assert_eq!(error.exit, Exit::Failed);
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn silence_ends_at_the_deadline_and_so_does_a_master_that_does_not_read() {
        let (mut connection, _peer) = pair(Some(Duration::from_millis(30)));
        assert_eq!(
            connection.next_line().expect_err("silence").exit,
            Exit::Timeout
        );

        let (mut connection, _peer) = pair(Some(Duration::from_millis(30)));
        let command = ControlCommand::Signal {
            signal: "x".repeat(8 * 1024 * 1024),
            workers: false,
            slot: None,
        };
        let request = Request {
            command,
            id: None,
            wait: true,
            key: None,
        };
        assert_eq!(
            connection.send(&request).expect_err("nobody reads").exit,
            Exit::Timeout
        );
    }

    #[test]
    fn only_the_first_line_must_come_at_once() {
        let (mut connection, mut peer) = pair(None);
        connection
            .send(&Request {
                command: ControlCommand::Status,
                id: None,
                wait: true,
                key: None,
            })
            .expect("sent");
        assert!(connection.answer_by.is_some());
        peer.write_all(b"{\"event\":\"progress\",\"op\":2}\n")
            .expect("write");
        connection.next_line().expect("sound");
        assert_eq!(connection.answer_by, None);

        connection.answer_by = Some(clock::now());
        assert_eq!(
            connection.next_line().expect_err("silence").exit,
            Exit::Timeout
        );

        let wait = ControlCommand::Wait {
            ready: true,
            op: None,
        };
        connection
            .send(&Request {
                command: wait,
                id: None,
                wait: true,
                key: None,
            })
            .expect("sent");
        assert_eq!(connection.answer_by, None, "a wait may be silent");
    }
}
