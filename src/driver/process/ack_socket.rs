//! Where workers that are made for einhorn say that they are ready, or live: a socket that all of them share.
//!
//! So it is not the address that says who speaks but the kernel: the sender's process group is a worker's. A sender that has been reaped by the time it
//! is heard has none; a worker's leader is reaped only after its last words.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::one::{Use, token};
use super::{Process, Processes};
use crate::model::event::{Event, Saying, WorkerId};
use crate::model::time::Time;
use crate::sys::control::{Conn, ControlSocket, Input};
use crate::sys::io::poll::{Interest, NestedEpoll};
use crate::sys::process::group;
use crate::wire::einhorn::{Command, NOT_HERE, parse};
use crate::wire::handover;

/// How many connections may be open at once; beyond it the oldest is closed, so that none has to be timed.
const MOST: usize = 64;

/// The socket, and who is connected to it.
pub(super) struct Acks {
    socket: ControlSocket,
    conns: BTreeMap<u64, Conn>,
    last: u64,
    /// No connection can be accepted just now (no descriptor is left, say): nobody asks for any until something has changed.
    deaf: bool,
    /// What is to be logged.
    complaints: Vec<String>,
}

impl Acks {
    fn new(socket: ControlSocket, nest: &NestedEpoll) -> io::Result<Acks> {
        nest.add(socket.fd(), place(0), Interest::READ)?;
        Ok(Acks {
            socket,
            conns: BTreeMap::new(),
            last: 0,
            deaf: false,
            complaints: Vec::new(),
        })
    }

    pub(super) fn handed_over(&self) -> handover::Acks {
        let client = |(number, conn): (&u64, &Conn)| {
            let mut client = handover::Client {
                number: *number,
                ..Default::default()
            };
            conn.hand_over(&mut client);
            client
        };
        handover::Acks {
            socket: self.socket.handed_over(),
            clients: self.conns.iter().map(client).collect(),
        }
    }

    pub(super) fn taken_over(acks: &handover::Acks, nest: &NestedEpoll) -> io::Result<Acks> {
        let mut taken = Acks::new(ControlSocket::taken_over(&acks.socket)?, nest)?;
        for client in &acks.clients {
            taken.add(Conn::taken_over(client)?, nest)?;
        }
        Ok(taken)
    }

    fn add(&mut self, conn: Conn, nest: &NestedEpoll) -> io::Result<()> {
        self.last += 1;
        nest.add(conn.fd(), place(self.last), Interest::READ)?;
        self.conns.insert(self.last, conn);
        if self.conns.len() > MOST
            && let Some((_, oldest)) = self.conns.pop_first()
        {
            let _ = nest.remove(oldest.fd());
        }
        Ok(())
    }

    fn admit(&mut self, nest: &NestedEpoll) {
        while !self.deaf {
            match self.socket.accept() {
                Ok(Some(conn)) => {
                    if let Err(error) = self.add(conn, nest) {
                        self.complain(format!("cannot listen to a client: {error}"));
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.complain(format!("cannot accept a client: {error}"));
                    self.deaf = nest.remove(self.socket.fd()).is_ok();
                    return;
                }
            }
        }
    }

    fn complain(&mut self, why: String) {
        self.complaints.push(why);
    }

    /// What has been said, each by the process of this pid and on behalf of this user; who has said something is not listened to any more.
    fn lines(&mut self, nest: &NestedEpoll) -> Vec<(Conn, Option<Vec<u8>>)> {
        let mut said = Vec::new();
        let numbers: Vec<u64> = self.conns.keys().copied().collect();
        for number in numbers {
            let Some(conn) = self.conns.get_mut(&number) else {
                continue;
            };
            let first = conn.read().inputs.into_iter().next();
            let line = match first {
                None => continue,
                Some(Input::Line(line)) => Some(line),
                Some(Input::TooLong) => Some(Vec::new()),
                Some(Input::Cut | Input::End) => None,
            };
            if let Some(conn) = self.conns.remove(&number) {
                let _ = nest.remove(conn.fd());
                said.push((conn, line));
            }
        }
        said
    }
}

/// The token of a connection, or of the socket itself (0).
fn place(number: u64) -> u64 {
    token(WorkerId(number), Use::Acks)
}

impl Processes {
    /// Hears acks at this socket from now on.
    pub(in crate::driver) fn hear_acks_at(&mut self, socket: ControlSocket) -> io::Result<()> {
        self.acks = Some(Acks::new(socket, &self.nest)?);
        Ok(())
    }

    /// Where they are heard.
    pub(in crate::driver) fn acks_path(&self) -> Option<&Path> {
        self.acks.as_ref().map(|acks| acks.socket.path())
    }

    /// Hears no more; the socket, whose path is to be removed.
    pub(in crate::driver) fn no_more_acks(&mut self) -> Option<ControlSocket> {
        self.acks.take().map(|acks| acks.socket)
    }

    /// What was refused, for the log.
    pub(in crate::driver) fn complaints_about_acks(&mut self) -> Vec<String> {
        self.acks
            .as_mut()
            .map(|acks| std::mem::take(&mut acks.complaints))
            .unwrap_or_default()
    }

    /// Some descriptors have been closed.
    pub(super) fn listen_for_acks_again(&mut self) {
        if let Some(acks) = &mut self.acks
            && acks.deaf
        {
            let added = self.nest.add(acks.socket.fd(), place(0), Interest::READ);
            acks.deaf = added.is_err();
        }
    }

    /// Takes what has been said there.
    pub(super) fn hear_acks(&mut self, now: Time, events: &mut Vec<Event>) {
        let Some(acks) = &mut self.acks else { return };
        acks.admit(&self.nest);
        for (mut conn, line) in acks.lines(&self.nest) {
            // One that only looked whether somebody is here.
            let Some(line) = line else { continue };
            match self.understood(&conn, &line, now) {
                Ok(event) => events.extend(event),
                Err(why) => {
                    // Whoever speaks by hand is told; a full socket is its own fault.
                    let _ = conn.send(NOT_HERE.to_owned()) && conn.flush().is_ok();
                    if let Some(acks) = &mut self.acks {
                        acks.complain(why);
                    }
                }
            }
        }
    }

    fn understood(&mut self, conn: &Conn, line: &[u8], now: Time) -> Result<Option<Event>, String> {
        let (pid, uid, _) = conn.peer();
        let refused =
            |why: &str| format!("a word of process {pid} to einhorn's socket is refused: {why}");
        if uid != self.own_uid && uid != 0 {
            return Err(refused(&format!("it is user {uid}'s")));
        }
        let request = parse(line).map_err(|why| refused(&why))?;
        let of = |pid| group::of(pid).and_then(|leader| self.by_pid.get(&leader).copied());
        let id =
            of(pid).ok_or_else(|| refused("it is of no worker's process group, or has ended"))?;
        if of(request.pid) != Some(id) {
            return Err(refused(&format!(
                "it speaks for process {}, which is not of its worker",
                request.pid
            )));
        }
        match request.command {
            Command::Ack => Ok(Some(Event::Said(id, Saying::Ready))),
            // As einhorn does: it is shown, and nobody is killed for its silence.
            Command::Ping => {
                if let Some(process) = self.by_id.get_mut(&id) {
                    process.pinged(now);
                }
                Ok(None)
            }
        }
    }
}

impl Process {
    fn pinged(&mut self, now: Time) {
        self.last_beat = Some(now);
    }
}
