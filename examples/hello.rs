//! The smallest correct worker: a line in, an answer out, and no connection lost when it is asked
//! to finish.
//!
//!     cargo build --release --example hello
//!     pf-listen tcp:127.0.0.1:8080 unix:/tmp/hello.sock -- \
//!         pf-master -n 4 -- target/release/examples/hello
//!     echo world | nc -N 127.0.0.1 8080
//!
//! Nothing in it depends on the language; the numbered comments say what a worker owes its master.

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level::pipe};
use socket2::Socket;

/// A client that is silent for this long has had its chance: this worker serves one at a time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest line that is read.
const LONGEST_LINE: u64 = 64 * 1024;

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), Box<dyn Error>> {
    // 1. Install the signal handlers first: TERM and QUIT mean "finish", and may come any time.
    //    They raise a flag, and wake the poll below through a pair of sockets. INT means "now",
    //    which is its default action.
    let stopping = Arc::new(AtomicBool::new(false));
    let (wake, waker) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGQUIT] {
        flag::register(signal, Arc::clone(&stopping))?;
        pipe::register(signal, waker.try_clone()?)?;
    }

    // 2. Take the listeners, which are open at fd 3 and up. They are shared with the other workers:
    //    between the poll that reports a client and the accept, another worker may have taken the
    //    client, so the accept must not wait for the next one.
    let listeners = inherited_listeners()?;
    for listener in &listeners {
        listener.set_nonblocking(true)?;
    }

    // 3. Report ready once clients can be served.
    notify("READY=1")?;

    // 4. Serve until asked to finish. A client is accepted only if it will be answered: the flag is
    //    checked before each accept, and nothing ends the loop between an accept and its answer.
    while !stopping.load(Ordering::Relaxed) {
        let mut fds: Vec<PollFd> = listeners
            .iter()
            .map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN))
            .collect();
        fds.push(PollFd::new(wake.as_fd(), PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (listener, fd) in listeners.iter().zip(&fds) {
            if fd.any().unwrap_or(false) && !stopping.load(Ordering::Relaxed) {
                serve(listener);
            }
        }
    }

    // 5. Finish: the clients that wait in the queue are left to the other workers and the
    // successor.
    drop(listeners);
    notify("STOPPING=1")?;
    Ok(())
}

/// Accepts a client, if one is still there, and answers it. An error of one client must not end the
/// worker.
fn serve(listener: &Socket) {
    let outcome = match listener.accept() {
        Ok((client, _)) => answer(&client),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        complain(&error);
    }
}

fn complain(error: &dyn Error) {
    // Where stderr cannot be written, the error cannot be reported.
    let _ = writeln!(io::stderr(), "hello: {error}");
}

/// Reads a line, and answers with it and with who we are.
fn answer(client: &Socket) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new(client.take(LONGEST_LINE)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(());
    }
    let of_worker = |name| env::var(name).unwrap_or_else(|_| "-".into());
    let (slot, generation) = (of_worker("PF_WORKER"), of_worker("PF_GENERATION"));
    let pid = std::process::id();
    let text = String::from_utf8_lossy(&line);
    let mut client = client;
    client.write_all(
        format!(
            "hello {}, from slot {slot}, generation {generation}, pid {pid}\n",
            text.trim_end()
        )
        .as_bytes(),
    )
}

/// The listeners of systemd's protocol: `LISTEN_FDS` of them, from fd 3, if `LISTEN_PID` is our
/// pid.
fn inherited_listeners() -> Result<Vec<Socket>, Box<dyn Error>> {
    const FIRST: i32 = 3;
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|value| value.parse::<u32>().ok())
    };
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Err("no listeners: start me with pf-listen and pf-master".into());
    }
    let count = i32::try_from(number("LISTEN_FDS").unwrap_or(0))?;
    let mut listeners = Vec::new();
    for fd in FIRST..FIRST.saturating_add(count) {
        #[expect(
            unsafe_code,
            reason = "a number from the environment becomes a descriptor"
        )]
        // SAFETY: the protocol gives us these descriptors, this is called once, and no other code
        // here uses them.
        let listener = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
        if !listener.is_listener()? {
            return Err(format!("fd {fd} does not listen").into());
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Sends the master a notification, if it listens: `NOTIFY_SOCKET` is a path, or an abstract name
/// after `@`.
fn notify(message: &str) -> io::Result<()> {
    let Ok(name) = env::var("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(message.as_bytes(), &address)
        .map(drop)
}
