//! The connection between two masters: a socket of whole messages (SOCK_SEQPACKET), which may carry
//! descriptors and never blocks.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

use super::cmsg;

/// The most descriptors in one message. The kernel allows 253 (SCM_MAX_FD).
pub const MAX_FDS: usize = 250;

/// One end of the connection. Messages that the socket has no room for wait here.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    ended: bool,
}

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// Its bytes.
    pub text: Vec<u8>,
    /// The descriptors that it carried; close-on-exec.
    pub fds: Vec<OwnedFd>,
}

impl Link {
    /// A new connection and its other end. Both ends are close-on-exec.
    ///
    /// # Errors
    /// What socketpair(2) said: EMFILE, ENFILE.
    pub fn pair() -> io::Result<(Link, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )?;
        Ok((Link::new(ours), theirs))
    }

    /// The connection over an end that was inherited.
    pub fn new(socket: OwnedFd) -> Link {
        Link {
            socket,
            waiting: VecDeque::new(),
            ended: false,
        }
    }

    /// The connection as the previous image of this process left it, with the messages that wait.
    pub fn taken_over(socket: OwnedFd, waiting: impl IntoIterator<Item = Vec<u8>>) -> Link {
        Link {
            waiting: waiting.into_iter().collect(),
            ..Link::new(socket)
        }
    }

    /// The messages that wait for room.
    pub fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        self.waiting.iter().map(Vec::as_slice)
    }

    /// Sends a message with descriptors, now or not at all.
    ///
    /// # Errors
    /// What sendmsg(2) said: EAGAIN without room, EPIPE if the other end is closed, ETOOMANYREFS.
    pub fn send_now(&self, text: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let part = [IoSlice::new(text)];
        sendmsg::<()>(self.socket.as_raw_fd(), &part, rights, flags, None)?;
        Ok(())
    }

    /// Queues a message, to be sent as soon as there is room. If the other end is closed, the
    /// message is dropped.
    ///
    /// # Errors
    /// As [`Link::flush`].
    pub fn send(&mut self, text: Vec<u8>) -> io::Result<()> {
        self.waiting.push_back(text);
        self.flush()
    }

    /// Sends the messages that wait, as far as there is room.
    ///
    /// # Errors
    /// What sendmsg(2) said, apart from no room and a closed end: ENOBUFS, ENOMEM. The messages
    /// still wait, in their order: call this again later.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some(text) = self.waiting.front() {
            match self.send_now(text, &[]) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    // The other end is closed: receive() will report the end.
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                        self.waiting.clear();
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Whether a message waits for room.
    pub fn wants_write(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the other end is closed and all its messages were received. An error of recvmsg(2)
    /// is no end: it only means that this process could not look.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next message, cut at `longest` bytes; `None` if there is none now.
    ///
    /// # Errors
    /// What recvmsg(2) said: ENOMEM. A message that waits is still there.
    pub fn receive(&mut self, longest: usize) -> io::Result<Option<Message>> {
        let mut text = vec![0; longest];
        loop {
            match cmsg::receive(self.socket.as_fd(), &mut text) {
                Ok(received) if received.len == 0 && received.fds.is_empty() => {
                    self.ended = true;
                    return Ok(None);
                }
                Ok(received) => {
                    text.truncate(received.len);
                    let fds = received.fds;
                    return Ok(Some(Message { text, fds }));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    // The other end was closed before it had read all that was sent. The kernel
                    // reports this once, before the messages that still wait here.
                    io::ErrorKind::ConnectionReset => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(link: &mut Link) -> bool {
        link.receive(64).expect("read").is_none()
    }

    #[test]
    fn what_was_sent_before_a_close_with_unread_messages_is_received() {
        let (mut ours, theirs) = Link::pair().expect("a pair");
        let mut theirs = Link::new(theirs);
        theirs.send(b"unread".to_vec()).expect("sent");
        ours.send(b"last".to_vec()).expect("sent");
        drop(ours);
        let last = theirs.receive(64).expect("read").expect("a message");
        assert_eq!(last.text, b"last");
    }

    #[test]
    fn messages_stay_whole_wait_for_room_and_survive_their_sender() {
        let (mut ours, theirs) = Link::pair().expect("a pair");
        let mut theirs = Link::new(theirs);
        let (read, write) = crate::sys::io::fd::pipe().expect("a pipe");
        ours.send_now(b"first", &[write.as_raw_fd()]).expect("sent");
        drop(write);
        let many = 3000;
        for number in 0..many {
            let text = format!("message {number}").into_bytes();
            ours.send(text).expect("queued");
        }
        assert!(ours.wants_write(), "there is no room for all of them");
        let first = theirs.receive(64).expect("read").expect("a message");
        assert_eq!((first.text.as_slice(), first.fds.len()), (&b"first"[..], 1));
        for number in 0..many {
            let message = loop {
                match theirs.receive(64).expect("read") {
                    Some(message) => break message,
                    None => ours.flush().expect("sent"),
                }
            };
            assert_eq!(message.text, format!("message {number}").into_bytes());
        }
        assert!(none(&mut theirs) && !theirs.has_ended());
        ours.send(b"last".to_vec()).expect("sent");
        drop(ours);
        let last = theirs.receive(64).expect("read").expect("a message");
        assert_eq!(last.text, b"last");
        // Another test may be forking: its child has a copy of our end until it executes its
        // program.
        let until = Some(crate::sys::machine::clock::now() + crate::sys::testing::PATIENCE);
        let fds = [(theirs.socket.as_fd(), crate::sys::io::poll::Interest::READ)];
        crate::sys::io::poll::Poller::new()
            .wait(&fds, until)
            .expect("poll");
        assert!(none(&mut theirs) && theirs.has_ended());
        theirs.send(b"to a closed end".to_vec()).expect("dropped");
        assert!(!theirs.wants_write());
        drop((first, read));
    }
}
