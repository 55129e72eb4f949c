//! The status document: the model's snapshot, with what the processes and the sockets show.

use crate::model::event::Event;
use crate::model::exit::{Cause, ExitStatus, LastExit};
use crate::model::operation::Operation;
use crate::model::operation::Outcome;
use crate::model::releases::GenerationRecord;
use crate::model::state::rollout::RolloutRecord;
use crate::model::state::snapshot::{SlotView, Snapshot};
use crate::model::time::Time;
use crate::sys::listener::accept_queue::{self, QueueReader};
use crate::sys::machine::clock;
use crate::sys::process::proc_info::Usage;
use crate::wire::listen_env::FIRST_FD;
use crate::wire::status::{self, PROTOCOL, Status};

use super::pin::Pin;
use super::process::WorkerProcess;
use super::state::Driver;

/// Both clocks at one moment: monotonic times are shown as dates.
struct Now {
    mono: Time,
    wall: std::time::SystemTime,
}

impl Now {
    fn new() -> Now {
        Now {
            mono: clock::now(),
            wall: clock::wall(),
        }
    }

    fn date(&self, at: Time) -> Option<String> {
        let ago = self.mono.since(at);
        self.wall.checked_sub(ago).map(clock::rfc3339)
    }

    fn age(&self, at: Time) -> f64 {
        seconds(self.mono.since(at))
    }
}

impl Driver {
    /// The status document. Clients that ask within one turn of the loop get the same one, unless
    /// something has happened in between.
    pub(super) fn status(&mut self) -> Box<Status> {
        // First, since a beat is something that happens.
        if self.status_of_turn.is_none() {
            self.look_at_all_beats();
            self.count_totals();
            self.tell_peer_counts();
        }
        let known = self.status_of_turn.take();
        let status = known.unwrap_or_else(|| Box::new(self.make_status()));
        self.status_of_turn = Some(status.clone());
        status
    }

    fn make_status(&self) -> Status {
        let now = Now::new();
        let snapshot = self.supervisor.snapshot();
        let pin = self.pins.get(snapshot.generation).cloned();
        let pin = pin.as_deref();
        let views = |views: &[SlotView]| -> Vec<status::Slot> {
            let views = views.iter();
            views.map(|view| self.slot(view, &now)).collect()
        };
        let slots = views(&snapshot.slots);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            role: self.supervisor.role().name().to_owned(),
            state: snapshot.state.name().to_owned(),
            generation: snapshot.generation.0,
            started_at: Some(clock::rfc3339(self.startup.date)),
            uptime_s: Some(now.age(self.startup.at)),
            command: self.recipe_command(pin),
            release: pin.and_then(Pin::release),
            program: pin.map(|pin| pin.program.display().to_string()),
            cwd: pin.map(|pin| pin.cwd.display().to_string()),
            changes: pin.map(|pin| pin.changes.clone()).unwrap_or_default(),
            workers: status::Workers {
                wanted: snapshot.wanted,
                ready: slots.iter().filter(|slot| slot.state == "ready").count(),
                starting: snapshot.starting,
                retiring: snapshot.retiring.len(),
                backoff: snapshot.backoff,
            },
            listeners: self.listener_list(),
            slots,
            starting: views(&snapshot.replacements),
            retiring: views(&snapshot.retiring),
            rollout: snapshot.rollout.as_ref().map(rollout),
            operations: snapshot
                .operations
                .iter()
                .map(|operation| self::operation(operation, &now))
                .collect(),
            counters: self.counters(&snapshot),
        }
    }

    /// The generations that are remembered, oldest first.
    pub(super) fn generations(&self) -> Vec<status::Generation> {
        let now = Now::new();
        let releases = self.supervisor.releases();
        let serving = self.supervisor.generation();
        let known = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let describe = |record: &GenerationRecord| status::Generation {
            generation: record.generation.0,
            kind: record.kind.name().to_owned(),
            result: record.result.name().to_owned(),
            error: record.error.clone(),
            at: now.date(record.began),
            took_s: record.took.map(seconds),
            release: record.label.name.clone(),
            cwd: known(&record.label.directory),
            command: record.label.command.clone(),
            serves: record.generation == serving,
            kept: releases
                .kept
                .iter()
                .any(|kept| kept.generation == record.generation),
        };
        releases.records.iter().map(describe).collect()
    }

    /// The listeners, with their queues.
    pub(super) fn listener_list(&self) -> Vec<status::Listener> {
        let mut depths = QueueReader::new();
        let described = self.listeners.iter().zip(FIRST_FD..).map(|(listener, fd)| {
            let depth = depths
                .depth(std::os::fd::AsFd::as_fd(listener))
                .ok()
                .flatten();
            status::Listener {
                name: listener.name.as_ref().map(ToString::to_string),
                address: listener.address.to_string(),
                fd,
                queued: depth.map(|depth| depth.queued),
                backlog: depth.map(|depth| depth.backlog),
                drops: accept_queue::drops(std::os::fd::AsFd::as_fd(listener)),
                longest_wait: None,
            }
        });
        described.collect()
    }

    /// So that the ages in the document are true: without `--timeout` no page may have been looked
    /// at for hours.
    fn look_at_all_beats(&mut self) {
        let now = clock::now();
        let beats: Vec<Event> = self
            .processes
            .all_mut()
            .filter_map(|process| {
                matches!(process.beat.check_for_beat(), Ok(true)).then(|| process.beat(now))
            })
            .collect();
        for event in beats {
            self.feed(event);
        }
    }

    /// Counts what workers have done, and what the log has lost, since that was last done.
    pub(super) fn count_totals(&mut self) {
        for event in self.processes.count_work(clock::now()) {
            self.feed(event);
        }
        let lost = self.log.lost();
        let new = lost.saturating_sub(std::mem::replace(&mut self.lost_lines_told, lost));
        if new > 0 {
            self.feed(Event::LogLinesLost(new));
        }
    }

    fn recipe_command(&self, pin: Option<&Pin>) -> Vec<String> {
        let command = pin.map_or(&self.pins.recipe().command, |pin| &pin.command);
        command
            .iter()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect()
    }

    fn slot(&self, view: &SlotView, now: &Now) -> status::Slot {
        let process = view.worker.and_then(|worker| self.processes.get(worker));
        // The pages have just been looked at.
        let page = process.map(|process| process.beat.page());
        let counts = page.filter(|page| page.begun > 0 || page.finished > 0 || page.open > 0);
        let last_beat = process.and_then(|process| process.last_beat);
        let usage = process.and_then(WorkerProcess::last_usage);
        status::Slot {
            slot: view.slot,
            pid: view.pid,
            generation: view.generation.map(|generation| generation.0),
            state: state_of(view, usage).to_owned(),
            started_at: view.started_at.and_then(|at| now.date(at)),
            uptime_s: view.started_at.map(|at| now.age(at)),
            ready_after_s: view
                .ready_at
                .zip(view.started_at)
                .map(|(ready, start)| seconds(ready.since(start))),
            heartbeat_age_s: last_beat.map(|at| now.age(at)),
            beats: page
                .map(|page| page.beats)
                .filter(|beats| *beats > 0 || last_beat.is_some()),
            requests: counts.map(|page| page.finished),
            connections: counts.map(|page| page.open),
            status: process.and_then(|process| process.status.clone()),
            restarts: view.totals.restarts,
            rss_bytes: usage.map(|usage| usage.rss_bytes),
            cpu_s: usage.map(|usage| seconds(usage.cpu)),
            cpu_total_s: seconds(view.totals.cpu),
            last_exit: view.last_exit.as_ref().map(|exit| last_exit(exit, now)),
        }
    }

    fn counters(&self, snapshot: &Snapshot) -> status::Counters {
        let counters = snapshot.counters;
        status::Counters {
            spawned: counters.spawned,
            readied: counters.readied,
            died: counters.died,
            failed_starts: counters.failed_starts,
            killed: counters.killed,
            rollouts: counters.rollouts,
            rolled_back: counters.rolled_back,
            log_lines_lost: counters.log_lines_lost,
            clients_dropped: self.clients.dropped,
            requests: counters.requests,
            connections: counters.connections,
            exits: Cause::ALL
                .into_iter()
                .map(|cause| (cause.name().to_owned(), counters.exits.of(cause)))
                .collect(),
        }
    }
}

/// The slot's state. A worker that is stopped (SIGSTOP) serves no client, though it is ready.
fn state_of(view: &SlotView, usage: Option<Usage>) -> &'static str {
    let stopped = usage.is_some_and(|usage| matches!(usage.state, 'T' | 't'));
    let shown = if stopped {
        view.state.when_stopped()
    } else {
        view.state
    };
    shown.name()
}

fn rollout(record: &RolloutRecord) -> status::Rollout {
    status::Rollout {
        op: record.op.to_string(),
        kind: record.kind.name().to_owned(),
        from: record.from.map(|generation| generation.0),
        to: record.to.0,
        result: record.result.name().to_owned(),
        error: record.error.clone(),
        took_s: record.took.map(seconds),
    }
}

fn operation(operation: &Operation, now: &Now) -> status::Operation {
    let (result, error) = match operation.ended.as_ref().map(|(_, outcome)| outcome) {
        None => ("running", None),
        Some(Outcome::Done(..)) => ("done", None),
        Some(Outcome::Failed(why)) => ("failed", Some(why.clone())),
        Some(Outcome::RolledBack(why)) => ("rolled-back", Some(why.clone())),
        Some(Outcome::Aborted(why) | Outcome::Lost(why)) => ("aborted", Some(why.clone())),
    };
    status::Operation {
        op: operation.op.to_string(),
        kind: operation.kind.name().to_owned(),
        result: result.to_owned(),
        error,
        at: now.date(operation.began),
        took_s: operation
            .ended
            .as_ref()
            .map(|(at, _)| seconds(at.since(operation.began))),
    }
}

fn last_exit(exit: &LastExit, now: &Now) -> status::LastExit {
    let (code, signal, core) = match exit.ended {
        Some(ExitStatus::Exited(code)) => (Some(code), None, None),
        Some(ExitStatus::Signaled(signal, core)) => (
            None,
            signal.map(|signal| signal.name().to_owned()),
            Some(core),
        ),
        None => (None, None, None),
    };
    status::LastExit {
        cause: exit.cause.name().to_owned(),
        code,
        signal,
        core,
        at: now.date(exit.at),
        output: None,
    }
}

/// Rounded to microseconds, so that numbers in the document stay short.
fn seconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}
