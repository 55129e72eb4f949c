//! Everything that the model can tell the driver to do.
//!
//! Every action is *tell*, never *ask*: where performing one yields a fact about the world, that
//! comes back as an [`Event`](super::event::Event) in the same turn.

use super::fact::Fact;
use super::ids::{Generation, LeftoverId, OpId, Ticket, WorkerId};
use super::operation::Outcome;
use super::peer::PeerAction;
use super::signal::Signal;
pub use super::signal::SignalTarget;

/// Where the pin of a new generation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinSource {
    /// Command, environment and config as they are now.
    Now,
    /// The same, with what a request changes.
    Asked {
        /// The request.
        ticket: Ticket,
        /// The worker command is a new one.
        renewed: bool,
    },
    /// What this generation was pinned to.
    Of(Generation),
    /// The image that comes after this one: it takes this model over and pins as if
    /// [`PinSource::Now`] was asked for. Nothing is answered meanwhile; a failure is, by the image
    /// that fails.
    Successor,
    /// This very image takes this model over, as a successor does, and pins what this generation
    /// was pinned to.
    SameImage(Generation),
}

/// Why a request was not even begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another operation is under way.
    Busy,
    /// It makes no sense now.
    Senseless,
    /// It makes no sense ever.
    Usage,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a worker. Answered by [`Event::Forked`](super::event::Event::Forked) or
    /// [`Event::SpawnFailed`](super::event::Event::SpawnFailed) in the same turn.
    Spawn {
        /// The worker.
        worker: WorkerId,
        /// Its slot.
        slot: u32,
        /// Its generation.
        generation: Generation,
    },
    /// Send a signal, followed by CONT unless it is KILL.
    Signal(WorkerId, Signal, SignalTarget),
    /// Send exactly this signal to the worker's leader, because a client asked for it.
    Deliver(WorkerId, Signal),
    /// Pin a new generation. Answered by [`Event::Pinned`](super::event::Event::Pinned) or
    /// [`Event::PinFailed`](super::event::Event::PinFailed) in the same turn, except for
    /// [`PinSource::Successor`] and [`PinSource::SameImage`].
    Pin(Generation, PinSource),
    /// No worker will be started from this generation any more.
    Forget(Generation),
    /// Look at the worker's heartbeat page. `Said` with a beat comes back if it beat.
    LookAtBeat(WorkerId),
    /// Look whether the worker is stopped or traced. `Held` comes back.
    LookWhetherHeld(WorkerId),
    /// Look whether the worker is writing its core. `Dumping` comes back.
    LookWhetherDumping(WorkerId),
    /// Look at the accept queues. `QueueDepths` comes back.
    LookAtQueues,
    /// Look whether the worker's group still holds a listener. `ListenersReleased` comes back if
    /// not.
    LookForListeners(WorkerId),
    /// Look whether the worker's group is empty by now. `Emptied` comes back if so.
    LookAtGroup(WorkerId),
    /// Stop tracking this process although it lives: it cannot be killed.
    Abandon(WorkerId),
    /// Look for what workers left behind outside their groups. `LeftBehind` comes back.
    LookForLeftovers,
    /// Send a signal to a process that a worker left behind, followed by CONT unless it is KILL.
    SignalLeftover(LeftoverId, Signal),
    /// Reopen the logs.
    ReopenLogs,
    /// Send USR1 to those workers that catch it.
    PassUsr1,
    /// This generation serves: close those listeners that it has not.
    SettleListeners(Generation),
    /// Close the master's copies of the listeners.
    CloseListeners,
    /// A request has become an operation.
    Began(Ticket, OpId),
    /// A request was not begun.
    Refused(Ticket, Refusal, String),
    /// An operation went a step on: done, of how many, in words.
    Progress(OpId, usize, usize, String),
    /// An operation has ended.
    Finished(OpId, Outcome),
    /// Do something about the other master, during an upgrade by fork.
    Peer(PeerAction),
    /// Something happened: log it, and tell the clients that follow events.
    Tell(Fact),
    /// The end: exit with this code; the reason, unless the end was asked for.
    Exit(u8, Option<String>),
}
