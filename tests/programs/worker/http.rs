//! HTTP clients that keep their connections, and account for every request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use socket2::Socket;

use crate::common::load::{Target, connect};
use crate::common::service::until;

/// A client with one connection at a time.
pub struct Client {
    target: Target,
    connection: Option<BufReader<Socket>>,
    /// How often a kept connection had ended before a request could be answered on it. HTTP allows
    /// that, and such a request is repeated.
    pub made_again: u64,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was said, without the end of the line.
    pub text: String,
    /// It is the connection's last.
    pub is_last: bool,
}

impl Client {
    pub fn of(target: &Target) -> Client {
        Client {
            target: target.clone(),
            connection: None,
            made_again: 0,
        }
    }

    /// The connection; a new one if there is none.
    pub fn connection(&mut self) -> io::Result<&mut BufReader<Socket>> {
        if self.connection.is_none() {
            self.connection = Some(BufReader::new(connect(&self.target)?));
        }
        self.connection.as_mut().ok_or(io::ErrorKind::Other.into())
    }

    /// `GET /NAME`. A kept connection may have ended, but never with half an answer.
    pub fn get(&mut self, name: &str) -> io::Result<Answer> {
        if self.connection.is_some() {
            let answered = self.send(name).and_then(|()| self.receive());
            match answered {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(error) if is_the_end(&error) => {}
                Err(error) => return Err(error),
            }
            self.connection = None;
            self.made_again += 1;
        }
        self.send(name)?;
        self.receive()?.ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    pub fn send(&mut self, name: &str) -> io::Result<()> {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: test\r\n\r\n");
        self.connection()?.get_mut().write_all(request.as_bytes())
    }

    /// The next answer; None at the end of the connection.
    pub fn receive(&mut self) -> io::Result<Option<Answer>> {
        let connection = self.connection()?;
        let (mut line, mut length, mut is_last) = (String::new(), 0, false);
        if connection.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let half = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(half(&line));
        }
        loop {
            line.clear();
            if connection
                .read_line(&mut line)
                .map_err(|error| half(&error.to_string()))?
                == 0
            {
                return Err(half("half a head"));
            }
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => {
                    length = value.parse().map_err(|_| half(&line))?
                }
                Some(("connection", value)) => is_last = value == "close",
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut text = vec![0; length];
        connection
            .read_exact(&mut text)
            .map_err(|error| half(&error.to_string()))?;
        if is_last {
            self.connection = None;
        }
        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
        Ok(Some(Answer { text, is_last }))
    }
}

/// The connection had ended before anything of an answer came.
fn is_the_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// What became of all requests.
#[derive(Debug, Default)]
pub struct Account {
    pub answered: u64,
    /// Answers after which the connection was closed, as they said.
    pub last: u64,
    pub made_again: u64,
    pub lost: Vec<String>,
}

/// Clients at work.
#[derive(Default)]
pub struct Load {
    answered: AtomicU64,
    over: AtomicBool,
}

impl Load {
    /// Waits until so many requests more were answered.
    #[track_caller]
    pub fn more(&self, count: u64) {
        let wanted = self.answered.load(Ordering::SeqCst) + count;
        until("more answers", || {
            (self.answered.load(Ordering::SeqCst) >= wanted).then_some(())
        });
    }

    fn work(&self, target: &Target, who: usize, keeps: bool) -> Account {
        let (mut client, mut account) = (Client::of(target), Account::default());
        let mut number = 0;
        while !self.over.load(Ordering::SeqCst) && account.lost.len() < 10 {
            number += 1;
            let name = format!("{who}-{number}");
            match client.get(&name) {
                Ok(answer) if answer.text.starts_with(&format!("hello {name}, ")) => {
                    account.answered += 1;
                    account.last += u64::from(answer.is_last);
                    self.answered.fetch_add(1, Ordering::SeqCst);
                }
                wrong => account.lost.push(format!("{target:?} {name}: {wrong:?}")),
            }
            if !keeps {
                client.connection = None;
            }
        }
        account.made_again = client.made_again;
        account
    }
}

/// Acts while, on each target, one client makes requests on one connection, and another makes each
/// on a new one.
pub fn under_load(targets: &[Target], act: impl FnOnce(&Load)) -> Account {
    let load = Load::default();
    let mut sum = Account::default();
    std::thread::scope(|scope| {
        /// Also where what is done under load fails.
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let over = Over(&load.over);
        let both = targets
            .iter()
            .flat_map(|target| [(target, true), (target, false)]);
        let clients: Vec<_> = both
            .enumerate()
            .map(|(who, (target, keeps))| {
                let load = &load;
                scope.spawn(move || load.work(target, who, keeps))
            })
            .collect();
        act(&load);
        drop(over);
        for client in clients {
            let account = client.join().expect("a client's thread");
            sum.answered += account.answered;
            sum.last += account.last;
            sum.made_again += account.made_again;
            sum.lost.extend(account.lost);
        }
    });
    sum
}
