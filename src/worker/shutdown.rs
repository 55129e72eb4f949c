//! The request to finish, from signals or from the program itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::signal::Signal;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::signal::shutdown;
use crate::sys::signal::shutdown::Finish;

/// What was requested so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownStage {
    /// Nothing: serve.
    Serving,
    /// Accept no new clients, and serve those that were accepted.
    Finishing,
    /// End at once.
    AtOnce,
}

/// Whether this process was requested to finish. A clone is the same request.
///
/// Its descriptor is readable from the moment of the request, for poll and epoll. Never read from
/// it.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<Finish>);

impl Shutdown {
    /// A shutdown that only the program itself requests.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn new() -> Result<Shutdown> {
        let finish = Finish::new()
            .map_err(|error| Error::system("cannot make what a shutdown waits on", error))?;
        Ok(Shutdown(Arc::new(finish)))
    }

    /// A shutdown that signals request: TERM and QUIT to finish; a second TERM or QUIT, or INT, to
    /// end at once (U33, G5). Make it before you report readiness: until then these signals have
    /// their default action.
    ///
    /// # Errors
    /// There are too many descriptors.
    pub fn on_signals() -> Result<Shutdown> {
        let shutdown = Shutdown::new()?;
        shutdown::on_signals(&shutdown.0, &[Signal::Term, Signal::Quit], &[Signal::Int])
            .map_err(|error| Error::system("cannot handle signals", error))?;
        Ok(shutdown)
    }

    /// Requests to finish.
    pub fn request(&self) {
        self.0.ask(1);
    }

    /// Requests to end at once.
    pub fn request_at_once(&self) {
        self.0.ask(2);
    }

    /// What was requested so far.
    pub fn stage(&self) -> ShutdownStage {
        match self.0.stage() {
            0 => ShutdownStage::Serving,
            1 => ShutdownStage::Finishing,
            _ => ShutdownStage::AtOnce,
        }
    }

    /// Whether it was requested to finish or to end at once.
    pub fn is_asked(&self) -> bool {
        self.stage() > ShutdownStage::Serving
    }

    /// Waits until it is requested to finish.
    ///
    /// # Errors
    /// Those of poll(2): ENOMEM.
    pub fn wait(&self) -> io::Result<()> {
        while !self.is_asked() {
            Poller::new().wait(&[(self.as_fd(), Interest::READ)], None)?;
        }
        Ok(())
    }

    /// A descriptor that is readable once it was requested to end at once.
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
    fn a_request_reaches_every_clone_and_ends_a_wait() {
        let shutdown = Shutdown::new().expect("made");
        let copy = shutdown.clone();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| shutdown.wait());
            assert_eq!(copy.stage(), ShutdownStage::Serving);
            copy.request();
            waiting.join().expect("no panic").expect("woken");
        });
        assert_eq!(shutdown.stage(), ShutdownStage::Finishing);
        copy.request_at_once();
        assert_eq!(shutdown.stage(), ShutdownStage::AtOnce);
        copy.request();
        assert_eq!(
            shutdown.stage(),
            ShutdownStage::AtOnce,
            "there is no way back"
        );
    }
}
