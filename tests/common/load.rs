//! A load client: it opens new connections the whole time, one request on each, and counts each
//! result.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use prefork::sys::machine::clock;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::support::PATIENCE;

/// Where requests go.
#[derive(Debug, Clone)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// How a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No process listens.
    Refused,
    /// The connection broke off.
    Reset,
    /// It ended without an answer.
    Empty,
    /// The answer is another one, or not whole.
    Wrong,
    /// No answer in time.
    TimedOut,
    /// The request could not even be made.
    Other,
}

/// A request that was not answered as it should.
#[derive(Debug, Clone)]
pub struct Lost {
    /// What was sent.
    pub id: String,
    /// How it was lost.
    pub kind: Kind,
    /// What the system said, or the answer that was no answer.
    pub what: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} ({})", self.id, self.kind, self.what)
    }
}

/// The account.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Requests that were answered in full, on each target in the order of [`Load::start`].
    pub answered: Vec<u64>,
    /// Those that were not.
    pub lost: Vec<Lost>,
    /// The longest that an answer took.
    pub slowest: Duration,
}

impl Counts {
    /// How many were lost, by kind.
    pub fn kinds(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for lost in &self.lost {
            *kinds.entry(lost.kind).or_default() += 1;
        }
        kinds
    }

    /// Not one request was lost, of any kind, and each target answered some.
    #[track_caller]
    pub fn assert_none_lost(&self, log: &str) {
        let some: Vec<String> = self.lost.iter().take(5).map(Lost::to_string).collect();
        assert!(
            self.lost.is_empty(),
            "{:?} while {:?} were answered: {some:?}\n{log}",
            self.kinds(),
            self.answered
        );
        assert!(
            self.answered.iter().all(|answered| *answered > 0),
            "{self:?}"
        );
    }
}

/// A client that has lost so many has seen enough.
const ENOUGH: usize = 1000;

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Account>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answered: Vec<AtomicU64>,
    progress: (Mutex<()>, Condvar),
}

#[derive(Default)]
struct Account {
    lost: Vec<Lost>,
    slowest: Duration,
}

impl Load {
    /// Starts this many clients for each target. Each makes requests one by one until
    /// [`stop`](Load::stop).
    pub fn start(targets: &[Target], clients: usize) -> Load {
        Load::asking(targets, clients, request)
    }

    /// The same with requests of another protocol.
    #[expect(
        clippy::disallowed_methods,
        reason = "these threads only connect; nothing is forked from them"
    )]
    pub fn asking<R>(targets: &[Target], clients: usize, request: R) -> Load
    where
        R: Fn(&Target, &str) -> Result<(), (Kind, String)> + Copy + Send + 'static,
    {
        let answered = targets.iter().map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared {
            answered,
            ..Shared::default()
        });
        let clients = targets.iter().enumerate().flat_map(|(index, target)| {
            let (shared, target) = (Arc::clone(&shared), target.clone());
            (0..clients).map(move |client| {
                let (shared, target) = (Arc::clone(&shared), target.clone());
                std::thread::spawn(move || shared.work(index, &target, client, request))
            })
        });
        let clients = clients.collect();
        Load { shared, clients }
    }

    /// Waits until each target has answered this many more requests, so that what the test did
    /// before happened under load.
    #[track_caller]
    pub fn more(&self, count: u64) {
        let wanted: Vec<u64> = self
            .answered()
            .iter()
            .map(|answered| answered + count)
            .collect();
        let guard = self.shared.progress.0.lock().expect("whole");
        let short = |(): &mut ()| {
            self.answered()
                .iter()
                .zip(&wanted)
                .any(|(answered, wanted)| answered < wanted)
        };
        let (guard, _) = self
            .shared
            .progress
            .1
            .wait_timeout_while(guard, PATIENCE, short)
            .expect("whole");
        drop(guard);
        assert!(
            !short(&mut ()),
            "the load stands still at {:?} of {wanted:?}",
            self.answered()
        );
    }

    /// How many requests each target has answered so far.
    pub fn answered(&self) -> Vec<u64> {
        self.shared
            .answered
            .iter()
            .map(|answered| answered.load(Ordering::SeqCst))
            .collect()
    }

    /// Lets every client finish its request; the account of all.
    pub fn stop(mut self) -> Counts {
        self.shared.stop.store(true, Ordering::SeqCst);
        let mut counts = Counts::default();
        for client in self.clients.drain(..) {
            let account = client.join().expect("a client's thread");
            counts.lost.extend(account.lost);
            counts.slowest = counts.slowest.max(account.slowest);
        }
        counts.answered = self.answered();
        counts
    }
}

impl Drop for Load {
    /// A test that fails leaves no clients behind.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn work(
        &self,
        index: usize,
        target: &Target,
        client: usize,
        request: impl Fn(&Target, &str) -> Result<(), (Kind, String)>,
    ) -> Account {
        let mut account = Account::default();
        let mut number = 0;
        while !self.stop.load(Ordering::SeqCst) && account.lost.len() < ENOUGH {
            number += 1;
            let id = format!("{index}-{client}-{number}");
            let start = clock::now();
            match request(target, &id) {
                Ok(()) => {
                    account.slowest = account.slowest.max(clock::now().since(start));
                    self.answered[index].fetch_add(1, Ordering::SeqCst);
                    drop(self.progress.0.lock());
                    self.progress.1.notify_all();
                }
                Err((kind, what)) => account.lost.push(Lost { id, kind, what }),
            }
        }
        account
    }
}

/// Makes one request on a new connection. The answer is the line `hello ID, ...`, then end of file.
pub fn request(target: &Target, id: &str) -> Result<(), (Kind, String)> {
    let mut socket = connect(target).map_err(|error| failed("connect", &error))?;
    socket
        .write_all(format!("{id}\n").as_bytes())
        .map_err(|error| failed("write", &error))?;
    receive(&mut socket, id)
}

/// Connects, with a limit to every step.
pub fn connect(target: &Target) -> io::Result<Socket> {
    let (domain, address) = match target {
        Target::Tcp(address) => (Domain::for_address(*address), SockAddr::from(*address)),
        Target::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    // It holds for the connect too.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(&address)?;
    Ok(socket)
}

/// Reads the answer to the request `id`.
pub fn receive(socket: &mut Socket, id: &str) -> Result<(), (Kind, String)> {
    let hello = format!("hello {id}, ");
    receive_if(socket, |text| {
        text.starts_with(&hello) && text.ends_with('\n')
    })
}

/// Asks for `/` by HTTP on a new connection. The answer has `text` in it.
pub fn get(target: &Target, text: &str) -> Result<(), (Kind, String)> {
    let mut socket = connect(target).map_err(|error| failed("connect", &error))?;
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .map_err(|error| failed("write", &error))?;
    receive_if(&mut socket, |answer| {
        let status = answer.split(' ').nth(1);
        status == Some("200") && answer.contains(text)
    })
}

fn receive_if(
    socket: &mut Socket,
    is_right: impl FnOnce(&str) -> bool,
) -> Result<(), (Kind, String)> {
    let mut answer = Vec::new();
    let ended = socket.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    match ended {
        Err(error) if answer.is_empty() => Err(failed("read", &error)),
        Ok(_) if answer.is_empty() => Err((Kind::Empty, String::new())),
        Ok(_) if is_right(&text) => Ok(()),
        _ => Err((Kind::Wrong, text)),
    }
}

fn failed(step: &str, error: &io::Error) -> (Kind, String) {
    let kind = match error.kind() {
        ErrorKind::ConnectionRefused => Kind::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            Kind::Reset
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Kind::TimedOut,
        _ if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => Kind::TimedOut,
        _ => Kind::Other,
    };
    (kind, format!("{step}: {error}"))
}
