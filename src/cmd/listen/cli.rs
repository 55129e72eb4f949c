//! The command line of `pf-listen`: its options, its help texts and its man page.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};

use crate::cmd::values::protocols;
use crate::wire::address::ListenSpec;
use crate::wire::exports::Protocol;

/// The name of the program in its messages.
pub(super) const PROGRAM: &str = "pf-listen";

/// `--tries` and `--delay` where the command line has none.
pub(super) const TRIES: i64 = 5;
pub(super) const DELAY: Duration = Duration::from_millis(500);

#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    about = "Bind listening sockets, then become COMMAND, which inherits them",
    long_about = "Binds listening sockets, places them at file descriptor 3 and up, describes \
        them in the environment as systemd does (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES), and \
        becomes COMMAND by exec: the process id stays the same, and nothing of pf-listen stays \
        behind.\n\n\
        Listeners that were inherited in that way, or in another protocol of --export, are kept \
        if an ADDRESS names them and closed if none does. An ADDRESS that was not inherited is \
        bound. So pf-listen can run in front of itself, or behind systemd. Without an ADDRESS \
        every inherited listener is kept; if there is none, 127.0.0.1:8080 is bound.",
    override_usage = "pf-listen [OPTIONS] [ADDRESS]... -- COMMAND [ARG]...",
    after_long_help = AFTER_HELP,
)]
pub(super) struct Args {
    /// Where to listen: [NAME=]ADDRESS[,OPTION[=VALUE]]...
    #[arg(
        value_name = "ADDRESS",
        long_help = "Where to listen: [NAME=]ADDRESS[,OPTION[=VALUE]]... See ADDRESSES below. \
            Repeatable; the listeners have this order."
    )]
    pub(super) addresses: Vec<ListenSpec>,

    /// More tries if an address is in use; -1: no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = TRIES,
        allow_negative_numbers = true,
        long_help = "How many more times to try an address that is in use; a negative number: no \
            limit. Each try is logged."
    )]
    pub(super) tries: i64,

    /// Time between two tries
    #[arg(
        long,
        value_name = "D",
        default_value = "500ms",
        value_parser = humantime::parse_duration
    )]
    pub(super) delay: Duration,

    /// Write the bound addresses to FILE
    #[arg(
        long,
        value_name = "FILE",
        long_help = "When all are bound, write FILE: a line 'NAME ADDRESS' for each listener, in \
            order. NAME is - for a listener without a name, and ADDRESS has the real port. The \
            file appears complete or not at all (a FIFO or a terminal is just written to, and \
            /dev/stdout or /dev/fd/N is the descriptor that is open already)."
    )]
    pub(super) port_file: Option<PathBuf>,

    /// Keep every inherited listener, also those that no ADDRESS names
    #[arg(long)]
    pub(super) add: bool,

    /// Pass the listeners on in this protocol too; repeatable
    #[arg(
        short,
        long,
        value_name = "PROTO",
        value_parser = protocols(),
        long_help = "Pass the listeners on in this protocol too, besides systemd's, which is \
            always on; repeatable. The default is the protocols in which pf-listen itself \
            inherited listeners. See PROTOCOLS below. An address that the protocol cannot express \
            is wrong usage."
    )]
    pub(super) export: Vec<Protocol>,

    /// Stay, hold the listeners, and start COMMAND again if it dies
    #[arg(
        long,
        long_help = "Do not become COMMAND, but run it as a child, hold the listeners, and pass \
            on every signal that a process sends. If COMMAND dies and no signal requested its \
            end, start it again: at once if it has lived longer than the wait, which doubles from \
            100ms to 30s. The listeners stay open however COMMAND dies; clients wait in the \
            accept queues meanwhile. pf-listen exits as COMMAND does, if that exits with 0, or \
            after TERM, INT or QUIT."
    )]
    pub(super) hold: bool,

    /// Print each listener on stderr
    #[arg(short, long, conflicts_with = "quiet", action = ArgAction::SetTrue)]
    pub(super) verbose: bool,

    /// Print only errors on stderr
    #[arg(short, long, action = ArgAction::SetTrue)]
    pub(super) quiet: bool,

    /// The program to become, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// The text below the options in the help and in the man page.
const AFTER_HELP: &str = "\
ADDRESSES
  tcp:HOST:PORT  HOST:PORT  [::1]:PORT   every address of HOST; PORT may be a service name,
                                         or 0: the system chooses a port
  tcp:PORT  :PORT  PORT                  all interfaces, IPv6 and IPv4 in one socket
  udp:...                                the same three forms, datagram
  unix:PATH  /PATH  ./PATH  @NAME        Unix stream socket; @: Linux's abstract namespace
  unixgram:PATH  unixseq:PATH            Unix datagram, seqpacket
  vsock:CID:PORT  vsock::PORT            Linux vsock
  fd:N                                   a socket that is already open as descriptor N

  A NAME has letters, digits, '_', '.' and '-'. In a path, write a comma as '\\,' and a
  backslash as '\\\\'. The text before the first '=' is the NAME, if it is a valid one.

  The Unix path of a dead server is taken over; that of a live server is in use; any other
  file is an error. The path stays when COMMAND exits.

ADDRESS OPTIONS
  backlog=N           connections that may wait (default: the system's maximum)
  reuseport           share the address with other sockets that have this option
  copies=N            N sockets of one address, called NAME.0, NAME.1, ...
  v6only              no IPv4 through an IPv6 socket
  nodelay  keepalive  set on the listener; its connections inherit it
  fastopen=N          TCP Fast Open, N pending
  defer-accept=D      for D, wake no worker for a connection that has sent no data
  rcvbuf=SIZE         buffer sizes, as 64K or 1M
  sndbuf=SIZE
  freebind            the address need not exist yet
  device=IF  mark=N   bind to an interface; mark packets
  nonblock            a non-blocking listener (default: blocking)
  mode=0660           permissions of a Unix path (default: by the umask)
  owner=USER          owner and group of a Unix path
  group=GROUP

PROTOCOLS
  systemd         LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES
  einhorn         EINHORN_FD_COUNT, EINHORN_FD_0, EINHORN_FD_1, ...
  server-starter  SERVER_STARTER_PORT: TCP, UDP, Unix paths without ';' and '='
  unicorn         UNICORN_FD: TCP, Unix stream sockets
  nginx           NGINX: TCP, UDP, Unix paths; nginx needs listeners with nonblock
  php-fpm         FPM_SOCKETS: TCP, absolute Unix paths without ',' and '='

EXIT STATUS
  That of COMMAND; 2 wrong usage; 111 could not bind or set up; 126 COMMAND cannot be
  executed; 127 COMMAND not found.

HOLDING
  With --hold, a COMMAND that exits with 2, 111, 126 or 127 within ten seconds of its first
  start is not started again: it cannot run with these arguments. HUP is a reload, not an end.
  When pf-listen itself is killed, COMMAND gets TERM. PF_HOLD is the pid of pf-listen.

EXAMPLES
  pf-listen http=tcp:127.0.0.1:8080 admin=/run/app.sock,mode=0660,group=www -- ./app
  pf-listen :443,backlog=4096 -- pf-master -n 4 -- ./app
  pf-listen --add 127.0.0.1:9000 -- ./app     one more than the inherited listeners";
