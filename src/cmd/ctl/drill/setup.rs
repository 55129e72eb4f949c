//! Before the first step: whether the drill makes sense now, what is under load, the question, and
//! how each listener's answers end.

use std::io::{self, BufRead, IsTerminal, Write};
use std::rc::Rc;
use std::time::Duration;

use super::client::{ANSWER_WITHIN, Client, Job as ClientJob, Manner, Outcome};
use super::load::Loaded;
use super::request::{Protocol, Request};
use super::session::Rehearsed;
use super::steps::Step;
use crate::error::{Error, Exit, Result};
use crate::sys::io::place;
use crate::sys::io::poll::{Poller, Ready};
use crate::sys::machine::clock;
use crate::ui::text::plain;
use crate::wire::drill;
use crate::wire::status::{Listener, Status};

/// How long the first answer may take before its listener is told that nothing more will be sent.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// Why no drill is made now; None: it can be made.
pub(super) fn refusal(status: &Status) -> Option<Error> {
    let refuse = |why: String| Some(Error::new(Exit::Refused, "refused", why));
    let workers = &status.workers;
    if let Some(running) = status.operations.iter().find(|it| it.result == "running") {
        let (op, kind) = (&running.op, &running.kind);
        return refuse(format!("operation {op} ({}) is under way", plain(kind)));
    }
    if status.role != "master" {
        return refuse(format!(
            "this is the {} master of an upgrade by fork that is not over",
            plain(&status.role)
        ));
    }
    if status.state != "running" {
        return refuse(format!("the service is {}", plain(&status.state)));
    }
    if workers.wanted == 0 {
        return refuse("there is no slot, so no worker that could serve".to_owned());
    }
    if workers.ready < workers.wanted {
        let (ready, wanted) = (workers.ready, workers.wanted);
        return refuse(format!("only {ready} of {wanted} workers are ready"));
    }
    None
}

/// The listeners under load, and all of them for the document.
///
/// # Errors
/// Exit 6: there is none to make load on.
pub(super) fn listeners(status: &Status) -> Result<(Vec<Loaded>, Vec<drill::Listener>)> {
    let mut loaded = Vec::new();
    let mut all = Vec::new();
    for listener in &status.listeners {
        let place = place::of(&listener.address, status.pid);
        all.push(drill::Listener {
            name: listener.name.clone(),
            address: listener.address.clone(),
            tried: place.is_ok(),
            why: place.as_ref().err().cloned(),
        });
        if let Ok(place) = place {
            let label = label(listener);
            let ends_request = false;
            loaded.push(Loaded {
                label,
                place,
                ends_request,
            });
        }
    }
    if loaded.is_empty() {
        let why = "the service has no stream listener to make load on";
        return Err(Error::new(Exit::Refused, "refused", why));
    }
    Ok((loaded, all))
}

fn label(listener: &Listener) -> String {
    let address = plain(&listener.address);
    match &listener.name {
        Some(name) => format!("{} ({address})", plain(name)),
        None => address,
    }
}

/// Tells what the drill does, and asks whether it is to be done.
///
/// # Errors
/// Exit 2: there is no terminal to ask on. Exit 6: the answer is no.
pub(super) fn confirm(text: &str, is_agreed: bool, quiet: bool) -> Result<()> {
    let mut stderr = io::stderr();
    if is_agreed {
        if !quiet {
            // Where stderr cannot be written, there is no other place to report that.
            let _ = write!(stderr, "{text}");
        }
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        let what = "it restarts workers of a running service, and there is no terminal to ask on";
        return Err(Error::usage(what).hint("--yes begins without a question"));
    }
    let _ = write!(stderr, "{text}Begin? [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    let yes = read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if yes {
        return Ok(());
    }
    Err(Error::new(Exit::Refused, "not begun", "the answer was no"))
}

/// What the drill does, in lines.
pub(super) fn plan(
    status: &Status,
    load: &str,
    listeners: &[drill::Listener],
    steps: &[(Step, Rehearsed)],
) -> String {
    let release = status.release.as_ref().or(status.cwd.as_ref());
    let release = release.map_or_else(String::new, |release| format!(", {}", plain(release)));
    let mut text = format!(
        "service: {} workers, generation {}{release}, pid {}\n",
        status.workers.wanted, status.generation, status.pid
    );
    for listener in listeners {
        let address = plain(&listener.address);
        match &listener.why {
            None => text += &format!("load on {address}: {load}\n"),
            Some(why) => text += &format!("no load on {address}: {}\n", plain(why)),
        }
    }
    let taken = steps.iter().filter(|(_, it)| *it == Rehearsed::Possible);
    let labels: Vec<String> = taken.map(|(step, _)| step.label()).collect();
    text += &format!("steps: {}\n", labels.join(", "));
    for (step, rehearsed) in steps {
        let (what, why) = match rehearsed {
            Rehearsed::Possible => continue,
            Rehearsed::LeftOut(why) => ("left out", why),
            Rehearsed::Failed(why) => ("would fail", why),
        };
        text += &format!("{what}: {}: {}\n", step.label(), plain(why));
    }
    text + "Nothing is deployed. A connection that the killed worker has accepted is lost.\n"
}

/// Finds out how this listener's answer ends, and whether it can be reached at all.
///
/// An HTTP answer says itself how long it is. Another one ends with its connection; where that
/// stays open, the other side may wait for the end of the request.
///
/// # Errors
/// Exit 4: no permission to connect. Exit 6: no answer.
pub(super) fn probe(listener: &mut Loaded, request: &Rc<Request>) -> Result<()> {
    let mut outcome = ask_once(listener, request, FIRST_ANSWER)?;
    if outcome.is_none() {
        listener.ends_request = request.protocol == Protocol::UntilEnd;
        outcome = ask_once(listener, request, ANSWER_WITHIN)?;
    }
    let label = &listener.label;
    match outcome {
        Some(Outcome::Answered(..)) => Ok(()),
        Some(Outcome::NotMade(why)) if why.contains("ermission") => Err(Error::new(
            Exit::Permission,
            format!("cannot connect to {label}"),
            why,
        )),
        Some(Outcome::NotMade(why)) => Err(not_answered(label, &why)),
        Some(Outcome::Lost { kind, what, .. }) => {
            Err(not_answered(label, &format!("{kind}: {what}")))
        }
        Some(Outcome::Repeated) | None => Err(not_answered(label, "no answer in time")),
    }
}

/// The error of a service that is not well when nothing disturbs it.
pub(super) fn not_answered(label: &str, why: &str) -> Error {
    Error::new(
        Exit::Refused,
        format!("{label} does not answer alike even when it is left alone"),
        why,
    )
    .hint("--request TEXT says what to send")
}

fn ask_once(listener: &Loaded, request: &Rc<Request>, within: Duration) -> Result<Option<Outcome>> {
    let began = clock::now();
    let until = began + within;
    let job = ClientJob {
        place: listener.place.clone(),
        request: Rc::clone(request),
        ends_request: listener.ends_request,
        manner: Manner::New,
    };
    let mut client = Client::new(job, began);
    let mut outcome = client.turn(began, Ready::default(), true);
    let mut poller = Poller::new();
    while outcome.is_none() && clock::now() < until {
        let deadline = client.deadline(false).map_or(until, |it| it.min(until));
        let fds: Vec<_> = client.interest().into_iter().collect();
        let ready = poller
            .wait(&fds, Some(deadline))
            .map_err(|error| Error::system("cannot wait", error))?;
        let ready = ready.first().copied().unwrap_or_default();
        outcome = client.turn(clock::now(), ready, false);
    }
    Ok(outcome)
}
