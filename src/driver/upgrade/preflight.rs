//! The successor image, checked by running it as a child: whatever is wrong with it costs nothing but a message.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::driver::process::translate;
use crate::error::reason;
use crate::model::event::Generation;
use crate::model::sig::Sig;
use crate::model::time::Time;
use crate::sys::group::Group;
use crate::sys::guard::Terms;
use crate::sys::spawn::{self, Launch, Leads, Outcome, Plumbing};
use crate::sys::successor::{Origin, Successor};
use crate::sys::{clock, fd, wait};
use crate::wire::handover::{CHECK_FD, STATE_FD};
use crate::wire::preflight::{self, Answer};

/// How long a successor may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The longest answer, in bytes.
const LONGEST_ANSWER: usize = 4096;

/// What the guard is to do should the master die meanwhile: nothing of a check is worth waiting for.
const TERMS: Terms = Terms {
    signal: Sig::Kill,
    timeout: Duration::ZERO,
};

/// Where the child has the two descriptors.
const ANSWER_AT: i32 = 3;
const STATE_AT: i32 = 4;

/// A check under way. Dropped, it ends the child with its group.
pub(in crate::driver) struct Preflight {
    pub(super) generation: Generation,
    pub(super) successor: Successor,
    group: Group,
    outcome: OwnedFd,
    about_to_execute: bool,
    answer: File,
    closed: bool,
    said: Vec<u8>,
    until: Time,
}

impl Preflight {
    /// Starts the child.
    pub(super) fn start(
        generation: Generation,
        successor: Successor,
        origin: &Origin,
        state: BorrowedFd<'_>,
        guard: Option<BorrowedFd<'_>>,
    ) -> Result<Self, String> {
        let started = || -> io::Result<_> {
            let launch = launch(&successor, origin)?;
            let announcement = TERMS.line();
            let (read, write) = fd::pipe()?;
            let null = fd::null()?;
            let plumbing = Plumbing {
                stdin: null.as_fd(),
                fds: &[(write.as_fd(), ANSWER_AT), (state, STATE_AT)],
                guard: guard.map(|guard| (guard, announcement.as_str())),
                env: &[],
            };
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            let spawned = spawn::spawn(&launch, &plumbing, own)?;
            Ok((spawned, read))
        };
        let (spawned, answer) = started().map_err(|error| {
            let program = successor.program.display();
            format!("cannot check the successor {program}: {}", reason(error))
        })?;
        Ok(Preflight {
            generation,
            successor,
            group: Group::of_child(spawned.pid).map_err(reason)?,
            outcome: spawned.outcome,
            about_to_execute: false,
            answer: answer.into(),
            closed: false,
            said: Vec::new(),
            until: clock::now() + ANSWER_WITHIN,
        })
    }

    /// Readable when it has something to say; None once it has closed that.
    pub(in crate::driver) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.closed).then(|| self.answer.as_fd())
    }

    /// When it is too late.
    pub(in crate::driver) fn deadline(&self) -> Time {
        self.until
    }

    /// Its pid.
    pub(in crate::driver) fn pid(&self) -> i32 {
        self.group.leader()
    }

    /// What it says, if that is known by now.
    pub(super) fn look(&mut self, now: Time) -> Option<Answer> {
        self.hear();
        if let Some(answer) = preflight::parse_answer(&self.said) {
            return Some(answer);
        }
        if self.said.contains(&b'\n') || self.said.len() > LONGEST_ANSWER {
            let said = String::from_utf8_lossy(&self.said[..self.said.len().min(80)]);
            let said = said.trim().escape_debug().to_string();
            return Some(Err(format!(
                "it is no pf-master that can take over: it answered '{said}'"
            )));
        }
        // The end of file comes a moment before the end itself, which tells why.
        let ended = self.closed.then(|| wait::peek(self.pid()).ok().flatten());
        if let Some(ended) = ended.flatten() {
            return Some(Err(self.obituary(ended)));
        }
        let late = || {
            let limit = ANSWER_WITHIN.as_secs();
            Err(format!("it did not answer within {limit} s"))
        };
        (now >= self.until).then(late)
    }

    fn hear(&mut self) {
        let mut chunk = [0; 512];
        while !self.closed && self.said.len() <= LONGEST_ANSWER {
            match self.answer.read(&mut chunk) {
                Ok(0) => self.closed = true,
                Ok(length) => self.said.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Why it has ended without an answer.
    fn obituary(&mut self, ended: wait::Ended) -> String {
        let outcome = spawn::outcome(self.outcome.as_fd(), &mut self.about_to_execute);
        if let Outcome::Failed { stage, errno } = outcome {
            let why = reason(io::Error::from_raw_os_error(errno));
            return format!("{stage}: {why}");
        }
        format!("it {} without an answer", translate(ended))
    }
}

impl Drop for Preflight {
    fn drop(&mut self) {
        let _ = self.group.signal_group(Sig::Kill);
        let _ = wait::reap_blocking(self.group.leader());
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
        death_signal: Some(Sig::Kill),
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
