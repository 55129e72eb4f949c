use super::*;
use crate::wire::status::Workers;

fn render(status: &Status) -> String {
    text(&lines(status, None))
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| line.text.clone() + "\n").collect()
}

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
                ..Listener::default()
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

SLOT   PID  GEN  STATE  UPTIME   BEAT  REQUESTS  CONNS  RESTARTS      RSS    CPU
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
fn eighty_columns_are_enough_and_no_line_is_wider_than_it_may_be() {
    let mut status = healthy();
    status.cwd = Some("/srv/www/shop.example.org/app/releases/20260728T1200Z".into());
    status.slots[0].status = Some("serving 3 clients, 1200 so far, none of them slow".into());
    status.listeners[1].address = format!("unixgram:/{}/app.log", "deep/".repeat(30));
    let shown = text(&lines(&status, Some(80)));
    assert!(shown.contains("…/20260728T1200Z)"), "{shown}");
    assert!(shown.contains("1m 1s serving"), "{shown}");
    assert!(
        shown.contains("…/deep/deep") && shown.contains("/app.log"),
        "{shown}"
    );
    for width in [200, 80, 40, 7, 1] {
        for line in lines(&status, Some(width)) {
            assert!(columns(&line.text) <= width, "{width}: {}", line.text);
        }
    }
}

#[test]
fn what_is_not_well_is_marked() {
    let marked = |status: &Status| -> Vec<String> {
        let lines = lines(status, None).into_iter();
        let bad = lines.filter(|line| !line.is_well);
        bad.map(|line| line.text).collect()
    };
    assert_eq!(marked(&healthy()), [""; 0]);
    let mut status = healthy();
    status.workers.ready = 1;
    status.slots[1].state = "backoff".into();
    status.listeners[0].queued = Some(4096);
    status.rollout.as_mut().expect("one").result = "rolled-back".into();
    let bad = marked(&status);
    assert_eq!(bad.len(), 4, "{bad:?}");
    for (line, part) in bad
        .iter()
        .zip(["1 of 2", "backoff", "4096/4096", "rolled-back"])
    {
        assert!(line.contains(part), "{line}");
    }
    status.state = "paused".into();
    status.slots[1].state = "empty".into();
    assert_eq!(marked(&status).len(), 2);
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
