//! The listeners that this process inherited, or new ones.

use std::ffi::OsStr;
use std::fmt;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::sys::listener::{self, Inherited, Listener, Retry, arrange};
use crate::sys::machine::environment;
use crate::wire::address::{Bound, Kind, ListenSpec};
use crate::wire::exports;
use crate::wire::listen_env::{self, Inheritance};

/// Bound sockets, by name or by index.
///
/// ```no_run
/// # fn main() -> prefork::error::Result<()> {
/// let mut listeners = prefork::Listeners::inherit_or_bind(["http=tcp:127.0.0.1:8080"])?;
/// let http = listeners.tcp("http")?; // a std::net::TcpListener
/// # Ok(())
/// # }
/// ```
///
/// The sockets are as they were made: inherited sockets are shared with other processes, and block
/// unless they were bound with `nonblock`. If one process makes a socket non-blocking, as async
/// runtimes need it, it is non-blocking in all processes that share it. A worker that accepts in
/// the blocking way then gets EAGAIN.
#[derive(Debug)]
pub struct Listeners {
    /// By index. A listener that was taken leaves its place empty.
    places: Vec<Option<Listener>>,
}

/// Which listener: its index, counted from 0 in the order of the addresses, or its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// By index.
    Place(usize),
    /// By name. If several have it (a host with two addresses), the first that was not taken.
    Name(&'a str),
}

impl From<usize> for Which<'_> {
    fn from(place: usize) -> Self {
        Which::Place(place)
    }
}

impl<'a> From<&'a str> for Which<'a> {
    fn from(name: &'a str) -> Self {
        Which::Name(name)
    }
}

impl fmt::Display for Which<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Place(place) => write!(f, "{place}"),
            Which::Name(name) => write!(f, "'{name}'"),
        }
    }
}

/// What the environment has.
enum Found {
    Nothing,
    /// Listeners that are meant for the process with this pid.
    ForAnother(u32),
    Ours(Listeners),
}

impl Listeners {
    /// Takes over the listeners that this process inherited by `LISTEN_FDS`, `LISTEN_PID` and
    /// `LISTEN_FDNAMES` (see sd_listen_fds(3)), or in another protocol of `--export` (einhorn,
    /// Server::Starter, unicorn, nginx, php-fpm). `None`: there are none, they are meant for
    /// another process, or they were taken over by an earlier call.
    ///
    /// The listeners become close-on-exec and the variables are removed, so that no child process
    /// takes them for its own. The variables can be removed only while the process has one thread:
    /// so call this first in `main`, before a runtime starts. A later call leaves the variables;
    /// `LISTEN_PID` then tells a child that they are not for it.
    ///
    /// # Errors
    /// A variable of `LISTEN_FDS` is malformed, or a descriptor is not open or not a socket (G1). A
    /// wrong variable of another protocol is ignored.
    pub fn inherit() -> Result<Option<Listeners>> {
        Ok(match inherit()? {
            Found::Ours(listeners) => Some(listeners),
            Found::Nothing | Found::ForAnother(_) => None,
        })
    }

    /// Takes over inherited listeners as [`inherit`](Self::inherit). If there are none, binds these
    /// addresses: for a program that runs with and without a master.
    ///
    /// # Errors
    /// Those of [`inherit`](Self::inherit) and [`bind`](Self::bind).
    pub fn inherit_or_bind<A: AsRef<str>>(
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Listeners> {
        match inherit()? {
            Found::Ours(listeners) => Ok(listeners),
            Found::Nothing => Listeners::bind(addresses),
            Found::ForAnother(pid) => Listeners::bind(addresses).map_err(|error| {
                // The most likely reason why the address is in use.
                let own = std::process::id();
                let hint = "does a shell between them not exec?";
                error.hint(format!(
                    "LISTEN_FDS is meant for pid {pid}, not {own}; {hint}"
                ))
            }),
        }
    }

    /// Binds addresses, in the grammar of `pf-listen`: `tcp:127.0.0.1:8080`, `http=localhost:0`,
    /// `/run/app.sock,mode=0660`. A host name with several addresses gives several listeners.
    ///
    /// # Errors
    /// A text is not an address, or an address cannot be bound.
    pub fn bind<A: AsRef<str>>(addresses: impl IntoIterator<Item = A>) -> Result<Listeners> {
        let parse = |address: A| address.as_ref().parse::<ListenSpec>().map_err(Error::usage);
        let specs: Vec<ListenSpec> = addresses.into_iter().map(parse).collect::<Result<_>>()?;
        let bound = arrange(vec![], &specs, false, &Retry::NONE, &mut |_| {})?;
        Ok(bound.into_iter().collect())
    }

    /// How many listeners were not taken.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether all were taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The listeners that were not taken, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.places.iter().flatten()
    }

    /// A listener, which stays here.
    pub fn get<'a>(&self, which: impl Into<Which<'a>>) -> Option<&Listener> {
        let at = self.place_of(which.into())?;
        self.places.get(at)?.as_ref()
    }

    /// Takes a listener out.
    pub fn take<'a>(&mut self, which: impl Into<Which<'a>>) -> Option<Listener> {
        let at = self.place_of(which.into())?;
        self.places.get_mut(at)?.take()
    }

    /// Takes a listener out, of any kind of socket.
    ///
    /// # Errors
    /// There is no such listener. The message lists those that there are.
    pub fn fd<'a>(&mut self, which: impl Into<Which<'a>>) -> Result<OwnedFd> {
        self.take_if(which.into(), "a socket", |_| true)
    }

    /// Takes a TCP listener out.
    ///
    /// # Errors
    /// There is no such listener, or it is of another kind, and stays.
    pub fn tcp<'a>(&mut self, which: impl Into<Which<'a>>) -> Result<TcpListener> {
        let is_tcp = |bound: &Bound| matches!(bound, Bound::Tcp(_));
        self.take_if(which.into(), "TCP", is_tcp)
            .map(TcpListener::from)
    }

    /// Takes a Unix stream listener out.
    ///
    /// # Errors
    /// There is no such listener, or it is of another kind, and stays.
    pub fn unix<'a>(&mut self, which: impl Into<Which<'a>>) -> Result<UnixListener> {
        use Kind::Stream;
        let is_unix =
            |bound: &Bound| matches!(bound, Bound::Unix(Stream, _) | Bound::Abstract(Stream, _));
        self.take_if(which.into(), "a Unix stream socket", is_unix)
            .map(UnixListener::from)
    }

    /// The same sockets under new descriptors.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn try_clone(&self) -> Result<Listeners> {
        let copy = |place: &Option<Listener>| place.as_ref().map(Listener::try_clone).transpose();
        let places = self.places.iter().map(copy).collect::<Result<_>>()?;
        Ok(Listeners { places })
    }

    fn place_of(&self, which: Which<'_>) -> Option<usize> {
        match which {
            Which::Place(place) => Some(place),
            Which::Name(wanted) => self.places.iter().position(|place| {
                let name = place.as_ref().and_then(|listener| listener.name.as_ref());
                name.is_some_and(|name| name.as_str() == wanted)
            }),
        }
    }

    fn take_if(
        &mut self,
        which: Which<'_>,
        kind: &str,
        fits: impl Fn(&Bound) -> bool,
    ) -> Result<OwnedFd> {
        let Some(found) = self.get(which) else {
            return Err(self.missing(which));
        };
        if !fits(&found.address) {
            let why = format!("it is {}, not {kind}", found.address);
            return Err(Error::system(format!("cannot use listener {which}"), why));
        }
        let taken = self.take(which).ok_or_else(|| self.missing(which))?;
        Ok(taken.fd)
    }

    fn missing(&self, which: Which<'_>) -> Error {
        let labels: Vec<String> = self.iter().map(Listener::label).collect();
        let there_are = match labels.as_slice() {
            [] => "there is none left".to_owned(),
            labels => format!("there are {}", labels.join(", ")),
        };
        Error::system(format!("no listener {which}"), there_are)
    }
}

impl FromIterator<Listener> for Listeners {
    fn from_iter<I: IntoIterator<Item = Listener>>(listeners: I) -> Self {
        Listeners {
            places: listeners.into_iter().map(Some).collect(),
        }
    }
}

impl IntoIterator for Listeners {
    type Item = Listener;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Option<Listener>>>;

    /// The listeners that were not taken.
    fn into_iter(self) -> Self::IntoIter {
        self.places.into_iter().flatten()
    }
}

fn inherit() -> Result<Found> {
    /// Whether the listeners were taken over. The variables may still be there, but what they name
    /// has an owner now.
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let lookup = |name: &str| std::env::var_os(name);
    let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
    let meant_for = match listen_env::parse(lookup, own) {
        Ok(Inheritance::ForAnotherProcess { pid }) => Some(pid),
        Ok(Inheritance::None | Inheritance::Inherited { .. }) | Err(_) => None,
    };
    let inherited = if TAKEN.swap(true, Ordering::SeqCst) {
        Ok(Inherited::default())
    } else {
        // Warnings about variables that are stale or meant for another process are dropped: such a
        // program has other listeners, or binds its own.
        listener::inherit(lookup, own, Some(parent), &mut |_| {})
    };
    environment::remove_variables(is_listener_variable);
    let listeners: Listeners = inherited?.listeners.into_iter().collect();
    Ok(match meant_for {
        _ if !listeners.is_empty() => Found::Ours(listeners),
        Some(pid) => Found::ForAnother(pid),
        None => Found::Nothing,
    })
}

/// Whether a variable passes listeners on, in any protocol.
pub(super) fn is_listener_variable(name: &OsStr) -> bool {
    let systemd = listen_env::VARIABLES.iter().any(|ours| name == *ours);
    systemd || exports::is_listener_variable(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners() -> (tempfile::TempDir, Listeners) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = format!("admin={}/sock", dir.path().display());
        let addresses = [
            "web=tcp:127.0.0.1:0",
            "web=tcp:127.0.0.1:0",
            &path,
            "udp:127.0.0.1:0",
        ];
        (dir, Listeners::bind(addresses).expect("bound"))
    }

    #[test]
    fn w1_port_0_becomes_a_real_port() {
        let (_dir, listeners) = listeners();
        assert_eq!(listeners.len(), 4);
        let ports: Vec<u16> = listeners
            .iter()
            .filter_map(|one| one.address.port())
            .collect();
        assert!(ports.iter().all(|port| *port > 0), "{ports:?}");
    }

    #[test]
    fn a_listener_is_taken_once_by_name_or_index() {
        let (_dir, mut listeners) = listeners();
        let (one, two) = (listeners.tcp("web"), listeners.tcp("web"));
        let port = |web: Result<TcpListener>| {
            let web = web.expect("there are two of them");
            web.local_addr().expect("bound").port()
        };
        assert_ne!(port(one), port(two));
        let missing = listeners.tcp("web").expect_err("both are taken");
        assert!(
            missing
                .to_string()
                .starts_with("no listener 'web': there are admin, udp:")
        );
        assert!(listeners.get(2).is_some(), "places stay");
        listeners.unix(2).expect("a Unix socket");
        listeners.fd(3).expect("any socket");
        assert!(listeners.is_empty() && listeners.take(0).is_none());
        let missing = listeners.fd(0).expect_err("taken").to_string();
        assert_eq!(missing, "no listener 0: there is none left");
    }

    #[test]
    fn a_listener_of_another_kind_stays() {
        let (_dir, mut listeners) = listeners();
        let wrong = listeners.tcp("admin").expect_err("a path").to_string();
        assert!(
            wrong.starts_with("cannot use listener 'admin': it is unix:/"),
            "{wrong}"
        );
        assert!(wrong.ends_with("/sock, not TCP"), "{wrong}");
        assert!(listeners.unix("web").is_err() && listeners.unix(3).is_err());
        assert_eq!(listeners.len(), 4);
    }

    #[test]
    fn a_clone_has_the_same_sockets() {
        let (_dir, listeners) = listeners();
        let copy = listeners.try_clone().expect("copied");
        let inodes = |all: &Listeners| all.iter().map(Listener::inode).collect::<Vec<_>>();
        assert_eq!(inodes(&listeners), inodes(&copy));
        assert_eq!(copy.into_iter().count(), 4);
    }

    #[test]
    fn wrong_and_used_addresses_are_errors() {
        let wrong = Listeners::bind(["tcp:127.0.0.1:80000"]).expect_err("no port");
        assert!(!wrong.to_string().is_empty());
        let (_dir, listeners) = listeners();
        let taken = listeners.get(0).expect("bound").address.to_string();
        let error = Listeners::bind([taken]).expect_err("in use").to_string();
        assert!(error.starts_with("cannot bind tcp:127.0.0.1:"), "{error}");
    }
}
