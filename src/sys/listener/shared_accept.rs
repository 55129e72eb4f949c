//! Listeners that several workers share: waits for a connection and accepts one.
//!
//! *Waiting.* With `EPOLLEXCLUSIVE` a connection wakes one worker, not all of them. The kernel
//! wakes the worker that stands first in its wait queue. So a worker that accepted a connection
//! leaves the queue and goes to its end, and the workers take turns. The kernel
//! skips a worker that is not in epoll_wait(2): such a worker wants no connection.
//!
//! *Accepting.* O_NONBLOCK belongs to the open socket, which all workers share, so it is left as it
//! is. If another worker was quicker, accept(2) on a blocking listener waits: see
//! [`interruptible`](crate::sys::signal::interruptible).
//!
//! *One at a time.* With `pf-accept --serialize` a worker waits for connections only while it has
//! an fcntl(2) lock on the listener. A process owns such a lock, so it excludes the other processes
//! that share the open socket; it needs no file name; the kernel releases it when the owner exits.
//!
//! [`SharedListeners::wait`] reports the listeners that have a connection;
//! [`SharedListeners::accept`] takes one connection from one of them.

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

use super::bound_socket::Listener;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::nonblocking::is_peer_error;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::machine::clock::now;
use crate::sys::signal::interruptible::Interruptible;
use crate::wire::address::{Bound, Kind};
use crate::wire::ucspi::{Ends, UnixClient};

/// The signals that interrupt a wait for the lock.
const INTERRUPTING: [Signal; 6] = [
    Signal::Term,
    Signal::Quit,
    Signal::Int,
    Signal::Hup,
    Signal::Chld,
    Signal::Usr1,
];

/// The epoll token of the signal descriptor. All others are indices of listeners.
const SIGNAL_TOKEN: u64 = u64::MAX;

/// How many events one epoll_wait(2) returns.
const BATCH: usize = 16;

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket: blocking, close-on-exec.
    pub socket: OwnedFd,
    /// The addresses of both ends, and the process at a Unix client.
    pub ends: Ends,
}

/// Listeners that this worker shares with others.
pub struct SharedListeners {
    listeners: Vec<Listener>,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    breakable: Interruptible,
    /// The listener of the last accepted connection: this worker is not at the end of its wait
    /// queue yet.
    accepted_from: Option<usize>,
    /// `None`: no lock is used. Otherwise whether this process has the lock.
    lock: Option<bool>,
    signals: OwnedFd,
}

/// What ended a wait.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// There may be signals to read.
    pub signals: bool,
    /// The indices of the listeners that have a connection. Another worker may accept it first.
    pub listeners: Vec<usize>,
}

impl SharedListeners {
    /// Enters the wait queues of the listeners. `signals` is readable when there are signals. With
    /// `one_at_a_time`, only one of the workers that set it waits for a connection.
    ///
    /// # Errors
    /// What epoll_create1(2), epoll_ctl(2) or sigaction(2) said.
    pub fn new(
        listeners: Vec<Listener>,
        signals: BorrowedFd<'_>,
        one_at_a_time: bool,
    ) -> io::Result<SharedListeners> {
        let shared = SharedListeners {
            listeners,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(BATCH),
            breakable: Interruptible::install(&INTERRUPTING)?,
            accepted_from: None,
            lock: one_at_a_time.then_some(false),
            signals: signals.try_clone_to_owned()?,
        };
        let token = epoll::EventData::new_u64(SIGNAL_TOKEN);
        epoll::add(&shared.epoll, &shared.signals, token, epoll::EventFlags::IN)?;
        for at in 0..shared.listeners.len() {
            shared.add_to_wait_queue(at)?;
        }
        Ok(shared)
    }

    fn add_to_wait_queue(&self, at: usize) -> io::Result<()> {
        let Some(listener) = self.listeners.get(at) else {
            return Ok(());
        };
        let exclusive = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        let token = epoll::EventData::new_u64(u64::try_from(at).unwrap_or(SIGNAL_TOKEN));
        match epoll::add(&self.epoll, listener, token, exclusive) {
            // A kernel before 4.5 has no EPOLLEXCLUSIVE: a connection wakes all workers.
            Err(Errno::INVAL) => {
                epoll::add(&self.epoll, listener, token, epoll::EventFlags::IN)?;
            }
            done => done?,
        }
        Ok(())
    }

    /// Waits for a signal or the deadline, and for a connection if one is `wanted`.
    ///
    /// # Errors
    /// What epoll_wait(2), ppoll(2) or fcntl(2) said.
    pub fn wait(&mut self, wanted: bool, deadline: Option<Time>) -> io::Result<Arrivals> {
        self.requeue()?;
        if !wanted || self.listeners.is_empty() {
            self.unlock();
            let ready = Poller::new()
                .wait(&[(self.signals.as_fd(), Interest::READ)], deadline)?
                .iter()
                .any(|ready| ready.any());
            return Ok(Arrivals {
                signals: ready,
                listeners: vec![],
            });
        }
        if !self.lock(deadline)? {
            // A signal or the deadline ended the wait. The caller reads the signals and the clock.
            return Ok(Arrivals {
                signals: true,
                listeners: vec![],
            });
        }
        self.wait_for_events(deadline)
    }

    fn wait_for_events(&mut self, deadline: Option<Time>) -> io::Result<Arrivals> {
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
        let mut arrivals = Arrivals::default();
        for event in &self.events {
            // Copied: the structure is packed, so a reference to the field may be unaligned.
            let token = event.data;
            match token.u64() {
                SIGNAL_TOKEN => arrivals.signals = true,
                at => arrivals.listeners.extend(usize::try_from(at)),
            }
        }
        Ok(arrivals)
    }

    /// Accepts a connection of the listener with index `at`. `None` if another worker was quicker,
    /// or the client left.
    ///
    /// # Errors
    /// What accept(2) said about this process or the listener: EMFILE, ENFILE, ENOBUFS, ENOMEM;
    /// EINVAL: it does not listen any more.
    pub fn accept(&mut self, at: usize) -> io::Result<Option<Connection>> {
        let Some(listener) = self.listeners.get(at) else {
            return Ok(None);
        };
        let socket = SockRef::from(listener);
        let accepted = self
            .breakable
            .briefly(|| socket.accept4(libc::SOCK_CLOEXEC));
        let accepted = match accepted {
            Ok((socket, remote)) => Some(connection(listener, OwnedFd::from(socket), &remote)),
            Err(error) if is_peer_error(&error) => None,
            Err(error) => return Err(error),
        };
        self.unlock();
        if accepted.is_some() {
            self.requeue()?;
            self.accepted_from = Some(at);
        }
        Ok(accepted)
    }

    /// Goes to the end of the wait queue of that listener: a descriptor that is added again stands
    /// last. Not at the accept but before the next wait, so that the accepted client is served
    /// first.
    fn requeue(&mut self) -> io::Result<()> {
        let Some(at) = self.accepted_from.take() else {
            return Ok(());
        };
        if let Some(listener) = self.listeners.get(at) {
            let _ = epoll::delete(&self.epoll, listener);
            self.add_to_wait_queue(at)?;
        }
        Ok(())
    }

    /// The label of the listener with index `at`, for messages.
    pub fn label(&self, at: usize) -> String {
        self.listeners
            .get(at)
            .map(Listener::label)
            .unwrap_or_default()
    }

    /// Closes the listeners. The other processes that share them go on.
    pub fn close(&mut self) {
        self.unlock();
        for listener in self.listeners.drain(..) {
            // Closing the descriptor does not remove it from epoll, because other processes have
            // the same open socket: epoll(7), questions and answers.
            let _ = epoll::delete(&self.epoll, &listener);
        }
    }

    /// Takes the lock, if locks are used. False if a signal or the deadline came first.
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
        // POSIX allows either error for a lock that another process has.
        let is_taken = |error: &io::Error| {
            error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::EACCES)
        };
        if done.as_ref().is_err_and(is_taken) {
            done = self.breakable.until(deadline, self.signals.as_fd(), || {
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
            // If it fails, closing the listener releases the lock.
            let _ = fcntl(listener, FcntlArg::F_SETLK(&range(libc::F_UNLCK)));
            self.lock = Some(false);
        }
    }
}

/// A lock on the whole file.
fn range(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// The time left in whole milliseconds, rounded up: epoll_wait(2) counts milliseconds (before Linux
/// 5.11 there is no epoll_pwait2), and a wait that ends too early has to be repeated.
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
            // A client that left at once may have no address any more: then port 0 of our address.
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

/// The interface of a link-local IPv6 address.
fn interface(local: &std::net::SocketAddr) -> Option<String> {
    let std::net::SocketAddr::V6(local) = local else {
        return None;
    };
    let index = (local.scope_id() != 0).then(|| local.scope_id())?;
    let name = nix::net::if_::if_indextoname(index).ok()?;
    Some(name.to_string_lossy().into_owned())
}

/// Checks that the listener has connections that a handler can serve.
///
/// # Errors
/// Why not, as one clause.
pub fn check_has_connections(listener: &Listener) -> Result<(), &'static str> {
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
