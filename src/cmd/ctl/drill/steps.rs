//! The steps, and how each is taken.
//!
//! A step begins when no request is under way and ends when none is: so each loss belongs to one
//! step. It lasts until its operations are done, old workers have gone, and every listener has
//! ended enough requests since.

use std::collections::BTreeSet;
use std::time::Duration;

use super::findings::Facts;
use super::session::{Session, Stopped};
use super::tally::{Kind, Tally};
use crate::error::{Error, Exit};
use crate::sys::machine::clock;
use crate::wire::changes::Changes;
use crate::wire::control::ControlCommand;
use crate::wire::drill::{Lost, Step as Document};
use crate::wire::status::Status;

/// How many requests each listener ends after the operations of a step, at least; well or not.
const ENOUGH: u64 = 50;

/// How long they may take; a listener that has not ended so many by then was not under load.
const ENOUGH_WITHIN: Duration = Duration::from_secs(60);

/// How long workers that were told to finish are waited for: a drain may take hours.
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// How long a killed worker's successor may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How many workers are restarted, one by one.
const MOST_RESTARTED: u32 = 4;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Reload,
    /// The slots from 0 to this one.
    RestartWorkers(u32),
    /// To this number of slots.
    Scale(usize),
    /// Back to this number.
    ScaleBack(usize),
    Upgrade,
    UpgradeFork,
    /// The worker of this slot.
    Kill(u32),
}

impl Step {
    /// All steps for a service with so many slots. The kill comes last: everything before it may
    /// lose nothing at all.
    pub(super) fn all(slots: usize) -> Vec<Step> {
        let last = u32::try_from(slots).unwrap_or(u32::MAX).saturating_sub(1);
        vec![
            Step::Reload,
            Step::RestartWorkers(last.min(MOST_RESTARTED - 1)),
            Step::Scale(slots + 1),
            Step::ScaleBack(slots),
            Step::Upgrade,
            Step::UpgradeFork,
            Step::Kill(0),
        ]
    }

    /// The word in the document.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::Reload => "reload",
            Step::RestartWorkers(_) => "restart-worker",
            Step::Scale(_) => "scale",
            Step::ScaleBack(_) => "scale-back",
            Step::Upgrade => "upgrade",
            Step::UpgradeFork => "upgrade-fork",
            Step::Kill(_) => "kill",
        }
    }

    /// As a person would type it.
    pub(super) fn label(&self) -> String {
        match self {
            Step::Reload | Step::Upgrade => self.name().to_owned(),
            Step::RestartWorkers(0) => "restart-worker 0".to_owned(),
            Step::RestartWorkers(last) => format!("restart-worker 0 to {last}"),
            Step::Scale(slots) | Step::ScaleBack(slots) => format!("scale {slots}"),
            Step::UpgradeFork => "upgrade --fork".to_owned(),
            Step::Kill(slot) => format!("kill -9 of slot {slot}"),
        }
    }

    /// The request that would be refused if the step has to be left out; None: it never is.
    pub(super) fn rehearsal(&self) -> Option<ControlCommand> {
        match self {
            Step::Upgrade => Some(upgrade(true, false)),
            Step::UpgradeFork => Some(upgrade(true, true)),
            Step::Reload
            | Step::RestartWorkers(_)
            | Step::Scale(_)
            | Step::ScaleBack(_)
            | Step::Kill(_) => None,
        }
    }

    fn commands(&self) -> Vec<ControlCommand> {
        match self {
            Step::Reload => vec![ControlCommand::Reload {
                dry_run: false,
                copy: true,
                changes: Changes::default(),
            }],
            Step::RestartWorkers(last) => (0..=*last)
                .map(|slot| ControlCommand::RestartWorker { slot })
                .collect(),
            Step::Scale(slots) | Step::ScaleBack(slots) => vec![scale_to(*slots)],
            Step::Upgrade => vec![upgrade(false, false)],
            Step::UpgradeFork => vec![upgrade(false, true)],
            Step::Kill(slot) => vec![ControlCommand::Signal {
                signal: "KILL".to_owned(),
                workers: false,
                slot: Some(*slot),
            }],
        }
    }
}

fn upgrade(dry_run: bool, fork: bool) -> ControlCommand {
    ControlCommand::Upgrade {
        dry_run,
        copy: true,
        fork,
        manual: false,
    }
}

/// The request for this number of slots.
pub(super) fn scale_to(slots: usize) -> ControlCommand {
    ControlCommand::Scale {
        workers: slots.into(),
    }
}

impl Session<'_> {
    /// Takes a step. What a failed step has lost is told, too: `why` is set then.
    pub(super) fn take(&mut self, step: &Step) -> Result<Document, Stopped> {
        let before = self.status()?;
        let mut ops = BTreeSet::new();
        let mut warnings = Vec::new();
        self.load.goes_on = true;
        let began = clock::now();
        let mut failed = None;
        if let Step::Kill(_) = step {
            // Under load already.
            failed = self.load_of(1)?;
            if failed.is_none() {
                self.load.kill_begins(clock::now());
            }
        }
        for command in step.commands() {
            if failed.is_some() {
                break;
            }
            match self.operation(command) {
                Ok(ended) => {
                    ops.extend(ended.op);
                    warnings.extend(ended.warnings);
                    failed = ended.failure;
                }
                Err(Stopped::Failed(error)) => {
                    ops.extend(self.op.clone());
                    failed = Some(error);
                }
                Err(stopped) => return Err(stopped),
            }
        }
        if let (Step::UpgradeFork, None) = (step, &failed) {
            // The one that was asked only drains, or is gone.
            self.reconnect()?;
        }
        if let (Step::Kill(slot), None) = (step, &failed) {
            let killed = pid_of(&before, *slot);
            // A call of it that accepts may still end between the signal and its end.
            self.until(READY_WITHIN, |now| pid_of(now, *slot) != killed)?;
            self.load.kill_is_over(clock::now());
            let (_, replaced) = self.until(READY_WITHIN, |now| {
                pid_of(now, *slot) != killed && are_ready(now)
            })?;
            if !replaced {
                failed = Some(not_ready());
            }
        }
        let took = clock::now().since(began);
        let after = match failed {
            None => self.settle(&mut warnings, &mut failed)?,
            Some(_) => self.status()?,
        };
        self.finish_requests()?;
        let tally = self.load.end_step();
        if let Some(what) = tally.all_not_made() {
            match &failed {
                None => failed = Some(Error::new(Exit::Failed, what, "")),
                Some(_) => warnings.push(what),
            }
        }
        let killed = u64::from(matches!(step, Step::Kill(_)));
        let facts = Facts::between(&before, &after, &ops, killed);
        Ok(Document {
            ops: ops.into_iter().collect(),
            took_s: Some(took.as_secs_f64()),
            warnings,
            findings: facts.findings(&tally),
            result: if failed.is_some() { "failed" } else { "done" }.to_owned(),
            why: failed.map(|error| error.to_string()),
            ..document(step.name(), step.label(), &tally)
        })
    }

    /// Makes load until old workers have gone, and every listener has ended enough requests.
    fn settle(
        &mut self,
        warnings: &mut Vec<String>,
        failed: &mut Option<Error>,
    ) -> Result<Status, Stopped> {
        let (status, calm) = self.until(DRAINED_WITHIN, is_calm)?;
        if !calm && !are_ready(&status) {
            *failed = Some(not_ready());
        } else if !calm {
            let drain = match (status.workers.retiring, status.role.as_str()) {
                (0, "new") => "the old master still drains".to_owned(),
                (count, _) => format!("{count} workers that were told to finish still drain"),
            };
            warnings.push(drain);
        }
        let too_few = self.load_of(self.load.fewest_ended() + ENOUGH)?;
        *failed = failed.take().or(too_few);
        Ok(status)
    }

    /// Makes load until every listener has ended so many requests in this step; the error is that
    /// one has not. Connections that could not be made are told at the end of the step.
    fn load_of(&mut self, enough: u64) -> Result<Option<Error>, Stopped> {
        let until = clock::now() + ENOUGH_WITHIN;
        self.make_load(until, |load| load.is_enough(enough))?;
        if self.load.is_enough(enough) {
            return Ok(None);
        }
        let too_few = self.load.too_few(enough).map(|(listener, ended)| {
            let within = ENOUGH_WITHIN.as_secs();
            let why = format!("{ended} in this step, not {enough} within {within} s");
            Error::new(
                Exit::Failed,
                format!("too few requests to {listener} ended"),
                why,
            )
        });
        Ok(too_few)
    }
}

/// The document of a step with this account.
pub(super) fn document(name: &str, label: String, tally: &Tally) -> Document {
    let times = &tally.times;
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    Document {
        step: name.to_owned(),
        label,
        answers: tally.answers,
        lost: Lost {
            refused: tally.of(Kind::Refused),
            reset: tally.of(Kind::Reset),
            empty: tally.of(Kind::Empty),
            wrong: tally.of(Kind::Wrong),
            slow: tally.of(Kind::Slow),
        },
        excused: tally.excused,
        repeated: tally.repeated,
        p50_s: seconds(times.percentile(50)),
        p99_s: seconds(times.percentile(99)),
        max_s: seconds(times.longest()),
        ..Document::default()
    }
}

fn pid_of(status: &Status, slot: u32) -> Option<i32> {
    status.slots.iter().find(|it| it.slot == slot)?.pid
}

fn are_ready(status: &Status) -> bool {
    status.state == "running" && status.workers.ready == status.workers.wanted
}

/// Nothing is under way, and no old worker is left.
pub(super) fn is_calm(status: &Status) -> bool {
    let workers = &status.workers;
    are_ready(status) && status.role == "master" && workers.starting == 0 && workers.retiring == 0
}

fn not_ready() -> Error {
    Error::new(Exit::Failed, "not all workers are ready after it", "").hint("pf-status tells which")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kill_is_last_and_the_number_of_slots_comes_back() {
        let steps = Step::all(2);
        let labels: Vec<String> = steps.iter().map(Step::label).collect();
        let expected = [
            "reload",
            "restart-worker 0 to 1",
            "scale 3",
            "scale 2",
            "upgrade",
            "upgrade --fork",
            "kill -9 of slot 0",
        ];
        assert_eq!(labels, expected);
        assert_eq!(Step::all(1)[1].label(), "restart-worker 0");
        assert_eq!(Step::all(64)[1], Step::RestartWorkers(3));
        assert_eq!(Step::all(64)[1].commands().len(), 4);
    }

    #[test]
    fn a_step_is_over_when_no_old_worker_is_left() {
        let mut status = Status {
            role: "master".into(),
            state: "running".into(),
            ..Status::default()
        };
        status.workers.wanted = 2;
        status.workers.ready = 2;
        assert!(is_calm(&status));
        status.workers.retiring = 1;
        assert!(!is_calm(&status) && are_ready(&status));
        status.workers.retiring = 0;
        status.role = "new".into();
        assert!(!is_calm(&status) && are_ready(&status));
        status.workers.ready = 1;
        assert!(!are_ready(&status));
    }
}
