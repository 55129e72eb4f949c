//! This test program as a worker: it accepts with blocking calls, and reports each request to a
//! collector.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use prefork::Heartbeat;
use prefork::sys::io::fd;
use signal_hook::consts::SIGTERM;
use socket2::Socket;
use tempfile::TempDir;

use crate::common::support::PATIENCE;
use crate::common::support::service::Worker;

/// Names the collector's directory, if there is one.
const COLLECTOR: &str = "PF_TEST_COLLECTOR";

/// Makes the worker count its requests in the heartbeat page.
pub const COUNTS: &str = "PF_TEST_COUNTS";

/// A worker that accepts in a thread for each listener and answers as `examples/hello.rs` does.
pub fn plain() -> Worker {
    Worker::role("plain_worker::serve")
}

/// How many clients of each listener it keeps without an answer, if the file `hold` exists.
pub const HELD: usize = 2;

#[test]
fn serve() {
    if !std::env::args().any(|arg| arg == "plain_worker::serve") {
        return;
    }
    let Some(count) = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|count| count.parse::<i32>().ok())
    else {
        return;
    };
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop)).expect("a handler");
    let collector = std::env::var_os(COLLECTOR).map(PathBuf::from);
    std::thread::scope(|scope| {
        for fd in 3..3 + count {
            let listener = Socket::from(fd::duplicate(fd).expect("a listener"));
            let (stop, collector) = (&stop, collector.as_deref());
            scope.spawn(move || accept(&listener, stop, collector));
        }
    });
}

fn accept(listener: &Socket, stop: &AtomicBool, collector: Option<&Path>) {
    // A blocking accept obeys the read timeout, so that the flag is checked now and then; an
    // accepted client is answered with either flag.
    listener
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("a timeout");
    let mut held = Vec::new();
    // Not always: a heartbeat would be readiness as well.
    let counts = std::env::var_os(COUNTS).is_some();
    let page = counts.then(|| Heartbeat::inherit().expect("a page"));
    let page = page.unwrap_or_else(Heartbeat::none);
    while !stop.load(Ordering::Relaxed) {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {
                    continue;
                }
                _ => panic!("accept: {error}"),
            },
        };
        let _counted = (page.connection(), page.request());
        let hold = collector.is_some_and(|directory| directory.join("hold").exists());
        answer(&client, collector, hold);
        if hold {
            held.push(client);
        }
        while held.len() >= HELD && !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

fn answer(client: &Socket, collector: Option<&Path>, hold: bool) {
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut line = String::new();
    // A client may be gone by now: its own account tells whether that was our fault.
    let _ = BufReader::new(client).read_line(&mut line);
    let (line, pid) = (line.trim_end(), std::process::id());
    if let Some(directory) = collector {
        let socket = UnixDatagram::unbound().expect("a socket");
        socket
            .send_to(
                format!("{pid} {line}").as_bytes(),
                directory.join("collector"),
            )
            .expect("a collector");
    }
    if !hold {
        let mut client = client;
        let _ = client.write_all(format!("hello {line}, from pid {pid}\n").as_bytes());
    }
}

/// Collects which worker has taken which request.
pub struct Collector {
    directory: TempDir,
    taken: Arc<(Mutex<Vec<Taken>>, Condvar)>,
}

/// A worker has accepted a client and read its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The worker.
    pub pid: i32,
    /// The request.
    pub id: String,
}

impl Collector {
    /// Listens from now on until the test is over.
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing is forked from this thread: it only reads"
    )]
    pub fn start() -> Collector {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = UnixDatagram::bind(directory.path().join("collector")).expect("bound");
        let taken = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (theirs, mut buffer) = (Arc::clone(&taken), [0; 256]);
        std::thread::spawn(move || {
            // An empty datagram is our own farewell.
            while let Ok(length @ 1..) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let (pid, id) = text.split_once(' ').expect("two words");
                let one = Taken {
                    pid: pid.parse().expect("a pid"),
                    id: id.to_owned(),
                };
                theirs.0.lock().expect("whole").push(one);
                theirs.1.notify_all();
            }
        });
        Collector { directory, taken }
    }

    /// The plain worker, reporting here.
    pub fn worker(&self) -> Worker {
        plain().with(COLLECTOR, self.directory.path())
    }

    /// Makes workers keep [`HELD`] clients of each listener without an answer and then accept no
    /// more; or ends that.
    pub fn hold(&self, hold: bool) {
        let path = self.directory.path().join("hold");
        let done = if hold {
            std::fs::write(path, "")
        } else {
            std::fs::remove_file(path)
        };
        done.expect("our own directory");
    }

    /// All that was taken so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.taken.0.lock().expect("whole").clone()
    }

    /// The same, once there are this many.
    pub fn wait_for(&self, count: usize) -> Vec<Taken> {
        let (all, more) = &*self.taken;
        let all = all.lock().expect("whole");
        let (all, _) = more
            .wait_timeout_while(all, PATIENCE, |all| all.len() < count)
            .expect("whole");
        assert!(all.len() >= count, "{} of {count}", all.len());
        all.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let farewell = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to(b"", self.directory.path().join("collector")));
        let _ = farewell;
    }
}
