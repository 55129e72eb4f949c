//! The successor image, checked by running it as a child: whatever is wrong with it costs nothing but a message.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::error::reason;
use crate::model::event::{Ended, Generation, Ticket};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::fd;
use crate::sys::io::poll::{Interest, NestedEpoll};
use crate::sys::machine::clock;
use crate::sys::process::group::Group;
use crate::sys::process::guard::StopTerms;
use crate::sys::process::spawn;
use crate::sys::process::spawn::{Launch, Leads, Outcome, Plumbing};
use crate::sys::process::successor::{Origin, Successor};
use crate::sys::process::wait;
use crate::wire::control::Plan;
use crate::wire::handover::{CHECK_FD, STATE_FD};
use crate::wire::preflight::{self, Answer};

/// How long a successor may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long whoever was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// How often that is looked at.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// The longest answer, in bytes.
const LONGEST_ANSWER: usize = 4096;

/// How much of what the child says on stdout and stderr is kept, and how much of it is read in a turn; the rest is read and forgotten.
const LONGEST_COMPLAINT: usize = 4096;
const A_GULP: usize = 64 * 1024;

/// How many lines of it are told.
const MOST_LINES: usize = 20;

/// And how many characters of each.
const LONGEST_LINE: usize = 200;

/// The names of its two pipes.
const ANSWER: u64 = 1;
const COMPLAINT: u64 = 2;

/// What the guard is to do should the master die meanwhile: nothing of a check is worth waiting for.
const TERMS: StopTerms = StopTerms {
    signal: Signal::Kill,
    timeout: Duration::ZERO,
};

/// Where the child has the two descriptors.
const ANSWER_AT: i32 = 3;
const STATE_AT: i32 = 4;

/// What a check is for.
pub(in crate::driver) enum Purpose {
    /// An upgrade to this generation.
    Upgrade(Generation),
    /// This plan's, for a client that only asks what would happen.
    Rehearsal(Ticket, Box<Plan>),
}

/// A check under way.
pub(in crate::driver) struct Preflight {
    pub(super) purpose: Purpose,
    pub(super) successor: Successor,
    child: Child,
    outcome: OwnedFd,
    about_to_execute: bool,
    nest: NestedEpoll,
    answer: Ear,
    complaint: Ear,
    until: Time,
}

/// The reading end of a pipe, of whose content so much is kept.
struct Ear {
    pipe: Option<File>,
    heard: Vec<u8>,
    most: usize,
}

impl Ear {
    fn new(pipe: OwnedFd, most: usize) -> Self {
        Ear {
            pipe: Some(pipe.into()),
            heard: Vec::new(),
            most,
        }
    }

    /// Reads what there is, within bounds. At its end the pipe is closed.
    fn listen(&mut self) {
        let mut chunk = [0; 4096];
        let mut gulped = 0;
        while let Some(pipe) = &mut self.pipe
            && gulped < A_GULP
        {
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    gulped += length;
                    let room = self.most.saturating_sub(self.heard.len());
                    let kept = chunk.get(..length.min(room)).unwrap_or_default();
                    self.heard.extend_from_slice(kept);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Preflight {
    /// Starts the child.
    pub(super) fn start(
        purpose: Purpose,
        successor: Successor,
        origin: &Origin,
        state: BorrowedFd<'_>,
        guard: Option<BorrowedFd<'_>>,
    ) -> Result<Self, String> {
        let started = || -> io::Result<_> {
            let launch = launch(&successor, origin)?;
            let announcement = TERMS.line();
            let (answer, write) = fd::pipe()?;
            let (complaint, mouth) = fd::pipe()?;
            let nest = NestedEpoll::new()?;
            nest.add(answer.as_fd(), ANSWER, Interest::READ)?;
            nest.add(complaint.as_fd(), COMPLAINT, Interest::READ)?;
            let null = fd::null()?;
            let plumbing = Plumbing {
                stdin: null.as_fd(),
                fds: &[
                    (mouth.as_fd(), 1),
                    (mouth.as_fd(), 2),
                    (write.as_fd(), ANSWER_AT),
                    (state, STATE_AT),
                ],
                guard: guard.map(|guard| (guard, announcement.as_str())),
                env: &[],
            };
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            let spawned = spawn::spawn(&launch, &plumbing, own)?;
            Ok((spawned, nest, answer, complaint))
        };
        let (spawned, nest, answer, complaint) = started().map_err(|error| {
            format!("cannot check the successor {successor}: {}", reason(error))
        })?;
        Ok(Preflight {
            purpose,
            successor,
            child: Child(Group::of_child(spawned.pid).map_err(reason)?),
            outcome: spawned.outcome,
            about_to_execute: false,
            nest,
            answer: Ear::new(answer, LONGEST_ANSWER + 1),
            complaint: Ear::new(complaint, LONGEST_COMPLAINT),
            until: clock::now() + ANSWER_WITHIN,
        })
    }

    /// Readable when it has something to say.
    pub(in crate::driver) fn fd(&self) -> BorrowedFd<'_> {
        self.nest.fd()
    }

    /// When it is too late.
    pub(in crate::driver) fn deadline(&self) -> Time {
        self.until
    }

    /// Its pid.
    pub(in crate::driver) fn pid(&self) -> i32 {
        self.child.0.leader()
    }

    /// What it says, if that is known by now.
    pub(super) fn look(&mut self, now: Time) -> Option<Answer> {
        self.answer.listen();
        self.complaint.listen();
        let heard = &self.answer.heard;
        if let Some(answer) = preflight::parse_answer(heard) {
            return Some(answer);
        }
        if heard.contains(&b'\n') || heard.len() > LONGEST_ANSWER {
            let said = String::from_utf8_lossy(&heard[..heard.len().min(80)]);
            let said = said.trim().escape_debug().to_string();
            return Some(Err(format!(
                "it is no pf-master that can take over: it answered '{said}'"
            )));
        }
        // The end of file comes a moment before the end itself, which tells why.
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

    /// What it said besides, a few lines at most.
    pub(super) fn complaint(&mut self) -> Vec<String> {
        self.complaint.listen();
        let text = String::from_utf8_lossy(&self.complaint.heard);
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
    fn exit_message(&mut self, ended: wait::Ended) -> String {
        let outcome = spawn::outcome(self.outcome.as_fd(), &mut self.about_to_execute);
        if let Outcome::Failed { stage, errno } = outcome {
            let why = reason(io::Error::from_raw_os_error(errno));
            return format!("{stage}: {why}");
        }
        let how = Ended::from(ended);
        match self.complaint().pop() {
            Some(last) => format!("it {how} without an answer, and said '{last}'"),
            None => format!("it {how} without an answer"),
        }
    }

    /// Ends the child, and leaves what the check was of.
    pub(super) fn end(self) -> Checked {
        let (purpose, successor) = (self.purpose, self.successor);
        drop(self.child);
        Checked { purpose, successor }
    }
}

/// What was checked, and what for.
pub(in crate::driver) struct Checked {
    pub(super) purpose: Purpose,
    pub(super) successor: Successor,
}

/// The child. Dropped, it ends with its group.
struct Child(Group);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.signal_group(Signal::Kill);
        // It reaches all of them at once, and each dies when its turn comes: a service that has ended leaves nobody.
        let until = clock::now() + GONE_WITHIN;
        while !self.0.is_empty() && clock::now() < until {
            clock::pause(LOOK_AGAIN);
        }
        // One that cannot be killed is reaped like any stranger, once it can.
        let _ = wait::reap(self.0.leader());
    }
}

fn launch(successor: &Successor, origin: &Origin) -> io::Result<Launch> {
    let own = [(CHECK_FD, ANSWER_AT), (STATE_FD, STATE_AT)];
    let given = origin
        .environment
        .iter()
        .map(|(name, value)| variable(name, value));
    let ours = own
        .iter()
        .map(|(name, number)| variable(OsStr::new(name), OsStr::new(&number.to_string())));
    Ok(Launch {
        program: text(successor.program.as_os_str())?,
        argv: successor
            .argv
            .iter()
            .map(|arg| text(arg))
            .collect::<io::Result<_>>()?,
        env: given.chain(ours).collect::<io::Result<_>>()?,
        own_pid_in: Vec::new(),
        cwd: Some(text(Path::new(&origin.dir).as_os_str())?),
        leads: Leads::Session,
        death_signal: Some(Signal::Kill),
        nofile: origin.nofile,
    })
}

fn variable(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    let mut variable = OsString::from(name);
    variable.push("=");
    variable.push(value);
    text(&variable)
}

fn text(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}
