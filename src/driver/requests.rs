//! Control requests: from a parsed line to a reply, or to an event for the model.

use serde_json::Value;

use crate::model::event::{Command as ModelCommand, Event, Rehearsal, Scale};
use crate::model::ids::{Generation, OpId};
use crate::model::operation::{OperationKind, Outcome, REMEMBERED};
use crate::model::policy::StopSeverity;
use crate::model::signal::{Sender, Signal};
use crate::sys::process::successor::Image;
use crate::sys::signal;
use crate::wire::changes::Changes;
use crate::wire::control::{Code, ControlCommand, Failure, Reply, Request};

use super::clients::{Asked, Key, KnownOutcome, MAX_PENDING, reply_of};
use super::pin::is_ours;
use super::state::Driver;

impl Driver {
    /// Answers a request, or hands it to the model.
    pub(super) fn request(&mut self, number: u64, request: Request) {
        let Request {
            command,
            id,
            wait,
            key,
        } = request;
        if self.clients.has_too_many_pending(number) {
            let text = format!("{MAX_PENDING} requests of this connection wait already");
            return self.fail(number, Code::Busy, text, id);
        }
        // Written anew, so that the order of its fields does not count.
        let key = key.map(|key| Key {
            key,
            command: serde_json::to_string(&command).unwrap_or_default(),
        });
        match key.as_ref().map(|key| self.clients.keys.find(key)) {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(op))) => return self.join(number, op, wait, id),
            Some(Err(op)) => {
                let text = format!(
                    "the key was used for another command, which began operation {op}: take a new \
                     key for each"
                );
                return self.fail(number, Code::Refused, text, id);
            }
        }
        let command = match command {
            ControlCommand::Status => {
                return self.reply(number, id, |driver, reply| {
                    reply.status = Some(driver.status())
                });
            }
            ControlCommand::Listeners { remove: Some(name) } => {
                return self.remove_listeners(number, (id, key, wait), &name);
            }
            ControlCommand::AddFds { names } => {
                return self.add_fds(number, (id, key, wait), names);
            }
            ControlCommand::TakeFds => return self.take_fds(number, id),
            ControlCommand::Listeners { remove: None } => {
                return self.reply(number, id, |driver, reply| {
                    reply.listeners = Some(driver.listener_list())
                });
            }
            ControlCommand::Why { slot } => return self.why(number, id, slot),
            ControlCommand::History => {
                return self.reply(number, id, |driver, reply| {
                    reply.generations = Some(driver.generations())
                });
            }
            ControlCommand::Events { since, log } => {
                return self.follow_events(number, id, since, log);
            }
            ControlCommand::Wait { ready, op } => return self.wait_request(number, id, ready, op),
            ControlCommand::Reload {
                copy: true,
                dry_run,
                changes,
            } => {
                if dry_run || !changes.is_empty() {
                    let why = "a copy has no changes, and no dry run".to_owned();
                    return self.fail(number, Code::Usage, why, id);
                }
                ModelCommand::Rehearse(Rehearsal::Reload)
            }
            ControlCommand::Reload {
                dry_run, changes, ..
            } => {
                return match changes.check(is_ours) {
                    Err(why) => self.fail(number, Code::Usage, why, id),
                    Ok(()) if dry_run => self.dry_run(number, id, &changes, None),
                    Ok(()) => self.reload(number, id, (key, wait), changes),
                };
            }
            ControlCommand::Signal {
                signal,
                workers,
                slot,
            } => match signal_command(&signal, workers, slot) {
                Ok(Some(command)) => command,
                Ok(None) => return self.signal_self(number, id, &signal),
                Err(why) => return self.fail(number, Code::Usage, why, id),
            },
            ControlCommand::Scale { workers } => match scale(&workers) {
                Ok(scale) => ModelCommand::Scale(scale),
                Err(why) => return self.fail(number, Code::Usage, why, id),
            },
            ControlCommand::Upgrade {
                copy: true,
                dry_run,
                fork,
                manual,
            } => match self.why_no_rehearsal_by_fork().filter(|_| fork) {
                _ if manual => {
                    let why = "a rehearsal does not wait for signals".to_owned();
                    return self.fail(number, Code::Usage, why, id);
                }
                Some(why) => return self.fail(number, Code::Refused, why, id),
                None if dry_run => {
                    return self.dry_run(number, id, &Changes::default(), Some(Image::Same));
                }
                None if fork => ModelCommand::Rehearse(Rehearsal::Fork),
                None => ModelCommand::Rehearse(Rehearsal::Upgrade),
            },
            ControlCommand::Upgrade {
                dry_run,
                fork,
                manual,
                ..
            } => match self.why_no_fork().filter(|_| fork) {
                Some(why) => return self.fail(number, Code::Refused, why, id),
                None if dry_run => {
                    return self.dry_run(number, id, &Changes::default(), Some(Image::Next));
                }
                None if fork => ModelCommand::Fork { manual },
                None => ModelCommand::Upgrade,
            },
            ControlCommand::Rollback { to } => ModelCommand::Rollback(to.map(Generation)),
            ControlCommand::Stop { now } => ModelCommand::Stop(if now {
                StopSeverity::Quick
            } else {
                StopSeverity::Graceful
            }),
            ControlCommand::Pause => ModelCommand::Pause,
            ControlCommand::Resume => ModelCommand::Resume,
            ControlCommand::RestartWorker { slot } => ModelCommand::RestartWorker(slot),
            ControlCommand::Reopen => ModelCommand::Reopen,
            ControlCommand::Retire { generation } => ModelCommand::Retire(Generation(generation)),
        };
        let ticket = self.clients.ticket(number, id, key, wait);
        self.feed(Event::Command(ticket, command));
    }

    /// A repeated key: the request joins the operation that the first one began.
    fn join(&mut self, number: u64, op: OpId, wait: bool, id: Option<Value>) {
        if wait {
            return self.wait_request(number, id, false, Some(op.to_string()));
        }
        self.reply(number, id, |_, reply| reply.op = Some(op.to_string()));
    }

    fn wait_request(&mut self, number: u64, id: Option<Value>, ready: bool, op: Option<String>) {
        let word = match (ready, op) {
            (true, None) if self.supervisor.why_never_ready().is_some() => {
                let why = self.supervisor.why_never_ready().unwrap_or_default();
                return self.fail(number, Code::Refused, why, id);
            }
            // Answered at the end of this turn, if all slots are ready already.
            (true, None) => return self.clients.wait_for(number, id, None),
            (false, Some(word)) => word,
            _ => {
                let text = "wait takes either \"ready\": true or \"op\": ID".to_owned();
                return self.fail(number, Code::Usage, text, id);
            }
        };
        let Ok(op) = word.parse::<OpId>() else {
            return self.fail(number, Code::Refused, unknown(&word), id);
        };
        match self
            .supervisor
            .operation(op)
            .map(|operation| operation.ended.clone())
        {
            None if self.supervisor.is_of_dead_master(op) => {
                let text = format!("the master that operation {op} was asked of has died");
                self.fail(number, Code::MasterDied, text, id);
            }
            None => self.fail(number, Code::Refused, unknown(&word), id),
            Some(None) => self.clients.wait_for(number, id, Some(op)),
            Some(Some((_, outcome))) => {
                let outcome = self.outcome_of(op, outcome);
                if let Some(client) = self.clients.get_mut(number) {
                    client.reply(reply_of(op, &outcome, id));
                }
            }
        }
    }

    /// An outcome with what is seen now: where a release was rolled away from, the paths that were
    /// given may still name it.
    pub(super) fn outcome_of(&self, op: OpId, outcome: Outcome) -> KnownOutcome {
        let operation = self.supervisor.operation(op);
        let is_back = operation.is_some_and(|it| it.kind == OperationKind::Rollback);
        let generation = self.supervisor.generation();
        let note = match outcome {
            Outcome::Done(..) if !is_back => None,
            Outcome::Done(..) | Outcome::RolledBack(_) => self.what_is_named_instead(generation),
            Outcome::Failed(_) | Outcome::Aborted(_) | Outcome::Lost(_) => None,
        };
        let is_removal = operation.is_some_and(|it| it.kind == OperationKind::RemoveListener);
        let is_last = is_removal && self.listeners.iter().next().is_none();
        let none_left = (is_last && matches!(outcome, Outcome::Done(..)))
            .then(|| "the service has no listener any more".to_owned());
        KnownOutcome {
            outcome,
            notes: note.into_iter().chain(none_left).collect(),
            generation,
        }
    }

    fn what_is_named_instead(&self, serving: Generation) -> Option<String> {
        let next = self.resolve_pin(serving, &Changes::default()).ok()?;
        self.pins
            .what_is_named_instead(self.pins.get(serving)?, &next)
    }

    fn reload(
        &mut self,
        number: u64,
        id: Option<Value>,
        (key, wait): (Option<Key>, bool),
        changes: Changes,
    ) {
        let renewed = changes.command.is_some();
        let ticket = self.clients.ticket(number, id, key, wait);
        self.clients.keep_asked(ticket, Asked::Changes(changes));
        self.feed(Event::Command(ticket, ModelCommand::Reload { renewed }));
    }

    /// Answers what a reload with these changes, or an upgrade to this image, would do.
    fn dry_run(
        &mut self,
        number: u64,
        id: Option<Value>,
        changes: &Changes,
        upgrade: Option<Image>,
    ) {
        match (self.plan(changes, upgrade), upgrade) {
            // Whether the successor works, only a check of it tells.
            (Ok(plan), Some(image)) => self.dry_run_upgrade(number, id, plan, image),
            (Ok(plan), None) => self.reply(number, id, |_, reply| reply.plan = Some(plan)),
            (Err(Failure { code, message }), _) => self.fail(number, code, message, id),
        }
    }

    /// Delivers a signal to the master itself. A signal that the master handles is handled as if it
    /// had been received; another is sent.
    fn signal_self(&mut self, number: u64, id: Option<Value>, signal: &str) {
        let Ok(signal) = signal.parse::<Signal>() else {
            return;
        };
        self.reply(number, id, |_, reply| {
            reply.message = Some(format!("{signal} sent to the master"))
        });
        if signal::HANDLED.contains(&signal) {
            return self.receive_signal(signal, Sender::Process);
        }
        self.clients.flush();
        if let Err(error) = signal::send_to_self(signal) {
            self.log
                .error(format_args!("cannot send {signal} to ourselves: {error}"));
        }
    }

    pub(super) fn reply(
        &mut self,
        number: u64,
        id: Option<Value>,
        fill: impl FnOnce(&mut Self, &mut Reply),
    ) {
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

    /// Answers the requests that wait for all slots to be ready, if they are.
    pub(super) fn answer_waiters(&mut self) {
        if !self.clients.awaits_ready() {
            return;
        }
        if let Some(why) = self.supervisor.why_it_only_drains() {
            return self.clients.never_ready(&why);
        }
        if self.supervisor.is_ready() {
            let snapshot = self.supervisor.snapshot();
            self.clients.all_ready(snapshot.generation, snapshot.ready);
        }
    }
}

/// Why there is no answer about this operation.
fn unknown(word: &str) -> String {
    format!("no operation '{word}' is known: it never was, or is older than the last {REMEMBERED}")
}

/// A number of workers: `"4"`, `4`, `"+1"`, `"-2"`.
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
            // A number that no i64 holds is far beyond the limit in either direction.
            let by: i64 = by.parse().unwrap_or(i64::MAX);
            Ok(Scale::By(if text.starts_with('-') { -by } else { by }))
        }
        None if digits(&text) => Ok(Scale::To(text.parse().unwrap_or(usize::MAX))),
        _ => Err(wrong()),
    }
}

/// The model's command for a signal to workers; None: the signal is for the master itself.
fn signal_command(
    signal: &str,
    workers: bool,
    slot: Option<u32>,
) -> Result<Option<ModelCommand>, String> {
    let signal: Signal = signal.parse()?;
    match (workers, slot) {
        (true, Some(_)) => Err("either all workers or one slot, not both".into()),
        (true, None) => Ok(Some(ModelCommand::Signal(signal, None))),
        (false, Some(slot)) => Ok(Some(ModelCommand::Signal(signal, Some(slot)))),
        (false, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_number_of_workers_is_read() {
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
