//! The status document as text: a summary line, the slots, the listeners, the last rollout.

use super::columns::Fitted;
use super::lines::{Line, columns, cut, cut_beginning};
use super::services::release;
use super::text::{command, duration, plain, plain_cut, size};
use crate::wire::changes::Changes;
use crate::wire::status::{LastExit, Listener, Rollout, Slot, Status};

/// The most characters of a worker's status text that a row shows.
const STATUS_LIMIT: usize = 120;

/// The least of a directory that the summary shows: a release is often called after a moment, as in
/// `…/20260728T120000Z`.
const SHORTEST_PATH: usize = 20;

const SLOTS: [&str; 12] = [
    "SLOT", "PID", "GEN", "STATE", "UPTIME", "BEAT", "REQUESTS", "CONNS", "RESTARTS", "RSS", "CPU",
    "STATUS",
];

const LISTENERS: [&str; 4] = ["LISTENER", "ADDRESS", "FD", "QUEUE"];

/// The lines of the whole. An unknown value is `-`. No character of it acts on a terminal, and no
/// line is wider than `width`.
pub fn lines(status: &Status, width: Option<usize>) -> Vec<Line> {
    let mut parts = vec![vec![summary(status, width)]];
    if !status.changes.is_empty() {
        parts.push(vec![Line::well(changes(&status.changes))]);
    }
    let (rows, marks): (Vec<_>, Vec<_>) = rows(status).unzip();
    if !rows.is_empty() {
        let table = Fitted {
            header: &SLOTS,
            left: &[3, 11],
            path: None,
            width,
        };
        parts.push(marked(table.lines(rows), marks));
    }
    if !status.listeners.is_empty() {
        let table = Fitted {
            header: &LISTENERS,
            left: &[0, 1],
            path: Some(1),
            width,
        };
        let (rows, marks) = status.listeners.iter().map(listener).unzip();
        parts.push(marked(table.lines(rows), marks));
    }
    if let Some(last) = &status.rollout {
        parts.push(vec![rollout(last)]);
    }
    cut(parts.join(&Line::well("")), width)
}

/// The lines of a table: the header, and the rows with their marks.
fn marked(texts: Vec<String>, marks: Vec<bool>) -> Vec<Line> {
    let marks = [true].into_iter().chain(marks);
    let lines = texts.into_iter().zip(marks);
    lines.map(|(text, mark)| Line::new(text, mark)).collect()
}

/// `running, generation 3 (release v2), 4 of 4 workers ready, pid 4711, up 2h 3m: ./app --port 80`
fn summary(status: &Status, width: Option<usize>) -> Line {
    let workers = &status.workers;
    let mut before = plain(&status.state);
    if matches!(status.role.as_str(), "old" | "new") {
        before += &format!(" ({} master)", status.role);
    }
    before += &format!(", generation {}", status.generation);
    let mut after = format!(", {} of {} workers ready", workers.ready, workers.wanted);
    for (count, what) in [
        (workers.starting, "starting"),
        (workers.retiring, "retiring"),
        (workers.backoff, "waiting to be started again"),
    ] {
        if count > 0 {
            after += &format!(", {count} {what}");
        }
    }
    after += &format!(", pid {}", status.pid);
    if let Some(uptime) = status.uptime_s {
        after += &format!(", up {}", duration(uptime));
    }
    if let Some(release) = release(status) {
        const AROUND: &str = " (release )";
        let taken = columns(&before) + AROUND.len() + columns(&after);
        let room = width.map(|width| width.saturating_sub(taken).max(SHORTEST_PATH));
        // A name is not cut: it has no end that says more than its beginning.
        let room = room.filter(|_| status.release.is_none());
        let shown = plain(release);
        let shown = room.map_or_else(|| shown.clone(), |room| cut_beginning(&shown, room));
        before += &format!(" (release {shown})");
    }
    let mut line = before + &after;
    if !status.command.is_empty() {
        line += &format!(": {}", command(&status.command));
    }
    let all_ready = workers.ready >= workers.wanted;
    let is_well = match status.state.as_str() {
        "paused" => true,
        "stopping" => false,
        _ => all_ready,
    };
    Line::new(line, is_well)
}

/// `changed by reload: --set A=1 --unset B --chdir /srv -- ./app`, as it would be typed.
fn changes(changes: &Changes) -> String {
    let mut words = Vec::new();
    for (name, value) in &changes.set {
        words.extend(["--set".to_owned(), format!("{name}={value}")]);
    }
    for name in &changes.unset {
        words.extend(["--unset".to_owned(), name.clone()]);
    }
    if let Some(dir) = &changes.chdir {
        words.extend(["--chdir".to_owned(), dir.to_string()]);
    }
    if let Some(command) = &changes.command {
        words.push("--".to_owned());
        words.extend(command.iter().map(ToString::to_string));
    }
    format!("changed by reload: {}", command(&words))
}

/// A row for each slot, then a row for each replacement and each retiring worker, marked as such;
/// each with whether it is well. A worker that is about to be ready, or to go, is.
fn rows(status: &Status) -> impl Iterator<Item = (Vec<String>, bool)> {
    let paused = status.state == "paused";
    let slots = status.slots.iter().map(move |slot| {
        let is_well = slot.state == "ready" || (paused && slot.state == "empty");
        (row(slot, ""), is_well)
    });
    let starting = status.starting.iter();
    let starting = starting.map(|slot| (row(slot, " (replacement)"), slot.state != "held"));
    let retiring = status.retiring.iter();
    let retiring = retiring.map(|slot| (row(slot, " (retiring)"), true));
    slots.chain(starting).chain(retiring)
}

fn row(slot: &Slot, mark: &str) -> Vec<String> {
    vec![
        slot.slot.to_string(),
        known(slot.pid),
        known(slot.generation),
        plain(&slot.state) + mark,
        slot.uptime_s.map_or_else(unknown, duration),
        slot.heartbeat_age_s.map_or_else(unknown, duration),
        known(slot.requests),
        known(slot.connections),
        slot.restarts.to_string(),
        slot.rss_bytes.map_or_else(unknown, size),
        slot.cpu_s.map_or_else(unknown, duration),
        note(slot),
    ]
}

/// The worker's status text. Without one, if the worker is not ready: how the previous one ended.
fn note(slot: &Slot) -> String {
    match (&slot.status, &slot.last_exit) {
        (Some(text), _) => plain_cut(text, STATUS_LIMIT),
        (None, Some(exit)) if slot.state != "ready" && exit.cause != "stopped" => {
            format!("last exit: {}", last_exit(exit))
        }
        (None, _) => String::new(),
    }
}

/// `exited 2`, `signaled SEGV, core dumped`, `killed-start-timeout KILL`
fn last_exit(exit: &LastExit) -> String {
    let mut text = plain(&exit.cause);
    if let Some(code) = exit.code {
        text += &format!(" {code}");
    }
    if let Some(signal) = &exit.signal {
        text += &format!(" {}", plain(signal));
    }
    if exit.core == Some(true) {
        text += ", core dumped";
    }
    text
}

/// A row, and whether it is well: a full queue refuses clients.
fn listener(listener: &Listener) -> (Vec<String>, bool) {
    let mut queue = match (listener.queued, listener.backlog) {
        (None, None) => unknown(),
        (queued, backlog) => format!("{}/{}", known(queued), known(backlog)),
    };
    if let Some(wait) = listener.longest_wait {
        queue += &format!(" for {}", duration(wait.as_secs_f64()));
    }
    let is_full = listener.queued.zip(listener.backlog);
    let is_full = is_full.is_some_and(|(queued, backlog)| queued > 0 && queued >= backlog);
    let row = vec![
        listener.name.as_deref().map_or_else(unknown, plain),
        plain(&listener.address),
        listener.fd.to_string(),
        queue,
    ];
    (row, !is_full)
}

/// `last rollout: reload, generation 2 to 3, done in 1.2s`
fn rollout(last: &Rollout) -> Line {
    let mut line = format!("last rollout: {}, generation ", plain(&last.kind));
    if let Some(from) = last.from {
        line += &format!("{from} to ");
    }
    line += &format!("{}, {}", last.to, plain(&last.result));
    if let Some(took) = last.took_s {
        line += &format!(" in {}", duration(took));
    }
    if let Some(error) = &last.error {
        line += &format!(": {}", plain(error));
    }
    Line::new(line, matches!(last.result.as_str(), "running" | "done"))
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(unknown, |value| value.to_string())
}

fn unknown() -> String {
    "-".into()
}

#[cfg(test)]
mod tests;
