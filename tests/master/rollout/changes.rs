//! `reload --set`, `--unset`, `--chdir`, NEWCOMMAND: changes that are kept, shown, and rolled back
//! as a whole.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::common::service::control::error;
use crate::common::service::process::cwd;
use crate::common::service::{Master, Scene};

const OPTIONS: &str = "-n 1 --ready fd=9 --backoff 1ms..2ms --env A=option";

/// Tells its arguments and variables.
const TELLING: &str = r#"say "args=$* A=${A-none} B=${B-none}"; up; rest"#;

fn start(scene: &Scene) -> Master {
    std::fs::create_dir(scene.path("sub")).expect("a directory");
    scene.app(TELLING);
    let master = scene.master(OPTIONS).env("B", "start").start();
    scene.report("args= A=option B=start");
    master
}

#[test]
fn reload_changes_are_kept_shown_and_rolled_back() {
    let scene = Scene::new();
    let master = start(&scene);
    let app = scene.path("app").display().to_string();
    let command = format!("sh {app} one two");
    assert_eq!(master.status()["changes"], json!({}));

    master
        .ctl(&format!(
            "reload --set A=set --unset B --chdir sub -- {command}"
        ))
        .succeeded();
    let told = "args=one two A=set B=none";
    let sub = std::fs::canonicalize(scene.path("sub")).expect("real");
    assert_eq!(cwd(scene.report(told).pid), sub);
    let changes = json!({
        "set": {"A": "set"}, "unset": ["B"], "chdir": "sub", "command": ["sh", &app, "one", "two"],
    });
    let status = master.status();
    assert_eq!(status["changes"], changes);
    assert_eq!(status["command"], changes["command"]);
    assert_eq!(status["cwd"], json!(sub));

    // A plain reload keeps them, and so do HUP and a worker that dies.
    master.ctl("reload").succeeded();
    scene.report(told);
    master.signal(Signal::SIGHUP);
    assert_eq!(cwd(scene.report(told).pid), sub);
    let status = master.until("rolled", |status| {
        status["generation"] == 4 && status["rollout"]["result"] == "done"
    });
    crate::common::service::process::signal(
        crate::common::service::master::pids(&status["slots"])[0],
        Signal::SIGKILL,
    );
    scene.report(told);
    master.ctl("wait --ready").succeeded();

    // Later ones add to them; a variable that is unset is not there at all.
    master.ctl("reload --unset A --set B=again").succeeded();
    scene.report("args=one two A=none B=again");

    // A rollback brings those of its generation back, and what it undid stays undone.
    master.ctl("rollback").succeeded();
    scene.report(told);
    assert_eq!(master.status()["changes"], changes);
    master.ctl("reload").succeeded();
    scene.report(told);

    // So does a rollout that fails.
    master
        .ctl("reload --set A=bad --chdir / -- sh -c exit")
        .failed(1, &["before it was ready"]);
    assert_eq!(master.status()["changes"], changes);
    master.ctl("reload").succeeded();
    scene.report(told);
    assert_eq!(scene.unread_reports(), []);
    master.stop();
}

#[test]
fn reload_options_that_cannot_work_are_refused() {
    let scene = Scene::new();
    let master = start(&scene);
    let workers = master.workers();
    for (wrong, parts) in [
        ("-- ./nothing", ["worker program ./nothing", "No such file"]),
        ("-- /dev/null", ["worker program /dev/null", "ermission"]),
        ("--chdir nowhere", ["working directory", "nowhere"]),
    ] {
        for verb in ["reload", "reload --dry-run"] {
            master.ctl(&format!("{verb} {wrong}")).failed(1, &parts);
        }
    }
    for wrong in ["--set A", "--set =1", "--unset A=1", "--set PF_WORKER=1"] {
        master.ctl(&format!("reload {wrong}")).failed(2, &[]);
    }
    // A client that writes the protocol itself gets the same answer.
    let mut control = master.control();
    for changes in [
        json!({"cmd": "reload", "set": {"LISTEN_FDS": "1"}}),
        json!({"cmd": "reload", "unset": ["A="]}),
        json!({"cmd": "reload", "command": []}),
        json!({"cmd": "reload", "dry_run": true, "chdir": ""}),
    ] {
        assert_eq!(error(&control.ask(&changes)).0, "usage", "{changes}");
    }
    let status = master.status();
    assert_eq!(
        (&status["generation"], &status["changes"]),
        (&json!(1), &json!({}))
    );
    assert_eq!(master.workers(), workers);
    assert_eq!(scene.unread_reports(), []);
    master.ctl("reload --set A=good").succeeded();
    scene.report("args= A=good B=start");
    master.stop();
}

#[test]
fn bytes_that_are_no_text_reach_the_workers() {
    let scene = Scene::new();
    let master = start(&scene);
    scene.app(r#"say "$(printf %s "$A" | od -An -tx1)"; up; rest"#);
    let mut control = master.control();
    let reply = control.ask(&json!({"cmd": "reload", "set": {"A": [0x66, 0xff, 0x0a, 0x67]}}));
    assert_eq!(reply["ok"], json!(true), "{reply}");
    scene.report(" 66 ff 0a 67");
    master.ctl("reload").succeeded();
    scene.report(" 66 ff 0a 67");
    assert_eq!(
        master.status()["changes"]["set"]["A"],
        json!([0x66, 0xff, 0x0a, 0x67])
    );
    master.stop();
}

#[test]
fn a_dry_run_lists_changes_and_makes_none() {
    let scene = Scene::new();
    scene.app(TELLING);
    std::fs::create_dir(scene.path("sub")).expect("a directory");
    scene.script("sub/other", TELLING);
    let master = scene.master("-n 3 --ready fd=9 --env A=1 --surge 2");
    let master = master.command(["./app", "x"]).start();
    scene.reports("args=x A=1 B=none", 3);
    let real = std::fs::canonicalize(scene.dir()).expect("real");
    let real = real.display();

    let plan = master.ctl("reload --dry-run --set A=2 --set C=3 --chdir sub -- ./other y");
    let plan = plan.succeeded().stdout;
    let mut lines = plan.lines();
    let mut next = || lines.next().unwrap_or_default().to_owned();
    assert_eq!(next(), "command      ./app x -> ./other y");
    assert_eq!(
        next(),
        format!("program      {real}/app -> {real}/sub/other")
    );
    assert!(next().starts_with("inode        "), "{plan}");
    assert_eq!(next(), format!("cwd          {real} -> {real}/sub"));
    let expected = "environment  -A=1\n             +A=2\n             +C=3\n\
                    listeners    unchanged\npeak workers 5\n";
    assert!(plan.ends_with(expected), "{plan}");

    // The same name may now be another file than the one that runs.
    let unchanged = master.ctl("reload --dry-run").succeeded().stdout;
    assert!(unchanged.contains(" (unchanged)\ncwd "), "{unchanged}");
    scene.app(TELLING);
    let replaced = master.ctl("reload --dry-run").succeeded().stdout;
    let inode = replaced.lines().find(|line| line.starts_with("inode"));
    assert!(
        inode.is_some_and(|line| line.contains(" -> ")),
        "{replaced}"
    );

    let status = master.status();
    assert_eq!(
        (&status["generation"], &status["changes"]),
        (&json!(1), &json!({}))
    );
    assert_eq!(scene.unread_reports(), []);
    master.stop();
}

#[test]
fn a_new_command_resets_what_ready_auto_has_learnt() {
    let scene = Scene::new();
    scene.app(r#"play "ready; say up; catch""#);
    let options = "-n 1 --start-timeout 10s --start-failures 1";
    let master = scene.master(options).start();
    scene.report("up");
    scene.script("silent", "say silent; rest");
    let silent = scene.path("silent").display().to_string();
    master.ctl(&format!("reload -- sh {silent}")).succeeded();
    scene.report("silent");
    // What was known of the old command holds where it comes back.
    master.ctl("rollback").succeeded();
    scene.app("say mute; rest");
    let mut reload = master.start_ctl("reload");
    let mute = scene.report("mute");
    master.until("older than silence would have to be", |status| {
        let starting = &status["starting"][0];
        starting["pid"] == mute.pid && starting["uptime_s"].as_f64() > Some(1.5)
    });
    assert!(reload.runs());
    master.ctl("rollback").succeeded();
    reload.end().failed(1, &["rollback"]);
    master.stop();
}
