//! Pure codecs: bytes and strings to types, and back. No codec makes a system call; every parser
//! is total (no input makes it panic), and every limit has a name.
//!
//! What a worker and its environment see:
//!
//! | module | format | whose protocol |
//! | --- | --- | --- |
//! | [`listen_env`] | `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES` | systemd, sd_listen_fds(3) |
//! | [`exports`] | `EINHORN_FD_*`, `UNICORN_FD`, `NGINX` and others | one server each |
//! | [`notify`] | datagrams from a worker to `NOTIFY_SOCKET` | systemd, sd_notify(3) |
//! | [`einhorn`] | `worker:ack` and `worker:ping` lines | <https://github.com/contribsys/einhorn> |
//! | [`heartbeat`] | the page behind `PF_HEARTBEAT_FD` | ours |
//! | [`environment`] | `NAME=VALUE`, as execve(2) takes it | POSIX |
//! | [`ucspi`] | environment of a handler | tcpserver, <https://cr.yp.to/proto/ucspi.txt> |
//!
//! What operators and their tools see; these are ours and API, but for the last:
//!
//! | module | format |
//! | --- | --- |
//! | [`address`] | addresses and options of listeners, as people write them: pf-listen(1) |
//! | [`address::size`] | sizes: `512M` |
//! | [`control`], [`changes`], [`status`] | requests, replies, the status document: JSON lines |
//! | [`drill`] | what a drill has found: a JSON document |
//! | [`events`] | events of the service: JSON lines; facts of the model as such lines |
//! | [`story`] | what has happened to a slot: the reply to `why` |
//! | [`names`] | the paths beside a pid file: control socket, `.oldbin` |
//! | [`service_manager`] | `READY=1` and so on to the manager above: systemd, sd_notify(3) |
//!
//! What only another master of this package reads (versioned, not API):
//!
//! | module | format |
//! | --- | --- |
//! | [`handover`] | the state that an image hands to the next at an upgrade in place |
//! | [`handover::preflight`] | the answer of an image that is only checked before that |
//! | [`events::kept`] | the events that are kept, from one image or master to the next |
//! | [`story::kept`] | the same of all slots, from one image or master to the next |
//! | [`peer`] | what an old and a new master exchange during an upgrade by fork |
//! | [`operation_id`] | an operation's id, one word |
//! | [`text`] | bytes that are nearly always text, in JSON |
//!
//! And files of the system: [`services`] (services(5)) and [`maps`] (`/proc/PID/maps`, proc(5)).

pub mod address;
pub mod changes;
pub mod control;
pub mod drill;
pub mod einhorn;
pub mod environment;
pub mod events;
pub mod exports;
pub mod handover;
pub mod heartbeat;
pub mod listen_env;
pub mod maps;
pub mod names;
pub mod notify;
pub mod operation_id;
pub mod peer;
pub mod service_manager;
pub mod services;
pub mod status;
pub mod story;
pub mod text;
pub mod ucspi;
