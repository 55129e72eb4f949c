//! Notification sockets: one for each worker, which says who speaks by its address alone; and what the master itself says to
//! its own service manager.

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

use super::io::poll::{Interest, Poller};
use super::io::{cmsg, fd};
use super::machine::clock::now;
use super::machine::random::hex128;

/// The longest datagram that is read, in bytes. systemd takes 4096.
const MAX_DATAGRAM: usize = 8192;

/// A worker's notification socket.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    address: String,
}

/// What came in one datagram. The descriptors that came along are closed when it is dropped: a sender of `BARRIER=1` waits for
/// that, so it must not be before the text has been acted upon.
#[derive(Debug)]
pub struct Datagram {
    /// The sender; 0 if it is in another pid namespace. It may have exited already.
    pub pid: i32,
    /// The sender's user.
    pub uid: u32,
    /// What it said.
    pub text: Vec<u8>,
    /// What came along; never used.
    pub fds: Vec<OwnedFd>,
}

impl NotifySocket {
    /// Binds a fresh abstract address of 128 random bits; it takes no file and goes with the socket.
    ///
    /// # Errors
    /// What socket(2) or bind(2) said: EMFILE, ENFILE, ENOBUFS.
    pub fn bind() -> io::Result<Self> {
        let name = format!("pf-{}", hex128()?);
        let address = SocketAddr::from_abstract_name(&name)?;
        let socket = UnixDatagram::bind_addr(&address)?;
        // A datagram that came before it would have no sender; nobody knows the address yet.
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(NotifySocket {
            socket,
            address: format!("@{name}"),
        })
    }

    /// The socket of a worker that the image before this one started.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn taken_over(fd: i32, address: String) -> io::Result<Self> {
        let socket = fd::duplicate_raw(fd)?.into();
        Ok(NotifySocket { socket, address })
    }

    /// What NOTIFY_SOCKET says.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Readable when there is something to [`receive`](Self::receive).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next datagram; `None` if there is none. Of one that is too long, the lines that are whole.
    ///
    /// # Errors
    /// What recvmsg(2) said.
    pub fn receive(&mut self) -> io::Result<Option<Datagram>> {
        // On the stack: there is a socket for each worker, and memory is counted.
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
        // The kernel always tells; if it did not, nobody could be trusted: nobody's uid.
        let (pid, uid) = received.sender.unwrap_or((0, u32::MAX));
        Ok(Some(Datagram {
            pid,
            uid,
            text: text.to_vec(),
            fds: received.fds,
        }))
    }
}

/// How long a service manager across a vsock may take to answer.
const VSOCK_PATIENCE: Duration = Duration::from_millis(200);

/// Says `text` to the service manager at `address`, the value of our own NOTIFY_SOCKET: a path, `@` and an abstract name, or
/// `vsock:CID:PORT` (also `vsock-dgram:`, `vsock-seqpacket:`, `vsock-stream:`). Never waits, but 200 ms for a vsock.
///
/// # Errors
/// EINVAL for another address; what socket(2), connect(2) or send(2) said: ECONNREFUSED, ENOENT, EAGAIN if the manager does not
/// read.
pub fn send(address: &OsStr, text: &str) -> io::Result<()> {
    match unix_address(address)? {
        Some(address) => send_unix(&address, text),
        None => {
            let parsed = address.to_str().and_then(vsock);
            let (kinds, cid, port) = parsed.ok_or(io::ErrorKind::InvalidInput)?;
            send_vsock(kinds, cid, port, text)
        }
    }
}

/// As [`send`], but waits up to `patience` for a manager of this machine that does not read just now.
///
/// # Errors
/// The same; EAGAIN if it did not read in time.
pub fn send_within(address: &OsStr, text: &str, patience: Duration) -> io::Result<()> {
    match send(address, text) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let Some(address) = unix_address(address)? else {
                return Err(error);
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(patience))?;
            socket.send_to_addr(text.as_bytes(), &address).map(drop)
        }
        sent => sent,
    }
}

/// The address, if it is one of this machine's.
fn unix_address(address: &OsStr) -> io::Result<Option<SocketAddr>> {
    Ok(match address.as_bytes().split_first() {
        Some((b'@', name)) => Some(SocketAddr::from_abstract_name(name)?),
        Some((b'/', _)) => Some(SocketAddr::from_pathname(address)?),
        _ => None,
    })
}

/// Whether the address is one of this machine's, which never makes the sender wait.
pub fn is_unix(address: &OsStr) -> bool {
    matches!(address.as_bytes().first(), Some(b'@' | b'/'))
}

/// Whether what [`send`] said may pass by itself: the manager does not read just now, or we are short of something.
pub fn may_pass(error: &io::Error) -> bool {
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

/// The socket types to try, in order, the context and the port.
fn vsock(address: &str) -> Option<(&'static [SockType], u32, u32)> {
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
    // No context means the host, as systemd reads it.
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
                reach(&socket, cid, port)?;
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

fn reach(socket: &OwnedFd, cid: u32, port: u32) -> io::Result<()> {
    match connect(socket.as_raw_fd(), &VsockAddr::new(cid, port)) {
        Err(nix::errno::Errno::EINPROGRESS) => {
            let fds = [(socket.as_fd(), Interest::WRITE)];
            Poller::new().wait(&fds, Some(now() + VSOCK_PATIENCE))?;
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

    fn say(address: &str, text: &str) {
        send(OsStr::new(address), text).expect("sent");
    }

    #[test]
    fn a_datagram_comes_with_its_sender() {
        let mut socket = NotifySocket::bind().expect("bound");
        assert!(socket.receive().expect("read").is_none());
        let address = socket.address().to_owned();
        assert!(address.starts_with("@pf-") && address.len() == 4 + 32);
        say(&address, "READY=1\nSTATUS=here");
        say(&address, "");
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
        say(two.address(), "WATCHDOG=1");
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
    fn of_a_datagram_that_is_too_long_whole_lines_are_kept() {
        let mut socket = NotifySocket::bind().expect("bound");
        let long = format!("READY=1\nSTATUS={}", "x".repeat(MAX_DATAGRAM));
        say(socket.address(), &long);
        let datagram = socket.receive().expect("read").expect("one");
        assert_eq!(datagram.text, b"READY=1");
        say(socket.address(), &"x".repeat(MAX_DATAGRAM + 1));
        assert_eq!(socket.receive().expect("read").expect("one").text, b"");
    }

    #[test]
    fn a_path_is_reached_and_a_dead_one_told() {
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
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let socket = NotifySocket::bind().expect("bound");
        let address = OsStr::new(socket.address());
        let refused = (0..100_000)
            .find_map(|_| send(address, "STATUS=again").err())
            .expect("the queue is bounded");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_manager_that_reads_late_is_waited_for_and_one_that_never_does_is_not() {
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
                let come = [(socket.fd(), Interest::READ)];
                let ready = Poller::new().wait(&come, limit).expect("polled")[0];
                assert!(ready.read, "it never came");
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
        let read = |text| vsock(text).map(|(kinds, cid, port)| (kinds.len(), cid, port));
        assert_eq!(read("vsock:2:1234"), Some((3, 2, 1234)));
        assert_eq!(read("vsock::1234"), Some((3, 2, 1234)));
        assert_eq!(read("vsock-stream:4294967295:1"), Some((1, u32::MAX, 1)));
        assert_eq!(read("vsock-raw:2:1"), None);
    }
}
