//! Listeners that several workers share: waiting for a connection, and taking one.
//!
//! *Waiting.* With `EPOLLEXCLUSIVE` a connection wakes one worker and not all of them. The kernel wakes the one that came first; so whoever has
//! taken a connection goes to the end of the line, and the workers take turns. A worker that wants none does not stand in it.
//!
//! *Taking.* A listener blocks unless its owner made it otherwise, and that belongs to all who share it. So accept may wait, if somebody else was quicker;
//! see [`breakable`](crate::sys::signal::interruptible).
//!
//! *One at a time.* A lock on the listener itself, as fcntl has it: the process owns it, so it excludes others who share the same open socket,
//! needs no name, and goes with its owner.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::socket::{GetSockOpt, sockopt};
use nix::unistd::{getegid, geteuid};
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use socket2::{SockAddr, SockRef};

use super::Listener;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::nonblocking::is_the_clients;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock::now;
use crate::sys::signal::interruptible::Interruptible;
use crate::wire::address::{Bound, Kind};
use crate::wire::ucspi::{Ends, UnixClient};

/// The signals that break a wait for the lock.
const HEARD: [Signal; 6] = [
    Signal::Term,
    Signal::Quit,
    Signal::Int,
    Signal::Hup,
    Signal::Chld,
    Signal::Usr1,
];

/// In place of a listener's index.
const EAR: u64 = u64::MAX;

/// How many events are taken at once.
const BATCH: usize = 16;

/// A connection that was taken.
#[derive(Debug)]
pub struct Connection {
    /// The socket: blocking, close-on-exec.
    pub socket: OwnedFd,
    /// Who speaks to whom.
    pub ends: Ends,
}

/// The listeners.
pub struct Door {
    listeners: Vec<Listener>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    breakable: Interruptible,
    /// Has had its turn at this listener, and not gone to the end of the line yet.
    served: Option<usize>,
    /// Only who holds the lock waits for connections; and whether that is us.
    lock: Option<bool>,
    ears: OwnedFd,
}

/// What has come.
#[derive(Debug, Default)]
pub struct Come {
    /// There are signals to be heard.
    pub signals: bool,
    /// The listeners that have a connection, by index, unless somebody else is quicker.
    pub listeners: Vec<usize>,
}

impl Door {
    /// Stands at these listeners; `ears` are readable when there are signals. With `one_at_a_time`, of all workers that say so only one waits for a
    /// connection.
    ///
    /// # Errors
    /// What epoll_create1(2), epoll_ctl(2) or sigaction(2) said.
    pub fn new(
        listeners: Vec<Listener>,
        ears: BorrowedFd<'_>,
        one_at_a_time: bool,
    ) -> io::Result<Door> {
        let door = Door {
            listeners,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(BATCH),
            breakable: Interruptible::install(&HEARD)?,
            served: None,
            lock: one_at_a_time.then_some(false),
            ears: ears.try_clone_to_owned()?,
        };
        let ear = epoll::EventData::new_u64(EAR);
        epoll::add(&door.epoll, &door.ears, ear, epoll::EventFlags::IN)?;
        for at in 0..door.listeners.len() {
            door.stand_in_line(at)?;
        }
        Ok(door)
    }

    fn stand_in_line(&self, at: usize) -> io::Result<()> {
        let Some(listener) = self.listeners.get(at) else {
            return Ok(());
        };
        let alone = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        let name = epoll::EventData::new_u64(u64::try_from(at).unwrap_or(EAR));
        match epoll::add(&self.epoll, listener, name, alone) {
            // A kernel before 4.5: all are woken.
            Err(Errno::INVAL) => {
                epoll::add(&self.epoll, listener, name, epoll::EventFlags::IN)?;
            }
            done => done?,
        }
        Ok(())
    }

    /// Waits for signals, for the deadline, and, if one is `wanted`, for a connection.
    ///
    /// # Errors
    /// What epoll_wait(2), ppoll(2) or fcntl(2) said.
    pub fn wait(&mut self, wanted: bool, deadline: Option<Time>) -> io::Result<Come> {
        self.queue_again()?;
        if !wanted || self.listeners.is_empty() {
            self.unlock();
            let ready = Poller::new()
                .wait(&[(self.ears.as_fd(), Interest::READ)], deadline)?
                .iter()
                .any(|ready| ready.any());
            return Ok(Come {
                signals: ready,
                listeners: vec![],
            });
        }
        if !self.lock(deadline)? {
            // A signal, or the deadline: the ear and the clock tell which.
            return Ok(Come {
                signals: true,
                listeners: vec![],
            });
        }
        self.wait_for_all(deadline)
    }

    fn wait_for_all(&mut self, deadline: Option<Time>) -> io::Result<Come> {
        self.events.clear();
        let left = deadline.map(milliseconds_left);
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            left.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut come = Come::default();
        for event in &self.events {
            // By value: the kernel's structure is packed.
            let name = event.data;
            match name.u64() {
                EAR => come.signals = true,
                at => come.listeners.extend(usize::try_from(at)),
            }
        }
        Ok(come)
    }

    /// Takes a connection from a listener; `None` if somebody else was quicker, or the client has left again.
    ///
    /// # Errors
    /// What accept(2) said of us or of the listener: EMFILE, ENFILE, ENOBUFS, ENOMEM; EINVAL: it does not listen any more.
    pub fn take(&mut self, at: usize) -> io::Result<Option<Connection>> {
        let Some(listener) = self.listeners.get(at) else {
            return Ok(None);
        };
        let socket = SockRef::from(listener);
        let taken = self
            .breakable
            .briefly(|| socket.accept4(libc::SOCK_CLOEXEC));
        let taken = match taken {
            Ok((socket, remote)) => Some(connection(listener, OwnedFd::from(socket), &remote)),
            Err(error) if is_the_clients(&error) => None,
            Err(error) => return Err(error),
        };
        self.unlock();
        if taken.is_some() {
            self.queue_again()?;
            self.served = Some(at);
        }
        Ok(taken)
    }

    /// Goes to the end of the line. Only before the next wait: whoever was taken is to be served first.
    fn queue_again(&mut self) -> io::Result<()> {
        let Some(at) = self.served.take() else {
            return Ok(());
        };
        if let Some(listener) = self.listeners.get(at) {
            let _ = epoll::delete(&self.epoll, listener);
            self.stand_in_line(at)?;
        }
        Ok(())
    }

    /// What a listener is called.
    pub fn label(&self, at: usize) -> String {
        self.listeners
            .get(at)
            .map(Listener::label)
            .unwrap_or_default()
    }

    /// Gives up the listeners; others who share them go on.
    pub fn close(&mut self) {
        self.unlock();
        for listener in self.listeners.drain(..) {
            // The kernel remembers the open socket, which others still have.
            let _ = epoll::delete(&self.epoll, &listener);
        }
    }

    fn lock(&mut self, deadline: Option<Time>) -> io::Result<bool> {
        let (Some(held), Some(listener)) = (self.lock, self.listeners.first()) else {
            return Ok(true);
        };
        if held {
            return Ok(true);
        }
        let fd = listener.as_fd();
        let whole = range(libc::F_WRLCK);
        let mut done = fcntl(fd, FcntlArg::F_SETLK(&whole)).map_err(io::Error::from);
        if matches!(&done, Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EACCES))
        {
            done = self.breakable.until(deadline, self.ears.as_fd(), || {
                Ok(fcntl(fd, FcntlArg::F_SETLKW(&whole))?)
            });
        }
        match done {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            done => done?,
        };
        self.lock = Some(true);
        Ok(true)
    }

    fn unlock(&mut self) {
        if let (Some(true), Some(listener)) = (self.lock, self.listeners.first()) {
            // What cannot be given back goes with the listener.
            let _ = fcntl(listener, FcntlArg::F_SETLK(&range(libc::F_UNLCK)));
            self.lock = Some(false);
        }
    }
}

/// A lock over the whole of a file.
fn range(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Rounded up, as the kernel may know no finer wait here: woken too early, one would wait again for nothing.
fn milliseconds_left(deadline: Time) -> Timespec {
    let left = deadline.since(now()) + Duration::from_nanos(999_999);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_millis()) * 1_000_000,
    }
}

fn connection(listener: &Listener, socket: OwnedFd, remote: &SockAddr) -> Connection {
    let ends = match &listener.address {
        Bound::Tcp(bound) => {
            let local = SockRef::from(&socket).local_addr().ok();
            let local = local.and_then(|local| local.as_socket()).unwrap_or(*bound);
            // A client that has left at once may have no address any more: nobody's.
            let remote = remote.as_socket().unwrap_or_else(|| (local.ip(), 0).into());
            Ends::Tcp {
                local,
                remote,
                interface: interface(&local),
            }
        }
        Bound::Vsock { cid, port } => Ends::Vsock {
            local: SockRef::from(&socket)
                .local_addr()
                .ok()
                .and_then(|local| local.as_vsock_address())
                .unwrap_or((*cid, *port)),
            remote: remote.as_vsock_address().unwrap_or_default(),
        },
        Bound::Unix(_, path) => unix(path.as_os_str().as_encoded_bytes().to_vec(), &socket),
        Bound::Abstract(_, name) => unix([b"@", name.as_slice()].concat(), &socket),
        Bound::Udp(_) | Bound::Other { .. } => unix(vec![], &socket),
    };
    Connection { socket, ends }
}

fn unix(local: Vec<u8>, socket: &OwnedFd) -> Ends {
    let client = sockopt::PeerCredentials
        .get(socket)
        .ok()
        .map(|client| UnixClient {
            pid: client.pid(),
            uid: client.uid(),
            gid: client.gid(),
        });
    Ends::Unix {
        local,
        own_ids: (geteuid().as_raw(), getegid().as_raw()),
        client,
    }
}

/// The interface that a link-local IPv6 address belongs to.
fn interface(local: &std::net::SocketAddr) -> Option<String> {
    let std::net::SocketAddr::V6(local) = local else {
        return None;
    };
    let index = (local.scope_id() != 0).then(|| local.scope_id())?;
    let name = nix::net::if_::if_indextoname(index).ok()?;
    Some(name.to_string_lossy().into_owned())
}

/// Whether a handler could be given connections of this listener; the error is why not.
///
/// # Errors
/// One clause.
pub fn check(listener: &Listener) -> Result<(), &'static str> {
    match &listener.address {
        Bound::Udp(_) | Bound::Unix(Kind::Datagram, _) | Bound::Abstract(Kind::Datagram, _) => {
            return Err("it is a datagram socket, which has no connections");
        }
        Bound::Tcp(_) | Bound::Vsock { .. } | Bound::Unix(..) | Bound::Abstract(..) => {}
        Bound::Other { .. } => return Err("it is neither TCP nor Unix nor vsock"),
    }
    let fd = listener.as_fd();
    if sockopt::AcceptConn.get(&fd).unwrap_or(false) {
        return Ok(());
    }
    Err(if SockRef::from(&fd).peer_addr().is_ok() {
        "it is a connection, and no listener"
    } else {
        "it does not listen"
    })
}

#[cfg(test)]
pub(crate) mod tests;
