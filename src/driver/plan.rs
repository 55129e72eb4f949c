//! What a rollout would change: its generation is pinned, and nothing is started.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::error::{Error, Result};
use crate::model::action::Refusal;
use crate::model::ids::Generation;
use crate::sys::process::proc_info;
use crate::sys::process::successor::Image;
use crate::wire::changes::Changes;
use crate::wire::control::{Change, Code, Failure, MasterPlan, Plan};
use crate::wire::environment::Environment;

use super::clients::code_of;
use super::pin::Pin;
use super::state::Driver;

/// The program that this process runs.
const OWN_PROGRAM: &str = "/proc/self/exe";

impl Driver {
    /// A pin for `generation` as the file system stands now; see [`Pins::resolve`].
    ///
    /// [`Pins::resolve`]: super::pin::Pins::resolve
    pub(super) fn resolve_pin(&self, generation: Generation, changes: &Changes) -> Result<Pin> {
        let serving = self.supervisor.generation();
        let listeners = self.listeners.sockets();
        self.pins.resolve(generation, serving, listeners, changes)
    }

    /// What a rollout with these changes would do; for an `upgrade`, also which master would
    /// follow. One to the same image is a rehearsal: its generation is a copy.
    ///
    /// # Errors
    /// Why such a rollout would be refused (exit 6), or would fail before anything is started (exit
    /// 1).
    pub(super) fn plan(&self, changes: &Changes, upgrade: Option<Image>) -> Result<Plan, Failure> {
        let refused = |(refusal, message)| Failure {
            code: code_of(refusal),
            message,
        };
        let failed = |error: Error| Failure {
            code: Code::Failed,
            message: error.to_string(),
        };
        if let Some(why) = self.supervisor.why_no_rollout() {
            return Err(refused(why));
        }
        let serving = self.supervisor.generation();
        let forgotten = || (Refusal::Senseless, "nothing serves".to_owned());
        let now = self.pins.get(serving).ok_or_else(forgotten);
        let now = now.map_err(refused)?;
        let next = Generation(now.generation.0 + 1);
        let then = match upgrade {
            Some(Image::Same) => {
                let listeners = now.listeners.again(self.listeners.sockets());
                listeners.and_then(|listeners| now.renumbered(next, listeners, now.beat_fd))
            }
            Some(Image::Next) | None => self.resolve_pin(next, changes),
        };
        let then = then.map_err(failed)?;
        let master = upgrade.map(|image| self.master_plan(image)).transpose();
        let master = master.map_err(failed)?;
        let slots = self.supervisor.snapshot().wanted;
        Ok(Plan {
            master,
            ..difference(now, &then, slots)
        })
    }

    fn master_plan(&self, image: Image) -> Result<MasterPlan> {
        let successor = self.origin.image(image)?;
        let running = std::fs::read_link(OWN_PROGRAM).ok();
        let text = |text: &OsString| text.to_string_lossy().into_owned();
        Ok(MasterPlan {
            program: Change {
                from: running.map(|program| program.display().to_string()),
                to: Some(successor.program.display().to_string()),
            },
            inode: Change {
                from: proc_info::program_inode(Path::new(OWN_PROGRAM)),
                to: proc_info::program_inode(&successor.program),
            },
            command: successor.argv.iter().map(text).collect(),
        })
    }
}

/// What would change from one generation to another.
fn difference(now: &Pin, then: &Pin, slots: usize) -> Plan {
    let listeners = |pin: &Pin| -> Vec<String> {
        pin.listeners
            .open()
            .iter()
            .map(|l| l.address.to_string())
            .collect()
    };
    let (old, new) = (listeners(now), listeners(then));
    let gone = old
        .iter()
        .filter(|address| !new.contains(address))
        .map(|address| format!("-{address}"));
    let added = new
        .iter()
        .filter(|address| !old.contains(address))
        .map(|address| format!("+{address}"));
    let surge = then.policy.surge.of(slots).min(slots);
    let command = |pin: &Pin| -> Vec<String> {
        let args = pin.command.iter();
        args.map(|arg| arg.to_string_lossy().into_owned()).collect()
    };
    Plan {
        master: None,
        command: change(command, now, then),
        program: change(|pin| pin.program.display().to_string(), now, then),
        inode: Change {
            from: now.inode,
            to: then.inode,
        },
        cwd: change(|pin| pin.cwd.display().to_string(), now, then),
        environment: environment_changes(&now.environment, &then.environment),
        listeners: gone.chain(added).collect(),
        peak_workers: slots + surge,
    }
}

fn change<T>(fact: impl Fn(&Pin) -> T, now: &Pin, then: &Pin) -> Change<T> {
    Change {
        from: Some(fact(now)),
        to: Some(fact(then)),
    }
}

fn environment_changes(old: &Environment, new: &Environment) -> Vec<String> {
    fn by_name(environment: &Environment) -> BTreeMap<&OsStr, &OsStr> {
        let all = environment.iter();
        all.map(|it| (it.name(), it.value())).collect()
    }
    let (old, new) = (by_name(old), by_name(new));
    let line = |sign: char, name: &OsStr, value: &OsStr| {
        format!(
            "{sign}{}={}",
            name.to_string_lossy(),
            value.to_string_lossy()
        )
    };
    let gone = old
        .iter()
        .filter(|(name, value)| new.get(*name) != Some(value))
        .map(|(name, value)| line('-', name, value));
    let come = new
        .iter()
        .filter(|(name, value)| old.get(*name) != Some(value))
        .map(|(name, value)| line('+', name, value));
    gone.chain(come).collect()
}
