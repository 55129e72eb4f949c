//! Einhorn's socket, which all workers share: here a worker made for einhorn acknowledges that it
//! is ready (`worker:ack`), or that it lives (`worker:ping`).
//!
//! So it is not the address that names the worker but the kernel: the sender's process group is the
//! worker's. A sender that was reaped before its line is read has no process group; a leader is
//! reaped only after its last messages were read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::Processes;
use super::token::{Source, Token};
use crate::error::Error;
use crate::model::event::{Event, WorkerMessage};
use crate::model::time::Time;
use crate::sys::control::{Conn, ControlSocket, Input};
use crate::sys::files::watch::AtPath;
use crate::sys::io::left_open::LeftOpen;
use crate::sys::io::poll::{Interest, NestedEpoll};
use crate::sys::process::group;
use crate::wire::einhorn::{ERROR_REPLY, EinhornCommand, parse};
use crate::wire::handover;

/// How many connections may be open at once. Beyond it the oldest is closed, so that none needs a
/// deadline.
const MAX_CONNECTIONS: usize = 64;

/// The socket and its connections.
pub(super) struct AckSocket {
    socket: ControlSocket,
    connections: BTreeMap<u64, Conn>,
    last: u64,
    /// No connection can be accepted (no descriptor is left, say): the socket is not watched until
    /// some descriptors have been closed.
    paused: bool,
    /// Refusals and failures that are not logged yet.
    warnings: Vec<String>,
    /// That its path cannot be made anew is logged once, until it can.
    is_logged: bool,
}

impl AckSocket {
    fn new(socket: ControlSocket, epoll: &NestedEpoll) -> io::Result<AckSocket> {
        watch_socket(&socket, epoll)?;
        Ok(AckSocket::of(socket))
    }

    fn of(socket: ControlSocket) -> AckSocket {
        AckSocket {
            socket,
            connections: BTreeMap::new(),
            last: 0,
            paused: false,
            warnings: Vec::new(),
            is_logged: false,
        }
    }

    /// For the next image.
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
            clients: self.connections.iter().map(client).collect(),
        }
    }

    /// From the image before; not watched yet.
    pub(super) fn taken_over(acks: &handover::Acks, left: &mut LeftOpen) -> io::Result<AckSocket> {
        let mut taken = AckSocket::of(ControlSocket::taken_over(&acks.socket, left)?);
        for client in &acks.clients {
            taken.last += 1;
            let conn = Conn::taken_over(client, left)?;
            taken.connections.insert(taken.last, conn);
        }
        Ok(taken)
    }

    /// Watches everything that was taken over.
    pub(super) fn watch_all(&self, epoll: &NestedEpoll) -> io::Result<()> {
        watch_socket(&self.socket, epoll)?;
        self.connections.iter().try_for_each(|(number, conn)| {
            let token = Token::of_ack_connection(*number).pack();
            epoll.add(conn.fd(), token, Interest::READ)
        })
    }

    fn add(&mut self, conn: Conn, epoll: &NestedEpoll) -> io::Result<()> {
        self.last += 1;
        let token = Token::of_ack_connection(self.last).pack();
        epoll.add(conn.fd(), token, Interest::READ)?;
        self.connections.insert(self.last, conn);
        if self.connections.len() > MAX_CONNECTIONS
            && let Some((_, oldest)) = self.connections.pop_first()
        {
            let _ = epoll.remove(oldest.fd());
        }
        Ok(())
    }

    fn accept(&mut self, epoll: &NestedEpoll) {
        while !self.paused {
            match self.socket.accept() {
                Ok(Some(conn)) => {
                    if let Err(error) = self.add(conn, epoll) {
                        self.warnings
                            .push(format!("einhorn's socket: cannot watch a client: {error}"));
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.warnings
                        .push(format!("einhorn's socket: cannot accept a client: {error}"));
                    self.paused = epoll.remove(self.socket.fd()).is_ok();
                    return;
                }
            }
        }
    }

    /// Watches the socket again, if it was paused.
    fn resume(&mut self, epoll: &NestedEpoll) {
        if self.paused {
            self.paused = watch_socket(&self.socket, epoll).is_err();
        }
    }

    /// Makes the path anew, which is not ours any more.
    fn mend(&mut self, epoll: &NestedEpoll) {
        // Those who connected before; the former socket is closed after this.
        self.accept(epoll);
        let mended = self.socket.bind_anew().and_then(|former| {
            let _ = epoll.remove(former.fd());
            watch_socket(&self.socket, epoll)
                .map_err(|error| Error::system("einhorn's socket: cannot watch it", error))
        });
        match mended {
            Ok(()) => {
                self.is_logged = false;
                self.warnings.push(format!(
                    "einhorn's socket {} had been removed by another process: it is made anew",
                    self.socket.path().display()
                ));
            }
            Err(error) if !std::mem::replace(&mut self.is_logged, true) => {
                self.warnings.push(error.to_string());
            }
            Err(_) => {}
        }
    }

    /// The first line of each connection that has sent one, with the connection; None: it ended
    /// without one. A connection is good for one line.
    fn take_lines(&mut self, epoll: &NestedEpoll) -> Vec<(Conn, Option<Vec<u8>>)> {
        let mut lines = Vec::new();
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            let Some(conn) = self.connections.get_mut(&number) else {
                continue;
            };
            let line = match conn.read().inputs.into_iter().next() {
                None => continue,
                Some(Input::Line(line)) => Some(line),
                Some(Input::TooLong) => Some(Vec::new()),
                Some(Input::Cut | Input::End) => None,
            };
            if let Some(conn) = self.connections.remove(&number) {
                let _ = epoll.remove(conn.fd());
                lines.push((conn, line));
            }
        }
        lines
    }
}

fn watch_socket(socket: &ControlSocket, epoll: &NestedEpoll) -> io::Result<()> {
    let token = Token::of_all(Source::AckSocket).pack();
    epoll.add(socket.fd(), token, Interest::READ)
}

impl Processes {
    /// Reads acks at this socket from now on.
    pub(in crate::driver) fn open_ack_socket(&mut self, socket: ControlSocket) -> io::Result<()> {
        self.ack_socket = Some(AckSocket::new(socket, &self.epoll)?);
        Ok(())
    }

    pub(in crate::driver) fn ack_socket(&self) -> Option<&ControlSocket> {
        self.ack_socket.as_ref().map(|acks| &acks.socket)
    }

    pub(in crate::driver) fn ack_socket_path(&self) -> Option<&Path> {
        self.ack_socket().map(ControlSocket::path)
    }

    /// Binds the socket's path anew if another process has removed it.
    pub(in crate::driver) fn mend_ack_socket(&mut self) {
        if let Some(acks) = &mut self.ack_socket
            && acks.socket.at_path().is_ok_and(|it| it == AtPath::Nothing)
        {
            acks.mend(&self.epoll);
        }
    }

    /// Reads no more acks; the socket, whose path is to be removed.
    pub(in crate::driver) fn close_ack_socket(&mut self) -> Option<ControlSocket> {
        self.ack_socket.take().map(|acks| acks.socket)
    }

    /// Takes the warnings that are to be logged.
    pub(in crate::driver) fn take_ack_warnings(&mut self) -> Vec<String> {
        self.ack_socket
            .as_mut()
            .map(|acks| std::mem::take(&mut acks.warnings))
            .unwrap_or_default()
    }

    /// Some descriptors have been closed: connections can be accepted again.
    pub(super) fn resume_acks(&mut self) {
        if let Some(acks) = &mut self.ack_socket {
            acks.resume(&self.epoll);
        }
    }

    /// Reads what was sent to the socket.
    pub(super) fn read_acks(&mut self, now: Time, events: &mut Vec<Event>) {
        let Some(acks) = &mut self.ack_socket else {
            return;
        };
        acks.accept(&self.epoll);
        for (mut conn, line) in acks.take_lines(&self.epoll) {
            // A connection without a line only looked whether the socket is there.
            let Some(line) = line else { continue };
            match self.understand_ack(&conn, &line, now) {
                Ok(event) => events.extend(event),
                Err(why) => {
                    // For a person who types here. That a full connection loses it is the sender's
                    // fault.
                    let _ = conn.send(ERROR_REPLY.to_owned()) && conn.flush().is_ok();
                    if let Some(acks) = &mut self.ack_socket {
                        acks.warnings.push(why);
                    }
                }
            }
        }
    }

    fn understand_ack(
        &mut self,
        conn: &Conn,
        line: &[u8],
        now: Time,
    ) -> Result<Option<Event>, String> {
        let (pid, uid, _) = conn.peer();
        let refused =
            |why: &str| format!("einhorn's socket: the message of process {pid} is refused: {why}");
        if uid != self.own_uid && uid != 0 {
            return Err(refused(&format!("its user is {uid}")));
        }
        let request = parse(line).map_err(|why| refused(&why))?;
        let worker_of =
            |pid| group::group_of(pid).and_then(|leader| self.by_pid.get(&leader).copied());
        let id = worker_of(pid)
            .ok_or_else(|| refused("it is in no worker's process group, or has ended"))?;
        if worker_of(request.pid) != Some(id) {
            return Err(refused(&format!(
                "it names process {}, which is not of its worker",
                request.pid
            )));
        }
        match request.command {
            EinhornCommand::Ack => Ok(Some(Event::Said(id, WorkerMessage::Ready))),
            // As in einhorn: status shows it, and a worker that stops pinging is not killed.
            EinhornCommand::Ping => {
                if let Some(process) = self.by_id.get_mut(&id) {
                    process.last_beat = Some(now);
                }
                Ok(None)
            }
        }
    }
}
