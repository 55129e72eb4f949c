//! The old master's part: a new one is begotten.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use crate::driver::Driver;
use crate::driver::upgrade::saved;
use crate::error::reason;
use crate::model::peer::{ForkState, PeerEvent};
use crate::sys::io::seqpacket::{Link, MAX_FDS};
use crate::sys::process::fork_master::fork_master;
use crate::sys::process::image;
use crate::sys::process::image::Next;
use crate::wire::exports;
use crate::wire::listen_env::FIRST_FD;
use crate::wire::peer::{FOR_ONE_PROCESS, FORMAT, ForkHandover, LINK_FD};

use super::peer_master::PeerMaster;

impl Driver {
    /// Gives the names away and starts a new master; if that fails, nothing has changed.
    pub(super) fn fork_master(&mut self, heir: ForkState) -> PeerEvent {
        self.end_rehearsal("an upgrade has begun meanwhile");
        let born = self
            .step_aside()
            .map_err(|error| error.to_string())
            .and_then(|()| self.start_new_one(heir));
        match born {
            Ok(other) => {
                let pid = other.pid();
                self.processes.spare(Some(pid));
                self.other = Some(other);
                PeerEvent::Born(pid)
            }
            Err(why) => {
                self.take_names_back();
                PeerEvent::Unborn(why)
            }
        }
    }

    fn start_new_one(&mut self, heir: ForkState) -> Result<PeerMaster, String> {
        let successor = self.origin.successor().map_err(|error| error.to_string())?;
        let failed = |error| format!("cannot start a new master: {}", reason(error));
        let (link, theirs) = Link::pair().map_err(failed)?;
        let document = image::memory(&self.handover(heir)?.render()?).map_err(failed)?;
        self.leave_behind(&link, &document)?;
        let mut placed = self.processes.kept();
        let taken: HashSet<RawFd> = placed.iter().map(|(_, at)| *at).collect();
        let at = (FIRST_FD..RawFd::MAX)
            .find(|number| !taken.contains(number))
            .unwrap_or(FIRST_FD);
        placed.push((theirs.as_raw_fd(), at));
        self.log.info(format_args!("upgrade: starting {successor}"));
        let forked = fork_master(
            &Next {
                program: &successor.program,
                argv: &successor.argv,
                environment: &self.environment_of_new_one(at),
                dir: Some(&self.origin.dir),
                nofile: self.origin.nofile,
                fds: &[],
            },
            &placed,
            self.signals.ignored(),
        )
        .map_err(failed)?;
        PeerMaster::new_one(link, forked).map_err(failed)
    }

    /// What this master was started with, but for what was meant for its process alone.
    fn environment_of_new_one(&self, link: RawFd) -> Vec<(OsString, OsString)> {
        let given = self.origin.environment.iter();
        let for_one = |name: &OsString| {
            FOR_ONE_PROCESS.iter().any(|ours| name == ours) || exports::is_listener_variable(name)
        };
        let mut environment: Vec<_> = given.filter(|(name, _)| !for_one(name)).cloned().collect();
        environment.push((LINK_FD.into(), link.to_string().into()));
        environment
    }

    fn handover(&self, heir: ForkState) -> Result<ForkHandover, String> {
        let pin = self.pins.get(&heir.from.0);
        let pin = pin.ok_or("the generation that serves is forgotten")?;
        // All of a new master's generations have the listeners that this one has now.
        let mut sets = vec![Rc::clone(&pin.listeners)];
        Ok(ForkHandover {
            format: FORMAT,
            by: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            heir,
            pin: saved(pin, &mut sets),
            listeners: self
                .listeners
                .iter()
                .map(|listener| listener.handed_over())
                .collect(),
            inherited_exports: self.recipe.exports.inherited().to_vec(),
            pid_file: self.pid_file.as_ref().map(|file| file.path().into()),
            control: self.control.as_ref().map(|control| control.path().into()),
        })
    }

    /// Puts everything into the line, where it stays whatever becomes of us.
    fn leave_behind(&self, link: &Link, document: &OwnedFd) -> Result<(), String> {
        let mut fds = vec![document.as_raw_fd()];
        fds.extend(self.listeners.iter().map(|l| l.as_fd().as_raw_fd()));
        for some in fds.chunks(MAX_FDS) {
            link.send_now(b"legacy", some)
                .map_err(|error| format!("cannot hand the listeners over: {}", reason(error)))?;
        }
        Ok(())
    }
}
