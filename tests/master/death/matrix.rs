//! Each process of a service killed at any moment of each operation: what was promised holds, no
//! process, port or file is left, and the next start works.
//!
//! All pairs of an operation and a victim are numbered, and a moment is drawn for each. By default
//! a sample runs; `PF_KILLS=N` runs N of them, `PF_KILLS_FROM=N` begins at another number.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use prefork::sys::machine::clock;

use crate::common::running::pf_listen;
use crate::common::service::scene_processes::{SceneProcesses, children};
use crate::common::service::{Control, Ended, HANG, Scene, end_of, process, until};
use crate::common::support::ports;

/// How many of the pairs run by default.
const SAMPLE: usize = 10;

/// What is done meanwhile, as `pf-ctl` takes it.
const OPERATIONS: [&str; 7] = [
    "wait --ready --timeout 20s",
    "reload",
    "scale +1",
    "scale -1",
    "stop",
    "pause",
    "rollback",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Holder,
    Master,
    Guard,
    Oldest,
    Newest,
    Handler,
    Client,
}

const VICTIMS: [Victim; 7] = [
    Victim::Holder,
    Victim::Master,
    Victim::Guard,
    Victim::Oldest,
    Victim::Newest,
    Victim::Handler,
    Victim::Client,
];

/// A held service of pf-accept.
struct Service {
    scene: Scene,
    processes: SceneProcesses,
    address: SocketAddr,
}

impl Service {
    fn new() -> Service {
        let scene = Scene::new();
        let address = format!("127.0.0.1:{}", ports(1));
        Service {
            processes: SceneProcesses::of(&scene),
            scene,
            address: address.parse().expect("an address"),
        }
    }

    fn start(&self) -> Child {
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.scene.path("err"))
            .expect("a log");
        let master = env!("CARGO_BIN_EXE_pf-master");
        let accept = env!("CARGO_BIN_EXE_pf-accept");
        let line = format!(
            "--hold {} -- {master} -n 2 --pid app.pid --ready notify --graceful-timeout 2s \
             --backoff 20ms..20ms -- {accept} -c 2 --drain-timeout 50ms -- cat",
            self.address
        );
        Command::new(pf_listen())
            .args(line.split_whitespace())
            .current_dir(self.scene.dir())
            .env("PF_TEST_SAY", self.scene.path("say"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("pf-listen starts")
    }

    fn start_ctl(&self, line: &str) -> Child {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        Command::new(env!("CARGO_BIN_EXE_pf-ctl"))
            .arg(verb)
            .arg(self.scene.path("app.pid"))
            .args(rest.split_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pf-ctl starts")
    }

    #[track_caller]
    fn ctl(&self, line: &str) -> Ended {
        ended(self.start_ctl(line))
    }

    fn victim(&self, victim: Victim, holder: i32, client: i32) -> Option<i32> {
        let named = |parent: i32, name: &str| -> Vec<i32> {
            let mut named = children(parent);
            named.retain(|pid| process::name(*pid) == name);
            named.sort_unstable();
            named
        };
        let master = || named(holder, "pf-master").first().copied();
        let workers = || named(master().unwrap_or(0), "pf-accept");
        match victim {
            Victim::Holder => Some(holder),
            Victim::Client => Some(client),
            Victim::Master => master(),
            Victim::Guard => named(master()?, "pf-guard").first().copied(),
            Victim::Oldest => workers().first().copied(),
            Victim::Newest => workers().last().copied(),
            Victim::Handler => workers().into_iter().flat_map(children).next(),
        }
    }

    /// Stops what runs, also what the holder starts again.
    #[track_caller]
    fn stop_for_good(&self, holder: &mut Child) {
        until("the service has stopped", || {
            let ended = self.ctl("stop --timeout 30s");
            match ended.code {
                Some(0) => Some(()),
                // Nothing runs: for good, or until the holder starts it again.
                Some(3) => holder.try_wait().expect("our child").map(drop),
                _ => panic!("{ended:?}\n{}", self.scene.text("err")),
            }
        });
    }

    /// Nothing is left, and the next start works and leaves nothing either.
    #[track_caller]
    fn is_over(&self) {
        self.processes.gone();
        let free = TcpListener::bind(self.address);
        assert!(free.is_ok(), "{free:?}\n{}", self.scene.text("err"));
        drop(free);
        let mut next = self.start();
        self.ctl("wait --ready --timeout 30s").succeeded();
        self.ctl("stop --timeout 30s").succeeded();
        assert_eq!(self.processes.all(), [0; 0], "after a stop that said 0");
        end_of(&mut next, "the holder");
        let entries = std::fs::read_dir(self.scene.dir()).expect("the directory");
        let names = entries.flatten().map(|entry| entry.file_name());
        let left: Vec<_> = names
            .filter(|name| {
                let name = name.to_string_lossy();
                !["app", "err", "say"].contains(&&*name) && !name.starts_with("door")
            })
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[track_caller]
fn ended(mut ctl: Child) -> Ended {
    let code = end_of(&mut ctl, "pf-ctl").code();
    let mut stderr = String::new();
    let mut pipe = ctl.stderr.take().expect("piped");
    std::io::Read::read_to_string(&mut pipe, &mut stderr).expect("UTF-8");
    Ended {
        code,
        stdout: String::new(),
        stderr,
    }
}

/// What exit code 0 of the operation promises, of a service that lives on.
fn holds(operation: &str, status: &serde_json::Value, before: u64) -> bool {
    match operation {
        "reload" | "rollback" => status["generation"].as_u64() != Some(before),
        "scale +1" => status["workers"]["wanted"] == 3,
        "scale -1" => status["workers"]["wanted"] == 1,
        "pause" => status["state"] == "paused",
        _ => true,
    }
}

#[track_caller]
fn kill(operation: &str, victim: Victim, after: Duration) {
    let service = Service::new();
    let mut holder = service.start();
    let holder_pid = i32::try_from(holder.id()).expect("a pid");
    let begins = operation.starts_with("wait");
    let mut clients = Vec::new();
    if !begins {
        service.ctl("wait --ready --timeout 30s").succeeded();
        let dial = |_| TcpStream::connect_timeout(&service.address, HANG).expect("a connection");
        clients.extend((0..2).map(dial));
    }
    let mut before = 1;
    if operation == "rollback" {
        // Another release: there is nothing to go back to among generations of the same one.
        service.ctl("reload --set RELEASE=2").succeeded();
        before = 2;
    }
    let client = service.start_ctl(operation);
    let client_pid = i32::try_from(client.id()).expect("a pid");
    clock::pause(after);
    if let Some(pid) = service.victim(victim, holder_pid, client_pid) {
        process::signal(pid, Signal::SIGKILL);
    }
    let ended = ended(client);
    drop(clients);
    let log = || service.scene.text("err");
    let allowed = [Some(0), Some(1), Some(3)].contains(&ended.code)
        // Its holder dead, the service stops, and refuses everything else.
        || (victim == Victim::Holder && ended.code == Some(6));
    assert!(
        allowed || (victim == Victim::Client && ended.code.is_none()),
        "{ended:?}\n{}",
        log()
    );
    if operation == "stop" && ended.code == Some(0) {
        assert_eq!(service.processes.all(), [0; 0], "stopped: {}", log());
    } else if ended.code == Some(0) && ![Victim::Master, Victim::Holder].contains(&victim) {
        let status = Control::connect(&service.scene.path("app.ctl"))
            .expect("it runs")
            .status();
        assert!(holds(operation, &status, before), "{status:#}\n{}", log());
    }
    match victim {
        Victim::Holder => service.processes.gone(),
        _ => service.stop_for_good(&mut holder),
    }
    end_of(&mut holder, "the holder");
    service.is_over();
}

#[test]
fn any_process_may_be_killed_at_any_moment_of_any_operation() {
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |n| n.parse().expect("a number"))
    };
    let all = OPERATIONS.len() * VICTIMS.len();
    let random = usize::try_from(clock::now().0 % 1_000_003).expect("small");
    let first = number("PF_KILLS_FROM", random);
    for number in first..first + number("PF_KILLS", SAMPLE) {
        // Coprime to the number of pairs: neighbours differ in both, and all have their turn.
        let pair = number * 11 % all;
        let operation = OPERATIONS[pair % OPERATIONS.len()];
        let victim = VICTIMS[pair / OPERATIONS.len()];
        let after = Duration::from_micros(u64::try_from(number * 7919 % 40_000).expect("small"));
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("PF_KILLS_FROM={number}: {operation}, {victim:?} after {after:?}\n"),
        );
        kill(operation, victim, after);
    }
}
