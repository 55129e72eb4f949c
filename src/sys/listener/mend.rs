//! Makes a listener serve again after another process shut it down or connected it.
//!
//! connect(2) acts on the socket too. A datagram socket that is connected takes datagrams from that
//! one peer alone, in every process that shares it. Connecting it to AF_UNSPEC undoes that.
//!
//! shutdown(2) acts on the socket, not on the descriptor: one worker that calls it on a shared
//! listener stops the listener of all workers. A TCP socket only stops listening, so it can listen
//! again at its address; if the kernel chose its port, the port is bound again first. A Unix socket
//! never accepts again after shutdown(2); a new socket has to be bound at its path.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::arrange::bind;
use super::bound_socket::Listener;
use super::options::Backlog;
use crate::error::{Error, Result, reason};
use crate::wire::address::{Address, Bound, Kind, ListenSpec, Options};

/// What [`Listener::mend`] did.
#[derive(Debug)]
pub enum Mended {
    /// Nothing: it listens.
    StillListens(Listener),
    /// The same socket listens again.
    ListensAgain(Listener),
    /// The same socket takes datagrams from every peer again.
    Disconnected(Listener),
    /// A new socket is bound at the address. Processes that have the old socket never accept on it
    /// again.
    BoundAnew(Listener),
}

impl Listener {
    /// Whether it accepts connections, or takes datagrams from every peer, as it should.
    pub fn still_listens(&self) -> bool {
        if !self.address.listens() {
            return !self.is_connected();
        }
        // After shutdown(2), SO_ACCEPTCONN of a Unix socket is still 1; only poll(2) shows it.
        let fd = self.fd.as_fd();
        let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let shut_down = poll(&mut polled, Some(&now)).is_ok()
            && polled[0]
                .revents()
                .intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
        self.accepts() && !shut_down
    }

    /// Whether a datagram socket is connected to one peer.
    fn is_connected(&self) -> bool {
        let of_datagrams = match &self.address {
            Bound::Udp(_) => true,
            Bound::Unix(kind, _) | Bound::Abstract(kind, _) => *kind == Kind::Datagram,
            Bound::Tcp(_) | Bound::Vsock { .. } | Bound::Other { .. } => false,
        };
        of_datagrams && rustix::net::getpeername(&self.fd).is_ok()
    }

    /// The same listener, which listens again if it had stopped.
    ///
    /// # Errors
    /// What listen(2) or bind(2) said. An abstract address cannot be bound anew while a worker has
    /// the old socket open.
    pub fn mend(&self) -> Result<Mended> {
        if self.still_listens() {
            return self.try_clone().map(Mended::StillListens);
        }
        if self.is_connected() {
            self.disconnect()?;
            return self.try_clone().map(Mended::Disconnected);
        }
        self.rebind_port()?;
        let backlog = Backlog::new(self.backlog);
        if SockRef::from(&self.fd).listen(backlog.argument()).is_ok() && self.still_listens() {
            return self.try_clone().map(Mended::ListensAgain);
        }
        let Bound::Unix(kind, path) = &self.address else {
            let why = "only a Unix path can be bound anew";
            return Err(Error::system(
                format!("cannot mend listener {}", self.label()),
                why,
            ));
        };
        let found = fs::symlink_metadata(path).map_err(|error| {
            Error::system(format!("cannot look at {}", path.display()), reason(&error))
        })?;
        let options = Options {
            backlog: self.backlog,
            mode: Some(found.mode() & 0o7777),
            owner: Some(found.uid().to_string()),
            group: Some(found.gid().to_string()),
            ..Options::default()
        };
        let address = Address::Unix(*kind, path.clone());
        let spec = ListenSpec {
            name: self.name.clone(),
            address,
            options,
        };
        let mut bound = bind(&spec)?;
        bound
            .pop()
            .map(Mended::BoundAnew)
            .ok_or_else(|| Error::system(format!("cannot bind {spec}"), "there is no socket"))
    }

    /// Makes a connected datagram socket take datagrams from every peer again.
    fn disconnect(&self) -> Result<()> {
        let failed = |why: String| Error::system(format!("cannot mend {}", self.label()), why);
        rustix::net::connect_unspec(&self.fd).map_err(|errno| failed(errno.to_string()))?;
        self.rebind_port()?;
        if self.is_connected() {
            return Err(failed("a worker has connected it again".to_owned()));
        }
        Ok(())
    }

    /// Binds the same port again, before listen(2) or after the end of a connection. Then the
    /// kernel takes back a port that it chose itself (`:0`), and would silently choose another one.
    /// EINVAL means that the port is still bound.
    fn rebind_port(&self) -> Result<()> {
        let (Bound::Tcp(at) | Bound::Udp(at)) = &self.address else {
            return Ok(());
        };
        match SockRef::from(&self.fd).bind(&(*at).into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINVAL) => Err(Error::system(
                format!("cannot mend listener {}", self.label()),
                reason(&error),
            )),
            _ => Ok(()),
        }
    }
}
