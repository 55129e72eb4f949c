//! Variables by which other servers pass listeners on (`--export`), besides systemd's
//! ([`super::listen_env`]).
//!
//! | protocol | variables |
//! | --- | --- |
//! | einhorn | `EINHORN_FD_COUNT`, `EINHORN_FD_0` ...: numbers |
//! | server-starter | `SERVER_STARTER_PORT`: `PORT=FD`, `HOST:PORT=FD`, `PATH=FD`, split by `;` |
//! | unicorn | `UNICORN_FD`: numbers, split by `,` |
//! | nginx | `NGINX`: numbers, each followed by `;` |
//! | php-fpm | `FPM_SOCKETS`: `HOST:PORT=FD`, `PATH=FD`, split by `,` |
//!
//! Only einhorn's variables name the process that they are meant for (`EINHORN_MASTER_PID`), and
//! no protocol has names for listeners.
//!
//! In reading order:
//!
//! - [`Protocol`]: its name on the command line, its main variable.
//! - [`Exports`]: the protocols for the next program, from `--export` or as inherited.
//! - [`read`](read()) (`read.rs`): variables to [`Claim`]s. A claim is not trusted: `sys` checks
//!   that the descriptor is a listener, and [`address_matches`] that it is the right one.
//! - [`render`] (`render.rs`): listeners to variables; [`check_spec`] asks before anything is
//!   bound whether a protocol can hold an address.
//! - [`is_listener_variable`], [`is_master_variable`]: what must not be passed on unchanged.

mod read;
mod render;

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use read::{Claim, address_matches, read};
pub use render::{check_spec, render};

use super::text::shown;

/// A protocol that passes listeners on by environment variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// `LISTEN_FDS`: always on.
    Systemd,
    /// Stripe's einhorn.
    Einhorn,
    /// Perl's Server::Starter.
    ServerStarter,
    /// Unicorn, and servers made like it.
    Unicorn,
    /// nginx: its master uses it to pass listeners to its next binary.
    Nginx,
    /// php-fpm: its master uses it likewise.
    PhpFpm,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Protocol; 6] = [
        Protocol::Systemd,
        Protocol::Einhorn,
        Protocol::ServerStarter,
        Protocol::Unicorn,
        Protocol::Nginx,
        Protocol::PhpFpm,
    ];

    /// The protocol's name on a command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Systemd => "systemd",
            Protocol::Einhorn => "einhorn",
            Protocol::ServerStarter => "server-starter",
            Protocol::Unicorn => "unicorn",
            Protocol::Nginx => "nginx",
            Protocol::PhpFpm => "php-fpm",
        }
    }

    /// The variable that holds the listeners or their number.
    pub const fn variable(self) -> &'static str {
        match self {
            Protocol::Systemd => "LISTEN_FDS",
            Protocol::Einhorn => "EINHORN_FD_COUNT",
            Protocol::ServerStarter => "SERVER_STARTER_PORT",
            Protocol::Unicorn => "UNICORN_FD",
            Protocol::Nginx => "NGINX",
            Protocol::PhpFpm => "FPM_SOCKETS",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Protocol::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| {
            let all = Protocol::ALL.map(Protocol::as_str).join(", ");
            let text = shown(text);
            format!("'{text}' is not a protocol (one of {all})")
        })
    }
}

/// The protocols in which the next program gets the listeners, besides systemd's: those that
/// `--export` names, or else those in which this program inherited listeners.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exports {
    asked: Vec<Protocol>,
    inherited: Vec<Protocol>,
}

impl Exports {
    /// `asked`: those that `--export` names, if any. `inherited`: those in which this program
    /// inherited listeners.
    pub fn new(asked: &[Protocol], inherited: &[Protocol]) -> Exports {
        let sorted = |protocols: &[Protocol]| {
            let mut protocols = protocols.to_vec();
            protocols.sort_unstable();
            protocols.dedup();
            protocols
        };
        Exports {
            asked: sorted(asked),
            inherited: sorted(inherited),
        }
    }

    /// The protocols to export, in the order of [`Protocol`], without systemd's.
    pub fn protocols(&self) -> Vec<Protocol> {
        let all = if self.asked.is_empty() {
            &self.inherited
        } else {
            &self.asked
        };
        let mut all = all.clone();
        all.retain(|protocol| *protocol != Protocol::Systemd);
        all
    }

    /// The protocols in which this program inherited listeners.
    pub fn inherited(&self) -> &[Protocol] {
        &self.inherited
    }
}

/// Whether a variable of one of these protocols holds listeners. A program that passes listeners
/// on must not pass the variables on that it was given itself.
pub fn is_listener_variable(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let numbered = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    Protocol::ALL
        .iter()
        .any(|protocol| *protocol != Protocol::Systemd && name == protocol.variable())
        || name == "EINHORN_FDS"
        || name.strip_prefix("EINHORN_FD_").is_some_and(numbered)
}

/// Whether a variable of one of these protocols is about a worker's master.
pub fn is_master_variable(name: &OsStr) -> bool {
    const MASTER_VARIABLES: [&str; 6] = [
        "EINHORN_SOCK_PATH",
        "EINHORN_SOCK_FD",
        "EINHORN_MASTER_PID",
        "EINHORN_CHILD_INDEX",
        "SERVER_STARTER_GENERATION",
        "UNICORN_WORKER",
    ];
    MASTER_VARIABLES.iter().any(|known| name == *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_names_are_the_same_in_json() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            let written = serde_json::to_string(&protocol).expect("JSON");
            assert_eq!(written, format!("\"{protocol}\""));
        }
        let error = "upstart".parse::<Protocol>().expect_err("unknown");
        assert_eq!(
            error,
            "'upstart' is not a protocol \
             (one of systemd, einhorn, server-starter, unicorn, nginx, php-fpm)"
        );
    }

    #[test]
    fn asked_protocols_win_over_inherited_ones() {
        use Protocol::{Einhorn, Nginx, Systemd, Unicorn};
        let exports = Exports::new(&[], &[Unicorn, Einhorn]);
        assert_eq!(exports.protocols(), [Einhorn, Unicorn]);
        let exports = Exports::new(&[Nginx, Systemd, Nginx], &[Unicorn]);
        assert_eq!(exports.protocols(), [Nginx]);
        assert_eq!(exports.inherited(), [Unicorn]);
        // systemd's alone: the others are not wanted.
        assert_eq!(Exports::new(&[Systemd], &[Unicorn]).protocols(), []);
    }

    #[test]
    fn variables_are_recognised_by_name() {
        let listeners = |name: &str| is_listener_variable(OsStr::new(name));
        for name in [
            "EINHORN_FD_COUNT",
            "EINHORN_FD_0",
            "EINHORN_FD_12",
            "EINHORN_FDS",
            "SERVER_STARTER_PORT",
            "UNICORN_FD",
            "NGINX",
            "FPM_SOCKETS",
        ] {
            assert!(listeners(name), "{name}");
        }
        for name in [
            "EINHORN_FD_",
            "EINHORN_FD_x",
            "NGINX_CONF",
            "UNICORN",
            "LISTEN_FDS",
        ] {
            assert!(!listeners(name), "{name}");
        }
        assert!(is_master_variable(OsStr::new("EINHORN_SOCK_PATH")));
        assert!(!is_master_variable(OsStr::new("EINHORN_FD_COUNT")));
    }
}
