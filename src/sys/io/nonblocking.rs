//! Accepting a client, and talking to it without waiting.

use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::Socket;

/// The next client of a listener that does not block, if there is one. The connection blocks, and is close-on-exec.
///
/// # Errors
/// EMFILE, ENFILE, ENOBUFS, ENOMEM: there may be one, and it stays in the queue. EINVAL: it does not listen (any more).
pub fn accept(listener: &Socket) -> io::Result<Option<Socket>> {
    match listener.accept() {
        Ok((client, _)) => Ok(Some(client)),
        // It has gone again, or another process has it; or it brought an error of its network along, as accept(2) warns.
        Err(error) if is_the_clients(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a failure of accept says only that there is no connection (any more), and nothing of us: see accept(2).
pub(in crate::sys) fn is_the_clients(error: &io::Error) -> bool {
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

/// Reads what there is; None if that is nothing yet. An empty read is the end.
///
/// # Errors
/// What recv(2) said.
pub fn read_now(socket: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
    let flags = MsgFlags::MSG_DONTWAIT;
    not_yet(|| recv(socket.as_raw_fd(), into, flags))
}

/// Writes what there is room for; None if there is none.
///
/// # Errors
/// What send(2) said.
pub fn write_now(socket: &Socket, bytes: &[u8]) -> io::Result<Option<usize>> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    not_yet(|| send(socket.as_raw_fd(), bytes, flags))
}

/// Whether there is something to read (true) or the end has come (false); None if neither. Nothing is taken.
///
/// # Errors
/// What recv(2) said.
pub fn has_more(socket: &Socket) -> io::Result<Option<bool>> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    let seen = not_yet(|| recv(socket.as_raw_fd(), &mut [0], flags))?;
    Ok(seen.map(|count| count > 0))
}

fn not_yet(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<Option<usize>> {
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
    fn what_is_there_is_read_and_what_is_not_is_not_waited_for() {
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
        let gone = write_now(&ours, b"x").expect_err("nobody reads");
        assert_eq!(gone.kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_client_is_accepted_if_there_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("set");
        let listener = Socket::from(listener);
        assert!(accept(&listener).expect("nobody").is_none());
        let _client = TcpStream::connect(at).expect("connected");
        let accepted = accept(&listener).expect("accepted").expect("one");
        assert!(!accepted.nonblocking().expect("asked"));
        let error = accept(&accepted).expect_err("no listener");
        assert_eq!(error.raw_os_error(), Some(Errno::EINVAL as i32));
    }
}
