//! `drill`: a rehearsal of deployments for the service that runs, under load.
//!
//! One thread does everything: the clients of the load, the control connection and the signals are
//! descriptors of one wait. In reading order:
//!
//! - `setup`: whether it makes sense now, the question, how each listener answers;
//! - `steps`: what is done, and how long a step lasts;
//! - `session`: the requests to the master, and the wait;
//! - `load`: the clients, and what is right; `client`: one of them;
//! - `request`: what is sent; `http`: where an answer ends;
//! - `answers`: what right answers look like; `tally`: the account of a step; `times`: how long
//!   answers took;
//! - `findings`: whose doing losses were.
//!
//! The way of one lost request: its `Client` reports how it was lost, `Load` counts it in the
//! `Tally` of the step, `Session::take` makes the step's part of the document of that and of what
//! the master has counted meanwhile, and [`ui::drill`](crate::ui::drill) prints it.
//!
//! Nothing is deployed: reload and upgrades are asked for as copies (`"copy": true`), of the pin
//! that serves and of the image that runs.

mod answers;
mod client;
mod findings;
mod http;
mod load;
mod request;
mod session;
mod setup;
mod steps;
mod tally;
mod times;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::cli;
use super::job::Job;
use super::output::print_data;
use super::signal_fallback;
use crate::cmd::program::output_width;
use crate::error::{Error, Exit, Result};
use crate::sys::machine::clock;
use crate::sys::signal;
use crate::sys::signal::forward::raise_default;
use crate::ui;
use crate::wire::control::{Code, ControlCommand, Failure, Progress};
use crate::wire::drill::{Drill as Document, Step as StepDocument};
use crate::wire::status::Status;
use load::Load;
use request::Request;
use session::{Rehearsed, Session, Stopped, tell};
use steps::{Step, document, scale_to};

/// How long the undisturbed load lasts at least: so that the seconds of a moment vary.
const UNDISTURBED_FOR: Duration = Duration::from_millis(1100);

/// How long enough undisturbed answers may take.
const UNDISTURBED_WITHIN: Duration = Duration::from_secs(60);

/// Makes a drill.
pub(super) fn run(job: &Job, drill: &cli::Drill) -> Result<Exit> {
    let mut found = Document::default();
    let ended = rehearse(job, drill, &mut found);
    if let Err(Stopped::Failed(error)) = &ended
        && found.steps.is_empty()
    {
        // Nothing was done.
        found.verdict = error.to_string();
        found.error = Some(failure_of(error));
        if job.json && error.exit != Exit::Usage {
            print(job, &found)?;
        }
        return Err(error.clone());
    }
    found.conclude();
    let stopped = match ended {
        Ok(()) => None,
        Err(Stopped::Failed(error)) => Some((error, None)),
        Err(Stopped::Timeout) => Some((job.timed_out("it takes longer"), None)),
        Err(Stopped::By(signal)) => {
            let what = format!("ended by {signal}");
            Some((Error::new(Exit::Failed, what, ""), Some(signal)))
        }
    };
    if let Some((error, _)) = &stopped {
        found.ok = false;
        found.error = Some(failure_of(error));
    }
    print(job, &found)?;
    match stopped {
        Some((error, None)) => Err(error),
        Some((_, Some(signal))) => {
            // As any program that Ctrl-C ends: a shell has to see it.
            raise_default(signal::number(signal));
            Ok(Exit::Failed)
        }
        None if found.ok => Ok(Exit::Done),
        None => Ok(Exit::Failed),
    }
}

/// Makes the drill; what was found so far is in `found`, also if it ends early.
fn rehearse(job: &Job, drill: &cli::Drill, found: &mut Document) -> Result<(), Stopped> {
    let text = drill.request.as_deref().unwrap_or(request::DEFAULT);
    let request = Rc::new(Request::parse(text)?);
    found.request = request.label();
    let mut reach = job
        .target
        .reach(job.deadline)
        .map_err(|error| job.explain_timeout(error))?;
    let Some(connection) = reach.control.take() else {
        signal_fallback::send(job, reach.master.as_ref(), &ControlCommand::Status)?;
        return Ok(());
    };
    let no_load = Load::new(Rc::clone(&request), Vec::new(), clock::now());
    let mut session = Session::new(job, connection, no_load);
    let before = session.first_status(&reach)?;
    if let Some(refused) = setup::refusal(&before) {
        return Err(refused.into());
    }
    let (mut loaded, listeners) = setup::listeners(&before)?;
    found.listeners = listeners;
    found.generation_before = Some(before.generation);
    let mut steps = Vec::new();
    for step in Step::all(before.workers.wanted) {
        let rehearsed = session.rehearsed(&step)?;
        steps.push((step, rehearsed));
    }
    let load = session.load.describe();
    let plan = setup::plan(&before, &load, &found.listeners, &steps);
    setup::confirm(&plan, drill.yes, drill.common.quiet)?;
    session.catch_signals()?;
    for listener in &mut loaded {
        setup::probe(listener, &request)?;
    }
    session.load = Load::new(request, loaded, clock::now());
    session.undisturbed(job, &before, found)?;
    let taken = session.take_all(job, &steps, found);
    if let Err(Stopped::Failed(error)) = &taken
        && error.exit == Exit::NotRunning
    {
        findings::of_an_end_from_outside(&mut found.steps);
    }
    if !matches!(taken, Ok(true)) {
        put_back(job, &before, &session, found);
    }
    taken?;
    let after = session.status()?;
    found.generation_after = Some(after.generation);
    found.differs = differences(&before, &after);
    Ok(())
}

impl Session<'_> {
    /// Load without a step: what is right is learnt. A service that does not answer alike now is no
    /// service for a drill.
    fn undisturbed(
        &mut self,
        job: &Job,
        before: &Status,
        found: &mut Document,
    ) -> Result<(), Stopped> {
        show(job, 0, 0, "undisturbed");
        let began = clock::now();
        self.load.goes_on = true;
        let at_least = began + UNDISTURBED_FOR;
        self.make_load(began + UNDISTURBED_WITHIN, |load| {
            load.is_disturbed() || (load.has_learnt() && at_least <= clock::now())
        })?;
        self.make_load(at_least, Load::is_disturbed)?;
        self.finish_requests()?;
        let is_enough = self.load.has_learnt();
        self.load.end_learning(&numbers(before));
        let tally = self.load.end_step();
        if let Some(loss) = tally.any() {
            let why = format!("{}: {}", loss.kind, loss.what);
            return Err(setup::not_answered(&loss.listener, &why).into());
        }
        if let Some(what) = tally.all_not_made() {
            return Err(Error::new(Exit::Refused, what, "").into());
        }
        if !is_enough {
            let why = format!("too few answers within {} s", UNDISTURBED_WITHIN.as_secs());
            return Err(setup::not_answered("the service", &why).into());
        }
        found.steps.push(StepDocument {
            result: "done".to_owned(),
            took_s: Some(clock::now().since(began).as_secs_f64()),
            ..document("undisturbed", "undisturbed".to_owned(), &tally)
        });
        Ok(())
    }

    /// Takes the steps, until one fails. Whether all were taken.
    fn take_all(
        &mut self,
        job: &Job,
        steps: &[(Step, Rehearsed)],
        found: &mut Document,
    ) -> Result<bool, Stopped> {
        let mut has_failed = false;
        for (index, (step, rehearsed)) in steps.iter().enumerate() {
            if let Some(skipped) = skipped(step, rehearsed, has_failed) {
                has_failed |= skipped.result == "failed";
                found.steps.push(skipped);
                continue;
            }
            show(job, index, steps.len(), &step.label());
            match self.take(step) {
                Ok(taken) => {
                    has_failed = taken.result == "failed";
                    found.steps.push(taken);
                }
                Err(stopped) => {
                    // What was lost in a step that was not finished belongs to it all the same.
                    let tally = self.load.end_step();
                    found.steps.push(StepDocument {
                        result: "failed".to_owned(),
                        why: Some("it was not finished".to_owned()),
                        ops: self.op.iter().cloned().collect(),
                        warnings: tally.all_not_made().into_iter().collect(),
                        ..document(step.name(), step.label(), &tally)
                    });
                    return Err(stopped);
                }
            }
        }
        Ok(!has_failed)
    }
}

/// The document of a step that is not taken; None: it is.
fn skipped(step: &Step, rehearsed: &Rehearsed, has_failed: bool) -> Option<StepDocument> {
    let (result, why) = match rehearsed {
        Rehearsed::LeftOut(why) => ("left-out", Some(why)),
        Rehearsed::Possible | Rehearsed::Failed(_) if has_failed => ("not-tried", None),
        Rehearsed::Failed(why) => ("failed", Some(why)),
        Rehearsed::Possible => return None,
    };
    Some(StepDocument {
        step: step.name().to_owned(),
        label: step.label(),
        result: result.to_owned(),
        why: why.cloned(),
        ..StepDocument::default()
    })
}

/// Whether the number of slots may be another one.
fn is_scaled(steps: &[StepDocument]) -> bool {
    let was_sent = |step: &StepDocument| {
        step.step == "scale" && matches!(step.result.as_str(), "done" | "failed")
    };
    let is_back = |step: &StepDocument| step.step == "scale-back" && step.result == "done";
    steps.iter().any(was_sent) && !steps.iter().any(is_back)
}

/// The drill ends early: the number of slots is as before, and what goes on is named.
fn put_back(job: &Job, before: &Status, session: &Session<'_>, found: &mut Document) {
    let scale = scale_to(before.workers.wanted);
    if is_scaled(&found.steps) {
        match tell(job, scale) {
            Ok(()) => {
                let slots = before.workers.wanted;
                job.display.warn(&format!("scaled back to {slots} slots"));
            }
            Err(error) => {
                let slots = before.workers.wanted;
                found
                    .differs
                    .push(format!("there were {slots} slots: {error}"));
            }
        }
    }
    if let Some(op) = &session.op {
        let target = job.target.path().display();
        job.display.warn(&format!(
            "operation {op} goes on, and ends by itself: pf-ctl wait {target} --op {op}"
        ));
    }
}

/// The numbers that answers may tell of: pids, the generation, slots.
fn numbers(status: &Status) -> BTreeSet<u64> {
    let pids = status.slots.iter().filter_map(|slot| slot.pid);
    let pids = pids
        .chain([status.pid])
        .map(|pid| u64::from(pid.unsigned_abs()));
    let slots = status.slots.iter().map(|slot| u64::from(slot.slot));
    pids.chain(slots).chain([status.generation]).collect()
}

/// In what the service is not as it was.
fn differences(before: &Status, after: &Status) -> Vec<String> {
    let facts = |status: &Status| {
        [
            ("slots", status.workers.wanted.to_string()),
            ("command", ui::text::command(&status.command)),
            ("program", status.program.clone().unwrap_or_default()),
            ("directory", status.cwd.clone().unwrap_or_default()),
            ("release", status.release.clone().unwrap_or_default()),
            ("version", status.version.clone()),
            ("state", status.state.clone()),
        ]
    };
    let pairs = facts(before).into_iter().zip(facts(after));
    pairs
        .filter(|(was, is)| was != is)
        .map(|((what, was), (_, is))| format!("{what}: {was} before, {is} now"))
        .collect()
}

fn show(job: &Job, done: usize, total: usize, message: &str) {
    job.display.step(&Progress {
        event: "progress".to_owned(),
        done,
        total,
        message: message.to_owned(),
        ..Progress::default()
    });
}

fn failure_of(error: &Error) -> Failure {
    let code = match error.exit {
        Exit::Usage => Code::Usage,
        Exit::Refused => Code::Refused,
        Exit::Permission => Code::Permission,
        Exit::NotRunning => Code::MasterDied,
        Exit::Done
        | Exit::Failed
        | Exit::Timeout
        | Exit::System
        | Exit::NotExecutable
        | Exit::NotFound => Code::Failed,
    };
    Failure {
        code,
        message: error.to_string(),
    }
}

fn print(job: &Job, found: &Document) -> Result<()> {
    if job.json {
        let text = serde_json::to_string(found)
            .map_err(|error| Error::system("cannot write the document", error))?;
        return print_data(&format!("{}\n", ui::text::escaped_json(&text)));
    }
    let lines = ui::drill::lines(found, output_width());
    let text: String = lines
        .iter()
        .map(|line| format!("{}\n", line.text))
        .collect();
    print_data(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_are_put_back_only_where_they_were_scaled() {
        let steps = |results: &[(&str, &str)]| -> Vec<StepDocument> {
            let step = |(step, result): &(&str, &str)| StepDocument {
                step: (*step).into(),
                result: (*result).into(),
                ..StepDocument::default()
            };
            results.iter().map(step).collect()
        };
        for (results, scaled) in [
            (&[("reload", "failed"), ("scale", "not-tried")][..], false),
            (&[("scale", "failed"), ("scale-back", "not-tried")], true),
            (&[("scale", "done"), ("scale-back", "failed")], true),
            (&[("scale", "done"), ("scale-back", "done")], false),
            (&[("scale", "done")], true),
            (&[], false),
        ] {
            assert_eq!(is_scaled(&steps(results)), scaled, "{results:?}");
        }
    }

    #[test]
    fn a_step_whose_dry_run_failed_has_failed_and_the_rest_is_not_tried() {
        let failed = Rehearsed::Failed("no".into());
        let left_out = Rehearsed::LeftOut("pid 1".into());
        let result = |rehearsed, has_failed| {
            let skipped = skipped(&Step::UpgradeFork, rehearsed, has_failed);
            skipped.map(|step| (step.result, step.why))
        };
        let expected =
            |result: &str, why: Option<&str>| Some((result.to_owned(), why.map(str::to_owned)));
        assert_eq!(result(&failed, false), expected("failed", Some("no")));
        assert_eq!(result(&failed, true), expected("not-tried", None));
        assert_eq!(result(&left_out, true), expected("left-out", Some("pid 1")));
        assert_eq!(
            result(&Rehearsed::Possible, true),
            expected("not-tried", None)
        );
        assert_eq!(result(&Rehearsed::Possible, false), None);
    }
}
