//! A worker in plain std: HTTP/1.1 with keep-alive, a thread a client.
//!
//!     cargo build --release --example worker-std
//!     pf-listen 127.0.0.1:8080 -- pf-master -n 4 --pid app.pid -- \
//!         target/release/examples/worker-std
//!     curl http://127.0.0.1:8080/world
//!
//! It also runs without a master, on the addresses given: then USR2 starts the program again, and
//! once the new process serves, the old one finishes.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use prefork::{Connection, Listeners, Restart, Server};

/// The longest head of a request.
const LONGEST_HEAD: u64 = 16 * 1024;

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "worker-std: {error}");
            error.exit.into()
        }
    }
}

fn work() -> prefork::error::Result<()> {
    // First of all: this records how the process was started, and the listener variables can be
    // removed only while there is one thread.
    let restart = Restart::on_usr2()?;
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    let default = vec!["tcp:127.0.0.1:8080".to_owned()];
    let addresses = if addresses.is_empty() {
        default
    } else {
        addresses
    };
    let listeners = Listeners::inherit_or_bind(addresses)?;
    Server::new()
        .max_clients(64)
        .client_timeout(Duration::from_secs(10))
        .restart(restart)
        .serve(listeners, serve)
}

/// One client, request after request.
fn serve(mut client: &Connection) -> io::Result<()> {
    let mut requests = BufReader::new(client);
    // What has been read ahead is a request as well.
    while !requests.buffer().is_empty() || client.next_request()? {
        let Some(request) = Request::read(&mut requests)? else {
            break;
        };
        // Asked to finish, the worker still answers, and marks the answer as the last.
        let is_last = client.should_close() || !request.keeps_alive;
        let who = std::env::var("PF_WORKER").unwrap_or_else(|_| "-".to_owned());
        let pid = std::process::id();
        let body = format!("hello {}, from slot {who}, pid {pid}\n", request.name);
        let connection = if is_last { "close" } else { "keep-alive" };
        let length = body.len();
        // At once, so that it is one packet.
        client.write_all(
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\
                 Connection: {connection}\r\n\r\n{body}"
            )
            .as_bytes(),
        )?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// `GET /NAME`.
struct Request {
    name: String,
    keeps_alive: bool,
}

impl Request {
    /// None at the end of the connection.
    fn read(from: &mut impl BufRead) -> io::Result<Option<Request>> {
        let bad = |why| Error::new(ErrorKind::InvalidData, why);
        let mut head = from.take(LONGEST_HEAD);
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line.strip_prefix("GET /").ok_or_else(|| bad("not a GET"))?;
        let (name, version) = path
            .trim_end()
            .split_once(' ')
            .ok_or_else(|| bad("no version"))?;
        let mut request = Request {
            name: name.to_owned(),
            keeps_alive: version == "HTTP/1.1",
        };
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 {
                return Err(bad("a head without an end"));
            }
            if line.trim_end().is_empty() {
                return Ok(Some(request));
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("connection:") {
                request.keeps_alive = value.trim() != "close";
            }
        }
    }
}
