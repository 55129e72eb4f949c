//! The line between two masters: a socket of whole messages, which may carry descriptors, and never blocks.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

use super::cmsg;

/// How many descriptors one message carries: the kernel takes a few more.
pub const MOST_FDS: usize = 250;

/// One end. Messages that the other side has no room for wait here.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    ended: bool,
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// What it says.
    pub text: Vec<u8>,
    /// What came along; close-on-exec.
    pub fds: Vec<OwnedFd>,
}

impl Link {
    /// A line, and its other end; both close-on-exec.
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

    /// The end that somebody else made.
    pub fn new(socket: OwnedFd) -> Link {
        Link {
            socket,
            waiting: VecDeque::new(),
            ended: false,
        }
    }

    /// Sends a message with descriptors, now or not at all.
    ///
    /// # Errors
    /// What sendmsg(2) said: EAGAIN without room, EPIPE when nobody is there, ETOOMANYREFS.
    pub fn give(&self, text: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let part = [IoSlice::new(text)];
        sendmsg::<()>(self.socket.as_raw_fd(), &part, rights, flags, None)?;
        Ok(())
    }

    /// Says something as soon as there is room. To somebody who is gone nothing is said.
    pub fn tell(&mut self, text: Vec<u8>) {
        self.waiting.push_back(text);
        self.flush();
    }

    /// Sends what waits, as far as there is room.
    pub fn flush(&mut self) {
        while let Some(text) = self.waiting.front() {
            match self.give(text, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Whoever is gone is seen to be when the end of file is read.
                Ok(()) | Err(_) => drop(self.waiting.pop_front()),
            }
        }
    }

    /// Whether something waits for room.
    pub fn wants_write(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the other end has been closed, and all that it said was heard.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next message, of at most `longest` bytes; None: there is none now.
    pub fn hear(&mut self, longest: usize) -> Option<Message> {
        let mut text = vec![0; longest];
        match cmsg::receive(self.socket.as_fd(), &mut text) {
            Ok(received) if received.len == 0 && received.fds.is_empty() => {
                self.ended = true;
                None
            }
            Ok(received) => {
                text.truncate(received.len);
                let fds = received.fds;
                Some(Message { text, fds })
            }
            Err(error) => {
                self.ended |= error.kind() != io::ErrorKind::WouldBlock;
                None
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

    #[test]
    fn messages_stay_whole_and_wait_for_room_and_survive_their_sender() {
        let (mut ours, theirs) = Link::pair().expect("a pair");
        let mut theirs = Link::new(theirs);
        let (read, write) = crate::sys::io::fd::pipe().expect("a pipe");
        ours.give(b"first", &[write.as_raw_fd()]).expect("sent");
        drop(write);
        let many = 3000;
        for number in 0..many {
            ours.tell(format!("message {number}").into_bytes());
        }
        assert!(ours.wants_write(), "there is no room for all of them");
        let first = theirs.hear(64).expect("a message");
        assert_eq!((first.text.as_slice(), first.fds.len()), (&b"first"[..], 1));
        for number in 0..many {
            let message = loop {
                match theirs.hear(64) {
                    Some(message) => break message,
                    None => ours.flush(),
                }
            };
            assert_eq!(message.text, format!("message {number}").into_bytes());
        }
        assert!(theirs.hear(64).is_none() && !theirs.has_ended());
        ours.tell(b"last".to_vec());
        drop(ours);
        assert_eq!(theirs.hear(64).expect("a message").text, b"last");
        // Another test may be forking: its child has a copy of our end until it has executed its program.
        let until = Some(crate::sys::machine::clock::now() + crate::sys::testing::PATIENCE);
        let fds = [(theirs.socket.as_fd(), crate::sys::io::poll::Interest::READ)];
        crate::sys::io::poll::Poller::new()
            .wait(&fds, until)
            .expect("poll");
        assert!(theirs.hear(64).is_none() && theirs.has_ended());
        theirs.tell(b"nobody".to_vec());
        assert!(!theirs.wants_write());
        drop((first, read));
    }
}
