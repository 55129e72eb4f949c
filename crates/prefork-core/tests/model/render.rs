//! Actions as text, for transcripts: one short line each.

use prefork_core::model::action::{Action, PinSource, Refusal, SignalTarget};
use prefork_core::model::operation::Outcome;

/// One action, as transcripts show it.
pub fn action(action: &Action) -> String {
    match action {
        Action::Spawn {
            worker,
            slot,
            generation,
        } => format!("spawn {} slot={slot} gen={generation}", worker.0),
        Action::Signal(worker, sig, SignalTarget::Leader) => format!("signal {} {sig}", worker.0),
        Action::Signal(worker, sig, SignalTarget::Group) => {
            format!("signal {} {sig} to its group", worker.0)
        }
        Action::Deliver(worker, sig) => format!("deliver {} {sig}", worker.0),
        Action::Pin(generation, PinSource::Successor) => {
            format!("pin gen={generation} by its successor")
        }
        Action::Pin(generation, PinSource::Asked { renewed: true, .. }) => {
            format!("pin gen={generation} with a new command")
        }
        Action::Pin(generation, PinSource::Now | PinSource::Asked { .. }) => {
            format!("pin gen={generation}")
        }
        Action::Pin(generation, PinSource::SameImage(old)) => {
            format!("pin gen={generation} as gen={old} by this image again")
        }
        Action::Pin(generation, PinSource::Of(old)) => format!("pin gen={generation} as gen={old}"),
        Action::Forget(generation) => format!("forget gen={generation}"),
        Action::LookAtBeat(worker) => format!("look at the beat of {}", worker.0),
        Action::LookForListeners(worker) => format!("look for listeners of {}", worker.0),
        Action::LookAtGroup(worker) => format!("look at the group of {}", worker.0),
        Action::Abandon(worker) => format!("abandon {}", worker.0),
        Action::LookWhetherHeld(worker) => format!("look whether {} is held", worker.0),
        Action::LookWhetherDumping(worker) => format!("look whether {} dumps core", worker.0),
        Action::LookForLeftovers => "look for what was left behind".into(),
        Action::SignalLeftover(id, sig) => format!("signal what was left behind {} {sig}", id.0),
        Action::LookAtQueues => "look at the queues".into(),
        Action::ReopenLogs => "reopen logs".into(),
        Action::PassUsr1 => "pass USR1 on".into(),
        Action::SettleListeners(generation) => {
            format!("close listeners that gen={generation} has not")
        }
        Action::CloseListeners => "close listeners".into(),
        Action::Began(ticket, op) => format!("ticket {} is operation {op}", ticket.0),
        Action::Refused(ticket, refusal, why) => {
            let kind = match refusal {
                Refusal::Busy => "busy",
                Refusal::Senseless => "refused",
                Refusal::Usage => "usage",
            };
            format!("ticket {}: {kind}: {why}", ticket.0)
        }
        Action::Progress(op, done, total, text) => {
            format!("operation {op}: {done}/{total}: {text}")
        }
        Action::Finished(op, outcome) => {
            let (kind, text) = match outcome {
                Outcome::Done(text, warnings) if warnings.is_empty() => ("done", text.clone()),
                Outcome::Done(text, warnings) => {
                    ("done", format!("{text} [{}]", warnings.join("; ")))
                }
                Outcome::Failed(text) => ("failed", text.clone()),
                Outcome::RolledBack(text) => ("rolled back", text.clone()),
                Outcome::Aborted(text) => ("aborted", text.clone()),
                Outcome::Lost(text) => ("lost", text.clone()),
            };
            format!("operation {op} {kind}: {text}")
        }
        Action::Peer(deed) => super::beside::deed(deed),
        Action::Tell(fact) => format!("{:?}: {fact}", fact.level()).to_lowercase(),
        Action::Exit(code, None) => format!("exit {code}"),
        Action::Exit(code, Some(reason)) => format!("exit {code}: {reason}"),
    }
}
