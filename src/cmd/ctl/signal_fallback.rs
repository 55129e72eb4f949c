//! Signals, for a master without a control socket, and for KILL, STOP and CONT.

use std::time::Duration;

use serde_json::json;

use super::job::Job;
use crate::client::Master;
use crate::error::{Error, Exit, Result};
use crate::model::signal::Signal;
use crate::sys::machine::clock;
use crate::sys::process::proc_info::is_pending;
use crate::sys::signal::number;
use crate::wire::control::ControlCommand;

/// The shortest time between two signals of one kind, and how often to look whether the first one
/// is still pending.
const INTERVAL: Duration = Duration::from_millis(20);

/// How long a signal may stay pending, unless `--timeout` is shorter.
const PENDING_WITHIN: Duration = Duration::from_secs(10);

/// `scale +N` sends N signals. More than this are a mistake, and would take long.
const MAX_STEPS: u32 = 100;

/// Sends the signals that mean the same as `command`, to a master without a control socket.
///
/// # Errors
/// Exit 6: no signal means this, or the caller wants to wait, and a signal has no answer.
pub(super) fn send(job: &Job, master: Option<&Master>, command: &ControlCommand) -> Result<Exit> {
    let refused = |why: &str| Error::new(Exit::Refused, job.target.no_control(), why);
    let Some((signal, times)) = signals(command) else {
        return Err(refused("there is no signal for this"));
    };
    if !job.no_wait && !matches!(command, ControlCommand::Signal { .. }) {
        return Err(refused("it only takes signals, which have no answer")
            .hint(format!("--no-wait sends {signal}")));
    }
    let Some(master) = master else {
        return Err(refused(
            "it lives in another pid namespace and cannot be sent signals from here",
        ));
    };
    if times > MAX_STEPS {
        return Err(refused("that is too many steps to be sent as signals"));
    }
    for step in 0..times {
        if step > 0 {
            wait_until_taken(job, master, signal, step)?;
        }
        master.signal(signal)?;
    }
    report_sent(job, master, signal, times)
}

/// Waits until the signal that was sent last is no longer pending. The kernel keeps one pending
/// signal of a kind (signal(7)), so a second one would be lost, and with it a step.
fn wait_until_taken(job: &Job, master: &Master, signal: Signal, sent: u32) -> Result<()> {
    let within = clock::now() + PENDING_WITHIN;
    let until = job.deadline.map_or(within, |deadline| deadline.min(within));
    loop {
        clock::pause(INTERVAL);
        if is_pending(master.pid(), number(signal)) != Some(true) {
            return Ok(());
        }
        if clock::now() >= until {
            let why = format!("process {} takes no signals", master.pid());
            let what = format!("only {sent} {signal} could be sent");
            return Err(Error::new(Exit::Timeout, what, why));
        }
    }
}

/// Sends a signal that no master can send to itself and then answer the request: KILL, STOP, and
/// CONT to a stopped master. `None` for every other command.
pub(super) fn send_unanswerable(job: &Job, command: &ControlCommand) -> Option<Result<Exit>> {
    let (signal, times) = signals(command)
        .filter(|(signal, _)| matches!(signal, Signal::Kill | Signal::Stop | Signal::Cont))?;
    match job.target.master(job.deadline) {
        Ok(master) => master.map(|master| {
            master
                .signal(signal)
                .and_then(|()| report_sent(job, &master, signal, times))
        }),
        Err(error) => Some(Err(job.explain_timeout(error))),
    }
}

/// The signal that means the same as `command`, and how often to send it.
fn signals(command: &ControlCommand) -> Option<(Signal, u32)> {
    match command {
        ControlCommand::Reload {
            dry_run: false,
            copy: false,
            changes,
        } if changes.is_empty() => Some((Signal::Hup, 1)),
        ControlCommand::Stop { now } => Some((if *now { Signal::Int } else { Signal::Quit }, 1)),
        ControlCommand::Upgrade {
            dry_run: false,
            copy: false,
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

fn report_sent(job: &Job, master: &Master, signal: Signal, times: u32) -> Result<Exit> {
    let times = if times == 1 {
        String::new()
    } else {
        format!(" {times} times")
    };
    job.print_done(Some(&format!(
        "sent {signal} to process {}{times}",
        master.pid()
    )));
    job.print_result(&json!({ "ok": true }), "")
}
