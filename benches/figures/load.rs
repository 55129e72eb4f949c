//! The load: new connections at a fixed pace, however long earlier ones take, and an account of
//! each.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prefork::model::time::Time;
use prefork::sys::io::poll::{Interest, Poller};
use prefork::sys::machine::clock;
use socket2::{Domain, Socket, Type};

use super::Outcome;
use super::run::millis;
use super::stats::Sample;

/// 400 connections a second.
const PACE: Duration = Duration::from_micros(2500);

/// Every tenth asks for work, which takes so long.
const HEAVY: u64 = 10;
const WORK: Duration = Duration::from_millis(20);

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(8);

/// What became of the connections.
#[derive(Debug, Default)]
pub struct Account {
    answered: Vec<f64>,
    /// How many were lost, by what was seen.
    pub lost: BTreeMap<String, u64>,
}

impl Account {
    /// How many connections there were.
    pub fn connections(&self) -> u64 {
        self.answered.len() as u64 + self.all_lost()
    }

    /// How many of them were not answered.
    pub fn all_lost(&self) -> u64 {
        self.lost.values().sum()
    }

    /// From when each connection was due until its answer, in milliseconds, less the requested
    /// work.
    pub fn delays(&self) -> Sample {
        self.answered.iter().copied().collect()
    }
}

struct Flight {
    socket: Socket,
    due: Time,
    heavy: bool,
    sent: bool,
    answer: Vec<u8>,
}

/// Makes connections to `address` until `stop`, and waits for the end of the last ones.
pub fn run(address: &str, stop: &AtomicBool) -> Outcome<Account> {
    let address: SocketAddr = address.parse()?;
    let mut account = Account::default();
    let mut flights: Vec<Flight> = Vec::new();
    let mut poller = Poller::new();
    let mut next = clock::now();
    let mut count = 0;
    loop {
        let stopping = stop.load(Ordering::Relaxed);
        if stopping && flights.is_empty() {
            return Ok(account);
        }
        while !stopping && next <= clock::now() {
            count += 1;
            match depart(address, next, count % HEAVY == 0) {
                Ok(flight) => flights.push(flight),
                Err(error) => account.lose(&error),
            }
            next = next + PACE;
        }
        let waiting: Vec<_> = flights
            .iter()
            .map(|flight| {
                let interest = if flight.sent {
                    Interest::READ
                } else {
                    Interest::WRITE
                };
                (flight.socket.as_fd(), interest)
            })
            .collect();
        let until = if stopping { clock::now() + PACE } else { next };
        let ready: Vec<bool> = poller
            .wait(&waiting, Some(until))?
            .iter()
            .map(|ready| ready.any())
            .collect();
        drop(waiting);
        let now = clock::now();
        let mut at = 0;
        flights.retain_mut(|flight| {
            let is_ready = ready.get(at).copied().unwrap_or(false);
            at += 1;
            let step = if is_ready { flight.go_on() } else { Ok(false) };
            match step {
                Ok(true) => account.answered.push(flight.delay(now)),
                Ok(false) if now.since(flight.due) < PATIENCE => return true,
                Ok(false) => account.lose(&ErrorKind::TimedOut.into()),
                Err(error) => account.lose(&error),
            }
            false
        });
    }
}

impl Account {
    fn lose(&mut self, error: &io::Error) {
        *self.lost.entry(error.kind().to_string()).or_default() += 1;
    }
}

fn depart(address: SocketAddr, due: Time, heavy: bool) -> io::Result<Flight> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    Ok(Flight {
        socket,
        due,
        heavy,
        sent: false,
        answer: Vec::new(),
    })
}

impl Flight {
    /// Takes the next step; whether it has landed.
    fn go_on(&mut self) -> io::Result<bool> {
        if !self.sent {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            let path = if self.heavy { "/w" } else { "/" };
            let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
            // A fresh socket has room for it all.
            (&self.socket).write_all(request.as_bytes())?;
            self.sent = true;
            return Ok(false);
        }
        let mut chunk = [0; 1024];
        loop {
            match (&self.socket).read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => self
                    .answer
                    .extend_from_slice(chunk.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if self.answer.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let whole = self.answer.starts_with(b"HTTP/1.") && self.answer.ends_with(b"\r\n\r\nok\n");
        if whole {
            Ok(true)
        } else {
            Err(ErrorKind::InvalidData.into())
        }
    }

    fn delay(&self, now: Time) -> f64 {
        let took = now.since(self.due);
        millis(if self.heavy {
            took.saturating_sub(WORK)
        } else {
            took
        })
    }
}
