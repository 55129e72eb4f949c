//! The client's end of a control socket: connecting with a deadline, and who is at the other end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connects to the Unix stream socket at `path`.
///
/// The kernel blocks the caller while the server's backlog is full; `within` bounds that, after which the error is
/// `WouldBlock`. Nothing else waits.
pub fn connect(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    // On a Unix socket the send timeout bounds connect(2) too. Zero would mean for ever.
    socket.set_write_timeout(Some(within.max(Duration::from_millis(1))))?;
    loop {
        match socket.connect(&address) {
            Ok(()) => return Ok(UnixStream::from(OwnedFd::from(socket))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The process that listens at the other end, held by a pidfd; `None` where it has no number here (another pid namespace)
/// or its number is not of use any more.
pub fn open_peer(stream: &UnixStream) -> io::Result<Option<(i32, OwnedFd)>> {
    let pid = getsockopt(stream, PeerCredentials)?.pid();
    let Some(raw) = Pid::from_raw(pid).filter(|_| pid > 0) else {
        return Ok(None);
    };
    let Ok(process) = pidfd_open(raw, PidfdFlags::empty()) else {
        return Ok(None);
    };
    // Looked at after the pidfd stands: while the connection is up its owner lives, so the number cannot be another's.
    Ok(is_up(stream)?.then_some((pid, process)))
}

fn is_up(stream: &UnixStream) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::RDHUP)];
    poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    )?;
    Ok(!fds[0]
        .revents()
        .intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR))
}
