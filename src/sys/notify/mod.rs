//! systemd's notification protocol, both ways (sd_notify(3)).
//!
//! *From workers:* [`NotifySocket`], one for each worker. So the address alone tells which worker
//! sent a [`Datagram`], also if a short-lived child of the worker sent it. `directory` makes the
//! address a path.
//!
//! *To the service manager:* [`send`] and [`send_within`] send text to our own NOTIFY_SOCKET: a
//! path, an abstract name or a vsock address.
//!
//! The way of one datagram: [`NotifySocket::address`] goes into the worker's environment; the
//! socket is readable; [`NotifySocket::receive`] returns text, sender and descriptors; the caller
//! acts on the text, and dropping the datagram closes the descriptors, which ends the wait of
//! `BARRIER=1`.

mod directory;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, VsockAddr, connect, send as send_bytes,
    setsockopt, socket, sockopt,
};

use super::io::cmsg;
use super::io::left_open::LeftOpen;
use super::io::poll::{Interest, Poller};
use super::machine::clock::now;
use super::machine::random::hex128;

pub use directory::{check_directory, prepare_directory};

/// The longest datagram that is read whole, in bytes. systemd reads 4096.
const MAX_DATAGRAM: usize = 8192;

/// The notification socket of one worker.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    address: String,
}

/// One datagram. Dropping it closes the descriptors that it carried: a sender of `BARRIER=1` waits
/// for that, so act on the text before the drop.
#[derive(Debug)]
pub struct Datagram {
    /// The sender's pid; 0 if it is in another pid namespace. It may have exited already.
    pub pid: i32,
    /// The sender's uid.
    pub uid: u32,
    /// The text.
    pub text: Vec<u8>,
    /// The descriptors that it carried. They are only held open, never used.
    pub fds: Vec<OwnedFd>,
}

impl NotifySocket {
    /// Binds a new abstract address of 128 random bits. It needs no file, and it is free again when
    /// the socket is closed.
    ///
    /// # Errors
    /// What socket(2) or bind(2) said: EMFILE, ENFILE, ENOBUFS.
    pub fn bind() -> io::Result<Self> {
        let name = format!("pf-{}", hex128()?);
        let address = SocketAddr::from_abstract_name(&name)?;
        let socket = UnixDatagram::bind_addr(&address)?;
        // Datagrams that arrive before this have no sender. None can: the address is still secret.
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(NotifySocket {
            socket,
            address: format!("@{name}"),
        })
    }

    /// The socket of a worker that the previous image started.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(fd: i32, address: String, left: &mut LeftOpen) -> io::Result<Self> {
        let socket = left.take(fd)?.into();
        Ok(NotifySocket { socket, address })
    }

    /// The value of NOTIFY_SOCKET for the worker.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Readable when a datagram waits for [`receive`](Self::receive).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next datagram; `None` if there is none. Of a datagram that is too long, the complete
    /// lines.
    ///
    /// # Errors
    /// What recvmsg(2) said.
    pub fn receive(&mut self) -> io::Result<Option<Datagram>> {
        // On the stack: a buffer for each worker would cost memory.
        let mut buffer = [0; MAX_DATAGRAM];
        let received = match cmsg::receive(self.socket.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        let mut text = buffer.get(..received.len).unwrap_or_default();
        if received.truncated {
            let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
            text = text.get(..whole).unwrap_or_default();
        }
        // With SO_PASSCRED the kernel always adds the sender. Without it, trust no sender: uid -1.
        let (pid, uid) = received.sender.unwrap_or((0, u32::MAX));
        Ok(Some(Datagram {
            pid,
            uid,
            text: text.to_vec(),
            fds: received.fds,
        }))
    }
}

/// How long a connect(2) to a service manager over vsock may take.
const VSOCK_CONNECT_LIMIT: Duration = Duration::from_millis(200);

/// Sends `text` to the service manager at `address`, the value of our own NOTIFY_SOCKET: a path,
/// `@` and an abstract name, or `vsock:CID:PORT` (also `vsock-dgram:`, `vsock-seqpacket:`,
/// `vsock-stream:`). It does not wait, except up to 200 ms for each connect over vsock.
///
/// # Errors
/// EINVAL: another kind of address. What socket(2), connect(2) or send(2) said: ECONNREFUSED,
/// ENOENT; EAGAIN: the queue of the manager is full.
pub fn send(address: &OsStr, text: &str) -> io::Result<()> {
    match unix_address(address)? {
        Some(address) => send_unix(&address, text),
        None => {
            let parsed = address.to_str().and_then(parse_vsock);
            let (kinds, cid, port) = parsed.ok_or(io::ErrorKind::InvalidInput)?;
            send_vsock(kinds, cid, port, text)
        }
    }
}

/// As [`send`], but waits up to `limit` while the queue of a manager on this machine is full.
///
/// # Errors
/// As [`send`]; EAGAIN: the manager did not read in time.
pub fn send_within(address: &OsStr, text: &str, limit: Duration) -> io::Result<()> {
    match send(address, text) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let Some(address) = unix_address(address)? else {
                return Err(error);
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(limit))?;
            socket.send_to_addr(text.as_bytes(), &address).map(drop)
        }
        sent => sent,
    }
}

/// The address, if it is a Unix address; `None` for any other.
fn unix_address(address: &OsStr) -> io::Result<Option<SocketAddr>> {
    Ok(match address.as_bytes().split_first() {
        Some((b'@', name)) => Some(SocketAddr::from_abstract_name(name)?),
        Some((b'/', _)) => Some(SocketAddr::from_pathname(address)?),
        _ => None,
    })
}

/// Whether it is a Unix address, for which [`send`] never waits.
pub fn is_unix(address: &OsStr) -> bool {
    matches!(address.as_bytes().first(), Some(b'@' | b'/'))
}

/// Whether an error of [`send`] may go away by itself: the queue of the manager is full, or memory
/// or descriptors are short.
pub fn is_transient(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
    )
}

fn send_unix(address: &SocketAddr, text: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), address).map(drop)
}

/// The socket types to try in this order, the context id and the port of a vsock address.
fn parse_vsock(address: &str) -> Option<(&'static [SockType], u32, u32)> {
    let mut parts = address.split(':');
    let kinds: &[SockType] = match parts.next()? {
        "vsock" => &[SockType::Datagram, SockType::SeqPacket, SockType::Stream],
        "vsock-dgram" => &[SockType::Datagram],
        "vsock-seqpacket" => &[SockType::SeqPacket],
        "vsock-stream" => &[SockType::Stream],
        _ => return None,
    };
    let (cid, port) = (parts.next()?, parts.next()?);
    let end = parts.next().is_none();
    // An empty context id means the host (VMADDR_CID_HOST, 2), as in systemd.
    let cid = if cid.is_empty() { 2 } else { cid.parse().ok()? };
    end.then_some((kinds, cid, port.parse().ok()?))
}

fn send_vsock(kinds: &[SockType], cid: u32, port: u32, text: &str) -> io::Result<()> {
    let mut last = io::Error::from(io::ErrorKind::InvalidInput);
    for kind in kinds {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let sent = socket(AddressFamily::Vsock, *kind, flags, None)
            .map_err(io::Error::from)
            .and_then(|socket| {
                connect_vsock(&socket, cid, port)?;
                let flags = MsgFlags::MSG_NOSIGNAL;
                Ok(send_bytes(socket.as_raw_fd(), text.as_bytes(), flags)?)
            });
        match sent {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_vsock(socket: &OwnedFd, cid: u32, port: u32) -> io::Result<()> {
    match connect(socket.as_raw_fd(), &VsockAddr::new(cid, port)) {
        Err(nix::errno::Errno::EINPROGRESS) => {
            let fds = [(socket.as_fd(), Interest::WRITE)];
            Poller::new().wait(&fds, Some(now() + VSOCK_CONNECT_LIMIT))?;
            match nix::sys::socket::getsockopt(socket, sockopt::SocketError)? {
                0 => Ok(()),
                errno => Err(io::Error::from_raw_os_error(errno)),
            }
        }
        done => Ok(done?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read};
    use std::os::unix::net::UnixStream;

    use nix::sys::socket::{ControlMessage, UnixAddr, sendmsg};

    use super::*;

    fn notify(address: &str, text: &str) {
        send(OsStr::new(address), text).expect("sent");
    }

    #[test]
    fn a_datagram_comes_with_its_sender() {
        let mut socket = NotifySocket::bind().expect("bound");
        assert!(socket.receive().expect("read").is_none());
        let address = socket.address().to_owned();
        assert!(address.starts_with("@pf-") && address.len() == 4 + 32);
        notify(&address, "READY=1\nSTATUS=here");
        notify(&address, "");
        let datagram = socket.receive().expect("read").expect("one");
        assert_eq!(datagram.text, b"READY=1\nSTATUS=here");
        assert_eq!(
            datagram.pid,
            i32::try_from(std::process::id()).expect("a pid")
        );
        assert_eq!(datagram.uid, nix::unistd::getuid().as_raw());
        assert!(datagram.fds.is_empty());
        assert_eq!(socket.receive().expect("read").expect("empty").text, b"");
        assert!(socket.receive().expect("read").is_none());
    }

    #[test]
    fn two_sockets_have_two_addresses() {
        let (mut one, mut two) = (
            NotifySocket::bind().expect("bound"),
            NotifySocket::bind().expect("bound"),
        );
        notify(two.address(), "WATCHDOG=1");
        assert!(one.receive().expect("read").is_none());
        assert!(two.receive().expect("read").is_some());
    }

    #[test]
    fn a_barrier_is_released_when_the_datagram_is_dropped_and_not_before() {
        let mut socket = NotifySocket::bind().expect("bound");
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let name = socket.address().trim_start_matches('@').to_owned();
        let to = UnixAddr::new_abstract(name.as_bytes()).expect("an address");
        let sender = UnixDatagram::unbound().expect("a socket");
        let fds = [theirs.as_raw_fd()];
        sendmsg(
            sender.as_raw_fd(),
            &[IoSlice::new(b"BARRIER=1")],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::empty(),
            Some(&to),
        )
        .expect("sent");
        drop(theirs);
        let datagram = socket.receive().expect("read").expect("one");
        assert_eq!(datagram.fds.len(), 1);
        for fd in &datagram.fds {
            let flags = rustix::io::fcntl_getfd(fd).expect("flags");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        let held = ours.read(&mut [0]).expect_err("held");
        assert_eq!(held.kind(), io::ErrorKind::WouldBlock);
        drop(datagram);
        assert_eq!(ours.read(&mut [0]).expect("released"), 0);
    }

    #[test]
    fn of_a_datagram_that_is_too_long_complete_lines_are_kept() {
        let mut socket = NotifySocket::bind().expect("bound");
        let long = format!("READY=1\nSTATUS={}", "x".repeat(MAX_DATAGRAM));
        notify(socket.address(), &long);
        let datagram = socket.receive().expect("read").expect("one");
        assert_eq!(datagram.text, b"READY=1");
        notify(socket.address(), &"x".repeat(MAX_DATAGRAM + 1));
        assert_eq!(socket.receive().expect("read").expect("one").text, b"");
    }

    #[test]
    fn a_path_is_reached_and_a_dead_one_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        send(path.as_os_str(), "READY=1").expect("sent");
        let mut text = [0; 16];
        let count = manager.recv(&mut text).expect("received");
        assert_eq!(text.get(..count), Some(&b"READY=1"[..]));
        drop(manager);
        let error = send(path.as_os_str(), "READY=1").expect_err("dead");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        for address in [
            "",
            "relative",
            "vsock:",
            "vsock:1",
            "vsock:x:1",
            "vsock:1:2:3",
            "tcp:1:2",
        ] {
            let error = send(OsStr::new(address), "READY=1").expect_err("no address");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{address}");
        }
        let long = format!("/{}", "x".repeat(200));
        assert!(send(OsStr::new(&long), "READY=1").is_err());
    }

    #[test]
    fn send_does_not_wait_for_a_manager_that_does_not_read() {
        let socket = NotifySocket::bind().expect("bound");
        let address = OsStr::new(socket.address());
        let refused = (0..100_000)
            .find_map(|_| send(address, "STATUS=again").err())
            .expect("the queue is bounded");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn send_within_waits_for_a_manager_that_reads_late_up_to_the_limit() {
        let mut socket = NotifySocket::bind().expect("bound");
        let address = OsStr::new(socket.address()).to_owned();
        while send(&address, "STATUS=again").is_ok() {}
        let soon = Duration::from_millis(5);
        let refused = send_within(&address, "READY=1", soon).expect_err("full");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        std::thread::scope(|scope| {
            let late =
                scope.spawn(|| send_within(&address, "READY=1", crate::sys::testing::PATIENCE));
            let limit = Some(now() + crate::sys::testing::PATIENCE);
            loop {
                let polled = [(socket.fd(), Interest::READ)];
                let ready = Poller::new().wait(&polled, limit).expect("polled")[0];
                assert!(ready.read, "no datagram came");
                let datagram = socket.receive().expect("read").expect("one");
                if datagram.text == b"READY=1" {
                    break;
                }
            }
            late.join().expect("no panic").expect("sent");
        });
    }

    #[test]
    fn vsock_addresses_are_read() {
        let read = |text| parse_vsock(text).map(|(kinds, cid, port)| (kinds.len(), cid, port));
        assert_eq!(read("vsock:2:1234"), Some((3, 2, 1234)));
        assert_eq!(read("vsock::1234"), Some((3, 2, 1234)));
        assert_eq!(read("vsock-stream:4294967295:1"), Some((1, u32::MAX, 1)));
        assert_eq!(read("vsock-raw:2:1"), None);
    }
}
