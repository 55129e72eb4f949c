//! The word to finish, from signals or from the program itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::signal::Signal;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::signal::shutdown;
use crate::sys::signal::shutdown::Finish;

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nobody has asked for it.
    Serving,
    /// No new clients; those that were accepted are served.
    Finishing,
    /// Now.
    AtOnce,
}

/// Whether this process was asked to finish. A copy is the same word.
///
/// As a descriptor it is readable from the moment that it was asked, for whoever waits with poll or epoll; nothing is to be read from it.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<Finish>);

impl Shutdown {
    /// One that only the program itself asks.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn new() -> Result<Shutdown> {
        let finish = Finish::new()
            .map_err(|error| Error::system("cannot make what a shutdown waits on", error))?;
        Ok(Shutdown(Arc::new(finish)))
    }

    /// One that signals ask: TERM and QUIT to finish, a second one of them, or INT, to end at once (U33, G5). To be made before readiness is told: until
    /// then these signals do what they do by themselves.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn on_signals() -> Result<Shutdown> {
        let shutdown = Shutdown::new()?;
        shutdown::on_signals(&shutdown.0, &[Signal::Term, Signal::Quit], &[Signal::Int])
            .map_err(|error| Error::system("cannot handle signals", error))?;
        Ok(shutdown)
    }

    /// Asks to finish.
    pub fn request(&self) {
        self.0.ask(1);
    }

    /// Asks to end at once.
    pub fn request_at_once(&self) {
        self.0.ask(2);
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        match self.0.stage() {
            0 => Stage::Serving,
            1 => Stage::Finishing,
            _ => Stage::AtOnce,
        }
    }

    /// Whether it was asked to finish.
    pub fn is_asked(&self) -> bool {
        self.stage() > Stage::Serving
    }

    /// Waits until it is asked to finish.
    ///
    /// # Errors
    /// What poll(2) said: ENOMEM.
    pub fn wait(&self) -> io::Result<()> {
        while !self.is_asked() {
            Poller::new().wait(&[(self.as_fd(), Interest::READ)], None)?;
        }
        Ok(())
    }

    /// Readable once it was asked to end at once.
    pub fn at_once(&self) -> BorrowedFd<'_> {
        self.0.at_once()
    }
}

impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_hears_the_word_and_whoever_waits_is_woken() {
        let shutdown = Shutdown::new().expect("made");
        let copy = shutdown.clone();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| shutdown.wait());
            assert_eq!(copy.stage(), Stage::Serving);
            copy.request();
            waiting.join().expect("no panic").expect("woken");
        });
        assert_eq!(shutdown.stage(), Stage::Finishing);
        copy.request_at_once();
        assert_eq!(shutdown.stage(), Stage::AtOnce);
        copy.request();
        assert_eq!(shutdown.stage(), Stage::AtOnce, "there is no way back");
    }
}
