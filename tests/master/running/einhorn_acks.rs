//! einhorn's `worker:ack` and `worker:ping`, and from which processes they count.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use serde_json::Value;

use crate::common::service::{HANG, Master, Scene};

const OPTIONS: &str = "-n 1 --ready notify --listen 127.0.0.1:0 -e einhorn";

const ACK: &str = r#"einhorn {"command":"worker:ack", "pid":PID}"#;

fn path(scene: &Scene, master: &Master) -> PathBuf {
    scene.path(&format!("app.{}.ack", master.pid()))
}

/// Connects as this test, which is no worker.
fn dial(scene: &Scene, master: &Master) -> UnixStream {
    let stream = UnixStream::connect(path(scene, master)).expect("connected");
    stream.set_read_timeout(Some(HANG)).expect("set");
    stream
}

fn answer(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an end in time");
    text
}

fn starting(status: &Value) -> bool {
    status["slots"][0]["state"] == "starting"
}

#[test]
fn an_ack_of_the_worker_or_its_group_is_readiness() {
    for app in [
        format!("play '{ACK}; say told; catch'"),
        // As the Ruby library writes it.
        "play 'einhorn ---%0Acommand: worker:ack%0Apid: PID%0A; say told; catch'".to_owned(),
        format!("helper '{ACK}; say told'; rest"),
    ] {
        let scene = Scene::new();
        scene.app(&format!(
            r#"say up; read x <"$PF_TEST_DOOR$PF_WORKER"; {app}"#
        ));
        let master = scene.master(OPTIONS).spawn();
        scene.report("up");
        assert!(starting(&master.status()));
        scene.open_door(0);
        scene.report("told");
        master.ctl("wait --ready --timeout 60s").succeeded();
        assert!(
            scene
                .unread_reports()
                .iter()
                .all(|report| report.text != "answered")
        );
    }
}

#[test]
fn acks_count_after_reloads_and_upgrades() {
    let scene = Scene::new();
    scene.app(&format!("play '{ACK}; catch'"));
    let master = scene.master(OPTIONS).start();
    for verb in ["reload", "upgrade", "reload", "upgrade"] {
        let before = master.workers();
        master.ctl(verb).succeeded();
        assert_ne!(master.workers(), before, "{verb}");
    }
    let acks = path(&scene, &master);
    master.stop();
    assert!(!acks.exists());
}

#[test]
fn u8_acked_then_died_is_never_a_failed_start() {
    let scene = Scene::new();
    scene.app(&format!("helper '{ACK}'; exit 3"));
    let options = format!("{OPTIONS} --backoff 1ms..1ms --start-failures 1000");
    let master = scene.master(&options).spawn();
    let status = master.until("many deaths", |status| {
        status["counters"]["died"].as_u64() >= Some(20)
    });
    let log = master.log();
    assert!(!log.contains("before it was ready"), "{log}");
    assert!(
        status["counters"]["readied"].as_u64() >= Some(19),
        "{status}"
    );
}

#[test]
fn an_ack_from_outside_the_group_is_refused() {
    let scene = Scene::new();
    scene.app("say up; rest");
    let master = scene.master(OPTIONS).spawn();
    let worker = scene.report("up").pid;
    let mode = std::fs::metadata(path(&scene, &master))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = dial(&scene, &master);
    writeln!(stream, r#"{{"command":"worker:ack","pid":{worker}}}"#).expect("sent");
    assert!(answer(stream).contains("only worker:ack"));
    let line = master.wait_for_log("einhorn's socket: the message");
    let own = std::process::id();
    assert!(
        line.contains(&format!("the message of process {own} ")),
        "{line}"
    );
    assert!(
        line.contains("it is in no worker's process group"),
        "{line}"
    );
    assert!(starting(&master.status()));
}

#[test]
fn a_worker_may_only_ack_itself() {
    let scene = Scene::new();
    let master_pid = r#"'"$PF_MASTER_PID"'"#;
    scene.app(&format!(
        r#"helper 'einhorn {{"command":"worker:ack","pid":{master_pid}}}
            ; einhorn {{"command":"die"}}; einhorn hello; say told'; rest"#
    ));
    let master = scene.master(OPTIONS).spawn();
    scene.report("told");
    assert_eq!(scene.reports("answered", 3).len(), 3);
    for why in [
        "which is not of its worker",
        "'die' is not understood here",
        "'hello' is not a request",
    ] {
        master.wait_for_log(why);
    }
    assert!(starting(&master.status()));
}

#[test]
fn a_ping_shows_its_age_and_sets_no_timeout() {
    let scene = Scene::new();
    let ping = ACK.replace("ack", "ping");
    scene.app(&format!("play '{ACK}; {ping}; say pinged; catch'"));
    let master = scene.master(&format!("{OPTIONS} --timeout 200ms")).start();
    let worker = scene.report("pinged").pid;
    let age = |status: &Value| status["slots"][0]["heartbeat_age_s"].as_f64();
    master.until("its age is well beyond the timeout", |status| {
        age(status) > Some(0.5)
    });
    assert_eq!(master.workers(), [worker]);
    assert_eq!(master.status()["counters"]["died"], 0);
}

#[test]
fn silent_ack_clients_delay_no_other() {
    let scene = Scene::new();
    scene.app(&format!(
        r#"say up; read x <"$PF_TEST_DOOR$PF_WORKER"; play '{ACK}; catch'"#
    ));
    let master = scene.master(OPTIONS).spawn();
    scene.report("up");
    let mut silent: Vec<UnixStream> = (0..200).map(|_| dial(&scene, &master)).collect();
    // The first connection was closed: read the end, or fail to write.
    let first = silent.remove(0);
    assert_eq!(answer(first), "");
    let mut half = silent.pop().expect("the last one");
    half.write_all(br#"{"command":"#).expect("sent");
    // Not a line, nor ever the end of one.
    let mut long = silent.pop().expect("another");
    let flood = vec![b'x'; 100_000];
    let _ = long.write_all(&flood);
    // The master closes with the rest of the flood unread, which the kernel tells as a reset; the
    // answer comes before it.
    let mut text = Vec::new();
    if let Err(error) = long.read_to_end(&mut text) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert!(String::from_utf8_lossy(&text).contains("only worker:ack"));
    scene.open_door(0);
    master.ctl("wait --ready --timeout 60s").succeeded();
    let open = crate::common::service::process::descriptors(master.pid()).len();
    assert!(open < 120, "{open}");
    // What was begun before an upgrade is ended after it.
    scene.app(&format!("play '{ACK}; catch'"));
    master.ctl("upgrade").succeeded();
    half.write_all(b"\"die\"}\n").expect("sent");
    assert!(answer(half).contains("only worker:ack"));
    master.wait_for_log("'die' is not understood here");
    master.stop();
}

#[test]
fn ack_sockets_of_a_killed_master_are_removed() {
    let scene = Scene::new();
    let live = UnixListener::bind(scene.path("app.1.ack")).expect("bound");
    drop(UnixListener::bind(scene.path("app.2.ack")).expect("bound"));
    drop(UnixListener::bind(scene.path("other.3.ack")).expect("bound"));
    std::fs::write(scene.path("app.4.ack"), "mine").expect("written");
    scene.app(&format!("play '{ACK}; catch'"));
    let master = scene.master(OPTIONS).start();
    let is = |name: &str| scene.path(name).exists();
    assert!(is("app.1.ack") && is("other.3.ack") && is("app.4.ack"));
    assert!(!is("app.2.ack"));
    drop(live);
    master.stop();
}
