//! What goes over the wire, what comes out, and the exit code.

use std::ffi::{OsStr, OsString};

use serde_json::{Value, json};

use super::fake::{Scene, ctl};

const DONE: &str = "{\"ok\":true,\"op\":7,\"message\":\"reloaded: generation 2\"}\n";

#[test]
fn every_verb_sends_its_request() {
    let cases = [
        ("reload T", json!({"cmd": "reload"})),
        ("rollback T", json!({"cmd": "rollback"})),
        ("rollback T --to 3", json!({"cmd": "rollback", "to": 3})),
        ("scale T 4", json!({"cmd": "scale", "workers": "4"})),
        ("scale T +1", json!({"cmd": "scale", "workers": "+1"})),
        ("scale T -2", json!({"cmd": "scale", "workers": "-2"})),
        (
            "scale T -2 --timeout 9s",
            json!({"cmd": "scale", "workers": "-2"}),
        ),
        (
            "scale --timeout 9s T -2",
            json!({"cmd": "scale", "workers": "-2"}),
        ),
        ("pause T", json!({"cmd": "pause"})),
        ("resume T", json!({"cmd": "resume"})),
        (
            "restart-worker T 3",
            json!({"cmd": "restart-worker", "slot": 3}),
        ),
        ("reopen T", json!({"cmd": "reopen"})),
        ("signal T HUP", json!({"cmd": "signal", "signal": "HUP"})),
        (
            "signal T sigterm --workers",
            json!({"cmd": "signal", "signal": "TERM", "workers": true}),
        ),
        (
            "signal T USR2 --slot 0",
            json!({"cmd": "signal", "signal": "USR2", "slot": 0}),
        ),
        (
            "signal T KILL --workers",
            json!({"cmd": "signal", "signal": "KILL", "workers": true}),
        ),
        ("wait T --ready", json!({"cmd": "wait", "ready": true})),
        ("wait T --op 12-k2", json!({"cmd": "wait", "op": "12-k2"})),
        (
            "reload T --no-wait",
            json!({"cmd": "reload", "wait": false}),
        ),
        ("stop T --no-wait", json!({"cmd": "stop", "wait": false})),
        (
            "stop T --no-wait --now",
            json!({"cmd": "stop", "now": true, "wait": false}),
        ),
    ];
    for (line, expected) in cases {
        let scene = Scene::new();
        let master = scene.answer(DONE);
        let control = scene.control();
        let ended = ctl(line.split(' ').map(|word| {
            if word == "T" {
                control.as_os_str()
            } else {
                word.as_ref()
            }
        }));
        ended.succeeded();
        assert_eq!(master.end(), expected, "{line}");
        assert!(
            ended.stderr.ends_with("pf-ctl: reloaded: generation 2\n"),
            "{line}: {ended:?}"
        );
        assert_eq!(
            ended.stdout,
            if line.contains("--no-wait") {
                "7\n"
            } else {
                ""
            },
            "{line}"
        );
    }
}

#[test]
fn every_code_has_its_exit() {
    let cases = [
        ("failed", 1),
        ("aborted", 1),
        ("from-the-future", 1),
        ("usage", 2),
        ("bad-request", 2),
        ("unknown-command", 2),
        ("permission", 4),
        ("busy", 6),
        ("refused", 6),
    ];
    for (code, exit) in cases {
        let scene = Scene::new();
        let reply =
            json!({"ok": false, "error": {"code": code, "message": "slot 1:\nno\u{1b}[2Jt today"}});
        let master = scene.answer(&format!("{reply}\n"));
        let ended = ctl(["reload".as_ref(), scene.control().as_os_str()]);
        ended.failed(exit, "pf-ctl: reload: slot 1:\\nno\\u{1b}[2Jt today");
        assert_eq!(ended.stdout, "");
        master.end();
    }
}

#[test]
fn garbage_is_an_error_of_one_line() {
    let cases: [&[u8]; 6] = [
        b"pardon?\n",
        b"\xff\xfe\xfd\n",
        b"{}\n",
        b"[]\n",
        b"{\"ok\":\"maybe\"}\n",
        b"{\"event\":\"progress\",\"op\":[]}\n",
    ];
    for bytes in cases {
        let scene = Scene::new();
        let master = scene.play(move |mut peer| {
            peer.request();
            peer.say(bytes);
        });
        ctl(["reload".as_ref(), scene.control().as_os_str()])
            .failed(1, "cannot read the master's answer");
        master.end();
    }
}

#[test]
fn an_answer_without_its_data_is_an_error() {
    for args in [&["listeners"][..], &["reload", "--dry-run"]] {
        let scene = Scene::new();
        let master = scene.answer("{\"ok\":true}\n");
        let control = scene.control();
        ctl(args
            .iter()
            .map(|arg| (*arg).as_ref())
            .chain([control.as_os_str()]))
        .failed(1, "cannot read the master's answer");
        master.end();
    }
}

#[test]
fn a_master_that_dies_is_exit_3() {
    let last_words = [
        "{\"event\":\"progress\",\"op\":7,\"done\":0,\"total\":4}\n",
        "{\"ok\":tr",
        "{\"event\":\"progress\",\"op\":\"x\"}\n",
    ];
    for words in last_words {
        let scene = Scene::new();
        let master = scene.answer(words);
        ctl(["reload".as_ref(), scene.control().as_os_str()]).failed(3, "the master died");
        master.end();
    }
}

#[test]
fn p2_a_master_that_lives_and_says_nothing_asks_for_a_token() {
    let scene = Scene::new();
    let control = scene.control();
    let without = "it asks for a token";
    let with = "it asks for another token";
    for (token, expected) in [(None, without), (Some("wrong\n"), with)] {
        let mut args = vec!["reload".into(), control.clone().into_os_string()];
        if let Some(token) = token {
            let file = scene.dir().join("token");
            std::fs::write(&file, token).expect("written");
            args.extend(["--token".into(), file.into_os_string()]);
        }
        let master = scene.play(|mut peer| peer.request());
        ctl(args.iter().map(OsString::as_os_str)).failed(4, expected);
        let first = master.end();
        assert_eq!(first.get("token").is_some(), token.is_some(), "{first}");
        std::fs::remove_file(&control).expect("removed");
    }
    ctl(["reload", "T", "--token", "/nowhere/at/all"].map(OsStr::new))
        .failed(111, "cannot read token /nowhere/at/all");
}

#[test]
fn json_is_the_reply_as_it_came() {
    let scene = Scene::new();
    let reply =
        "{\"op\":7, \"ok\":true,\"shiny\":[1,2],\"warnings\":[\"old workers still drain\"]}";
    let master = scene.answer(&format!("{{\"event\":\"gossip\"}}\n{reply}\n"));
    let ended = ctl([
        "reload".as_ref(),
        scene.control().as_os_str(),
        "--json".as_ref(),
    ]);
    ended.succeeded();
    assert_eq!(ended.stdout, format!("{reply}\n"));
    assert_eq!(
        ended.stderr,
        "pf-ctl: reload: warning: old workers still drain\n"
    );
    master.end();
}

#[test]
fn json_is_printed_for_refusals_too() {
    let scene = Scene::new();
    let reply = "{\"ok\":false,\"error\":{\"code\":\"busy\",\"message\":\"a rollout runs\"}}";
    let master = scene.answer(&format!("{reply}\n"));
    let ended = ctl([
        "reload".as_ref(),
        scene.control().as_os_str(),
        "--json".as_ref(),
    ]);
    ended.failed(6, "a rollout runs");
    assert_eq!(ended.stdout, format!("{reply}\n"));
    master.end();
}

#[test]
fn listeners_are_a_table() {
    let scene = Scene::new();
    let master = scene.answer(
        "{\"ok\":true,\"listeners\":[\
         {\"name\":\"http\",\"address\":\"tcp:127.0.0.1:8080\",\
         \"fd\":3,\"queued\":2,\"backlog\":128},\
         {\"name\":null,\"address\":\"unix:/run/a \
         b\",\"fd\":4,\"queued\":null,\"backlog\":null}]}\n",
    );
    let ended = ctl(["listeners".as_ref(), scene.control().as_os_str()]);
    ended.succeeded();
    assert_eq!(
        ended.stdout,
        "NAME  ADDRESS             FD  QUEUE\n\
         http  tcp:127.0.0.1:8080   3  2/128\n\
         -     unix:/run/a b        4      -\n"
    );
    assert_eq!(master.end(), json!({"cmd": "listeners"}));
}

#[test]
fn a_dry_run_prints_the_plan() {
    let scene = Scene::new();
    let plan: Value = json!({
        "program": {"from": "/srv/1/app", "to": "/srv/2/app"}, "inode": {"from": 11, "to": 12},
        "cwd": {"from": "/srv", "to": "/srv"}, "environment": ["+A=1"],
        "listeners": ["-tcp:127.0.0.1:80"],
        "peak_workers": 5,
    });
    let master = scene.answer(&format!("{}\n", json!({"ok": true, "plan": plan})));
    let ended = ctl([
        "reload".as_ref(),
        scene.control().as_os_str(),
        "--dry-run".as_ref(),
    ]);
    ended.succeeded();
    assert_eq!(
        ended.stdout,
        "program      /srv/1/app -> /srv/2/app\n\
         inode        11 -> 12\n\
         cwd          /srv (unchanged)\n\
         environment  +A=1\n\
         listeners    -tcp:127.0.0.1:80\n\
         peak workers 5\n"
    );
    assert_eq!(master.end(), json!({"cmd": "reload", "dry_run": true}));
}

#[test]
fn wrong_usage_is_exit_2_before_anything_is_sent() {
    ctl(["scale", "/nowhere.pid", "four"]).failed(
        2,
        "pf-ctl: scale: 'four' is not a number of workers (N, +N or -N)",
    );
    ctl(["scale", "/nowhere.pid", "-2x"].iter()).failed(2, "unexpected argument '-2' found");
    ctl(["stop", "/nowhere.pid", "--kill"]).failed(2, "--kill needs --timeout");
    ctl(["reload", "/"]).failed(2, "neither a pid file nor a control socket");
    ctl(["reload", "/nowhere.pid", "--"]).failed(2, "pf-ctl: reload: nothing stands after --");
    // Whose last word it is, is the command's own business.
    ctl(["reload", "/nowhere.pid", "--", "app", "--"]).failed(3, "");
    ctl(["reload", "/nowhere.pid", "--set", "PF_WORKER=1"])
        .failed(2, "pf-ctl: reload: variable PF_WORKER is the master's own");
    ctl([""; 0]).failed_at_all(2);
    for line in [
        "dance T",
        "reload",
        "scale T",
        "restart-worker T x",
        "signal T NOPE",
        "wait T",
        "wait T --ready --gone",
    ] {
        ctl(line.split_whitespace()).failed(2, "see pf-ctl --help)");
    }
}

#[test]
fn help_and_version_are_data() {
    for arg in ["--help", "--version", "-h", "-V"] {
        let ended = ctl([arg]);
        ended.succeeded();
        assert!(
            ended.stdout.contains("pf-ctl") && ended.stderr.is_empty(),
            "{ended:?}"
        );
    }
    assert!(ctl(["--help"]).stdout.contains("Exit codes:"));
}

#[test]
fn events_are_printed_as_they_come_and_a_refusal_is_no_event() {
    let scene = Scene::new();
    let event = "{\"seq\":4,\"at\":\"2026-01-31T12:00:00.000Z\",\"event\":\"of-a-newer-master\"}\n";
    let master = scene.answer(&format!(
        "{{\"seq\":3,\"event\":\"following\",\"log\":\"z\"}}\n{event}{}",
        "{\"ok\":false,\"error\":{\"code\":\"refused\",\"message\":\"no more\"}}\n"
    ));
    let ended = ctl([
        "events".as_ref(),
        scene.control().as_os_str(),
        "--since=3".as_ref(),
        "--json".as_ref(),
    ]);
    ended.failed(6, "pf-ctl: events: no more");
    assert_eq!(ended.stdout, event);
    assert_eq!(master.end(), json!({"cmd": "events", "since": 3}));
}

#[test]
fn events_end_with_5_at_the_timeout() {
    let scene = Scene::new();
    let master = scene.play(|mut peer| {
        let request = peer.request();
        peer.say("{\"seq\":3,\"event\":\"following\",\"log\":\"z\"}\n");
        peer.until_left();
        request
    });
    let ended = ctl([
        "events".as_ref(),
        scene.control().as_os_str(),
        "--timeout=300ms".as_ref(),
    ]);
    ended.failed(5, "not finished after 300ms");
    assert_eq!(
        (master.end(), ended.stdout),
        (json!({"cmd": "events"}), String::new())
    );
}
