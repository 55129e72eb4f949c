//! The old master's side: it starts a new master.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::driver::state::{Driver, PeerMaster};
use crate::error::reason;
use crate::model::peer::{ForkState, PeerEvent};
use crate::sys::io::lifeline::Lifeline;
use crate::sys::io::seqpacket::{Link, MAX_FDS};
use crate::sys::process::fork_master::fork_master;
use crate::sys::process::image;
use crate::sys::process::image::Next;
use crate::sys::process::successor::Image;
use crate::wire::environment::Environment;
use crate::wire::events::kept::KnownEvents;
use crate::wire::exports;
use crate::wire::listen_env::FIRST_FD;
use crate::wire::peer::{FOR_ONE_PROCESS, FORMAT, ForkHandover, LINK_FD};
use crate::wire::story::kept::KnownStories;

impl Driver {
    /// Moves the paths aside and starts a new master. If that fails, nothing has changed.
    pub(super) fn fork_master(&mut self, state: ForkState) -> PeerEvent {
        self.cancel_dry_run("an upgrade has begun meanwhile");
        let started = self
            .published
            .move_aside(&self.log)
            .map_err(|error| error.to_string())
            .and_then(|()| self.start_master(state));
        match started {
            Ok(peer) => {
                let pid = peer.pid();
                self.processes.leave_unreaped(Some(pid));
                self.peer = Some(peer);
                PeerEvent::Started(pid)
            }
            Err(why) => {
                self.published.move_back(&self.log);
                PeerEvent::NotStarted(why)
            }
        }
    }

    fn start_master(&mut self, state: ForkState) -> Result<PeerMaster, String> {
        let image = if state.is_copy {
            Image::Same
        } else {
            Image::Next
        };
        let successor = self.origin.image(image).map_err(|it| it.to_string())?;
        let failed = |error| format!("cannot start a new master: {}", reason(error));
        if !self.origin.dir.is_dir() {
            let dir = self.origin.dir.display();
            return Err(format!(
                "cannot start a new master: the directory in which this one was started, {dir}, \
                 is gone (make it again, or upgrade in place)"
            ));
        }
        let (link, theirs) = Link::pair().map_err(failed)?;
        let document = image::memory(&self.fork_handover(state)?.render()?).map_err(failed)?;
        self.send_handover(&link, &document)?;
        let peer = PeerMaster::not_started(link).map_err(failed)?;
        let mut placed = self.processes.kept();
        // Both masters have it: whichever lives ends with it.
        let lifeline = self.lifeline.as_ref();
        placed.extend(lifeline.and_then(Lifeline::handed_on).map(|fd| (fd, fd)));
        let taken: BTreeSet<RawFd> = placed.iter().map(|(_, at)| *at).collect();
        let at = (FIRST_FD..RawFd::MAX)
            .find(|number| !taken.contains(number))
            .unwrap_or(FIRST_FD);
        placed.push((theirs.as_raw_fd(), at));
        self.log.info(format_args!("upgrade: starting {successor}"));
        let forked = fork_master(
            &Next {
                program: &successor.program,
                argv: &successor.argv,
                environment: &self.environment_of_new_master(at).map_err(failed)?,
                dir: Some(&self.origin.dir),
                nofile: self.origin.nofile,
                fds: &[],
            },
            &placed,
            self.signals.ignored(),
        )
        .map_err(failed)?;
        peer.started(forked).map_err(failed)
    }

    /// The environment that this master was started with, without what was meant for its process
    /// alone.
    fn environment_of_new_master(&self, link: RawFd) -> io::Result<Environment> {
        let mut environment = self.origin.environment.clone();
        environment.retain(|name| {
            let is_for_one = FOR_ONE_PROCESS.iter().any(|ours| name == *ours);
            !is_for_one && !exports::is_listener_variable(name)
        });
        environment.push(LINK_FD, link.to_string())?;
        Ok(environment)
    }

    fn fork_handover(&self, state: ForkState) -> Result<ForkHandover, String> {
        let pin = self.pins.get(state.from);
        let pin = pin.ok_or("the generation that serves is forgotten")?;
        let held = self.listeners.sockets();
        let kept = state.releases.kept.iter().map(|kept| kept.generation);
        let earlier: Vec<_> = kept
            .filter(|generation| *generation != state.from)
            .filter_map(|generation| self.pins.get(generation))
            .map(|pin| pin.handed_to_new_master(held))
            .collect();
        let (keys, key_commands) = self.clients.keys.handed_over();
        Ok(ForkHandover {
            keys,
            key_commands,
            clients_dropped: self.clients.dropped,
            format: FORMAT,
            by: env!("CARGO_PKG_VERSION").to_owned(),
            pid: i32::try_from(std::process::id()).unwrap_or(0),
            state: (&state).into(),
            pin: pin.handed_to_new_master(held),
            earlier,
            events: Some(KnownEvents::from(&self.events)),
            stories: KnownStories::from(&self.stories),
            listeners: self
                .listeners
                .iter()
                .map(|listener| listener.handed_over())
                .collect(),
            inherited_exports: self.pins.recipe().exports.inherited().to_vec(),
            listen: self.pins.settings().addresses(),
            pid_file: self.published.pid_file().map(|file| file.path().into()),
            control: self
                .published
                .control()
                .map(|control| control.path().into()),
        })
    }

    /// Sends everything before the new master runs: it stays in the link also if this master dies.
    fn send_handover(&self, link: &Link, document: &OwnedFd) -> Result<(), String> {
        let mut fds = vec![document.as_raw_fd()];
        fds.extend(self.listeners.iter().map(|l| l.as_fd().as_raw_fd()));
        for some in fds.chunks(MAX_FDS) {
            link.send_now(b"legacy", some)
                .map_err(|error| format!("cannot hand the listeners over: {}", reason(error)))?;
        }
        Ok(())
    }
}
