//! `pf-listen`: binds, and becomes the command that is to serve.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser};

use super::values::protocols;
use super::{arguments, run, say};
use crate::error::Exit;
use crate::error::reason;
use crate::error::{Error, Result};
use crate::sys::io::fd;
use crate::sys::listener::{self, Bound, Listener, Retry};
use crate::sys::process::exec;
use crate::wire::address::{ListenSpec, Name};
use crate::wire::exports::{self, Exports, Protocol};
use crate::wire::listen_env::{self, FIRST_FD};

mod hold;
mod plain;

/// The program's name, as its messages have it.
const PROG: &str = "pf-listen";

/// What is bound where neither an address nor an inherited listener says otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// How many more tries, and how long between two, where nothing else is said.
const TRIES: i64 = 5;
const DELAY: Duration = Duration::from_millis(500);

/// Names the heartbeat page of a worker.
const HEARTBEAT: &str = "PF_HEARTBEAT_FD";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = PROG,
    version,
    about = "Bind listening sockets, then become COMMAND, which inherits them",
    long_about = "Binds listening sockets, places them at file descriptor 3 and up, tells of them in the environment as systemd does (LISTEN_FDS, \
        LISTEN_PID, LISTEN_FDNAMES), and becomes COMMAND by exec: the process id stays the same, and nothing of pf-listen stays behind.\n\n\
        Listeners that were inherited in that way, or in another that --export knows, are kept where an ADDRESS names them, closed where none does, and bound where one is missing; so \
        pf-listen may stand in front of itself, or behind systemd. Without an ADDRESS every inherited listener is kept; if there is none either, \
        127.0.0.1:8080 is bound.",
    override_usage = "pf-listen [OPTIONS] [ADDRESS]... -- COMMAND [ARG]...",
    after_long_help = AFTER_HELP,
)]
pub struct Args {
    /// Where to listen: [NAME=]ADDRESS[,OPTION[=VALUE]]...
    #[arg(
        value_name = "ADDRESS",
        long_help = "Where to listen: [NAME=]ADDRESS[,OPTION[=VALUE]]... See ADDRESSES below. May be given more than once; the listeners stand in \
            this order."
    )]
    addresses: Vec<ListenSpec>,

    /// More tries if an address is in use; -1: for ever
    #[arg(
        long,
        value_name = "N",
        default_value_t = TRIES,
        allow_negative_numbers = true,
        long_help = "How many more times an address that is in use is tried; a negative number: for ever. Each try is logged."
    )]
    tries: i64,

    /// Time between two tries
    #[arg(long, value_name = "D", default_value = "500ms", value_parser = humantime::parse_duration)]
    delay: Duration,

    /// Write the bound addresses to FILE
    #[arg(
        long,
        value_name = "FILE",
        long_help = "Once all are bound, write FILE, a line 'NAME ADDRESS' for each listener in order: NAME is - for one without, and ADDRESS has the \
            real port. The file appears complete or not at all (a FIFO or a terminal is just written to)."
    )]
    port_file: Option<PathBuf>,

    /// Keep every inherited listener, also those that no ADDRESS names
    #[arg(long)]
    add: bool,

    /// Tell of the listeners in another protocol too; repeatable
    #[arg(
        short,
        long,
        value_name = "PROTO",
        value_parser = protocols(),
        long_help = "Tell COMMAND of the listeners in this protocol too, besides systemd's, which is always on; repeatable. Without it, in the \
            protocols in which pf-listen itself was told of inherited ones. See PROTOCOLS below. An address that a format cannot hold is wrong usage."
    )]
    export: Vec<Protocol>,

    /// Stay, hold the listeners, and start COMMAND again if it dies
    #[arg(
        long,
        long_help = "Do not become COMMAND but run it as a child, hold the listeners, pass on every signal that a process sends, and start COMMAND \
            again if it dies without being asked to: at once if it has lived longer than the wait, which doubles from 100ms to 30s. The \
            sockets outlive COMMAND, however it dies; clients wait in their queues meanwhile. Ends as COMMAND does if that exits with 0, or after \
            TERM, INT or QUIT."
    )]
    hold: bool,

    /// Tell of each listener on stderr
    #[arg(short, long, conflicts_with = "quiet", action = ArgAction::SetTrue)]
    verbose: bool,

    /// Only errors on stderr
    #[arg(short, long, action = ArgAction::SetTrue)]
    quiet: bool,

    /// The program to become, and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What stands below the options in the help and in the man page.
const AFTER_HELP: &str = "\
ADDRESSES
  tcp:HOST:PORT  HOST:PORT  [::1]:PORT   every address of HOST; PORT may be a service's name,
                                         or 0: one that the system chooses
  tcp:PORT  :PORT  PORT                  all interfaces, IPv6 and IPv4 in one socket
  udp:...                                the same three forms, datagram
  unix:PATH  /PATH  ./PATH  @NAME        Unix stream socket; @: Linux's abstract namespace
  unixgram:PATH  unixseq:PATH            Unix datagram, seqpacket
  vsock:CID:PORT  vsock::PORT            Linux vsock
  fd:N                                   a socket that is open as descriptor N already

  A NAME is of letters, digits, '_', '.' and '-'. A comma in a path is written '\\,', a
  backslash '\\\\'. What stands before the first '=' is the NAME, if it is made as one is.

  A Unix path that a dead server left is taken over; a live server's is in use; any other file
  is an error. The path stays when COMMAND ends.

ADDRESS OPTIONS
  backlog=N           connections that may wait (default: the system's maximum)
  reuseport           share the address with others that say so too
  copies=N            N sockets of one address, called NAME.0, NAME.1, ...
  v6only              no IPv4 through an IPv6 socket
  nodelay  keepalive  set on the listener, which its connections inherit
  fastopen=N          TCP Fast Open, N pending
  defer-accept=D      wake nobody for a connection without data, for D
  rcvbuf=SIZE         buffers, as in 64K or 1M
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
  nginx           NGINX: TCP, UDP, Unix paths
  php-fpm         FPM_SOCKETS: TCP, absolute Unix paths without ',' and '='

EXIT STATUS
  COMMAND's own; 2 wrong usage; 111 could not bind or set up; 126 COMMAND cannot be executed;
  127 COMMAND not found.

HOLDING
  With --hold, a COMMAND that exits with 2, 111, 126 or 127 at its first start, within ten
  seconds, is not started again: it cannot run as it was called. HUP is a reload, not an end.
  When pf-listen itself is killed, COMMAND gets TERM. COMMAND has PF_HOLD, its holder's pid.

EXAMPLES
  pf-listen http=tcp:127.0.0.1:8080 admin=/run/app.sock,mode=0660,group=www -- ./app
  pf-listen :443,backlog=4096 -- pf-master -n 4 -- ./app
  pf-listen --add 127.0.0.1:9000 -- ./app     one more, besides what was inherited";

/// The command line's definition, for the man page and the completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    match plain::read(std::env::args_os()).map_or_else(arguments::<Args>, Ok) {
        Ok(args) => {
            let mut end = None;
            let failed = run(PROG, || {
                end = Some(listen(&args)?);
                Ok(Exit::Done)
            });
            end.map_or(failed, hold::End::repeat)
        }
        Err(exit) => exit,
    }
}

/// Returns only if it failed, or with `--hold`: otherwise this process is COMMAND.
fn listen(args: &Args) -> Result<hold::End> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Error::usage("no COMMAND"));
    };
    let (listeners, environment) = prepare(args)?;
    if args.hold {
        let verbosity = i8::from(args.verbose) - i8::from(args.quiet);
        return hold::hold(&args.command, &listeners, environment, verbosity);
    }
    fd::place_for_exec(
        listeners.into_iter().map(|listener| listener.fd).collect(),
        FIRST_FD,
    )?;
    Err(exec::become_program(program, rest, environment))
}

/// Names and values.
type Environment = Vec<(OsString, OsString)>;

/// Binds the listeners, and tells the environment that COMMAND is to have.
fn prepare(args: &Args) -> Result<(Vec<Listener>, Environment)> {
    let mut log = |line: String| {
        if !args.quiet {
            say(PROG, &line);
        }
    };
    let inherited = listener::inherit(
        |key| std::env::var_os(key),
        std::process::id(),
        Some(std::os::unix::process::parent_id()),
        &mut log,
    )?;
    let protocols = Exports::new(&args.export, &inherited.protocols).protocols();
    let inherited = inherited.listeners;
    let default = [default_spec()?];
    let specs = match args.addresses.as_slice() {
        [] if inherited.is_empty() => &default[..],
        addresses => addresses,
    };
    let retry = Retry {
        tries: u32::try_from(args.tries).ok(),
        delay: args.delay,
    };
    for spec in specs {
        exports::check_spec(&protocols, spec).map_err(Error::usage)?;
    }
    let keep_all = args.add || args.addresses.is_empty();
    let listeners = listener::arrange(inherited, specs, keep_all, &retry, &mut log)?;
    let exported = exported(&protocols, &listeners)?;
    if let Some(file) = &args.port_file {
        write_port_file(file, &listeners)?;
    }
    if args.verbose {
        for (fd, listener) in (FIRST_FD..).zip(&listeners) {
            log(described(fd, listener));
        }
    }
    let mut environment = environment(&listeners, exported);
    move_heartbeat(&mut environment, listeners.len())?;
    warn_of_what_is_in_the_way(&listeners, &mut log);
    Ok((listeners, environment))
}

/// What tells of the listeners in these protocols.
fn exported(protocols: &[Protocol], listeners: &[Listener]) -> Result<Vec<(String, OsString)>> {
    let addresses: Vec<&Bound> = listeners.iter().map(|listener| &listener.address).collect();
    exports::render(protocols, &addresses, FIRST_FD).map_err(Error::usage)
}

fn default_spec() -> Result<ListenSpec> {
    DEFAULT_ADDRESS.parse().map_err(Error::usage)
}

/// `fd 3: web tcp:127.0.0.1:8080, backlog 4096`.
fn described(fd: RawFd, listener: &Listener) -> String {
    let name = listener
        .name
        .as_ref()
        .map(|name| format!("{name} "))
        .unwrap_or_default();
    let backlog = listener
        .backlog()
        .map(|backlog| format!(", backlog {backlog}"))
        .unwrap_or_default();
    format!("fd {fd}: {name}{}{backlog}", listener.address)
}

fn warn_of_what_is_in_the_way(listeners: &[Listener], log: &mut dyn FnMut(String)) {
    let numbers: Vec<RawFd> = listeners
        .iter()
        .map(|listener| listener.fd.as_raw_fd())
        .collect();
    for number in fd::unrelated_at_targets(&numbers, FIRST_FD) {
        let index = usize::try_from(number - FIRST_FD).unwrap_or_default();
        let label = listeners
            .get(index)
            .map(Listener::label)
            .unwrap_or_default();
        log(format!(
            "fd {number} ({}) is replaced by the listener {label}",
            fd::describe_file(number)
        ));
    }
}

/// Our own environment, with the listeners in place of those that we were told of.
fn environment(listeners: &[Listener], exported: Vec<(String, OsString)>) -> Environment {
    let ours = |key: &OsStr| {
        listen_env::VARIABLES
            .iter()
            .any(|variable| key == *variable)
            || exports::is_listener_variable(key)
    };
    let mut environment: Environment = std::env::vars_os().filter(|(key, _)| !ours(key)).collect();
    let (count, names) = listen_env::render(
        listeners
            .iter()
            .map(|listener| listener.name.as_ref().map(Name::as_str)),
    );
    // An exec keeps the pid, so it is known here; a holder's child puts its own in its place.
    let pid = std::process::id().to_string();
    for (key, value) in [
        ("LISTEN_PID", pid),
        ("LISTEN_FDS", count),
        ("LISTEN_FDNAMES", names),
    ] {
        environment.push((key.into(), value.into()));
    }
    environment.extend(exported.into_iter().map(|(key, value)| (key.into(), value)));
    environment
}

/// A worker that adds a listener of its own (U3) has its heartbeat page where that one goes: the page moves up, and its variable with it.
fn move_heartbeat(environment: &mut [(OsString, OsString)], listeners: usize) -> Result<()> {
    let end = FIRST_FD.saturating_add(RawFd::try_from(listeners).unwrap_or(RawFd::MAX));
    let said = environment.iter_mut().find(|(key, _)| key == HEARTBEAT);
    let Some((_, value)) = said else {
        return Ok(());
    };
    let number = value.to_str().and_then(|number| number.parse().ok());
    let in_the_way = |fd: &RawFd| (FIRST_FD..end).contains(fd) && fd::survives_exec(*fd);
    if let Some(fd) = number.filter(in_the_way) {
        *value = fd::move_for_exec(fd, end)?.to_string().into();
    }
    Ok(())
}

/// Writes a line `NAME ADDRESS` for each listener. A reader sees the whole file or none: it is written beside and renamed.
fn write_port_file(file: &Path, listeners: &[Listener]) -> Result<()> {
    let line = |listener: &Listener| {
        format!(
            "{} {}\n",
            listener.name.as_ref().map_or("-", Name::as_str),
            listener.address
        )
    };
    let text: String = listeners.iter().map(line).collect();
    let written = match to_be_replaced(file) {
        Some(target) => replace(&target, &text),
        None => fs::OpenOptions::new()
            .append(true)
            .open(file)
            .and_then(|mut file| file.write_all(text.as_bytes())),
    };
    written.map_err(|error| {
        Error::system(
            format!("cannot write port file {}", file.display()),
            reason(&error),
        )
    })
}

/// The regular file that `file` is or is to become, behind any links; `None` for what can only be written to: a FIFO, a terminal, and whatever
/// stands in /dev and /proc (to rename over `/dev/stdout` would be a disaster).
fn to_be_replaced(file: &Path) -> Option<PathBuf> {
    let is_link = fs::symlink_metadata(file).is_ok_and(|found| found.is_symlink());
    let target = match fs::canonicalize(file) {
        Ok(target) => target,
        Err(_) if is_link => return None,
        Err(_) => file.to_owned(),
    };
    let special = [file, &target]
        .iter()
        .any(|path| path.starts_with("/dev") || path.starts_with("/proc"));
    let regular = fs::metadata(&target).map_or(true, |found| found.is_file());
    (regular && (!special || target.starts_with("/dev/shm"))).then_some(target)
}

fn replace(target: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = target.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    // One of our own number that is there already was left by a process that is gone.
    let _ = fs::remove_file(&beside);
    let created = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&beside);
    let done = created
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, target));
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    done
}
