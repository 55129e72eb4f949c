//! The environment and the working directory of a worker.

use std::collections::BTreeSet;

use crate::common::service::master::pids;
use crate::common::service::process::{cwd, environment};
use crate::common::service::{Scene, process};

#[test]
fn workers_get_the_variables_of_the_contract() {
    let scene = Scene::new();
    let given = [
        ("LISTEN_FDS", "3"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDNAMES", "a:b:c"),
        ("LISTEN_PIDFDID", "7"),
        ("FDSTORE", "1"),
        ("NOTIFY_SOCKET", "@nobody-listens-here"),
        ("WATCHDOG_USEC", "1000000"),
        ("WATCHDOG_PID", "1"),
        ("PF_WORKER", "77"),
        ("PF_GENERATION", "77"),
        ("PF_MASTER_PID", "77"),
        ("PF_HEARTBEAT_FD", "77"),
        ("PF_HOLD", "77"),
        ("MINE", "a b\nc"),
    ];
    let launch = scene
        .master("-n 2 --ready exec --listen web=127.0.0.1:0 --listen 127.0.0.1:0")
        .command(["sleep", "1000"]);
    let master = given
        .into_iter()
        .fold(launch, |launch, (name, value)| launch.env(name, value))
        .start();
    let warning = master.wait_for_log("LISTEN_FDS is ignored");
    assert!(
        warning.contains("pid 1,") && warning.contains(&master.pid().to_string()),
        "{warning}"
    );

    let workers = master.workers();
    let mut addresses = BTreeSet::new();
    for (slot, pid) in workers.iter().enumerate() {
        let environment = environment(*pid);
        let of = |name: &str| environment.get(name).map(String::as_str);
        assert_eq!(of("LISTEN_FDS"), Some("2"));
        assert_eq!(of("LISTEN_PID"), Some(pid.to_string().as_str()));
        assert_eq!(of("LISTEN_FDNAMES"), Some("web:unknown"));
        assert_eq!(of("PF_WORKER"), Some(slot.to_string().as_str()));
        assert_eq!(of("PF_GENERATION"), Some("1"));
        assert_eq!(of("PF_MASTER_PID"), Some(master.pid().to_string().as_str()));
        assert_eq!(of("PF_HEARTBEAT_FD"), Some("5"));
        for gone in ["LISTEN_PIDFDID", "FDSTORE", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            assert_eq!(of(gone), None, "{gone}");
        }
        assert_eq!(of("MINE"), Some("a b\nc"));
        assert_eq!(of("PATH"), std::env::var("PATH").ok().as_deref());
        let notify = of("NOTIFY_SOCKET").expect("an address").to_owned();
        assert!(
            notify.starts_with('@') && notify.len() > 32,
            "abstract, 128 random bits: {notify}"
        );
        addresses.insert(notify);
    }
    assert_eq!(addresses.len(), 2, "each has an address of its own");

    master.ctl("reload").succeeded();
    let after = master.workers();
    assert_eq!(environment(after[1])["PF_GENERATION"], "2");
    assert_eq!(environment(after[1])["PF_WORKER"], "1");
}

#[test]
fn without_listeners_there_are_no_variables_of_them() {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready exec")
        .command(["sleep", "1000"])
        .start();
    let environment = environment(master.workers()[0]);
    assert!(
        !environment.keys().any(|name| name.starts_with("LISTEN_")),
        "{environment:?}"
    );
    assert_eq!(environment["PF_HEARTBEAT_FD"], "3");
}

#[test]
fn env_sets_and_clear_env_leaves_nothing_else() {
    let scene = Scene::new();
    let master = scene
        .master("-n 1 --ready exec --env A=1 --env B= --env A=2=3 --env PF_RELEASE=v7")
        .env("A", "0")
        .env("KEPT", "yes")
        .command(["sleep", "1000"])
        .start();
    let with = environment(master.workers()[0]);
    assert_eq!(
        (
            with["A"].as_str(),
            with["B"].as_str(),
            with["KEPT"].as_str()
        ),
        ("2=3", "", "yes")
    );
    assert_eq!(master.status()["release"], "v7");

    // Without PATH in its environment, the program is searched in the master's PATH.
    let other = Scene::new();
    let master = other
        .master("-n 1 --ready exec --clear-env --env ONLY=this")
        .command(["sleep", "1000"])
        .start();
    let clear = environment(master.workers()[0]);
    let names: Vec<&str> = clear.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "NOTIFY_SOCKET",
            "ONLY",
            "PF_GENERATION",
            "PF_HEARTBEAT_FD",
            "PF_MASTER_PID",
            "PF_WORKER"
        ]
    );
}

#[test]
fn chdir_is_relative_to_where_the_master_was_started() {
    let scene = Scene::new();
    std::fs::create_dir(scene.path("sub")).expect("a directory");
    scene.script("sub/tool", "say up; up; rest");
    let master = scene
        .master("-n 1 --ready fd=9 --chdir sub")
        .command(["./tool"])
        .start();
    let status = master.status();
    let worker = pids(&status["slots"])[0];
    let real = std::fs::canonicalize(scene.path("sub")).expect("real");
    assert_eq!(cwd(worker), real);
    assert_eq!(status["cwd"], real.to_str().expect("UTF-8"));
    assert_eq!(
        status["program"],
        real.join("tool").to_str().expect("UTF-8")
    );
    assert_eq!(status["command"], serde_json::json!(["./tool"]));

    let none = scene.master("-n 1 --chdir nowhere").names("").run();
    none.failed(1, &["working directory", "nowhere", "No such file"]);
}

#[test]
fn u28_arguments_arrive_as_they_were_given() {
    let scene = Scene::new();
    let arguments = [
        "sh",
        "-c",
        "say=1; exec sleep 1000",
        "two words",
        "",
        "*",
        "--",
        "-n",
    ];
    let master = scene.master("-n 1 --ready exec").command(arguments).start();
    let worker = master.workers()[0];
    // The shell becomes `sleep` in a moment; the status names the command that was given.
    assert_eq!(master.status()["command"], serde_json::json!(arguments));
    crate::common::service::until("it is sleep", || {
        (process::name(worker) == "sleep").then_some(())
    });
}
