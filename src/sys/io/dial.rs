//! Connects to a listener without waiting.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::nonblocking::{read_now, write_now};
use super::place::Place;

/// A connection, or one that is being made. No call of it waits.
#[derive(Debug)]
pub struct Stream(Socket);

/// What came of the attempt to connect.
#[derive(Debug)]
pub enum Dialled {
    /// The connection stands.
    Connected(Stream),
    /// It is being made: once it is writable, [`Stream::outcome`] says what came of it.
    Connecting(Stream),
    /// The accept queue of a Unix socket is full: a blocking connect(2) would wait.
    QueueFull,
}

/// Begins to connect.
///
/// # Errors
/// What socket(2) or connect(2) said.
pub fn dial(place: &Place) -> io::Result<Dialled> {
    let (domain, address) = match place {
        Place::Tcp(at) => (Domain::for_address(*at), SockAddr::from(*at)),
        Place::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        Place::Abstract(name) => {
            // A leading NUL byte, see unix(7).
            let path = [&[0], name.as_bytes()].concat();
            (Domain::UNIX, SockAddr::unix(OsStr::from_bytes(&path))?)
        }
    };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    match socket.connect(&address) {
        Ok(()) => Ok(Dialled::Connected(Stream(socket))),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
            Ok(Dialled::Connecting(Stream(socket)))
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            Ok(Dialled::Connecting(Stream(socket)))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Dialled::QueueFull),
        Err(error) => Err(error),
    }
}

impl Stream {
    /// What came of a connect that has ended.
    ///
    /// # Errors
    /// Why there is no connection.
    pub fn outcome(&self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }

    /// Reads the bytes that are there; `None` if there are none yet. 0 bytes are the end.
    ///
    /// # Errors
    /// What recv(2) said.
    pub fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        read_now(&self.0, into)
    }

    /// Writes the bytes that there is room for; `None` if there is no room.
    ///
    /// # Errors
    /// What send(2) said.
    pub fn write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        write_now(&self.0, bytes)
    }

    /// Says that nothing more is sent; the answer can still be read.
    ///
    /// # Errors
    /// What shutdown(2) said.
    pub fn end_request(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_reached_and_a_closed_port_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let place = Place::Tcp(listener.local_addr().expect("its address"));
        let socket = match dial(&place).expect("begun") {
            Dialled::Connected(socket) | Dialled::Connecting(socket) => socket,
            Dialled::QueueFull => panic!("it is empty"),
        };
        listener.accept().expect("a client");
        socket.outcome().expect("connected");
        drop(listener);
        let refused = match dial(&place) {
            Err(error) => error,
            Ok(Dialled::Connecting(socket)) => socket.outcome().expect_err("refused"),
            Ok(other) => panic!("{other:?}"),
        };
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn an_abstract_name_that_is_not_bound_refuses() {
        let nobody = Place::Abstract(format!("pf-test-{}", std::process::id()));
        assert_eq!(
            dial(&nobody).expect_err("refused").kind(),
            ErrorKind::ConnectionRefused
        );
    }
}
