//! Bringing the listeners that are held in line with those that are asked for.

use socket2::SockRef;

use super::assign::{Role, assign};
use super::socket::{self, Failure};
use super::wanted::{At, Group, Want, groups};
use super::{Bound, Listener, Retry};
use crate::error::{Error, Result, reason};
use crate::sys::io::fd;
use crate::sys::listener::options;
use crate::sys::listener::options::Backlog;
use crate::sys::listener::unix_path::Access;
use crate::sys::machine::clock;
use crate::wire::address::{ListenSpec, Name, Options};

/// How often a port that the system chose is given up because another address of the group has it in use.
const PORT_CHOICES: u32 = 20;

/// Where lines for people go.
type Log<'a> = &'a mut dyn FnMut(String);

/// The listeners that `specs` ask for, made out of `inherited` and of new ones.
///
/// An inherited listener is kept where a spec names its bound address, and closed where none does (unless `keep_all`); its options are set
/// anew. A missing one is bound; an address that is in use is tried again as `retry` says, and each try is logged. A Unix listener whose
/// path has gone counts as missing where a spec names it. The order is that of `specs`; with `keep_all` the inherited ones come first, in
/// theirs.
///
/// On an error everything is closed.
pub fn arrange(
    inherited: Vec<Listener>,
    specs: &[ListenSpec],
    keep_all: bool,
    retry: &Retry,
    log: Log,
) -> Result<Vec<Listener>> {
    let mut groups = groups(specs)?;
    let roles = assign(&inherited, &mut groups);
    let missing = missing(&inherited, &groups, &roles);
    let mut held: Vec<Held> = vec![];
    for (index, (listener, role)) in inherited.into_iter().zip(roles).enumerate() {
        held.extend(keep(index, listener, role, &groups, keep_all, log));
    }
    // First, because a socket that is bound may get the number of one that is named but not open.
    for &(group, want) in &missing {
        if let Some(listener) = take(&groups, group, want, log)? {
            held.push(Held {
                place: Place::Asked(group, want),
                again: Some(group),
                listener,
            });
        }
    }
    for (group, asked) in groups.iter_mut().enumerate() {
        let wants: Vec<usize> = missing
            .iter()
            .filter(|(of, _)| *of == group)
            .map(|(_, want)| *want)
            .collect();
        for (want, listener) in bind_missing(asked, &wants, retry, log)? {
            held.push(Held {
                place: Place::Asked(group, want),
                again: None,
                listener,
            });
        }
    }
    // Last, so that a failure to bind leaves what others may share as it was.
    for one in &mut held {
        if let Some(group) = one.again.and_then(|group| groups.get(group)) {
            set_again(&mut one.listener, group.spec, log)?;
        }
    }
    held.sort_by_key(|one| one.place);
    Ok(held.into_iter().map(|one| one.listener).collect())
}

/// A listener of the result.
struct Held {
    place: Place,
    /// The group whose options it is to get: it is an inherited one.
    again: Option<usize>,
    listener: Listener,
}

/// Where it stands in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// By its place among the inherited ones.
    Inherited(usize),
    /// By group and want. Those that a spec names without asking for them one by one come after its own.
    Asked(usize, usize),
}

/// The wants, as group and want, that no inherited listener meets. A descriptor that one of them stands at has been met, also where an
/// address names it too.
fn missing(inherited: &[Listener], groups: &[Group], roles: &[Role]) -> Vec<(usize, usize)> {
    let met = |group: usize, want: usize, wanted: &Want| {
        let stands_there = |fd: i32| inherited.iter().any(|listener| listener.source == Some(fd));
        roles.contains(&Role::Wanted { group, want })
            || matches!(wanted.at, At::Fd(fd) if stands_there(fd))
    };
    let of = |(group, asked): (usize, &Group)| {
        let missing = asked
            .wants
            .iter()
            .enumerate()
            .filter(|(want, wanted)| !met(group, *want, wanted));
        missing.map(|(want, _)| (group, want)).collect::<Vec<_>>()
    };
    groups.iter().enumerate().flat_map(of).collect()
}

/// Keeps an inherited listener in its role, or closes it.
fn keep(
    index: usize,
    mut listener: Listener,
    role: Role,
    groups: &[Group],
    keep_all: bool,
    log: Log,
) -> Option<Held> {
    let asked = |group, want| {
        if keep_all {
            Place::Inherited(index)
        } else {
            Place::Asked(group, want)
        }
    };
    let (place, again, name): (Place, Option<usize>, Option<&Name>) = match role {
        Role::Wanted { group, want } => {
            let wanted = groups.get(group).and_then(|group| group.wants.get(want));
            (
                asked(group, want),
                Some(group),
                wanted.and_then(|want| want.name.as_ref()),
            )
        }
        Role::Extra { group } => {
            let name = groups.get(group).and_then(|group| group.spec.name.as_ref());
            (asked(group, usize::MAX), Some(group), name)
        }
        Role::Unlinked => {
            log(format!(
                "{}: its path has been removed: binding it anew",
                listener.address
            ));
            return None;
        }
        Role::Unnamed if keep_all => {
            if listener.is_unlinked() {
                log(format!(
                    "{}: its path has been removed: no client can reach it",
                    listener.address
                ));
            }
            (Place::Inherited(index), None, None)
        }
        Role::Unnamed => {
            log(format!(
                "closing inherited listener {}: no address names it",
                listener.label()
            ));
            return None;
        }
    };
    if let Some(name) = name {
        listener.name = Some(name.clone());
    }
    Some(Held {
        place,
        again,
        listener,
    })
}

/// Binds those wants of a group that are missing.
fn bind_missing(
    group: &mut Group,
    missing: &[usize],
    retry: &Retry,
    log: Log,
) -> Result<Vec<(usize, Listener)>> {
    let mut choices = 1;
    loop {
        match bind_once(group, missing, retry, log) {
            // The port was free for the first address only; another one may be free for all.
            Err(Failure::InUse(_)) if choices < PORT_CHOICES && group.unsettle_port() => {
                choices += 1
            }
            done => return done.map_err(Failure::into_error),
        }
    }
}

fn bind_once(
    group: &mut Group,
    missing: &[usize],
    retry: &Retry,
    log: Log,
) -> Result<Vec<(usize, Listener)>, Failure> {
    let spec = group.spec;
    let backlog = Backlog::new(spec.options.backlog);
    let mut bound: Vec<(usize, Listener)> = vec![];
    let mut unavailable = None;
    for &index in missing {
        let Some(Want {
            at: At::Address(at),
            name,
            optional,
        }) = group.wants.get(index)
        else {
            continue;
        };
        // A port that has just been chosen is not worth waiting for: another one is as good.
        let patience = if group.port_is_chosen {
            &Retry::NONE
        } else {
            retry
        };
        match patiently(patience, log, || {
            socket::make(at, name.clone(), &spec.options, backlog)
        }) {
            Ok(listener) => {
                let port = listener.address.port();
                bound.push((index, listener));
                if let (Some(0), Some(port)) = (at.port(), port) {
                    group.settle_port(port);
                    group.port_is_chosen = true;
                }
            }
            Err(Failure::Unavailable(error)) if *optional => {
                log(format!("{error}; the host's other addresses are used"));
                unavailable = Some(error);
            }
            Err(failure) => return Err(failure),
        }
    }
    match unavailable {
        Some(error) if bound.is_empty() && missing.len() == group.wants.len() => {
            return Err(Failure::Unavailable(error));
        }
        _ => {}
    }
    if let Some((_, first)) = bound.first() {
        warn(first, &spec.options, backlog, log);
    }
    Ok(bound)
}

/// Makes a socket, and tries again while its address is in use.
fn patiently(
    retry: &Retry,
    log: Log,
    mut make: impl FnMut() -> Result<Listener, Failure>,
) -> Result<Listener, Failure> {
    let mut tried = 0;
    loop {
        let error = match make() {
            Err(Failure::InUse(error)) if retry.tries.is_none_or(|tries| tried < tries) => error,
            done => return done,
        };
        tried += 1;
        let of = retry
            .tries
            .map_or_else(String::new, |tries| format!(" of {tries}"));
        log(format!(
            "{error}; trying again in {} ({tried}{of})",
            humantime::format_duration(retry.delay)
        ));
        clock::pause(retry.delay);
    }
}

/// The socket that is open already, where a descriptor is wanted.
fn take(groups: &[Group], group: usize, want: usize, log: Log) -> Result<Option<Listener>> {
    let want = groups.get(group).and_then(|group| group.wants.get(want));
    let Some(Want {
        at: At::Fd(number),
        name,
        ..
    }) = want
    else {
        return Ok(None);
    };
    // Standard input, output and error stay open under their own numbers too.
    let fd = if *number < 3 {
        fd::duplicate(*number)?
    } else {
        fd::adopt(*number)?
    };
    let listener = Listener::inspect(fd, name.clone(), Some(*number), &format!("fd {number}"))?;
    if !listener.is_listener() {
        return Err(Error::system(
            format!("cannot use fd {number} as a listener"),
            "it is a connection",
        ));
    }
    if listener.is_unlinked() {
        log(format!(
            "{}: its path has been removed: no client can reach it",
            listener.address
        ));
    }
    Ok(Some(listener))
}

/// Sets the options of `spec` on a listener that somebody else bound: those that a bound socket can be given.
fn set_again(listener: &mut Listener, spec: &ListenSpec, log: Log) -> Result<()> {
    options::settle(&listener.fd, &listener.address, &spec.options)?;
    if let Bound::Unix(_, path) = &listener.address {
        Access::of(&spec.options)?.set_again(path)?;
    }
    let backlog = Backlog::new(spec.options.backlog);
    // One whose backlog nobody asks for keeps what it has; but a stream socket that does not listen yet is no use to anybody.
    if spec.options.backlog.is_some() || (listener.address.listens() && !listener.accepts()) {
        let listening = SockRef::from(&listener.fd).listen(backlog.argument());
        listening.map_err(|error| {
            Error::system(
                format!("cannot listen on {}", listener.address),
                reason(&error),
            )
        })?;
        listener.backlog = Some(backlog.effective());
    }
    warn(listener, &spec.options, backlog, log);
    Ok(())
}

/// Says what the system made less of than was asked for.
fn warn(listener: &Listener, given: &Options, backlog: Backlog, log: Log) {
    let at = &listener.address;
    if let Some(asked) = backlog.shortfall() {
        let allowed = backlog.effective();
        log(format!(
            "{at}: a backlog of {asked} is asked for, {allowed} is what the system allows (net.core.somaxconn)"
        ));
    }
    for line in options::shortfalls(&listener.fd, at, given) {
        log(line);
    }
}
