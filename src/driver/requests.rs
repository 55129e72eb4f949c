//! Control requests: from a line to an answer, or to an event for the model.

use serde_json::Value;

use crate::model::event::{Command as Asked, Event, Scale};
use crate::model::ids::{Generation, OpId};
use crate::model::policy::StopSeverity;
use crate::model::signal::{Sender, Signal};
use crate::model::time::Time;
use crate::sys::control::{Conn, Input};
use crate::sys::io::poll::Ready;
use crate::sys::machine::{clock, limits};
use crate::sys::signal;
use crate::wire::changes::Changes;
use crate::wire::control::{
    Code, ControlCommand, Failure, MAX_REQUEST, Reply, Request, parse_request,
};

use super::Driver;
use super::clients::{LINE_WITHIN, MAX_CLIENTS, MAX_PENDING, reply_of};
use super::pin::is_ours;

/// How many clients may be connected: workers need descriptors more.
fn most_clients() -> usize {
    usize::try_from(limits::nofile() / 4)
        .unwrap_or(MAX_CLIENTS)
        .min(MAX_CLIENTS)
}

/// How long nobody is accepted after that failed.
const DEAF_FOR: std::time::Duration = std::time::Duration::from_millis(200);

impl Driver {
    /// Takes new connections. Root, our own uid, and whom the socket's mode lets in: the kernel has judged by the mode already.
    pub(super) fn admit(&mut self) {
        while let Some(control) = &self.control {
            match control.accept() {
                Ok(Some(conn)) if self.clients.len() >= most_clients() => {
                    self.clients.dropped += 1;
                    let connected = self.clients.len();
                    let text = format!("{connected} control clients are connected already");
                    send_away(conn, Code::Busy, text);
                    if !std::mem::replace(&mut self.deafness_told, true) {
                        self.log.warn(format_args!(
                            "control clients are turned away: {connected} are connected"
                        ));
                    }
                }
                Ok(Some(conn)) => {
                    self.deafness_told = false;
                    let (pid, uid, _) = conn.peer();
                    if control.allows(uid) {
                        self.clients.add(conn);
                    } else {
                        self.log
                            .warn(format_args!("control client {pid} of uid {uid} refused"));
                        let text = format!("uid {uid} may not use this control socket");
                        send_away(conn, Code::Permission, text);
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    // The client still waits, so the socket stays readable: asked again at once, this would be a busy loop.
                    self.deaf_until = Some(clock::now() + DEAF_FOR);
                    if !std::mem::replace(&mut self.deafness_told, true) {
                        self.log.warn(format_args!(
                            "cannot accept a control client, and tries again: {error}"
                        ));
                    }
                    return;
                }
            }
        }
    }

    /// Reads from clients that are ready, and answers.
    pub(super) fn serve_clients(&mut self, ready: &[Ready], now: Time) {
        for (place, number) in self.clients.numbers().into_iter().enumerate() {
            let ready = ready.get(place).copied().unwrap_or_default();
            let Some(client) = self.clients.get_mut(number) else {
                continue;
            };
            if !(ready.read || ready.hangup || client.more) {
                let late = client
                    .owing_since
                    .is_some_and(|since| now >= since + LINE_WITHIN);
                if late {
                    let text = format!(
                        "the line was not finished within {} s",
                        LINE_WITHIN.as_secs()
                    );
                    client.fail(Code::BadRequest, text, None);
                    client.owing_since = None;
                    client.silent = true;
                }
                continue;
            }
            let turn = client.conn.read();
            client.more = turn.more;
            let hangup = ready.hangup;
            let owes = client.conn.has_partial_line();
            client.owing_since = client
                .owing_since
                .filter(|_| owes && turn.inputs.is_empty())
                .or(owes.then_some(now));
            for input in turn.inputs {
                self.take(number, input);
            }
            if let Some(client) = self.clients.get_mut(number) {
                // Nobody is left to read an answer; and a connection that is closed on both sides would wake us for ever.
                client.gone |= hangup && client.silent;
            }
        }
    }

    fn take(&mut self, number: u64, input: Input) {
        match input {
            Input::Line(line) => match parse_request(&line) {
                Ok(request) => self.request(number, request),
                Err((failure, id)) => self.fail(number, failure.code, failure.message, id),
            },
            Input::TooLong => {
                let text = format!("the line is longer than {} KiB", MAX_REQUEST / 1024);
                self.fail(number, Code::BadRequest, text, None);
            }
            Input::Cut => {
                let text = "the last line had no end".to_owned();
                self.fail(number, Code::BadRequest, text, None);
            }
            Input::End => {
                if let Some(client) = self.clients.get_mut(number) {
                    client.silent = true;
                    client.owing_since = None;
                }
            }
        }
    }

    fn request(&mut self, number: u64, request: Request) {
        let Request {
            command,
            id,
            wait,
            key,
        } = request;
        if self.clients.owes_too_many(number) {
            let text = format!("{MAX_PENDING} requests of this connection wait already");
            return self.fail(number, Code::Busy, text, id);
        }
        if let Some(op) = key.as_deref().and_then(|key| self.clients.known_key(key)) {
            return self.join(number, op, wait, id);
        }
        let asked = match command {
            ControlCommand::Status => {
                return self.reply(number, id, |driver, reply| {
                    reply.status = Some(Box::new(driver.status()))
                });
            }
            ControlCommand::Listeners => {
                return self.reply(number, id, |driver, reply| {
                    reply.listeners = Some(driver.listener_list())
                });
            }
            ControlCommand::Wait { ready, op } => return self.wait_request(number, id, ready, op),
            ControlCommand::Reload { dry_run, changes } => {
                return match changes.check(is_ours) {
                    Err(why) => self.fail(number, Code::Usage, why, id),
                    Ok(()) if dry_run => self.dry_run(number, id, &changes, false),
                    Ok(()) => self.reload(number, id, (key, wait), changes),
                };
            }
            ControlCommand::Signal {
                signal,
                workers,
                slot,
            } => match signal_command(&signal, workers, slot) {
                Ok(Some(asked)) => asked,
                Ok(None) => return self.signal_self(number, id, &signal),
                Err(why) => return self.fail(number, Code::Usage, why, id),
            },
            ControlCommand::Scale { workers } => match scale(&workers) {
                Ok(scale) => Asked::Scale(scale),
                Err(why) => return self.fail(number, Code::Usage, why, id),
            },
            ControlCommand::Upgrade {
                dry_run,
                fork,
                manual,
            } => match self.why_no_fork().filter(|_| fork) {
                Some(why) => return self.fail(number, Code::Refused, why, id),
                None if dry_run => return self.dry_run(number, id, &Changes::default(), true),
                None if fork => Asked::Fork { manual },
                None => Asked::Upgrade,
            },
            ControlCommand::Rollback => Asked::Rollback,
            ControlCommand::Stop { now } => Asked::Stop(if now {
                StopSeverity::Quick
            } else {
                StopSeverity::Graceful
            }),
            ControlCommand::Pause => Asked::Pause,
            ControlCommand::Resume => Asked::Resume,
            ControlCommand::RestartWorker { slot } => Asked::RestartWorker(slot),
            ControlCommand::Reopen => Asked::Reopen,
            ControlCommand::Retire { generation } => Asked::Retire(Generation(generation)),
        };
        let stop = matches!(asked, Asked::Stop(_));
        let ticket = self.clients.ticket(number, id, key, wait, stop);
        self.feed(Event::Command(ticket, asked));
    }

    /// A repeated key: the operation is joined, not begun again.
    fn join(&mut self, number: u64, op: OpId, wait: bool, id: Option<Value>) {
        if wait {
            return self.wait_request(number, id, false, Some(op.0));
        }
        self.reply(number, id, |_, reply| reply.op = Some(op.0));
    }

    fn wait_request(&mut self, number: u64, id: Option<Value>, ready: bool, op: Option<u64>) {
        let op = match (ready, op) {
            (true, None) if self.supervisor.stopping().is_some() => {
                return self.fail(
                    number,
                    Code::Refused,
                    "the service is stopping".to_owned(),
                    id,
                );
            }
            // Answered at the end of this turn, if they are ready already.
            (true, None) => return self.clients.wait_for(number, id, None),
            (false, Some(op)) => OpId(op),
            _ => {
                let text = "wait takes either \"ready\": true or \"op\": N".to_owned();
                return self.fail(number, Code::Usage, text, id);
            }
        };
        let generation = self.supervisor.generation();
        match self
            .supervisor
            .operation(op)
            .map(|operation| operation.ended.clone())
        {
            None => {
                let text = format!(
                    "no operation {op} is known: it never was, or is older than the last 20"
                );
                self.fail(number, Code::Usage, text, id);
            }
            Some(None) => self.clients.wait_for(number, id, Some(op)),
            Some(Some((_, outcome))) => {
                if let Some(client) = self.clients.get_mut(number) {
                    client.reply(reply_of(op, &outcome, generation, id));
                }
            }
        }
    }

    fn reload(
        &mut self,
        number: u64,
        id: Option<Value>,
        (key, wait): (Option<String>, bool),
        changes: Changes,
    ) {
        let renewed = changes.command.is_some();
        let ticket = self.clients.ticket(number, id, key, wait, false);
        self.asked = Some((ticket, changes));
        self.feed(Event::Command(ticket, Asked::Reload { renewed }));
        // Where it was refused, nothing of it may be left for another.
        self.asked = None;
    }

    /// Tells what a reload with these changes, or an upgrade, would do.
    fn dry_run(&mut self, number: u64, id: Option<Value>, changes: &Changes, upgrade: bool) {
        match self.plan(changes, upgrade) {
            // Whether the successor will do is known to itself alone.
            Ok(plan) if upgrade => self.rehearse(number, id, plan),
            Ok(plan) => self.reply(number, id, |_, reply| reply.plan = Some(plan)),
            Err(Failure { code, message }) => self.fail(number, code, message, id),
        }
    }

    /// Delivers a signal to the master itself: one that it handles as if it had come, another really.
    fn signal_self(&mut self, number: u64, id: Option<Value>, signal: &str) {
        let Ok(signal) = signal.parse::<Signal>() else {
            return;
        };
        self.reply(number, id, |_, reply| {
            reply.message = Some(format!("{signal} sent to the master"))
        });
        if signal::HANDLED.contains(&signal) {
            return self.signalled(signal, Sender::Process);
        }
        self.flush_clients();
        if let Err(error) = signal::send_to_self(signal) {
            self.log
                .error(format_args!("cannot send {signal} to ourselves: {error}"));
        }
    }

    fn reply(&mut self, number: u64, id: Option<Value>, fill: impl FnOnce(&mut Self, &mut Reply)) {
        let mut reply = Reply {
            ok: true,
            id,
            ..Reply::default()
        };
        fill(self, &mut reply);
        if let Some(client) = self.clients.get_mut(number) {
            client.reply(reply);
        }
    }

    pub(super) fn fail(&mut self, number: u64, code: Code, message: String, id: Option<Value>) {
        if let Some(client) = self.clients.get_mut(number) {
            client.fail(code, message, id);
        }
    }

    /// Tells those who wait for all slots to be ready, if they are.
    pub(super) fn answer_waiters(&mut self) {
        if self.clients.awaits_ready() && self.supervisor.is_ready() {
            let snapshot = self.supervisor.snapshot();
            self.clients.all_ready(snapshot.generation, snapshot.ready);
        }
    }

    /// Sends what is queued.
    pub(super) fn flush_clients(&mut self) {
        self.clients.flush();
    }
}

/// Tells a client that it is not let in, if that can be told at once.
fn send_away(mut conn: Conn, code: Code, message: String) {
    let failure = Failure { code, message };
    let reply = Reply {
        ok: false,
        error: Some(failure),
        ..Reply::default()
    };
    if let Ok(line) = serde_json::to_string(&reply)
        && conn.send(line)
    {
        let _ = conn.flush();
    }
}

/// `"4"`, `4`, `"+1"`, `"-2"`.
fn scale(workers: &Value) -> Result<Scale, String> {
    let text = match workers {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => workers.to_string(),
    };
    let wrong = || format!("'{text}' is no number of workers (N, +N or -N)");
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix(['+', '-']) {
        Some(by) if digits(by) => {
            // A number that no i64 holds is far beyond the limit, whichever way.
            let by: i64 = by.parse().unwrap_or(i64::MAX);
            Ok(Scale::By(if text.starts_with('-') { -by } else { by }))
        }
        None if digits(&text) => Ok(Scale::To(text.parse().unwrap_or(usize::MAX))),
        _ => Err(wrong()),
    }
}

/// None: to the master itself.
fn signal_command(signal: &str, workers: bool, slot: Option<u32>) -> Result<Option<Asked>, String> {
    let signal: Signal = signal.parse()?;
    match (workers, slot) {
        (true, Some(_)) => Err("either all workers or one slot, not both".into()),
        (true, None) => Ok(Some(Asked::Signal(signal, None))),
        (false, Some(slot)) => Ok(Some(Asked::Signal(signal, Some(slot)))),
        (false, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_workers_is_read_in_every_form() {
        assert_eq!(scale(&4.into()), Ok(Scale::To(4)));
        assert_eq!(scale(&"4".into()), Ok(Scale::To(4)));
        assert_eq!(scale(&"+1".into()), Ok(Scale::By(1)));
        assert_eq!(scale(&(-2).into()), Ok(Scale::By(-2)));
        assert_eq!(
            scale(&"99999999999999999999".into()),
            Ok(Scale::To(usize::MAX))
        );
        for wrong in [
            Value::from("many"),
            Value::from(""),
            Value::from("+"),
            Value::from("1.5"),
            Value::Null,
            Value::from(1.5),
        ] {
            assert!(scale(&wrong).is_err(), "{wrong}");
        }
    }
}
