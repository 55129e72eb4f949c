//! What was handed on to this process, by whichever protocol: descriptors with names.

use std::ffi::OsString;
use std::os::fd::RawFd;

use crate::wire::address::Name;
use crate::wire::listen_env::{self, FIRST_FD, Inheritance};

/// The variables of the protocols: no child is to take them for its own.
pub(super) const VARIABLES: [&str; 4] = listen_env::VARIABLES;

/// What was handed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// Nothing.
    Nothing,
    /// Descriptors that are meant for the process with this pid: whatever we have open is something else.
    ForSomeoneElse(u32),
    /// These, in their order.
    Listeners(Vec<(RawFd, Option<Name>)>),
}

/// What the environment, which `lookup` reads, hands to the process `own_pid`: by the first protocol that hands it anything.
///
/// # Errors
/// One line that names the malformed variable.
pub(super) fn on(
    lookup: impl Fn(&str) -> Option<OsString>,
    own_pid: u32,
) -> Result<Handed, String> {
    Ok(match listen_env::parse(lookup, own_pid)? {
        Inheritance::None | Inheritance::Inherited { count: 0, .. } => Handed::Nothing,
        Inheritance::ForSomeoneElse { pid } => Handed::ForSomeoneElse(pid),
        Inheritance::Inherited { count, names } => {
            let name = |at: usize| names.get(at).and_then(|name| Name::inherited(name));
            let listeners = (FIRST_FD..).take(count).enumerate();
            Handed::Listeners(listeners.map(|(at, fd)| (fd, name(at))).collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Handed, String> {
        let find = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted);
        on(|wanted| find(wanted).map(|(_, value)| value.into()), 42)
    }

    #[test]
    fn g1_nothing_something_somebody_elses_and_nonsense_are_told_apart() {
        let ours = ("LISTEN_PID", "42");
        assert_eq!(read(&[]), Ok(Handed::Nothing));
        assert_eq!(read(&[ours, ("LISTEN_FDS", "0")]), Ok(Handed::Nothing));
        assert_eq!(
            read(&[("LISTEN_PID", "7"), ("LISTEN_FDS", "1")]),
            Ok(Handed::ForSomeoneElse(7))
        );
        let names = ("LISTEN_FDNAMES", "web:unknown");
        let web = Name::inherited("web");
        assert_eq!(
            read(&[ours, ("LISTEN_FDS", "2"), names]),
            Ok(Handed::Listeners(vec![(3, web), (4, None)]))
        );
        let wrong = read(&[ours, ("LISTEN_FDS", "two")]);
        assert_eq!(wrong, Err("LISTEN_FDS is malformed: 'two'".into()));
    }
}
