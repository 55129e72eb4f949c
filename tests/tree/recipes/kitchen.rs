//! A service that is started with a recipe of the README, under the eyes of clients.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use prefork::sys::machine::clock;
use serde_json::Value;

use super::releases::{Fault, Releases};
use super::search_path;
use crate::common::load::{Counts, Kind, Load, Lost, Target};
use crate::common::service::{Ended, end_of, until};
use crate::common::support::{PATIENCE, ports};
use crate::stage::{Stage, named};

/// Each has one connection at a time.
const CLIENTS: usize = 3;

/// Between two requests of a client, so that the service has the machine.
const PACE: Duration = Duration::from_millis(5);

/// What the master says of a worker that was ready and died.
const READY: &str = "after it was ready";

/// How a client asks; a right answer is the good release's.
pub(super) type Ask = fn(&Target, &str) -> Result<(), (Kind, String)>;

/// A service that is started with a recipe.
pub(super) struct Kitchen {
    name: &'static str,
    stage: Stage,
    port: u16,
    /// The recipe's commands before the service is started.
    before: String,
    service: Child,
}

impl Kitchen {
    /// The recipe as it is printed, up to where the service is ready. `prepare` gets the directory
    /// in which it is run, and the port.
    pub(super) fn open(name: &'static str, prepare: impl FnOnce(&Path, &str)) -> Kitchen {
        let (stage, port) = (Stage::new(), ports(2));
        let recipe = named("recipe")
            .remove(name)
            .unwrap_or_else(|| panic!("no recipe {name}"));
        let recipe = recipe.replace("8080", &port.to_string());
        let (before, start) = recipe.split_at(recipe.find("pf-listen").expect("a service"));
        let wait = "pf-ctl wait app.pid --ready\n";
        let (start, rest) = start.split_once(wait).expect("a service that is ready");
        // The rest of the recipe is run at the end of stdin.
        let script = format!(
            "{before}{start}service=$!\n{wait}touch started\nread -r _ || true\n\
             {rest}wait \"$service\"\n"
        );
        fs::write(stage.at("recipe"), script).expect("written");
        prepare(&stage.at("work"), &port.to_string());
        let said = File::create(stage.at("said")).expect("a file");
        let mut command = bash(&stage);
        command.arg(stage.at("recipe")).stdin(Stdio::piped());
        command
            .stdout(said.try_clone().expect("a copy"))
            .stderr(said);
        let kitchen = Kitchen {
            name,
            port,
            before: before.to_owned(),
            service: command.spawn().expect("bash"),
            stage,
        };
        until(name, || kitchen.at("started").exists().then_some(()));
        kitchen
    }

    /// A file in the directory where the recipe is run.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.stage.at("work").join(name)
    }

    /// Builds the application again, as the recipe did.
    pub(super) fn build(&self) {
        let built = bash(&self.stage).args(["-c", &self.before]).status();
        assert!(built.is_ok_and(|status| status.success()), "{}", self.name);
    }

    /// Runs a command beside the recipe.
    pub(super) fn run(&self, words: &[&str]) -> Ended {
        let mut command = bash(&self.stage);
        command.args(["-c", "\"$@\"", "bash"]).args(words);
        let mut command = assert_cmd::Command::from_std(command);
        let output = command.timeout(PATIENCE).output().expect("it starts");
        Ended::of(&output)
    }

    /// The workers by slot.
    fn workers(&self) -> Vec<Value> {
        let status = self.run(&["pf-status", "app.pid", "--json"]);
        let status: Value = serde_json::from_str(&status.stdout)
            .unwrap_or_else(|error| panic!("{error}: {status:?}"));
        let slots = status["slots"].as_array().expect("slots");
        slots.iter().map(|slot| slot["pid"].clone()).collect()
    }

    /// How many workers have died after they were ready.
    fn deaths(&self) -> usize {
        let is_death = |line: &&str| line.starts_with("pf-master: slot ") && line.contains(READY);
        self.said().lines().filter(is_death).count()
    }

    /// What the service has said.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(self.stage.at("said")).expect("read")
    }

    /// Has a broken release deployed while clients ask, which must fail and change nothing.
    pub(super) fn deploy(
        &self,
        fault: Fault,
        cause: &str,
        ask: Ask,
        deploy: impl FnOnce() -> Ended,
    ) {
        let (old, deaths) = (self.workers(), self.deaths());
        let load = self.load(ask);
        load.more(20);
        let ended = deploy();
        let what = format!("{}, {fault:?}: {ended:?}", self.name);
        assert_eq!(ended.code, Some(1), "{what}\n{}", self.said());
        let when = match fault {
            Fault::Loading => "",
            Fault::Soon | Fault::Request => READY,
        };
        for part in ["slot ", cause, when] {
            assert!(ended.stderr.contains(part), "no '{part}': {what}");
        }
        assert_eq!(self.workers(), old, "{what}");
        load.more(20);
        self.account(&load.stop(), fault, self.deaths() - deaths, &what);
        // From now on there is nothing more to lose.
        let load = self.load(ask);
        load.more(20);
        load.stop().assert_none_lost(&what);
    }

    fn load(&self, ask: Ask) -> Load {
        let target = Target::Tcp(SocketAddr::from(([127, 0, 0, 1], self.port)));
        Load::asking(&[target], CLIENTS, move |target, id| {
            clock::pause(PACE);
            ask(target, id)
        })
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
    pub(super) fn close(mut self) {
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
