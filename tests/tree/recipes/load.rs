//! Foreign programs as workers, under load from a foreign client (`wrk`): the README's recipes for
//! them, with ten reloads and five upgrades before their ends.
//!
//! What a program drops when it alone is stopped was measured without pf-tools: processes on one
//! listener, held open beside them, `wrk` as here, 30 stops each, on two busy cores. uvicorn
//! dropped 12 requests in 15 stops and 4 in 30 others, because it closes connections on which
//! nothing was requested yet. All others dropped none (puma none without `queue_requests`, else 2).

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use prefork::sys::machine::clock;
use serde_json::Value;

use super::{alone, search_path};
use crate::stage::{Stage, have, named};

/// How long one recipe may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// Rounds of two reloads and an upgrade.
const ROUNDS: u64 = 5;

/// How many workers are asked to stop in these rounds.
const STOPS: u64 = ROUNDS * 3 * 2;

/// What is done to a service once it is ready. Each request uses a new connection.
const LOAD: &str = r#"
service=$!
wrk --threads 1 --connections 4 --duration 10m --timeout 30s --header 'Connection: close' \
    http://127.0.0.1:8080/ >load &
load=$!
for round in $(seq "$ROUNDS"); do
    pf-ctl reload app.pid --quiet --timeout 1m
    pf-ctl upgrade app.pid --quiet --timeout 1m
    pf-ctl reload app.pid --quiet --timeout 1m
done
pf-status app.pid --json >status
kill -INT "$load"
wait "$load"
"#;

/// The report of `wrk`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Account {
    answered: u64,
    /// Not connected, not written, or not answered for long; and answers that are none.
    failed: u64,
    /// The connection ended before the answer.
    dropped: u64,
}

fn account(report: &str) -> Account {
    let number = |text: &str| -> Option<u64> { text.trim().parse().ok() };
    let mut account = Account::default();
    for line in report.lines().map(str::trim) {
        if let Some((count, _)) = line.split_once(" requests in ") {
            account.answered = number(count).expect("a number");
        }
        if let Some(rest) = line.strip_prefix("Non-2xx or 3xx responses:") {
            account.failed += number(rest).expect("a number");
        }
        for part in line
            .strip_prefix("Socket errors:")
            .unwrap_or_default()
            .split(',')
        {
            match part.trim().split_once(' ') {
                Some(("read", count)) => account.dropped += number(count).expect("a number"),
                Some((_, count)) => account.failed += number(count).expect("a number"),
                None => {}
            }
        }
    }
    account
}

/// The README's recipe, changed so that all old workers go at once, and with the load once it is
/// ready. No release here is broken, so that the canary would only be waited for.
fn recipe(name: &str) -> String {
    let text = named("recipe").remove(name);
    let text = text.unwrap_or_else(|| panic!("no recipe {name}"));
    let mut script = String::new();
    let mut loaded = false;
    for line in text
        .replace("pf-master ", "pf-master --surge 100% ")
        .replace("--canary 2s", "--canary off")
        .lines()
    {
        script.push_str(line);
        script.push('\n');
        if !loaded && line.starts_with("pf-ctl wait ") {
            script.push_str(LOAD);
            loaded = true;
        }
    }
    assert!(loaded && script.contains("--surge"), "{text}");
    script + "wait \"$service\"\n"
}

fn end_of(child: &mut Child) -> Option<ExitStatus> {
    let deadline = clock::now() + PATIENCE;
    while clock::now() < deadline {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        clock::pause(Duration::from_millis(20));
    }
    None
}

/// Runs a recipe, whose program may drop so many requests in a hundred stops.
fn under_load(name: &str, needs: &[&str], drops_in_100_stops: u64) {
    if !have(&[&["wrk", "curl"], needs].concat()) {
        return;
    }
    let _alone = alone();
    let stage = Stage::new();
    let work = stage.at("work");
    let port = crate::common::support::ports(2).to_string();
    for (file, text) in named("file") {
        fs::write(work.join(file), text.replace("8080", &port)).expect("written");
    }
    fs::write(stage.at("recipe"), recipe(name).replace("8080", &port)).expect("written");
    let said = File::create(stage.at("said")).expect("a file");
    let mut command = stage.command(Path::new("bash"));
    command
        .args(["-e", "-u", "-o", "pipefail"])
        .arg(stage.at("recipe"))
        .current_dir(&work)
        .env("PATH", search_path(&work.join("bin")))
        .env("ROUNDS", ROUNDS.to_string())
        .env("GOCACHE", work.join("go-cache"));
    command
        .stdout(said.try_clone().expect("a copy"))
        .stderr(said);
    let mut child = command.spawn().expect("bash");
    let status = end_of(&mut child);
    let said = fs::read_to_string(stage.at("said")).expect("read");
    let told = || said.lines().rev().take(60).collect::<Vec<_>>().join("\n");
    let ended = status.is_some_and(|status| status.success());
    if !ended {
        drop(stage);
        let _ = child.kill();
        let _ = child.wait();
        panic!(
            "{name}: {status:?}; what it said, the last line first:\n{}",
            told()
        );
    }
    let account = account(&fs::read_to_string(work.join("load")).expect("a report"));
    let status: Value =
        serde_json::from_slice(&fs::read(work.join("status")).expect("a status")).expect("JSON");
    stage.assert_nothing_left();
    assert!(
        said.contains("hello") || said.contains("lighttpd"),
        "{}",
        told()
    );
    assert_eq!(status["generation"], 1 + 3 * ROUNDS, "{status}");
    assert_eq!(account.failed, 0, "{name}: {account:?}\n{}", told());
    let may_drop = (drops_in_100_stops * STOPS).div_ceil(100);
    assert!(
        account.dropped <= may_drop,
        "{name}: {account:?}, {may_drop} may be\n{}",
        told()
    );
    // There was load whenever something was stopped; how much, is the machine's business.
    assert!(account.answered > STOPS, "{name}: {account:?}");
}

#[test]
fn reports_of_wrk_are_parsed() {
    let quiet = "  18330 requests in 3.65s, 2.80MB read\nRequests/sec:   5021.9\n";
    let of = |answered, failed, dropped| Account {
        answered,
        failed,
        dropped,
    };
    assert_eq!(account(quiet), of(18330, 0, 0));
    let loud = "  5 requests in 3.65s, 2.80MB read\n\
        \x20 Socket errors: connect 1, read 20, write 300, timeout 4000\n\
        \x20 Non-2xx or 3xx responses: 50000\n";
    assert_eq!(account(loud), of(5, 54301, 20));
}

#[test]
fn the_standard_library_of_python() {
    under_load("python", &["python3"], 0);
}

#[test]
fn gunicorn() {
    under_load("gunicorn", &["gunicorn"], 0);
}

#[test]
fn uvicorn() {
    under_load("uvicorn", &["uvicorn", "python3"], 80);
}

#[test]
fn node() {
    under_load("node", &["node"], 0);
}

#[test]
fn puma() {
    under_load("puma", &["puma"], 0);
}

#[test]
fn a_perl_application_for_server_starter() {
    under_load("perl", &["plackup", "start_server"], 0);
}

#[test]
fn nginx() {
    under_load("nginx", &["nginx"], 0);
}

#[test]
fn go() {
    under_load("go", &["go"], 0);
}

#[test]
fn a_daemon_for_socket_activation() {
    under_load("lighttpd", &["lighttpd"], 0);
}
