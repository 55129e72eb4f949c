//! A listener that somebody has shut down, made to listen again.
//!
//! shutdown(2) works on the socket, not on the descriptor: one worker that calls it on the shared listener spoils it for all. A TCP socket
//! is merely closed for connections, so it can listen again, at the address that it keeps or, where the system had chosen its port, is given
//! again; a Unix socket never accepts again, and has to be bound anew.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::options::Backlog;
use super::{Listener, bind};
use crate::error::reason;
use crate::error::{Error, Result};
use crate::wire::address::{Address, Bound, ListenSpec, Options};

/// What became of it.
#[derive(Debug)]
pub enum Mended {
    /// There was nothing to mend.
    Sound(Listener),
    /// The same socket listens again.
    Again(Listener),
    /// There is another socket at the address: whoever has the old one has a dead one.
    Anew(Listener),
}

impl Listener {
    /// Whether it accepts connections, as it should. True for what never does (datagrams).
    pub fn still_listens(&self) -> bool {
        if !self.address.listens() {
            return true;
        }
        // A Unix socket that was shut down still calls itself a listener; only a poll tells.
        let fd = self.fd.as_fd();
        let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let gone = poll(&mut polled, Some(&now)).is_ok()
            && polled[0]
                .revents()
                .intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR);
        self.accepts() && !gone
    }

    /// The same listener, made to listen again if it does not.
    ///
    /// # Errors
    /// What listen(2) or bind(2) said; an abstract address cannot be bound anew while any worker has the dead socket.
    pub fn mend(&self) -> Result<Mended> {
        if self.still_listens() {
            return self.try_clone().map(Mended::Sound);
        }
        self.take_port_back()?;
        let backlog = Backlog::new(self.backlog);
        if SockRef::from(&self.fd).listen(backlog.argument()).is_ok() && self.still_listens() {
            return self.try_clone().map(Mended::Again);
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
            .map(Mended::Anew)
            .ok_or_else(|| Error::system(format!("cannot bind {spec}"), "there is no socket"))
    }

    /// A port that the system has chosen (`:0`) goes back to it when the socket is shut down; listen(2) would choose another, in silence. One
    /// that is kept is bound already, which is EINVAL.
    fn take_port_back(&self) -> Result<()> {
        let Bound::Tcp(at) = &self.address else {
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
