//! The client's side of a control socket: connects with a time limit, finds the server's process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::sys::process::pidfd::HeldProcess;

/// Connects to the Unix stream socket at `path`.
///
/// connect(2) blocks while the backlog of the server is full; it does not wait for anything else.
///
/// # Errors
/// What connect(2) said; `WouldBlock`: the backlog was full for longer than `within`.
pub fn connect(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    // On a Unix socket, SO_SNDTIMEO limits connect(2) too. Zero would mean no limit.
    socket.set_write_timeout(Some(within.max(Duration::from_millis(1))))?;
    loop {
        match socket.connect(&address) {
            Ok(()) => return Ok(UnixStream::from(OwnedFd::from(socket))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The pid of the process that listens at the other end, and the process, held. `None` if it is
/// in another pid namespace, or has exited.
///
/// # Errors
/// What getsockopt(2) or poll(2) said.
pub fn open_server(stream: &UnixStream) -> io::Result<Option<(i32, HeldProcess)>> {
    let pid = getsockopt(stream, PeerCredentials)?.pid();
    let Ok(process) = HeldProcess::open(pid) else {
        return Ok(None);
    };
    // Checked after it is held: while the connection is up the server lives, so the number
    // cannot belong to another process.
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
