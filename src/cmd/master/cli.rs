//! The command line of `pf-master`. The doc comments here are its help texts and its man page.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use crate::cmd::values::{Off, count_or_off, duration, duration_or_off, durations, protocols};
use crate::model::policy::{Canary, MAX_SLOTS, Readiness, Surge};
use crate::model::signal::Signal;
use crate::wire::address::ListenSpec;
use crate::wire::exports::Protocol;

/// The name of the program in its messages.
pub(super) const PROGRAM: &str = "pf-master";

const EXIT_CODES: &str = "\
Exit codes:
  0    stopped on request
  1    gave up, or the first rollout failed
  2    wrong usage
  6    another live master owns the pid file
  111  could not set up";

/// Forks and supervises workers
///
/// Inherits listeners from the environment (and binds those of --listen), starts workers in N
/// slots, and keeps them running. A worker is any program that accepts on an inherited descriptor,
/// or any long-running job.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, after_help = EXIT_CODES, max_term_width = 100)]
pub(super) struct Args {
    /// Number of slots
    ///
    /// The default is the number of usable CPUs: the smaller of CPU affinity and cgroup quota,
    /// rounded up.
    #[arg(short = 'n', long, value_name = "N", value_parser = slots)]
    pub(super) workers: Option<usize>,

    /// Bind this address too; repeatable
    ///
    /// The grammar is that of pf-listen, see pf-tools(7). An inherited address is not bound again.
    #[arg(short, long, value_name = "ADDRESS")]
    pub(super) listen: Vec<ListenSpec>,

    /// Pass the listeners on in this protocol too, besides systemd's; repeatable
    ///
    /// The default is the protocols in which the master itself inherited listeners. An address that
    /// the protocol cannot express is wrong usage.
    #[arg(short, long, value_name = "PROTO", value_parser = protocols())]
    pub(super) export: Vec<Protocol>,

    /// Pid file: the pid and a newline; the master holds a lock on it as long as it runs
    ///
    /// It appears when the control socket listens, before the first worker starts.
    #[arg(short, long, value_name = "FILE")]
    pub(super) pid: Option<PathBuf>,

    /// Control socket: a Unix path with the options mode=, owner=, group=
    ///
    /// The default is the pid file with .pid replaced by .ctl (else .ctl appended), mode 0600.
    #[arg(long, value_name = "ADDRESS", value_parser = ControlSpec::from_str,
        conflicts_with = "no_control")]
    pub(super) control: Option<ControlSpec>,

    /// Clients of the control socket must present the content of this file too
    ///
    /// pf-ctl and pf-status do so with --token. A client with another one, or none within 5 s,
    /// is disconnected without an answer. A newline at the end of the file does not count. The file
    /// is read at the start, on HUP and USR1, and by each new image of the master. If it cannot be
    /// read, an upgrade fails before it changes anything; otherwise the content as it was read last
    /// stays in use.
    #[arg(long, value_name = "FILE", conflicts_with = "no_control")]
    pub(super) control_token: Option<PathBuf>,

    /// No control socket
    #[arg(long)]
    pub(super) no_control: bool,

    /// When a worker is ready: auto, notify, heartbeat, delay=D, exec, or fd=N
    ///
    /// auto: it sends READY=1 to NOTIFY_SOCKET, or beats; as long as no worker has ever done
    /// either: it has lived for 1s. notify: it sends READY=1, or einhorn's worker:ack. heartbeat:
    /// it beats. delay=D: it has lived for D. exec: its program runs. fd=N: it writes a newline to
    /// fd N.
    #[arg(short, long, value_name = "HOW", default_value = "auto", value_parser = readiness)]
    pub(super) ready: Readiness,

    /// A worker that is not ready after D is killed, which is a failed start (off: no limit)
    #[arg(long, value_name = "D", default_value = "60s", value_parser = duration_or_off)]
    pub(super) start_timeout: Off<Duration>,

    /// A worker without a heartbeat for D gets the abort signal, and KILL 1s later
    ///
    /// This begins with the first beat of a worker. A stopped or traced worker is held: it is not
    /// timed.
    #[arg(short, long, value_name = "D", default_value = "off", value_parser = timeout)]
    pub(super) timeout: Off<Duration>,

    /// The signal for a missed heartbeat, on which many runtimes print a stack before they exit
    #[arg(long, value_name = "SIG", default_value = "ABRT", value_parser = deadly)]
    pub(super) abort_signal: Signal,

    /// The signal that requests a worker to finish
    #[arg(long, value_name = "SIG", default_value = "TERM", value_parser = deadly)]
    pub(super) graceful_signal: Signal,

    /// How long a worker may take to finish; then its whole process group gets KILL
    #[arg(long, value_name = "D", default_value = "30s", value_parser = duration)]
    pub(super) graceful_timeout: Duration,

    /// The signal of a quick stop
    #[arg(long, value_name = "SIG", default_value = "INT", value_parser = deadly)]
    pub(super) quick_signal: Signal,

    /// How long a quick stop may take; then the workers get KILL
    #[arg(long, value_name = "D", default_value = "5s", value_parser = duration)]
    pub(super) quick_timeout: Duration,

    /// On a graceful stop: report 'stopping' and serve for D more, so that load balancers notice
    #[arg(long, value_name = "D", default_value = "off", value_parser = duration_or_off)]
    pub(super) stop_delay: Off<Duration>,

    /// On a graceful stop: signal the workers only when each accept queue has been empty once
    ///
    /// At the graceful timeout they are signalled in any case.
    #[arg(long)]
    pub(super) drain_queue: bool,

    /// At most N retiring workers; if there are more, the oldest is killed
    #[arg(long, value_name = "N", default_value = "off", value_parser = count_or_off)]
    pub(super) max_draining: Off<u32>,

    /// What TERM to the master means
    #[arg(long, value_name = "HOW", default_value = "graceful")]
    pub(super) term: Term,

    /// How many workers more than slots may be starting at once: N, or N% of the slots
    ///
    /// 100%: no old worker retires before all new ones are ready. 0: a worker retires first, then
    /// its replacement starts.
    #[arg(long, value_name = "N", default_value = "1", value_parser = surge)]
    pub(super) surge: Surge,

    /// The first new worker must stay ready this long before a rollout goes on: D, auto, or off
    ///
    /// No old worker retires before that. auto: 1s, or 5s where --ready auto only guessed that the
    /// worker is ready; nothing in the first rollout and in a rollback.
    #[arg(long, value_name = "D", default_value = "auto", value_parser = canary)]
    pub(super) canary: Canary,

    /// Roll back if a new worker dies by itself or misses its heartbeat within D after all are
    /// ready
    ///
    /// A command that waits for the rollout waits for this, too. The first rollout and a rollback
    /// have no probation.
    #[arg(long, value_name = "D", default_value = "off", value_parser = duration_or_off)]
    pub(super) probation: Off<Duration>,

    /// Roll back after N failed starts in a rollout; in the first rollout: exit 1
    ///
    /// A new worker that dies by itself while the rollout runs counts as one, however long it was
    /// ready. The first one, while --canary tries it, counts as N.
    #[arg(long, value_name = "N", default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) start_failures: u32,

    /// The wait before the next start in a slot: doubles from MIN to MAX, with jitter
    ///
    /// Each worker that dies by itself doubles it, 10s of being ready make it MIN again, and so
    /// does a new generation. A worker that was ready for longer than the current wait is replaced
    /// at once. So is one that finished: that was ready, said STOPPING=1 and exited with 0.
    #[arg(long, value_name = "MIN..MAX", default_value = "100ms..30s", value_parser = durations)]
    pub(super) backoff: (Duration, Duration),

    /// Exit 1 after N consecutive failed starts with no worker ready
    #[arg(long, value_name = "N", default_value = "off", value_parser = count_or_off)]
    pub(super) give_up: Off<u32>,

    /// A worker that exits with one of these codes is not started again
    ///
    /// While the rollout runs that started the worker, this fails the rollout at once; after that,
    /// the slot stays down.
    #[arg(long, value_name = "CODE,...", value_delimiter = ',',
        value_parser = clap::value_parser!(i32).range(0..=255))]
    pub(super) fatal_exit: Vec<i32>,

    /// Pass this descriptor on to workers, at its own number; repeatable
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(3..=65_535))]
    pub(super) keep_fd: Vec<i32>,

    /// Stop gracefully when a byte arrives on this descriptor, or no process has its other end
    ///
    /// It is the reading end of a pipe, a FIFO, or a socket that the master inherits. The processes
    /// that own the service hold the other end: when the last of them has ended, however it ends,
    /// the service stops. Workers do not get it. 0 is standard input, as in: owner | pf-master
    /// --lifeline-fd 0.
    #[arg(long, value_name = "N", value_parser = lifeline)]
    pub(super) lifeline_fd: Option<i32>,

    /// Make the workers' NOTIFY_SOCKET a path in this directory
    ///
    /// Without it, the address is abstract: it needs no file. Some clients know no abstract
    /// addresses and take one for the name of a file (the crate sd-notify, puma's gem). The
    /// directory is made (mode 0700) if it is missing; the workers must be able to enter it. Each
    /// worker has a socket of its own there, which is removed when the worker is gone.
    #[arg(long, value_name = "DIR")]
    pub(super) notify_path: Option<PathBuf>,

    /// Working directory of the workers; resolved anew for each generation
    #[arg(long, value_name = "DIR")]
    pub(super) chdir: Option<PathBuf>,

    /// Set a variable of the workers' environment; repeatable
    #[arg(long, value_name = "K=V", value_parser = clap::value_parser!(OsString))]
    pub(super) env: Vec<OsString>,

    /// Workers inherit no variable of the master's own environment
    #[arg(long)]
    pub(super) clear_env: bool,

    /// The master's log; reopened on USR1 and HUP (default: stderr)
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,

    /// The format of the log's lines
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,

    /// Detach; exit 0 when the service is up, or print why it is not
    ///
    /// Stdin, stdout and stderr become /dev/null; with --log, stdout and stderr become that file.
    /// The working directory stays.
    #[arg(long)]
    pub(super) daemonize: bool,

    /// The command line that an upgrade executes, run by sh; it should end in an exec
    ///
    /// The default is the master's own command line, which sh has in "$0" and "$@". A program
    /// without a slash is looked up in PATH anew.
    #[arg(long, value_name = "CMDLINE",
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) reexec: Option<String>,

    /// Check options, program and addresses; start nothing
    #[arg(long)]
    pub(super) check: bool,

    /// Log more
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    pub(super) verbose: u8,

    /// Log only warnings and errors
    #[arg(short, long)]
    pub(super) quiet: bool,

    /// The worker command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// What TERM to the master means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Term {
    /// A graceful stop
    Graceful,
    /// A quick stop, Unicorn's way
    Quick,
}

/// The format of the log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The value of `--control`: an address, of which only Unix paths make sense.
#[derive(Debug, Clone)]
pub(super) struct ControlSpec(pub(super) ListenSpec);

impl FromStr for ControlSpec {
    type Err = String;

    /// A text without a scheme is a path, unless it looks like an address of another kind.
    fn from_str(text: &str) -> Result<Self, String> {
        let place = text.split(',').next().unwrap_or_default();
        let spec: ListenSpec = if place.starts_with(['/', '.']) || place.contains(':') {
            text.parse()?
        } else {
            format!("unix:{text}").parse()?
        };
        if spec.name.is_some() {
            return Err("a control socket has no name".to_owned());
        }
        Ok(ControlSpec(spec))
    }
}

fn lifeline(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(number @ (0 | 3..=65_535)) => Ok(number),
        _ => Err("it is 0, or a number from 3 to 65535".to_owned()),
    }
}

fn slots(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(slots) if slots <= MAX_SLOTS => Ok(slots),
        _ => Err(format!(
            "it must be a number of workers, at most {MAX_SLOTS}"
        )),
    }
}

/// A signal that can end a worker. STOP, CONT and CHLD cannot.
fn deadly(text: &str) -> Result<Signal, String> {
    let signal: Signal = text.parse()?;
    match signal {
        Signal::Stop | Signal::Cont | Signal::Chld => Err(format!("{signal} ends no worker")),
        _ => Ok(signal),
    }
}

fn readiness(text: &str) -> Result<Readiness, String> {
    let (how, value) = match text.split_once('=') {
        Some((how, value)) => (how, Some(value)),
        None => (text, None),
    };
    match (how, value) {
        ("auto", None) => Ok(Readiness::Auto),
        ("notify", None) => Ok(Readiness::Notify),
        ("heartbeat", None) => Ok(Readiness::Heartbeat),
        ("exec", None) => Ok(Readiness::Exec),
        ("delay", Some(delay)) => duration(delay).map(Readiness::Delay),
        ("fd", Some(number)) => match number.parse() {
            Ok(number @ 3..=65_535) => Ok(Readiness::Fd(number)),
            _ => Err("the ready fd is a number from 3 to 65535".to_owned()),
        },
        _ => Err("it must be one of auto, notify, heartbeat, delay=D, exec, fd=N".to_owned()),
    }
}

/// `--timeout`. Below a few milliseconds, a silent worker looks the same as a busy machine.
fn timeout(text: &str) -> Result<Off<Duration>, String> {
    match duration_or_off(text)? {
        Off::On(timeout) if timeout < Duration::from_millis(10) => {
            Err("a heartbeat timeout is at least 10ms, or off".to_owned())
        }
        timeout => Ok(timeout),
    }
}

fn canary(text: &str) -> Result<Canary, String> {
    match text {
        "auto" => Ok(Canary::Auto),
        "off" => Ok(Canary::Off),
        _ => duration(text)
            .map(Canary::After)
            .map_err(|why| format!("{why} (or auto, or off)")),
    }
}

fn surge(text: &str) -> Result<Surge, String> {
    let wrong = || "it must be a number of workers, or a share of the slots as 25%".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => percent
            .parse()
            .ok()
            .filter(|percent| *percent <= 100)
            .map(Surge::Percent)
            .ok_or_else(wrong),
        None => text
            .parse()
            .ok()
            .filter(|workers| *workers <= MAX_SLOTS)
            .map(Surge::Workers)
            .ok_or_else(wrong),
    }
}
