//! The signals that we speak, by name. Their numbers belong to the system, so `sys` knows them.

use std::fmt;
use std::str::FromStr;

macro_rules! signals {
    ($($variant:ident $name:literal,)*) => {
        /// A signal, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the names are the documentation: see signal(7)")]
        pub enum Signal { $($variant,)* }

        impl Signal {
            /// Every signal.
            pub const ALL: &'static [Signal] = &[$(Signal::$variant,)*];

            /// The name without `SIG`.
            pub const fn name(self) -> &'static str {
                match self { $(Signal::$variant => $name,)* }
            }
        }
    };
}

signals! {
    Hup "HUP", Int "INT", Quit "QUIT", Ill "ILL", Trap "TRAP", Abrt "ABRT", Bus "BUS", Fpe "FPE", Kill "KILL",
    Usr1 "USR1", Segv "SEGV", Usr2 "USR2", Pipe "PIPE", Alrm "ALRM", Term "TERM", Chld "CHLD", Cont "CONT",
    Stop "STOP", Tstp "TSTP", Ttin "TTIN", Ttou "TTOU", Urg "URG", Xcpu "XCPU", Xfsz "XFSZ", Vtalrm "VTALRM",
    Prof "PROF", Winch "WINCH", Io "IO", Pwr "PWR", Sys "SYS",
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Signal {
    type Err = String;

    /// Accepts `TERM`, `SIGTERM`, and either in lower case. Numbers differ between machines and are
    /// refused.
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        Signal::ALL
            .iter()
            .copied()
            .find(|signal| signal.name() == name)
            .ok_or_else(|| format!("unknown signal '{text}' (names are as in TERM, QUIT, USR2)"))
    }
}

/// Who sent a signal. A terminal's signals mean something else than a process's: no process decided
/// to send them to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sender {
    /// The kernel, on behalf of the terminal: a key, a resize, a hang-up.
    Terminal,
    /// A process: `kill`, `pf-ctl`, a service manager.
    Process,
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalTarget {
    /// The worker's leader alone.
    Leader,
    /// Its whole process group.
    Group,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for signal in Signal::ALL {
            assert_eq!(signal.name().parse::<Signal>(), Ok(*signal));
            assert_eq!(format!("sig{signal}").parse::<Signal>(), Ok(*signal));
        }
        assert!("15".parse::<Signal>().is_err());
        assert!("".parse::<Signal>().is_err());
    }
}
