//! The control socket, and all that a client may send: a clear answer each, without harm to the
//! service or another client.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use prefork::sys::machine::clock;
use serde_json::{Value, json};

use crate::common::service::control::error;
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Control, Master, Scene, process};

fn service(scene: &Scene) -> Master {
    scene.master("-n 1 --ready fd=9").start()
}

/// Another client is answered before the 5 s of any silent client are over.
fn others_are_served(master: &Master) {
    let begun = clock::now();
    assert_eq!(master.status()["workers"]["ready"], 1);
    let took = clock::now().since(begun);
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn p3_an_invalid_request_is_an_error_and_keeps_the_connection() {
    let scene = Scene::new();
    let master = service(&scene);
    let mut control = master.control();
    let cases: &[(&[u8], &str, &str)] = &[
        (b"", "bad-request", "not JSON"),
        (b"{", "bad-request", "not JSON"),
        (b"\xff\xfe\xfd", "bad-request", "not UTF-8"),
        (b"\0\0", "bad-request", "not JSON"),
        (b"[]", "bad-request", "\"cmd\""),
        (b"null", "bad-request", "\"cmd\""),
        (b"\"status\"", "bad-request", "\"cmd\""),
        (b"{\"cmd\":7}", "bad-request", "\"cmd\""),
        (b"{\"cmd\":\"dance\"}", "unknown-command", "'dance'"),
        (b"{\"cmd\":\"\"}", "unknown-command", "''"),
        (b"{\"cmd\":\"scale\"}", "bad-request", "workers"),
        (
            b"{\"cmd\":\"scale\",\"workers\":{}}",
            "usage",
            "no number of workers",
        ),
        (
            b"{\"cmd\":\"scale\",\"workers\":1.5}",
            "usage",
            "no number of workers",
        ),
        (
            b"{\"cmd\":\"scale\",\"workers\":\"many\"}",
            "usage",
            "no number of workers",
        ),
        (b"{\"cmd\":\"scale\",\"workers\":10001}", "usage", "10000"),
        (
            b"{\"cmd\":\"scale\",\"workers\":\"+99999999999999999999999\"}",
            "usage",
            "10000",
        ),
        (
            b"{\"cmd\":\"restart-worker\",\"slot\":\"0\"}",
            "bad-request",
            "restart-worker: invalid type",
        ),
        (
            b"{\"cmd\":\"restart-worker\",\"slot\":-1}",
            "bad-request",
            "restart-worker: invalid value",
        ),
        (
            b"{\"cmd\":\"restart-worker\",\"slot\":4294967295}",
            "refused",
            "no slot 4294967295",
        ),
        (
            b"{\"cmd\":\"signal\",\"signal\":\"NOSUCH\"}",
            "usage",
            "NOSUCH",
        ),
        (
            b"{\"cmd\":\"signal\",\"signal\":\"HUP\",\"workers\":true,\"slot\":0}",
            "usage",
            "not both",
        ),
        (b"{\"cmd\":\"wait\"}", "usage", "either"),
        (b"{\"cmd\":\"wait\",\"op\":99}", "refused", "99"),
        (
            b"{\"cmd\":\"wait\",\"op\":1,\"ready\":true}",
            "usage",
            "either",
        ),
        (
            b"{\"cmd\":\"status\",\"wait\":\"yes\"}",
            "bad-request",
            "status",
        ),
        (b"{\"cmd\":\"status\",\"key\":7}", "bad-request", "status"),
        (
            b"{\"cmd\":\"reload\",\"dry_run\":1}",
            "bad-request",
            "reload",
        ),
    ];
    for (line, code, part) in cases {
        let line = [line, &b"\n"[..]].concat();
        let shown = String::from_utf8_lossy(&line).into_owned();
        control.send(&line).expect("sent");
        let (found, message) = error(&control.reply());
        assert_eq!(found, *code, "{shown}: {message}");
        assert!(
            message.contains(part) && !message.contains('\n'),
            "{shown}: {message}"
        );
    }
    // An id comes back with every error, and unknown fields do no harm.
    let reply = control.ask(&json!({"cmd": "dance", "id": {"of": ["mine", 1]}}));
    assert_eq!(reply["id"], json!({"of": ["mine", 1]}));
    let reply = control.ask(&json!({"cmd": "status", "id": "x", "shiny": true}));
    assert_eq!(
        (&reply["ok"], &reply["id"], &reply["status"]["pid"]),
        (&json!(true), &json!("x"), &json!(master.pid()))
    );
    master.stop();
}

#[test]
fn p4_a_line_of_ten_megabytes_is_one_error() {
    let scene = Scene::new();
    let master = service(&scene);
    let rss = |master: &Master| -> u64 {
        let text = process::status(master.pid(), "VmHWM");
        text.split_whitespace()
            .next()
            .and_then(|number| number.parse().ok())
            .expect("kB")
    };
    let before = rss(&master);
    let mut control = master.control();
    let piece = vec![b'x'; 1024 * 1024];
    for place in 0..10 {
        control.send(&piece).expect("taken");
        if place % 5 == 0 {
            others_are_served(&master);
        }
    }
    control.send("\n").expect("sent");
    let (code, message) = error(&control.reply());
    assert_eq!(
        (code.as_str(), message.contains("64 KiB")),
        ("bad-request", true),
        "{message}"
    );
    assert_eq!(control.status()["pid"], master.pid());
    // The kernel counts pages per processor and sums them up now and then: the peak may be a few kB
    // lower than before.
    let grown = rss(&master).saturating_sub(before);
    assert!(grown < 2048, "{grown} kB");

    // The longest that is allowed, and one byte more.
    let request = |length: usize| {
        let start = r#"{"cmd":"status","x":""#;
        format!("{start}{}\"}}\n", "y".repeat(length - start.len() - 3))
    };
    control.send(request(64 * 1024)).expect("sent");
    assert_eq!(control.reply()["ok"], true);
    control.send(request(64 * 1024 + 1)).expect("sent");
    assert_eq!(error(&control.reply()).0, "bad-request");
    master.stop();
}

#[test]
fn p4_an_unfinished_line_is_an_error_after_5_seconds() {
    let scene = Scene::new();
    let master = service(&scene);
    let mut silent = master.control();
    let mut dripping = master.control();
    let begun = clock::now();
    silent.send(r#"{"cmd": "sta"#).expect("sent");
    // A client that sends a byte now and then gains nothing.
    while clock::now().since(begun) < Duration::from_millis(5500) && dripping.send("[").is_ok() {
        others_are_served(&master);
        clock::pause(Duration::from_millis(500));
    }
    for mut control in [silent, dripping] {
        let (code, message) = error(&control.reply());
        assert_eq!(
            (code.as_str(), message.contains("within 5 s")),
            ("bad-request", true),
            "{message}"
        );
        assert_eq!(control.line(), None, "and closed");
    }
    let took = clock::now().since(begun);
    assert!(took >= Duration::from_millis(4900), "{took:?}");
    others_are_served(&master);
}

#[test]
fn p4_an_unfinished_line_before_eof_is_an_error() {
    let scene = Scene::new();
    let master = service(&scene);
    let mut control = master.control();
    control
        .send("{\"cmd\": \"status\"}\n{\"cmd\": \"stop\"}")
        .expect("sent");
    control.stream.shutdown(Shutdown::Write).expect("shut");
    assert_eq!(control.reply()["status"]["pid"], master.pid());
    let (code, message) = error(&control.reply());
    assert_eq!(
        (code.as_str(), message.contains("had no end")),
        ("bad-request", true),
        "{message}"
    );
    assert_eq!(control.line(), None);
    assert_eq!(master.status()["state"], "running", "half a stop is none");
    master.stop();
}

#[test]
fn p4_three_hundred_idle_clients_delay_no_other() {
    let scene = Scene::new();
    let master = service(&scene);
    let open = |master: &Master| process::descriptors(master.pid()).len();
    let before = open(&master);
    let mut idle: Vec<Control> = (0..300).map(|_| master.control()).collect();
    others_are_served(&master);
    master.ctl("reload").succeeded();
    // Each is there still, and answered when it asks.
    for control in idle.iter_mut().rev() {
        assert_eq!(control.status()["generation"], 2);
    }
    drop(idle);
    crate::common::service::until("they are forgotten", || {
        (open(&master) <= before).then_some(())
    });
    master.stop();
}

#[test]
fn p4_a_client_that_never_reads_is_dropped_and_counted() {
    let scene = Scene::new();
    let master = service(&scene);
    let mut deaf = master.control();
    deaf.stream.set_nonblocking(true).expect("set");
    let requests = "{\"cmd\": \"status\"}\n".repeat(64);
    // It may not be able to send more before it is dropped: the master reads a share a turn.
    crate::common::service::until("it is dropped", || {
        match deaf.stream.write(requests.as_bytes()) {
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                others_are_served(&master);
                None
            }
            Err(_) => Some(()),
        }
    });
    let mut rest = Vec::new();
    deaf.stream.set_nonblocking(false).expect("set");
    let _ = deaf.stream.read_to_end(&mut rest);
    assert!(rest.len() < 6 * 1024 * 1024, "{}", rest.len());
    for verb in ["upgrade", "upgrade --fork", "reload"] {
        assert_eq!(master.status()["counters"]["clients_dropped"], 1);
        master.ctl(verb).succeeded();
    }
    assert_eq!(master.status()["counters"]["clients_dropped"], 1);
    master.ctl("stop").succeeded();
}

#[test]
fn p3_requests_are_answered_in_order_and_events_carry_their_id() {
    let scene = Scene::new();
    let master = service(&scene);
    let mut control = master.control();
    let many: String = (0..200)
        .map(|id| format!("{}\n", json!({"cmd": "listeners", "id": id})))
        .collect();
    control.send(many).expect("sent");
    for id in 0..200 {
        assert_eq!(control.reply()["id"], id);
    }
    control.request(&json!({"cmd": "reload", "id": "mine"}));
    let mut events = 0;
    let reply = loop {
        let line = control.line().expect("a line");
        assert_eq!(line["id"], "mine");
        if line.get("ok").is_some() {
            break line;
        }
        assert_eq!(line["event"], "progress");
        assert_eq!(number(&line["op"]), 2);
        events += 1;
    };
    assert!(events >= 2, "begun, and one worker ready: {events}");
    assert_eq!(
        (&reply["ok"], number(&reply["op"]), &reply["generation"]),
        (&json!(true), 2, &json!(2))
    );
    master.stop();
}

/// The number in the word that is an operation's id.
fn number(op: &serde_json::Value) -> u64 {
    let word = op.as_str().expect("a word");
    let (number, master) = word.split_once('-').expect("number-master");
    assert!(!master.is_empty(), "{word}");
    number.parse().expect("a number")
}

#[test]
fn the_same_key_runs_once() {
    let scene = Scene::new();
    let master = service(&scene);
    let mut control = master.control();
    let reload = |key: &str, wait: bool| json!({"cmd": "reload", "key": key, "wait": wait});
    let first = control.ask(&reload("a", false));
    assert_eq!(number(&first["op"]), 2);
    let again = control.ask(&reload("a", true));
    assert_eq!(
        (&again["ok"], &again["op"], &again["generation"]),
        (&json!(true), &first["op"], &json!(2)),
        "it joins the first"
    );
    // Also from another connection, and when it is over long ago.
    let again = master.control().ask(&reload("a", true));
    assert_eq!((&again["ok"], &again["op"]), (&json!(true), &first["op"]));
    let other = control.ask(&reload("b", true));
    assert_eq!((number(&other["op"]), &other["generation"]), (3, &json!(3)));
    assert_eq!(master.status()["generation"], 3);

    // The same key for something else is a mistake of the client.
    let scale = json!({"cmd": "scale", "workers": "2", "key": "a"});
    let (code, message) = error(&control.ask(&scale));
    assert_eq!(code, "refused");
    assert!(message.contains("another command"), "{message}");

    // A refused request did not run: the same key may try again.
    scene.app(crate::common::service::scene::GATED);
    let running = control.ask(&reload("c", false));
    assert_eq!(number(&running["op"]), 4);
    assert_eq!(error(&master.control().ask(&reload("d", true))).0, "busy");
    scene.open_door(0);
    let wait = json!({"cmd": "wait", "op": running["op"]});
    assert_eq!(control.ask(&wait)["ok"], true);
    scene.app(crate::common::service::scene::RESTING);
    assert_eq!(control.ask(&reload("d", true))["generation"], 5);
    master.stop();
}

#[test]
fn a_key_is_known_after_both_upgrades() {
    let scene = Scene::new();
    let processes = SceneProcesses::of(&scene);
    let master = scene.master("-n 1 --ready fd=9").start();
    let request = |cmd: &str| json!({"cmd": cmd, "key": "deploy-7"});
    let first = master.control().ask(&request("reload"));
    for verb in ["upgrade", "upgrade --fork"] {
        master.ctl(verb).succeeded();
        let again = master.control().ask(&request("reload"));
        assert_eq!(again["op"], first["op"], "{verb}: {again}");
        let (code, _) = error(&master.control().ask(&request("pause")));
        assert_eq!(code, "refused", "{verb}");
    }
    // Two reloads would have made two more generations.
    assert_eq!(master.status()["generation"], 4);
    master.ctl("stop").succeeded();
    processes.gone();
}

#[test]
fn the_status_document_has_every_field_of_the_contract() {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready fd=9 --listen web=127.0.0.1:0")
        .start();
    master.ctl("reload").succeeded();
    let status = master.status();
    let fields = |value: &Value| {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
    };
    let all = |names: &str| {
        names
            .split_whitespace()
            .map(str::to_owned)
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(
        fields(&status),
        all(
            "version protocol pid role state generation started_at uptime_s command release \
             program cwd changes workers listeners slots starting retiring \
             rollout operations counters"
        )
    );
    assert_eq!(
        fields(&status["workers"]),
        all("wanted ready starting retiring backoff")
    );
    assert_eq!(
        fields(&status["listeners"][0]),
        all("name address fd queued backlog drops")
    );
    assert_eq!(
        fields(&status["slots"][0]),
        all(
            "slot pid generation state started_at uptime_s ready_after_s heartbeat_age_s beats \
             requests connections status restarts rss_bytes cpu_s \
             cpu_total_s last_exit"
        )
    );
    assert_eq!(
        fields(&status["slots"][0]["last_exit"]),
        all("cause code signal core at output")
    );
    assert_eq!(
        fields(&status["counters"]),
        all(
            "spawned readied died failed_starts killed rollouts rolled_back log_lines_lost \
             clients_dropped requests connections exits"
        )
    );
    assert_eq!(
        fields(&status["rollout"]),
        all("op kind from to result error took_s")
    );
    assert_eq!(
        (&status["protocol"], &status["version"]),
        (&json!(1), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert!(
        status["slots"][0]["rss_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 10_000),
        "{status}"
    );
    let text = std::process::Command::new(env!("CARGO_BIN_EXE_pf-status"))
        .arg(scene.path("app.pid"))
        .output()
        .expect("pf-status");
    assert_eq!(text.status.code(), Some(0));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("web") && text.contains("ready") && text.contains("reload"),
        "{text}"
    );
    master.stop();
}

/// While the master is stopped, `first` and then `second` send their lines; then it goes on. So
/// both are there before the master reads any, and the order of what follows is the master's.
fn sent_together(
    master: &Master,
    (first, lines): (&mut Control, &str),
    then: impl FnOnce(),
) -> Vec<Value> {
    let count = lines.lines().count();
    master.signal(nix::sys::signal::Signal::SIGSTOP);
    crate::common::service::until("it is stopped", || {
        process::status(master.pid(), "State")
            .starts_with('T')
            .then_some(())
    });
    first.send(lines).expect("room in the socket");
    then();
    master.signal(nix::sys::signal::Signal::SIGCONT);
    (0..count).map(|_| first.reply()).collect()
}

#[test]
fn p4_whoever_pipelines_requests_waits_and_no_other_client_and_no_worker_does() {
    let scene = Scene::new();
    let master = service(&scene);
    let (mut greedy, mut other) = (master.control(), master.control());
    greedy.status();
    other.status();
    let flood = "{\"cmd\":\"status\"}\n".repeat(400);
    let replies = sent_together(&master, (&mut greedy, &flood), || {
        other.request(&json!({"cmd": "scale", "workers": 2}));
    });
    // One request of each a turn: at most the one of this turn comes before.
    let before = |replies: &[Value], is_after: &dyn Fn(&Value) -> bool| {
        let place = replies.iter().position(|reply| is_after(&reply["status"]));
        place.expect("it is seen before the flood is over")
    };
    let scaled = before(&replies, &|status| status["workers"]["wanted"] == 2);
    assert!(scaled <= 2, "{scaled} requests came before another's");
    assert_eq!(other.reply()["ok"], json!(true));
    // A worker's end: what workers do is looked at in each turn, before any client.
    let worker = master.workers()[0];
    let replies = sent_together(&master, (&mut greedy, &flood), || {
        process::signal(worker, nix::sys::signal::Signal::SIGKILL);
        process::gone(worker);
    });
    let replaced = before(&replies, &|status| status["slots"][0]["pid"] != worker);
    assert!(
        replaced <= 1,
        "{replaced} requests came before a worker's end"
    );
    assert_eq!(replies.len(), 400, "and each is answered, in order");
}
