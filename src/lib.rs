//! `prefork`: what the utilities of pf-tools share.
//!
//! The toolkit turns any worker program into a preforked, supervised service that is deployed
//! without losing a connection. Its utilities chain by exec and environment, each doing one thing
//! to the process and then becoming the next:
//!
//! ```sh
//! pf-listen http=tcp:127.0.0.1:8080 -- pf-master -n 4 --pid /run/app.pid -- ./app
//! pf-ctl reload /run/app.pid && pf-status /run/app.pid
//! ```
//!
//! # For workers written in Rust
//!
//! Any program that can use an inherited socket can be a worker. One in Rust has help here, of
//! which each part works alone, under any service manager or none, and none of which brings a
//! runtime along (`default-features = false` leaves out what only the programs need):
//!
//! | for | there is |
//! | --- | --- |
//! | the listeners that were handed on, or new ones | [`Listeners`] |
//! | saying that it is ready, stopping, busy, alive | [`notify`] |
//! | beats and counters for the master, at an instruction each | [`Heartbeat`] |
//! | the word to finish, from signals or the program itself | [`Shutdown`] |
//! | accepting, and a close that loses nothing | [`GracefulListener`], and its core [`Gate`] |
//! | all of that as a server, a thread a client | [`Server`], [`Connection`] |
//! | a new release in place of the old one, without a master | [`Restart`] |
//!
//! The least that a worker is made of:
//!
//! ```no_run
//! use std::io::Write;
//!
//! use prefork::{Connection, Listeners, Server};
//!
//! fn main() -> prefork::error::Result<()> {
//!     // First of all, while there is one thread: only then can the variables be removed.
//!     let listeners = Listeners::inherit_or_bind(["tcp:127.0.0.1:8080"])?;
//!     // Says that it is ready, serves until TERM or QUIT, and finishes the requests that it has
//!     // accepted.
//!     Server::new().serve(listeners, |mut client: &Connection| writeln!(client, "hello"))
//! }
//! ```
//!
//! In a runtime, the listeners are given to it, and it does the rest; with tokio:
//!
//! ```no_run
//! use prefork::{Heartbeat, Listeners, notify};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Before the runtime has threads.
//!     let mut listeners = Listeners::inherit_or_bind(["tcp:127.0.0.1:8080"])?;
//!     let heartbeat = Heartbeat::inherit()?;
//!     let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
//!     runtime.block_on(async {
//!         let listener = listeners.tcp(0)?;
//!         listener.set_nonblocking(true)?;
//!         let listener = tokio::net::TcpListener::from_std(listener)?;
//!         notify::ready()?;
//!         let (client, _) = listener.accept().await?; // and so on, until TERM
//!         let request = heartbeat.request();
//!         drop((client, request));
//!         notify::stopping()?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! Whole workers, which drain gracefully and close kept connections at their next pause, are
//! `examples/worker-std.rs`, `worker-tokio.rs` and `worker-axum.rs`. What they have in common is
//! worth knowing: a client whose request is on its way when the worker is told to finish was
//! promised an answer by the accept, so a connection on which nothing has been said yet is not
//! closed at once.
//!
//! # One idea
//!
//! A supervisor is a decision problem with a thin skin of system calls. So the decisions are a
//! value, and the skin is a loop:
//!
//! ```text
//! world ──► driver: wait, translate ──► Event ──► model::step(now, event) ──► Action
//!   ▲                                                                           │
//!   └────────────────────────────── driver: perform ◄───────────────────────────┘
//! ```
//!
//! The [`model`] has no clock, no fd, no environment and prints nothing; it names workers by ids of
//! its own, and time is an argument. It can be run a million steps a second, and both orders of any
//! race can be tested. The [`driver`] is one thread around one `poll`: it turns what happened into
//! events and performs the actions. A fact about the world that performing one yields (fork failed:
//! EAGAIN) comes back as an event in the same turn. Every action is *tell*, never *ask*.
//!
//! # The house
//!
//! | room | holds | may import |
//! | --- | --- | --- |
//! | `src/bin/` | three lines each | [`cmd`] |
//! | [`cmd`] | a folder a binary: the command line and `run` | everything below |
//! | [`driver`] | the loop; owns the descriptors | [`model`], [`wire`], [`sys`], [`log`] |
//! | [`client`] | the blocking control client, with a deadline | [`wire`], [`sys`] |
//! | [`ui`] | tables, progress: documents to text | [`wire`] |
//! | [`log`] | the master's log, which never blocks | [`sys`] |
//! | [`worker`] | what workers written in Rust use | [`sys`], [`wire`] |
//! | [`sys`] | the only system calls; decides nothing | [`wire`], the model's plain types |
//! | [`wire`] | pure codecs, total parsers: addresses, `LISTEN_*` | the model's plain types |
//! | [`model`] | events, actions, facts; workers, the supervisor, rollouts | `std`'s values |
//!
//! `model` and `wire` are a package of their own, `crates/prefork-core`, which is tested in
//! seconds; this library re-exports them. A test reads the sources of both and fails on an import
//! that is not allowed, on a circle between rooms, and on a room without a map.
//!
//! # Glossary
//!
//! The words of the manual, and where the code has them.
//!
//! | word | type | room |
//! | --- | --- | --- |
//! | listener | [`Listener`](sys::listener::Listener) | [`sys::listener`] |
//! | address | [`ListenSpec`], [`Bound`] | [`wire::address`] |
//! | worker | [`Worker`], its process in `driver/process` | [`model::worker`] |
//! | slot | [`Slot`], [`Slots`] | [`model::state::slots`] |
//! | generation | [`Generation`]; what it was pinned to: [`Pin`] | [`driver::pin`] |
//! | ready, heartbeat | [`Phase`], [`Heartbeat`][beat], [`Readiness`] | [`model::worker`] |
//! | retiring, draining | a worker that [`is_told`]; `retire` | [`model::supervisor::retire`] |
//! | rollout, canary, probation | `Rollout`, [`RolloutRecord`] | [`model::rollout`] |
//! | surge | [`Surge`] | [`model::rollout`] |
//! | rollback | `Direction::Back` | [`model::rollout::rollback`] |
//! | operation | [`Operation`], [`OperationKind`] | [`model::operation`] |
//! | target | [`Target`](client::Target) | [`client`] |
//! | upgrade in place | [`HandOver`], [`State`], `Preflight` | [`driver::upgrade`] |
//! | upgrade by fork | [`ForkState`], `PeerMaster` | [`model::fork`], [`driver::fork`] |
//! | old and new master | [`PeerMessage`] | [`model::peer`] |
//! | pause, scale | [`Scaling`](model::state::changes::Scaling) | [`model::supervisor::scale`] |
//! | stop, drain the queue | [`StopSeverity`] | [`model::supervisor::stop`] |
//! | option, setting | [`Policy`], [`Recipe`] | [`model::policy`], [`driver::pin`] |
//! | dies by itself | `leader_gone` in `supervisor/worker_exit.rs` | [`model::supervisor`] |
//! | back-off | [`Backoff`](model::backoff::Backoff) | [`model::backoff`] |
//! | log line | [`Fact`](model::fact::Fact) | [`model::fact`] |
//! | event | a fact as a line of JSON, [`events::render`] | [`wire::events`] |
//! | the last events | [`EventLog`] | [`model::machines`] |
//! | story of a slot (`--why`) | [`Stories`] | [`wire::story`] |
//! | lifeline | [`Lifeline`](sys::io::lifeline::Lifeline) | [`sys::io::lifeline`] |
//! | drill, rehearsal | [`Rehearsal`](model::event::Rehearsal) | `cmd/ctl/drill` |
//! | status document | [`Snapshot`], [`Status`] | [`wire::status`] |
//! | guard | [`Guard`](sys::process::guard::Guard) | [`sys::process::guard`] |
//! | backlog, accept queue | [`QueueReader`] | [`sys::listener::accept_queue`] |
//!
//! [`Bound`]: wire::address::Bound
//! [`EventLog`]: model::machines::event_log::EventLog
//! [`events::render`]: wire::events::render
//! [`ForkState`]: model::peer::ForkState
//! [`Gate`]: worker::gate::Gate
//! [`Generation`]: model::ids::Generation
//! [`HandOver`]: model::state::handover::HandOver
//! [`is_told`]: model::worker::Phase::is_told
//! [`ListenSpec`]: wire::address::ListenSpec
//! [`Operation`]: model::operation::Operation
//! [`OperationKind`]: model::operation::OperationKind
//! [`PeerMessage`]: model::peer::PeerMessage
//! [`Phase`]: model::worker::Phase
//! [`Pin`]: driver::pin::Pin
//! [`Policy`]: model::policy::Policy
//! [`QueueReader`]: sys::listener::accept_queue::QueueReader
//! [`Readiness`]: model::policy::Readiness
//! [`Recipe`]: driver::pin::Recipe
//! [`RolloutRecord`]: model::state::rollout::RolloutRecord
//! [`Slot`]: model::state::slots::Slot
//! [`Slots`]: model::state::slots::Slots
//! [`Snapshot`]: model::state::snapshot::Snapshot
//! [`State`]: wire::handover::State
//! [`Status`]: wire::status::Status
//! [`StopSeverity`]: model::policy::StopSeverity
//! [`Stories`]: model::machines::stories::Stories
//! [`Surge`]: model::policy::Surge
//! [`Worker`]: model::worker::Worker
//! [beat]: model::worker::Heartbeat
//!
//! # The data's way
//!
//! *Listeners.* `pf-listen` parses addresses ([`wire::address`]), binds them ([`sys::listener`]),
//! places them at fd 3 and up without close-on-exec ([`sys::io::fd`]), renders `LISTEN_FDS` and its
//! sisters ([`wire::listen_env`]) and becomes the next program ([`sys::process::exec`]); its pid
//! does not change, so `LISTEN_PID` stays true. `pf-master` takes them over through the same rooms
//! and holds them for life. With `--hold`, `pf-listen` stays their holder, and the next program is
//! a child of it ([`sys::process::child`]) that is started again when it dies
//! ([`model::machines::holder`]).
//!
//! *Listeners that come and go.* `pf-ctl add-fds` sends descriptors with its request
//! ([`sys::control::descriptors`]); the driver checks them and keeps them until the model asks for
//! the pin of a generation that has them too (`driver/listeners.rs`). When a rollout that changes
//! the listeners is done, the pin's are those of the service
//! ([`model::action::Action::SettleListeners`]), and every other pin lets go of its own: it
//! remembers how each was bound ([`sys::listener::ClosedListener`]), for a rollback.
//!
//! *A worker.* [`model::action::Action::Spawn`] names a slot and a generation; the driver looks up
//! the generation's pin ([`driver::pin`]: real directory, program, environment, resolved once),
//! makes the worker's notify socket and heartbeat page, and forks ([`sys::process::spawn`]).
//! Whether the exec succeeded, what the worker says, and how it ends come back as events, in an
//! order that makes "ready, then died" never look like "died before ready" (see [`driver`]).
//!
//! *A connection.* `pf-accept` is a worker that needs no code: [`sys::listener::shared_accept`]
//! waits with the other workers at the listeners and takes one connection at a time,
//! [`model::machines::acceptor`] knows whether there is room for it and when a handler has had its
//! time, and the handler is forked as workers are, with the environment that tcpserver gives
//! ([`wire::ucspi`]).
//!
//! *A rollout.* `pf-ctl reload` sends one JSON line ([`wire::control`]); the model pins a new
//! generation, starts its workers beside the old ones within `--surge`, retires each old worker
//! when its successor is ready, and ends the operation when no old worker accepts any more; or goes
//! back, whole ([`model::rollout`]). Steps and end go to each client that waits for the operation.
//!
//! *A drill.* `pf-ctl drill` is a client that makes load on the listeners, all in one loop, while
//! it asks for rollouts, restarts, scales and upgrades one after the other. Those rollouts are
//! rehearsals: their generations are copies of the pin that serves
//! ([`model::action::PinSource`]), and their upgrades execute the image that runs.
//!
//! *Two masters.* An upgrade by fork is a conversation of two models ([`model::fork`]): the old
//! master starts the new one ([`sys::process::fork_master`]) with a socket between them in which
//! listeners and state wait already ([`wire::peer`], [`driver::fork`]), and gives up a slot
//! whenever the new one has a worker ready for it. Each sees the other's death, and then has all
//! slots.
//!
//! *A service manager.* After each turn [`model::machines::service_manager`] compares the state
//! with what a service manager above the master was told, and the driver sends the difference
//! ([`wire::service_manager`]). With `--daemonize` the shell is told once, through a pipe
//! ([`sys::process::daemon`]).
//!
//! *A fact.* The model states what happened as a [`Fact`](model::fact::Fact); `driver/perform.rs`
//! writes its text ([`model::fact::text`]) to the log, and the status document shows what of it
//! lasts. A fact that is an event is rendered once ([`wire::events`]), gets its number and is kept
//! ([`model::machines::event_log`]); each client that follows has a place of its own there
//! (`driver/clients/follower.rs`). What is about a slot is also an entry of the slot's story
//! ([`wire::story`]), for those who ask why the slot is as it is.
//!
//! *Status.* The model's snapshot and what `/proc` and the sockets show make one document
//! ([`wire::status`]), which `pf-status` prints as it is, as a table, or as metrics. What only ever
//! grows is in it as totals ([`model::counters`]): the driver tells the model what is new in each
//! worker's heartbeat page whenever it looks at one, and before it reaps the worker; two masters
//! tell each other.

pub mod client;
#[cfg(feature = "programs")]
pub mod cmd;
pub mod driver;
pub mod error;
pub mod log;
pub mod sys;
#[cfg(feature = "programs")]
pub mod ui;
pub mod worker;

pub use prefork_core::{model, wire};
pub use worker::graceful::{Accepted, GracefulListener};
pub use worker::heartbeat::Heartbeat;
pub use worker::listeners::Listeners;
pub use worker::notify;
pub use worker::restart::Restart;
pub use worker::server::{Connection, Server};
pub use worker::shutdown::Shutdown;
