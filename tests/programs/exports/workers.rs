//! What `pf-master` tells its workers, across reloads and upgrades.

use std::collections::BTreeMap;

use crate::common::service::process::environment;
use crate::common::service::scene_processes::SceneProcesses;
use crate::common::service::{Master, Scene};

const LISTENERS: &str = "--listen web=127.0.0.1:0 --listen unix:x.sock";

/// The variables of one protocol or another.
fn told(pid: i32) -> BTreeMap<String, String> {
    let mut environment = environment(pid);
    environment.retain(|name, _| {
        ["EINHORN", "SERVER_STARTER", "UNICORN", "NGINX", "FPM"]
            .iter()
            .any(|start| name.starts_with(start))
    });
    environment
}

fn slot_1(master: &Master) -> (i32, BTreeMap<String, String>) {
    let pid = master.workers()[1];
    (pid, told(pid))
}

#[test]
fn workers_get_each_protocol_across_reload_and_upgrade() {
    let scene = Scene::new();
    let options = format!(
        "-n 2 --ready exec {LISTENERS} -e einhorn -e server-starter -e unicorn -e nginx --export \
         php-fpm"
    );
    // Variables meant for another process are not passed on.
    let master = scene
        .master(&options)
        .command(["sleep", "1000"])
        .env("EINHORN_FD_7", "9")
        .env("EINHORN_FDS", "9")
        .env("EINHORN_SOCK_FD", "9")
        .env("UNICORN_WORKER", "1,2,3")
        .start();
    let acks = scene.path(&format!("app.{}.ack", master.pid()));
    let mut expected: BTreeMap<String, String> = [
        ("EINHORN_FD_COUNT", "2".to_owned()),
        ("EINHORN_FD_0", "3".to_owned()),
        ("EINHORN_FD_1", "4".to_owned()),
        ("EINHORN_MASTER_PID", master.pid().to_string()),
        ("EINHORN_CHILD_INDEX", "1".to_owned()),
        ("EINHORN_SOCK_PATH", acks.display().to_string()),
        ("SERVER_STARTER_GENERATION", "1".to_owned()),
        ("UNICORN_FD", "3,4".to_owned()),
        ("NGINX", "3;4;".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let bound = crate::common::service::master::address(&master.status(), 0);
    let path = scene.path("x.sock").canonicalize().expect("bound");
    let path = path.display();
    expected.insert("SERVER_STARTER_PORT".into(), format!("{bound}=3;{path}=4"));
    expected.insert("FPM_SOCKETS".into(), format!("{bound}=3,{path}=4"));
    let (pid, told) = slot_1(&master);
    assert_eq!(told, expected);
    assert_eq!(environment(pid)["LISTEN_FDS"], "2");
    for (verb, generation) in [
        ("reload", "2"),
        ("upgrade", "3"),
        ("upgrade", "4"),
        ("reload", "5"),
    ] {
        master.ctl(verb).succeeded();
        expected.insert("SERVER_STARTER_GENERATION".into(), generation.into());
        let (_, told) = slot_1(&master);
        assert_eq!(told, expected, "after {verb}");
    }
    assert!(acks.exists());
    master.stop();
    assert!(!acks.exists(), "it is left");
}

#[test]
fn workers_get_the_protocols_the_master_was_given() {
    let scene = Scene::new();
    let master = scene
        .master("-n 2 --ready exec")
        .command(["sleep", "1000"])
        .wrapped_in([
            crate::common::running::pf_listen(),
            "-e",
            "unicorn",
            "-e",
            "nginx",
            "127.0.0.1:0",
            "--",
            // The numbers are others than systemd's would be.
            "sh",
            "-c",
            r#"unset LISTEN_FDS LISTEN_PID LISTEN_FDNAMES; exec 6<&3 3<&-
               UNICORN_FD=6 NGINX='6;' exec "$@""#,
            "sh",
        ])
        .start();
    let expected: BTreeMap<String, String> = [("UNICORN_FD", "3"), ("NGINX", "3;")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(slot_1(&master).1, expected);
    for verb in ["reload", "upgrade", "upgrade"] {
        master.ctl(verb).succeeded();
        assert_eq!(slot_1(&master).1, expected, "after {verb}");
    }
    assert_eq!(
        master.status()["listeners"].as_array().map(Vec::len),
        Some(1)
    );
    // Other protocols than it was given, or none, on request.
    let other = Scene::new();
    let master = other
        .master("-n 2 --ready exec --export systemd")
        .command(["sleep", "1000"])
        .wrapped_in([
            crate::common::running::pf_listen(),
            "-e",
            "unicorn",
            "127.0.0.1:0",
            "--",
        ])
        .start();
    assert_eq!(slot_1(&master).1, BTreeMap::new());
    assert_eq!(environment(master.workers()[0])["LISTEN_FDS"], "1");
}

#[test]
fn without_a_listener_the_variables_are_empty() {
    const EMPTY: [(&str, &str); 5] = [
        ("EINHORN_FD_COUNT", "0"),
        ("SERVER_STARTER_PORT", ""),
        ("UNICORN_FD", ""),
        ("NGINX", ""),
        ("FPM_SOCKETS", ""),
    ];
    for options in [
        // Asked for, and as inherited from a starter that has no port.
        "-n 2 --ready exec -e einhorn -e server-starter -e unicorn -e nginx -e php-fpm",
        "-n 2 --ready exec",
    ] {
        let scene = Scene::new();
        // The new master of an upgrade by fork outlives this one.
        let processes = SceneProcesses::of(&scene);
        let mut launch = scene.master(options).command(["sleep", "1000"]);
        if !options.contains("-e") {
            launch = launch
                .env("EINHORN_MASTER_PID", std::process::id().to_string())
                .env("SERVER_STARTER_GENERATION", "7");
            for (name, value) in EMPTY {
                launch = launch.env(name, value);
            }
        }
        let master = launch.start();
        for verb in ["reload", "upgrade", "upgrade --fork", "reload"] {
            for (name, value) in EMPTY {
                assert_eq!(slot_1(&master).1.get(name).map(String::as_str), Some(value));
            }
            master.ctl(verb).succeeded();
        }
        master.ctl("stop").succeeded();
        processes.gone();
    }
}

#[test]
fn without_a_control_socket_no_ack_socket_exists() {
    let scene = Scene::new();
    let mut master = scene
        .master("-n 1 --ready exec --no-control --listen 127.0.0.1:0 -e einhorn")
        .spawn();
    let worker = scene.report("up").pid;
    let told = told(worker);
    assert_eq!(told["EINHORN_FD_COUNT"], "1");
    assert!(!told.contains_key("EINHORN_SOCK_PATH"), "{told:?}");
    master.wait_for_log("einhorn's worker:ack is not read");
    let left = std::fs::read_dir(scene.dir()).expect("ours").flatten();
    let acks = left.filter(|entry| entry.file_name().to_string_lossy().ends_with(".ack"));
    assert_eq!(acks.count(), 0);
    master.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(master.end(), Some(0));
}

#[test]
fn unfit_protocols_and_reserved_variables_are_usage_errors() {
    let scene = Scene::new();
    for options in [
        "--check --listen vsock::1 -e nginx",
        "--listen vsock::1 -e nginx",
        "--check --listen 127.0.0.1:0,copies=2 -e php-fpm",
    ] {
        let said = scene.master(options).run();
        said.failed(2, &["--export", "cannot hold"]);
    }
    for variable in ["NGINX=3;", "EINHORN_FD_0=3", "EINHORN_SOCK_PATH=/x"] {
        let said = scene.master("--check").option("--env", variable).run();
        said.failed(2, &["the master's own"]);
    }
}
