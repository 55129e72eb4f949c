//! The check of a successor image: it runs as a child, so a fault of it costs a message
//! and nothing else.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::error::reason;
use crate::model::exit::ExitStatus;
use crate::model::ids::{Generation, Ticket};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::fd;
use crate::sys::io::poll::{Interest, NestedEpoll};
use crate::sys::machine::clock;
use crate::sys::process::group::Group;
use crate::sys::process::guard::StopTerms;
use crate::sys::process::spawn;
use crate::sys::process::spawn::{Launch, Leads, Plumbing, SpawnOutcome};
use crate::sys::process::successor::{Origin, Successor};
use crate::sys::process::wait;
use crate::wire::control::Plan;
use crate::wire::handover::preflight::{self, PreflightResult};
use crate::wire::handover::{CHECK_FD, STATE_FD};

/// How long a successor may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long the killed child may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// The pause between two looks whether it is gone.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// The longest answer, in bytes.
const LONGEST_ANSWER: usize = 4096;

/// How many bytes of the child's stdout and stderr are kept; the rest is read and dropped.
const LONGEST_OUTPUT: usize = 4096;

/// How many bytes of a pipe a turn reads: a child that floods does not block the loop.
const BYTES_A_TURN: usize = 64 * 1024;

/// How many lines of the output are logged, and how many characters of each.
const MOST_LINES: usize = 20;
const LONGEST_LINE: usize = 200;

/// The tokens of its two pipes.
const ANSWER: u64 = 1;
const OUTPUT: u64 = 2;

/// How the guard stops the child should the master die meanwhile: at once, since no check is worth
/// waiting for.
const TERMS: StopTerms = StopTerms {
    signal: Signal::Kill,
    timeout: Duration::ZERO,
};

/// The numbers of the two descriptors in the child.
const ANSWER_AT: i32 = 3;
const STATE_AT: i32 = 4;

/// What a check is for.
pub(in crate::driver) enum Purpose {
    /// An upgrade to this generation.
    Upgrade(Generation),
    /// A dry run: the client of this ticket gets this plan.
    DryRun(Ticket, Box<Plan>),
}

/// A check that runs.
pub(in crate::driver) struct Preflight {
    pub(in crate::driver) purpose: Purpose,
    successor: Successor,
    child: Child,
    spawn_outcome: OwnedFd,
    about_to_execute: bool,
    epoll: NestedEpoll,
    answer: PipeReader,
    output: PipeReader,
    until: Time,
}

/// The reading end of a pipe, with the beginning of its content.
struct PipeReader {
    /// None: it has ended.
    pipe: Option<File>,
    content: Vec<u8>,
    /// How many bytes are kept.
    limit: usize,
}

impl PipeReader {
    fn new(pipe: OwnedFd, limit: usize) -> Self {
        PipeReader {
            pipe: Some(pipe.into()),
            content: Vec::new(),
            limit,
        }
    }

    /// Reads what is there, at most [`BYTES_A_TURN`].
    fn read(&mut self) {
        let mut chunk = [0; 4096];
        let mut taken = 0;
        while let Some(pipe) = &mut self.pipe
            && taken < BYTES_A_TURN
        {
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    taken += length;
                    let room = self.limit.saturating_sub(self.content.len());
                    let kept = chunk.get(..length.min(room)).unwrap_or_default();
                    self.content.extend_from_slice(kept);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Preflight {
    /// Starts the child, in `dir`.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub(in crate::driver) fn start(
        purpose: Purpose,
        successor: Successor,
        origin: &Origin,
        dir: &Path,
        state: BorrowedFd<'_>,
        guard: Option<BorrowedFd<'_>>,
    ) -> Result<Self, String> {
        let started = || -> io::Result<_> {
            let launch = launch(&successor, origin, dir)?;
            let announcement = TERMS.line();
            let (answer, write) = fd::pipe()?;
            let (output, child_output) = fd::pipe()?;
            let epoll = NestedEpoll::new()?;
            epoll.add(answer.as_fd(), ANSWER, Interest::READ)?;
            epoll.add(output.as_fd(), OUTPUT, Interest::READ)?;
            let null = fd::null()?;
            let plumbing = Plumbing {
                stdin: null.as_fd(),
                fds: &[
                    (child_output.as_fd(), 1),
                    (child_output.as_fd(), 2),
                    (write.as_fd(), ANSWER_AT),
                    (state, STATE_AT),
                ],
                guard: guard.map(|guard| (guard, announcement.as_str())),
                env: &[],
            };
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            let spawned = spawn::spawn(&launch, &plumbing, own)?;
            Ok((spawned, epoll, answer, output))
        };
        let (spawned, epoll, answer, output) = started().map_err(|error| {
            format!("cannot check the successor {successor}: {}", reason(error))
        })?;
        Ok(Preflight {
            purpose,
            successor,
            child: Child(Group::of_child(spawned.pid).map_err(reason)?),
            spawn_outcome: spawned.outcome,
            about_to_execute: false,
            epoll,
            answer: PipeReader::new(answer, LONGEST_ANSWER + 1),
            output: PipeReader::new(output, LONGEST_OUTPUT),
            until: clock::now() + ANSWER_WITHIN,
        })
    }

    /// Readable when the child has written something, or has closed a pipe.
    pub(in crate::driver) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.fd()
    }

    /// When the answer is too late.
    pub(in crate::driver) fn deadline(&self) -> Time {
        self.until
    }

    pub(in crate::driver) fn pid(&self) -> i32 {
        self.child.0.leader()
    }

    /// The answer; None: not known yet.
    pub(in crate::driver) fn read_answer(&mut self, now: Time) -> Option<PreflightResult> {
        self.answer.read();
        self.output.read();
        let content = &self.answer.content;
        if let Some(answer) = preflight::parse_result(content) {
            return Some(answer);
        }
        if content.contains(&b'\n') || content.len() > LONGEST_ANSWER {
            let said = String::from_utf8_lossy(&content[..content.len().min(80)]);
            let said = said.trim().escape_debug().to_string();
            return Some(Err(format!(
                "it is no pf-master that can take over: it answered '{said}'"
            )));
        }
        // The end of file comes a moment before the exit status, which tells why.
        let closed = self.answer.pipe.is_none();
        let ended = closed.then(|| wait::peek(self.pid()).ok().flatten());
        if let Some(ended) = ended.flatten() {
            return Some(Err(self.exit_message(ended)));
        }
        let late = || {
            let limit = ANSWER_WITHIN.as_secs();
            Err(format!("it did not answer within {limit} s"))
        };
        (now >= self.until).then(late)
    }

    /// What the child wrote to stdout and stderr, a few lines at most.
    pub(in crate::driver) fn output_lines(&mut self) -> Vec<String> {
        self.output.read();
        let text = String::from_utf8_lossy(&self.output.content);
        let lines = text.lines().map(str::trim_end);
        lines
            .filter(|line| !line.is_empty())
            .take(MOST_LINES)
            .map(|line| {
                let line: String = line.chars().take(LONGEST_LINE).collect();
                line.replace(char::is_control, "?")
            })
            .collect()
    }

    /// Why it has ended without an answer.
    fn exit_message(&mut self, ended: wait::WaitStatus) -> String {
        let outcome = spawn::read_outcome(self.spawn_outcome.as_fd(), &mut self.about_to_execute);
        if let SpawnOutcome::Failed { step, errno } = outcome {
            let why = reason(io::Error::from_raw_os_error(errno));
            return format!("{step}: {why}");
        }
        let how = ExitStatus::from(ended);
        match self.output_lines().pop() {
            Some(last) => format!("it {how} without an answer, and said '{last}'"),
            None => format!("it {how} without an answer"),
        }
    }

    /// Ends the child; what was checked, and what for.
    pub(in crate::driver) fn end(self) -> Checked {
        let (purpose, successor) = (self.purpose, self.successor);
        drop(self.child);
        Checked { purpose, successor }
    }
}

/// What was checked, and what for.
pub(in crate::driver) struct Checked {
    pub(in crate::driver) purpose: Purpose,
    pub(in crate::driver) successor: Successor,
}

/// The child, which leads a group. Both are killed when this value is dropped.
struct Child(Group);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.signal_group(Signal::Kill);
        // The signal reaches all of them at once, but each dies only when it is scheduled: a
        // service that has ended must leave no process.
        let until = clock::now() + GONE_WITHIN;
        while !self.0.is_empty() && clock::now() < until {
            clock::pause(LOOK_AGAIN);
        }
        // A child that cannot be killed is reaped as an orphan, once it has ended.
        let _ = wait::reap(self.0.leader());
    }
}

fn launch(successor: &Successor, origin: &Origin, dir: &Path) -> io::Result<Launch> {
    let mut env = origin.environment.clone();
    for (name, number) in [(CHECK_FD, ANSWER_AT), (STATE_FD, STATE_AT)] {
        env.push(name, number.to_string())?;
    }
    Ok(Launch {
        program: text(successor.program.as_os_str())?,
        argv: successor
            .argv
            .iter()
            .map(|arg| text(arg))
            .collect::<io::Result<_>>()?,
        env,
        own_pid_in: Vec::new(),
        cwd: Some(text(dir.as_os_str())?),
        leads: Leads::Session,
        death_signal: Some(Signal::Kill),
        nofile: origin.nofile,
    })
}

fn text(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}
