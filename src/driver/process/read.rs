//! What workers send: read in each turn, and once more before a leader is reaped.

use std::io::{self, Read};
use std::os::fd::AsFd;

use super::Processes;
use super::token::{Source, Token};
use crate::error::reason;
use crate::model::event::{Event, WorkerMessage};
use crate::model::ids::WorkerId;
use crate::model::time::Time;
use crate::sys::process::spawn::{self, SpawnOutcome};
use crate::wire::notify::parse;

/// How many datagrams of one worker a turn takes: a worker that floods delays no other.
const DATAGRAMS_A_TURN: usize = 64;

impl Processes {
    /// Reads what workers have sent, in the order of [`Source`].
    pub(in crate::driver) fn read_workers(&mut self, now: Time) -> Vec<Event> {
        let mut found = Vec::new();
        if self.epoll.ready(&mut found).is_err() {
            return Vec::new();
        }
        let mut tokens: Vec<Token> = found
            .iter()
            .filter_map(|(packed, _)| Token::unpack(*packed))
            .collect();
        tokens.sort_unstable();
        let mut events = Vec::new();
        let mut acks = false;
        for token in tokens {
            let id = token.worker();
            match token.source {
                Source::SpawnOutcome => self.read_spawn_outcome(id, &mut events),
                Source::NotifySocket => self.read_notify_socket(id, now, &mut events),
                Source::ReadyPipe => self.read_ready_pipe(id, &mut events),
                Source::AckSocket | Source::AckConnection => acks = true,
                // Found by `ended_leaders`, before anything was read.
                Source::Exits => {}
            }
        }
        if acks {
            self.read_acks(now, &mut events);
        }
        events
    }

    /// Reads what is left of one worker whose leader has ended: before its end is acted on.
    pub(in crate::driver) fn read_last_messages(&mut self, id: WorkerId, now: Time) -> Vec<Event> {
        let mut events = Vec::new();
        self.read_spawn_outcome(id, &mut events);
        self.read_notify_socket(id, now, &mut events);
        self.read_ready_pipe(id, &mut events);
        self.read_acks(now, &mut events);
        events
    }

    pub(super) fn read_spawn_outcome(&mut self, id: WorkerId, events: &mut Vec<Event>) {
        let Some(process) = self.by_id.get_mut(&id) else {
            return;
        };
        let Some(fd) = &process.spawn_outcome else {
            return;
        };
        let event = match spawn::read_outcome(fd.as_fd(), &mut process.about_to_execute) {
            SpawnOutcome::Pending => return,
            SpawnOutcome::Executed => Some(Event::Executed(id)),
            // Its exit follows, and tells how.
            SpawnOutcome::Died => None,
            SpawnOutcome::Failed { step, errno } => {
                let why = reason(io::Error::from_raw_os_error(errno));
                Some(Event::ExecFailed(id, format!("{step}: {why}")))
            }
        };
        let _ = self.epoll.remove(fd.as_fd());
        process.spawn_outcome = None;
        events.extend(event);
    }

    fn read_notify_socket(&mut self, id: WorkerId, now: Time, events: &mut Vec<Event>) {
        let own_uid = self.own_uid;
        let Some(process) = self.by_id.get_mut(&id) else {
            return;
        };
        for _ in 0..DATAGRAMS_A_TURN {
            let datagram = match process.notify.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) | Err(_) => return,
            };
            // The address names the worker; the kernel names the user (SCM_CREDENTIALS): it has to
            // be ours, which is the worker's too, or root.
            if datagram.uid != own_uid && datagram.uid != 0 {
                continue;
            }
            for message in parse(&datagram.text) {
                events.extend(process.notified(now, message));
            }
        }
    }

    fn read_ready_pipe(&mut self, id: WorkerId, events: &mut Vec<Event>) {
        let Some(process) = self.by_id.get_mut(&id) else {
            return;
        };
        let Some(pipe) = &mut process.ready_pipe else {
            return;
        };
        let mut chunk = [0; 512];
        // It is read to its end, so that a worker that goes on writing gets no SIGPIPE and never
        // blocks.
        let closed = match pipe.read(&mut chunk) {
            Ok(0) => true,
            Ok(length) => {
                if chunk[..length].contains(&b'\n') {
                    events.push(Event::Said(id, WorkerMessage::Newline));
                }
                false
            }
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        };
        if closed {
            let _ = self.epoll.remove(pipe.as_fd());
            process.ready_pipe = None;
            events.push(Event::Said(id, WorkerMessage::Closed));
        }
    }
}
