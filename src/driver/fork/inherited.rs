//! The new master's part: it takes what the old one has left to it, which lay in the line before it was born.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use crate::driver::pin::{Pin, Recipe};
use crate::driver::upgrade::restored;
use crate::error::{Error, Result, reason};
use crate::model::Supervisor;
use crate::model::ids::Generation;
use crate::model::peer::PeerMessage;
use crate::model::policy::Policy;
use crate::sys::files::pidfile;
use crate::sys::io::fd;
use crate::sys::io::seqpacket::Link;
use crate::sys::listener::Listener;
use crate::sys::process::image;
use crate::wire::exports::Protocol;
use crate::wire::handover;
use crate::wire::peer::{ForkHandover, LONGEST, render};

use super::peer_master::PeerMaster;

/// What a new master has from the old one.
pub struct InheritedFork {
    link: Link,
    /// The old master's process; None: it is gone.
    process: Option<OwnedFd>,
    handover: ForkHandover,
    listeners: Vec<Listener>,
}

impl InheritedFork {
    /// Takes it from the line, which stands at descriptor `number`.
    ///
    /// # Errors
    /// Exit 111: there is no such line, or what lies in it is not understood.
    pub fn take(number: RawFd) -> Result<InheritedFork> {
        let failed = |why: String| Error::system("cannot stand beside the old master", why);
        let mut link = Link::new(fd::adopt(number)?);
        let taken = take_from(&mut link).map_err(failed);
        let (handover, listeners) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                refuse(&mut link, &error);
                return Err(error);
            }
        };
        let process = pidfile::open_process(handover.pid).ok();
        // Only while it holds its end the number is surely its own.
        let early = link.receive(LONGEST);
        let process = process.filter(|_| early.is_some() || !link.has_ended());
        Ok(InheritedFork {
            link,
            process,
            handover,
            listeners,
        })
    }

    /// Tells the old master why there will be no new one.
    pub fn refuse(&mut self, why: &Error) {
        refuse(&mut self.link, why);
    }

    /// The listeners.
    ///
    /// # Errors
    /// Exit 111: there are too many open files.
    pub fn listeners(&self) -> Result<Vec<Listener>> {
        self.listeners.iter().map(Listener::try_clone).collect()
    }

    /// The protocols in which the old master was told of listeners.
    pub fn inherited_exports(&self) -> &[Protocol] {
        &self.handover.inherited_exports
    }

    /// The generations that there are to begin with: this one's first, from `recipe` and `listeners`, and the old one's.
    ///
    /// # Errors
    /// As [`Recipe::pin`].
    pub(in crate::driver) fn pins(
        &self,
        recipe: &Recipe,
        policy: &Rc<Policy>,
        listeners: &Rc<Vec<Listener>>,
    ) -> Result<BTreeMap<Generation, Rc<Pin>>> {
        let (to, pin) = (self.handover.heir.to, &self.handover.pin);
        let changes = pin.changes.clone();
        let new = recipe.pin(to, Rc::clone(policy), Rc::clone(listeners), changes)?;
        let old = handover::Pin {
            listeners: 0,
            generation: pin.generation,
            policy: pin.policy.clone(),
            cwd: pin.cwd.clone(),
            program: pin.program.clone(),
            command: pin.command.clone(),
            environment: pin.environment.clone(),
            changes: pin.changes.clone(),
            exports: pin.exports.clone(),
            beat_fd: pin.beat_fd,
        };
        let old = restored(old, &[Rc::new(self.listeners()?)], recipe)?;
        Ok(BTreeMap::from([(to, Rc::new(new)), old]))
    }

    /// The model of this master, whose own command line says so many slots.
    pub(in crate::driver) fn supervisor(
        &self,
        policy: &Rc<Policy>,
        slots: usize,
        seed: u64,
    ) -> Supervisor {
        let heir = self.handover.heir.clone();
        Supervisor::heir(Rc::clone(policy), slots, seed, self.handover.pid, heir)
    }

    /// The old master, to be listened to.
    pub(in crate::driver) fn into_other(self) -> Result<PeerMaster> {
        let InheritedFork {
            link,
            process,
            handover,
            ..
        } = self;
        let path = |text: Option<crate::wire::text::Text>| text.map(|text| text.into_path());
        let names = (path(handover.pid_file), path(handover.control));
        PeerMaster::old_one(link, (handover.pid, process), names)
            .map_err(|error| Error::system("cannot listen to the old master", error))
    }
}

fn refuse(link: &mut Link, why: &Error) {
    link.send(render(&PeerMessage::Back(why.to_string())));
}

fn take_from(link: &mut Link) -> Result<(ForkHandover, Vec<Listener>), String> {
    let mut fds = VecDeque::new();
    let mut next = |fds: &mut VecDeque<OwnedFd>| {
        let message = link.receive(LONGEST).ok_or("it has left nothing")?;
        fds.extend(message.fds);
        Ok::<_, String>(())
    };
    next(&mut fds)?;
    let document = fds.pop_front().ok_or("it has left no document")?;
    let document = image::content(document.as_raw_fd()).map_err(reason)?;
    let handover = ForkHandover::parse(&document)?;
    while fds.len() < handover.listeners.len() {
        next(&mut fds)?;
    }
    let taken = handover.listeners.iter().zip(&fds).map(|(listener, fd)| {
        let here = handover::Listener {
            fd: fd.as_raw_fd(),
            name: listener.name.clone(),
            source: listener.source,
            backlog: listener.backlog,
        };
        Listener::taken_over(&here).map_err(|error| error.to_string())
    });
    let listeners = taken.collect::<Result<_, _>>()?;
    Ok((handover, listeners))
}
