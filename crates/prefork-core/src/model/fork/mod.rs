//! An upgrade by fork: two masters side by side, and the service moves from one to the other.
//!
//! The old master has started the new one; both hold the same listeners. By itself (`--fork`) the
//! service moves over one worker for one:
//!
//! ```text
//!           old                                      new
//! gives up slot 0             ◄──── Ready(0) ─────── takes slots: fills them within --surge
//! gives up slot 1             ◄──── Ready(1) ───────
//! gives up the rest           ◄──── AllReady ───────
//!                             ◄──── Done ─────────── (its probation is over)
//! no worker of it accepts     ───── Take ──────────► its rollout is done
//! ends when it has drained    ◄──── Taken ──────────
//! ```
//!
//! When the upgrade goes back, for any reason, the same happens the other way round: the old
//! master takes slots and the new one gives them up. So there are never fewer workers ready in both
//! together than there were, and either master may die at any moment: the other one then fills all
//! slots by itself.
//!
//! With `--surge 0` the master that takes slots first requests one (`Want`), and fills it once the
//! other has freed it (`Free`). With `--manual` (USR2) neither gives up a slot by itself.
//!
//! Each asks the other now and then whether it works (`Ask`, `Alive`): one that does not answer is
//! ended. Each tells the other of the operations that it was asked for (`Began`, `Ended`), so that
//! the one that stays knows all of them.
//!
//! - [`begin`]: the new master is started, unless another is beside this one;
//! - [`lifecycle`]: it comes up, dies; the upgrade turns back;
//! - [`handing_over`]: the upgrade is done or undone, and one master leaves;
//! - [`liveness`]: the other master does not answer; its operations;
//! - [`slot_transfer`]: which slots are whose meanwhile.
//!
//! The messages stand in [`peer`](super::peer), what one master remembers of the other in
//! [`state::peer`](super::state::peer).

pub mod begin;
pub mod handing_over;
pub mod lifecycle;
pub mod liveness;
pub mod slot_transfer;
