//! The new master's side: it takes what the old master has sent into the link before this one ran.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use crate::driver::clients::{Clients, Keys};
use crate::driver::pin::{Pin, Pins};
use crate::driver::state::{OldPaths, PeerMaster};
use crate::error::{Error, Result, reason};
use crate::model::Supervisor;
use crate::model::ids::Generation;
use crate::model::machines::event_log::EventLog;
use crate::model::machines::stories::Stories;
use crate::model::peer::PeerMessage;
use crate::model::policy::Policy;
use crate::sys::io::fd;
use crate::sys::io::seqpacket::{Link, Message};
use crate::sys::listener;
use crate::sys::listener::Listener;
use crate::sys::process::image;
use crate::sys::process::pidfd;
use crate::wire::address::ListenSpec;
use crate::wire::changes::Changes;
use crate::wire::environment::VariablePool;
use crate::wire::exports::Protocol;
use crate::wire::handover;
use crate::wire::peer::{ForkHandover, LONGEST, render};
use crate::wire::text::Text;

/// What a new master has from the old master.
pub struct InheritedFork {
    link: Link,
    /// What the old master has sent since it sent the rest.
    early: Option<Message>,
    /// A pidfd of the old master; None: it is gone.
    process: Option<OwnedFd>,
    handover: ForkHandover,
    listeners: Vec<Listener>,
}

impl InheritedFork {
    /// Takes it from the link, which is descriptor `number`.
    ///
    /// # Errors
    /// Exit 111: there is no such descriptor, or its content is not understood.
    pub fn take(number: RawFd) -> Result<InheritedFork> {
        let failed = |why: String| Error::system("cannot take over from the old master", why);
        let mut link = Link::new(fd::adopt(number)?);
        let taken = take_from(&mut link).map_err(failed);
        let (handover, listeners) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                refuse(&mut link, &error);
                return Err(error);
            }
        };
        let watched = watch(&mut link, handover.pid).map_err(|error| {
            let what = "cannot tell whether the old master lives";
            let error = Error::system(what, reason(error));
            refuse(&mut link, &error);
            error
        });
        let (process, early) = watched?;
        Ok(InheritedFork {
            link,
            early,
            process,
            handover,
            listeners,
        })
    }

    /// Tells the old master why this one will not run.
    pub fn refuse(&mut self, why: &Error) {
        refuse(&mut self.link, why);
    }

    /// No clients, but what the old master knows of its own: the keys of requests that have begun
    /// operations, and how many clients were dropped.
    pub(in crate::driver) fn clients(&self) -> Clients {
        let known = &self.handover;
        let keys = (known.keys.clone(), known.key_commands.clone());
        Clients::after(Keys::taken_over(keys), known.clients_dropped)
    }

    /// Copies of the listeners.
    ///
    /// # Errors
    /// Exit 111: there are too many open files.
    pub fn listeners(&self) -> Result<Vec<Listener>> {
        self.listeners.iter().map(Listener::try_clone).collect()
    }

    /// Whether the old master's command line named this address, and its listener was taken away
    /// since.
    pub fn was_removed(&self, spec: &ListenSpec) -> bool {
        let known = self.handover.listen.contains(&spec.to_string());
        known && !self.listeners.iter().any(|it| listener::is_at(spec, it))
    }

    /// The protocols in which the old master was told of listeners.
    pub fn inherited_exports(&self) -> &[Protocol] {
        &self.handover.inherited_exports
    }

    /// Pins the first generation of this master, with the changes that hold in the old one, and the
    /// generation that the old master serves from.
    ///
    /// # Errors
    /// As [`Recipe::pin`](crate::driver::pin::Recipe::pin).
    pub(in crate::driver) fn pin_first(
        &self,
        pins: &mut Pins,
        listeners: &Rc<Vec<Listener>>,
    ) -> Result<()> {
        let sets = vec![Rc::new(self.listeners()?)];
        let known = pins.recipe().workers_environment();
        let mut variables = VariablePool::new(&known);
        let nofile = pins.recipe().nofile;
        let mut taken = |pin: &handover::Pin| {
            let pin = handover::Pin {
                listeners: 0,
                ..pin.clone()
            };
            Pin::taken_over(pin, &sets, &mut variables, nofile)
        };
        let old = taken(&self.handover.pin)?;
        let earlier = self.handover.earlier.iter().map(taken);
        let earlier = earlier.collect::<Result<Vec<_>>>()?;
        earlier.into_iter().for_each(|pin| pins.insert(pin));
        let (from, to) = (old.generation, Generation(self.handover.state.to()));
        let copy = self.handover.state.is_copy();
        let copy = copy.then(|| {
            let listeners = old.listeners.again(listeners)?;
            old.renumbered(to, listeners, old.beat_fd)
        });
        pins.insert(old);
        let new = match copy {
            Some(copy) => copy?,
            // The changes are those of the generation that serves: the old one.
            None => pins.resolve(to, from, listeners, &Changes::default())?,
        };
        new.prepare()?;
        pins.insert(new);
        Ok(())
    }

    /// The model of this master; `slots`: as its own command line says.
    pub(in crate::driver) fn supervisor(
        &self,
        policy: &Rc<Policy>,
        slots: usize,
        seed: u64,
    ) -> Supervisor {
        let (old_pid, state) = (self.handover.pid, self.handover.state.clone().into());
        Supervisor::beside_old_master(Rc::clone(policy), slots, seed, old_pid, state)
    }

    /// The events so far, which the old master numbers as long as it lives. None: it has none,
    /// being older.
    pub(in crate::driver) fn events(&self) -> Option<EventLog<String>> {
        let known = self.handover.events.clone()?;
        Some(EventLog::from(known).beside_old_master([]))
    }

    /// What has happened to each slot, as far as the old master has kept it.
    pub(in crate::driver) fn stories(&self) -> Stories<Box<str>> {
        self.handover.stories.clone().into()
    }

    /// The old master, as a part of the driver.
    pub(in crate::driver) fn into_peer(self) -> Result<PeerMaster> {
        let InheritedFork {
            link,
            early,
            process,
            handover,
            ..
        } = self;
        let old_paths = OldPaths {
            pid_file: handover.pid_file.map(Text::into_path),
            control: handover.control.map(Text::into_path),
        };
        PeerMaster::old_master((link, early), (handover.pid, process), old_paths)
            .map_err(|error| Error::system("cannot watch the old master", error))
    }
}

fn refuse(link: &mut Link, why: &Error) {
    // If it cannot be sent, this process ends all the same, and the old master sees that.
    let _ = link.send(render(&PeerMessage::Back(why.to_string())));
}

/// A pidfd of the old master, or None if it is gone; and a message that it has sent since.
///
/// # Errors
/// It cannot be told whether the old master is gone: a new master that took it for gone would be a
/// second service.
fn watch(link: &mut Link, pid: i32) -> io::Result<(Option<OwnedFd>, Option<Message>)> {
    let process = pidfd::open_if_alive(pid)?;
    // The pid is the old master's own only while that holds its end of the link: so this is asked
    // after the pidfd was opened.
    let early = link.receive(LONGEST)?;
    let process = process.filter(|_| early.is_some() || !link.has_ended());
    Ok((process, early))
}

fn take_from(link: &mut Link) -> Result<(ForkHandover, Vec<Listener>), String> {
    let mut fds = VecDeque::new();
    let mut next = |fds: &mut VecDeque<OwnedFd>| {
        let message = link.receive(LONGEST).map_err(reason)?;
        let message = message.ok_or("it has sent nothing")?;
        fds.extend(message.fds);
        Ok::<_, String>(())
    };
    next(&mut fds)?;
    let document = fds.pop_front().ok_or("it has sent no document")?;
    let document = image::content(document.as_raw_fd()).map_err(reason)?;
    let handover = ForkHandover::parse(&document)?;
    while fds.len() < handover.listeners.len() {
        next(&mut fds)?;
    }
    let taken =
        handover.listeners.iter().zip(fds).map(|(listener, fd)| {
            Listener::received(listener, fd).map_err(|error| error.to_string())
        });
    let listeners = taken.collect::<Result<_, _>>()?;
    Ok((handover, listeners))
}
