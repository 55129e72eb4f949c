//! Whose doing losses were, as far as the facts tell.
//!
//! The facts of a step are what the master has counted during it: how workers ended, and what the
//! kernel dropped. A loss whose facts say nothing is `unknown`, and not guessed.

use std::collections::BTreeSet;

use super::client::{CUT, REFUSED};
use super::tally::{Kind, Tally};
use crate::wire::drill::{Finding, Step};
use crate::wire::status::Status;

/// What the master has counted during a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Workers that ended since they were asked to.
    pub stopped: u64,
    /// Workers that were killed at `--graceful-timeout`.
    pub killed_late: u64,
    /// Workers that died by themselves, the one that the drill killed aside.
    pub died: u64,
    /// Listeners whose queue was full, with how often.
    pub drops: Vec<(String, u64)>,
    /// The master has rolled the workers by itself: a listener had to be made anew.
    pub remade: bool,
}

impl Facts {
    /// The difference of two status documents. `ours`: the operations that the drill has begun;
    /// `killed`: how many workers the drill has killed.
    pub(super) fn between(
        before: &Status,
        after: &Status,
        ours: &BTreeSet<String>,
        killed: u64,
    ) -> Facts {
        let exits = |causes: &[&str]| -> u64 {
            let of = |status: &Status, cause: &&str| {
                status.counters.exits.get(*cause).copied().unwrap_or(0)
            };
            let grown = causes
                .iter()
                .map(|cause| of(after, cause).saturating_sub(of(before, cause)));
            grown.sum()
        };
        let died = exits(&[
            "exited",
            "signaled",
            "killed-heartbeat",
            "killed-limit",
            "oom",
        ]);
        let drops = after.listeners.iter().filter_map(|listener| {
            let same = before.listeners.iter();
            let was = same.clone().find(|was| was.address == listener.address)?;
            let grown = listener.drops?.saturating_sub(was.drops?);
            (grown > 0).then(|| (listener.address.clone(), u64::from(grown)))
        });
        let known: BTreeSet<&str> = before.operations.iter().map(|it| it.op.as_str()).collect();
        let stranger = after.operations.iter().any(|it| {
            it.kind == "reload" && !known.contains(it.op.as_str()) && !ours.contains(&it.op)
        });
        Facts {
            stopped: exits(&["stopped"]),
            killed_late: exits(&["killed-graceful-timeout"]),
            died: died.saturating_sub(killed),
            drops: drops.collect(),
            remade: stranger,
        }
    }

    /// The findings about a step.
    pub(super) fn findings(&self, tally: &Tally) -> Vec<Finding> {
        let kinds = Kind::ALL.into_iter().filter(|kind| tally.of(*kind) > 0);
        kinds.map(|kind| self.finding(tally, kind)).collect()
    }

    fn finding(&self, tally: &Tally, kind: Kind) -> Finding {
        let first = tally.first(kind);
        let what = first.map_or("", |loss| loss.what.as_str());
        let (whose, why) = match kind {
            Kind::Refused => self.of_refused(what),
            Kind::Reset | Kind::Empty => self.of_dropped(),
            Kind::Wrong if what.starts_with(CUT) => self.of_dropped(),
            Kind::Wrong => (
                "program",
                "it answers otherwise than before: what it is started from, or what it reads, has \
                 changed since its workers were started"
                    .to_owned(),
            ),
            Kind::Slow => self.of_slow(),
        };
        Finding {
            kind: kind.name().to_owned(),
            whose: whose.to_owned(),
            why,
            example: first.map_or_else(String::new, |loss| {
                format!("{}: {}", loss.listener, loss.what)
            }),
        }
    }

    /// The master keeps every listener open, and a socket that listens refuses no client. So the
    /// socket itself was changed, which any process that shares it can do; or its path was.
    fn of_refused(&self, what: &str) -> (&'static str, String) {
        if what != REFUSED {
            let why = "the path of the socket leads to no listener any more: something has removed \
                       or replaced it";
            return ("unknown", why.to_owned());
        }
        if self.remade || self.ended() > 0 {
            let why = "a worker that was told to finish has shut down the listener that all share \
                       (the master's log names it): it must only close its descriptor";
            return ("program", why.to_owned());
        }
        let why = "no process listened for a moment, and no worker has ended in this step";
        ("unknown", why.to_owned())
    }

    fn ended(&self) -> u64 {
        self.stopped + self.killed_late + self.died
    }

    /// Accepted, and not answered.
    fn of_dropped(&self) -> (&'static str, String) {
        if self.killed_late > 0 {
            let why = "workers were killed at --graceful-timeout: it needs more time to finish, or \
                       does not end at the graceful signal";
            return ("program", why.to_owned());
        }
        if self.died > 0 {
            let why = "workers died by themselves (pf-status --json tells how: last_exit)";
            return ("program", why.to_owned());
        }
        if self.stopped > 0 {
            let why = "it closed connections that it had accepted, when it was told to finish: a \
                       worker has to answer what it has accepted, and what it accepts until its \
                       listener is closed";
            return ("program", why.to_owned());
        }
        ("unknown", "no worker has ended in this step".to_owned())
    }

    fn of_slow(&self) -> (&'static str, String) {
        if !self.drops.is_empty() {
            let full: Vec<String> = self
                .drops
                .iter()
                .map(|(address, count)| format!("{address} {count} times"))
                .collect();
            let why = format!(
                "the kernel found the accept queue full ({}): workers accept too slowly, or the \
                 backlog is too small",
                full.join(", ")
            );
            return ("kernel", why);
        }
        let why = "no worker has accepted it, or the one that did has not answered";
        ("program", why.to_owned())
    }
}

/// The master has died, or was stopped, which the drill never does: what was lost at last is not
/// the program's doing.
pub(super) fn of_an_end_from_outside(steps: &mut [Step]) {
    let last = steps
        .iter_mut()
        .rev()
        .find(|step| !step.findings.is_empty());
    for finding in last.into_iter().flat_map(|step| &mut step.findings) {
        "outside".clone_into(&mut finding.whose);
        let why = "the master died or was stopped meanwhile, and not by the drill";
        why.clone_into(&mut finding.why);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Loss;
    use super::*;
    use crate::wire::status::{Listener, Operation};

    fn status(exits: &[(&str, u64)], drops: u32, ops: &[(&str, &str)]) -> Status {
        let mut status = Status::default();
        let exits = exits
            .iter()
            .map(|(cause, count)| ((*cause).to_owned(), *count));
        status.counters.exits = exits.collect();
        status.listeners = vec![Listener {
            address: "tcp:127.0.0.1:80".into(),
            drops: Some(drops),
            ..Listener::default()
        }];
        let operations = ops.iter().map(|(op, kind)| Operation {
            op: (*op).into(),
            kind: (*kind).into(),
            ..Operation::default()
        });
        status.operations = operations.collect();
        status
    }

    fn whose(facts: &Facts, kind: Kind) -> String {
        let mut tally = Tally::default();
        tally.lost(Loss {
            kind,
            listener: "http".into(),
            what: REFUSED.into(),
            is_excused: false,
        });
        let findings = facts.findings(&tally);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].kind, kind.name());
        assert_eq!(findings[0].example, format!("http: {REFUSED}"));
        findings[0].whose.clone()
    }

    #[test]
    fn facts_are_what_has_grown_without_what_the_drill_did() {
        let before = status(&[("stopped", 1)], 2, &[("1", "start")]);
        let after = status(
            &[
                ("stopped", 3),
                ("signaled", 1),
                ("killed-graceful-timeout", 1),
            ],
            5,
            &[("1", "start"), ("2", "reload"), ("3", "reload")],
        );
        let ours = BTreeSet::from(["2".to_owned()]);
        let facts = Facts::between(&before, &after, &ours, 1);
        let expected = Facts {
            stopped: 2,
            killed_late: 1,
            died: 0,
            drops: vec![("tcp:127.0.0.1:80".into(), 3)],
            remade: true,
        };
        assert_eq!(facts, expected);
        assert_eq!(Facts::between(&after, &after, &ours, 0), Facts::default());
    }

    #[test]
    fn a_loss_without_facts_is_not_guessed() {
        let none = Facts::default();
        let told = Facts {
            stopped: 1,
            ..Facts::default()
        };
        let full = Facts {
            drops: vec![("a".into(), 1)],
            ..Facts::default()
        };
        let remade = Facts {
            remade: true,
            ..Facts::default()
        };
        assert_eq!(whose(&none, Kind::Reset), "unknown");
        assert_eq!(whose(&told, Kind::Reset), "program");
        assert_eq!(whose(&told, Kind::Empty), "program");
        assert_eq!(whose(&told, Kind::Refused), "program");
        assert_eq!(whose(&none, Kind::Refused), "unknown");
        assert_eq!(whose(&remade, Kind::Refused), "program");
        assert_eq!(whose(&full, Kind::Slow), "kernel");
        assert_eq!(whose(&none, Kind::Slow), "program");
        assert_eq!(whose(&none, Kind::Wrong), "program");
        assert!(Facts::default().findings(&Tally::default()).is_empty());
    }

    #[test]
    fn what_is_lost_as_the_master_ends_is_not_the_programs_doing() {
        let step = |whose: &[&str]| Step {
            findings: whose
                .iter()
                .map(|whose| Finding {
                    whose: (*whose).to_owned(),
                    ..Finding::default()
                })
                .collect(),
            ..Step::default()
        };
        let mut steps = [step(&["program"]), step(&["program", "unknown"]), step(&[])];
        of_an_end_from_outside(&mut steps);
        let whose = |step: &Step| -> Vec<String> {
            step.findings.iter().map(|it| it.whose.clone()).collect()
        };
        assert_eq!(whose(&steps[0]), ["program"]);
        assert_eq!(whose(&steps[1]), ["outside", "outside"]);
    }
}
