//! One client of the control socket: reads lines, sends lines, never blocks.
//!
//! Both directions are bounded. A request has at most [`MAX_REQUEST`] bytes, and one read takes one
//! line, however many were sent: the caller decides how many it takes a turn of its loop. A client
//! that does not read its replies is dropped.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};

use super::descriptors::{Arrived, Attached, Missing};
use crate::sys::io::cmsg;
use crate::wire::control::MAX_REQUEST;

/// The limits of one [`Conn::read`]: what a client may cost a turn of the loop.
pub(super) const BATCH_BYTES: usize = 64 * 1024;
const BATCH_LINES: usize = 1;
pub(super) const CHUNK: usize = 16 * 1024;
/// A client with more unread bytes than this gets no further reply.
pub(super) const MAX_UNSENT: usize = 4 * 1024 * 1024;

/// What one client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// A line of more than 64 KiB. It is skipped; the connection goes on.
    TooLong,
    /// The input ended within a line. The incomplete line is dropped.
    Cut,
    /// The client sends no more: it closed, or it shut down its side and may still read.
    End,
}

/// What one [`Conn::read`] returned.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReadBatch {
    /// In the order of arrival.
    pub inputs: Vec<Input>,
    /// Whether bytes are left in our own buffer. poll(2) does not report them: read again in the
    /// next turn of the loop.
    pub more: bool,
}

/// The connection of one client.
#[derive(Debug)]
pub struct Conn {
    pub(super) stream: UnixStream,
    pub(super) peer: (i32, u32, u32),
    /// Bytes that were read from the socket; those before `split_to` are split into lines.
    pub(super) chunk: Vec<u8>,
    pub(super) split_to: usize,
    /// The beginning of a line whose end was not read yet.
    pub(super) partial: Vec<u8>,
    /// The rest of a line that is too long is being skipped.
    pub(super) skipping: bool,
    pub(super) ended: bool,
    /// Replies; those bytes before `written` are sent.
    pub(super) output: Vec<u8>,
    pub(super) written: usize,
    pub(super) arrived: Arrived,
    pub(super) attached: Attached,
}

impl Conn {
    pub(super) fn new(stream: UnixStream) -> io::Result<Conn> {
        stream.set_nonblocking(true)?;
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        Ok(Conn {
            stream,
            peer: (peer.pid(), peer.uid(), peer.gid()),
            chunk: Vec::new(),
            split_to: 0,
            partial: Vec::new(),
            skipping: false,
            ended: false,
            output: Vec::new(),
            written: 0,
            arrived: Arrived::default(),
            attached: Attached::default(),
        })
    }

    /// Readable when there are bytes to [`read`](Self::read); writable when [`flush`](Self::flush)
    /// can send.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The pid (0 if in another pid namespace), uid and gid of the client at its connect(2).
    pub fn peer(&self) -> (i32, u32, u32) {
        self.peer
    }

    /// Whether to poll for reading. False after [`Input::End`]: the descriptor would be readable
    /// for ever.
    pub fn wants_read(&self) -> bool {
        !self.ended
    }

    /// Whether the client sent the beginning of a line, but not its end yet.
    pub fn has_partial_line(&self) -> bool {
        !self.partial.is_empty() || self.skipping
    }

    /// Reads what is there, at most 64 KiB or one line, so that a flood from one client does not
    /// delay the others.
    pub fn read(&mut self) -> ReadBatch {
        self.drop_spent_fds();
        let mut batch = ReadBatch::default();
        let mut taken = 0;
        loop {
            self.split(&mut batch.inputs);
            // The rest of a line that is too long is skipped with it: a connection that is closed
            // with unread bytes is reset, and its client does not get the answer.
            let is_full = batch.inputs.len() >= BATCH_LINES && !self.skipping;
            if is_full || self.ended || taken >= BATCH_BYTES {
                break;
            }
            match self.fill() {
                Ok(0) => {
                    self.ended = true;
                    if self.has_partial_line() {
                        self.partial = Vec::new();
                        batch.inputs.push(Input::Cut);
                    }
                    batch.inputs.push(Input::End);
                }
                Ok(count) => taken += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if passes(&error) => break,
                // A broken connection has ended; the next flush reports the error.
                Err(_) => {
                    self.ended = true;
                    batch.inputs.push(Input::End);
                }
            }
        }
        batch.more = self.split_to < self.chunk.len();
        if !batch.more {
            // Free the buffer: an idle client uses no memory.
            self.chunk = Vec::new();
            self.split_to = 0;
        }
        batch
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.split_to = 0;
        self.chunk.clear();
        self.chunk.resize(CHUNK, 0);
        let received = cmsg::receive(self.stream.as_fd(), &mut self.chunk);
        self.chunk
            .truncate(received.as_ref().map_or(0, |received| received.len));
        let received = received?;
        self.arrived
            .came_with(&self.chunk, received.fds, received.is_cut);
        Ok(received.len)
    }

    /// Takes the descriptors that came with the line that was returned last.
    ///
    /// # Errors
    /// Some did not arrive; those that did are closed.
    pub fn take_fds(&mut self) -> Result<Vec<OwnedFd>, Missing> {
        self.arrived.take()
    }

    /// Closes all descriptors that have come.
    pub fn drop_fds(&mut self) {
        drop(self.arrived.take());
    }

    /// Closes the descriptors that came with lines that were returned, and were not taken.
    pub fn drop_spent_fds(&mut self) {
        self.arrived.drop_spent();
    }

    fn split(&mut self, inputs: &mut Vec<Input>) {
        while inputs.len() < BATCH_LINES || self.skipping {
            let rest = self.chunk.get(self.split_to..).unwrap_or_default();
            let Some(piece) = rest.split_inclusive(|byte| *byte == b'\n').next() else {
                return;
            };
            self.split_to += piece.len();
            let whole = piece.ends_with(b"\n");
            self.arrived.lines += u64::from(whole);
            if self.skipping {
                self.skipping = !whole;
            } else if self.partial.len() + piece.len() > MAX_REQUEST {
                self.partial = Vec::new();
                self.skipping = !whole;
                inputs.push(Input::TooLong);
            } else {
                self.partial.extend_from_slice(piece);
                if whole {
                    self.partial.pop();
                    inputs.push(Input::Line(std::mem::take(&mut self.partial)));
                }
            }
        }
    }

    /// Queues `line` and a newline, to be sent by [`flush`](Self::flush). False if the client has
    /// more than 4 MiB of earlier replies unread: drop it then.
    #[must_use = "a client that does not read must be dropped"]
    pub fn send(&mut self, line: String) -> bool {
        if self.unsent() > MAX_UNSENT && (self.flush().is_err() || self.unsent() > MAX_UNSENT) {
            return false;
        }
        if self.wants_write() {
            self.output.extend_from_slice(line.as_bytes());
        } else {
            // Take over the buffer without a copy: the status of a thousand slots is a long line.
            self.output = line.into_bytes();
            self.written = 0;
        }
        self.output.push(b'\n');
        true
    }

    /// As [`send`](Self::send), with descriptors that go along with the line.
    #[must_use = "a client that does not read must be dropped"]
    pub fn send_with(&mut self, line: String, fds: Vec<OwnedFd>) -> bool {
        let length = line.len() + 1;
        let is_sent = self.send(line);
        if is_sent {
            let at = self.output.len().saturating_sub(length);
            self.attached.attach(at, fds);
        }
        is_sent
    }

    /// How many descriptors wait to be sent.
    pub fn unsent_fds(&self) -> usize {
        self.attached.0.iter().map(|(_, lot)| lot.len()).sum()
    }

    /// Sends as much as the socket takes without waiting.
    ///
    /// # Errors
    /// EPIPE or ECONNRESET: the client closed; drop it.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.wants_write() {
            let socket = self.stream.as_fd();
            match self.attached.send(socket, &self.output, self.written) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if passes(&error) => break,
                Err(error) => return Err(error),
            }
        }
        if !self.wants_write() {
            self.output = Vec::new();
            self.written = 0;
        } else if self.written > self.output.len() / 2 {
            self.output.drain(..self.written);
            self.attached.shift(self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Whether queued bytes wait to be sent.
    pub fn wants_write(&self) -> bool {
        self.unsent() > 0
    }

    /// How many bytes wait to be sent.
    pub fn unsent(&self) -> usize {
        self.output.len().saturating_sub(self.written)
    }
}

/// Whether to try again when the socket is ready: it would block, or the kernel is short of memory.
/// A client whose connection is dropped takes the master for dead.
fn passes(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
