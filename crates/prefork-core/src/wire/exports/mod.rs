//! The other protocols by which servers tell a program which of its descriptors are listeners, besides systemd's ([`super::listen_env`]).
//!
//! | protocol | variables |
//! | --- | --- |
//! | einhorn | `EINHORN_FD_COUNT`, `EINHORN_FD_0` ...: numbers |
//! | server-starter | `SERVER_STARTER_PORT`: `PORT=FD`, `HOST:PORT=FD`, `PATH=FD`, separated by `;` |
//! | unicorn | `UNICORN_FD`: numbers, separated by `,` |
//! | nginx | `NGINX`: numbers, each followed by `;` |
//! | php-fpm | `FPM_SOCKETS`: `HOST:PORT=FD`, `PATH=FD`, separated by `,` |
//!
//! [`render`] writes them, [`read`](read()) reads them. None but einhorn's says which process it is meant for, and none has names.

mod read;
mod render;

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use read::{Claim, address_matches, read};
pub use render::{check_spec, render};

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// `LISTEN_FDS`: always on.
    Systemd,
    /// Stripe's einhorn.
    Einhorn,
    /// Perl's Server::Starter.
    ServerStarter,
    /// Unicorn, and what is made like it.
    Unicorn,
    /// nginx's own, from one of its masters to the next.
    Nginx,
    /// php-fpm's own, likewise.
    PhpFpm,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 6] = [
        Protocol::Systemd,
        Protocol::Einhorn,
        Protocol::ServerStarter,
        Protocol::Unicorn,
        Protocol::Nginx,
        Protocol::PhpFpm,
    ];

    /// What it is called on a command line.
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

    /// The variable that tells of the listeners, or of their number.
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
            format!("'{text}' is no protocol (one of {all})")
        })
    }
}

/// Which of them the next program is told the listeners in, besides systemd's: those that were asked for, or else those in which we were told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exports {
    asked: Vec<Protocol>,
    inherited: Vec<Protocol>,
}

impl Exports {
    /// Those that were `asked` for (none: not asked), and those that spoke of listeners that we `inherited`.
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

    /// The protocols, in their order, without systemd's.
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

    /// Those in which we were told.
    pub fn inherited(&self) -> &[Protocol] {
        &self.inherited
    }
}

/// Whether a variable tells of listeners in one of these protocols. A program that passes listeners on must not pass old ones on.
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

/// Whether a variable tells a worker of its master in one of these protocols.
pub fn is_master_variable(name: &OsStr) -> bool {
    const OF_MASTER: [&str; 6] = [
        "EINHORN_SOCK_PATH",
        "EINHORN_SOCK_FD",
        "EINHORN_MASTER_PID",
        "EINHORN_CHILD_INDEX",
        "SERVER_STARTER_GENERATION",
        "UNICORN_WORKER",
    ];
    OF_MASTER.iter().any(|known| name == *known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_called_as_the_state_has_them() {
        for protocol in Protocol::ALL {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            let written = serde_json::to_string(&protocol).expect("JSON");
            assert_eq!(written, format!("\"{protocol}\""));
        }
        assert_eq!(
            "upstart".parse::<Protocol>(),
            Err("'upstart' is no protocol (one of systemd, einhorn, server-starter, unicorn, nginx, php-fpm)".into())
        );
    }

    #[test]
    fn what_is_asked_for_wins_over_what_was_inherited() {
        use Protocol::{Einhorn, Nginx, Systemd, Unicorn};
        let exports = Exports::new(&[], &[Unicorn, Einhorn]);
        assert_eq!(exports.protocols(), [Einhorn, Unicorn]);
        let exports = Exports::new(&[Nginx, Systemd, Nginx], &[Unicorn]);
        assert_eq!(exports.protocols(), [Nginx]);
        assert_eq!(exports.inherited(), [Unicorn]);
        // That one alone: the others are not wanted.
        assert_eq!(Exports::new(&[Systemd], &[Unicorn]).protocols(), []);
    }

    #[test]
    fn variables_are_known_by_their_names() {
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
