//! Accepts a client, reads from it and writes to it, without waiting.
//!
//! The calls use MSG_DONTWAIT, so the socket itself may stay blocking.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{SockRef, Socket};

/// The next client of a non-blocking listener; `None` if there is none. The connection is blocking
/// and close-on-exec.
///
/// # Errors
/// EMFILE, ENFILE, ENOBUFS, ENOMEM: a client may wait, and stays in the queue. EINVAL: the socket
/// does not listen (any more).
pub fn accept(listener: &Socket) -> io::Result<Option<Socket>> {
    match listener.accept() {
        Ok((client, _)) => Ok(Some(client)),
        Err(error) if is_peer_error(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error of accept(2) only means that there is no connection (any more): the client
/// left, another process accepted it, or an error of the client's network came along. see
/// "Error handling" in accept(2). All other errors are about this process or the listener.
pub(in crate::sys) fn is_peer_error(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::EAGAIN
                | Errno::EINTR
                | Errno::ECONNABORTED
                | Errno::EPROTO
                | Errno::EPERM
                | Errno::ENETDOWN
                | Errno::ENETUNREACH
                | Errno::EHOSTDOWN
                | Errno::EHOSTUNREACH
                | Errno::ENONET
                | Errno::ENOPROTOOPT
                | Errno::EOPNOTSUPP
                | Errno::ETIMEDOUT
        )
    )
}

/// Reads the bytes that are there; `None` if there are none yet. 0 bytes are the end of the stream.
///
/// # Errors
/// What recv(2) said.
pub fn read_now(socket: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
    let flags = MsgFlags::MSG_DONTWAIT;
    none_if_blocking(|| recv(socket.as_raw_fd(), into, flags))
}

/// The same from a Unix stream socket of the standard library.
///
/// # Errors
/// What recv(2) said.
pub fn read_stream_now(stream: &UnixStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    read_now(&SockRef::from(stream), into)
}

/// Writes the bytes that there is room for; `None` if there is no room.
///
/// # Errors
/// What send(2) said.
pub fn write_now(socket: &Socket, bytes: &[u8]) -> io::Result<Option<usize>> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    none_if_blocking(|| send(socket.as_raw_fd(), bytes, flags))
}

/// Whether there are bytes to read (true) or the stream has ended (false); `None` if neither. It
/// takes no bytes (MSG_PEEK).
///
/// # Errors
/// What recv(2) said.
pub fn has_more(socket: &Socket) -> io::Result<Option<bool>> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    let seen = none_if_blocking(|| recv(socket.as_raw_fd(), &mut [0], flags))?;
    Ok(seen.map(|count| count > 0))
}

/// Repeats the call after a signal; `None` if it would block.
fn none_if_blocking(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call().map_err(io::Error::from) {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (Socket, Socket) {
        let (one, two) = std::os::unix::net::UnixStream::pair().expect("a pair");
        (Socket::from(one), Socket::from(two))
    }

    #[test]
    fn reads_and_writes_do_not_wait() {
        let (ours, theirs) = pair();
        let mut bytes = [0; 8];
        assert_eq!(has_more(&ours).expect("asked"), None);
        assert_eq!(read_now(&ours, &mut bytes).expect("asked"), None);
        assert_eq!(write_now(&theirs, b"abc").expect("room"), Some(3));
        assert_eq!(has_more(&ours).expect("asked"), Some(true));
        assert_eq!(read_now(&ours, &mut bytes).expect("read"), Some(3));
        let full = (0..100_000).find_map(|_| match write_now(&theirs, &[0; 4096]) {
            Ok(Some(_)) => None,
            told => Some(told),
        });
        assert!(matches!(full, Some(Ok(None))), "{full:?}");
        drop(theirs);
        while read_now(&ours, &mut [0; 65536]).expect("read") != Some(0) {}
        assert_eq!(has_more(&ours).expect("the end"), Some(false));
        let gone = write_now(&ours, b"x").expect_err("no reader");
        assert_eq!(gone.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_client_is_accepted_if_there_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("set");
        let listener = Socket::from(listener);
        assert!(accept(&listener).expect("no client").is_none());
        let _client = TcpStream::connect(at).expect("connected");
        let accepted = accept(&listener).expect("accepted").expect("one");
        assert!(!accepted.nonblocking().expect("asked"));
        let error = accept(&accepted).expect_err("no listener");
        assert_eq!(error.raw_os_error(), Some(Errno::EINVAL as i32));
    }
}
