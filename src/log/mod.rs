//! The log of the long-running programs.
//!
//! Writing a line never blocks: a line that cannot be written at once is lost and counted, and the
//! next line that is written reports the count.
//!
//! In reading order: [`Sink`] and [`Format`], where the log goes and how a line looks; [`Level`]
//! and [`About`], how much a line matters and which worker it is about; [`Log`]. A call of
//! [`Log::write`] drops a line below the threshold, cleans the message (`clean`), renders the line
//! and writes it once (`Out`).

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::path::PathBuf;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::sys::io::log_sink::LogWriter;
use crate::sys::machine::clock::{rfc3339, wall};
use crate::sys::process::daemon::output_to;

/// The longest message, in bytes. The whole line then stays below PIPE_BUF (4096), so that a pipe
/// takes it in one piece (pipe(7)).
const MAX_MESSAGE: usize = 3072;

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Standard error.
    Stderr,
    /// This file; lines are appended.
    File(PathBuf),
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `pf-master: message`; in a file with time and pid.
    Text,
    /// One JSON object for each line.
    Json,
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is wrong, but the service goes on.
    Warn,
    /// An event of the service.
    Info,
    /// A detail of the program.
    Debug,
}

/// The worker that a line is about: fields of its JSON form.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct About {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// The log of one program.
#[derive(Debug)]
pub struct Log {
    program: &'static str,
    sink: Sink,
    format: Format,
    threshold: Level,
    out: RefCell<LogWriter>,
    /// Lines lost since the log was first opened.
    lost: Cell<u64>,
    /// Lines lost since the last line that was written.
    unreported: Cell<u64>,
    /// The last line was written only in part: the next one begins with a newline.
    cut: Cell<bool>,
    /// Stdout and stderr go to the file of the log, too.
    with_output: Cell<bool>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: Level,
    program: &'a str,
    pid: u32,
    message: &'a str,
    #[serde(flatten)]
    about: About,
}

impl Log {
    /// Opens the log. `verbosity` is the number of `-v` minus the number of `-q`: 1 shows all
    /// lines, 0 `info` and above, -1 `warn` and above, -2 only `error`.
    ///
    /// # Errors
    /// Exit 111: the file cannot be opened.
    pub fn new(program: &'static str, sink: Sink, format: Format, verbosity: i8) -> Result<Log> {
        let threshold = match verbosity {
            1.. => Level::Debug,
            0 => Level::Info,
            -1 => Level::Warn,
            _ => Level::Error,
        };
        Ok(Log {
            program,
            out: RefCell::new(open(&sink)?),
            sink,
            format,
            threshold,
            lost: Cell::new(0),
            unreported: Cell::new(0),
            cut: Cell::new(false),
            with_output: Cell::new(false),
        })
    }

    /// Redirects stdout and stderr, which the workers inherit, to the file of the log, now and
    /// whenever the file is reopened (`--daemonize`).
    ///
    /// # Errors
    /// Exit 111: the file cannot be opened.
    pub fn take_output(&self) -> Result<()> {
        if let Sink::File(path) = &self.sink {
            output_to(path).map_err(|error| {
                Error::system(format!("cannot open log file {}", path.display()), error)
            })?;
            self.with_output.set(true);
        }
        Ok(())
    }

    /// Opens the file of the log anew, after a rotation (U15, U30). A log on stderr stays.
    ///
    /// # Errors
    /// Exit 111: the file cannot be opened. The log continues in the old file.
    pub fn reopen(&self) -> Result<()> {
        if matches!(self.sink, Sink::File(_)) {
            let out = open(&self.sink)?;
            self.out.replace(out);
            self.cut.set(false);
            if self.with_output.get() {
                self.take_output()?;
            }
        }
        Ok(())
    }

    /// How many lines were lost since the log was first opened.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Writes a line of [`Level::Error`].
    pub fn error(&self, message: impl Display) {
        self.write(Level::Error, About::default(), message);
    }

    /// Writes a line of [`Level::Warn`].
    pub fn warn(&self, message: impl Display) {
        self.write(Level::Warn, About::default(), message);
    }

    /// Writes a line of [`Level::Info`].
    pub fn info(&self, message: impl Display) {
        self.write(Level::Info, About::default(), message);
    }

    /// Writes a line of [`Level::Debug`].
    pub fn debug(&self, message: impl Display) {
        self.write(Level::Debug, About::default(), message);
    }

    /// Writes a line about a worker, if its level is shown.
    pub fn write(&self, level: Level, about: About, message: impl Display) {
        if level > self.threshold {
            return;
        }
        let mut message = clean(&message.to_string());
        match self.unreported.get() {
            0 => {}
            1 => message.push_str(" (1 line lost before this)"),
            lost => message.push_str(&format!(" ({lost} lines lost before this)")),
        }
        let mut line = self.line(level, about, &message);
        if self.cut.get() {
            line.insert(0, '\n');
        }
        let written = self.out.borrow().write(line.as_bytes());
        if written == line.len() {
            self.unreported.set(0);
            self.cut.set(false);
        } else {
            self.lost.set(self.lost.get().saturating_add(1));
            self.unreported.set(self.unreported.get().saturating_add(1));
            // If nothing was written, a line that was cut before is still not ended.
            self.cut.set(self.cut.get() || written > 0);
        }
    }

    fn line(&self, level: Level, about: About, message: &str) -> String {
        let (program, pid) = (self.program, std::process::id());
        let mut line = match (self.format, &self.sink) {
            (Format::Text, Sink::Stderr) => format!("{program}: {message}"),
            (Format::Text, Sink::File(_)) => {
                format!("{} {program}[{pid}]: {message}", rfc3339(wall()))
            }
            (Format::Json, _) => serde_json::to_string(&Line {
                time: rfc3339(wall()),
                level,
                program,
                pid,
                message,
                about,
            })
            // Strings and numbers always have a JSON form.
            .unwrap_or_default(),
        };
        line.push('\n');
        line
    }
}

/// The message as one line, harmless on a terminal, at most `MAX_MESSAGE` long.
fn clean(message: &str) -> String {
    let mut clean = String::with_capacity(message.len().min(MAX_MESSAGE));
    for letter in message.chars() {
        if clean.len() + letter.len_utf8() > MAX_MESSAGE {
            clean.push_str("...");
            break;
        }
        clean.push(if letter.is_control() { ' ' } else { letter });
    }
    clean
}

fn open(sink: &Sink) -> Result<LogWriter> {
    match sink {
        Sink::Stderr => LogWriter::stderr()
            .map_err(|error| Error::system("cannot use stderr for the log", error)),
        Sink::File(path) => LogWriter::append(path).map_err(|error| {
            Error::system(format!("cannot open log file {}", path.display()), error)
        }),
    }
}

#[cfg(test)]
mod tests;
