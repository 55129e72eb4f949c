//! Makes the listeners that are asked for out of the inherited ones and new ones.

use socket2::SockRef;

use super::assign::{Role, assign};
use super::bind_missing::{Log, Retry, bind_missing, warn_of_shortfalls};
use super::bound_socket::Listener;
use super::options::{self, Backlog};
use super::unix_path::Access;
use super::wanted::{At, Group, Want, groups};
use crate::error::{Error, Result, reason};
use crate::sys::io::fd;
use crate::wire::address::{Bound, ListenSpec, Name};

/// Binds the sockets of `spec`: several for a host of several addresses, and for `copies=N`. It
/// does not wait for an address in use, and logs nothing about sizes that the kernel caps;
/// [`arrange`] does both.
///
/// # Errors
/// Exit 111: the system refused. Exit 2: the spec makes no sense.
pub fn bind(spec: &ListenSpec) -> Result<Vec<Listener>> {
    arrange(
        vec![],
        std::slice::from_ref(spec),
        false,
        &Retry::NONE,
        &mut |_| {},
    )
}

/// Looks up the hosts, services, users and groups of the spec on this machine. Binds nothing.
///
/// # Errors
/// Exit 111: one of them does not exist.
pub fn check(spec: &ListenSpec) -> Result<()> {
    groups(std::slice::from_ref(spec))?;
    Access::of(&spec.options)?;
    Ok(())
}

/// The listeners that `specs` ask for, made out of `inherited` and of new ones.
///
/// - An inherited listener is kept if a spec names its address; its options are set again. It is
///   closed if no spec names it, unless `keep_all`.
/// - A missing listener is bound. While its address is in use it is tried again as `retry` says,
///   and each try is logged.
/// - A Unix listener whose path was removed counts as missing if a spec names it.
///
/// The result is in the order of `specs`. With `keep_all` the inherited listeners come first, in
/// their own order.
///
/// # Errors
/// Exit 111: the system refused. Exit 2: two specs contradict each other. All listeners are closed
/// then.
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
        held.extend(keep_or_close(index, listener, role, &groups, keep_all, log));
    }
    // Before any bind: a new socket may get the number of a descriptor that is named but not open.
    for &(group, want) in &missing {
        if let Some(listener) = take_fd(&groups, group, want, log)? {
            held.push(Held {
                place: Place::Asked(group, want),
                options_of: Some(group),
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
                options_of: None,
                listener,
            });
        }
    }
    // Last: if a bind fails, the options of sockets that other processes share have not changed.
    for one in &mut held {
        if let Some(group) = one.options_of.and_then(|group| groups.get(group)) {
            set_options(&mut one.listener, group.spec, log)?;
        }
    }
    held.sort_by_key(|one| one.place);
    Ok(held.into_iter().map(|one| one.listener).collect())
}

/// A listener of the result.
struct Held {
    place: Place,
    /// For an inherited listener: the group whose options are to be set on it.
    options_of: Option<usize>,
    listener: Listener,
}

/// The sort key: where a listener stands in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// By its index among the inherited ones.
    Inherited(usize),
    /// By group and want. An extra listener of a spec comes after its wants (`usize::MAX`).
    Asked(usize, usize),
}

/// The wants, as (group, want), that no inherited listener meets. A wanted descriptor number is met
/// if an inherited listener came from it, even if that listener meets another want by its address.
fn missing(inherited: &[Listener], groups: &[Group], roles: &[Role]) -> Vec<(usize, usize)> {
    let met = |group: usize, want: usize, wanted: &Want| {
        let came_from = |fd: i32| inherited.iter().any(|listener| listener.source == Some(fd));
        roles.contains(&Role::Wanted { group, want })
            || matches!(wanted.at, At::Fd(fd) if came_from(fd))
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
fn keep_or_close(
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
    let (place, options_of, name): (Place, Option<usize>, Option<&Name>) = match role {
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
        options_of,
        listener,
    })
}

/// The open socket of a want that names a descriptor number; `None` for a want of an address.
fn take_fd(groups: &[Group], group: usize, want: usize, log: Log) -> Result<Option<Listener>> {
    let want = groups.get(group).and_then(|group| group.wants.get(want));
    let Some(Want {
        at: At::Fd(number),
        name,
        ..
    }) = want
    else {
        return Ok(None);
    };
    // Descriptors 0, 1 and 2 are copied, so that they stay open under their own numbers.
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

/// Sets those options of `spec` that a bound socket can have, on an inherited listener.
fn set_options(listener: &mut Listener, spec: &ListenSpec, log: Log) -> Result<()> {
    options::set_any_time(&listener.fd, &listener.address, &spec.options)?;
    if let Bound::Unix(_, path) = &listener.address {
        Access::of(&spec.options)?.set_on_inherited(path)?;
    }
    let backlog = Backlog::new(spec.options.backlog);
    // Without a backlog in the spec, a listening socket keeps its own. A stream socket that does
    // not listen yet is of no use, so it listens now.
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
    warn_of_shortfalls(listener, &spec.options, backlog, log);
    Ok(())
}
