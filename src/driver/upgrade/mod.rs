//! An upgrade in place: another image of the master in the same process.
//!
//! ```text
//! pin by successor ──► preflight: a child ──answers──► exec ──► take over ──► pin ──► rollout
//!        │                     │                         │            │
//!        └── cannot start ─────┴── will not do ──────────┴── failed ──┴── goes back: exec of the old image
//! ```
//!
//! Until the new image has taken everything over it keeps the descriptors that it was given as they are, works on copies, and keeps all signals blocked;
//! so going back to the image before is always one exec away, and loses nothing either. The one thing that cannot be copied is the lock of the
//! pid file, which is taken over last.

mod preflight;
mod save;
mod takeover;

use std::os::fd::{AsFd, AsRawFd};

use serde_json::Value;

use crate::error::reason;
use crate::model::event::Event;
use crate::model::ids::Generation;
use crate::model::time::Time;
use crate::sys::process::image;
use crate::sys::process::image::Next;
use crate::sys::process::successor::Successor;
use crate::wire::control::{Code, Failure, Plan};
use crate::wire::handover::STATE_FD;

use super::Driver;

pub(super) use preflight::Preflight;
use preflight::{Checked, Purpose};
pub(super) use save::saved;
pub(super) use takeover::restored;
pub use takeover::{Fresh, Taken, go_back, take_over};

impl Driver {
    /// Begins to look whether there is a successor that will do.
    pub(super) fn upgrade(&mut self, generation: Generation) -> Option<Event> {
        self.end_rehearsal("an upgrade has begun meanwhile");
        let begun = self.check_successor(Purpose::Upgrade(generation));
        begun
            .err()
            .map(|why| Event::PinFailed(generation, why.message))
    }

    /// The same for a client that only asks: it gets the plan once it is known that there is one.
    pub(super) fn rehearse(&mut self, number: u64, id: Option<Value>, plan: Plan) {
        if self.preflight.is_some() {
            let text = "a successor is being checked already".to_owned();
            return self.fail(number, Code::Busy, text, id);
        }
        let ticket = self.clients.ticket(number, id, None, true, false);
        if let Err(why) = self.check_successor(Purpose::Rehearsal(ticket, Box::new(plan))) {
            self.clients.answer(ticket, Err(why));
        }
    }

    fn check_successor(&mut self, purpose: Purpose) -> Result<(), Failure> {
        let failed = |message| Failure {
            code: Code::Failed,
            message,
        };
        let successor = self.origin.successor();
        let successor = successor.map_err(|error| failed(error.to_string()))?;
        let (_image, state) = self.state().map_err(failed)?;
        let state = image::memory(&state.render().map_err(failed)?)
            .map_err(|error| failed(format!("cannot write the state down: {}", reason(error))))?;
        self.log.info(format_args!("upgrade: checking {successor}"));
        let guard = self.processes.guard_socket();
        let preflight = Preflight::start(purpose, successor, &self.origin, state.as_fd(), guard);
        let preflight = preflight.map_err(failed)?;
        self.processes.spare(Some(preflight.pid()));
        self.preflight = Some(preflight);
        Ok(())
    }

    /// Takes what the preflight says, if it says anything yet.
    pub(super) fn hear_successor(&mut self, now: Time) {
        let Some(preflight) = &mut self.preflight else {
            return;
        };
        let awaited = match preflight.purpose {
            Purpose::Upgrade(_) => self.supervisor.awaits_successor(),
            Purpose::Rehearsal(..) => self.supervisor.stopping().is_none(),
        };
        let answer = if awaited {
            preflight.look(now)
        } else {
            // A stop came between.
            Some(Err("nobody waits for it".to_owned()))
        };
        let Some(answer) = answer else { return };
        for line in preflight.complaint() {
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
                let why = self.execute(&successor);
                self.feed(Event::PinFailed(generation, why));
            }
            (Purpose::Upgrade(generation), Err(why)) => {
                self.feed(Event::PinFailed(generation, why));
            }
            (Purpose::Rehearsal(ticket, plan), Ok(_)) => {
                self.clients.answer(ticket, Ok(*plan));
            }
            (Purpose::Rehearsal(ticket, _), Err(message)) => {
                let code = Code::Failed;
                self.clients.answer(ticket, Err(Failure { code, message }));
            }
        }
        self.flush_clients();
    }

    /// The check is over, one way or the other.
    pub(super) fn end_preflight(&mut self) -> Option<Checked> {
        let preflight = self.preflight.take()?;
        let pid = preflight.pid();
        let checked = preflight.end();
        self.processes.spare(None);
        self.processes.forget_in_guard(pid);
        Some(checked)
    }

    /// Something that matters more comes between.
    pub(in crate::driver) fn end_rehearsal(&mut self, why: &str) {
        let Some(Purpose::Rehearsal(ticket, _)) = self.preflight.as_ref().map(|it| &it.purpose)
        else {
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

    /// Executes the successor. Returns only if that failed: why.
    fn execute(&mut self, successor: &Successor) -> String {
        // What is queued goes out while this image still can.
        self.flush_clients();
        let failed = |why: String| format!("cannot hand over to the successor: {why}");
        let (image, state) = match self.state() {
            Ok(state) => state,
            Err(why) => return failed(why),
        };
        let document = state
            .render()
            .and_then(|document| image::memory(&document).map_err(reason));
        let memory = match document {
            Ok(memory) => memory,
            Err(why) => return failed(why),
        };
        let mut fds = state.descriptors();
        fds.push(memory.as_raw_fd());
        let mut environment = self.origin.environment.clone();
        environment.push((STATE_FD.into(), memory.as_raw_fd().to_string().into()));
        let error = image::become_next(&Next {
            program: &successor.program,
            argv: &successor.argv,
            environment: &environment,
            dir: Some(&self.origin.dir),
            nofile: self.origin.nofile,
            fds: &fds,
        });
        drop(image);
        format!(
            "cannot execute the successor {successor}: {}",
            reason(error)
        )
    }
}
