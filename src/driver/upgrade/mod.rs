//! An upgrade in place: another image of the master in the same process.
//!
//! ```text
//! pin by successor ──► preflight: a child ──answers──► exec ──► take over ──► pin ──► rollout
//!        │                     │                         │            │
//!        └── cannot start ─────┴── refuses ──────────────┴── failed ──┴── exec of the old image
//! ```
//!
//! All signals are blocked before the state is written, until the new image has had its first turn:
//! what arrives meanwhile waits in the kernel, and is for the image that serves in the end. What
//! had arrived before is obeyed by this image.
//!
//! The new image takes the descriptors over as they are, without copies, and closes none and marks
//! none close-on-exec until its first turn has succeeded. So until then the image before is one
//! exec away, and loses nothing.
//!
//! - `save`: everything that the driver is, as a document.
//! - `takeover`: a driver out of that document, and the way back.
//! - `state::Preflight`: the child that is checked.
//!
//! The way of one upgrade: the model asks for a pin by the successor; `check_upgrade` starts the
//! child; `read_preflight` reads its answer in a later turn and calls `execute`; the new image
//! calls [`take_over`] and [`Taken::serve`]. A dry run ends after the answer.

mod save;
mod takeover;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use serde_json::Value;

use crate::error::reason;
use crate::model::event::Event;
use crate::model::ids::Generation;
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::process::image;
use crate::sys::process::image::Next;
use crate::sys::process::program;
use crate::sys::process::successor::{Image, Successor};
use crate::sys::signal;
use crate::wire::control::{Code, Failure, Plan};
use crate::wire::handover::{STATE_FD, State};

use super::state::{Checked, Driver, Preflight, Purpose};

pub use takeover::{Fresh, Taken, go_back, take_over, take_over_listeners};

impl Driver {
    /// Begins to check the successor that is to pin this generation.
    pub(super) fn check_upgrade(&mut self, generation: Generation, image: Image) -> Option<Event> {
        self.cancel_dry_run("an upgrade has begun meanwhile");
        let begun = self.check_successor(Purpose::Upgrade(generation), image);
        begun
            .err()
            .map(|why| Event::PinFailed(generation, why.message))
    }

    /// Begins to check the successor for a client that asks what an upgrade would do: it gets the
    /// plan once the check has succeeded.
    pub(super) fn dry_run_upgrade(
        &mut self,
        number: u64,
        id: Option<Value>,
        plan: Plan,
        image: Image,
    ) {
        if self.preflight.is_some() {
            let text = "a successor is being checked already".to_owned();
            return self.fail(number, Code::Busy, text, id);
        }
        let ticket = self.clients.ticket(number, id, None, true);
        if let Err(why) = self.check_successor(Purpose::DryRun(ticket, Box::new(plan)), image) {
            self.clients.answer(ticket, Err(why));
        }
    }

    fn check_successor(&mut self, purpose: Purpose, image: Image) -> Result<(), Failure> {
        let failed = |message| Failure {
            code: Code::Failed,
            message,
        };
        let successor = self.origin.image(image);
        let successor = successor.map_err(|error| failed(error.to_string()))?;
        let dir = self.upgrade_dir();
        let (_image, mut state) = self.state(&dir).map_err(failed)?;
        if image == Image::Same {
            // Also of a dry run, for which nothing is being pinned.
            state.service.is_for_copy();
        }
        let document = in_memory(&state)
            .map_err(|why| failed(format!("cannot write the state down: {why}")))?;
        self.log.info(format_args!("upgrade: checking {successor}"));
        let guard = self.processes.guard_socket();
        let preflight = Preflight::start(
            purpose,
            successor,
            &self.origin,
            &dir,
            document.as_fd(),
            guard,
        );
        let preflight = preflight.map_err(failed)?;
        self.processes.leave_unreaped(Some(preflight.pid()));
        self.preflight = Some(preflight);
        Ok(())
    }

    /// Reads the answer of the successor that is checked, if there is one yet.
    pub(super) fn read_preflight(&mut self, now: Time) {
        let Some(preflight) = &mut self.preflight else {
            return;
        };
        let is_awaited = match preflight.purpose {
            Purpose::Upgrade(_) => self.supervisor.awaits_successor(),
            Purpose::DryRun(..) => self.supervisor.stopping().is_none(),
        };
        let answer = if is_awaited {
            preflight.read_answer(now)
        } else {
            // A stop came between.
            Some(Err("it is not needed any more".to_owned()))
        };
        let Some(answer) = answer else { return };
        for line in preflight.output_lines() {
            self.log
                .warn(format_args!("upgrade: the successor says: {line}"));
        }
        let Some(Checked { purpose, successor }) = self.end_preflight() else {
            return;
        };
        let answer = answer.map_err(|why| format!("the successor {successor} will not do: {why}"));
        match (purpose, answer) {
            (Purpose::Upgrade(generation), Ok(version)) => {
                self.log.info(format_args!(
                    "upgrade: executing {successor}, version {version}"
                ));
                self.execute(generation, &successor);
            }
            (Purpose::Upgrade(generation), Err(why)) => {
                self.feed(Event::PinFailed(generation, why));
            }
            (Purpose::DryRun(ticket, plan), Ok(_)) => {
                self.clients.answer(ticket, Ok(*plan));
            }
            (Purpose::DryRun(ticket, _), Err(message)) => {
                let code = Code::Failed;
                self.clients.answer(ticket, Err(Failure { code, message }));
            }
        }
        self.clients.flush();
    }

    /// Ends the check that runs, if one does.
    pub(super) fn end_preflight(&mut self) -> Option<Checked> {
        let preflight = self.preflight.take()?;
        let pid = preflight.pid();
        let checked = preflight.end();
        self.processes.leave_unreaped(None);
        self.processes.forget_in_guard(pid);
        Some(checked)
    }

    /// Ends the check of a dry run, since an upgrade needs its place.
    pub(super) fn cancel_dry_run(&mut self, why: &str) {
        let Some(Purpose::DryRun(ticket, _)) = self.preflight.as_ref().map(|it| &it.purpose) else {
            return;
        };
        let ticket = *ticket;
        self.end_preflight();
        let failure = Failure {
            code: Code::Busy,
            message: why.to_owned(),
        };
        self.clients.answer(ticket, Err(failure));
    }

    /// Executes the successor. Returns only if that failed, or if a signal has ended the upgrade.
    fn execute(&mut self, generation: Generation, successor: &Successor) {
        let mask = signal::block_all();
        // A signal that has arrived before is in no state that could be handed over. One that
        // arrives from here on stays pending across the exec.
        self.obey_signals();
        if self.supervisor.awaits_successor() {
            // Replies that are queued go out while this image still runs.
            self.clients.flush();
            let why = self.hand_over(successor);
            self.feed(Event::PinFailed(generation, why));
        }
        signal::restore(mask);
        // The ends of children that were told above are looked for again.
        self.first_turn();
    }

    /// Obeys the signals that have arrived. SIGCHLD is not among them: a look at all children has
    /// to follow.
    fn obey_signals(&mut self) {
        for (signal, sender) in self.signals.pending() {
            if signal != Signal::Chld {
                self.receive_signal(signal, sender);
            }
        }
    }

    /// Writes the state and executes the successor. Returns only if that failed: why.
    fn hand_over(&mut self, successor: &Successor) -> String {
        let failed = |why: String| format!("cannot hand over to the successor: {why}");
        let dir = self.upgrade_dir();
        // The next image has a log of its own, which has lost nothing.
        self.count_totals();
        let (image, state) = match self.state(&dir) {
            Ok(state) => state,
            Err(why) => return failed(why),
        };
        let document = match in_memory(&state) {
            Ok(document) => document,
            Err(why) => return failed(why),
        };
        let mut fds = state.descriptors();
        fds.push(document.as_raw_fd());
        let mut environment = self.origin.environment.clone();
        if let Err(why) = environment.push(STATE_FD, document.as_raw_fd().to_string()) {
            return failed(why.to_string());
        }
        let error = image::become_next(&Next {
            program: &successor.program,
            argv: &successor.argv,
            environment: &environment,
            dir: Some(&dir),
            nofile: self.origin.nofile,
            fds: &fds,
        });
        drop(image);
        format!(
            "cannot execute the successor {successor}: {}",
            reason(error)
        )
    }

    /// Where the successor is executed: where this master was started. If that directory is gone,
    /// where the serving generation is pinned; at last the root.
    fn upgrade_dir(&self) -> PathBuf {
        let pinned = self.pins.get(self.supervisor.generation());
        let pinned = pinned.map(|pin| pin.cwd.as_path());
        program::first_dir([Some(self.origin.dir.as_path()), pinned])
    }
}

/// The state as a file in memory.
fn in_memory(state: &State) -> Result<OwnedFd, String> {
    let document = state.render()?;
    image::memory(&document).map_err(reason)
}
