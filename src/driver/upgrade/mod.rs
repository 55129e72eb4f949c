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

use crate::error::reason;
use crate::model::event::{Event, Generation};
use crate::model::time::Time;
use crate::sys::image::{self, Next};
use crate::wire::handover::STATE_FD;

use super::Driver;

pub(super) use preflight::Preflight;
pub(super) use save::saved;
pub(super) use takeover::restored;
pub use takeover::{Fresh, Taken, go_back, take_over};

impl Driver {
    /// Begins to look whether there is a successor that will do.
    pub(super) fn upgrade(&mut self, generation: Generation) -> Option<Event> {
        match self.check_successor(generation) {
            Ok(()) => None,
            Err(why) => Some(Event::PinFailed(generation, why)),
        }
    }

    fn check_successor(&mut self, generation: Generation) -> Result<(), String> {
        let successor = self.origin.successor().map_err(|error| error.to_string())?;
        let (_image, state) = self.state()?;
        let state = image::memory(&state.render()?)
            .map_err(|error| format!("cannot write the state down: {}", reason(error)))?;
        self.log.info(format_args!(
            "upgrade: checking {}",
            successor.program.display()
        ));
        let preflight = Preflight::start(
            generation,
            successor,
            &self.origin,
            state.as_fd(),
            self.processes.guard_socket(),
        )?;
        self.processes.spare(Some(preflight.pid()));
        self.preflight = Some(preflight);
        Ok(())
    }

    /// Takes what the preflight says, if it says anything yet.
    pub(super) fn hear_successor(&mut self, now: Time) {
        let Some(preflight) = &mut self.preflight else {
            return;
        };
        let answer = if self.supervisor.awaits_successor() {
            preflight.look(now)
        } else {
            // A stop came between.
            Some(Err("nobody waits for it".to_owned()))
        };
        let Some(answer) = answer else { return };
        let generation = preflight.generation;
        let successor = preflight.successor.clone();
        self.end_preflight();
        let why = match answer {
            Ok(version) => {
                self.log.info(format_args!(
                    "upgrade: executing {}, version {version}",
                    successor.program.display()
                ));
                self.execute(&successor)
            }
            Err(why) => format!(
                "the successor {} will not do: {why}",
                successor.program.display()
            ),
        };
        self.feed(Event::PinFailed(generation, why));
    }

    /// The check is over, one way or the other.
    pub(super) fn end_preflight(&mut self) {
        if let Some(preflight) = self.preflight.take() {
            let pid = preflight.pid();
            drop(preflight);
            self.processes.spare(None);
            self.processes.forget_in_guard(pid);
        }
    }

    /// Executes the successor. Returns only if that failed: why.
    fn execute(&mut self, successor: &crate::sys::successor::Successor) -> String {
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
            "cannot execute the successor {}: {}",
            successor.program.display(),
            reason(error)
        )
    }
}
