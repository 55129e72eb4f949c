//! The status document as text: a summary line, the slots, the listeners, the last rollout.

use comfy_table::Row;

use super::columns::layout;

use super::text::{command, duration, plain, plain_cut, size};
use crate::wire::changes::Changes;
use crate::wire::status::{LastExit, Listener, Rollout, Slot, Status};

/// The most characters of a worker's status text that a row shows.
const STATUS_LIMIT: usize = 120;

/// The whole text, with a newline at the end. An unknown value is `-`. No character of it acts on a
/// terminal.
pub fn render(status: &Status) -> String {
    let mut parts = vec![summary(status) + "\n"];
    if !status.changes.is_empty() {
        parts.push(changes(&status.changes) + "\n");
    }
    let rows: Vec<Row> = rows(status).collect();
    if !rows.is_empty() {
        let header = [
            "SLOT", "PID", "GEN", "STATE", "UPTIME", "BEAT", "REQUESTS", "CONNS", "RESTARTS",
            "RSS", "CPU", "STATUS",
        ];
        parts.push(layout(&header, &[3, 11], rows));
    }
    if !status.listeners.is_empty() {
        parts.push(layout(
            &["LISTENER", "ADDRESS", "FD", "QUEUE"],
            &[0, 1],
            status.listeners.iter().map(listener),
        ));
    }
    if let Some(last) = &status.rollout {
        parts.push(rollout(last) + "\n");
    }
    parts.join("\n")
}

/// `running, generation 3, 4 of 4 workers ready, pid 4711, up 2h 3m: ./app --port 80`
fn summary(status: &Status) -> String {
    let workers = &status.workers;
    let mut line = plain(&status.state);
    if matches!(status.role.as_str(), "old" | "new") {
        line += &format!(" ({} master)", status.role);
    }
    line += &format!(", generation {}", status.generation);
    if let Some(release) = &status.release {
        line += &format!(" (release {})", plain(release));
    }
    line += &format!(", {} of {} workers ready", workers.ready, workers.wanted);
    for (count, what) in [
        (workers.starting, "starting"),
        (workers.retiring, "retiring"),
        (workers.backoff, "waiting to be started again"),
    ] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line += &format!(", pid {}", status.pid);
    if let Some(uptime) = status.uptime_s {
        line += &format!(", up {}", duration(uptime));
    }
    if !status.command.is_empty() {
        line += &format!(": {}", command(&status.command));
    }
    line
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

/// A row for each slot, then a row for each replacement and each retiring worker, marked as such.
fn rows(status: &Status) -> impl Iterator<Item = Row> {
    let slots = status.slots.iter().map(|slot| row(slot, ""));
    let starting = status
        .starting
        .iter()
        .map(|slot| row(slot, " (replacement)"));
    let retiring = status.retiring.iter().map(|slot| row(slot, " (retiring)"));
    slots.chain(starting).chain(retiring)
}

fn row(slot: &Slot, mark: &str) -> Row {
    Row::from([
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
    ])
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

fn listener(listener: &Listener) -> Row {
    let queue = match (listener.queued, listener.backlog) {
        (None, None) => unknown(),
        (queued, backlog) => format!("{}/{}", known(queued), known(backlog)),
    };
    Row::from([
        listener.name.as_deref().map_or_else(unknown, plain),
        plain(&listener.address),
        listener.fd.to_string(),
        queue,
    ])
}

/// `last rollout: reload, generation 2 to 3, done in 1.2s`
fn rollout(last: &Rollout) -> String {
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
    line
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(unknown, |value| value.to_string())
}

fn unknown() -> String {
    "-".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::Workers;

    fn slot(number: u32, pid: i32) -> Slot {
        Slot {
            slot: number,
            pid: Some(pid),
            generation: Some(3),
            state: "ready".into(),
            uptime_s: Some(7380.0),
            heartbeat_age_s: Some(0.25),
            requests: Some(1234),
            connections: Some(2),
            rss_bytes: Some(1_258_291),
            cpu_s: Some(61.5),
            ..Slot::default()
        }
    }

    #[test]
    fn changes_by_reload_are_shown_as_options() {
        let json = r#"{"set":{"A":"1 2"},"unset":["B"],"chdir":"/srv","command":["./app","-x"]}"#;
        let status = Status {
            changes: serde_json::from_str(json).expect("changes"),
            ..healthy()
        };
        let line = "changed by reload: --set 'A=1 2' --unset B --chdir /srv -- ./app -x";
        assert!(render(&status).lines().any(|own| own == line));
        assert!(!render(&healthy()).contains("changed by reload"));
    }

    fn healthy() -> Status {
        Status {
            pid: 4711,
            role: "master".into(),
            state: "running".into(),
            generation: 3,
            uptime_s: Some(93_600.0),
            command: vec!["./app".into(), "--port".into()],
            workers: Workers {
                wanted: 2,
                ready: 2,
                ..Workers::default()
            },
            slots: vec![slot(0, 4712), slot(1, 4713)],
            listeners: vec![
                Listener {
                    name: Some("http".into()),
                    address: "tcp:127.0.0.1:8080".into(),
                    fd: 3,
                    queued: Some(7),
                    backlog: Some(4096),
                },
                Listener {
                    address: "unixgram:/run/app.log".into(),
                    fd: 4,
                    ..Listener::default()
                },
            ],
            rollout: Some(Rollout {
                kind: "reload".into(),
                from: Some(2),
                to: 3,
                result: "done".into(),
                took_s: Some(1.25),
                ..Rollout::default()
            }),
            ..Status::default()
        }
    }

    #[test]
    fn a_healthy_service() {
        let expected = "\
running, generation 3, 2 of 2 workers ready, pid 4711, up 1d 2h: ./app --port

SLOT   PID  GEN  STATE  UPTIME   BEAT  REQUESTS  CONNS  RESTARTS      RSS    CPU  STATUS
   0  4712    3  ready   2h 3m  250ms      1234      2         0  1.2 MiB  1m 1s
   1  4713    3  ready   2h 3m  250ms      1234      2         0  1.2 MiB  1m 1s

LISTENER  ADDRESS                FD   QUEUE
http      tcp:127.0.0.1:8080      3  7/4096
-         unixgram:/run/app.log   4       -

last rollout: reload, generation 2 to 3, done in 1.2s
";
        assert_eq!(render(&healthy()), expected);
    }

    #[test]
    fn u32_a_rollout_under_way_shows_role_slot_and_generation_of_each() {
        let mut status = healthy();
        status.role = "old".into();
        status.state = "rolling".into();
        status.release = Some("2026.1".into());
        status.workers = Workers {
            wanted: 2,
            ready: 1,
            starting: 1,
            retiring: 1,
            backoff: 1,
        };
        status.slots = vec![
            slot(0, 4712),
            Slot {
                slot: 1,
                state: "backoff".into(),
                restarts: 12,
                last_exit: Some(LastExit {
                    cause: "signaled".into(),
                    signal: Some("SEGV".into()),
                    core: Some(true),
                    ..LastExit::default()
                }),
                ..Slot::default()
            },
        ];
        status.starting = vec![Slot {
            pid: Some(5001),
            generation: Some(4),
            state: "starting".into(),
            uptime_s: Some(0.5),
            rss_bytes: Some(900),
            status: Some("warming caches".into()),
            ..Slot::default()
        }];
        status.retiring = vec![Slot {
            state: "stopping".into(),
            generation: Some(2),
            ..slot(1, 99)
        }];
        status.listeners.clear();
        status.rollout = Some(Rollout {
            kind: "reload".into(),
            from: Some(3),
            to: 4,
            result: "running".into(),
            ..Rollout::default()
        });
        let expected = "\
rolling (old master), generation 3 (release 2026.1), 1 of 2 workers ready, 1 starting, 1 retiring, \
1 waiting to be started again, pid 4711, up 1d 2h: ./app --port

SLOT   PID  GEN  STATE                   UPTIME   BEAT  REQUESTS  CONNS  RESTARTS      RSS    CPU  STATUS
   0  4712    3  ready                    2h 3m  250ms      1234      2         0  1.2 MiB  1m 1s
   1     -    -  backoff                      -      -         -      -        12        -      -  last exit: signaled SEGV, core dumped
   0  5001    4  starting (replacement)   500ms      -         -      -         0    900 B      -  warming caches
   1    99    2  stopping (retiring)      2h 3m  250ms      1234      2         0  1.2 MiB  1m 1s

last rollout: reload, generation 3 to 4, running
";
        assert_eq!(render(&status), expected);
    }

    #[test]
    fn a_first_rollout_that_failed_tells_why() {
        let status = Status {
            state: "starting".into(),
            generation: 1,
            pid: 7,
            rollout: Some(Rollout {
                kind: "start".into(),
                to: 1,
                result: "rolled-back".into(),
                error: Some("slot 0: killed-start-timeout".into()),
                took_s: Some(60.0),
                ..Rollout::default()
            }),
            ..Status::default()
        };
        let expected = "\
starting, generation 1, 0 of 0 workers ready, pid 7

last rollout: start, generation 1, rolled-back in 1m: slot 0: killed-start-timeout
";
        assert_eq!(render(&status), expected);
    }

    #[test]
    fn nothing_hostile_reaches_the_terminal() {
        let evil = "\x1b]0;owned\x07\r\n\u{9b}31m\u{202e}";
        let mut status = healthy();
        let text = || evil.to_owned();
        status.state = text();
        status.release = Some(text());
        status.command = vec![text()];
        for listener in &mut status.listeners {
            (listener.name, listener.address) = (Some(text()), text());
        }
        for slot in &mut status.slots {
            (slot.state, slot.status) = (text(), Some(text() + &"x".repeat(100_000)));
        }
        let exit = LastExit {
            cause: text(),
            signal: Some(text()),
            ..LastExit::default()
        };
        status.starting = vec![Slot {
            status: None,
            last_exit: Some(exit),
            ..slot(0, 1)
        }];
        status
            .starting
            .iter_mut()
            .for_each(|slot| slot.state = text());
        status.rollout = Some(Rollout {
            kind: text(),
            result: text(),
            error: Some(text()),
            ..Rollout::default()
        });
        let rendered = render(&status);
        assert!(
            !rendered
                .chars()
                .any(|c| c != '\n' && crate::ui::text::is_hostile(c)),
            "{rendered:?}"
        );
        assert_eq!(
            rendered.lines().count(),
            render(&healthy()).lines().count() + 1
        );
        assert!(rendered.len() < 20_000, "a long status text is cut");
    }
}
