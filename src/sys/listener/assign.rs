//! Which inherited listener meets which want.

use super::Listener;
use super::wanted::{At, Group, Want};

/// What becomes of an inherited listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is the one that is wanted.
    Wanted {
        /// By which group.
        group: usize,
        /// By which of its wants.
        want: usize,
    },
    /// A spec names its address, but has another one for it already: one more with `SO_REUSEPORT`. It may have connections in its queue.
    Extra {
        /// Whose.
        group: usize,
    },
    /// A spec names it, but its path has gone.
    Unlinked,
    /// No spec names it.
    Unnamed,
}

/// The role of each of `inherited`, none of them given twice.
///
/// An exact address comes before one whose port is for the system to choose, and equal names before others, so that the copies of a listener
/// stay what they are. A port of 0 is met by a listener of the same name (or both have none), whatever its port: after a restart the same port
/// goes on. The group's other addresses then want that port.
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
    /// Those that have no role yet, and are fit for one.
    fn free(&self) -> impl Iterator<Item = (usize, &Listener)> {
        let free = |(index, _): &(usize, &Listener)| self.of.get(*index) == Some(&Role::Unnamed);
        self.inherited
            .iter()
            .enumerate()
            .filter(free)
            .filter(|(_, listener)| listener.is_listener())
    }

    /// Gives each unmet want of a group the first free listener that meets it.
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

fn names(want: &Want, listener: &Listener) -> bool {
    match &want.at {
        At::Address(at) => super::wanted::same(at, &listener.address),
        At::Fd(fd) => listener.source == Some(*fd),
    }
}

/// Whether it can serve as what is wanted. Without its path it still can if the descriptor itself is asked for.
fn is_at(want: &Want, listener: &Listener) -> bool {
    names(want, listener) && (matches!(want.at, At::Fd(_)) || !listener.is_unlinked())
}

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
