//! Broken releases of the README's recipes: each is rolled back, and the old workers serve on.
//!
//! A recipe is started as it is printed. While clients ask all the time, the link `current` is
//! switched to a release that cannot be loaded, one that dies a second after it said that it is
//! ready, and one that crashes under its first request. Each is deployed by a reload and by an
//! upgrade.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prefork::sys::machine::clock;
use serde_json::Value;

use super::releases::{Change, Fault, Releases, program, text};
use super::{alone, search_path};
use crate::common::load::{Counts, Kind, Load, Lost, Target, get};
use crate::common::service::{Ended, end_of, until};
use crate::common::support::{PATIENCE, ports};
use crate::stage::{Stage, have, named, programs};

/// Each has one connection at a time.
const CLIENTS: usize = 3;

/// Between two requests of a client, so that the service has the machine.
const PACE: Duration = Duration::from_millis(5);

/// What the master says of a worker that was ready and died.
const READY: &str = "after it was ready";

/// A service that is started with a recipe, and its releases.
struct Kitchen {
    name: &'static str,
    stage: Stage,
    releases: Releases,
    /// Commands of the recipe before the service is started: how a release is built.
    build: String,
    service: Child,
    target: Target,
}

impl Kitchen {
    /// The recipe as it is printed, up to where the service is ready.
    fn open(name: &'static str) -> Kitchen {
        let stage = Stage::new();
        let port = ports(2);
        let recipe = named("recipe")
            .remove(name)
            .unwrap_or_else(|| panic!("no recipe {name}"));
        let recipe = recipe.replace("8080", &port.to_string());
        let (build, start) = recipe.split_at(recipe.find("pf-listen").expect("a service"));
        let wait = "pf-ctl wait app.pid --ready\n";
        let (start, rest) = start.split_once(wait).expect("a service that is ready");
        // The rest of the recipe is run at the end of stdin.
        let script = format!(
            "{build}{start}service=$!\n{wait}touch started\nread -r _ || true\n\
             {rest}wait \"$service\"\n"
        );
        fs::write(stage.at("recipe"), script).expect("written");
        let said = File::create(stage.at("said")).expect("a file");
        let releases = Releases::new(&stage.at("work"), &port.to_string());
        let mut command = bash(&stage);
        command.arg(stage.at("recipe")).stdin(Stdio::piped());
        command
            .stdout(said.try_clone().expect("a copy"))
            .stderr(said);
        let kitchen = Kitchen {
            name,
            releases,
            build: build.to_owned(),
            service: command.spawn().expect("bash"),
            target: Target::Tcp(SocketAddr::from(([127, 0, 0, 1], port))),
            stage,
        };
        let started = kitchen.stage.at("work").join("started");
        until(name, || started.exists().then_some(()));
        kitchen
    }

    /// Makes a release the current one.
    fn switch(&self, release: &str) {
        self.releases.switch(release);
        let built = bash(&self.stage).args(["-c", &self.build]).status();
        assert!(built.is_ok_and(|status| status.success()), "{release}");
    }

    fn program(&self, program: &str, words: &[&str]) -> Ended {
        let mut command = self.stage.command(&programs().join(program));
        command.args(words).current_dir(self.stage.at("work"));
        let mut command = assert_cmd::Command::from_std(command);
        let output = command.timeout(PATIENCE).output().expect("it starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// The workers by slot.
    fn workers(&self) -> Vec<Value> {
        let status = self.program("pf-status", &["app.pid", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout)
            .unwrap_or_else(|error| panic!("{error}: {status:?}"));
        let slots = status["slots"].as_array().expect("slots");
        slots.iter().map(|slot| slot["pid"].clone()).collect()
    }

    /// How many workers have died after they were ready.
    fn deaths(&self) -> usize {
        let said = self.said();
        said.lines().filter(|line| line.contains(READY)).count()
    }

    /// What the service has said.
    fn said(&self) -> String {
        fs::read_to_string(self.stage.at("said")).expect("read")
    }

    /// Deploys a broken release under load, which must fail and change nothing.
    fn deploy(&self, verb: &str, fault: Fault, change: &Change, word: &'static str) {
        let (old, deaths) = (self.workers(), self.deaths());
        let ask = move |target: &Target, _: &str| {
            clock::pause(PACE);
            get(target, word)
        };
        let load = Load::asking(std::slice::from_ref(&self.target), CLIENTS, ask);
        load.more(20);
        self.switch(&format!("{fault:?}"));
        let ended = self.program("pf-ctl", &[verb, "app.pid", "--quiet"]);
        let what = format!("{}, {fault:?}, {verb}: {ended:?}", self.name);
        assert_eq!(ended.code, Some(1), "{what}\n{}", self.said());
        let when = match fault {
            Fault::Loading => "",
            Fault::Soon | Fault::Request => READY,
        };
        for part in ["slot ", change.cause, when] {
            assert!(ended.stderr.contains(part), "no '{part}': {what}");
        }
        assert_eq!(self.workers(), old, "{what}");
        load.more(20);
        self.account(&load.stop(), fault, self.deaths() - deaths, &what);
        // From now on there is nothing more to lose.
        let load = Load::asking(std::slice::from_ref(&self.target), CLIENTS, ask);
        load.more(20);
        load.stop().assert_none_lost(&what);
        self.switch("good");
    }

    /// What the clients noticed: at most what each new worker had in hand when it died, of which an
    /// answer may have been cut off. A worker that lived for a second may have answered meanwhile.
    fn account(&self, counts: &Counts, fault: Fault, deaths: usize, what: &str) {
        let is_answer = |lost: &&Lost| lost.kind == Kind::Wrong && lost.what.contains("broken");
        let (answers, lost): (Vec<_>, Vec<_>) = counts.lost.iter().partition(is_answer);
        let told = || format!("{what}\n{}", self.said());
        assert!(
            answers.is_empty() || fault == Fault::Soon,
            "{answers:?}: {}",
            told()
        );
        assert!(lost.len() <= deaths * CLIENTS, "{lost:?}: {}", told());
    }

    /// The rest of the recipe.
    fn close(mut self) {
        drop(self.service.stdin.take());
        let status = end_of(&mut self.service, self.name);
        assert!(status.success(), "{status}\n{}", self.said());
        self.stage.assert_nothing_left();
    }
}

impl Drop for Kitchen {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}

fn bash(stage: &Stage) -> Command {
    let work = stage.at("work");
    let mut command = stage.command(Path::new("bash"));
    command.args(["-e", "-u", "-o", "pipefail"]);
    command
        .env("PATH", search_path(&work.join(Releases::PROGRAMS)))
        .env("GOCACHE", work.join("go-cache"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(work);
    command
}

/// Deploys what is broken at loading, soon after, and under a request. A good answer has this word.
fn broken(name: &'static str, needs: &[&str], word: &'static str, changes: &[Change; 3]) {
    if !have(&[&["curl"], needs].concat()) {
        return;
    }
    let _alone = alone();
    let kitchen = Kitchen::open(name);
    let faults = [Fault::Loading, Fault::Soon, Fault::Request];
    for (fault, change) in faults.into_iter().zip(changes) {
        kitchen.releases.break_into(&format!("{fault:?}"), change);
    }
    for verb in ["reload", "upgrade"] {
        for (fault, change) in faults.into_iter().zip(changes) {
            kitchen.deploy(verb, fault, change, word);
        }
    }
    let good = kitchen.program("pf-ctl", &["reload", "app.pid", "--quiet"]);
    assert_eq!(good.code, Some(0), "{name}: {good:?}\n{}", kitchen.said());
    kitchen.close();
}

const EXITED: &str = "exited with code 1";
#[test]
fn the_standard_library_of_python() {
    let changes = [
        text(
            "worker.py",
            "import http.server,",
            "import does_not_exist, http.server,",
            EXITED,
        ),
        text(
            "worker.py",
            "while not stopping:",
            "__import__('threading').Timer(1, os._exit, [1]).start()\nwhile not stopping:",
            EXITED,
        ),
        text(
            "worker.py",
            "        text = f",
            "        os._exit(1)\n        text = f",
            EXITED,
        ),
    ];
    broken("python", &["python3"], "hello", &changes);
}

/// Readiness and, a second later, the end.
const PYTHON_SOON: &str =
    "__import__('threading').Timer(1, os._exit, [1]).start(); os.write(9, b\"\\n\")";

#[test]
fn gunicorn() {
    let changes = [
        text(
            "app.py",
            "import os",
            "import os, does_not_exist",
            "exited with code 3 before",
        ),
        text(
            "gunicorn.conf.py",
            "os.write(9, b\"\\n\")",
            PYTHON_SOON,
            EXITED,
        ),
        text(
            "app.py",
            "    start_response(",
            "    os._exit(1)\n    start_response(",
            EXITED,
        ),
    ];
    broken("gunicorn", &["gunicorn"], "hello", &changes);
}

#[test]
fn uvicorn() {
    let changes = [
        text("app.py", "import os", "import os, does_not_exist", EXITED),
        text("serve.py", "os.write(9, b\"\\n\")", PYTHON_SOON, EXITED),
        text(
            "app.py",
            "    assert scope",
            "    if scope[\"type\"] == \"http\": os._exit(1)\n    assert scope",
            EXITED,
        ),
    ];
    broken("uvicorn", &["uvicorn", "python3"], "hello", &changes);
}

#[test]
fn node() {
    let changes = [
        text(
            "worker.mjs",
            "import fs",
            "import \"./does-not-exist.mjs\";\nimport fs",
            EXITED,
        ),
        text(
            "worker.mjs",
            "() => fs.writeSync(9, \"\\n\")",
            "() => { fs.writeSync(9, \"\\n\"); setTimeout(() => { throw 1; }, 1000); }",
            EXITED,
        ),
        text(
            "worker.mjs",
            "    response.end(",
            "    response.does_not_exist(",
            EXITED,
        ),
    ];
    broken("node", &["node"], "hello", &changes);
}

#[test]
fn puma() {
    let changes = [
        text(
            "config.ru",
            "run ->",
            "require \"does_not_exist\"\nrun ->",
            EXITED,
        ),
        text(
            "config.ru",
            "IO.new(9)",
            "Thread.new { sleep 1; exit! 1 }\nIO.new(9)",
            EXITED,
        ),
        text("config.ru", "{ [200,", "{ exit! 1; [200,", EXITED),
    ];
    broken("puma", &["puma"], "hello", &changes);
}

#[test]
fn a_perl_application_for_server_starter() {
    let changes = [
        text(
            "app.psgi",
            "my $app",
            "use DoesNotExist; my $app",
            "exited with code 2",
        ),
        text(
            "app.psgi",
            "open my",
            "alarm 1; open my",
            "was killed by ALRM",
        ),
        text("app.psgi", "sub { [200,", "sub { exit 1; [200,", EXITED),
    ];
    broken("perl", &["plackup", "start_server"], "hello", &changes);
}

#[test]
fn go() {
    let changes = [
        text(
            "worker.go",
            "func main() {",
            "func init() { os.Exit(1) }\n\nfunc main() {",
            EXITED,
        ),
        text(
            "worker.go",
            "\t<-stop.Done()",
            "\tlate, _ := context.WithTimeout(context.Background(), 1e9)\n\t\
             go func() { <-late.Done(); os.Exit(1) }()\n\t<-stop.Done()",
            EXITED,
        ),
        text(
            "worker.go",
            "\t\tfmt.Fprintf(",
            "\t\tos.Exit(1)\n\t\tfmt.Fprintf(",
            EXITED,
        ),
    ];
    broken("go", &["go"], "hello", &changes);
}

/// A server that crashes under its first request, when it counts as ready.
const CRASHES: &str = "#!/usr/bin/python3\n\
    import os, socket, time\ntime.sleep(1)\nsocket.socket(fileno=3).accept()\nos._exit(1)\n";

#[test]
fn nginx() {
    // A second after the 200 ms.
    let soon = "#!/bin/sh\n(sleep 1.2; kill -KILL $$) & exec /usr/sbin/nginx \"$@\"\n";
    let changes = [
        text("nginx.conf", "events {}", "events {", EXITED),
        program("nginx", soon, "was killed by KILL"),
        program("nginx", CRASHES, EXITED),
    ];
    broken("nginx", &["nginx", "python3"], "hello", &changes);
}

#[test]
fn a_daemon_for_socket_activation() {
    let soon = "#!/bin/sh\n(sleep 1.2; kill -KILL $$) & exec /usr/sbin/lighttpd \"$@\"\n";
    let changes = [
        text(
            "lighttpd.conf",
            "\"enable\"",
            "\"enable",
            "exited with code",
        ),
        program("lighttpd", soon, "was killed by KILL"),
        program("lighttpd", CRASHES, EXITED),
    ];
    broken(
        "lighttpd",
        &["lighttpd", "python3"],
        "document-root",
        &changes,
    );
}
