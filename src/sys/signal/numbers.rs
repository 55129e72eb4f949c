//! Signals by name and by number. The numbers belong to the machine, the names to the model.

use std::io;

use nix::sys::signal::Signal as NixSignal;

use crate::model::signal::Signal;

/// The number of a signal on this machine.
pub fn number(signal: Signal) -> i32 {
    nix_signal(signal) as i32
}

/// The signal with this number, if it has a name on every system.
pub fn from_number(number: i32) -> Option<Signal> {
    let wanted = NixSignal::try_from(number).ok()?;
    Signal::ALL
        .iter()
        .copied()
        .find(|signal| nix_signal(*signal) == wanted)
}

fn nix_signal(signal: Signal) -> NixSignal {
    match signal {
        Signal::Hup => NixSignal::SIGHUP,
        Signal::Int => NixSignal::SIGINT,
        Signal::Quit => NixSignal::SIGQUIT,
        Signal::Ill => NixSignal::SIGILL,
        Signal::Trap => NixSignal::SIGTRAP,
        Signal::Abrt => NixSignal::SIGABRT,
        Signal::Bus => NixSignal::SIGBUS,
        Signal::Fpe => NixSignal::SIGFPE,
        Signal::Kill => NixSignal::SIGKILL,
        Signal::Usr1 => NixSignal::SIGUSR1,
        Signal::Segv => NixSignal::SIGSEGV,
        Signal::Usr2 => NixSignal::SIGUSR2,
        Signal::Pipe => NixSignal::SIGPIPE,
        Signal::Alrm => NixSignal::SIGALRM,
        Signal::Term => NixSignal::SIGTERM,
        Signal::Chld => NixSignal::SIGCHLD,
        Signal::Cont => NixSignal::SIGCONT,
        Signal::Stop => NixSignal::SIGSTOP,
        Signal::Tstp => NixSignal::SIGTSTP,
        Signal::Ttin => NixSignal::SIGTTIN,
        Signal::Ttou => NixSignal::SIGTTOU,
        Signal::Urg => NixSignal::SIGURG,
        Signal::Xcpu => NixSignal::SIGXCPU,
        Signal::Xfsz => NixSignal::SIGXFSZ,
        Signal::Vtalrm => NixSignal::SIGVTALRM,
        Signal::Prof => NixSignal::SIGPROF,
        Signal::Winch => NixSignal::SIGWINCH,
        Signal::Io => NixSignal::SIGIO,
        Signal::Pwr => NixSignal::SIGPWR,
        Signal::Sys => NixSignal::SIGSYS,
    }
}

/// Sends a signal to this process itself.
///
/// # Errors
/// What kill(2) returned; none is known.
pub fn send_to_self(signal: Signal) -> io::Result<()> {
    let signal = NixSignal::try_from(number(signal))?;
    Ok(nix::sys::signal::raise(signal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for signal in Signal::ALL {
            assert_eq!(from_number(number(*signal)), Some(*signal));
        }
        assert_eq!(number(Signal::Kill), 9);
        assert_eq!(from_number(0), None);
        assert_eq!(from_number(-3), None);
        assert_eq!(from_number(64), None);
    }
}
