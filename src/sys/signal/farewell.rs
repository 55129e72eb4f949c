//! Last words: what a terminal is told before a signal ends this process.
#![expect(
    unsafe_code,
    reason = "a signal handler of our own: what it does must be allowed in one"
)]

use std::io;
use std::os::fd::AsFd;

use signal_hook::low_level::{emulate_default_handler, register};

use super::disposition::is_ignored;
use super::numbers::number;
use crate::model::signal::Signal;

/// Makes each of the signals write these `words` to stdout and then end the process as it does
/// without a handler, at any time: also while the process waits for something else. A signal that
/// is ignored, as nohup does with HUP, stays so.
///
/// # Errors
/// What dup(2) or sigaction(2) returned.
pub fn on_signals(signals: &[Signal], words: &'static [u8]) -> io::Result<()> {
    for signal in signals.iter().copied().map(number) {
        if is_ignored(signal) {
            continue;
        }
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        let handler = move || {
            let _ = nix::unistd::write(&out, words);
            let _ = emulate_default_handler(signal);
        };
        // SAFETY: the handler makes a write(2) and then what signal_hook documents as allowed in a
        // handler. It does not allocate, lock or panic, and what it captures is never dropped, as
        // it is never unregistered. errno is of no account: the process ends.
        unsafe { register(signal, handler) }?;
    }
    Ok(())
}
