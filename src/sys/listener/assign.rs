//! Which inherited listener meets which want.

use super::bound_socket::Listener;
use super::wanted::{At, Group, Want, is_same_address};

/// What becomes of an inherited listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It meets a want of a group.
    Wanted { group: usize, want: usize },
    /// A spec names its address, but another listener meets the want already: one more socket with
    /// `SO_REUSEPORT`. Connections may wait in its queue, so it is kept.
    Extra { group: usize },
    /// A spec names it, but its path was removed.
    Unlinked,
    /// No spec names it.
    Unnamed,
}

/// The role of each inherited listener. Each want is met at most once.
///
/// Equal names are matched before different names, so that the copies of a listener keep their
/// numbers. Exact addresses are matched before port 0. A want with port 0 is met by a listener of
/// the same name (or both without one) at any port, so that the port stays the same after a
/// restart. The other addresses of the group then want that port.
pub(super) fn assign(inherited: &[Listener], groups: &mut [Group]) -> Vec<Role> {
    let mut roles = Roles {
        inherited,
        of: vec![Role::Unnamed; inherited.len()],
    };
    for by_name in [true, false] {
        for (group, asked) in groups.iter().enumerate() {
            roles.meet_all(group, asked, |want, listener| {
                is_at(want, listener) && (!by_name || want.name == listener.name)
            });
        }
    }
    for (group, asked) in groups.iter_mut().enumerate() {
        let chosen = asked.wants.iter().find_map(|want| {
            let free = roles
                .free()
                .find(|(_, listener)| is_at_any_port(want, listener))?;
            free.1.address.port()
        });
        if let Some(port) = chosen {
            asked.settle_port(port);
            roles.meet_all(group, asked, is_at);
        }
    }
    for (index, listener) in inherited.iter().enumerate() {
        let names = |group: &Group| group.wants.iter().any(|want| names(want, listener));
        let more = |group: &Group| names(group) && group.spec.options.copies.is_none();
        if roles.of.get(index) == Some(&Role::Unnamed) && listener.is_listener() {
            let role = if listener.is_unlinked() {
                groups.iter().any(names).then_some(Role::Unlinked)
            } else {
                groups
                    .iter()
                    .position(more)
                    .map(|group| Role::Extra { group })
            };
            if let (Some(role), Some(place)) = (role, roles.of.get_mut(index)) {
                *place = role;
            }
        }
    }
    roles.of
}

struct Roles<'a> {
    inherited: &'a [Listener],
    of: Vec<Role>,
}

impl Roles<'_> {
    /// The listeners without a role that can have one. A connection cannot.
    fn free(&self) -> impl Iterator<Item = (usize, &Listener)> {
        let free = |(index, _): &(usize, &Listener)| self.of.get(*index) == Some(&Role::Unnamed);
        self.inherited
            .iter()
            .enumerate()
            .filter(free)
            .filter(|(_, listener)| listener.is_listener())
    }

    /// Gives each want of the group that is not met the first free listener that meets it.
    fn meet_all(&mut self, group: usize, asked: &Group, meets: impl Fn(&Want, &Listener) -> bool) {
        for (want, wanted) in asked.wants.iter().enumerate() {
            let role = Role::Wanted { group, want };
            if self.of.contains(&role) {
                continue;
            }
            let found = self
                .free()
                .find(|(_, listener)| meets(wanted, listener))
                .map(|(index, _)| index);
            if let Some(place) = found.and_then(|index| self.of.get_mut(index)) {
                *place = role;
            }
        }
    }
}

/// Whether the want names the address or the descriptor number of the listener.
fn names(want: &Want, listener: &Listener) -> bool {
    match &want.at {
        At::Address(at) => is_same_address(at, &listener.address),
        At::Fd(fd) => listener.source == Some(*fd),
    }
}

/// Whether the listener meets the want. A Unix listener whose path was removed meets it only if the
/// want is the descriptor number.
fn is_at(want: &Want, listener: &Listener) -> bool {
    names(want, listener) && (matches!(want.at, At::Fd(_)) || !listener.is_unlinked())
}

/// Whether the want leaves the port to the kernel and the listener has the rest of its address.
fn is_at_any_port(want: &Want, listener: &Listener) -> bool {
    match &want.at {
        At::Address(at) => {
            at.port() == Some(0)
                && *at == listener.address.clone().with_port(0)
                && want.name == listener.name
        }
        At::Fd(_) => false,
    }
}
