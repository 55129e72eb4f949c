//! Listeners that come and go while the service runs: `add-fds`, `listeners --remove`, `take-fds`.
//!
//! A change of the listeners is a rollout. What is wrong with a request is found here, before the
//! model hears of it; the descriptors wait with the clients until the model asks for the pin
//! (`Asked`). They are part of that pin alone until the rollout is done: then
//! [`Action::SettleListeners`](crate::model::action::Action::SettleListeners) makes the pin's
//! listeners those of the service, and what is not among them is closed. If the rollout fails, the
//! pin is forgotten, and the service never had them.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use serde_json::Value;

use crate::error::{Error, Exit, Result};
use crate::model::event::{Command as ModelCommand, Event};
use crate::model::ids::{Generation, Ticket};
use crate::sys::control::descriptors::{MAX_WITH_A_LINE, Missing};
use crate::sys::listener::{self, Listener};
use crate::sys::machine::limits;
use crate::wire::address::{Address, Host, ListenSpec};
use crate::wire::control::{Code, Reply};

use super::clients::{Asked, Key, code_of};
use super::pin::{Pin, PinnedListeners};
use super::state::Driver;

impl Driver {
    /// `add-fds`: the workers get the listeners whose descriptors came with the request.
    pub(super) fn add_fds(
        &mut self,
        number: u64,
        (id, key, wait): (Option<Value>, Option<Key>, bool),
        names: Option<Vec<Option<String>>>,
    ) {
        let fds = self.clients.take_fds(number);
        let new = match given(fds, names).and_then(|given| self.check_added(given)) {
            Ok(new) => new,
            Err(error) => return self.fail_with(number, &error, id),
        };
        let is_new = !new.is_empty();
        let ticket = self.clients.ticket(number, id, key, wait);
        self.clients.keep_asked(ticket, Asked::Add(new));
        let command = ModelCommand::AddListeners { new: is_new };
        self.feed(Event::Command(ticket, command));
        // What is held already is done at once, and never asked for.
        self.clients.take_asked(ticket);
    }

    /// Those of the listeners that the service does not have already.
    fn check_added(&self, given: Vec<Listener>) -> Result<Vec<Listener>> {
        let mut known = self.listeners.inodes();
        let new: Vec<Listener> = given
            .into_iter()
            .filter(|listener| known.insert(listener.inode()))
            .collect();
        let all: Vec<&Listener> = self.listeners.iter().chain(&new).collect();
        let serving = self.supervisor.generation();
        match self
            .pins
            .why_not_with(serving, &all)
            .filter(|_| !new.is_empty())
        {
            Some(error) => Err(Error::new(Exit::Refused, error.to_string(), "")),
            None => Ok(new),
        }
    }

    /// `listeners --remove`: the workers lose the listeners of this name or address.
    pub(super) fn remove_listeners(
        &mut self,
        number: u64,
        (id, key, wait): (Option<Value>, Option<Key>, bool),
        name: &str,
    ) {
        // A rollout may add it at this moment.
        if let Some((refusal, why)) = self.supervisor.why_no_rollout() {
            return self.fail(number, code_of(refusal), why, id);
        }
        let found = self.named(name);
        if found.is_empty() {
            let text = match self.listeners.iter().next() {
                None => format!("no listener '{name}': the service has none"),
                Some(_) => {
                    let all: BTreeSet<String> =
                        self.listeners.iter().map(Listener::label).collect();
                    let all: Vec<String> = all.into_iter().collect();
                    format!("no listener '{name}': there is {}", all.join(", "))
                }
            };
            return self.fail(number, Code::Refused, text, id);
        }
        let is_inherited = |it: &&Listener| found.contains(&it.inode()) && it.source.is_some();
        let held = self.listeners.iter().find(is_inherited);
        let held = held.map(Listener::label);
        if let Some(label) = held.filter(|_| self.is_under_holder()) {
            // Its clients would connect, and wait for an answer that never comes.
            let text = format!(
                "{label} stays open in pf-listen --hold: start that anew without the address"
            );
            return self.fail(number, Code::Refused, text, id);
        }
        let rest = self.listeners.iter();
        let rest: Vec<&Listener> = rest.filter(|it| !found.contains(&it.inode())).collect();
        let serving = self.supervisor.generation();
        if let Some(error) = self.pins.why_not_with(serving, &rest) {
            return self.fail(number, Code::Refused, error.to_string(), id);
        }
        let ticket = self.clients.ticket(number, id, key, wait);
        self.clients.keep_asked(ticket, Asked::Remove(found));
        self.feed(Event::Command(ticket, ModelCommand::RemoveListeners));
    }

    /// The listeners of this name; else those at this address.
    fn named(&self, name: &str) -> BTreeSet<u64> {
        let by = |is_it: &dyn Fn(&Listener) -> bool| -> BTreeSet<u64> {
            let found = self.listeners.iter().filter(|it| is_it(it));
            found.map(Listener::inode).collect()
        };
        let named = by(&|it| it.name.as_ref().is_some_and(|own| own.as_str() == name));
        if !named.is_empty() {
            return named;
        }
        let shown = by(&|it| it.address.to_string() == name);
        match name.parse::<ListenSpec>() {
            Ok(spec) if shown.is_empty() && names_no_host(&spec.address) => {
                by(&|it| listener::is_at(&spec, it))
            }
            _ => shown,
        }
    }

    /// Pins a generation that has more or fewer listeners, and else what serves now.
    pub(super) fn pin_listeners(
        &self,
        generation: Generation,
        added: Vec<Listener>,
        removed: &BTreeSet<u64>,
    ) -> Result<Pin> {
        let kept = self.listeners.iter();
        let kept = kept.filter(|it| !removed.contains(&it.inode()));
        let mut all = kept.map(Listener::try_clone).collect::<Result<Vec<_>>>()?;
        all.extend(added);
        let serving = self.supervisor.generation();
        self.pins.with_listeners(generation, serving, all)
    }

    /// This generation serves: what it lacks is closed, also what a kept release had.
    pub(super) fn settle_listeners(&mut self, serving: Generation) {
        let Some(pin) = self.pins.get(serving) else {
            return;
        };
        if let PinnedListeners::Open(own) = &pin.listeners {
            self.listeners.settle(&own.clone());
        }
        let sockets = self.listeners.sockets().clone();
        self.pins.close_all_but(serving, &sockets);
        // A client that does not read them would keep them open.
        self.clients.drop_unsent_fds();
    }

    /// The inodes of all listeners that a worker may have been given.
    pub(super) fn open_inodes(&self) -> BTreeSet<u64> {
        let mut all = self.listeners.inodes();
        all.extend(self.pins.listeners().map(Listener::inode));
        all
    }

    /// `take-fds`: the listeners, with their descriptors.
    pub(super) fn take_fds(&mut self, number: u64, id: Option<Value>) {
        if self.listeners.iter().next().is_none() {
            let text = "the master has no listener".to_owned();
            return self.fail(number, Code::Refused, text, id);
        }
        // Copies for clients that do not read them would take the descriptors of workers.
        let unsent = self.clients.unsent_fds();
        if unsent > 0 && unsent + self.listeners.iter().count() > MAX_WITH_A_LINE {
            let text = format!("clients have not read {unsent} descriptors that they asked for");
            return self.fail(number, Code::Busy, text, id);
        }
        let copies = self.listeners.iter().map(Listener::try_clone);
        let copies = match copies.collect::<Result<Vec<_>>>() {
            Ok(copies) => copies,
            Err(error) => return self.fail_with(number, &error, id),
        };
        let reply = Reply {
            ok: true,
            listeners: Some(self.listener_list()),
            id,
            ..Reply::default()
        };
        if let Some(client) = self.clients.get_mut(number) {
            client.reply_with(&reply, copies.into_iter().map(OwnedFd::from).collect());
        }
    }

    /// Answers with an error. One that refuses keeps its code; every other one is a failure.
    fn fail_with(&mut self, number: u64, error: &Error, id: Option<Value>) {
        let code = match error.exit {
            Exit::Refused => Code::Refused,
            Exit::Usage => Code::Usage,
            _ => Code::Failed,
        };
        self.fail(number, code, error.to_string(), id);
    }

    /// Pins what the request of this ticket asks for.
    pub(super) fn pin_as_asked(&mut self, generation: Generation, ticket: Ticket) -> Result<Pin> {
        match self.clients.take_asked(ticket) {
            None => self.resolve_pin(generation, &Default::default()),
            Some(Asked::Changes(changes)) => self.resolve_pin(generation, &changes),
            Some(Asked::Add(new)) => self.pin_listeners(generation, new, &BTreeSet::new()),
            Some(Asked::Remove(inodes)) => self.pin_listeners(generation, Vec::new(), &inodes),
        }
    }
}

/// The listeners that came with a request; those that are more than it names are closed.
fn given(
    fds: std::result::Result<Vec<OwnedFd>, Missing>,
    names: Option<Vec<Option<String>>>,
) -> Result<Vec<Listener>> {
    let refused = |what: String, why: String| Error::new(Exit::Refused, what, why);
    let fds = fds.map_err(|missing| {
        let why = match missing {
            Missing::TooMany => format!("a request may carry {MAX_WITH_A_LINE}"),
            Missing::NoRoom => {
                let limit = limits::nofile();
                format!("the master's limit of open files, {limit}, has no room for them")
            }
        };
        refused("not all descriptors could be received".to_owned(), why)
    })?;
    let wanted = names.as_ref().map_or(fds.len(), Vec::len);
    if wanted == 0 || fds.len() < wanted {
        let came = fds.len();
        return Err(Error::usage(if wanted == 0 {
            "no descriptor came with the request".to_owned()
        } else {
            format!("the request names {wanted} listeners, and {came} came with it")
        }));
    }
    let names = names.unwrap_or_default().into_iter();
    let names = names.chain(std::iter::repeat(None)).take(wanted);
    let numbered = fds.into_iter().zip(names).zip(1..);
    numbered
        .map(|((fd, name), number)| listener::check_given(fd, name.as_deref(), number))
        .collect()
}

/// Whether an address can be compared without asking a name server, which may take long.
fn names_no_host(address: &Address) -> bool {
    match address {
        Address::Tcp(at) | Address::Udp(at) => !matches!(at.host, Host::Name(_)),
        Address::Unix(..) | Address::Abstract(..) | Address::Vsock { .. } | Address::Fd(_) => true,
    }
}
