//! Listeners that were closed, and how each can be bound again: a release that is kept for a
//! rollback does not hold its listeners open.

use std::os::fd::AsFd;

use super::accept_queue;
use super::bind_error::BindError;
use super::bound_socket::Listener;
use super::make_socket::make_socket;
use super::options::{self, Backlog};
use super::unix_path;
use crate::error::{Error, Exit, Result};
use crate::wire::address::{Bound, Name, Options};
use crate::wire::handover::closed as written;

/// What is known of a listener that is closed, or may be at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedListener {
    /// Its name.
    pub name: Option<Name>,
    /// Where it was bound.
    pub address: Bound,
    options: Options,
    source: Option<i32>,
}

impl ClosedListener {
    /// Reads everything from a listener that is still open. An option that cannot be read is left
    /// out.
    pub fn of(listener: &Listener) -> ClosedListener {
        let mut options = options::read_back(&listener.fd, &listener.address);
        let depth = accept_queue::depth(listener.as_fd()).ok().flatten();
        let backlog = listener.backlog.or(depth.map(|depth| depth.backlog));
        options.backlog = backlog.filter(|_| listener.address.listens());
        if let Bound::Unix(_, path) = &listener.address {
            unix_path::read_access(path, &mut options);
        }
        ClosedListener {
            name: listener.name.clone(),
            address: listener.address.clone(),
            options,
            source: listener.source,
        }
    }

    /// Whether this listener is at the same address, under the same name.
    pub fn is_same(&self, listener: &Listener) -> bool {
        self.name == listener.name && self.address == listener.address
    }

    /// Binds it at its address, as it was bound before. Waits for
    /// nothing but the lock on the directory of a Unix path.
    ///
    /// # Errors
    /// Exit 1: the address is in use, or the system refuses. The error names the listener.
    pub fn bind_anew(&self) -> Result<Listener> {
        let backlog = Backlog::new(self.options.backlog);
        let bound = make_socket(&self.address, self.name.clone(), &self.options, backlog);
        let mut bound = bound
            .map_err(BindError::into_error_at_once)
            .map_err(|error| {
                let what = match &self.name {
                    Some(name) => format!("listener {name}: {}", error.what),
                    None => error.what.clone(),
                };
                Error {
                    what,
                    exit: Exit::Failed,
                    ..error
                }
            })?;
        bound.source = self.source;
        Ok(bound)
    }

    /// For the next image of the master, or another master.
    pub fn handed_over(&self) -> written::ClosedListener {
        written::ClosedListener {
            name: self.name.as_ref().map(Name::to_string),
            at: (&self.address).into(),
            options: self.options.to_string(),
            source: self.source,
        }
    }

    /// From the image before, or another master. Options that it does not know are left out.
    pub fn taken_over(known: written::ClosedListener) -> ClosedListener {
        ClosedListener {
            name: known.name.as_deref().and_then(Name::inherited),
            address: known.at.into(),
            options: known.options.parse().unwrap_or_default(),
            source: known.source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::listener::bind;

    fn bound(spec: &str) -> Listener {
        let mut all = bind(&spec.parse().expect("an address")).expect("bound");
        all.pop().expect("one socket")
    }

    #[test]
    fn a_closed_listener_is_bound_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.sock");
        let unix = format!("web=unix:{},mode=0620,backlog=7", path.display());
        let tcp = "tcp:127.0.0.1:0,backlog=9,reuseport,nodelay,keepalive,nonblock,rcvbuf=8K";
        for spec in [tcp, "udp:127.0.0.1:0", "tcp:[::1]:0,v6only", &unix] {
            let open = bound(spec);
            let closed = ClosedListener::of(&open);
            let again = ClosedListener::taken_over(closed.handed_over());
            assert_eq!(again, closed, "{spec}");
            assert!(closed.is_same(&open));
            let address = open.address.clone();
            drop(open);
            let open = closed.bind_anew().expect(spec);
            assert_eq!(open.address, address);
            assert_eq!(ClosedListener::of(&open), closed, "{spec}");
        }
        let options = ClosedListener::of(&bound(tcp)).options;
        let wanted: Options = ",reuseport,nodelay,keepalive,nonblock,backlog=9,rcvbuf=8K"
            .parse()
            .expect("options");
        assert_eq!(options, wanted);
    }

    #[test]
    fn an_address_in_use_is_named() {
        let open = bound("web=tcp:127.0.0.1:0");
        let error = ClosedListener::of(&open).bind_anew().expect_err("in use");
        let text = error.to_string();
        let wanted = format!("listener web: cannot bind {}: ", open.address);
        assert!(text.starts_with(&wanted), "{text}");
        assert_eq!(error.exit, Exit::Failed);
    }
}
