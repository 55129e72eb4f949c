//! Signals, for a master that cannot be asked.

use std::time::Duration;

use serde_json::json;

use super::job::Job;
use crate::client::Master;
use crate::error::{Error, Exit, Result};
use crate::model::signal::Signal;
use crate::sys::machine::clock;
use crate::sys::process::proc_info;
use crate::sys::signal::number;
use crate::wire::control::ControlCommand;

/// Between two signals of one kind, at least; and how often it is looked whether the first has been taken.
const APART: Duration = Duration::from_millis(20);

/// How long a master may take to take a signal, unless `--timeout` says less.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// More steps than this are surely a mistake, and would take long.
const MOST_STEPS: u32 = 100;

/// Says by signals what `command` says, to a master without a control socket.
///
/// Exit 6 where no signal says it, or where the caller wants to wait: nothing comes back.
pub(super) fn signal(job: &Job, master: Option<&Master>, command: &ControlCommand) -> Result<Exit> {
    let refused = |why: &str| Error::new(Exit::Refused, job.target.no_control(), why);
    let Some((signal, times)) = signals(command) else {
        return Err(refused("no signal can say this"));
    };
    if !job.no_wait && !matches!(command, ControlCommand::Signal { .. }) {
        return Err(
            refused("it can only be sent signals, and they have no answer")
                .hint(format!("--no-wait sends {signal}")),
        );
    }
    let Some(master) = master else {
        return Err(refused(
            "it lives in another pid namespace and cannot be sent signals from here",
        ));
    };
    if times > MOST_STEPS {
        return Err(refused("that is too many steps to be sent as signals"));
    }
    for step in 0..times {
        if step > 0 {
            await_taken(job, master, signal, step)?;
        }
        master.signal(signal)?;
    }
    sent(job, master, signal, times)
}

/// Waits until the master has taken the last of those sent: the kernel merges the next with one that is still pending, and the step would be lost.
fn await_taken(job: &Job, master: &Master, signal: Signal, sent: u32) -> Result<()> {
    let within = clock::now() + TAKEN_WITHIN;
    let until = job.deadline.map_or(within, |deadline| deadline.min(within));
    loop {
        clock::pause(APART);
        if proc_info::is_pending(master.pid(), number(signal)) != Some(true) {
            return Ok(());
        }
        if clock::now() >= until {
            let why = format!("process {} takes no signals", master.pid());
            let what = format!("only {sent} {signal} could be sent");
            return Err(Error::new(Exit::Timeout, what, why));
        }
    }
}

/// Delivers what a master cannot deliver to itself and then answer: KILL and STOP, and CONT to one that is stopped.
/// `None` for everything else.
pub(super) fn signal_beyond_asking(job: &Job, command: &ControlCommand) -> Option<Result<Exit>> {
    let (signal, times) = signals(command)
        .filter(|(signal, _)| matches!(signal, Signal::Kill | Signal::Stop | Signal::Cont))?;
    match job.target.master(job.deadline) {
        Ok(master) => master.map(|master| {
            master
                .signal(signal)
                .and_then(|()| sent(job, &master, signal, times))
        }),
        Err(error) => Some(Err(job.late(error))),
    }
}

/// Which signal says what `command` says, and how often it is to be sent.
fn signals(command: &ControlCommand) -> Option<(Signal, u32)> {
    match command {
        ControlCommand::Reload {
            dry_run: false,
            changes,
        } if changes.is_empty() => Some((Signal::Hup, 1)),
        ControlCommand::Stop { now } => Some((if *now { Signal::Int } else { Signal::Quit }, 1)),
        ControlCommand::Upgrade {
            dry_run: false,
            fork: true,
            manual: true,
        } => Some((Signal::Usr2, 1)),
        ControlCommand::Pause => Some((Signal::Winch, 1)),
        ControlCommand::Reopen => Some((Signal::Usr1, 1)),
        ControlCommand::Signal {
            signal,
            workers: false,
            slot: None,
        } => Some((signal.parse().ok()?, 1)),
        ControlCommand::Scale { workers } => {
            let text = workers.as_str()?;
            let up = text.strip_prefix('+').map(|steps| (Signal::Ttin, steps));
            let (signal, steps) =
                up.or_else(|| text.strip_prefix('-').map(|steps| (Signal::Ttou, steps)))?;
            Some((signal, steps.parse().ok()?))
        }
        _ => None,
    }
}

fn sent(job: &Job, master: &Master, signal: Signal, times: u32) -> Result<Exit> {
    let times = if times == 1 {
        String::new()
    } else {
        format!(" {times} times")
    };
    job.done(Some(&format!(
        "sent {signal} to process {}{times}",
        master.pid()
    )));
    job.settle(&json!({ "ok": true }), "")
}
